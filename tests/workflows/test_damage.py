"""Damage: asked for by one, approved by another, the guest told and given time, the kept card charged, the host paid."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Invalid,
    NotAllowed,
    NotFound,
    OverLimit,
    PaymentDeclined,
    Refused,
    StaleVersion,
)
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import ExtraCharge, Refund
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import collect_charges, import_balance_transactions, keep_time, refund_booking
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now, paid
from tests.workflows.test_instalments import use_another_card

pytestmark = pytest.mark.django_db(transaction=True)
WORKER = collect_charges.ACTOR


def stayed(sandbox: RunningSandbox, **options: Any) -> Booking:
    """A paid stay that has begun."""
    booking = paid(check_in=(now() + timedelta(days=2)).date(), **options)
    sandbox.advance((booking.check_in_at - now()).total_seconds() + 3600)
    keep_time.complete_stays(now=now())
    return booking_queries.booking(code=booking.code)


def staff(role: str) -> Any:
    return factories.acting(factories.staff(role, now=now()), now=now())


def ask(booking: Booking, amount: int = 12_000, *, by: Any = None, currency: str = "EUR") -> ExtraCharge:
    return payments.request_damage(
        booking_code=booking.code,
        amount=Money(amount, currency),
        reason="The window is broken.",
        actor=by or staff("support_l2"),
        now=now(),
    )


def approve(charge: ExtraCharge) -> ExtraCharge:
    return payments.approve_damage(charge_code=charge.code, version=charge.version, actor=staff("finance"), now=now())


def standing(charge: ExtraCharge, account: str, key: str = "") -> int:
    return ledger.balance(account=account, key=key or charge.code, currency="EUR")


def told(topic: str) -> int:
    return OutboxMessage.objects.filter(topic=topic).count()


def explained(sandbox: RunningSandbox) -> None:
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    assert reconcile(scope="stripe", since=None, until=None, actor=WORKER, now=now()).findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def test_the_guest_is_told_has_a_day_and_then_the_card_pays_the_host(sandbox: RunningSandbox) -> None:
    booking = stayed(sandbox)
    charge = ask(booking)
    assert charge.status == "requested" and told("damage_requested") == 0 and standing(charge, "1300") == 0
    charge = approve(charge)
    assert told("damage_requested") == 1
    assert (standing(charge, "1300"), standing(charge, "2120")) == (12_000, -12_000)
    assert collect_charges.collect_due(now=now()) == 0  # the guest's day to answer
    sandbox.advance(24 * 3600 + 60)
    assert collect_charges.collect_due(now=now()) == 1
    charge.refresh_from_db()
    assert charge.status == "captured" and charge.released_at is not None and told("charge_received") == 1
    assert (standing(charge, "1300"), standing(charge, "2120")) == (0, 0)
    assert standing(charge, "2200", booking.host.code) == -12_000
    explained(sandbox)


def test_a_guest_who_does_not_pay_is_covered_by_a_persons_decision(sandbox: RunningSandbox) -> None:
    booking = stayed(sandbox)
    use_another_card(booking, "pm_card_chargeCustomerFail")
    charge = approve(ask(booking))
    with pytest.raises(IllegalTransition):
        payments.cover_damage(
            charge_code=charge.code, version=charge.version, reason="Kind", actor=staff("finance"), now=now()
        )
    sandbox.advance(24 * 3600 + 60)
    while charge.status != "failed" or charge.next_try_at is not None:
        assert collect_charges.collect_due(now=now()) == 1
        charge.refresh_from_db()
        if charge.next_try_at is not None:
            sandbox.advance((charge.next_try_at - now()).total_seconds() + 60)
    assert collect_charges.give_up_unpaid(now=now() + timedelta(days=30)) == 0  # a person decides
    assert charge.tries == 4
    covered = payments.cover_damage(
        charge_code=charge.code, version=charge.version, reason="No card works", actor=staff("finance"), now=now()
    )
    assert covered.status == "covered" and standing(charge, "5210") == 12_000
    assert (standing(charge, "1300"), standing(charge, "2120")) == (0, 0)
    assert standing(charge, "2200", booking.host.code) == -12_000
    explained(sandbox)


def test_what_is_above_the_limit_is_not_covered(sandbox: RunningSandbox) -> None:
    booking = stayed(sandbox)
    charge = approve(ask(booking, 300_001))
    ExtraCharge.objects.filter(pk=charge.pk).update(status="failed")
    with pytest.raises(Conflict, match=r"At most 3,000\.00 EUR"):
        payments.cover_damage(
            charge_code=charge.code, version=charge.version, reason="Kind", actor=staff("finance"), now=now()
        )
    assert standing(charge, "5210") == 0


def test_the_house_does_not_pay_before_the_kept_card_was_tried(sandbox: RunningSandbox) -> None:
    charge = approve(ask(booking := stayed(sandbox)))
    with pytest.raises(PaymentDeclined):
        collect_charges.pay(
            charge_code=charge.code,
            payment_method="pm_card_chargeDeclined",
            actor=factories.acting(booking.guest, now=now()),
            now=now(),
        )
    charge.refresh_from_db()
    with pytest.raises(Conflict, match="not been tried yet"):
        payments.cover_damage(
            charge_code=charge.code, version=charge.version, reason="Kind", actor=staff("finance"), now=now()
        )
    assert charge.status == "failed" and standing(charge, "5210") == 0 and told("charge_failed") == 0


def test_asked_no_more_leaves_nothing_standing(sandbox: RunningSandbox) -> None:
    charge = approve(ask(stayed(sandbox)))
    payments.cancel_damage(
        charge_code=charge.code, version=charge.version, reason="It was old.", actor=staff("finance"), now=now()
    )
    sandbox.advance(25 * 3600)
    assert collect_charges.collect_due(now=now()) == 0 and told("damage_rejected") == 1
    assert (standing(charge, "1300"), standing(charge, "2120")) == (0, 0)


def test_who_may_and_who_may_not(sandbox: RunningSandbox) -> None:
    booking = stayed(sandbox)
    lead = staff("team_lead")
    with pytest.raises(NotAllowed):
        ask(booking, by=staff("support_l1"))
    charge = ask(booking, by=lead)
    with pytest.raises(NotAllowed, match="yourself"):
        payments.approve_damage(charge_code=charge.code, version=charge.version, actor=lead, now=now())
    with pytest.raises(NotAllowed):
        payments.approve_damage(charge_code=charge.code, version=charge.version, actor=staff("support_l2"), now=now())
    with pytest.raises(StaleVersion):
        payments.approve_damage(charge_code=charge.code, version=99, actor=staff("finance"), now=now())
    with pytest.raises(Refused):
        payments.reject_damage(
            charge_code=charge.code, version=charge.version, reason=" ", actor=staff("finance"), now=now()
        )
    alice = factories.acting(booking.guest, now=now())
    assert payment_queries.charges_of(booking_code=booking.code, actor=alice) == []  # not before it is approved
    with pytest.raises(Conflict, match="nothing to pay"):
        collect_charges.pay(charge_code=charge.code, payment_method="pm_card_visa", actor=alice, now=now())
    approve(charge)
    assert [row.code for row in payment_queries.charges_of(booking_code=booking.code, actor=alice)] == [charge.code]
    stranger = factories.acting(factories.person("Dora", now=now()), now=now())
    with pytest.raises(NotFound):
        payment_queries.charges_of(booking_code=booking.code, actor=stranger)


@pytest.mark.parametrize(("maker", "amount"), [("team_lead", 12_000), ("finance", 12_000), ("support_l2", 200_001)])
def test_a_lead_decides_neither_a_lead_s_damage_nor_more_than_a_lead_may(
    sandbox: RunningSandbox, maker: str, amount: int
) -> None:
    charge, lead = ask(stayed(sandbox), amount, by=staff(maker)), staff("team_lead")
    with pytest.raises((NotAllowed, OverLimit)):
        payments.approve_damage(charge_code=charge.code, version=charge.version, actor=lead, now=now())
    ExtraCharge.objects.filter(pk=charge.pk).update(status="failed")
    with pytest.raises((NotAllowed, OverLimit)):
        payments.cover_damage(charge_code=charge.code, version=charge.version, reason="Kind", actor=lead, now=now())


def test_two_approvers_at_once_approve_once(sandbox: RunningSandbox) -> None:
    charge = ask(stayed(sandbox))
    actors = [staff("finance"), staff("team_lead")]
    outcomes = race(
        [
            lambda actor=actor: payments.approve_damage(
                charge_code=charge.code, version=charge.version, actor=actor, now=now()
            )
            for actor in actors
        ]
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ExtraCharge", "StaleVersion"], outcomes
    assert standing(charge, "1300") == 12_000 and told("damage_requested") == 1


@pytest.mark.parametrize(
    ("amount", "currency", "why"),
    [(49, "EUR", r"at least 0\.50 EUR"), (5_000, "USD", "home's currency, EUR"), (0, "EUR", "above zero")],
)
def test_an_amount_that_cannot_be_charged_is_refused_at_once(
    sandbox: RunningSandbox, amount: int, currency: str, why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        ask(stayed(sandbox), amount, currency=currency)
    assert not ExtraCharge.objects.exists()


def test_damage_is_asked_for_between_check_in_and_two_weeks_after(sandbox: RunningSandbox) -> None:
    early = paid(check_in=(now() + timedelta(days=2)).date())
    with pytest.raises(Conflict, match="begun"):
        ask(early)
    booking = stayed(sandbox)
    sandbox.advance((booking.check_out_at - now()).total_seconds() + 15 * 86_400)
    keep_time.complete_stays(now=now())
    with pytest.raises(Conflict, match="14 days after check-out"):
        ask(booking)


def test_damage_whose_answer_was_lost_is_charged_once(sandbox: RunningSandbox) -> None:
    charge = approve(ask(stayed(sandbox)))
    sandbox.advance(24 * 3600 + 60)
    sandbox.fault("reset_after_commit", method="POST", path="/v1/payment_intents", times=3)
    collect_charges.collect_due(now=now())
    sandbox.clear_faults()
    fresh = ExtraCharge.objects.get(pk=charge.pk)
    with pytest.raises(IllegalTransition):  # the card's answer decides
        payments.cancel_damage(
            charge_code=charge.code, version=fresh.version, reason="Old.", actor=staff("finance"), now=now()
        )
    collect_charges.resolve_unanswered(now=now() + timedelta(minutes=2))
    charge.refresh_from_db()
    assert charge.status == "captured" and len(sandbox.client().v1.charges.list().data) == 2
    explained(sandbox)


@pytest.mark.parametrize(("decided", "currency"), [("cancelled", "EUR"), ("covered", "USD")])
def test_damage_that_is_paid_after_it_was_decided_otherwise_goes_back(
    sandbox: RunningSandbox, decided: str, currency: str
) -> None:
    """The provider refused a try, a person decided, and then it was carried out after all."""
    booking = stayed(sandbox, currency=currency)
    charge = approve(ask(booking))
    sandbox.advance(24 * 3600 + 60)
    payments.claim_charge(charge_code=charge.code, actor=WORKER, now=now())
    unheard = submit.charge(
        charge=payment_queries.extra_charge(code=charge.code), gateway=gateway(), return_url="https://desk.example"
    )
    payments.refuse_charge(charge_code=charge.code, error="refused", refused=True, actor=WORKER, now=now())
    charge.refresh_from_db()
    decide = payments.cancel_damage if decided == "cancelled" else payments.cover_damage
    decide(charge_code=charge.code, version=charge.version, reason="It was old.", actor=staff("finance"), now=now())
    before = payment_queries.money_of(booking=booking)

    for _ in range(2):
        collect_charges.settle(seen=unheard, actor=WORKER, now=now())
    back = Refund.objects.get(charge=charge)
    assert (back.cause, back.amount, back.currency, back.status) == ("late_capture", 12_000, "EUR", "approved")
    refund_booking.send(refund_code=back.code, actor=WORKER, now=now())
    assert (standing(charge, "1300"), standing(charge, "2120")) == (0, 0)
    assert standing(charge, "5210") == (12_000 if decided == "covered" else 0)
    assert standing(charge, "2200", booking.host.code) == (-12_000 if decided == "covered" else 0)
    charges = sandbox.client().v1.charges.list().data
    assert [row.amount_refunded for row in charges if row.id == unheard.charge_id] == [12_000]
    assert payment_queries.money_of(booking=booking) == before  # the stay's own money is untouched
    explained(sandbox)


def test_nobody_decides_over_damage_while_its_guest_is_at_their_bank(sandbox: RunningSandbox) -> None:
    charge = approve(ask(booking := stayed(sandbox)))
    asked = collect_charges.pay(
        charge_code=charge.code,
        payment_method="pm_card_threeDSecure2Required",
        actor=factories.acting(booking.guest, now=now()),
        now=now(),
    )
    for decide in (payments.cancel_damage, payments.cover_damage):
        with pytest.raises(IllegalTransition):
            decide(charge_code=charge.code, version=asked.version, reason="Old.", actor=staff("finance"), now=now())
    sandbox.advance(24 * 3600 + 60)
    assert collect_charges.run(now=now()) == 1  # the page is given up, the kept card pays
    assert standing(charge, "2200", booking.host.code) == -12_000
    explained(sandbox)
