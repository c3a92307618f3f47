"""Chargebacks from the first news to the last, through the sandbox: what the network does, what that posts, who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
import stripe
from django.db import transaction

from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor, system
from backoffice.core.errors import (
    Conflict,
    Indeterminate,
    Invalid,
    NotAllowed,
    ProviderError,
    Refused,
    StaleVersion,
    UpstreamUnavailable,
)
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger_operations
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments import policies
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import StripeGateway
from backoffice.payments.models import (
    BalanceTransaction,
    Chargeback,
    EvidenceFile,
    ExtraCharge,
    FraudWarning,
    Payment,
    Refund,
    WebhookEvent,
)
from backoffice.payouts.models import Payout
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import (
    collect_charges,
    import_balance_transactions,
    refund_booking,
    release_payouts,
    work_chargebacks,
)
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.contract import JudgedClient
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import onboarded
from tests.workflows.steps import ROOMS, asked_back, now, paid
from tests.workflows.test_release_payouts import stay, until_due

pytestmark = pytest.mark.django_db(transaction=True, available_apps=[*ROOMS, "backoffice.payouts"])
ACTOR = system("tests")
UnjudgedClient = JudgedClient.__mro__[1]
FEE, COUNTERED = 2_000, 2_000  # the sandbox's, in minor units of the settlement currency
PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Page >>\nendobj\n"


def dispute(sandbox: RunningSandbox, booking: Booking, **facts: Any) -> str:
    """The guest goes to their bank; the provider's id of what comes of it."""
    charge = Payment.objects.get(booking=booking).charge_id
    return str(sandbox.control("POST", "/_sim/disputes", {"charge": charge, **facts})["id"])


def decide(sandbox: RunningSandbox, dispute_id: str, **what: Any) -> None:
    sandbox.control("POST", f"/_sim/disputes/{dispute_id}", what)


def hear(sandbox: RunningSandbox) -> None:
    """What webhooks and beat do within a minute or two."""
    sandbox.advance(60)
    events.poll(now=now())
    events.apply_due(now=now())
    import_balance_transactions.run(now=now())


def told(sandbox: RunningSandbox, booking: Booking, **facts: Any) -> Chargeback:
    """A dispute that we have heard of, its money imported."""
    found = dispute(sandbox, booking, **facts)
    hear(sandbox)
    return Chargeback.objects.get(provider_id=found)


def finance() -> Actor:
    person = User.objects.filter(roles__role="finance").first() or factories.staff("finance", now=now())
    return factories.acting(person, now=now())


def again(row: Chargeback) -> Chargeback:
    return payment_queries.chargeback(code=row.code)


def stage(row: Chargeback, **evidence: str) -> Chargeback:
    return work_chargebacks.stage(code=row.code, evidence=evidence, version=None, actor=finance(), now=now())


def submit(row: Chargeback, by: Actor | None = None) -> Chargeback:
    return work_chargebacks.submit(code=row.code, version=again(row).version, actor=by or finance(), now=now())


def answered(sandbox: RunningSandbox, row: Chargeback, words: str) -> Chargeback:
    """Evidence submitted; the issuer decides by its magic words."""
    submit(stage(row, uncategorized_text=words))
    sandbox.advance(3600)
    hear(sandbox)
    return again(row)


def stands(account: str, key: str = "", currency: str = "EUR") -> int:
    return ledger.balance(account=account, key=key, currency=currency)


def lines_of(kind: str) -> list[str]:
    """The lines of the last journal of a kind."""
    journal = Journal.objects.filter(kind=kind).order_by("id").last()
    assert journal is not None
    return sorted(f"{line.account.code} {line.amount}" for line in ledger.lines_of(journal.pk))


def clean(*, but: tuple[str, ...] = ()) -> None:
    """The books hold, and the provider's and ours agree."""
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []
    outcome = reconcile(scope="stripe", since=None, until=None, actor=ACTOR, now=now())
    assert [found.cls for found in outcome.findings] == list(but)


def release(booking: Booking, share: tuple[int, int] = (1, 1)) -> None:
    """What the payouts room will post when a part of the stay is released."""
    payment = Payment.objects.get(booking=booking)
    parts = payment_queries.parts_of(payment=payment)
    part, whole = share
    step = policies.instalments(parts=parts, weights=[part, whole - part])[0]
    with transaction.atomic():
        ledger_operations.post(
            key=f"release:{booking.code}",
            kind="release",
            lines=policies.released(parts=step, keys=payment_queries.posting_keys(booking=booking)),
            subject=booking.code,
            effective_at=now(),
            actor=ACTOR,
            now=now(),
        )


# The news ------------------------------------------------------------------------------------------------------------


def test_a_chargeback_is_taken_over_with_its_deadlines_and_its_money(sandbox: RunningSandbox) -> None:
    finance()
    booking = paid()
    row = told(sandbox, booking, reason="product_not_received")
    total = booking.charge_total
    assert (row.kind, row.status, row.amount, row.currency) == ("chargeback", "needs_response", total, "EUR")
    assert (row.reason, row.network_reason, row.network) == ("product_not_received", "13.1", "visa")
    assert row.payment is not None and row.payment.booking_id == booking.pk
    assert row.due_by is not None and row.internal_due_at is not None
    assert abs((row.internal_due_at - row.opened_at) - (row.due_by - row.opened_at) * 0.6) < timedelta(seconds=1)
    assert (row.withdrawn, row.reinstated, row.fee, row.settlement_currency) == (total, 0, FEE, "EUR")
    assert (stands("1320", row.provider_id), stands("5110", row.provider_id)) == (total, FEE)
    mail = OutboxMessage.objects.get(topic="chargeback_opened")
    assert row.code in mail.subject and booking.code in mail.body and "UTC" in mail.body
    assert AuditEntry.objects.filter(verb="chargebacks.open", object_id=row.code).count() == 1
    clean()


def test_an_inquiry_moves_no_money_and_is_closed(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = told(sandbox, booking, kind="inquiry")
    assert (row.kind, row.status, row.withdrawn, row.fee) == ("inquiry", "warning_needs_response", 0, 0)
    row = answered(sandbox, row, "The guest stayed; see the log.")
    assert row.status == "warning_under_review" and payment_queries.open_chargebacks(payment_id=booking.payment.pk)
    decide(sandbox, row.provider_id, status="warning_closed")
    hear(sandbox)
    row = again(row)
    assert row.status == "warning_closed" and row.closed_at is not None
    assert payment_queries.open_chargebacks(payment_id=booking.payment.pk) == []
    assert Journal.objects.filter(reference=row.provider_id).count() == 0
    clean()


def test_an_inquiry_that_becomes_a_chargeback_stays_one_row_and_can_be_answered_again(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid(), kind="inquiry")
    first_due = row.due_by
    sandbox.advance(3 * 86_400)
    row = answered(sandbox, row, "escalate_inquiry_evidence")
    assert (row.kind, row.status) == ("chargeback", "needs_response") and Chargeback.objects.count() == 1
    assert row.withdrawn == row.amount == stands("1320", row.provider_id)
    assert row.due_by is not None and row.internal_due_at is not None and first_due is not None
    assert row.due_by > first_due and now() < row.internal_due_at < row.due_by
    assert row.submitted_at is None and row.submitted_by is None
    assert answered(sandbox, row, "winning_evidence").status == "won"
    clean()


def test_a_status_that_nobody_knows_is_kept_and_taken_for_open(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The provider's schema as we have it does not know it either: here it is not held against that.
    monkeypatch.setattr(stripe, "RequestsClient", UnjudgedClient)
    work_chargebacks.gateway.cache_clear()
    booking = paid()
    row = told(sandbox, booking)
    decide(sandbox, row.provider_id, status="pre_arbitration_maybe")
    hear(sandbox)
    row = again(row)
    assert row.status == "pre_arbitration_maybe" and row.closed_at is None
    assert payment_queries.is_disputed(payment=booking.payment)
    assert [each.code for each in payment_queries.open_chargebacks(payment_id=booking.payment.pk)] == [row.code]
    with pytest.raises(Conflict, match="pre arbitration maybe"):
        submit(row)
    sandbox.control("POST", "/_sim/reset")  # nor would the judge of all events


def test_a_dispute_of_a_charge_that_is_not_ours_is_kept_and_its_loss_is_ours(sandbox: RunningSandbox) -> None:
    client = sandbox.client()
    intent = client.v1.payment_intents.create(
        {
            "amount": 4_200,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    sandbox.control("POST", "/_sim/disputes", {"charge": intent.latest_charge})
    hear(sandbox)
    row = Chargeback.objects.get()
    assert row.payment is None and row.withdrawn == 4_200
    decide(sandbox, row.provider_id, status="lost")
    hear(sandbox)
    assert (stands("1320", row.provider_id), stands("5200", row.provider_id)) == (0, 4_200)
    with pytest.raises(Conflict, match="none of our bookings"):
        payments.bear_loss(
            code=row.code, bearer="host", reason="x", version=again(row).version, actor=finance(), now=now()
        )


def test_an_event_that_was_missed_is_found_by_the_sweep(sandbox: RunningSandbox) -> None:
    found = dispute(sandbox, paid())
    assert work_chargebacks.run(now=now()) >= 1
    row = Chargeback.objects.get(provider_id=found)
    decide(sandbox, found, status="lost")
    sandbox.advance(2 * 3600)
    import_balance_transactions.run(now=now())
    work_chargebacks.run(now=now())
    assert again(row).status == "lost" and stands("1320", found) == 0
    done = work_chargebacks.run(now=now())
    assert done == 0


def test_a_movement_that_an_outage_made_late_is_noticed_too(sandbox: RunningSandbox) -> None:
    found = dispute(sandbox, paid())
    sandbox.advance(5 * 86_400)
    import_balance_transactions.run(now=now())
    work_chargebacks.run(now=now())
    Chargeback.objects.update(withdrawn=0)  # as if row and movement had been made at the same moment
    assert payment_queries.chargebacks_moved_unnoticed(now=now()) == [found]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=lambda order: "".join(map(str, order)))
def test_events_in_any_order_and_twice_leave_the_same(sandbox: RunningSandbox, order: tuple[int, ...]) -> None:
    booking = paid()
    found = dispute(sandbox, booking)
    decide(sandbox, found, status="lost")
    sandbox.advance(60)
    events.poll(now=now())
    import_balance_transactions.run(now=now())  # the money may be here before its news
    waiting = list(WebhookEvent.objects.filter(object_id=found).order_by("id"))
    assert len(waiting) == 3
    for number in (*order, *order):
        at = now()
        WebhookEvent.objects.filter(pk=waiting[number].pk).update(status="received", next_attempt_at=at)
        assert events.apply(webhook_id=waiting[number].pk, now=at) == "apply"
    row = Chargeback.objects.get()
    assert (row.status, row.withdrawn) == ("lost", booking.charge_total)
    assert Journal.objects.filter(kind="dispute-lost").count() == 1
    assert stands("1320", found) == stands("2100", booking.code) == 0


def test_an_older_answer_does_not_undo_a_newer_one(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = told(sandbox, booking)
    stale = work_chargebacks.gateway().dispute(dispute_id=row.provider_id)
    before = now()
    decide(sandbox, row.provider_id, status="lost")
    hear(sandbox)
    payments.record_dispute(seen=stale, actor=ACTOR, now=before)
    assert again(row).status == "lost"


def test_news_and_money_at_one_moment_post_one_loss(sandbox: RunningSandbox) -> None:
    booking = paid()
    found = dispute(sandbox, booking)
    decide(sandbox, found, status="lost")
    sandbox.advance(60)
    events.poll(now=now())

    def hear_of(number: int) -> Callable[[], Any]:
        webhook = WebhookEvent.objects.filter(object_id=found).order_by("id")[number]
        return lambda: events.apply(webhook_id=webhook.pk, now=now())

    outcomes = race(
        [hear_of(0), hear_of(1), hear_of(2), lambda: import_balance_transactions.run(now=now()),
         lambda: import_balance_transactions.run(now=now())]
    )  # fmt: skip
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    work_chargebacks.run(now=now())
    assert Chargeback.objects.count() == Journal.objects.filter(kind="dispute-lost").count() == 1
    assert stands("1320", found) == 0
    clean()


# Won and lost --------------------------------------------------------------------------------------------------------


def test_won_brings_the_money_and_the_fee_for_answering_back(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = told(sandbox, booking)
    submit(stage(row, uncategorized_text="The guest stayed."))
    hear(sandbox)
    assert (again(row).status, again(row).fee) == ("under_review", FEE + COUNTERED)
    assert stands("5110", row.provider_id) == FEE + COUNTERED
    decide(sandbox, row.provider_id, status="won")
    hear(sandbox)
    row = again(row)
    assert (row.status, row.withdrawn, row.reinstated, row.fee) == ("won", row.amount, row.amount, FEE)
    assert stands("1320", row.provider_id) == 0 and stands("5110", row.provider_id) == FEE
    assert stands("2100", booking.code) == -(booking.host_price - booking.host_fee)
    assert OutboxMessage.objects.filter(topic="chargeback_closed").count() == 1
    assert payment_queries.refund_limits(payment=Payment.objects.get()).charged == Money(row.amount, "EUR")
    clean()


def test_lost_before_the_release_the_held_money_has_gone_back(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert row.status == "lost" and row.loss_posted_at is not None
    shares = payment_queries.shares_of_loss(chargeback=again(row))
    assert shares is not None and not shares.released.total and shares.held_worth.amount == row.amount
    for account, key in (
        ("2100", booking.code),
        ("2110", booking.code),
        ("2111", booking.code),
        ("1320", row.provider_id),
        ("5200", row.provider_id),
    ):
        assert stands(account, key) == 0, account
    keys = payment_queries.posting_keys(booking=booking)
    assert stands("2310", keys.vat) == stands("2300", keys.occupancy_tax) == 0
    clean()


def test_what_was_planned_for_the_host_shrinks_with_a_loss_and_comes_back_with_an_appeal(
    sandbox: RunningSandbox,
) -> None:
    booking = paid()
    held = booking.host_price - booking.host_fee
    (planned,) = Payout.objects.filter(booking=booking)
    assert (planned.status, planned.held) == ("scheduled", held)
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    planned.refresh_from_db()
    assert (planned.status, planned.held) == ("void", 0)
    decide(sandbox, row.provider_id, status="won")
    hear(sandbox)
    again_planned = Payout.objects.filter(booking=booking, status="scheduled").get()
    assert again_planned.held == held
    clean()


def test_a_payout_waits_while_a_chargeback_is_open_says_why_and_is_sent_once_it_is_won(
    sandbox: RunningSandbox,
) -> None:
    booking = stay(sandbox)
    row = told(sandbox, booking)
    submit(stage(row, uncategorized_text="The guest stayed."))
    until_due(sandbox, booking)
    release_payouts.run(now=now(), actor=ACTOR)
    (payout,) = Payout.objects.filter(booking=booking)
    assert payout.released_at is None and "bank is questioning this payment" in payout.waits_for
    decide(sandbox, row.provider_id, status="won")
    hear(sandbox)
    release_payouts.run(now=now(), actor=ACTOR)
    hear(sandbox)
    payout.refresh_from_db()
    assert payout.status == "transferred" and payout.transfer_amount == booking.host_price - booking.host_fee
    clean()


def test_a_loss_that_the_host_bears_is_kept_from_their_next_payout(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until_due(sandbox, booking)
    release_payouts.run(now=now(), actor=ACTOR)
    share = booking.host_price - booking.host_fee
    row = told(sandbox, booking)
    payments.bear_loss(code=row.code, bearer="host", reason="Terms", version=row.version, actor=finance(), now=now())
    answered(sandbox, row, "losing_evidence")
    assert stands("1310", booking.host.code) == share
    following = stay(sandbox, host=booking.host, check_in=(now() + timedelta(days=3)).date())
    until_due(sandbox, following)
    release_payouts.run(now=now(), actor=ACTOR)
    (payout,) = Payout.objects.filter(booking=following)
    assert (payout.netted, stands("1310", booking.host.code)) == (share, 0)
    clean()
    decide(sandbox, row.provider_id, status="appeal_under_review", funds="reinstated")
    hear(sandbox)
    assert stands("1310", booking.host.code) == -share
    assert release_payouts.run(now=now(), actor=ACTOR) == {"scheduled": 1, "waiting": 1}
    back = Payout.objects.get(booking=booking, weight=0)
    assert "bank is questioning this payment" in back.waits_for and stands("1310", booking.host.code) == 0
    sandbox.advance(8 * 86_400)  # it draws on no charge: what came in last has become available
    decide(sandbox, row.provider_id, status="won")
    hear(sandbox)
    for _ in range(2):
        release_payouts.run(now=now(), actor=ACTOR)
    hear(sandbox)
    back.refresh_from_db()
    assert (back.status, back.transfer_amount, back.netted) == ("transferred", share, 0)
    assert Payout.objects.filter(weight=0).count() == 1 and stands("2200", booking.host.code) == 0
    clean()


def test_lost_after_the_release_we_bear_it(sandbox: RunningSandbox) -> None:
    booking = paid()
    release(booking)
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert lines_of("dispute-lost") == [f"1320 -{row.amount}", f"5200 {row.amount}"]
    assert stands("1310", booking.host.code) == 0
    clean()


def test_lost_after_the_release_the_host_bears_it_when_a_person_said_so(sandbox: RunningSandbox) -> None:
    booking = paid()
    release(booking)
    row = told(sandbox, booking)
    payments.bear_loss(
        code=row.code, bearer="host", reason="No-show of the host", version=row.version, actor=finance(), now=now()
    )
    answered(sandbox, row, "losing_evidence")
    assert stands("1310", booking.host.code) == booking.host_price - booking.host_fee
    assert stands("4100") == stands("4110") == 0
    assert stands("5200", row.provider_id) == booking.vat + booking.occupancy_tax
    clean()


def test_who_bears_it_can_be_decided_after_the_loss(sandbox: RunningSandbox) -> None:
    booking = paid()
    release(booking)
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    for bearer, owed in (("host", booking.host_price - booking.host_fee), ("platform", 0)):
        row = payments.bear_loss(
            code=row.code, bearer=bearer, reason="By the terms", version=again(row).version, actor=finance(), now=now()
        )
        shares = payment_queries.shares_of_loss(chargeback=again(row))
        assert shares is not None and shares.released.held.amount == booking.host_price - booking.host_fee
        assert shares.released.total.amount + shares.held_worth.amount == row.amount
        assert (stands("1310", booking.host.code), stands("1320", row.provider_id)) == (owed, 0)
        assert row.loss_posted_at is not None
    clean()


def test_partly_released_each_part_is_taken_where_it_is(sandbox: RunningSandbox) -> None:
    booking = paid()
    release(booking, share=(1, 4))
    host_net = booking.host_price - booking.host_fee
    released = -stands("2200", booking.host.code)
    assert 0 < released < host_net
    row = told(sandbox, booking)
    payments.bear_loss(code=row.code, bearer="host", reason="Terms", version=row.version, actor=finance(), now=now())
    row = answered(sandbox, row, "losing_evidence")
    assert stands("2100", booking.code) == stands("2110", booking.code) == stands("2111", booking.code) == 0
    assert abs(stands("1310", booking.host.code) - released) <= 1
    assert stands("1320", row.provider_id) == 0
    clean()


def test_a_part_of_a_charge_takes_its_share_and_what_was_refunded_is_not_taken_again(sandbox: RunningSandbox) -> None:
    booking = paid()
    asked = asked_back(booking, booking.charge_total // 2)
    refund_booking.send(refund_code=asked.code, actor=ACTOR, now=now())
    left = booking.charge_total - asked.amount
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert row.amount == left
    assert stands("2100", booking.code) == stands("2110", booking.code) == stands("5200", row.provider_id) == 0
    clean()


def test_several_disputes_of_one_charge_take_their_shares(sandbox: RunningSandbox) -> None:
    booking = paid(payment_method="pm_card_createMultipleDisputes")
    hear(sandbox)
    first, second = Chargeback.objects.order_by("id")
    assert first.payment_id == second.payment_id == Payment.objects.get().pk
    answered(sandbox, first, "losing_evidence")
    answered(sandbox, second, "losing_evidence")
    left = booking.charge_total - first.amount - second.amount
    assert 0 <= left <= 1
    standing = [stands(code, booking.code) for code in ("2100", "2110", "2111")]
    assert all(-1 <= amount <= 0 for amount in standing)
    assert stands("5200", first.provider_id) == stands("5200", second.provider_id) == 0
    clean()


def by_the_month(sandbox: RunningSandbox) -> tuple[Booking, ExtraCharge]:
    """A long stay whose first month was released and whose second was charged and is held."""
    home = factories.listing(minimum_nights=1, maximum_nights=90, now=now())
    onboarded(sandbox, home.host)
    booking = stay(sandbox, home=home, ready=False, nights=60)
    until_due(sandbox, booking)
    release_payouts.run(now=now(), actor=ACTOR)
    (charge,) = ExtraCharge.objects.filter(booking=booking)
    sandbox.set_clock(charge.due_at.timestamp() + 60)
    collect_charges.collect_due(now=now())
    hear(sandbox)
    charge.refresh_from_db()
    assert charge.status == "captured" and stands("2100", booking.code) == -charge.held
    return booking, charge


def test_what_a_later_instalment_brought_bears_nothing_of_an_earlier_charge(sandbox: RunningSandbox) -> None:
    booking, charge = by_the_month(sandbox)
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert stands("2100", booking.code) == -charge.held
    assert stands("5200", row.provider_id) == row.amount
    clean()


def test_a_dispute_of_an_instalment_is_of_its_booking_and_takes_its_own_money(sandbox: RunningSandbox) -> None:
    booking, charge = by_the_month(sandbox)
    found = str(sandbox.control("POST", "/_sim/disputes", {"charge": charge.charge_id})["id"])
    hear(sandbox)
    row = Chargeback.objects.get(provider_id=found)
    payment = Payment.objects.get(booking=booking)
    assert row.payment_id == payment.pk and payment_queries.is_disputed(payment=payment)
    answered(sandbox, row, "losing_evidence")
    assert stands("2100", booking.code) == stands("5200", found) == stands("1320", found) == 0
    assert not payment_queries.is_disputed(payment=payment)  # the first month's own money is not gone
    assert payment_queries.charge_limits(charge=charge, payment=payment).charged == Money(0, "EUR")
    with pytest.raises(Conflict, match="of that charge"):
        payment_queries.assert_refundable(payment=payment, charge_id=charge.charge_id or "")
    clean()


def test_an_appeal_that_is_won_reverses_the_loss_exactly_and_one_lost_again_posts_it_anew(
    sandbox: RunningSandbox,
) -> None:
    booking = paid()
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    held = booking.host_price - booking.host_fee
    decide(sandbox, row.provider_id, status="appeal_under_review")
    hear(sandbox)
    assert again(row).status == "appeal_under_review" and again(row).closed_at is None
    with pytest.raises(Conflict, match="once the appeal is over"):
        payments.bear_loss(
            code=row.code, bearer="host", reason="x", version=again(row).version, actor=finance(), now=now()
        )
    assert again(row).loss_posted_at is not None and stands("1320", row.provider_id) == 0
    assert stands("2100", booking.code) == 0
    decide(sandbox, row.provider_id, status="won")
    hear(sandbox)
    row = again(row)
    assert (row.status, row.loss_posted_at) == ("won", None)
    assert (stands("1320", row.provider_id), stands("2100", booking.code)) == (0, -held)
    clean()
    decide(sandbox, row.provider_id, funds="withdrawn", status="lost")
    hear(sandbox)
    assert (stands("1320", row.provider_id), stands("2100", booking.code)) == (0, 0)
    assert Journal.objects.filter(kind="dispute-lost").count() == 2
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def test_an_appeal_waits_for_an_answer_until_the_provider_says_that_it_has_one(sandbox: RunningSandbox) -> None:
    """What we handed in answered the chargeback, not its appeal."""
    booking = paid()
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert row.submitted_at is not None and payment_queries.deadlines() == []
    decide(sandbox, row.provider_id, status="appeal_needs_response")
    hear(sandbox)
    assert [each.code for each in payment_queries.deadlines()] == [row.code]
    assert payment_queries.chargebacks_waiting(now=now()) == (1, 1)  # the provider named no date: at once
    assert payment_queries.urgency_of(chargeback=again(row), now=now()) == "late"
    opened = OutboxMessage.objects.filter(topic="appeal_opened")
    assert opened.count() and all(f"/disputes/{row.provider_id}" in mail.body for mail in opened)
    with pytest.raises(Conflict, match="own pages"):
        submit(row)
    assert payment_queries.unanswered_claims(older_than=now() + timedelta(days=1)) == []

    # It has a date of its own: ours is at 60 % of the time until then, and a reminder says where to answer.
    seen = work_chargebacks.gateway().dispute(dispute_id=row.provider_id)
    due = now() + timedelta(days=10)
    payments.record_dispute(seen=replace(seen, due_by=due), actor=ACTOR, now=now())
    waiting = again(row)
    assert waiting.due_by == due and waiting.internal_due_at is not None
    assert timedelta(days=5, hours=23) < waiting.internal_due_at - now() < timedelta(days=6, hours=1)
    assert payment_queries.urgency_of(chargeback=waiting, now=now()) == "calm"
    assert payment_queries.chargeback_figures(now=now()).next_due == waiting.internal_due_at
    after = due + timedelta(days=1)
    assert payment_queries.urgency_of(chargeback=waiting, now=after) == "late"  # still to be answered, they say
    assert [each.code for each in payment_queries.chargebacks_to_remind(now=after)] == [row.code]
    payments.remind_of_chargeback(code=row.code, actor=ACTOR, now=after)
    assert OutboxMessage.objects.filter(topic="appeal_due").exists()
    assert payment_queries.chargebacks_to_remind(now=after) == []

    decide(sandbox, row.provider_id, status="appeal_under_review")
    hear(sandbox)
    assert payment_queries.deadlines() == [] and payment_queries.chargebacks_waiting(now=after) == (0, 0)
    assert payment_queries.urgency_of(chargeback=again(row), now=after) == "none"


def test_money_given_back_during_an_appeal_reverses_the_loss_before_the_last_word(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    decide(sandbox, row.provider_id, funds="reinstated", status="appeal_under_review")
    hear(sandbox)
    assert (stands("1320", row.provider_id), again(row).loss_posted_at) == (0, None)
    assert stands("2100", booking.code) == -(booking.host_price - booking.host_fee)
    clean()


def test_a_charge_in_dollars_settled_in_the_homes_euros_leaves_no_position(sandbox: RunningSandbox) -> None:
    booking = paid(currency="USD")
    hear(sandbox)
    row = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert row.currency == row.settlement_currency == "USD"
    clean()


@pytest.mark.parametrize("outcome", ["winning_evidence", "losing_evidence"])
def test_a_charge_that_the_provider_converts_leaves_no_position(sandbox: RunningSandbox, outcome: str) -> None:
    home = factories.listing(
        now=now(), currency="THB", nightly_price=300_000, cleaning_fee=50_000, country="TH", time_zone="Asia/Bangkok"
    )
    booking = paid(home=home)
    hear(sandbox)
    row = told(sandbox, booking)
    assert (row.currency, row.settlement_currency) == ("THB", "EUR")
    answered(sandbox, row, outcome)
    assert ledger.standing(account="1320", key=row.provider_id) == []
    standing = ledger.standing(account="3900", key=row.charge_id)
    held = stands("2100", booking.code, "THB")
    if outcome == "losing_evidence":
        assert standing == [] and held == 0
    else:
        assert len(standing) == 2 and held < 0  # the promise stands until the release converts it
    clean()


# Refunds and payouts wait --------------------------------------------------------------------------------------------


def test_nothing_is_refunded_while_a_chargeback_is_open_and_it_says_until_when(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = told(sandbox, booking)
    with pytest.raises(Conflict, match=f"{row.code}.*we answer it by .* UTC.*Nothing can be refunded") as refused:
        asked_back(booking, 1_000)
    assert refused.value.facts["chargeback"] == row.code
    assert not Refund.objects.exists()
    until = payment_queries.why_payout_waits(payment_id=booking.payment.pk)
    assert until is not None and until[1] == row.due_by
    answered(sandbox, row, "winning_evidence")
    assert payment_queries.why_payout_waits(payment_id=booking.payment.pk) is None
    assert asked_back(booking, 1_000).status == "approved"


def test_a_lost_charge_is_never_refunded_on_top(sandbox: RunningSandbox) -> None:
    booking = paid()
    answered(sandbox, told(sandbox, booking), "losing_evidence")
    with pytest.raises(Conflict, match="has this money already"):
        asked_back(booking, 1_000)


def test_an_inquiry_can_be_ended_by_a_refund(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = told(sandbox, booking, kind="inquiry")
    refund = asked_back(booking, booking.charge_total)
    refund_booking.send(refund_code=refund.code, actor=ACTOR, now=now())
    hear(sandbox)
    assert again(row).status == "warning_closed"
    clean()


@pytest.mark.parametrize("approved", [True, False], ids=["approved", "waiting"])
def test_a_refund_that_was_not_sent_yet_is_taken_back_and_the_guest_told(
    sandbox: RunningSandbox, approved: bool
) -> None:
    booking = paid()
    by = factories.staff("finance" if approved else "support_l1", now=now())
    refund = asked_back(booking, 15_000, by=by)
    assert refund.status == ("approved" if approved else "requested")
    row = told(sandbox, booking)
    refund.refresh_from_db()
    assert refund.status == "cancelled" and stands("2400", refund.code) == 0
    mail = OutboxMessage.objects.get(topic="refund_stopped")
    assert mail.recipient_id == booking.guest_id and "twice" in mail.body
    assert row.code in AuditEntry.objects.get(verb="refunds.cancel", object_id=refund.code).reason
    assert refund_booking.send(refund_code=refund.code, actor=ACTOR, now=now()) is None
    clean()


# Evidence ------------------------------------------------------------------------------------------------------------


def test_the_draft_says_what_we_know_and_nothing_is_sent(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = told(sandbox, booking)
    draft = work_chargebacks.draft(code=row.code, actor=finance())
    assert draft["customer_name"] == booking.guest.name and draft["customer_email_address"] == booking.guest.email
    assert draft["service_date"] == f"{booking.check_in} to {booking.check_out}"
    assert booking.listing.title in draft["product_description"] and booking.code in draft["product_description"]
    assert "Moderate" in draft["cancellation_policy_disclosure"] and "50 %" in draft["refund_policy_disclosure"]
    assert "captured" in draft["access_activity_log"] and "did not cancel" in draft["cancellation_rebuttal"]
    assert str(Money(booking.charge_total, "EUR")) in draft["uncategorized_text"]
    assert again(row).evidence == {} and again(row).staged_at is None
    kept = work_chargebacks.stage(code=row.code, evidence=draft, version=row.version, actor=finance(), now=now())
    assert kept.evidence == draft and kept.staged_at is not None and kept.submitted_at is None
    there = work_chargebacks.gateway().dispute(dispute_id=row.provider_id)
    assert there.evidence == draft and (there.status, there.submissions) == ("needs_response", 0)


def test_staging_again_changes_what_is_named_and_an_empty_text_takes_it_back(sandbox: RunningSandbox) -> None:
    row = stage(told(sandbox, paid()), customer_name="Alice", service_date="2026-12-20")
    row = stage(row, customer_name="Alice A.", service_date="")
    assert again(row).evidence == {"customer_name": "Alice A."}
    assert work_chargebacks.gateway().dispute(dispute_id=row.provider_id).evidence == {"customer_name": "Alice A."}


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        ({"favourite_colour": "blue"}, "knows no such field"),
        ({"receipt": "a text"}, "takes a file"),
        ({"uncategorized_text": "x" * 20_001}, "20,000 at most"),
    ],
)
def test_evidence_that_cannot_be_is_refused_with_its_field(
    sandbox: RunningSandbox, evidence: dict[str, str], why: str
) -> None:
    row = told(sandbox, paid())
    with pytest.raises(Invalid, match=why) as refused:
        stage(row, **evidence)
    assert refused.value.facts["field"] in evidence
    assert again(row).evidence == {}


def upload(row: Chargeback, content: bytes = PDF, field: str = "receipt") -> Chargeback:
    return work_chargebacks.upload(
        code=row.code, field=field, name="receipt.pdf", content=content, actor=finance(), now=now()
    )


def test_a_file_is_kept_at_the_provider_and_known_by_its_digest(sandbox: RunningSandbox) -> None:
    row = upload(told(sandbox, paid()))
    kept = EvidenceFile.objects.get()
    assert (kept.field, kept.name, kept.size, len(kept.digest)) == ("receipt", "receipt.pdf", len(PDF), 64)
    assert again(row).evidence == {"receipt": kept.provider_id}
    version = again(row).version
    upload(row)
    assert again(row).version == version and AuditEntry.objects.filter(verb="chargebacks.upload").count() == 1
    assert EvidenceFile.objects.count() == 1  # the same bytes for the same field are the same file
    upload(row, PDF + b"%%EOF")
    assert EvidenceFile.objects.count() == 2 and again(row).evidence["receipt"] != kept.provider_id
    assert sandbox.client().v1.files.retrieve(kept.provider_id).purpose == "dispute_evidence"


@pytest.mark.parametrize(
    ("content", "field", "why"),
    [
        (b"", "receipt", "is empty"),
        (b"MZ not a document", "receipt", "save it as a PDF"),
        (PDF + b"0" * (5 * 2**20), "receipt", "larger than 5 MB"),
        (PDF + b"0" * 4_600_000, "receipt", "4.5 MB"),
        (PDF, "customer_name", "no file goes there"),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_it_is_sent(
    sandbox: RunningSandbox, content: bytes, field: str, why: str
) -> None:
    row = told(sandbox, paid())
    with pytest.raises(Invalid, match=why):
        upload(row, content, field)
    assert sandbox.client().v1.files.list().data == [] and not EvidenceFile.objects.exists()


# The one answer ------------------------------------------------------------------------------------------------------


def test_it_is_submitted_once_by_a_person_and_then_cannot_be_changed(sandbox: RunningSandbox) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="See the log.")
    person = finance()
    row = submit(row, person)
    assert (row.status, row.submitted_by_id) == ("under_review", person.id) and row.submitted_at is not None
    for act in (lambda: submit(row), lambda: stage(row, customer_name="x"), lambda: upload(row), lambda: accept(row)):
        with pytest.raises(Conflict, match="submitted already"):
            act()
    there = sandbox.client().v1.disputes.retrieve(row.provider_id)
    assert there.evidence_details.submission_count == 1


def accept(row: Chargeback) -> Chargeback:
    return work_chargebacks.accept(
        code=row.code, version=again(row).version, reason="The guest is right", actor=finance(), now=now()
    )


def test_accepted_it_is_lost_and_there_is_no_way_back(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = accept(told(sandbox, booking))
    assert row.status == "lost" and stands("1320", row.provider_id) == 0
    with pytest.raises(Conflict, match="accepted already"):
        submit(row)
    hear(sandbox)
    clean()


def test_an_accepted_inquiry_is_merely_closed(sandbox: RunningSandbox) -> None:
    assert accept(told(sandbox, paid(), kind="inquiry")).status == "warning_closed"


def test_what_was_taken_back_is_not_submitted_though_the_provider_was_not_told(sandbox: RunningSandbox) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="See the log.", customer_name="The wrong guest")
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/disputes/*", times=3)
    with pytest.raises(UpstreamUnavailable):
        stage(row, customer_name="")
    sandbox.clear_faults()
    submit(row)
    there = work_chargebacks.gateway().dispute(dispute_id=row.provider_id)
    assert (there.submissions, there.evidence) == (1, {"uncategorized_text": "See the log."})


def test_nobody_sends_a_file_for_their_own_booking_or_without_the_right_to(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid())
    assert row.payment is not None
    person = factories.staff("finance", now=now())
    Booking.objects.filter(pk=row.payment.booking_id).update(host=person)
    stranger = factories.person("Eve", now=now())
    what: dict[str, Any] = {"code": row.code, "field": "receipt", "name": "receipt.pdf"}
    for actor in (factories.acting(person, now=now()), factories.acting(stranger, now=now())):
        with pytest.raises(NotAllowed):
            work_chargebacks.upload(**what, content=PDF, actor=actor, now=now())
        with pytest.raises(NotAllowed):
            payments.keep_evidence_file(**what, digest="d", size=1, provider_id="file_1", actor=actor, now=now())
    assert sandbox.client().v1.files.list().data == [] and not EvidenceFile.objects.exists()


def test_two_people_who_submit_at_once_submit_once(sandbox: RunningSandbox) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="See the log.")
    actors = [factories.acting(factories.staff(role, now=now()), now=now()) for role in ("finance", "team_lead")]
    version, at = again(row).version, now()
    outcomes = race(
        [
            lambda actor=actor: work_chargebacks.submit(code=row.code, version=version, actor=actor, now=at)  # type: ignore[misc]
            for actor in actors
        ]
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, StaleVersion | Conflict)]
    assert len(refused) == 1 and sum(isinstance(outcome, Chargeback) for outcome in outcomes) == 1
    details = sandbox.client().v1.disputes.retrieve(row.provider_id).evidence_details
    assert details.submission_count == 1
    assert AuditEntry.objects.filter(verb="chargebacks.submit").count() == 1


def test_who_may_not_submit_is_refused_and_nothing_goes_without_evidence_reason_or_person(
    sandbox: RunningSandbox,
) -> None:
    row = told(sandbox, paid())
    senior = factories.acting(factories.staff("support_l2", now=now()), now=now())
    work_chargebacks.stage(code=row.code, evidence={"customer_name": "A"}, version=None, actor=senior, now=now())
    with pytest.raises(NotAllowed):
        submit(row, senior)
    with pytest.raises(Refused, match="somebody with a name"):
        submit(row, ACTOR)
    with pytest.raises(Refused, match="a reason"):
        work_chargebacks.accept(code=row.code, version=again(row).version, reason=" ", actor=finance(), now=now())
    other = told(sandbox, paid())
    with pytest.raises(Refused, match="evidence"):
        submit(other)


def test_after_the_deadline_nothing_is_submitted_and_the_provider_says_lost(sandbox: RunningSandbox) -> None:
    booking = paid()
    row = stage(told(sandbox, booking), uncategorized_text="Late.")
    assert row.due_by is not None
    late = row.due_by + timedelta(seconds=1)
    with pytest.raises(Conflict, match="it is too late"):
        work_chargebacks.submit(code=row.code, version=again(row).version, actor=finance(), now=late)
    assert again(row).submitted_at is None
    sandbox.advance(15 * 86_400)
    hear(sandbox)
    assert again(row).status == "lost" and stands("1320", row.provider_id) == 0
    clean()


def test_our_own_deadline_reminds_finance_and_the_owner_once(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid())
    owner = factories.staff("support_l2", now=now())
    finance()
    payments.own_chargeback(code=row.code, owner_id=owner.pk, version=row.version, actor=finance(), now=now())
    work_chargebacks.run(now=now())
    assert not OutboxMessage.objects.filter(topic="chargeback_due").exists()
    assert row.internal_due_at is not None
    sandbox.set_clock(row.internal_due_at.timestamp() + 60)
    for _ in range(2):
        work_chargebacks.run(now=now())
    assert payment_queries.chargebacks_to_remind(now=now()) == [], "one that was reminded takes nobody else's turn"
    reminded = OutboxMessage.objects.filter(topic="chargeback_due")
    assert reminded.count() == 2 and owner.pk in reminded.values_list("recipient_id", flat=True)


# Lost answers and cut power ------------------------------------------------------------------------------------------


def test_a_lost_answer_is_found_again_and_submitted_once(sandbox: RunningSandbox) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="See the log.")
    sandbox.fault("reset_after_commit", method="POST", path="/v1/disputes/*", times=3)
    with pytest.raises(Indeterminate):
        submit(row)
    sandbox.clear_faults()
    assert again(row).submitted_at is not None
    sandbox.advance(120)
    work_chargebacks.run(now=now())
    assert again(row).status == "under_review"
    assert sandbox.client().v1.disputes.retrieve(row.provider_id).evidence_details.submission_count == 1


def test_a_call_that_never_arrived_is_made_again_though_the_list_cannot_be_had_now(sandbox: RunningSandbox) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="See the log.")
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/disputes/*", times=3)
    with pytest.raises(UpstreamUnavailable):
        submit(row)
    sandbox.clear_faults()
    sandbox.advance(120)
    sandbox.fault("error_429", method="GET", path="/v1/disputes", times=9)
    work_chargebacks.run(now=now())
    assert again(row).status == "under_review"
    details = sandbox.client().v1.disputes.retrieve(row.provider_id).evidence_details
    assert details.submission_count == 1, "under another key, since a failure stood under the first"


def test_a_refusal_of_the_provider_leaves_the_answer_open(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="See the log.")

    def refuse(self: StripeGateway, **_: Any) -> Any:
        raise ProviderError(message="no such file")

    with monkeypatch.context() as patched:
        patched.setattr(StripeGateway, "submit_evidence", refuse)
        with pytest.raises(ProviderError):
            submit(row)
    row = again(row)
    assert (row.submitted_at, row.submitted_by_id, row.status) == (None, None, "needs_response")
    assert submit(row).status == "under_review"


class PowerCut(BaseException):
    """The process is gone."""


@contextmanager
def cut(when: str, call: str) -> Iterator[None]:
    """The power goes before or after a call to the provider, which the block makes."""
    real = getattr(StripeGateway, call)

    def called(self: StripeGateway, **facts: Any) -> Any:
        if when == "after":
            real(self, **facts)
        raise PowerCut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StripeGateway, call, called)
        try:
            yield
        except PowerCut:
            return
    raise AssertionError(f"{call} was not called")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("answer", ["submit", "accept"])
def test_power_cut_between_claim_call_and_record_ends_as_if_nothing_had_happened(
    sandbox: RunningSandbox, when: str, answer: str
) -> None:
    row = stage(told(sandbox, paid()), uncategorized_text="losing_evidence")
    with cut(when, "submit_evidence" if answer == "submit" else "accept_dispute"):
        submit(row) if answer == "submit" else accept(row)
    assert again(row).status == "needs_response"
    sandbox.advance(120)
    work_chargebacks.run(now=now())
    sandbox.advance(3600)
    hear(sandbox)
    assert again(row).status == "lost" and stands("1320", row.provider_id) == 0
    details = sandbox.client().v1.disputes.retrieve(row.provider_id).evidence_details
    assert details.submission_count == (1 if answer == "submit" else 0)
    clean()


def test_a_file_whose_answer_was_lost_is_one_file(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid())
    with cut("after", "upload_evidence"):
        upload(row)
    upload(row)
    assert len(sandbox.client().v1.files.list().data) == EvidenceFile.objects.count() == 1


def test_a_failure_that_the_provider_saved_does_not_keep_a_file_out_for_a_day(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid())
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/files", times=1)
    assert set(upload(row).evidence) == {"receipt"}
    assert len(sandbox.client().v1.files.list().data) == EvidenceFile.objects.count() == 1


# Early fraud warnings ------------------------------------------------------------------------------------------------


def test_a_fraud_warning_is_kept_and_told_and_refunds_nothing(sandbox: RunningSandbox) -> None:
    finance()
    booking = paid()
    sandbox.control("POST", "/_sim/early_fraud_warnings", {"charge": booking.payment.charge_id})
    hear(sandbox)
    warning = FraudWarning.objects.get()
    assert warning.payment is not None and warning.payment.booking_id == booking.pk and warning.actionable
    assert OutboxMessage.objects.filter(topic="fraud_warning").count() == 1 and not Refund.objects.exists()
    told(sandbox, booking)
    warning.refresh_from_db()
    assert not warning.actionable  # a refund no longer helps


# The ratio -----------------------------------------------------------------------------------------------------------


def test_the_ratio_counts_chargebacks_against_charges_of_the_month(sandbox: RunningSandbox) -> None:
    first = paid()
    paid()
    hear(sandbox)
    assert BalanceTransaction.objects.filter(reporting_category="charge", network="visa").count() == 2
    told(sandbox, first)
    (ratio,) = payment_queries.chargeback_ratios(month=now().date())
    assert (ratio.network, ratio.chargebacks, ratio.charges, ratio.standing) == ("visa", 1, 2, "over")
    figures = payment_queries.chargeback_figures(now=now())
    assert (figures.waiting, figures.late, figures.standing) == (1, 0, "over") and "Visa" in figures.words
    later = (now().replace(day=1) - timedelta(days=40)).date()
    assert payment_queries.chargeback_ratios(month=later) == []
