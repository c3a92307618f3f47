"""Questions about runs, breaks, and what a run is about to write."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, When

from backoffice.core.errors import NotFound
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal, JournalLine
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payouts.models import BankPayout
from backoffice.reconciliation import policies
from backoffice.reconciliation.models import BankMatch, Break, BreakEvent, Run, StagedDifference
from backoffice.reconciliation.queries import statements
from backoffice.reconciliation.states import FINDINGS, OPEN, WINDOWED


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference as a run finds it; `difference` is the provider's side less ours, minor units, and `at_risk` what may
    be lost of it. `flags` are the other classes that hold."""

    leg: str
    key: str
    cls: str
    difference: int
    currency: str
    subject: str
    occurred_at: datetime
    detail: Mapping[str, Any]
    flags: tuple[str, ...] = ()
    fact: str = ""
    at_risk: int = 0

    @property
    def identity(self) -> str:
        return policies.identity(leg=self.leg, key=self.key, currency=self.currency)


def breaks() -> QuerySet[Break]:
    """Every break, newest first."""
    return Break.objects.select_related("owner", "last_seen").order_by("-id")


def open_breaks() -> QuerySet[Break]:
    """Breaks that are a finding now."""
    return breaks().filter(status__in=FINDINGS)


def breaks_of(*, differences: Iterable[Difference]) -> dict[str, Break]:
    """The breaks that some differences were written to, by identity."""
    found = Break.objects.filter(identity__in=[difference.identity for difference in differences])
    return {row.identity: row for row in found}


def runs() -> QuerySet[Run]:
    """Every run, newest first."""
    return Run.objects.order_by("-id")


def unfinished(*, scope: str) -> Run | None:
    """The newest run of a scope, if it was cut off where it can go on. A dry run never is: it would write."""
    last = runs().filter(scope=scope, dry_run=False).first()
    return last if last is not None and last.status in ("running", "interrupted") and last.checkpoint else None


def break_by_code(*, code: str) -> Break:
    """One break. Raises NotFound."""
    found = breaks().filter(code=code).first()
    if found is None:
        raise NotFound(kind="break")
    return found


def history(*, found: Break) -> QuerySet[BreakEvent]:
    """The steps of a break's life, first to last."""
    return found.events.select_related("run").order_by("id")


def journals_behind(*, found: Break, most: int = 50) -> list[Journal]:
    """The journals that a break is about, first to last: of its clearing key, its movement, what wrote it off."""
    account, key = found.detail.get("account"), found.detail.get("key")
    named = [found.journal_id, found.detail.get("journal"), *(found.detail.get("journals") or [])]
    ids = {int(id) for id in named if id}
    # Each by its own index: asked in one condition, it would be a walk of the whole book.
    if found.leg == "line" and found.key:
        spoken = ledger.journals().filter(reference=found.key).exclude(reference="")
        ids.update(spoken.order_by("id").values_list("id", flat=True)[:most])
    if account and key:
        lines = JournalLine.objects.filter(account__code=account, account__key=key, account__currency=found.currency)
        ids.update(lines.order_by("id").values_list("journal_id", flat=True)[:most])
    return list(ledger.journals().filter(pk__in=ids).order_by("id")[:most])


def proposals_of(*, found: Break) -> QuerySet[BankMatch]:
    """What reconciliation proposes for a break of the bank."""
    return statements.proposals_for(account=str(found.detail.get("account")), key=str(found.detail.get("key")))


def books_digest(*, since: datetime | None = None, until: datetime | None = None) -> str:
    """What is open now, as a digest: the same whichever runs found it, in whatever order, chunks and windows."""
    rows = Break.objects.filter(status__in=OPEN)
    if since is not None and until is not None:
        rows = rows.filter(occurred_at__gte=since, occurred_at__lt=until)
    names = ("leg", "key", "cls", "difference", "currency")
    facts = sorted([*row[:-1], sorted(row[-1])] for row in rows.values_list(*names, "flags"))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# What a run has looked for and does not find any more: it is over. What it could not look at is not: movements of categories
# that a report leaves out, and objects of which the provider was not asked, or did not answer.
_GONE: Final = """
SELECT found.id FROM reconciliation_break found
WHERE found.status = ANY(%(open)s) AND found.leg = ANY(%(compared)s) AND found.last_seen_id <> %(run)s
  AND found.id > %(after)s
  AND (NOT found.leg = ANY(%(windowed)s) OR found.occurred_at >= %(since)s AND found.occurred_at < %(until)s)
  AND NOT (found.leg = 'line' AND coalesce(found.detail ->> 'category', '') = ANY(%(left_out)s))
  AND NOT (found.leg = 'status' AND EXISTS (
      SELECT FROM (
          SELECT 'payment' AS kind, code, provider_id FROM payments_payment
          WHERE status NOT IN ('captured', 'failed', 'cancelled')
          UNION ALL
          SELECT 'refund', code, provider_id FROM payments_refund
          WHERE status IN ('approved', 'submitted', 'indeterminate')
          UNION ALL
          SELECT 'payment', code, provider_id FROM payments_extracharge
          WHERE status IN ('submitted', 'indeterminate', 'requires_action')
      ) waiting
      WHERE waiting.code = found.key AND NOT EXISTS (
          SELECT FROM reconciliation_providerstate seen WHERE seen.run_id = %(run)s AND seen.kind = waiting.kind
            AND seen.provider_id = waiting.provider_id)))
  AND NOT (found.leg = 'payout' AND found.detail ->> 'account' <> '' AND jsonb_typeof(found.detail -> 'provider') = 'object'
      AND NOT EXISTS (
          SELECT FROM reconciliation_providerstate seen WHERE seen.run_id = %(run)s AND seen.kind = 'bank_payout'
            AND seen.provider_id = found.key))
ORDER BY found.id LIMIT %(limit)s
"""


def gone(*, run: Run, compared: Sequence[str], left_out: Sequence[str], after: int, limit: int) -> list[int]:
    """Ids of the next open breaks that a run looked for and did not find, in their order."""
    values: dict[str, Any] = {
        "run": run.pk,
        "since": run.since,
        "until": run.until,
        "open": list(OPEN),
        "windowed": list(WINDOWED),
        "compared": list(compared),
        "left_out": list(left_out),
        "after": after,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_GONE, values)
        return [id for (id,) in cursor.fetchall()]


# What the provider is asked about -----------------------------------------------------------------------------------------

# Each is one call: what is under way is few, and what is older than all of these is found by its money. What has a break
# already is asked first, so that it can be seen to be over.
_MOST_ASKED: Final = 200


def payments_under_way() -> list[str]:
    """Provider ids of payments, and of charges beside them, that have not ended: those with a break first, then newest first."""
    rows = Payment.objects.filter(provider_id__isnull=False).exclude(status__in=["captured", "failed", "cancelled"])
    extra = ExtraCharge.objects.filter(
        provider_id__isnull=False, status__in=["submitted", "indeterminate", "requires_action"]
    )
    found: list[tuple[bool, datetime, str | None]] = []
    for each in (rows, extra):
        first = each.annotate(broken=_broken("status", "code")).order_by("-broken", "-id")
        found += first.values_list("broken", "created_at", "provider_id")[:_MOST_ASKED]
    found.sort(key=lambda row: row[:2], reverse=True)
    return [str(id) for _, _, id in found[:_MOST_ASKED]]


def refunds_under_way() -> list[str]:
    """Provider ids of refunds that have not ended, those with a break first, then newest first. What is paid another way
    carries our bank's reference, of which the provider knows nothing."""
    rows = Refund.objects.filter(
        provider_id__isnull=False, method="card", status__in=["approved", "submitted", "indeterminate"]
    )
    rows = rows.annotate(broken=_broken("status", "code")).order_by("-broken", "-id")
    return [str(id) for id in rows.values_list("provider_id", flat=True)[:_MOST_ASKED]]


def host_payouts_under_way() -> list[tuple[str, str]]:
    """Provider ids and accounts of bank payouts of hosts that have a break, then of those that have not ended, newest first."""
    rows = BankPayout.objects.filter(provider_id__isnull=False).exclude(account="")
    rows = rows.annotate(broken=_broken("payout", "provider_id"))
    rows = rows.filter(Q(broken=True) | Q(status__in=["pending", "in_transit"])).order_by("-broken", "-id")
    return [(str(id), account) for id, account in rows.values_list("provider_id", "account")[:_MOST_ASKED]]


def _broken(leg: str, key: str) -> Exists:
    return Exists(Break.objects.filter(leg=leg, key=OuterRef(key), status__in=OPEN))


# What a run has found and not yet written ------------------------------------------------------------------------------


# As they are kept, without a model's instance around each: a first run over a large book reads thousands of them three times.
_STAGED: Final = (
    "place",
    "leg",
    "key",
    "hits",
    "difference",
    "currency",
    "subject",
    "occurred_at",
    "detail",
    "fact",
    "at_risk",
)


def staged(*, run: Run, after: int, limit: int) -> list[tuple[int, Difference]]:
    """The next differences of a run in the order in which they are written, with their place."""
    rows = StagedDifference.objects.filter(run=run, place__gt=after).order_by("place").values_list(*_STAGED)[:limit]
    return [(place or 0, _difference(*facts)) for place, *facts in rows]


def shown(*, run: Run, most: int) -> list[Difference]:
    """The first differences of a run in the order of writing; where there are more, findings before those that are young."""
    young = Case(When(hits=["late"], then=1), default=0)
    rows = StagedDifference.objects.filter(run=run, place__isnull=False).order_by(young, "place").values_list(*_STAGED)
    return [_difference(*facts) for _, *facts in sorted(rows[:most], key=lambda row: row[0])]


def _difference(
    leg: str,
    key: str,
    hits: Sequence[str],
    difference: int,
    currency: str,
    subject: str,
    occurred_at: datetime,
    detail: Mapping[str, Any],
    fact: str,
    at_risk: int,
) -> Difference:
    cls, flags = policies.name(hits)
    return Difference(
        leg=leg,
        key=key,
        cls=cls,
        difference=difference,
        currency=currency,
        subject=subject,
        occurred_at=occurred_at,
        detail=detail,
        flags=flags,
        fact=fact,
        at_risk=at_risk,
    )


def outcome(*, run: Run) -> tuple[str, dict[str, int]]:
    """The digest of all that a run found, in an order of its own (the same for the same facts), and how many of each class. A
    cursor keeps memory flat, and what each side says is not read."""
    digest, counts = hashlib.sha256(), Counter[str]()
    rows = StagedDifference.objects.filter(run=run, place__isnull=False).order_by("place")
    names = ("leg", "key", "hits", "difference", "currency")
    for leg, key, hits, difference, currency in rows.values_list(*names).iterator(chunk_size=1_000):
        cls, flags = policies.name(hits)
        digest.update(json.dumps([leg, key, cls, *flags, difference, currency]).encode())
        counts[cls] += 1
    return digest.hexdigest(), dict(sorted(counts.items()))


# A record's own hash, column by column: a million rows are not made into text first. The second sum is of the hashes mixed
# anew, so that two rows do not make up for two others in both.
_INPUT: Final = """
SELECT count(*), coalesce(sum(hash), 0), coalesce(sum(hashint8extended(hash, 2)), 0), max(created)
FROM (
    SELECT hash_record_extended((provider_id, reporting_category, source_id, amount, fee, net, currency, created), 1)
               AS hash, created
    FROM reconciliation_providerline WHERE run_id = %(run)s
    UNION ALL
    SELECT hash_record_extended((kind, provider_id, account, status, amount, currency), 1), NULL
    FROM reconciliation_providerstate WHERE run_id = %(run)s
) line
"""


_BANK: Final = """
SELECT count(*), coalesce(sum(hash), 0), coalesce(sum(hashint8extended(hash, 2)), 0)
FROM (SELECT hash_record_extended((account, reference, digest), 1) AS hash FROM reconciliation_statementline) line
"""


@dataclass(frozen=True, slots=True)
class BankFacts:
    """What is known of the bank: how many lines, how many of them are not wholly matched, and the sums of their hashes."""

    lines: int
    open: int
    sums: tuple[str, ...]


def bank_facts() -> BankFacts:
    """What is known of the bank's lines now."""
    with connection.cursor() as cursor:
        cursor.execute(_BANK)
        lines, *sums = cursor.fetchone()
    return BankFacts(lines, len(statements.open_lines()), tuple(map(str, sums)))


def input_digest(*, run: Run, bank: BankFacts | None = None) -> tuple[str, datetime | None]:
    """The digest of the rows that a run was given by the provider, and of the lines of the `bank` where it compares those:
    sums of hashes, which no order changes; and when the newest of the provider's movements was made."""
    with connection.cursor() as cursor:
        cursor.execute(_INPUT, {"run": run.pk})
        *sums, newest = cursor.fetchone()
    facts = [*map(str, sums), *(bank.sums if bank is not None else ()), run.rules, run.scope]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest(), newest


# Balances --------------------------------------------------------------------------------------------------------------

# From the lines. Where a window of a large book is compared, from the kept balances: that these are the sums of the lines is
# the ledger's own check, and every run over the whole book looks at the lines.
_MIRROR: Final = """
SELECT line.currency, sum(line.amount)::bigint FROM ledger_line line WHERE line.account_id = ANY(%(mirrors)s)
GROUP BY line.currency
"""
_KEPT_MIRROR: Final = """
SELECT account.currency, sum(held.balance)::bigint
FROM ledger_balance held JOIN ledger_account account ON account.id = held.account_id
WHERE held.account_id = ANY(%(mirrors)s) GROUP BY account.currency
"""
# In one pass: what the imported movements add up to, what was imported only after the provider was asked (which is no
# difference), and how many there are in the window.
_MOVED: Final = """
SELECT currency, coalesce(sum(net) FILTER (WHERE imported_at <= %(asked)s), 0)::bigint,
       coalesce(sum(net) FILTER (WHERE imported_at > %(asked)s), 0)::bigint,
       count(*) FILTER (WHERE imported_at <= %(asked)s AND created >= %(since)s AND created < %(until)s
                          AND NOT reporting_category = ANY(%(left_out)s))
FROM payments_balancetransaction GROUP BY currency
"""

# By how much the provider's side exceeds ours, currency by currency, in differences that have a name.
_NAMED: Final = """
SELECT currency, sum(amount)::bigint FROM (
    SELECT coalesce(detail #>> '{provider,currency}', currency) AS currency,
           CASE WHEN cross_currency THEN (detail #>> '{provider,net}')::bigint ELSE difference END AS amount
    FROM named
    UNION ALL
    SELECT detail #>> '{ledger,currency}', -(detail #>> '{ledger,net}')::bigint FROM named WHERE cross_currency
) each GROUP BY currency
"""
_CROSS: Final = "(detail #>> '{provider,currency}') <> (detail #>> '{ledger,currency}') AS cross_currency"
_STAGED_LINES: Final = f"""
WITH named AS (SELECT currency, difference, detail, {_CROSS} FROM reconciliation_stageddifference
               WHERE run_id = %(run)s AND leg = 'line')
{_NAMED}
"""  # noqa: S608  # constants of this file
_KNOWN_LINES: Final = f"""
WITH named AS (SELECT currency, difference, detail, {_CROSS} FROM reconciliation_break
               WHERE leg = 'line' AND status = ANY(%(open)s)
                 AND NOT (%(here)s AND occurred_at >= %(since)s AND occurred_at < %(until)s))
{_NAMED}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Mirror:
    """What the ledger says the provider holds for us, by currency, and what the imported movements add up to; without what was
    imported after the provider was asked. `movements` is how many of them a run compares."""

    held: Mapping[str, int]
    moved: Mapping[str, int]
    movements: int

    @property
    def whole(self) -> bool:
        """Whether the two are the same in every currency."""
        return all(self.held.get(name, 0) == self.moved.get(name, 0) for name in {*self.held, *self.moved})


def mirror(
    *,
    asked: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    left_out: Sequence[str] = (),
    kept: bool = False,
) -> Mirror:
    """Both sums as of when the provider was `asked`; `kept` takes ours from the kept balances instead of the lines."""
    values = {"asked": asked, "since": since, "until": until, "left_out": list(left_out), "mirrors": mirror_accounts()}
    held = _by_currency(_KEPT_MIRROR if kept else _MIRROR, values)
    moved, movements = {}, 0
    with connection.cursor() as cursor:
        cursor.execute(_MOVED, values)
        for currency, total, after, number in cursor.fetchall():
            moved[currency] = total
            held[currency] = held.get(currency, 0) - after
            movements += number
    return Mirror(held, moved, movements)


def mirror_lines() -> int:
    """How many lines the mirror has, as the kept balances count them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(version), 0)::bigint FROM ledger_balance WHERE account_id = ANY(%s)",
            [mirror_accounts()],
        )
        (count,) = cursor.fetchone()
        return int(count)


def mirror_accounts() -> list[int]:
    """The ids of the mirror's accounts, one per currency."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM ledger_account WHERE code = '1100'")
        return [id for (id,) in cursor.fetchall()]


def named(*, run: Run, lines_compared: bool) -> dict[str, int]:
    """Currency -> the differences that have a name: those of this run's lines, and of open breaks that it did not look at."""
    found = _by_currency(_STAGED_LINES, {"run": run.pk}) if lines_compared else {}
    known = {"open": list(OPEN), "here": lines_compared, "since": run.since, "until": run.until}
    for currency, amount in _by_currency(_KNOWN_LINES, known).items():
        found[currency] = found.get(currency, 0) + amount
    return found


def _by_currency(sql: str, values: Mapping[str, Any]) -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return dict(cursor.fetchall())
