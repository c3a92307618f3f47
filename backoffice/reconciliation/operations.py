"""Comparing the ledger with the provider, and working the breaks that this finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from django.db import connection, transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.people import queries as people
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import Break, ProviderLine, Run
from backoffice.reconciliation.queries import Difference
from backoffice.reconciliation.states import BREAK, OPEN

_STAGE: Final = (
    "COPY reconciliation_providerline "
    "(run_id, provider_id, reporting_category, source_id, amount, fee, net, currency, created) FROM STDIN"
)


class DryRun(Exception):
    """Rolls a run back after it has found what it would write."""


def begin(*, scope: str, since: datetime, until: datetime, actor: Actor, now: datetime) -> Run:
    """Open a run over the movements of [since, until)."""
    actor.must("reconciliation.run")
    if until <= since:
        raise Invalid("until: must be after since.", field="until")
    with transaction.atomic():
        run = Run.objects.create(scope=scope, since=since, until=until, actor=actor.name, started_at=now)
        audit.record(
            actor=actor,
            verb="reconciliation.run",
            kind="reconciliation",
            id=run.pk,
            after={"scope": scope, "since": since.isoformat(), "until": until.isoformat()},
            now=now,
        )
    return run


def stage(*, run: Run, rows: Iterable[SeenBalanceTransaction]) -> int:
    """Lay the provider's movements beside ours by COPY, replacing what an interrupted attempt left; returns how many."""
    count = 0
    with transaction.atomic():
        ProviderLine.objects.filter(run=run).delete()
        with connection.cursor() as cursor, cursor.copy(_STAGE) as copy:
            for row in rows:
                copy.write_row(
                    (
                        run.pk,
                        row.id,
                        row.reporting_category,
                        row.source_id,
                        row.amount.amount,
                        row.fee.amount,
                        row.net.amount,
                        row.net.currency,
                        row.created,
                    )
                )
                count += 1
    return count


def compare(
    *, run: Run, balances: Mapping[str, Money], asked: datetime, now: datetime, dry_run: bool = False
) -> tuple[Run, list[Difference]]:
    """Compare the staged movements with the ledger and write the breaks; returns the run and every difference.

    One REPEATABLE READ snapshot sees both sides. A break is found by leg and key, whatever its class: seen again it is
    the same one, not seen again inside the window it has healed. Repeating the comparison writes no new break. With
    `dry_run` nothing stays but the answer."""
    differences: list[Difference] = []
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            lines = queries.line_differences(run=run, asked=asked, now=now)
            clearing = _without_repeats(queries.clearing_differences(now=now), lines)
            balance, explained = _unexplained(run, lines, balances, asked, now)
            differences = [*balance, *lines, *clearing]
            total = ProviderLine.objects.filter(run=run).count()
            run.lines = total
            run.matched = total - sum(1 for difference in lines if difference.detail.get("provider") is not None)
            run.found = len(differences)
            run.explained = explained
            run.output_digest = _digest(differences)
            run.status = "succeeded"
            run.finished_at = now
            run.save()
            _write(run, differences, now)
            ProviderLine.objects.filter(run=run).delete()
            if dry_run:
                raise DryRun
    except DryRun:
        Run.objects.filter(pk=run.pk).delete()
    return run, differences


def fail(*, run: Run, error: str, now: datetime) -> None:
    """Close a run that could not be finished; its staged lines go, its breaks were never written."""
    with transaction.atomic():
        ProviderLine.objects.filter(run=run).delete()
        Run.objects.filter(pk=run.pk).update(status="failed", error=error[:300], finished_at=now)


def take(*, code: str, owner_id: int, actor: Actor, now: datetime) -> Break:
    """Give a break an owner, who investigates it."""
    actor.must("breaks.work")
    owner = people.person(person_id=owner_id)
    if not owner.is_staff:
        raise Invalid("owner: must be a member of staff.", field="owner")
    with transaction.atomic():
        found = _locked(code, None)
        before = {"status": found.status, "owner": found.owner_id}
        found.owner = owner
        if BREAK.allows(found.status, "take"):
            found.status = BREAK.after(found.status, "take")
        return _keep(found, "breaks.take", before, {"status": found.status, "owner": owner.id}, actor, now)


def note(*, code: str, text: str, actor: Actor, now: datetime) -> Break:
    """Add a note to a break; earlier notes stay."""
    actor.must("breaks.work")
    if not text.strip():
        raise Invalid("text: write what you found.", field="text")
    with transaction.atomic():
        found = _locked(code, None)
        found.notes = f"{found.notes}{now:%Y-%m-%d %H:%M} {actor.name}: {text.strip()}\n"
        return _keep(found, "breaks.note", {}, {"note": "added"}, actor, now)


def resolve(*, code: str, reason: str, actor: Actor, now: datetime, version: int | None = None) -> Break:
    """Say that a break is explained and put right. It reopens by itself if a later run still finds it.

    Raises Refused without a reason; for an engineer at a shell, whose word alone decides nothing about money, also
    without an approval."""
    actor.must("breaks.work")
    if not reason.strip():
        raise Refused(missing="a reason (--reason)" if actor.kind == "cli" else "a reason")
    if actor.kind == "cli" and not actor.approval:
        raise Refused(missing="a second person's approval (--approval)")
    with transaction.atomic():
        found = _locked(code, version)
        before = {"status": found.status}
        found.status = BREAK.after(found.status, "resolve")
        found.closed_at = now
        return _keep(found, "breaks.resolve", before, {"status": found.status}, actor.because(reason), now)


# Private --------------------------------------------------------------------------------------------------------------


def _unexplained(
    run: Run, lines: Sequence[Difference], balances: Mapping[str, Money], asked: datetime, now: datetime
) -> tuple[list[Difference], dict[str, dict[str, int]]]:
    """Explained difference = total difference, per currency; what is left over is the worst class of all."""
    ours = queries.mirror(asked=asked)
    outside = queries.line_breaks_outside(since=run.since)
    explained: dict[str, dict[str, int]] = {}
    found: list[Difference] = []
    for currency in sorted({*ours, *balances}):
        theirs = balances[currency].amount if currency in balances else 0
        named = sum(line.difference for line in lines if line.currency == currency) + outside.get(currency, 0)
        left = theirs - ours.get(currency, 0) - named
        explained[currency] = {
            "provider": theirs,
            "mirror": ours.get(currency, 0),
            "explained": named,
            "unexplained": left,
        }
        if left:
            found.append(
                Difference("balance", currency, "unexplained_difference", left, currency, "", now, explained[currency])
            )
    return found, explained


def _without_repeats(clearing: list[Difference], lines: Sequence[Difference]) -> list[Difference]:
    """A movement that differs also leaves its clearing key standing; one fact is one break, the line's."""
    named = {str(line.detail.get("source")) for line in lines}
    return [difference for difference in clearing if str(difference.detail.get("key")) not in named]


def _write(run: Run, differences: Sequence[Difference], now: datetime) -> None:
    known = {
        found.identity: found
        for found in Break.objects.select_for_update().filter(identity__in=_identities(differences))
    }
    for difference in differences:
        identity = _identity(difference)
        found = known.get(identity)
        if found is None:
            Break.objects.create(
                identity=identity,
                leg=difference.leg,
                key=difference.key,
                cls=difference.cls,
                status="expected" if difference.cls == "late" else "open",
                difference=difference.difference,
                currency=difference.currency,
                subject=difference.subject,
                detail=dict(difference.detail),
                occurred_at=difference.occurred_at,
                first_seen=run,
                last_seen=run,
                opened_at=now,
            )
        else:
            _see_again(found, difference, run)
    _heal(run, _identities(differences), now)


def _see_again(found: Break, difference: Difference, run: Run) -> None:
    found.cls = difference.cls
    found.difference = difference.difference
    found.detail = dict(difference.detail)
    found.last_seen = run
    if found.status == "expected" and difference.cls != "late":
        found.status = BREAK.after(found.status, "ripen")
    elif BREAK.allows(found.status, "reopen"):
        found.status, found.closed_at = BREAK.after(found.status, "reopen"), None
    found.version += 1
    found.save()


def _heal(run: Run, seen: set[str], now: datetime) -> None:
    """Breaks that this run looked for and did not find are over: both sides are equal now."""
    gone = Break.objects.filter(status__in=OPEN).exclude(identity__in=seen)
    looked_at = [found for found in gone if found.leg != "line" or run.since <= found.occurred_at < run.until]
    for found in looked_at:
        if BREAK.allows(found.status, "heal"):
            found.status, found.closed_at = BREAK.after(found.status, "heal"), now
            found.version += 1
            found.save(update_fields=["status", "closed_at", "version"])


def _identities(differences: Sequence[Difference]) -> set[str]:
    return {_identity(difference) for difference in differences}


def _identity(difference: Difference) -> str:
    return policies.identity(leg=difference.leg, key=difference.key, currency=difference.currency)


def _digest(differences: Sequence[Difference]) -> str:
    facts = sorted((d.leg, d.key, d.cls, d.difference, d.currency) for d in differences)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _locked(code: str, version: int | None) -> Break:
    found = (
        Break.objects.select_for_update().filter(code=code).first()
    )  # two colleagues on one break: one after the other
    if found is None:
        raise NotFound(kind="break")
    if version is not None and found.version != version:
        raise StaleVersion(kind="break")
    return found


def _keep(
    found: Break, verb: str, before: Mapping[str, object], after: Mapping[str, object], actor: Actor, now: datetime
) -> Break:
    found.version += 1
    found.save()
    audit.record(actor=actor, verb=verb, kind="break", id=found.code, before=before, after=after, now=now)
    return found
