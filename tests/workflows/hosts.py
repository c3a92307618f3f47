"""Steps that the tests of money out share: a host whose account the provider has made and looked at."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import transaction

from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.listings.models import Listing
from backoffice.payments import policies as posting
from backoffice.payments import queries as payments
from backoffice.payments.gateway.stripe import gateway
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import HostAccount, Payout
from backoffice.people.models import User
from backoffice.workflows import import_balance_transactions, onboard_host
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now, paid

BACK = "https://desk.example/payouts"


def begun(host: User) -> HostAccount:
    """The host has asked to be paid and told the provider nothing yet."""
    onboard_host.begin(actor=factories.acting(host, now=now()), now=now(), return_url=BACK, country="BE")
    account = payouts.account_of(host_id=host.id)
    assert account is not None and account.provider_id
    return account


def onboarded(sandbox: RunningSandbox, host: User, *, number: str = "000123456789") -> HostAccount:
    """The host has told the provider everything; `number` decides how payouts to their bank end."""
    account = begun(host)
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/onboard", {"account_number": number})
    return onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=now())


def change_bank(sandbox: RunningSandbox, account: HostAccount, number: str) -> None:
    """The host (or who has their password) puts another bank account in."""
    assert account.provider_id is not None
    bank: Any = {"account_number": number, "country": account.country, "currency": "eur"}
    sandbox.client().v1.accounts.external_accounts.create(
        account.provider_id, {"bank_account": bank, "default_for_currency": True}
    )


def sent(
    sandbox: RunningSandbox, host: User, *, payment_method: str = "pm_card_bypassPending", home: Listing | None = None
) -> Payout:
    """A stay of the host's that was paid and whose share was sent to them; the provider's movements are imported.

    Made from the parts of a release, so that what comes after it can be tested apart from it."""
    account = payouts.account_of(host_id=host.id) or onboarded(sandbox, host)
    booking = paid(home=home or factories.listing(host, now=now()), payment_method=payment_method)
    payment = payments.payment_of(booking=booking)
    assert payment is not None and payment.charge_id and account.provider_id
    parts, keys = payments.parts_of(payment=payment), payments.posting_keys(booking=booking)
    Payout.objects.filter(booking=booking).delete()  # the plan, which waits for its day
    # The confirmed booking has scheduled it; here it is sent at once.
    payout, _ = Payout.objects.update_or_create(
        booking=booking,
        number=1,
        defaults={
            "host": host,
            "status": "in_transfer",
            "held": parts.held.amount,
            "host_fee": parts.host_fee.amount,
            "guest_fee": parts.guest_fee.amount,
            "currency": booking.currency,
            "transfer_amount": parts.held.amount,
            "transfer_currency": booking.currency,
            "due_at": now(),
            "policy": "timings@1",
            "created_at": now(),
        },
    )
    with transaction.atomic():
        for kind, lines in (
            ("release", posting.released(parts=parts, keys=keys)),
            ("transfer", posting.transfer_requested(host=host.code, transfer=payout.code, amount=parts.held)),
        ):
            ledger.post(
                key=f"{kind}:{payout.code}",
                kind=kind,
                lines=lines,
                subject=booking.code,
                effective_at=now(),
                actor=factories.SYSTEM,
                now=now(),
            )
    seen = gateway().transfer(
        amount=parts.held,
        account=account.provider_id,
        charge_id=payment.charge_id,
        group=booking.code,
        reference=payout.code,
        host=host.code,
        key=f"transfer:{payout.code}:1",
    )
    Payout.objects.filter(id=payout.id).update(status="transferred", transfer_id=seen.id, transferred_at=now())
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    return Payout.objects.get(id=payout.id)


def owes(host: User, amount: Money, *, at: datetime | None = None, fact: str = "") -> None:
    """The host owes us, as after a cancellation of theirs."""
    at = at or now()
    with transaction.atomic():
        ledger.post(
            key=f"penalty:{host.code}:{fact or uuid4().hex}",
            kind="penalty",
            lines=posting.penalised(host=host.code, amount=amount),
            subject=host.code,
            effective_at=at,
            actor=factories.SYSTEM,
            now=at,
        )
