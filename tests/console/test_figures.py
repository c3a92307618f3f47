"""Every figure is the sum of the postings it unfolds into, whatever else was posted about the same thing."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.console.page import Figure, Figures, Table
from backoffice.core.actor import Actor
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments import operations as payments
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenPayment, SeenTransfer
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import Payout
from backoffice.workflows import release_payouts
from tests import factories
from tests.console.test_payouts import minor, owe, page, past, seated
from tests.console.world import SYSTEM, damage, host_account, movement, now, paid, refund

pytestmark = pytest.mark.django_db
_number = itertools.count(1)


def moved(category: str, source: str, reference: str, amount: int, booking: Booking) -> None:
    """A movement of our balance at the provider, imported."""
    at, gross, none = now(), Money(amount, "EUR"), Money.zero("EUR")
    row = SeenBalanceTransaction(
        id=f"txn_f{next(_number)}",
        type=category,
        reporting_category="transfer_reversal" if category == "transfer_failure" else category,
        source_id=source,
        source_reference=reference,
        amount=gross,
        fee=none,
        net=gross,
        created=at,
        available_on=at,
        booking=booking.code,
        host=booking.host.code,
        account="acct_1",
    )
    payments.import_transactions(rows=[row], actor=SYSTEM, now=at)


def finance() -> Actor:
    return factories.acting(factories.staff("finance", now=now()), now=now())


def figures(row: Any) -> dict[str, Figure]:
    """The figures of a page by their names, once each that unfolds was found to be the sum of its postings."""
    panels = page(seated("finance"), row).panels
    found = [figure for panel in panels if isinstance(panel, Figures) for figure in panel.figures]
    for figure in found:
        if figure.postings:
            assert figure.together == figure.amount, figure.label
    return {str(figure.label): figure for figure in found}


def sources(row: Any) -> set[str]:
    """The objects whose movements a page shows."""
    panels = page(seated("finance"), row).panels
    (table,) = (panel for panel in panels if isinstance(panel, Table) and panel.title == "Balance transactions")
    return {str(each.cells[2]) for each in table.rows}


def test_a_refund_is_still_what_was_asked_for_once_the_provider_has_moved_it() -> None:
    booking = paid()
    row = refund(booking, 5_000, factories.staff("finance", now=now()))
    before = figures(row)
    Refund.objects.filter(pk=row.pk).update(status="succeeded", provider_id="re_moved")
    moved("refund", "re_moved", row.code, -5_000, booking)
    row.refresh_from_db()
    after = figures(row)
    assert minor(after["Guest receives"].amount) == 5_000 and after["Guest receives"].postings
    assert {name: each.amount for name, each in before.items()} == {name: each.amount for name, each in after.items()}
    assert len(after["Guest receives"].postings) == 1


def test_a_refund_that_was_refused_gives_the_guest_nothing() -> None:
    booking, staff = paid(), factories.staff("finance", now=now())
    kept, gone = refund(booking, 2_000, staff), refund(booking, 3_000, staff)
    assert minor(figures(booking.payment)["Given back to the guest"].amount) == 5_000
    payments.claim_refund(refund_code=gone.code, now=now())
    payments.fail_refund(refund_code=gone.code, failure="closed", at_provider=False, actor=SYSTEM, now=now())
    moved("refund", "re_kept", kept.code, -2_000, booking)
    assert minor(figures(booking.payment)["Given back to the guest"].amount) == 2_000


@pytest.fixture
def released() -> Payout:
    """A payout of which 10.00 were kept for a debt, claimed for its transfer."""
    booking = past(paid())
    movement(booking)
    host_account(booking)
    (row,) = payouts.schedule(booking=booking, now=now())
    owes(row, 1_000)
    payouts.release(payout_code=row.code, actor=release_payouts.ACTOR, now=now())
    return queries.payout(code=row.code)


def owes(row: Payout, amount: int) -> None:
    """The host owes for another booking."""
    other = Booking(code=f"BK-OTHER{next(_number)}")
    owe(Payout(booking=other, host=row.host, transfer_currency="EUR"), amount)


def test_a_transfer_that_was_refused_is_not_sent_and_one_that_came_back_keeps_its_movements(released: Payout) -> None:
    row, booking = released, released.booking
    share = row.transfer_amount
    assert minor(figures(booking.payment)["Sent to the host"].amount) == share
    payouts.fail_transfer(payout_code=row.code, failure="closed", tries=row.tries, actor=SYSTEM, now=now())
    shown = figures(booking.payment)
    assert minor(shown["Sent to the host"].amount) == 0
    assert minor(shown["Released to the host"].amount) == share + 1_000
    moved("transfer", "tr_back", row.code, -share, booking)
    moved("transfer_failure", "tr_back", row.code, share, booking)
    for thing in (queries.payout(code=row.code), booking.payment):
        assert any("tr_back" in source for source in sources(thing)), thing


def test_what_was_kept_for_a_debt_and_what_was_taken_back_are_their_own_postings(released: Payout) -> None:
    row, at = released, now()
    assert minor(figures(row)["Kept for what the host owes"].amount) == -1_000
    sent = Money(row.transfer_amount, "EUR")
    made = SeenTransfer(id="tr_1", amount=sent, reversed_amount=Money.zero("EUR"), account="acct_1", reference=row.code)
    payouts.record_transfer(payout_code=row.code, seen=made, actor=SYSTEM, now=at)
    moved("transfer", "tr_1", row.code, -row.transfer_amount, row.booking)
    row = queries.payout(code=row.code)
    owes(row, 2_500)
    claw = payouts.request_clawback(
        payout_code=row.code,
        amount=Money(1_500, "EUR"),
        reason="Owed",
        version=row.version,
        actor=finance(),
        now=now(),
    )
    payouts.claim_clawback(clawback_code=claw.code, now=now())
    amount = Money(1_500, "EUR")
    payouts.record_clawback(clawback_code=claw.code, provider_id="trr_1", amount=amount, actor=SYSTEM, now=now())
    moved("transfer_reversal", "trr_1", claw.code, 1_500, row.booking)
    claw.refresh_from_db()
    shown = figures(queries.payout(code=row.code))
    assert minor(shown["Kept for what the host owes"].amount) == -1_000
    for figure in (shown["Taken back"], figures(claw)["Asked back by this"]):
        assert minor(figure.amount) == -1_500 and len(figure.postings or ()) == 1
    assert ledger.balance(account="1170", key=claw.code, currency="EUR") == 0


def test_an_instalment_and_the_payment_each_unfold_into_their_own_capture() -> None:
    booking = paid(nights=56, check_in=now().date() + timedelta(days=3))
    row = ExtraCharge.objects.filter(booking=booking, kind="instalment").order_by("number")[0]
    Payment.objects.filter(booking=booking).update(saved_method="pm_kept", customer_id="cus_kept")
    ExtraCharge.objects.filter(pk=row.pk).update(next_try_at=now())
    assert payments.claim_charge(charge_code=row.code, actor=SYSTEM, now=now())
    seen = SeenPayment(
        id="pi_later",
        status="captured",
        amount=Money(row.amount, row.currency),
        reference=row.code,
        charge_id="ch_later",
    )
    payments.record_charge(charge_code=row.code, seen=seen, actor=SYSTEM, now=now())
    moved("charge", "ch_later", row.code, row.amount, booking)
    row.refresh_from_db()
    for thing in (row, booking.payment):
        shown = figures(thing)
        for label in ("Charged", "Host’s share", "Host fee", "Guest fee"):
            assert len(shown[label].postings or ()) == 1, label
    assert any("ch_later" in source for source in sources(row))


def test_damage_adds_up_from_the_yes_to_the_host() -> None:
    booking, maker = paid(), factories.staff("support_l2", now=now())
    row = damage(booking, maker)
    assert [*figures(row)] == ["Asked for"]
    payments.approve_damage(charge_code=row.code, version=row.version, actor=finance(), now=now())
    row.refresh_from_db()
    assert minor(figures(row)["Still owed by the guest"].amount) == row.amount
    ExtraCharge.objects.filter(pk=row.pk).update(status="failed", pay_by=now())
    facts = {"charge_code": row.code, "version": row.version, "reason": "The guest does not pay"}
    payments.cover_damage(**facts, actor=finance(), now=now())
    row.refresh_from_db()
    shown = figures(row)
    assert {label: minor(each.amount) for label, each in shown.items()} == {
        "Asked for": row.amount,
        "Owed by the guest": row.amount,
        "Borne by us": row.amount,
        "Payable to the host": row.amount,
        "Still owed by the guest": 0,
    }
    assert all(each.postings for label, each in shown.items() if label != "Asked for")
