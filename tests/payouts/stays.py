"""Stays that were paid, told to the desk as the provider would; nothing here needs the provider itself."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.money import Money
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import ExtraCharge, Payment
from backoffice.payments.policies import pro_rata
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenPayment, SeenTransfer
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import HostAccount, Payout
from backoffice.people.models import User
from backoffice.workflows.settle_payment import settle
from tests import factories
from tests.factories import NOW, SYSTEM

_number = count(1)


def host(*, ready: bool = True, now: datetime = NOW) -> User:
    """A host who can receive, unless said."""
    bob = factories.person("Bob", is_host=True, now=now)
    if ready:
        HostAccount.objects.create(
            host=bob,
            provider_id=f"acct_{bob.pk}",
            status="enabled",
            country="BE",
            can_receive=True,
            can_pay_out=True,
            created_at=now,
        )
    return bob


def paid_stay(
    *, of: User | None = None, check_in: date | None = None, now: datetime = NOW, home: Any = None, **options: Any
) -> Booking:
    """A confirmed stay, 40 days ahead unless said, whose charge the provider has settled in its own currency."""
    owner = of or (home.host if home is not None else host(now=now))
    home = home or factories.listing(owner, now=now, maximum_nights=120)
    check_in = check_in or (now + timedelta(days=40)).date()
    booking = factories.booking(home, now=now, check_in=check_in, **options)
    with transaction.atomic():
        locked = bookings.lock(code=booking.code)
        payments.begin_attempt(
            booking=locked, payment_method="pm_card_visa", actor=factories.acting(booking.guest), now=now
        )
    payment = Payment.objects.get(booking=booking)
    number = next(_number)
    charge = f"ch_{number}"
    seen = SeenPayment(
        id=f"pi_{number}",
        status="captured",
        amount=Money(payment.amount, payment.currency),
        reference=payment.code,
        charge_id=charge,
        taken=Money(payment.amount, payment.currency),
        customer_id=f"cus_{number}",
        payment_method="pm_card_visa",
    )
    settle(seen=seen, actor=SYSTEM, now=now)
    settled(charge, payment, now)
    return Booking.objects.select_related("host", "guest", "listing").get(pk=booking.pk)


def pay_instalments(booking: Booking, *, now: datetime) -> None:
    """The guest pays what is due of a long stay."""
    for charge in ExtraCharge.objects.filter(booking=booking, status__in=["scheduled", "failed"], due_at__lte=now):
        charged(charge, now=now)
        settled(f"ch_{charge.code}", charge, now)


def captured(charge: ExtraCharge) -> SeenPayment:
    """What the provider says of an extra charge that it took."""
    amount = Money(charge.amount, charge.currency)
    return SeenPayment(
        id=f"pi_{charge.code}",
        status="captured",
        amount=amount,
        reference=charge.code,
        charge_id=f"ch_{charge.code}",
        taken=amount,
    )


def charged(charge: ExtraCharge, *, now: datetime) -> ExtraCharge:
    """An extra charge that was tried and taken."""
    ExtraCharge.objects.filter(pk=charge.pk).update(status="submitted")
    payments.record_charge(charge_code=charge.code, seen=captured(charge), actor=SYSTEM, now=now)
    return ExtraCharge.objects.get(pk=charge.pk)


def settled(charge: str, payment: Payment | ExtraCharge, now: datetime) -> None:
    """The provider's movement of a charge, without a fee."""
    amount = Money(payment.amount, payment.currency)
    payments.import_transactions(
        rows=[
            SeenBalanceTransaction(
                id=f"txn_{charge}",
                type="charge",
                reporting_category="charge",
                source_id=charge,
                source_reference=payment.code,
                amount=amount,
                fee=Money.zero(amount.currency),
                net=amount,
                created=now,
                available_on=now,
                presented=amount,
            )
        ],
        actor=SYSTEM,
        now=now,
    )


def refund(booking: Booking, amount: int, *, now: datetime) -> Money:
    """Approve a refund of this much, pro rata of what is left; the provider is not asked. Returns the host's part."""
    with transaction.atomic():
        locked = bookings.lock(code=booking.code)
        payment = payments.lock_payment(booking=locked)
        limits = payment_queries.refund_limits(payment=payment)
        parts = pro_rata(remaining=limits.parts, amount=Money(amount, booking.currency))
        payments.open_refund(
            payment=payment,
            amount=Money(amount, payment.currency),
            parts=parts,
            platform_share=Money.zero(booking.currency),
            cause="service_issue",
            bearer="host",
            reason="No hot water",
            idempotency_key=f"refund-{next(_number)}",
            approved=True,
            actor=SYSTEM,
            now=now,
        )
        payouts.schedule(booking=locked, now=now)
    return parts.held


def sent(payout: Payout, *, now: datetime) -> Payout:
    """The provider's answer to a transfer that was claimed."""
    return payouts.record_transfer(
        payout_code=payout.code,
        seen=SeenTransfer(
            id=f"tr_{payout.pk}_{payout.tries}",
            amount=Money(payout.transfer_amount, payout.transfer_currency),
            reversed_amount=Money.zero(payout.transfer_currency),
            account="acct",
            reference=payout.code,
        ),
        actor=SYSTEM,
        now=now,
    )


def release_all(*, now: datetime) -> list[Payout]:
    """What a run does with what is due and may have stopped waiting, the provider saying yes to every transfer."""
    for code in queries.holds_expired(now=now):
        payouts.expire_hold(hold_code=code, actor=SYSTEM, now=now)
    done = []
    for code in queries.to_release(now=now):
        released = payouts.release(payout_code=code, actor=SYSTEM, now=now)
        done.append(sent(released.payout, now=now) if released.claimed else released.payout)
    return done
