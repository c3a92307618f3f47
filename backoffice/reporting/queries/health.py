"""Whether the desk is well, as far as its database can tell: one check each, with the command that puts it right."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from backoffice.audit import queries as audit
from backoffice.core import clock
from backoffice.jobs import policies as job_policies
from backoffice.jobs import queries as jobs
from backoffice.ledger import queries as ledger
from backoffice.ledger.queries import Finding
from backoffice.notifications import queries as notifications
from backoffice.payments import queries as payments
from backoffice.payouts import queries as payouts
from backoffice.reconciliation import queries as reconciliation

EXTENSIONS: Final = ("btree_gist", "unaccent")
OLDEST_POSTGRESQL: Final = 150_000

# Table -> the triggers that keep the audit log append-only (audit, migration 0002). The ledger knows its own.
AUDIT_GUARDS: Final[Mapping[str, tuple[str, ...]]] = {
    "audit_entry": ("audit_entry_append_only", "audit_entry_no_truncate"),
    "audit_block": ("audit_block_append_only", "audit_block_no_truncate"),
}

# Beat sends a heartbeat every ten seconds and seals every thirty; what waits longer than these is stuck.
SILENT_AFTER: Final = timedelta(seconds=60)
UNSEALED_AFTER: Final = timedelta(minutes=2)
WAITING_AFTER: Final = timedelta(seconds=60)
RECENT: Final = timedelta(days=1)
# What is owed back to a host is planned by the next run of releases, a minute away.
PLANNED_WITHIN: Final = timedelta(hours=1)
MOST_SKEW: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Check:
    """One answer; `fix` is the command to run when it is not well."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a check is given: the desk's clock, and whether to prove everything or only what is recent."""

    now: datetime
    full: bool = False


def database(trial: Trial) -> Check:
    """The database answers and is new enough."""
    version: int = _value("SELECT current_setting('server_version_num')::int")
    said: str = _value("SELECT current_setting('server_version')")
    name: str = _value("SELECT current_database()")
    ok = version >= OLDEST_POSTGRESQL
    return Check("database", ok, f"PostgreSQL {said.split()[0]}, database {name}", "use PostgreSQL 15 or newer")


def extensions(trial: Trial) -> Check:
    """The extensions that nights and search stand on."""
    present = {name for (name,) in _rows("SELECT extname FROM pg_extension")}
    missing = [name for name in EXTENSIONS if name not in present]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(EXTENSIONS)
    return Check("extensions", not missing, detail, _psql(*(f"CREATE EXTENSION {name}" for name in missing)))


def migrations(trial: Trial) -> Check:
    """Every migration is applied."""
    executor = MigrationExecutor(connection)
    missing = [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    applied = len(executor.loader.applied_migrations)
    detail = f"{len(missing)} not applied, first {missing[0]}" if missing else f"{applied} applied"
    return Check("migrations", not missing, detail, "ops down && ops up")


def guards(trial: Trial) -> Check:
    """The triggers that keep ledger and audit log as they were written are there and enabled."""
    wanted = {**ledger.GUARDS, **AUDIT_GUARDS}
    state = {
        (table, trigger): enabled
        for table, trigger, enabled in _rows(
            "SELECT relname, tgname, tgenabled IN ('O', 'A') FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE NOT tgisinternal AND relname = ANY(%s)",
            list(wanted),
        )
    }
    triggers = [(table, trigger) for table, names in wanted.items() for trigger in names]
    missing = [trigger for table, trigger in triggers if (table, trigger) not in state]
    disabled = [(table, trigger) for table, trigger in triggers if state.get((table, trigger)) is False]
    if missing:
        fix = "restore the trigger from the migration of its room (0002), then ops ledger check and ops audit verify"
        return Check("guards", False, f"missing: {', '.join(missing)}", fix)
    if disabled:
        named = ", ".join(trigger for _, trigger in disabled)
        fix = _psql(*(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}" for table, trigger in disabled))
        return Check("guards", False, f"disabled: {named}", fix)
    return Check("guards", True, f"{len(triggers)} triggers present and enabled")


def books(trial: Trial) -> Check:
    """The ledger proves itself from its lines, and every booking's money is explained."""
    findings = ledger_check(now=trial.now)
    bad = [finding for finding in findings if not finding.ok]
    detail = f"{bad[0].check}: {bad[0].detail}" if bad else f"{len(findings)} checks hold"
    return Check("ledger", not bad, detail, "ops ledger check")


def ledger_check(*, now: datetime) -> list[Finding]:
    """The ledger's own checks, and those that only rooms above it can make: every booking's and payout's money is explained."""
    return [*ledger.check(now=now), bookings_explained(), payouts_explained()]


# What payments and refunds say each booking's money should have done, beside what the ledger was told of it: the amount
# expected of the provider, what goes back, and the five parts. Signed, debit positive; our own facts only, not the
# provider's (`bt.`), which reconciliation compares. A refund after the release takes its parts from the host and our revenue
# (1310, 4100, 4110) instead; after one that had to convert, in another currency, so that of such bookings only the amounts
# of the charge are compared here. Damage that was paid too late stands under its booking, for the guest.
_EXPLAINED: Final = """
WITH paid AS (
    SELECT payment.id AS payment_id, booking.code AS subject, booking.currency AS own, payment.currency, payment.amount,
           payment.held, payment.host_fee, payment.guest_fee, payment.vat, payment.occupancy_tax
    FROM payments_payment payment JOIN bookings_booking booking ON booking.id = payment.booking_id
    WHERE payment.status = 'captured'
    UNION ALL
    SELECT NULL, booking.code, booking.currency, charge.currency, charge.amount,
           charge.held, charge.host_fee, charge.guest_fee, charge.vat, charge.occupancy_tax
    FROM payments_extracharge charge JOIN bookings_booking booking ON booking.id = charge.booking_id
    WHERE charge.status = 'captured' AND (charge.kind = 'instalment' OR charge.held > 0)
), returned AS (
    SELECT paid.subject, paid.own, refund.*, CASE WHEN refund.repays_id IS NULL THEN 1 ELSE 0 END AS takes
    FROM payments_refund refund JOIN paid ON paid.payment_id = refund.payment_id
    WHERE refund.approved_at IS NOT NULL AND refund.status <> 'cancelled'
      AND NOT (refund.status = 'failed' AND NOT refund.unclaimed)
), converted AS (
    SELECT DISTINCT booking.code AS subject
    FROM payouts_payout payout JOIN bookings_booking booking ON booking.id = payout.booking_id
    WHERE payout.rate IS NOT NULL
), expected AS (
    SELECT subject, '1150' AS code, currency, amount FROM paid
    UNION ALL SELECT subject, '2400', currency, -amount FROM returned
    UNION ALL SELECT subject, '2100', own, -held FROM paid
    UNION ALL SELECT subject, '2100', own, held * takes FROM returned
    UNION ALL SELECT subject, '2111', own, -host_fee FROM paid
    UNION ALL SELECT subject, '2111', own, host_fee * takes FROM returned
    UNION ALL SELECT subject, '2110', own, -guest_fee FROM paid
    UNION ALL SELECT subject, '2110', own, guest_fee * takes FROM returned
    UNION ALL SELECT subject, '2310', own, -vat FROM paid
    UNION ALL SELECT subject, '2310', own, vat * takes FROM returned
    UNION ALL SELECT subject, '2300', own, -occupancy_tax FROM paid
    UNION ALL SELECT subject, '2300', own, occupancy_tax * takes FROM returned
), told AS (
    SELECT journal.subject, account.currency, line.amount,
           CASE account.code WHEN '1310' THEN '2100' WHEN '4100' THEN '2110' WHEN '4110' THEN '2111'
                             ELSE account.code END AS code
    FROM ledger_line line
    JOIN ledger_journal journal ON journal.id = line.journal_id
    LEFT JOIN ledger_journal original ON original.id = journal.reverses_id
    JOIN ledger_account account ON account.id = line.account_id
    WHERE coalesce(original.kind, journal.kind) IN ('capture', 'refund', 'repayment_approved')
      AND account.code IN ('1150', '2400', '2100', '2110', '2111', '2300', '2310', '1310', '4100', '4110')
), expected_sums AS (
    SELECT subject, code, currency, sum(amount)::bigint AS amount FROM expected GROUP BY subject, code, currency
), told_sums AS (
    SELECT subject, code, currency, sum(amount)::bigint AS amount FROM told GROUP BY subject, code, currency
)
SELECT subject, code, currency, coalesce(expected_sums.amount, 0), coalesce(told_sums.amount, 0), count(*) OVER ()
FROM expected_sums FULL JOIN told_sums USING (subject, code, currency)
WHERE coalesce(expected_sums.amount, 0) <> coalesce(told_sums.amount, 0)
  AND (code IN ('1150', '2400')
       OR coalesce(expected_sums.subject, told_sums.subject) NOT IN (SELECT converted.subject FROM converted))
ORDER BY subject, code, currency LIMIT 1
"""

# What each released payout says it moved, beside its postings: guest funds, what became payable, what was kept for a debt.
_PAID_OUT: Final = """
WITH released AS (
    SELECT * FROM payouts_payout WHERE released_at IS NOT NULL AND weight > 0
), expected AS (
    SELECT code AS payout, '2100' AS code, currency, held AS amount FROM released
    UNION ALL
    SELECT code, '2200', transfer_currency, -transfer_amount FROM released
    UNION ALL SELECT code, '1310', transfer_currency, -netted FROM released
), told AS (
    SELECT journal.reference AS payout, account.code, account.currency, line.amount
    FROM ledger_line line
    JOIN ledger_journal journal ON journal.id = line.journal_id
    JOIN ledger_account account ON account.id = line.account_id
    WHERE journal.kind IN ('release', 'netting') AND account.code IN ('2100', '2200', '1310')
      AND journal.reference NOT IN (SELECT payout.code FROM payouts_payout payout WHERE payout.weight = 0)
      AND journal.reference <> ''
), expected_sums AS (
    SELECT payout, code, currency, sum(amount)::bigint AS amount FROM expected GROUP BY payout, code, currency
), told_sums AS (
    SELECT payout, code, currency, sum(amount)::bigint AS amount FROM told GROUP BY payout, code, currency
)
SELECT payout, code, currency, coalesce(expected_sums.amount, 0), coalesce(told_sums.amount, 0), count(*) OVER ()
FROM expected_sums FULL JOIN told_sums USING (payout, code, currency)
WHERE coalesce(expected_sums.amount, 0) <> coalesce(told_sums.amount, 0)
ORDER BY payout, code, currency LIMIT 1
"""


def bookings_explained() -> Finding:
    """Whether every captured payment and approved refund stands in the ledger part by part, and nothing else does."""
    found = _unexplained("bookings_explained", "booking", _EXPLAINED)
    if found is not None:
        return found
    count: int = _value("SELECT count(*) FROM payments_payment WHERE status = 'captured'")
    return Finding(check="bookings_explained", ok=True, detail=f"the money of {count:,} bookings is explained")


def payouts_explained() -> Finding:
    """Whether every released payout moved in the ledger what it says it did, and nothing else was released."""
    found = _unexplained("payouts_explained", "payout", _PAID_OUT)
    if found is not None:
        return found
    count: int = _value("SELECT count(*) FROM payouts_payout WHERE released_at IS NOT NULL")
    return Finding(check="payouts_explained", ok=True, detail=f"the money of {count:,} released payouts is explained")


def audit_chain(trial: Trial) -> Check:
    """What is sealed has not been altered; by default the blocks of the last day that has any, all when `full`."""
    newest = audit.backlog().last_sealed_at
    found = audit.verify(since=None if trial.full or newest is None else newest - RECENT)
    if found.first_bad is not None:
        seq, what = found.first_bad
        return Check("audit", False, f"entry {seq}: {what} ({found.bad} in all)", "ops audit verify")
    span = "all" if trial.full else "of the last day"
    return Check(
        "audit",
        True,
        f"{found.checked:,} entries in {found.blocks:,} blocks, {span}; {found.anchors_compared:,} anchored",
    )


def sealing(trial: Trial) -> Check:
    """The log is sealed within a minute."""
    backlog = audit.backlog()
    # An entry may tell of something long past (a demo does); it cannot have waited longer than since the last sealing.
    since = [at for at in (backlog.oldest_at, backlog.last_sealed_at or _made_at()) if at is not None]
    age = trial.now - max(since) if backlog.oldest_at else timedelta(0)
    detail = f"{backlog.unsealed} entries wait for {_span(age)}" if backlog.unsealed else "nothing waits"
    return Check("sealing", age <= UNSEALED_AFTER, f"{detail}; last block {backlog.last_block}", "ops audit seal")


def webhooks(trial: Trial) -> Check:
    """The provider's events are applied as they come."""
    count, age, dead = payments.inbox_backlog(now=trial.now)
    if dead:
        fix = "ops webhooks list --status dead, then ops webhooks replay --status dead"
        return Check("webhooks", False, f"{dead} given up, {count} waiting", fix)
    detail = f"{count} waiting, the oldest for {_span(age)}" if count else "nothing waits"
    return Check("webhooks", age <= WAITING_AFTER, detail, "ops jobs run workflows.apply_pending_events")


def outbox(trial: Trial) -> Check:
    """E-mail, notices and hints to the workers go out as they are written."""
    backlog = notifications.backlog(now=trial.now)
    waiting = backlog.pending + backlog.failing
    if backlog.dead:
        detail = f"{backlog.dead} given up, {waiting} waiting"
        return Check("outbox", False, detail, "ops outbox retry --all, once what refused them answers again")
    age = backlog.oldest or timedelta(0)
    detail = f"{waiting} waiting, the oldest for {_span(age)}" if waiting else "nothing waits"
    return Check("outbox", age <= WAITING_AFTER, detail, "ops jobs run notifications.sweep_outbox")


def worker(trial: Trial) -> Check:
    """A worker has run beat's heartbeat lately."""
    return _heard("worker", trial.now)


def beat(trial: Trial) -> Check:
    """Beat has sent a heartbeat lately that a worker ran."""
    return _heard("beat", trial.now)


def schedule(trial: Trial) -> Check:
    """Every job that runs by itself has succeeded lately; one that never did gets its time since the desk was made."""
    made = _made_at()
    late = [
        job
        for job in jobs.late_jobs(now=trial.now)
        if job.last_success_at is not None or job_policies.is_late(every=job.every, last=made, now=trial.now)
    ]
    if not late:
        return Check("jobs", True, f"{len(jobs.schedule())} jobs on time")
    first = late[0]
    since = f"last done {_span(trial.now - first.last_success_at)} ago" if first.last_success_at else "never done"
    others = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
    return Check("jobs", False, f"{first.name} is late: {since}{others}", f"ops jobs run {first.name}")


def clocks(trial: Trial) -> Check:
    """The database's clock agrees with ours; a desk whose clock was moved says so."""
    before = time.time()
    theirs: datetime = _value("SELECT clock_timestamp()")
    ours = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    skew = abs(theirs - ours)
    ahead = clock.offset()
    moved = f", the desk runs {_span(ahead)} ahead" if ahead else ""
    if ahead and not settings.VIRTUAL_CLOCK:
        return Check(
            "clock", False, f"a production desk whose clock was moved{moved}", "restore the core_clockoffset row"
        )
    detail = f"the database's clock is {skew.total_seconds():.1f} s from ours{moved}"
    return Check("clock", skew <= MOST_SKEW, detail, "set both clocks by NTP: timedatectl set-ntp true")


def stops(trial: Trial) -> Check:
    """No kill switch is on."""
    on = list(jobs.stops())
    said = "; ".join(f"{row.scope} since {row.since:%Y-%m-%d %H:%M} UTC by {row.by}: {row.reason}" for row in on)
    fix = "; ".join(f'ops resume {row.scope} --reason "…"' for row in on)
    return Check("stops", not on, said or "nothing is stopped", fix)


def quality(trial: Trial) -> Check:
    """The four shares of data quality meet their goals. Timeliness is said and not judged: a desk that was stopped, or
    whose clock was moved on, learned of its movements late, and nothing puts that right."""
    found = reconciliation.score(now=trial.now)
    shares = {name: reconciliation.percent(getattr(found, name)) for name in reconciliation.GOALS}
    detail = ", ".join(f"{name} {share}" for name, share in shares.items())
    if found.last_run_at is None:
        detail += "; never reconciled"
    else:
        detail += f"; reconciled {_span(trial.now - found.last_run_at)} ago"
    return Check(
        "quality", not (set(found.below_goal) - {"timeliness"}), detail, "ops reconcile all && ops breaks list"
    )


def chargebacks(trial: Trial) -> Check:
    """None has passed our own deadline unanswered. How near a network's threshold we are is said and not judged: of few
    charges one chargeback is many per cent."""
    figures = payments.chargeback_figures(now=trial.now)
    waiting = f"{figures.waiting} wait for an answer, {figures.late} of them past our deadline"
    detail = "; ".join(filter(None, [waiting if figures.waiting else "none waits for an answer", figures.words]))
    return Check("chargebacks", not figures.late, detail, "ops chargebacks deadlines")


def credits(trial: Trial) -> Check:
    """What hosts paid for debts that are none after all is planned for them by the run of releases."""
    rows = payouts.credits_that_stay(since=trial.now - PLANNED_WITHIN)
    if not rows:
        return Check("credits", True, "nothing is owed back to a host that no payout carries")
    named = ", ".join(f"{row.amount} to host {row.host_code}" for row in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return Check(
        "credits", False, f"owed back and not planned: {named}{more}", "ops jobs run workflows.release_payouts"
    )


CHECKS: Final[Mapping[str, Callable[[Trial], Check]]] = {
    "database": database,
    "extensions": extensions,
    "migrations": migrations,
    "guards": guards,
    "clock": clocks,
    "worker": worker,
    "beat": beat,
    "jobs": schedule,
    "stops": stops,
    "webhooks": webhooks,
    "outbox": outbox,
    "sealing": sealing,
    "audit": audit_chain,
    "ledger": books,
    "chargebacks": chargebacks,
    "credits": credits,
    "quality": quality,
}


# Private --------------------------------------------------------------------------------------------------------------


def _unexplained(check: str, kind: str, query: str) -> Finding | None:
    """The first row where the ledger was told other than the tables say; None when there is none."""
    found = _rows(query)
    if not found:
        return None
    ((subject, code, currency, expected, told, failing),) = found
    others = f" (and {failing - 1:,} more)" if failing > 1 else ""
    name = f"{kind} {subject}" if subject else f"a journal without a {kind}"
    detail = f"{name}: account {code} moved by {told} {currency} where {expected} is explained{others}"
    return Finding(check=check, ok=False, detail=detail, offender=name)


def _heard(part: str, now: datetime) -> Check:
    found = jobs.heartbeat_ages(now=now).get(part)
    if found is None:
        return Check(part, False, "never heard of", "ops up")
    ok = found.age <= SILENT_AFTER
    return Check(part, ok, f"heard {_span(found.age)} ago, on {found.host} (version {found.version})", "ops up")


def _made_at() -> datetime | None:
    rows = MigrationRecorder(connection).migration_qs.order_by("applied").values_list("applied", flat=True)
    made: datetime | None = rows.first()
    return made


def _psql(*statements: str) -> str:
    return 'psql "$DATABASE_URL" ' + " ".join(f"-c '{statement}'" for statement in statements)


def _span(length: timedelta) -> str:
    """A length of time in its largest sensible unit."""
    seconds = int(length.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _value(sql: str) -> Any:
    return _rows(sql)[0][0]


def _rows(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())
