"""One small desk with something on every page, made through the operations; no provider is needed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from backoffice.audit.models import AuditEntry
from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.console import cells
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.jobs.models import JobRun, Stop
from backoffice.ledger.models import Account, Journal
from backoffice.listings import operations as listings
from backoffice.listings.models import Listing
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.models import BalanceTransaction, Chargeback, ExtraCharge, Payment, Refund, WebhookEvent
from backoffice.payments.policies.chargebacks import SeenDispute
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenEvent, SeenPayment
from backoffice.payouts.models import (
    BankPayout,
    BankPayoutLine,
    Clawback,
    HostAccount,
    Payout,
    PayoutHold,
    WriteOff,
)
from backoffice.people.models import User
from backoffice.reconciliation import operations as reconciliation
from backoffice.reconciliation.models import Break, Run, StatementLine
from backoffice.reconciliation.policies import SeenStatementLine
from backoffice.workflows import refund_booking
from backoffice.workflows.settle_payment import settle
from tests import factories

ROLES = ("support_l1", "support_l2", "team_lead", "finance", "trust_safety", "auditor", "on_call", "admin")
SYSTEM = system("tests")
_number = itertools.count(1)


def now() -> datetime:
    return datetime.now(UTC)


def paid(guest: User | None = None, **options: Any) -> Booking:
    """A confirmed booking whose card was good, as a webhook would have told us."""
    at = now()
    booking = factories.booking(guest=guest or factories.person("Alice", now=at), now=at, **options)
    with transaction.atomic():
        attempt = payments.begin_attempt(
            booking=bookings.lock(code=booking.code),
            payment_method="pm_card_visa",
            actor=factories.acting(booking.guest, now=at),
            now=at,
        )
    payment = attempt.payment
    number = next(_number)
    seen = SeenPayment(
        id=f"pi_{number}",
        status="captured",
        amount=Money(payment.amount, payment.currency),
        reference=payment.code,
        charge_id=f"ch_{number}",
    )
    settle(seen=seen, actor=SYSTEM, now=at)
    return booking_queries.booking(code=booking.code)


def refund(booking: Booking, amount: int, staff: User, key: str = "") -> Refund:
    """A refund that `staff` asks for; over their limit it waits."""
    booking.refresh_from_db()
    return refund_booking.request(
        booking_code=booking.code,
        amount=Money(amount, booking.charge_currency),
        cause="service_issue",
        bearer="host",
        reason="No hot water",
        idempotency_key=key or f"test:{next(_number)}",
        version=Payment.objects.get(booking=booking).version,
        actor=factories.acting(staff, now=now()),
        now=now(),
    )


def staying(booking: Booking) -> Booking:
    """The guest is in the home, and the card that paid was kept."""
    begun = now() - timedelta(hours=1)
    Booking.objects.filter(pk=booking.pk).update(status="checked_in", check_in_at=begun)
    Payment.objects.filter(booking=booking).update(saved_method="pm_kept", customer_id="cus_kept")
    return booking_queries.booking(code=booking.code)


def damage(booking: Booking, staff: User, amount: int = 12_000) -> ExtraCharge:
    """Damage that `staff` asks for; it waits for a second person."""
    return payments.request_damage(
        booking_code=staying(booking).code,
        amount=Money(amount, booking.currency),
        reason="The window is broken",
        actor=factories.acting(staff, now=now()),
        now=now(),
    )


def movement(booking: Booking) -> BalanceTransaction:
    """The charge of a booking as the provider's balance tells it."""
    payment, at = booking.payment, now()
    gross, fee = Money(payment.amount, payment.currency), Money(175, payment.currency)
    row = SeenBalanceTransaction(
        id=f"txn_{next(_number)}",
        type="charge",
        reporting_category="charge",
        source_id=payment.charge_id or "",
        source_reference=payment.code,
        amount=gross,
        fee=fee,
        net=gross - fee,
        presented=gross,
        created=at,
        available_on=at + timedelta(days=2),
        fee_details=({"type": "stripe_fee", "amount": 175, "currency": "eur"},),
    )
    payments.import_transactions(rows=[row], actor=SYSTEM, now=at)
    return BalanceTransaction.objects.get(provider_id=row.id)


def webhook(*, status: str = "failed") -> WebhookEvent:
    """An event of the inbox."""
    number, at = next(_number), now()
    event = SeenEvent(
        id=f"evt_{number}",
        type="charge.updated",
        object_id=f"ch_{number}",
        account="",
        created=at,
        livemode=False,
        payload=b'{"id": "evt", "name": "<b>&amp;</b>"}',
    )
    row = payments.receive_event(event=event, origin="webhook", now=at)
    assert row is not None
    WebhookEvent.objects.filter(pk=row.pk).update(status=status, error="The provider did not answer.", attempts=3)
    row.refresh_from_db()
    return row


def break_(booking: Booking) -> Break:
    at = now()
    run = Run.objects.create(
        scope="stripe", since=at, until=at, actor="beat", status="succeeded", found=1, started_at=at, finished_at=at
    )
    return Break.objects.create(
        identity=f"identity {next(_number)}",
        leg="line",
        key="txn_9",
        cls="amount_mismatch",
        status="open",
        difference=-1,
        currency="EUR",
        subject=booking.code,
        detail={"provider": {"amount": 99, "currency": "EUR"}, "ledger": {"amount": 100, "currency": "EUR"}},
        occurred_at=at,
        first_seen=run,
        last_seen=run,
        opened_at=at,
    )


def payout(booking: Booking, **options: Any) -> Payout:
    """A payout of a booking as the release would leave it: planned, unless `options` say otherwise."""
    at = now()
    facts = {
        "number": 1 + Payout.objects.filter(booking=booking).count(),
        "held": booking.payment.held,
        "host_fee": booking.payment.host_fee,
        "guest_fee": booking.payment.guest_fee,
        "currency": booking.currency,
        "due_at": booking.check_in_at + timedelta(hours=24),
        "policy": "payouts-test",
        "created_at": at,
    }
    return Payout.objects.create(booking=booking, host=booking.host, **{**facts, **options})


def sent(booking: Booking, **options: Any) -> Payout:
    """A payout whose transfer the provider has made."""
    at = now()
    share = booking.payment.held
    facts = {
        "status": "transferred",
        "transfer_amount": share,
        "transfer_currency": booking.currency,
        "transfer_id": f"tr_{next(_number)}",
        "source_charge": booking.payment.charge_id,
        "released_at": at,
        "submitted_at": at,
        "transferred_at": at,
        "tries": 1,
    }
    return payout(booking, **{**facts, **options})


def hold(booking: Booking, staff: User, **options: Any) -> PayoutHold:
    """An active hold on a booking's money."""
    facts = {
        "amount": 5_000,
        "currency": booking.currency,
        "cause": "dispute",
        "reason": "The guest says there was no heating",
        "owner": staff,
        "placed_by": staff,
        "placed_at": now(),
        "expires_at": now() + timedelta(hours=72),
    }
    return PayoutHold.objects.create(booking=booking, **{**facts, **options})


def host_account(booking: Booking, **options: Any) -> HostAccount:
    facts = {
        "provider_id": f"acct_{next(_number)}",
        "country": "BE",
        "status": "enabled",
        "can_receive": True,
        "can_pay_out": True,
        "bank_hint": "KBC ··· 4321",
        "created_at": now(),
        "seen_at": now(),
    }
    return HostAccount.objects.create(host=booking.host, **{**facts, **options})


def clawback(row: Payout, staff: User, **options: Any) -> Clawback:
    facts = {
        "amount": 1_000,
        "currency": row.transfer_currency,
        "status": "failed",
        "reason": "Refunded after the release",
        "failure": "The account holds too little.",
        "tries": 1,
        "requested_by": staff,
        "requested_at": now(),
    }
    return Clawback.objects.create(payout=row, host=row.host, **{**facts, **options})


def bank_payout(row: Payout, *lines: int, **options: Any) -> BankPayout:
    """The provider's payout of a host's account to their bank, itemised by `lines`."""
    facts = {
        "host": row.host,
        "account": "acct_bank",
        "provider_id": f"po_{next(_number)}",
        "status": "paid",
        "amount": row.transfer_amount,
        "currency": row.transfer_currency,
        "automatic": True,
        "created_at": now(),
        "paid_at": now(),
    }
    made = BankPayout.objects.create(**{**facts, **options})
    for net in lines:
        BankPayoutLine.objects.create(
            bank_payout=made,
            provider_id=f"txn_{next(_number)}",
            source_id=row.transfer_id or "",
            reporting_category="transfer",
            net=net,
            currency=made.currency,
            created=now(),
        )
    return made


def write_off(host: User, staff: User, **options: Any) -> WriteOff:
    facts = {
        "amount": 4_475,
        "currency": "EUR",
        "reason": "The host has left the country",
        "proposed_by": staff,
        "proposed_at": now(),
    }
    return WriteOff.objects.create(host=host, **{**facts, **options})


def stopped(scope: str = "refunds", *, ended: bool = False) -> Stop:
    at = now()
    over = {"ended_at": at, "ended_by": "Fay Finance", "ended_reason": "It was a false alarm"} if ended else {}
    return Stop.objects.create(scope=scope, reason="Cards are charged twice", by="Otto On-call", since=at, **over)


def chargeback(booking: Booking, **seen: Any) -> Chargeback:
    """A card network's dispute of a booking's payment, as the provider would show it."""
    at, payment, number = now(), booking.payment, next(_number)
    facts: dict[str, Any] = {
        "id": f"du_{number}",
        "status": "needs_response",
        "kind": "chargeback",
        "amount": Money(payment.amount, payment.currency),
        "charge_id": payment.charge_id,
        "payment_id": payment.provider_id,
        "opened": at - timedelta(days=1),
        "reason": "fraudulent",
        "network_reason": "10.4",
        "network": "visa",
        "due_by": at + timedelta(days=13),
        **seen,
    }
    return payments.record_dispute(seen=SeenDispute(**facts), actor=SYSTEM, now=at)[0]


def late(booking: Booking, amount: int = 8_000) -> Refund:
    """An instalment that was captured after its stay had ended, and what goes back of it by rule."""
    number = next(_number)
    charge = ExtraCharge.objects.create(
        booking=booking, kind="instalment", number=number, status="captured", amount=amount, currency="EUR", held=amount,
        charge_id=f"ch_late_{number}", due_at=now(), captured_at=now(), created_at=now(),
    )  # fmt: skip
    with transaction.atomic():
        return payments.give_back_late(
            payment=booking.payment, charge=charge, reason="charged too late", actor=SYSTEM, now=now()
        )


def bank_line(amount: int = 8_485, **facts: Any) -> StatementLine:
    """A line of our bank's statement, as it was read; nothing is posted for it yet."""
    day = now().date()
    seen = SeenStatementLine(
        account="BE68539007547034",
        reference=facts.pop("reference", f"REF-{next(_number)}"),
        amount=Money(amount, "EUR"),
        booked_on=day,
        value_on=day,
        **facts,
    )
    reconciliation.import_lines(lines=[seen], actor=SYSTEM, now=now())
    return StatementLine.objects.latest("id")


@dataclass
class World:
    """The desk; `rows` names one row for every page there is."""

    staff: dict[str, User]
    booking: Booking
    waiting: Refund
    listing_in_review: Listing
    webhook: WebhookEvent
    rows: dict[type[Model], Model] = field(default_factory=dict)

    def client(self, role: str, **options: Any) -> Client:
        client = Client(**options)
        client.force_login(self.staff[role])
        return client


def build() -> World:
    at = now()
    staff = {role: factories.staff(role, now=at) for role in ROLES}
    staff["nobody"] = factories.person("No Role", is_staff=True, now=at)
    booking = paid()
    waiting = refund(booking, 15_000, staff["support_l1"])
    refund(booking, 2_000, staff["support_l2"])
    draft = factories.listing(now=at, publish=False)
    listings.submit(code=draft.code, actor=factories.acting(draft.host, now=at), now=at)
    draft.refresh_from_db()
    event = webhook()
    run = JobRun.objects.create(
        name="reconciliation.run",
        actor="beat",
        host="desk",
        pid=1,
        status="failed",
        started_at=at,
        finished_at=at,
        heartbeat_at=at,
        counts={"lines": 3},
        error="The provider did not answer.",
    )
    found = break_(booking)
    planned, paid_out = payout(booking), sent(paid())
    world = World(staff, booking, waiting, draft, event)
    world.rows = {
        User: booking.guest,
        Listing: draft,
        Booking: booking,
        Payment: booking.payment,
        Refund: waiting,
        ExtraCharge: damage(paid(), staff["support_l2"]),
        BalanceTransaction: movement(booking),
        WebhookEvent: event,
        Account: Account.objects.order_by("id")[0],
        Journal: Journal.objects.order_by("id")[0],
        AuditEntry: AuditEntry.objects.order_by("seq")[0],
        JobRun: run,
        OutboxMessage: OutboxMessage.objects.order_by("id")[0],
        Break: found,
        Chargeback: chargeback(paid()),
        Run: found.first_seen,
        StatementLine: bank_line(),
        Payout: planned,
        PayoutHold: hold(booking, staff["support_l2"]),
        HostAccount: host_account(booking),
        Clawback: clawback(paid_out, staff["finance"]),
        WriteOff: write_off(booking.host, staff["finance"]),
        BankPayout: bank_payout(paid_out, paid_out.transfer_amount),
        Stop: stopped(ended=True),
    }
    return world


@dataclass(frozen=True)
class Address:
    """One address of the console: what it is, and the verbs that open it."""

    kind: str
    path: str
    verbs: tuple[str, ...]
    name: str


def addresses(world: World) -> list[Address]:
    """Every address of every admin that is registered, with a row of the world where one is named."""
    found = []
    for model, page in admin.site._registry.items():
        place = f"{model._meta.app_label}_{model._meta.model_name}"
        key = str(cells.key_of(world.rows[model], page.key))
        found.append(Address("list", reverse(f"admin:{place}_changelist"), (page.verb,), f"{place}_changelist"))
        found.append(Address("page", reverse(f"admin:{place}_change", args=[key]), (page.verb,), f"{place}_change"))
        for overview in page.overviews:
            name = f"{place}_{overview.name}"
            found.append(Address("page", reverse(f"admin:{name}"), (page.verb,), name))
        if page.export_verb:
            verbs = (page.verb, page.export_verb)
            found.append(Address("export", reverse(f"admin:{place}_export"), verbs, f"{place}_export"))
        for dialog in page.dialogs:
            name = f"{place}_{dialog.name}"
            found.append(Address("dialog", reverse(f"admin:{name}", args=[key]), (page.verb, dialog.verb), name))
    return found
