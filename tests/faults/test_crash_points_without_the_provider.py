"""The power is cut before and after every commit of what moves or records money and asks no provider: holds, damage, refunds
that take two people, bank details, what is owed back, news that comes twice. Whoever acted does it again, the news comes again,
and it ends as if nothing had happened, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import transaction

from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger_operations
from backoffice.ledger import queries as ledger
from backoffice.ledger.policies import Line
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.models import Chargeback, ExtraCharge, FraudWarning, Payment, Refund
from backoffice.payments.policies.chargebacks import SeenDispute, SeenFraudWarning
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenPayment, SeenRefund
from backoffice.payments.policies.seen_accounts import SeenAccount
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import Clawback, HostAccount, Payout, PayoutHold
from backoffice.people.models import User
from backoffice.workflows import cancel_booking, claw_back, collect_charges, keep_time, mark_no_show, refund_booking
from tests import factories
from tests.factories import NOW, SYSTEM
from tests.faults import two_of_three_are_long
from tests.faults.test_crash_points import cut_everywhere
from tests.payouts.stays import captured, host, paid_stay, release_all
from tests.workflows.hosts import owes
from tests.workflows.steps import ROOMS

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
HOUR = timedelta(hours=1)
ROLES = ("support_l1", "support_l2", "team_lead", "finance")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one telling of a story is about: a stay, and the code and version of what was shown of it."""

    booking: Booking
    code: str = ""
    version: int = 0
    at: datetime = NOW


def _staff(role: str) -> Actor:
    """The same colleague however often they try."""
    return factories.acting(User.objects.filter(roles__role=role).first() or factories.staff(role))


def end_of(case: Case) -> dict[str, Any]:
    """All that must not depend on when the power was cut."""
    booking = Booking.objects.select_related("host", "hold").get(pk=case.booking.pk)
    payment = Payment.objects.get(booking=booking)
    charges = ExtraCharge.objects.filter(booking=booking).order_by("kind", "number")
    refunds = Refund.objects.filter(payment=payment).order_by("id")
    rows = Payout.objects.filter(booking=booking).order_by("number")
    holds = PayoutHold.objects.filter(booking=booking).order_by("id")
    clawbacks = Clawback.objects.filter(payout__booking=booking).order_by("id")
    chargebacks = Chargeback.objects.filter(payment=payment)
    account = HostAccount.objects.get(host=booking.host)
    about = [booking.code, payment.code, booking.host.code]
    about += [one.code for found in (charges, refunds, rows, holds, clawbacks, chargebacks) for one in found]
    told = OutboxMessage.objects.filter(recipient_id__in=[booking.guest_id, booking.host_id])
    sums = ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code])
    return {
        "booking": (booking.status, booking.hold.active),
        "charges": [(one.kind, one.status, one.tries, one.next_try_at is None) for one in charges],
        "refunds": [(one.status, one.amount, one.unclaimed) for one in refunds],
        "payouts": [(one.status, one.held, one.transfer_amount, one.tries, bool(one.transfer_id)) for one in rows],
        "holds": [(one.status, one.amount, one.expires_at) for one in holds],
        "clawbacks": [(one.status, one.amount, one.tries) for one in clawbacks],
        "chargebacks": [(one.status, one.loss_bearer, one.reminded_at) for one in chargebacks],
        "warnings": FraudWarning.objects.filter(payment=payment).count(),
        "account": (account.status, account.bank_changed_at, account.bank_approved_by_id is None),
        "owed": [ledger.balance(account=code, key=booking.host.code, currency="EUR") for code in ("1310", "2200")],
        "ledger": {(row.code, row.currency): row.amount for row in sums if row.amount},
        "log": Counter(AuditEntry.objects.filter(object_id__in=about).values_list("verb", flat=True)),
        "told": Counter(told.values_list("channel", "topic")),
        "staff told": Counter(
            OutboxMessage.objects.filter(subject__contains=booking.code)
            .exclude(recipient_id__in=[booking.guest_id, booking.host_id])
            .values_list("topic", flat=True)
        ),
    }


# A stay, and what is done about it ------------------------------------------------------------------------------------


def _stay(**options: Any) -> Case:
    return Case(booking=paid_stay(of=host(), **options))


def _begun(**options: Any) -> Case:
    booking = _stay(**options).booking
    at = booking.check_in_at + HOUR
    keep_time.complete_stays(now=at)
    return Case(booking=booking, at=at)


def _hold(case: Case) -> PayoutHold:
    return payouts.place_hold(
        booking_code=case.booking.code,
        amount=None,
        cause="dispute",
        reason="Broken window",
        hours=24,
        owner_id=None,
        actor=_staff("team_lead"),
        now=NOW,
        key=f"hold-{case.booking.code}",
    )


def _held() -> Case:
    case = _stay()
    found = _hold(case)
    return Case(booking=case.booking, code=found.code, version=found.version)


def _extend(case: Case) -> None:
    payouts.extend_hold(
        hold_code=case.code, hours=48, reason="No word", version=case.version, actor=_staff("team_lead"), now=NOW
    )


def _lift(case: Case) -> None:
    payouts.lift_hold(hold_code=case.code, reason="Settled", version=case.version, actor=_staff("team_lead"), now=NOW)


def _run_out(case: Case) -> None:
    payouts.expire_hold(hold_code=case.code, actor=SYSTEM, now=NOW + 25 * HOUR)


def _nobody_came(case: Case) -> None:
    mark_no_show.mark(
        booking_code=case.booking.code, reason="The host waited.", actor=_staff("support_l2"), now=case.at + 20 * HOUR
    )


def _passes(case: Case) -> None:
    keep_time.complete_stays(now=case.booking.check_out_at + HOUR)


# Damage and instalments -----------------------------------------------------------------------------------------------


def _ask(case: Case) -> ExtraCharge:
    return payments.request_damage(
        booking_code=case.booking.code,
        amount=Money(9_000, "EUR"),
        reason="The window is broken.",
        actor=_staff("support_l2"),
        now=case.at,
        key=f"damage-{case.booking.code}",
    )


def _asked() -> Case:
    case = _begun()
    found = _ask(case)
    return Case(booking=case.booking, code=found.code, version=found.version, at=case.at)


def _approve(case: Case) -> ExtraCharge:
    return payments.approve_damage(charge_code=case.code, version=case.version, actor=_staff("finance"), now=case.at)


def _approved() -> Case:
    case = _asked()
    found = _approve(case)
    return Case(booking=case.booking, code=found.code, version=found.version, at=case.at)


def _declined(code: str, at: datetime) -> ExtraCharge:
    """One try of the kept card, and the provider's no."""
    claimed = payments.claim_charge(charge_code=code, actor=SYSTEM, now=at)
    assert claimed is not None
    seen = SeenPayment(
        id=f"pi_{code}",
        status="requires_payment",
        amount=Money(claimed.amount, claimed.currency),
        reference=code,
        error_code="card_declined",
    )
    payments.record_charge(charge_code=code, seen=seen, actor=SYSTEM, now=at)
    return ExtraCharge.objects.get(code=code)


def _unpaid() -> Case:
    case = _approved()
    at = case.at + 25 * HOUR
    failed = _declined(case.code, at)
    return Case(booking=case.booking, code=case.code, version=failed.version, at=at)


def _cover(case: Case) -> None:
    """A person decides that the house bears it, and the next run plans what the host gets."""
    with suppress(Conflict):
        payments.cover_damage(
            charge_code=case.code, version=case.version, reason="No card works", actor=_staff("finance"), now=case.at
        )
    payouts.pay_damage(charge_code=case.code, actor=SYSTEM, now=case.at)


def _refuse_damage(case: Case) -> None:
    payments.reject_damage(
        charge_code=case.code, version=case.version, reason="Wear", actor=_staff("finance"), now=case.at
    )


def _drop_damage(case: Case) -> None:
    payments.cancel_damage(
        charge_code=case.code, version=case.version, reason="The host agrees", actor=_staff("finance"), now=case.at
    )


def _on_its_last_day() -> Case:
    """An instalment that the card refused on its day and on every day until the last."""
    booking = _stay(nights=45).booking
    charge = ExtraCharge.objects.get(booking=booking, kind="instalment")
    at = charge.due_at
    keep_time.complete_stays(now=at)
    while charge.next_try_at is not None:
        at = max(at, charge.next_try_at)
        charge = _declined(charge.code, at)
    assert charge.pay_by is not None and charge.tries > 1
    return Case(booking=booking, code=charge.code, at=max(at, charge.pay_by))


def _give_up(case: Case) -> None:
    collect_charges.give_up_unpaid(now=case.at)


def _ended_meanwhile() -> Case:
    """The host gave the stay up while its second month was with the provider."""
    booking = _stay(nights=45).booking
    charge = ExtraCharge.objects.get(booking=booking, kind="instalment")
    at = charge.due_at
    payments.claim_charge(charge_code=charge.code, actor=SYSTEM, now=at)
    who = factories.acting(booking.host)
    shown = cancel_booking.preview(booking_code=booking.code, actor=who, now=at)
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Fire", actor=who, now=at)
    return Case(booking=booking, code=charge.code, at=at)


def _charged_too_late(case: Case) -> None:
    collect_charges.settle(seen=captured(ExtraCharge.objects.get(code=case.code)), actor=SYSTEM, now=case.at)


def _waits() -> Case:
    """Meanwhile the guest's bank questions the first month, so that what came too late waits."""
    case = _ended_meanwhile()
    _dispute(case, "needs_response")
    _charged_too_late(case)
    assert Refund.objects.get(charge__code=case.code).waits_for == "chargeback"
    return case


def _won(case: Case) -> None:
    _dispute(case, "won")


# Refunds that take two people, and what comes back --------------------------------------------------------------------


def _request(case: Case) -> Refund:
    return refund_booking.request(
        booking_code=case.booking.code,
        amount=Money(20_000, "EUR"),
        cause="service_issue",
        bearer="host",
        reason="No hot water",
        idempotency_key=f"dialog-{case.booking.code}",
        version=case.version,
        actor=_staff("support_l1"),
        now=case.at,
    )


def _shown() -> Case:
    booking = _stay().booking
    return Case(booking=booking, version=Payment.objects.get(booking=booking).version)


def _two_decide(case: Case) -> None:
    asked = _request(case)
    with suppress(Conflict):
        refund_booking.approve(refund_code=asked.code, version=1, actor=_staff("team_lead"), now=case.at)


def _requested() -> Case:
    case = _shown()
    asked = _request(case)
    assert asked.status == "requested"
    return Case(booking=case.booking, code=asked.code, version=asked.version)


def _refuse_refund(case: Case) -> None:
    refund_booking.reject(
        refund_code=case.code, reason="It was warm", version=case.version, actor=_staff("team_lead"), now=NOW
    )


def _take_back_refund(case: Case) -> None:
    refund_booking.cancel(refund_code=case.code, version=case.version, actor=_staff("support_l1"), now=NOW)


def _refunded() -> Case:
    case = _requested()
    refund_booking.approve(refund_code=case.code, version=case.version, actor=_staff("team_lead"), now=NOW)
    payments.claim_refund(refund_code=case.code, now=NOW)
    _hear_of_refund(case, "succeeded")
    return case


def _hear_of_refund(case: Case, status: Any) -> None:
    seen = SeenRefund(
        id=f"re_{case.code}",
        status=status,
        amount=Money(20_000, "EUR"),
        reference=case.code,
        failure_reason="expired_or_canceled_card" if status == "failed" else "",
    )
    payments.record_refund(refund_code=case.code, seen=seen, actor=SYSTEM, now=NOW)


def _comes_back(case: Case) -> None:
    _hear_of_refund(case, "failed")


# Hosts ----------------------------------------------------------------------------------------------------------------


def _see_bank(case: Case, fingerprint: str) -> HostAccount:
    account = HostAccount.objects.get(host=case.booking.host)
    seen = SeenAccount(
        id=account.provider_id or "",
        reference=case.booking.host.code,
        can_receive=True,
        can_pay_out=True,
        told_everything=True,
        bank_fingerprint=fingerprint,
        bank_hint="•••• 6789",
        country="BE",
    )
    recorded = payouts.record_account(seen=seen, actor=SYSTEM, now=NOW)
    assert recorded is not None
    return recorded


def _one_bank() -> Case:
    case = _stay()
    _see_bank(case, "one")
    return case


def _other_bank(case: Case) -> None:
    """It is news once; finance has asked the host."""
    seen = _see_bank(case, "other")
    with suppress(Conflict):
        payouts.approve_bank(
            host_code=case.booking.host.code,
            reason="She says so",
            version=seen.version,
            actor=_staff("finance"),
            now=NOW,
        )


def _paid_out() -> Case:
    booking = _stay().booking
    at = booking.check_in_at + 25 * HOUR
    release_all(now=at)
    payout = Payout.objects.get(booking=booking)
    assert payout.status == "transferred"
    return Case(booking=booking, code=payout.code, at=at)


def _in_credit() -> Case:
    """A debt that the host had paid is none after all."""
    case = _paid_out()
    key = case.booking.host.code
    with transaction.atomic():
        ledger_operations.post(
            key=f"reversal:{key}",
            kind="reversal",
            lines=[Line("1310", key, -4_000, "EUR"), Line("5200", f"du_{key}", 4_000, "EUR")],
            subject=case.booking.code,
            effective_at=case.at,
            actor=SYSTEM,
            now=case.at,
        )
    return case


def _pay_credit(case: Case) -> None:
    payouts.pay_credit(host_code=case.booking.host.code, currency="EUR", actor=SYSTEM, now=case.at)


def _claimed() -> Case:
    booking = _stay().booking
    payout = Payout.objects.get(booking=booking)
    at = booking.check_in_at + 25 * HOUR
    assert payouts.release(payout_code=payout.code, actor=SYSTEM, now=at).claimed
    return Case(booking=booking, code=payout.code, at=at)


def _refuse_transfer(case: Case) -> None:
    payouts.fail_transfer(payout_code=case.code, failure="No such destination", tries=1, actor=SYSTEM, now=case.at)


def _transfer_comes_back(case: Case) -> None:
    """The provider's movement is imported, and the next run finds the payout it is about."""
    payout = Payout.objects.get(code=case.code)
    amount = Money(payout.transfer_amount, "EUR")
    transfer = f"tr_{payout.pk}_1"
    row = SeenBalanceTransaction(
        id=f"txn_{transfer}_back",
        type="transfer_failure",
        reporting_category="transfer_reversal",
        source_id=transfer,
        source_reference=payout.code,
        amount=amount,
        fee=Money.zero("EUR"),
        net=amount,
        created=case.at,
        available_on=case.at,
        account=f"acct_{payout.host_id}",
        host=payout.host.code,
    )
    payments.import_transactions(rows=[row], actor=SYSTEM, now=case.at)
    for code, found in payout_queries.transfers_come_back(now=case.at):
        payouts.note_transfer_failure(
            payout_code=code, transfer_id=found, failure="it came back", actor=SYSTEM, now=case.at
        )


def _owing() -> Case:
    """Sent; and the host owes us since, which finance asks back from it."""
    case = _paid_out()
    owes(case.booking.host, Money(4_000, "EUR"), at=case.at)
    payout = Payout.objects.get(code=case.code)
    asked = payouts.request_clawback(
        payout_code=case.code,
        amount=Money(4_000, "EUR"),
        reason="Owed",
        version=payout.version,
        actor=_staff("finance"),
        now=case.at,
    )
    payouts.claim_clawback(clawback_code=asked.code, now=case.at)
    return Case(booking=case.booking, code=asked.code, at=case.at)


def _refuse_clawback(case: Case) -> Clawback:
    return payouts.fail_clawback(
        clawback_code=case.code, failure="balance_insufficient", tries=1, actor=SYSTEM, now=case.at
    )


def _refused_once() -> Case:
    case = _owing()
    return Case(booking=case.booking, code=case.code, version=_refuse_clawback(case).version, at=case.at)


def _ask_again(case: Case) -> None:
    claw_back.retry(clawback_code=case.code, version=case.version, actor=_staff("finance"), now=case.at)


# What a card network says ---------------------------------------------------------------------------------------------


def _warn(case: Case) -> None:
    payment = Payment.objects.get(booking=case.booking)
    seen = SeenFraudWarning(
        id=f"issfr_{payment.code}",
        charge_id=payment.charge_id or "",
        payment_id=payment.provider_id or "",
        kind="made_with_stolen_card",
        actionable=True,
    )
    payments.record_warning(seen=seen, actor=SYSTEM, now=NOW)


def _dispute(case: Case, status: str) -> Chargeback:
    """The network's news of the first payment."""
    payment = Payment.objects.get(booking=case.booking)
    seen = SeenDispute(
        id=f"du_{payment.code}",
        status=status,
        kind="chargeback",
        amount=Money(payment.amount, "EUR"),
        charge_id=payment.charge_id or "",
        payment_id=payment.provider_id or "",
        opened=case.at,
        due_by=case.at + 240 * HOUR,
    )
    found, _ = payments.record_dispute(seen=seen, actor=SYSTEM, now=case.at)
    return found


def _lost() -> Case:
    """The network decided against us when the host had been paid."""
    case = _paid_out()
    payment = Payment.objects.get(booking=case.booking)
    amount = Money(payment.amount, "EUR")
    dispute = f"du_{payment.code}"
    row = SeenBalanceTransaction(
        id=f"txn_{dispute}",
        type="adjustment",
        reporting_category="dispute",
        source_id=dispute,
        source_reference="",
        amount=-amount,
        fee=Money(2_000, "EUR"),
        net=-amount - Money(2_000, "EUR"),
        created=case.at,
        available_on=case.at,
    )
    payments.import_transactions(rows=[row], actor=SYSTEM, now=case.at)
    _dispute(case, "needs_response")
    found = _dispute(case, "lost")
    assert found.loss_posted_at is not None
    return Case(booking=case.booking, code=found.code, version=found.version, at=case.at)


def _let_host_bear(case: Case) -> None:
    payments.bear_loss(
        code=case.code, bearer="host", reason="Terms", version=case.version, actor=_staff("finance"), now=case.at
    )


def _remind(case: Case) -> None:
    payments.remind_of_chargeback(code=case.code, actor=SYSTEM, now=case.at)


def _decided(act: Callable[[Case], object]) -> Callable[[Case], None]:
    """Who tries again what was decided before the power went is refused, and that is right."""

    def tried(case: Case) -> None:
        with suppress(Conflict):
            act(case)

    return tried


STORIES: dict[str, tuple[Callable[[], Case], Callable[[Case], object]]] = {
    "an instalment is given up": (_on_its_last_day, _give_up),
    "what is due to a host is held back": (_stay, _hold),
    "it is held back for longer": (_held, _decided(_extend)),
    "it is let go": (_held, _decided(_lift)),
    "its time is up": (_held, _run_out),
    "nobody came": (partial(_begun, nights=45), _decided(_nobody_came)),
    "we bear the damage": (_unpaid, _cover),
    "damage is asked for": (_begun, _ask),
    "damage is approved": (_asked, _decided(_approve)),
    "a stay begins and ends": (_stay, _passes),
    "damage is refused": (_asked, _decided(_refuse_damage)),
    "damage is asked for no more": (_approved, _decided(_drop_damage)),
    "a refund is asked for by one and approved by another": (_shown, _two_decide),
    "a refund is refused": (_requested, _decided(_refuse_refund)),
    "a refund is taken back": (_requested, _decided(_take_back_refund)),
    "a refund comes back from the bank": (_refunded, _comes_back),
    "a host has another bank": (_one_bank, _other_bank),
    "a transfer is refused": (_claimed, _refuse_transfer),
    "a host is owed back": (_in_credit, _pay_credit),
    "an issuer warns": (_stay, _warn),
    "we are reminded of a chargeback": (_lost, _remind),
    "a transfer comes back": (_paid_out, _transfer_comes_back),
    "the host bears what was lost": (_lost, _decided(_let_host_bear)),
    "an instalment is charged too late": (_ended_meanwhile, _charged_too_late),
    "a clawback is refused": (_owing, _refuse_clawback),
    "a clawback is asked for again": (_refused_once, _decided(_ask_again)),
    "what came too late goes back once nothing holds it": (_waits, _won),
}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(story: str) -> None:
    for role in ROLES:
        _staff(role)
    begin, act = STORIES[story]
    moments = cut_everywhere(begin=begin, act=act, recover=lambda: None, end=end_of)
    assert len(moments) >= 2, moments
    # What clears with the provider's movements, which nobody imports here, stands open.
    assert [one for one in ledger.check(now=NOW + 100 * 24 * HOUR) if not one.ok and one.check != "clearing"] == []
