"""The only way into the ledger. A journal is posted whole, in the caller's transaction, once per key; the database
refuses what does not balance, and what is posted is corrected by its exact negative, never changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, KeyReused, NotFound, Overdrawn, Refused, StaydeskError, Unbalanced
from backoffice.core.money import Money
from backoffice.ledger import queries
from backoffice.ledger.models import Journal
from backoffice.ledger.policies import Line

_POST = """
SELECT journal_id, created, same FROM ledger_post(
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s::text[], %s::bigint[], %s::text[])
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """The journal of a fact; `created` is false when the same fact had been posted before."""

    journal_id: int
    created: bool


def post(
    *,
    key: str,
    kind: str,
    lines: Sequence[Line],
    subject: str,
    reference: str = "",
    memo: str = "",
    effective_at: datetime,
    actor: Actor,
    now: datetime,
) -> Posted | None:
    """Post one business fact, in the caller's transaction and one round trip.

    `key` is made from the fact ("capture:PAY-…", "bt:txn_…"), so that it is posted once whoever tells it, however
    often. `subject` is what the journal is about (a booking's code), `reference` the provider's id. `effective_at` is
    when it happened, `now` when we record it. Lines of zero are dropped; None when nothing is left to post.

    Raises KeyReused when the key stands for another fact, Unbalanced when the lines do not sum to zero per currency,
    Invalid for an account outside the chart, Overdrawn when a bounded account would give more than it was given. After
    the last three the transaction can only be rolled back.
    """
    return _post(key, kind, lines, subject, reference, memo, effective_at, actor, now, None)


def reverse(*, journal_id: int, key: str, reason: str, actor: Actor, now: datetime) -> Posted:
    """Post the exact negative of a journal, effective now; a journal is reversed once.

    Raises NotFound, Refused without a reason, Conflict when it was reversed under another key, Overdrawn when what it
    put on a bounded account has been passed on since (reverse that first)."""
    if not reason.strip():
        raise Refused(missing="a reason")
    original = Journal.objects.filter(pk=journal_id).first()
    if original is None:
        raise NotFound(kind="journal")
    earlier = Journal.objects.filter(reverses_id=journal_id).first()
    if earlier is not None and earlier.idempotency_key != key:
        raise _reversed_already(journal_id)
    lines = [-Line.of(line.account.code, line.account.key, line.money) for line in queries.lines_of(journal_id)]
    posted = _post(key, "reversal", lines, original.subject, original.reference, reason, now, actor, now, journal_id)
    assert posted is not None  # a journal has lines, and none of them is zero
    return posted


def install_chart() -> None:
    """Put the chart of fixtures/chart_of_accounts.json into the database; migrations call it when the chart changes."""
    rows: list[tuple[Any, ...]] = [
        (a.code, a.name, a.kind, a.dimension, a.clears_within, a.bounded, a.slots) for a in queries.chart().values()
    ]
    row = "(%s::text, %s::text, %s::text, %s::text, %s::interval, %s::boolean, %s::int)"
    names = "(code, name, kind, dimension, clears_within, bounded, slots)"
    values = ", ".join([row] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE OR REPLACE VIEW ledger_chart {names} AS VALUES {values}",  # noqa: S608 placeholders alone
            [value for columns in rows for value in columns],
        )


def _post(
    key: str,
    kind: str,
    lines: Sequence[Line],
    subject: str,
    reference: str,
    memo: str,
    effective_at: datetime,
    actor: Actor,
    now: datetime,
    reverses: int | None,
) -> Posted | None:
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("a journal is posted in the transaction of the change it records")
    if not key:
        raise Invalid("key is empty: name the business fact, such as capture:PAY-1.", field="key")
    moving = [line for line in lines if line.amount]
    if not moving:
        return None
    who = f"{actor.kind}:{actor.name if actor.id is None else actor.id}"
    parameters: list[Any] = [key, kind, subject, reference, memo, who, effective_at, now, reverses]
    columns: list[Any] = [
        [line.account for line in moving],
        [line.key for line in moving],
        [line.amount for line in moving],
        [line.currency for line in moving],
    ]
    try:
        with connection.cursor() as cursor:
            cursor.execute(_POST, [*parameters, *columns])
            journal_id, created, same = cursor.fetchone()
    except IntegrityError as error:
        raise _translated(error, reverses) from error
    if not same:
        raise KeyReused(f"Ledger key {key} was used for a different fact (journal {journal_id}).", key=key)
    return Posted(journal_id, created)


def _translated(error: IntegrityError, reverses: int | None) -> StaydeskError | IntegrityError:
    """The answer that a refusal of the database stands for; the error itself where it is none we foresee."""
    said = getattr(error.__cause__, "diag", None)
    guard, sentence = getattr(said, "constraint_name", None), getattr(said, "message_primary", None) or ""
    if guard == "ledger_journal_balanced":
        return Unbalanced(sentence[:1].upper() + sentence[1:] + ".")
    if guard == "ledger_account_of_chart":
        return Invalid(sentence[:1].upper() + sentence[1:] + ".", field="account")
    if guard == "ledger_journal_reversed_once" and reverses is not None:
        return _reversed_already(reverses)
    if guard == "ledger_balance_bounded":
        facts = json.loads(said.message_detail)  # type: ignore[union-attr]
        account = queries.chart()[facts["code"]]
        return Overdrawn(
            account=f"{account.name} ({account.code})",
            key=facts["key"],
            held=str(Money(facts["held"], facts["currency"])),
            asked=str(Money(facts["asked"], facts["currency"])),
        )
    return error


def _reversed_already(journal_id: int) -> Conflict:
    return Conflict(f"Journal {journal_id} has been reversed already; a journal is reversed once.", journal=journal_id)
