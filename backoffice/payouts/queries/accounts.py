"""Questions about hosts' accounts at the provider."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from backoffice.core.errors import NotFound
from backoffice.jobs import queries as jobs
from backoffice.payouts.models import HostAccount
from backoffice.payouts.policies.accounts import AccountFacts, Waiting, waiting
from backoffice.rulebook import queries as rulebook


def accounts() -> QuerySet[HostAccount]:
    """Every host's account, newest first."""
    return HostAccount.objects.select_related("host", "bank_approved_by").order_by("-id")


def account_of(*, host_id: int) -> HostAccount | None:
    """The account of a host; None when they have not begun."""
    return accounts().filter(host_id=host_id).first()


def account_by_host(*, host_code: str) -> HostAccount:
    """The account of the host with this code. Raises NotFound."""
    found = accounts().filter(host__code=host_code).first()
    if found is None:
        raise NotFound(kind="host account")
    return found


def is_account_known(*, provider_id: str) -> bool:
    """Whether one of our hosts has this account at the provider."""
    return HostAccount.objects.filter(provider_id=provider_id).exists()


def facts_of(account: HostAccount) -> AccountFacts:
    """What the policy asks of an account."""
    return AccountFacts(
        made=account.provider_id is not None,
        can_receive=account.can_receive,
        missing=tuple(account.missing),
        disabled_reason=account.disabled_reason,
        bank_changed_at=account.bank_changed_at,
        bank_approved=account.bank_approved_by_id is not None,
    )


def can_receive(*, host_id: int, now: datetime) -> Waiting | None:
    """Why nothing can be sent to this host now, and until when; None when it can. Every release asks it."""
    account = account_of(host_id=host_id)
    return waiting(
        facts=facts_of(account) if account is not None else None,
        rules=rulebook.recovery(on=now.date()).rules,
        now=now,
    )


def bank_changes_waiting() -> QuerySet[HostAccount]:
    """Accounts whose new bank details finance has not approved yet, the oldest change first."""
    return (
        accounts()
        .filter(bank_changed_at__isnull=False, bank_approved_by__isnull=True)
        .order_by("bank_changed_at", "id")
    )


def accounts_to_ask_about(
    *, now: datetime, older_than: timedelta, after: int | str | None = None, limit: int = 100
) -> list[int]:
    """Accounts whose state at the provider was not looked at for a while, the longest first."""
    stale = Q(seen_at__isnull=True) | Q(seen_at__lt=now - older_than)
    rows = HostAccount.objects.filter(stale, provider_id__isnull=False).order_by("seen_at", "id")
    return jobs.next_of(rows=rows, key="id", after=after, limit=limit)


def account(*, account_id: int) -> HostAccount:
    """One account. Raises NotFound."""
    found = accounts().filter(id=account_id).first()
    if found is None:
        raise NotFound(kind="host account")
    return found
