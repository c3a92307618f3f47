"""A host sets up payouts: their account at the provider is made, and they are led to what it asks of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Indeterminate, Invalid, NotFound, ProviderError, UpstreamUnavailable
from backoffice.listings.models import Listing
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.gateway.submit import outside_transaction
from backoffice.payments.policies.seen_accounts import SeenAccount
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import HostAccount

# The provider lists by its own clock, to the second.
_A_MOMENT: Final = timedelta(minutes=5)


def begin(*, actor: Actor, now: datetime, return_url: str, country: str = "") -> str:
    """Where the host goes to tell the provider who they are; they come back to `return_url`. Doing it again is harmless.

    `country` (two letters) is what they said before, or that of their first home, unless given. Raises Invalid when none is
    known, NotAllowed for somebody who is no host, Conflict for a process, UpstreamUnavailable when the provider does not
    answer."""
    if actor.id is None:
        raise Conflict("Payouts are set up by the host themselves.")
    account = payouts.begin_account(
        host_id=actor.id, country=country or _country_of(host_id=actor.id), actor=actor, now=now
    )
    account = ensure_made(account=account, actor=actor, now=now)
    assert account.provider_id is not None  # it has just been made
    return gateway().onboarding_link(account_id=account.provider_id, return_url=return_url)


def ensure_made(*, account: HostAccount, actor: Actor, now: datetime) -> HostAccount:
    """The account with its id at the provider: made now, or found there when an earlier answer was lost."""
    if account.provider_id is not None:
        return account
    outside_transaction()
    account, alone = payouts.ask_for_account(host_id=account.host_id, now=now)
    if account.provider_id is not None:
        return account
    try:
        seen = _found(account) or _made(account)
    except Indeterminate:
        raise
    except UpstreamUnavailable:  # it was only looked for, or there was no time for it
        if alone:
            payouts.was_not_asked(account=account)
        raise
    recorded = payouts.record_account(seen=seen, actor=actor, now=now)
    assert recorded is not None  # the row is there: begun in this journey
    return recorded


def _found(account: HostAccount) -> SeenAccount | None:
    """What an earlier call has made whose answer was lost, whatever country it was for."""
    return gateway().find_account(reference=account.host.code, since=account.created_at - _A_MOMENT)


def _made(account: HostAccount) -> SeenAccount:
    host = account.host
    try:
        return gateway().open_account(
            country=account.country,
            email=host.email,
            reference=host.code,
            key=f"account:{host.code}:{account.country}",
        )
    except ProviderError:
        payouts.refuse_account(host_id=account.host_id)
        raise


def refresh(*, host_code: str, actor: Actor, now: datetime) -> HostAccount:
    """Ask the provider how a host's account stands, and take it over. Raises NotFound before they have begun."""
    account = payout_queries.account_by_host(host_code=host_code)
    if account.provider_id is None:
        return account
    recorded = payouts.record_account(seen=gateway().account(account_id=account.provider_id), actor=actor, now=now)
    if recorded is None:
        raise NotFound(kind="host account")
    return recorded


def _country_of(*, host_id: int) -> str:
    begun = payout_queries.account_of(host_id=host_id)
    if begun is not None:
        return begun.country
    home = Listing.objects.filter(host_id=host_id).order_by("id").values_list("country", flat=True).first()
    if not home:
        raise Invalid("country: write the two letters of the country you live in, such as BE.", field="country")
    return str(home)
