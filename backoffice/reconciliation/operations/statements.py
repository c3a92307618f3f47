"""The bank's side: lines are stored once, posted once, and matched with the provider's payouts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotFound
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.policies import bank_line
from backoffice.payments.policies.postings import BANK_PAYOUT, SUSPENSE, credit, debit, journal
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import BankMatch, StatementLine
from backoffice.reconciliation.policies import Pairing, SeenStatementLine
from backoffice.reconciliation.states import MATCH


def import_lines(*, lines: Iterable[SeenStatementLine], actor: Actor, now: datetime) -> tuple[int, int]:
    """Keep the lines of a statement; returns how many were new and how many were here already. Two entries that are alike in
    everything, in one file, are two when the bank gave them different references; without references they are one."""
    actor.must("reconciliation.run")
    seen = list(lines)
    rows = [
        StatementLine(
            account=line.account,
            reference=line.reference,
            digest=line.digest,
            amount=line.amount.amount,
            currency=line.amount.currency,
            booked_on=line.booked_on,
            value_on=line.value_on,
            trace=line.trace,
            text=line.text,
            returned=line.returned,
            imported_at=now,
        )
        for line in seen
        if line.amount
    ]
    with transaction.atomic():
        before = StatementLine.objects.count()
        StatementLine.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000)
        fresh = StatementLine.objects.count() - before
        if fresh:
            accounts = sorted({line.account for line in seen})
            audit.record(
                actor=actor,
                verb="reconciliation.import_statement",
                kind="statement",
                id=f"{accounts[0][-4:]} {now:%Y-%m-%d}",
                after={"lines": fresh, "known": len(rows) - fresh},
                now=now,
            )
    return fresh, len(rows) - fresh


def match_lines(*, actor: Actor, now: datetime) -> dict[str, int]:
    """Find the payout of every line that has none. What is certain is posted against it; what only adds up is proposed; a
    line without either goes to suspense, where it is a break. Repeating it posts nothing again."""
    open_lines, payouts = queries.open_lines(), queries.open_payouts()
    pairings = policies.pair(lines=open_lines, payouts=payouts, refused=queries.refused_pairs())
    certain = [pairing for pairing in pairings if pairing.certain]
    for pairing in certain:
        with transaction.atomic():
            _confirm(_make(pairing, now), actor, now)
    _propose([pairing for pairing in pairings if not pairing.certain], now)
    repaid = _repayments(actor, now)
    matched = {pairing.line for pairing in certain}
    unposted = StatementLine.objects.filter(journal_id=None).exclude(id__in=matched).order_by("id")
    unknown = list(unposted.values_list("id", flat=True))
    for line in unknown:
        with transaction.atomic():
            _to_suspense(line, actor, now)
    return {"matched": len(certain) + repaid, "proposed": len(pairings) - len(certain), "unidentified": len(unknown)}


def decide_match(*, match_id: int, confirm: bool, reason: str, actor: Actor, now: datetime) -> BankMatch:
    """A person's word on a proposed match: a yes posts the line against the payout. Raises NotFound, Conflict when it has
    been decided or one side has been found elsewhere meanwhile."""
    actor.must("breaks.work")
    with transaction.atomic():
        # Two colleagues on one proposal, or one beside a run: one after the other.
        found = BankMatch.objects.select_for_update().select_related("line", "bank_payout").filter(pk=match_id).first()
        if found is None:
            raise NotFound(kind="bank match")
        if not confirm:
            found.status = MATCH.after(found.status, "reject")
            found.decided_by_id, found.decided_at = actor.id, now
            found.save()
        else:
            if Money(found.amount, found.line.currency) not in _still_open(found):
                raise Conflict("The payout or the line has been matched meanwhile; look at both again.")
            MATCH.after(found.status, "confirm")
            _confirm(found, actor, now)
        audit.record(
            actor=actor.because(reason),
            verb="breaks.decide_match",
            kind="bank_match",
            id=found.pk,
            after={"status": found.status, "line": found.line.code, "payout": found.bank_payout.code},
            now=now,
        )
    return found


# Private --------------------------------------------------------------------------------------------------------------


def _still_open(found: BankMatch) -> set[Money]:
    """The amount of a proposal, when both its sides still stand for as much; nothing otherwise."""
    line = next((one for one in queries.open_lines() if one.id == found.line_id), None)
    payout = next((one for one in queries.open_payouts() if one.id == found.bank_payout_id), None)
    amount = Money(found.amount, found.line.currency)
    if line is None or payout is None:
        return set()
    return {amount} if abs(amount) <= abs(line.amount) and abs(amount) <= abs(payout.open) else set()


def _make(pairing: Pairing, now: datetime) -> BankMatch:
    made, _ = BankMatch.objects.update_or_create(
        line_id=pairing.line,
        bank_payout_id=pairing.payout,
        defaults={
            "amount": pairing.amount.amount,
            "method": pairing.method,
            "confidence": policies.CONFIDENCE[pairing.method],
            "made_at": now,
        },
    )
    return made


def _propose(pairings: list[Pairing], now: datetime) -> None:
    """Keep the proposals of today; those of yesterday that no longer hold go."""
    with transaction.atomic():
        wanted = {(pairing.line, pairing.payout) for pairing in pairings}
        for old in BankMatch.objects.filter(status="proposed"):
            if (old.line_id, old.bank_payout_id) not in wanted:
                old.delete()
        known = set(BankMatch.objects.values_list("line_id", "bank_payout_id"))
        for pairing in pairings:
            if (pairing.line, pairing.payout) not in known:
                _make(pairing, now)


def _confirm(match: BankMatch, actor: Actor, now: datetime) -> None:
    """Post a line against its payout: from the bank, or out of suspense when it was put there."""
    line = StatementLine.objects.select_for_update().get(pk=match.line_id)
    payout = match.bank_payout.provider_id or ""
    amount = Money(match.amount, line.currency)
    if line.journal_id is None:
        lines = bank_line(bank=line.account, amount=Money(line.amount, line.currency), payout=payout)
        line.journal_id = _post(line, "bank.line", f"bank:{line.code}", lines, actor, now)
        match.journal_id = line.journal_id
    else:
        lines = journal(debit(SUSPENSE, f"bank:{line.code}", amount), credit(BANK_PAYOUT, payout, amount))
        match.journal_id = _post(line, "bank.match", f"bank_match:{match.pk}", lines, actor, now)
    rest = sum(line.matches.filter(status="confirmed").values_list("amount", flat=True)) + match.amount
    line.in_suspense = line.in_suspense and rest != line.amount
    line.save(update_fields=["journal_id", "in_suspense"])
    match.status, match.decided_by_id, match.decided_at = "confirmed", actor.id, now
    match.save()


def _repayments(actor: Actor, now: datetime) -> int:
    """Lines by which a refund that had come back left our account another way: they name its code or the bank's reference,
    and the amount is exactly its."""
    found = 0
    waiting = payment_queries.repayments_on_their_way()
    for line in StatementLine.objects.filter(journal_id=None, amount__lt=0).order_by("id") if waiting else ():
        words = f"{line.reference} {line.trace} {line.text}".upper()
        amount = Money(-line.amount, line.currency)
        for refund in waiting:
            named = any(name and name.upper() in words for name in (refund.code, refund.provider_id))
            if named and amount == Money(refund.amount, refund.currency):
                with transaction.atomic():
                    settled = payments.settle_repayment(
                        refund_code=refund.code, bank=line.account, line=line.code, amount=amount, actor=actor, now=now
                    )
                    line.journal_id = ledger_queries.journals().get(idempotency_key=f"repaid:{settled.code}").pk
                    line.save(update_fields=["journal_id"])
                waiting.remove(refund)
                found += 1
                break
    return found


def _to_suspense(line_id: int, actor: Actor, now: datetime) -> None:
    line = StatementLine.objects.select_for_update().get(pk=line_id)
    if line.journal_id is not None:
        return
    key = f"bank:{line.code}"
    lines = bank_line(bank=line.account, amount=Money(line.amount, line.currency), external_id=key)
    line.journal_id, line.in_suspense = _post(line, "bank.line", key, lines, actor, now), True
    line.save(update_fields=["journal_id", "in_suspense"])


def _post(line: StatementLine, kind: str, key: str, lines: Sequence[Line], actor: Actor, now: datetime) -> int | None:
    posted = ledger.post(
        key=key,
        kind=kind,
        lines=lines,
        subject="",
        reference=line.code,
        effective_at=datetime.combine(line.booked_on, time(0), tzinfo=UTC),
        actor=actor,
        now=now,
    )
    return posted.journal_id if posted is not None else None
