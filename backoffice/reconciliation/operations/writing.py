"""What a run writes: breaks that are new, seen again, come back, or over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Q
from psycopg.types.json import Jsonb

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import Break, BreakEvent, Run
from backoffice.reconciliation.models.breaks import new_break_code
from backoffice.reconciliation.queries import Difference
from backoffice.reconciliation.states import BREAK, FINDINGS, OPEN, WINDOWED
from backoffice.rulebook import queries as rulebook

# Of a break whose fact another leg has now, what only a person ends.
_DECIDING = ("proposed", "accepted")
_SEEN = ("cls", "flags", "difference", "at_risk", "detail", "fact", "subject")
_COLUMNS = {field.attname: str(field.column) for field in Break._meta.concrete_fields if not field.primary_key}
_BLANK = {field.attname: field.get_default() for field in Break._meta.concrete_fields if not field.primary_key}


def write_chunk(*, run: Run, differences: Sequence[Difference], now: datetime) -> None:
    """Write some differences in the caller's transaction: new breaks are made, known ones seen again."""
    identities = [difference.identity for difference in differences]
    # Somebody may be working one of them: whoever comes second waits, in the order of ids.
    rows = Break.objects.select_for_update().filter(identity__in=identities).order_by("id")
    known = {found.identity: found for found in rows}
    fresh = [_new(run, each, now) for each in differences if each.identity not in known]
    _make(run, fresh, now)
    events, changed = [], []
    for difference in differences:
        found = known.get(difference.identity)
        what = _see_again(found, difference, now) if found is not None else ""
        if found is not None and what:
            found.version += 1
            changed.append(found)
            events.append(event(found, what, now, run=run))
    Break.objects.bulk_update(
        changed,
        [*_SEEN, "at_risk_eur", "status", "closed_at", "cause", "ticket", "accepted_until", "proposal", "version"],
    )
    Break.objects.filter(id__in=[found.id for found in known.values() if found.status in OPEN]).update(last_seen=run)
    BreakEvent.objects.bulk_create(events)


def _make(run: Run, fresh: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """New breaks by COPY, as a first run over a large book may find thousands, and that they were found."""
    if not fresh:
        return
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY reconciliation_break ({', '.join(_COLUMNS.values())}) FROM STDIN") as copy:
            for row in fresh:
                values = [row[name] for name in _COLUMNS]
                copy.write_row([Jsonb(value) if isinstance(value, (dict, list)) else value for value in values])
        cursor.execute(
            """
            INSERT INTO reconciliation_breakevent
                (found_id, at, what, status, cls, difference, run_id, who, why, cause, ticket)
            SELECT id, %s, 'found', status, cls, difference, %s, '', '', '', '' FROM reconciliation_break
            WHERE identity = ANY(%s) ORDER BY id
            """,
            [now, run.pk, [row["identity"] for row in fresh]],
        )


def heal(*, run: Run, compared: Sequence[str], left_out: Sequence[str], now: datetime, chunk: int = 1_000) -> int:
    """Breaks that this run looked for and did not find are over: both sides are equal now. Returns how many.

    Where another leg has the fact now, owner and notes go over to its break; what was proposed or accepted stays until
    somebody decides."""
    healed, after = 0, 0
    while ids := queries.gone(run=run, compared=compared, left_out=left_out, after=after, limit=chunk):
        after = ids[-1]
        # Somebody may be working one of them: whoever comes second waits, in the order of ids.
        locked = Break.objects.select_for_update().filter(id__in=ids).order_by("id")
        rows = [found for found in locked if BREAK.allows(found.status, "heal")]
        heirs = _heirs(run, compared, rows)
        rows = [found for found in rows if found.fact not in heirs or found.status not in _DECIDING]
        events = []
        for found in rows:
            heir = heirs.get(found.fact)
            found.status, found.closed_at = BREAK.after(found.status, "heal"), now
            found.version += 1
            events.append(event(found, "healed", now, run=run, why=f"{heir.code} has it now" if heir else ""))
            if heir is not None and _hand_over(found, heir):
                events.append(event(heir, "taken_over", now, run=run, why=f"from {found.code}"))
        Break.objects.bulk_update(rows, ["status", "closed_at", "version"])
        Break.objects.bulk_update(heirs.values(), ["owner", "notes", "status", "version"])
        BreakEvent.objects.bulk_create(events)
        healed += len(rows)
    return healed


def _heirs(run: Run, compared: Sequence[str], gone: Sequence[Break]) -> dict[str, Break]:
    """Fact -> the open finding of another leg that has it: seen by this run, or of a leg that it did not look at."""
    facts = {found.fact for found in gone if found.fact}
    there = Q(last_seen=run) | ~Q(leg__in=compared)
    there |= Q(leg__in=WINDOWED) & (Q(occurred_at__lt=run.since) | Q(occurred_at__gte=run.until))
    rows = Break.objects.select_for_update().filter(there, fact__in=facts, status__in=FINDINGS).order_by("id")
    return {found.fact: found for found in rows}


def _hand_over(found: Break, heir: Break) -> bool:
    """Whether there was anything to hand over. A second run finds it handed over and leaves it."""
    if not (found.owner_id or found.notes):
        return False
    heir.notes = f"{found.notes}{heir.notes}"
    if heir.owner_id is None and found.owner_id is not None:
        heir.owner_id = found.owner_id
        if BREAK.allows(heir.status, "take"):
            heir.status = BREAK.after(heir.status, "take")
    heir.version += 1
    return True


def event(
    found: Break, what: str, now: datetime, *, run: Run | None = None, who: str = "", why: str = ""
) -> BreakEvent:
    """One step in a break's life, not saved."""
    return BreakEvent(
        found=found,
        at=now,
        what=what,
        status=found.status,
        cls=found.cls,
        difference=found.difference,
        run=run,
        who=who,
        why=why,
        cause=found.cause,
        ticket=found.ticket,
    )


def in_currency(*, money: Money, currency: str, now: datetime) -> Money | None:
    """An amount in another currency at the last reference rate; None where there is none."""
    try:
        return rulebook.rate(base=money.currency, quote=currency, on=now.date()).convert(money)
    except Invalid:
        return None


def _new(run: Run, difference: Difference, now: datetime) -> dict[str, Any]:
    """A break by its columns: of thousands no model's instance is made."""
    return {
        **_BLANK,
        **_seen(difference, now),
        "code": new_break_code(),
        "identity": difference.identity,
        "leg": difference.leg,
        "key": difference.key,
        "status": "expected" if difference.cls == "late" else "open",
        "currency": difference.currency,
        "occurred_at": difference.occurred_at,
        "first_seen_id": run.pk,
        "last_seen_id": run.pk,
        "opened_at": now,
    }


def _see_again(found: Break, difference: Difference, now: datetime) -> str:
    """Take over what a run sees of a known break; what happened to it, empty when nothing did."""
    before = tuple(getattr(found, name) for name in _SEEN)
    closed = found.status not in OPEN
    if closed and difference.cls == "late":
        return ""  # it may yet clear by itself; it comes back when it does not
    _take_over(found, difference, now)
    differs = before != tuple(getattr(found, name) for name in _SEEN)
    if closed:
        return _back(found)
    if found.status == "accepted" and (differs or found.accepted_until is None or found.accepted_until <= now):
        return _back(found)
    if found.status == "expected" and difference.cls != "late":
        found.status = BREAK.after(found.status, "ripen")
        return "ripened"
    if found.status == "proposed" and found.proposal and _void(found.proposal, difference, differs):
        found.status, found.proposal = BREAK.after(found.status, "reject"), None  # what was proposed is no longer so
        return "proposal_void"
    return "changed" if differs else ""


def _void(proposal: Mapping[str, Any], difference: Difference, differs: bool) -> bool:
    """Whether something else stands there than was to be given up, or either side of a movement says something else."""
    if policies.kind_of(proposal) == policies.POST_ANEW:
        return differs
    return bool(proposal["amount"] != difference.detail.get("standing"))


def _back(found: Break) -> str:
    found.status, found.closed_at = BREAK.after(found.status, "reopen"), None
    # What was said of it then is in its history; why it is back, nobody has said yet.
    found.cause = found.ticket = ""
    found.accepted_until = found.proposal = None
    return "reopened"


def _take_over(found: Break, difference: Difference, now: datetime) -> None:
    for name, value in _seen(difference, now).items():
        setattr(found, name, value)


def _seen(difference: Difference, now: datetime) -> dict[str, Any]:
    """What a run sees of a break each time."""
    euro = in_currency(money=Money(difference.at_risk, difference.currency), currency="EUR", now=now)
    return {
        "cls": difference.cls,
        "flags": list(difference.flags),
        "difference": difference.difference,
        "at_risk": difference.at_risk,
        "at_risk_eur": None if euro is None else euro.amount,
        "detail": dict(difference.detail),
        "fact": difference.fact,
        "subject": difference.subject,
    }
