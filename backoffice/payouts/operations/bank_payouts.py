"""What leaves for a bank: sweeps of what we earned, claimed and recorded here, and hosts' payouts as the provider makes
them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from django.db import connection, transaction
from django.db.models import Q, Sum

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, InFlight, NotFound, Refused
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.policies import Line
from backoffice.notifications import operations as notifications
from backoffice.payments import policies as posting
from backoffice.payments.policies.seen_accounts import SeenBankPayout, SeenBankPayoutLine
from backoffice.payouts import queries
from backoffice.payouts.models import BankPayout, BankPayoutLine, HostAccount, Payout
from backoffice.payouts.policies.bank_payouts import ACTIONS, KEPT, LEFT, Sweep, SweepFacts, sent_back, sweep
from backoffice.payouts.queries.bank_payouts import CONNECTED_BALANCE, MOVED_AND_KEPT, UNSWEPT, facts_of, kept_codes
from backoffice.payouts.states import BANK_PAYOUT, PAYOUT, SENT

# Every movement since the last sweep becomes a line of this one, in the very snapshot in which what is kept is read.
_CARRY: Final = MOVED_AND_KEPT.format(
    moved=f"""
INSERT INTO payouts_bankpayoutline
    (bank_payout_id, provider_id, source_id, transfer_id, reporting_category, net, currency, created)
SELECT %(sweep)s, moved.provider_id, moved.source_id, '', moved.reporting_category, moved.net, moved.currency, moved.created
{UNSWEPT}
RETURNING net
"""
)


def claim_sweep(
    *, currency: str, available: Money, least: Money, reason: str, actor: Actor, now: datetime
) -> BankPayout:
    """Write down a sweep of what is earned, with its lines, before the provider is asked for it.

    Raises Refused without a reason, InFlight while another of the currency is under way, Conflict when less than `least`
    is earned and available."""
    actor.must("payouts.sweep")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        _assert_none_under_way(currency)
        # Of two claims at once the unique index lets one through: the other waits here, then fails.
        row = BankPayout.objects.create(
            account="",
            amount=0,
            currency=currency,
            requested_by_id=actor.id,
            reason=reason.strip(),
            created_at=now,
        )
        facts = _carry(row, available, now)
        decided = sweep(facts=facts)
        if decided.amount < least:
            raise Conflict(
                f"There is nothing to sweep in {currency}: {decided.amount} is earned and available, "
                f"the least is {least}.",
                earned=str(decided.amount),
                least=str(least),
            )
        row.amount = decided.amount.amount
        row.save(update_fields=["amount"])
        _write_stays(row, decided, now)
        audit.record(
            actor=actor.because(reason),
            verb="payouts.sweep.request",
            kind="bank_payout",
            id=row.code,
            after={
                "amount": row.amount,
                "currency": currency,
                "balance": facts.balance.amount,
                "available": available.amount,
                "movements": facts.movements,
            },
            now=now,
        )
    return row


def lose_sight_of_sweep(*, code: str, now: datetime) -> None:
    """The provider's answer was lost: the payout is looked for, then asked again with the same key."""
    with transaction.atomic():
        row = BankPayout.objects.select_for_update().get(code=code)
        if BANK_PAYOUT.allows(row.status, "lose_sight"):
            row.status = BANK_PAYOUT.after(row.status, "lose_sight")
            row.save(update_fields=["status"])


def refuse_sweep(*, code: str, failure: str, actor: Actor, now: datetime) -> BankPayout:
    """The provider refused a sweep: nothing moved, and its lines are free for the next one."""
    with transaction.atomic():
        row = BankPayout.objects.select_for_update().get(code=code)
        if row.provider_id is None and row.status in {"requested", "indeterminate"}:
            row.failure, row.failed_at = failure[:300], now
            _move(row, "fail", actor, now, fields=["failure", "failed_at"])
    return row


def record_bank_payout(
    *,
    seen: SeenBankPayout,
    lines: Sequence[SeenBankPayoutLine] | None = None,
    carried: Sequence[Money] = (),
    actor: Actor,
    now: datetime,
) -> BankPayout:
    """Take over what the provider shows of a payout to a bank; repeating old news changes nothing.

    `lines` are given once the provider has itemised a host's payout, `carried` then is what they come to in the
    currencies of our transfers. Raises NotFound for an account that is none of ours, Conflict when it is not what we know
    under that id."""
    with transaction.atomic():
        row = _lock_seen(seen, now)
        if (row.amount, row.currency) != (seen.amount.amount, seen.amount.currency) or row.account != seen.account:
            raise Conflict(f"The provider's payout {seen.id} is not {row.code}.", seen=seen.id)
        _take_over(row, seen, actor, now)
        if row.account:
            _keep_lines(row, lines or ())
            _settle_payouts(row, lines or (), actor, now)
            _post_memo(row, [seen.amount] if not seen.automatic else carried, actor, now)
    return row


def note_followed(*, account_id: int, known: bool, now: datetime) -> None:
    """The payouts of a host's account were asked for: whether all of them are `known` up to `now`, or none could be had."""
    marks = {"looked_at": now, "followed_at": now} if known else {"looked_at": now}
    HostAccount.objects.filter(pk=account_id).update(**marks)


# Sweeps ---------------------------------------------------------------------------------------------------------------


def _assert_none_under_way(currency: str) -> None:
    under_way = BankPayout.objects.filter(account="", currency=currency, status__in=["requested", "indeterminate"])
    row = under_way.first()
    if row is not None:
        raise InFlight(f"Sweep {row.code} in {currency} has not been answered yet; it is asked for by itself.")


def _carry(row: BankPayout, available: Money, now: datetime) -> SweepFacts:
    """Put what has moved since the last sweep into the lines of this one. What is earned is decided on exactly these."""
    last, left = queries.left_by_last_sweep(currency=row.currency, before=row.id)
    with connection.cursor() as cursor:
        cursor.execute(_CARRY, {"sweep": row.id, "currency": row.currency, "codes": kept_codes()})
        facts = facts_of(cursor.fetchone(), left=left, available=available)
    if left:
        _line(row, LEFT, last, left, now)
    return facts


def _write_stays(row: BankPayout, decided: Sweep, now: datetime) -> None:
    for code, stays in decided.stays.items():
        _line(row, KEPT, code, -stays, now)
    total = _sum(row)
    if total != row.amount:
        raise AssertionError(f"{row.code} is {row.amount} and its lines {total}")


def _sum(row: BankPayout) -> int:
    total: int | None = row.lines.aggregate(total=Sum("net"))["total"]
    return total or 0


def _line(row: BankPayout, category: str, source: str, net: Money, now: datetime) -> None:
    BankPayoutLine.objects.create(
        bank_payout=row,
        provider_id=f"{category}:{source}",
        source_id=source,
        reporting_category=category,
        net=net.amount,
        currency=net.currency,
        created=now,
    )


# What the provider shows ----------------------------------------------------------------------------------------------


def _lock_seen(seen: SeenBankPayout, now: datetime) -> BankPayout:
    """The row of this payout, made when it is new. A webhook and the poll at once: the unique id makes it one."""
    rows = BankPayout.objects.select_for_update(of=("self",)).select_related("host")
    row = rows.filter(provider_id=seen.id).first()
    if row is None and seen.reference and not seen.account:
        row = rows.filter(code=seen.reference, account="", provider_id__isnull=True).first()
        if row is not None:
            row.provider_id = seen.id
            row.save(update_fields=["provider_id"])
    if row is not None:
        return row
    host_id = None
    if seen.account:
        host_id = HostAccount.objects.filter(provider_id=seen.account).values_list("host_id", flat=True).first()
        if host_id is None:
            raise NotFound(kind="host account")
    BankPayout.objects.get_or_create(
        provider_id=seen.id,
        defaults={
            "account": seen.account,
            "host_id": host_id,
            "amount": seen.amount.amount,
            "currency": seen.amount.currency,
            "automatic": seen.automatic,
            "status": "pending",
            "created_at": seen.created,
        },
    )
    return rows.get(provider_id=seen.id)


def _take_over(row: BankPayout, seen: SeenBankPayout, actor: Actor, now: datetime) -> None:
    row.arrival_on, row.trace = seen.arrival_on, seen.trace[:120] or row.trace
    row.save(update_fields=["arrival_on", "trace"])
    action = ACTIONS[seen.status]
    if not BANK_PAYOUT.allows(row.status, action):
        return
    fields = []
    if action == "pay":
        row.paid_at, fields = now, ["paid_at"]
    elif action in {"fail", "cancel"}:
        row.failure, row.failed_at, fields = seen.failure[:300], now, ["failure", "failed_at"]
    _move(row, action, actor, now, fields=fields)
    if action == "fail" and row.host is not None:
        notifications.tell(
            topic="bank_payout_failed",
            recipient_id=row.host_id,
            address=row.host.email,
            context={"amount": seen.amount.format(), "reason": row.failure or "no reason was given."},
            now=now,
        )


def _keep_lines(row: BankPayout, lines: Iterable[SeenBankPayoutLine]) -> None:
    BankPayoutLine.objects.bulk_create(
        [
            BankPayoutLine(
                bank_payout=row,
                provider_id=line.id,
                source_id=line.source_id,
                transfer_id=line.transfer_id,
                reporting_category=line.reporting_category,
                net=line.net.amount,
                currency=line.net.currency,
                created=line.created,
            )
            for line in lines
        ],
        ignore_conflicts=True,
    )


def _post_memo(row: BankPayout, carried: Sequence[Money], actor: Actor, now: datetime) -> None:
    """What the host's balance at the provider gave to their bank, and what came back: each once, under the payout's id.

    In the currencies of our transfers, in which we follow that balance, whatever the provider converted them to."""
    key = f"connected-payout:{row.provider_id}"
    journal = ledger_queries.journals().filter(idempotency_key=key).first()
    if row.status == "paid" and journal is None:
        paid = [
            line for amount in carried for line in posting.connected_payout_paid(account=row.account, amount=amount)
        ]
        _post(key, "connected_payout", paid, row, actor, now)
    if (
        row.status == "failed" and journal is not None
    ):  # else it failed before it was paid: nothing had left by our book
        sent = [line.money for line in journal.lines.all() if line.account.code == CONNECTED_BALANCE]
        back = [
            line for amount in sent for line in posting.connected_payout_returned(account=row.account, amount=-amount)
        ]
        _post(f"connected-payout-returned:{row.provider_id}", "connected_payout_returned", back, row, actor, now)


def _post(key: str, kind: str, lines: Sequence[Line], row: BankPayout, actor: Actor, now: datetime) -> None:
    ledger.post(
        key=key,
        kind=kind,
        lines=lines,
        subject=row.host.code if row.host is not None else "",
        reference=row.provider_id or "",
        effective_at=now,
        actor=actor,
        now=now,
    )


def _settle_payouts(row: BankPayout, lines: Sequence[SeenBankPayoutLine], actor: Actor, now: datetime) -> None:
    """Our payouts that this one carries have arrived where it did, or stand on the host's balance again when the bank sent
    it back; what a bank had sent back goes on with the payout after it."""
    carried = Q(transfer_id__in=[line.transfer_id for line in lines if line.transfer_id], bank_payout__isnull=True)
    sent_on = Q(bank_payout__provider_id__in=[line.returned for line in lines if line.returned])
    mine = Q(bank_payout=row) | carried | sent_on & Q(bank_payout__account=row.account)
    step = {"paid": "pay", "failed": "return_from_bank"}.get(row.status, "")
    # A release or clawback of one of them at the same moment: in the order of their ids, so that neither waits for ever.
    for payout in Payout.objects.select_for_update(of=("self",)).filter(mine).order_by("id"):
        before, linked = payout.status, payout.bank_payout_id == row.id
        moves = bool(step) and PAYOUT.allows(before, step)
        after = PAYOUT.after(before, step) if moves else before
        waits = _waits_for(row, after, payout.waits_for)
        if linked and not moves and waits == payout.waits_for:
            continue
        payout.bank_payout, payout.status, payout.waits_for = row, after, waits
        if moves:
            payout.paid_at = now if step == "pay" else None
        payout.version += 1
        payout.save(update_fields=["bank_payout", "status", "paid_at", "waits_for", "version"])
        if moves:
            audit.record(
                actor=actor,
                verb=f"payouts.{step}",
                kind="payout",
                id=payout.code,
                before={"status": before},
                after={"status": payout.status, "bank_payout": row.code},
                now=now,
            )


def _waits_for(row: BankPayout, status: str, said: str) -> str:
    """What a payout of this status, carried by this bank payout, waits for; `said` is what it was said to wait for."""
    if status not in SENT:
        return said
    return sent_back(failure=row.failure).sentence[:200] if row.status == "failed" else ""


def _move(row: BankPayout, action: str, actor: Actor, now: datetime, *, fields: list[str] | None = None) -> None:
    before = row.status
    row.status = BANK_PAYOUT.after(before, action)
    row.version += 1
    row.save(update_fields=["status", "version", *(fields or [])])
    audit.record(
        actor=actor,
        verb=f"payouts.bank_payout.{action}",
        kind="bank_payout",
        id=row.code,
        before={"status": before},
        after={"status": row.status, "provider_id": row.provider_id or "", "failure": row.failure},
        now=now,
    )
