"""Hosts' accounts at the provider: begun here, taken over from what the provider shows, new bank details approved."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NotAllowed, NotFound, Refused, StaleVersion
from backoffice.notifications import operations as notifications
from backoffice.payments.policies.seen_accounts import SeenAccount
from backoffice.payouts import queries
from backoffice.payouts.models import HostAccount, Payout
from backoffice.payouts.policies.accounts import bank_changed, is_country, is_country_settled, status_after
from backoffice.people import queries as people
from backoffice.rulebook import queries as rulebook

_NEXT = timedelta(microseconds=1)
_TOLD = ("can_receive", "can_pay_out", "missing", "disabled_reason")


def begin_account(*, host_id: int, country: str, actor: Actor, now: datetime) -> HostAccount:
    """A host wants to be paid: the row that their account at the provider will be kept in. Repeating it changes nothing; with
    another country it takes that, until the account is there. While the provider is being asked to make it, it stays what
    it is asked for.

    Raises NotAllowed for another than the host, Invalid for a country that is none."""
    grant = actor.must("payouts.onboard")
    if grant.scope == "own" and actor.id != host_id:
        raise NotAllowed(verb="set up payouts for somebody else")
    host = people.person(person_id=host_id)
    if not host.is_host:
        raise NotAllowed(verb="set up payouts without being a host")
    country = country.upper()
    if not is_country(country):
        raise Invalid("country: write the two letters of the country you live in, such as BE.", field="country")
    with transaction.atomic():
        # A host who clicks twice: the unique host makes both clicks one row.
        _, fresh = HostAccount.objects.get_or_create(host_id=host_id, defaults={"country": country, "created_at": now})
        # The provider's answer to an earlier click may come at this moment: then the account is made.
        account = HostAccount.objects.select_for_update(of=("self",)).select_related("host").get(host_id=host_id)
        before = account.country
        settled = is_country_settled(made=account.provider_id is not None, asked_at=account.asked_at, now=now)
        if not settled and before != country:
            account.country, account.version = country, account.version + 1
            account.save(update_fields=["country", "version"])
            _note(account, "move", actor, now, before={"country": before}, after={"country": country})
        if fresh:
            _note(account, "begin", actor, now, after={"status": account.status, "country": account.country})
    return account


def ask_for_account(*, host_id: int, now: datetime) -> tuple[HostAccount, bool]:
    """The provider is about to be asked to make a host's account, and whether nobody else may be asking it at this moment.
    Its country stays for as long as that takes, so that everybody who asks at once asks for the same account under the same
    key."""
    with transaction.atomic():
        # Two clicks with different countries: the second waits here, and asks for what the first one asks for.
        account = HostAccount.objects.select_for_update(of=("self",)).select_related("host").get(host_id=host_id)
        alone = not is_country_settled(made=account.provider_id is not None, asked_at=account.asked_at, now=now)
        if account.provider_id is None:
            # Never the same instant twice: who asks after another moves it on, and so is noticed by them.
            account.asked_at = max(now, account.asked_at + _NEXT) if account.asked_at is not None else now
            account.save(update_fields=["asked_at"])
    return account, alone


def refuse_account(*, host_id: int) -> None:
    """The provider refused to make a host's account: nothing was made, and another country may be tried."""
    # One that was found or made meanwhile stays.
    HostAccount.objects.filter(host_id=host_id, provider_id=None).update(asked_at=None)


def was_not_asked(*, account: HostAccount) -> None:
    """The provider was never asked to make this account after all, by the only one who was about to: another country may be
    tried at once, unless somebody has begun to ask since."""
    HostAccount.objects.filter(pk=account.pk, provider_id=None, asked_at=account.asked_at).update(asked_at=None)


def record_account(*, seen: SeenAccount, actor: Actor, now: datetime) -> HostAccount | None:
    """Take over what the provider shows of a host's account; None when it is none of ours. Old news changes nothing.

    Other bank details than before begin the cool-down and wait for finance (`approve_bank`); the host is told."""
    with transaction.atomic():
        # A webhook and the poll at once: the second finds everything as it is.
        found = HostAccount.objects.select_for_update(of=("self",)).select_related("host")
        account = found.filter(provider_id=seen.id).first() or found.filter(host__code=seen.reference).first()
        if account is None:
            return None
        if account.provider_id is not None and account.provider_id != seen.id:
            raise Conflict(f"The provider's account {seen.id} is not that of {account.host.code}.", seen=seen.id)
        before, version = _shown(account), account.version
        changed = bank_changed(before=account.bank_fingerprint, seen=seen.bank_fingerprint)
        _take_over(account, seen)
        if changed:
            account.bank_changed_at, account.bank_approved_by = now, None
        after = _shown(account)
        account.seen_at = now
        if after != before:
            account.version = version + 1
            _note(account, "see", actor, now, before=before, after=after)
            _tell(account, before["status"], changed=changed, now=now)
        account.save()
        if after != before:
            _show_waiting(account, now)
    return account


def approve_bank(*, host_code: str, reason: str, version: int, actor: Actor, now: datetime) -> HostAccount:
    """Finance has checked with the host that the new bank details are theirs; what is due goes there once they have rested.

    Raises Refused without a reason, Conflict when nothing waits for approval, StaleVersion."""
    actor.must("payouts.approve_bank")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        # The host may change them again at this moment: what was shown must be what is approved.
        account = (
            HostAccount.objects.select_for_update(of=("self",))
            .select_related("host")
            .filter(host__code=host_code)
            .first()
        )
        if account is None:
            raise NotFound(kind="host account")
        if account.version != version:
            raise StaleVersion(kind="host account")
        if account.host_id == actor.id:
            raise NotAllowed(verb="approve bank details of your own")
        if account.bank_changed_at is None or account.bank_approved_by_id is not None:
            raise Conflict("No new bank details of this host wait for approval.")
        account.bank_approved_by_id = actor.id
        account.version += 1
        account.save(update_fields=["bank_approved_by", "version"])
        _note(account, "approve_bank", actor.because(reason), now, after={"bank_approved": True})
    return account


# Private --------------------------------------------------------------------------------------------------------------


def _take_over(account: HostAccount, seen: SeenAccount) -> None:
    account.provider_id, account.country = seen.id, seen.country or account.country
    account.can_receive, account.can_pay_out = seen.can_receive, seen.can_pay_out
    account.missing, account.disabled_reason = list(seen.missing), seen.disabled_reason[:120]
    account.bank_hint = seen.bank_hint[:40]
    # What was taken away is kept, so that what replaces it is seen to be another.
    account.bank_fingerprint = seen.bank_fingerprint or account.bank_fingerprint
    account.status = status_after(
        before=account.status,
        can_receive=seen.can_receive,
        can_pay_out=seen.can_pay_out,
        told_everything=seen.told_everything,
    )


def _show_waiting(account: HostAccount, now: datetime) -> None:
    """What is due to the host waits for what their account waits for now; the run passes over it until they can receive."""
    waiting = queries.can_receive(host_id=account.host_id, now=now)
    if waiting is None:
        return
    # One that is being released at this moment is left to that release: it locks in the other order.
    due = Payout.objects.select_for_update(skip_locked=True).filter(
        host_id=account.host_id, status__in=["scheduled", "releasable"], due_at__lte=now
    )
    for row in due.order_by("id"):
        row.waits_for, row.waits_until = waiting.sentence[:200], waiting.until
        row.version += 1
        row.save(update_fields=["waits_for", "waits_until", "version"])


def _shown(account: HostAccount) -> dict[str, Any]:
    """What a change is told by. Of the bank account the log keeps that it changed, and when: its number is personal."""
    return {
        "provider_id": account.provider_id or "",
        "status": account.status,
        "bank_changed_at": account.bank_changed_at.isoformat() if account.bank_changed_at else "",
        **{name: getattr(account, name) for name in _TOLD},
    }


def _note(
    account: HostAccount,
    act: str,
    actor: Actor,
    now: datetime,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any],
) -> None:
    audit.record(
        actor=actor,
        verb=f"payouts.account.{act}",
        kind="host_account",
        id=account.host.code,
        before=before,
        after=after,
        now=now,
    )


def _tell(account: HostAccount, status_before: str, *, changed: bool, now: datetime) -> None:
    host = account.host
    if changed:
        hours = rulebook.recovery(on=now.date()).rules.bank_cool_down_hours
        notifications.tell(
            topic="bank_details_changed",
            recipient_id=host.id,
            address=host.email,
            context={"bank": account.bank_hint, "hours": str(hours)},
            now=now,
        )
    if account.status != status_before:
        notifications.tell(
            topic=f"payouts_{account.status}", recipient_id=host.id, address=host.email, context={}, now=now
        )
