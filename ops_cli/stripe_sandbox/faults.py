"""Fault rules: what goes wrong, when, how often. Kept in the store, so a restart does not heal them.

A rule names requests by method and path (or events by type), the first match it applies to (``nth``), how many times
it fires (``times``, none for always) and with what probability; the dice are repeatable for one seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from .errors import ApiError, Json
from .store import Transaction

ON_REQUESTS = (
    "timeout_before_commit",
    "timeout_after_commit",
    "reset_after_commit",
    "error_500_before_commit",
    "error_500_after_commit",
    "error_409",
    "error_429",
    "lock_timeout",
    "slow",
    "truncated_body",
    "webhook_before_answer",
    "extra_field",
)
# What becomes of an event's first delivery. A repetition comes as it should.
ON_DELIVERIES = ("stale_webhook", "replay_signature", "wrong_api_version")
ON_EVENTS = (
    "duplicate_webhook",
    "drop_webhook",
    "delay_webhook",
    "reorder_webhook",
    "unknown_event_type",
    *ON_DELIVERIES,
)


@dataclass(frozen=True)
class Rule:
    """One fault. ``seconds`` is wall-clock time for requests and signatures, and virtual time for ``delay_webhook``."""

    effect: str
    method: str = "*"
    path: str = "/v1/*"
    event: str = "*"
    nth: int = 1
    times: int | None = 1
    probability: float = 1.0
    seconds: float = 0.0
    copies: int = 1

    @property
    def on_events(self) -> bool:
        """Whether it disturbs deliveries rather than requests."""
        return self.effect in ON_EVENTS


_NUMBERS: dict[str, tuple[type, ...]] = {
    "nth": (int,), "times": (int, type(None)), "probability": (int, float), "seconds": (int, float), "copies": (int,),
}  # fmt: skip


def read_rule(given: Any) -> Rule:
    """A rule from JSON; ApiError 400 naming what does not fit."""
    if not isinstance(given, dict):
        raise ApiError(400, "A fault rule is a JSON object with at least an effect.")
    unknown = set(given) - set(Rule.__dataclass_fields__)
    if unknown:
        raise ApiError(400, f"Unknown field of a fault rule: {', '.join(sorted(unknown))}.", param=min(unknown))
    effects = ON_REQUESTS + ON_EVENTS
    if given.get("effect") not in effects:
        raise ApiError(400, f"effect must be one of {', '.join(effects)}.", param="effect")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, _NUMBERS.get(name, (str,))):
            raise ApiError(400, f"{name} has the wrong type: {value!r}.", param=name)
        if isinstance(value, (int, float)) and value < 0:
            raise ApiError(400, f"{name} must not be negative.", param=name)
    return Rule(**given)


def add(tx: Transaction, rule: Rule) -> Json:
    """Store a rule; as ``listed`` shows it."""
    id = tx.value("INSERT INTO faults (rule) VALUES (?) RETURNING id", json.dumps(asdict(rule)))
    return {"id": id, "seen": 0, "fired": 0, **asdict(rule)}


def listed(tx: Transaction) -> list[Json]:
    """All rules with how many matches they have seen and how often they fired."""
    return [
        {"id": row["id"], "seen": row["seen"], "fired": row["fired"], **json.loads(row["rule"])}
        for row in tx.rows("SELECT * FROM faults ORDER BY id")
    ]


def clear(tx: Transaction, id: int | None = None) -> int:
    """Remove one rule, or all; how many."""
    return tx.run("DELETE FROM faults WHERE ?1 IS NULL OR id = ?1", id)


def for_request(tx: Transaction, method: str, path: str) -> Rule | None:
    """The fault that hits this request, if any; counts the match for every rule it matches."""
    return _first(tx, [
        (row, rule) for row, rule in _rules(tx)
        if not rule.on_events and rule.method in ("*", method) and fnmatchcase(path, rule.path)
    ])  # fmt: skip


def for_event(tx: Transaction, type: str) -> Rule | None:
    """The fault that hits the deliveries of this event, if any."""
    return _first(tx, [(row, rule) for row, rule in _rules(tx) if rule.on_events and fnmatchcase(type, rule.event)])


def _rules(tx: Transaction) -> list[tuple[Any, Rule]]:
    return [(row, Rule(**json.loads(row["rule"]))) for row in tx.rows("SELECT * FROM faults ORDER BY id")]


def _first(tx: Transaction, matching: list[tuple[Any, Rule]]) -> Rule | None:
    hit: Rule | None = None
    for row, rule in matching:
        seen, fired = row["seen"] + 1, row["fired"]
        due = seen >= rule.nth and (rule.times is None or fired < rule.times)
        fires = hit is None and due and tx.chance("fault", row["rule"], seen) < rule.probability
        tx.run("UPDATE faults SET seen = ?, fired = ? WHERE id = ?", seen, fired + fires, row["id"])
        if fires:
            hit = rule
    return hit
