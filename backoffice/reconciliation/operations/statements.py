"""The bank's side: lines are stored once, posted once, and matched with the provider's payouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time
from typing import Any

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import Refund
from backoffice.payments.policies import bank_line
from backoffice.payments.policies.postings import BANK_PAYOUT, SUSPENSE, credit, debit, journal
from backoffice.payouts.models import BankPayout
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import BankMatch, StatementLine
from backoffice.reconciliation.policies import Pairing, SeenStatementLine
from backoffice.reconciliation.states import MATCH
from backoffice.rulebook import queries as rulebook


def import_lines(*, lines: Iterable[SeenStatementLine], actor: Actor, now: datetime) -> tuple[int, int]:
    """Keep the lines of a statement; returns how many were new and how many were here already. Entries of one file that are
    alike in everything are as many as the file says; the same file again, or another of the same days, adds none of them."""
    actor.must("reconciliation.run")
    seen = list(lines)
    alike: Counter[tuple[str, str, str]] = Counter()
    rows = []
    for line in seen:
        if line.amount:
            same = (line.account, line.reference, line.digest())
            rows.append(_row(line, alike[same], now))
            alike[same] += 1
    with transaction.atomic():
        # A line that is here stays as it is; any other conflict is an error.
        StatementLine.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["account", "reference", "digest"],
            update_fields=["digest"],
            batch_size=1_000,
        )
        # A row of ours has the code that we gave it; another import may run beside this one.
        fresh = StatementLine.objects.filter(code__in=[row.code for row in rows]).count()
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
    line without either goes to suspense, where it is a break. Repeating it, or doing it twice at once, posts nothing again."""
    actor.must("reconciliation.run")
    repaid = _repayments(actor, now)
    pairings = policies.pair(
        lines=queries.open_lines(),
        payouts=queries.open_payouts(),
        rules=rulebook.reconciliation(on=now.date()).rules,
        refused=queries.refused_pairs(),
    )
    matched = sum(_find(pairing, actor, now) for pairing in pairings if pairing.certain)
    unknown = 0
    for line in StatementLine.objects.filter(journal_id=None).order_by("id").values_list("id", flat=True):
        with transaction.atomic():
            unknown += _to_suspense(_locked_lines([line])[line], actor, now)
    proposed = [pairing for pairing in pairings if not pairing.certain]
    _propose(proposed, now)  # last: what is proposed stands in suspense
    return {"matched": matched + repaid, "proposed": len(proposed), "unidentified": unknown}


def bring_back_less(*, line_code: str, refund_code: str, reason: str, actor: Actor, now: datetime) -> Refund:
    """A person's word that a line in suspense is a refund paid another way that our bank sent back, less what a bank kept of
    it. By itself nothing says that a smaller amount is the same money (decision 13).

    Raises NotFound, Refused without a reason, Conflict when the line is known already, its amount is not less than the
    refund's, another line has brought that back, or nobody has recorded yet that it was sent back."""
    actor.must("refunds.repay")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        found = StatementLine.objects.filter(code=line_code).first()
        if found is None:
            raise NotFound(kind="bank line")
        line = _locked_lines([found.id])[found.id]  # a run may be finding out what it is
        amount = queries.line_left(line)
        if line.journal_id is None or amount.amount != line.amount:
            raise Conflict(
                f"{line.code} does not wait in suspense as a whole; let a run match the bank's lines, and look again."
            )
        done = payments.bring_back_repayment(
            refund_code=refund_code,
            bank=line.account,
            suspense=f"bank:{line.code}",
            line=line.code,
            amount=amount,
            less=True,
            actor=actor.because(reason),
            now=now,
        )
        audit.record(
            actor=actor.because(reason),
            verb="refunds.bring_back",
            kind="refund",
            id=done.code,
            after={"line": line.code, "amount": amount.amount, "of": done.amount, "currency": done.currency},
            now=now,
        )
    return done


def hold_still(*, account: str, key: str) -> None:
    """Lock what stands under a key of the bank, in the caller's transaction: a payout on its way, or a line in suspense."""
    if account == BANK_PAYOUT:
        _locked_payouts(BankPayout.objects.filter(provider_id=key).values_list("id", flat=True))
    elif account == SUSPENSE:
        _locked_lines(StatementLine.objects.filter(code=key.removeprefix("bank:")).values_list("id", flat=True))


def hold_open_still() -> None:
    """Lock all that may be matched, in the caller's transaction. A dry run keeps what it matches until it has seen what comes
    of it: taken at once and in the one order, nobody who decides a match waits for it while it waits for them."""
    _locked_payouts(payout.id for payout in queries.open_payouts())
    _locked_lines(line.id for line in queries.open_lines())


def claimed(match_ids: Iterable[int]) -> list[BankMatch]:
    """Some matches with both their sides, locked in the caller's transaction, in the order of their ids. Raises StaleVersion
    when one of them is no longer there: it was proposed yesterday, and no longer holds."""
    ids = set(match_ids)
    seen = list(BankMatch.objects.filter(pk__in=ids))
    # Two colleagues on one proposal, or one beside a run: one after the other.
    payouts = _locked_payouts(match.bank_payout_id for match in seen)
    lines = _locked_lines(match.line_id for match in seen)
    found = list(BankMatch.objects.select_for_update().filter(pk__in=ids).order_by("id"))
    if len(found) < len(ids):
        raise StaleVersion(kind="break")
    for match in found:
        match.bank_payout, match.line = payouts[match.bank_payout_id], lines[match.line_id]
    return found


def say(*, payout: str, line_code: str, actor: Actor, now: datetime) -> BankMatch:
    """A person's word that a line is this payout of ours, or its return, whatever the line's amount: posted as what a line
    names itself. What is left of either stays standing. In the caller's transaction.

    Raises NotFound for a line or payout that nobody knows, IllegalTransition when they are one already, Conflict when nothing
    is left of one of them, or the one cannot be the other: another currency, or money that went the other way."""
    asked = BankPayout.objects.filter(provider_id=payout, account="").values_list("id", flat=True).first()
    known = StatementLine.objects.filter(code=line_code).values_list("id", flat=True).first()
    if asked is None or known is None:
        raise NotFound(kind="bank payout" if asked is None else "bank line")
    # A run may be finding out what it is, or a colleague saying so: one after the other.
    payouts, lines = _locked_payouts([asked]), _locked_lines([known])
    match = BankMatch.objects.select_for_update().filter(line_id=known, bank_payout_id=asked).first()
    match = match or BankMatch(line_id=known, bank_payout_id=asked)
    match.line, match.bank_payout = lines[known], payouts[asked]
    line, left = queries.line_left(match.line), queries.payout_left(match.bank_payout)
    status = MATCH.after(match.status, "find")
    if line.currency != left.currency or line.amount * left.amount <= 0:
        raise Conflict(
            f"{match.line.code} cannot be {match.bank_payout.code}: {line} are left of the line, and {left} of the payout are "
            "on their way to the bank (below zero: on their way back)."
        )
    match.amount, match.method, match.confidence, match.made_at = (
        line.amount,
        "person",
        policies.CONFIDENCE["person"],
        now,
    )
    _confirm(match, status, actor, now)
    _record(match, actor, now)
    return match


def decide(match: BankMatch, *, confirm: bool, actor: Actor, now: datetime) -> None:
    """A person's word on one proposed match, claimed: a yes posts its line against its payout, on record with the actor's
    reason. Raises IllegalTransition when it has been decided, Conflict when one side has been found elsewhere meanwhile."""
    status = MATCH.after(match.status, "confirm" if confirm else "reject")
    if not confirm:
        match.status, match.decided_by_id, match.decided_at = status, actor.id, now
        match.save()
    elif _stands(match):
        _confirm(match, status, actor, now)
    else:
        raise Conflict("The payout or the line has been matched meanwhile; look at both again.")
    _record(match, actor, now)


# Private --------------------------------------------------------------------------------------------------------------


def _record(match: BankMatch, actor: Actor, now: datetime) -> None:
    audit.record(
        actor=actor,
        verb="breaks.decide_match",
        kind="bank_match",
        id=match.pk,
        after={
            "status": match.status,
            "line": match.line.code,
            "payout": match.bank_payout.code,
            "method": match.method,
        },
        now=now,
    )


def _row(line: SeenStatementLine, nth: int, now: datetime) -> StatementLine:
    return StatementLine(
        account=line.account,
        reference=line.reference,
        digest=line.digest(nth=nth),
        amount=line.amount.amount,
        currency=line.amount.currency,
        booked_on=line.booked_on,
        value_on=line.value_on,
        trace=line.trace,
        text=line.text,
        returned=line.returned,
        imported_at=now,
    )


def _locked_payouts(ids: Iterable[int]) -> dict[int, BankPayout]:
    # Two lines that may both be one payout, and whoever else is at it: one after the other. Always payouts, then lines, then
    # matches; without the key, so that a proposal may point at them meanwhile.
    rows = BankPayout.objects.select_for_update(no_key=True).filter(id__in=list(ids)).order_by("id")
    return {row.id: row for row in rows}


def _locked_lines(ids: Iterable[int]) -> dict[int, StatementLine]:
    # Two runs, or a run and a person, who both want to post a line: whoever comes second finds it posted.
    rows = StatementLine.objects.select_for_update(no_key=True).filter(id__in=list(ids)).order_by("id")
    return {row.id: row for row in rows}


def _stands(match: BankMatch) -> bool:
    """Whether both sides of a match, locked, still stand for as much. What names a payout is its, whatever the amount."""
    line, payout = queries.line_left(match.line), queries.payout_left(match.bank_payout)
    same_direction = (
        line.currency == payout.currency and min(match.amount * line.amount, match.amount * payout.amount) > 0
    )
    enough = match.method == "trace" or abs(match.amount) <= abs(payout.amount)
    return same_direction and abs(match.amount) <= abs(line.amount) and enough


def _find(pairing: Pairing, actor: Actor, now: datetime) -> bool:
    """Post what is certain; False when one of its sides has been found elsewhere meanwhile."""
    with transaction.atomic():
        payouts, lines = _locked_payouts([pairing.payout]), _locked_lines([pairing.line])
        known = (
            BankMatch.objects.select_for_update().filter(line_id=pairing.line, bank_payout_id=pairing.payout).first()
        )
        match = known or BankMatch(line_id=pairing.line, bank_payout_id=pairing.payout)
        match.line, match.bank_payout = lines[pairing.line], payouts[pairing.payout]
        for name, value in _seen(pairing, now).items():
            setattr(match, name, value)
        if not MATCH.allows(match.status, "find") or not _stands(match):
            return False
        _confirm(match, MATCH.after(match.status, "find"), actor, now)
    return True


def _seen(pairing: Pairing, now: datetime) -> dict[str, Any]:
    return {
        "amount": pairing.amount.amount,
        "method": pairing.method,
        "confidence": policies.CONFIDENCE[pairing.method],
        "made_at": now,
    }


def _propose(pairings: list[Pairing], now: datetime) -> None:
    """Keep the proposals of today; those of yesterday that no longer hold go."""
    with transaction.atomic():
        wanted = {(pairing.line, pairing.payout) for pairing in pairings}
        for old in BankMatch.objects.filter(status="proposed").order_by("id"):
            if (old.line_id, old.bank_payout_id) not in wanted:
                BankMatch.objects.filter(pk=old.pk, status="proposed").delete()  # a person may just have said yes
        for pairing in pairings:
            BankMatch.objects.get_or_create(
                line_id=pairing.line, bank_payout_id=pairing.payout, defaults=_seen(pairing, now)
            )


def _confirm(match: BankMatch, status: str, actor: Actor, now: datetime) -> None:
    """Post a line against its payout, both locked: the whole line from the bank, or a part of it out of suspense, where the
    rest stays until it is known."""
    line, payout = match.line, match.bank_payout.provider_id or ""
    amount = Money(match.amount, line.currency)
    if line.journal_id is None and amount.amount == line.amount:
        lines = bank_line(bank=line.account, amount=amount, payout=payout)
        match.journal_id = line.journal_id = _post(line, "bank.line", f"bank:{line.code}", lines, actor, now)
        line.save(update_fields=["journal_id"])
    else:
        _to_suspense(line, actor, now)
        lines = journal(debit(SUSPENSE, f"bank:{line.code}", amount), credit(BANK_PAYOUT, payout, amount))
        match.journal_id = _post(line, "bank.match", f"bank_match:{line.code}:{payout}", lines, actor, now)
    match.status, match.decided_by_id, match.decided_at = status, actor.id, now
    match.save()


def _repayments(actor: Actor, now: datetime) -> int:
    """Lines by which a refund that had come back left our account another way, or came back to it once a person had said so:
    they name its code or the bank's reference, and the amount is exactly its."""
    given_up = payment_queries.repayments_given_up()
    leaving, back = [*payment_queries.repayments_on_their_way(), *given_up], given_up
    found = 0
    for line in queries.open_rows() if leaving else ():
        repayments = leaving if line.amount < 0 else back
        refund = next((one for one in repayments if _names(line, one)), None)
        if refund is not None and _repaid(line.id, refund.code, actor, now):
            found += 1
            repayments.remove(refund)
    return found


def _names(line: StatementLine, refund: Refund) -> bool:
    same = (abs(line.amount), line.currency) == (refund.amount, refund.currency)
    return same and queries.is_named(line=line, refund=refund)


def _repaid(line_id: int, refund_code: str, actor: Actor, now: datetime) -> bool:
    """Post a line against the repayment that it carries, or brings back: from the bank, or out of suspense where it was
    known to nobody when it came. False when one of the two has been found elsewhere meanwhile, or a part of the line has."""
    with transaction.atomic():
        line = _locked_lines([line_id])[line_id]
        if queries.line_left(line).amount != line.amount:
            return False
        left = line.amount < 0
        act, key = (payments.settle_repayment, "repaid") if left else (payments.bring_back_repayment, "repaid-back")
        amount = abs(Money(line.amount, line.currency))
        out_of = f"bank:{line.code}" if line.journal_id is not None else ""
        act(
            refund_code=refund_code,
            bank=line.account,
            suspense=out_of,
            line=line.code,
            amount=amount,
            actor=actor,
            now=now,
        )
        posted = ledger_queries.journals().get(idempotency_key=f"{key}:{refund_code}")
        if posted.reference != line.code:
            return False  # it was by another line
        if line.journal_id is None:
            line.journal_id = posted.pk
            line.save(update_fields=["journal_id"])
    return True


def _to_suspense(line: StatementLine, actor: Actor, now: datetime) -> bool:
    """Post a line, locked, to suspense (9900) under its own key; False when it is posted already."""
    if line.journal_id is not None:
        return False
    key = f"bank:{line.code}"
    lines = bank_line(bank=line.account, amount=Money(line.amount, line.currency), external_id=key)
    line.journal_id = _post(line, "bank.line", key, lines, actor, now)
    line.save(update_fields=["journal_id"])
    return True


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
