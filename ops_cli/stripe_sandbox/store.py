"""The sandbox's own storage: one SQLite file, one writer at a time, every request one transaction.

Objects are JSON documents as Stripe would show them (ids where Stripe shows ids), each with a private part that no
response shows. Balance transactions are rows of their own: balances are sums over them and are stored nowhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Json, missing_resource

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (prefix TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, account TEXT NOT NULL,
    created INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0, doc TEXT NOT NULL, private TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, account, seq);
CREATE INDEX IF NOT EXISTS objects_by_intent ON objects (doc ->> '$.payment_intent') WHERE kind IN ('charge', 'refund');
CREATE INDEX IF NOT EXISTS objects_by_charge ON objects (doc ->> '$.charge') WHERE kind = 'refund';
CREATE INDEX IF NOT EXISTS disputes_by_charge ON objects (doc ->> '$.charge') WHERE kind = 'dispute';
CREATE INDEX IF NOT EXISTS warnings_by_charge ON objects (doc ->> '$.charge') WHERE kind = 'radar.early_fraud_warning';
CREATE INDEX IF NOT EXISTS transfers_by_source ON objects (doc ->> '$.source_transaction') WHERE kind = 'transfer';
CREATE INDEX IF NOT EXISTS reversals_by_transfer ON objects (doc ->> '$.transfer') WHERE kind = 'transfer_reversal';
CREATE INDEX IF NOT EXISTS objects_by_customer ON objects (kind, doc ->> '$.customer');
CREATE TABLE IF NOT EXISTS balance_transactions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, created INTEGER NOT NULL,
    available_on INTEGER NOT NULL, currency TEXT NOT NULL, amount INTEGER NOT NULL, fee INTEGER NOT NULL,
    net INTEGER NOT NULL, type TEXT NOT NULL, reporting_category TEXT NOT NULL, source TEXT, description TEXT,
    exchange_rate REAL, fee_details TEXT NOT NULL, payout TEXT, CHECK (net = amount - fee));
CREATE INDEX IF NOT EXISTS balance_transactions_by_account ON balance_transactions (account, seq);
CREATE INDEX IF NOT EXISTS balance_transactions_by_day ON balance_transactions (account, currency, available_on, net);
CREATE INDEX IF NOT EXISTS balance_transactions_by_payout ON balance_transactions (payout) WHERE payout IS NOT NULL;
CREATE INDEX IF NOT EXISTS balance_transactions_by_source ON balance_transactions (source);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, created INTEGER NOT NULL,
    type TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_account ON events (account, seq);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, endpoint TEXT NOT NULL, state TEXT NOT NULL,
    due_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, first_at REAL NOT NULL, after_delivery INTEGER,
    last_status INTEGER, last_error TEXT);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event);
CREATE TABLE IF NOT EXISTS deferred (
    id INTEGER PRIMARY KEY AUTOINCREMENT, due_at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    account TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deferred_due ON deferred (due_at, id);
CREATE TABLE IF NOT EXISTS idempotency (
    account TEXT NOT NULL, key TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL, request_id TEXT NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (account, key));
CREATE TABLE IF NOT EXISTS blobs (id TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS disturbed (delivery INTEGER PRIMARY KEY, effect TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, seen INTEGER NOT NULL DEFAULT 0,
    fired INTEGER NOT NULL DEFAULT 0);
"""
_DATA_TABLES = (
    "objects",
    "balance_transactions",
    "events",
    "deliveries",
    "deferred",
    "idempotency",
    "blobs",
    "disturbed",
    "faults",
    "counters",
)
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def token(*parts: object, length: int = 24) -> str:
    """Base-62 text derived from ``parts``: the same parts give the same text, which is what makes runs repeatable."""
    number = int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest())
    text = ""
    while len(text) < length:
        number, digit = divmod(number, 62)
        text += _ALPHABET[digit]
    return text


@dataclass
class Record:
    """One stored object: ``doc`` is what Stripe shows, ``private`` what only the simulator knows."""

    kind: str
    doc: Json
    private: Json = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The object's id."""
        return str(self.doc["id"])


class Transaction:
    """What a handler may do to the store while it holds the writer's lock."""

    def __init__(self, db: sqlite3.Connection, seed: int) -> None:
        self.db = db
        self._seed = seed

    def rows(self, sql: str, *args: object) -> list[sqlite3.Row]:
        """All rows of a query."""
        return self.db.execute(sql, args).fetchall()

    def value(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        row = self.db.execute(sql, args).fetchone()
        return row[0] if row is not None else None

    def run(self, sql: str, *args: object) -> int:
        """Run a statement; how many rows it touched."""
        return self.db.execute(sql, args).rowcount

    def new_id(self, prefix: str) -> str:
        """The next id with this prefix (``pi_``); the sequence depends on the seed alone."""
        n = self.value("INSERT INTO counters VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n", prefix)
        return prefix + token(self._seed, prefix, n)

    def chance(self, *parts: object) -> float:
        """A repeatable number in [0, 1) for ``parts``."""
        digest = hashlib.sha256("|".join(map(str, (self._seed, *parts))).encode()).digest()
        return int.from_bytes(digest[:6]) / 2**48

    def meta(self, name: str) -> str | None:
        """A stored setting."""
        value = self.value("SELECT value FROM meta WHERE name = ?", name)
        return None if value is None else str(value)

    def set_meta(self, name: str, value: object) -> None:
        """Store a setting."""
        self.run("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, str(value))

    def add(self, record: Record, *, account: str) -> Record:
        """Store a new object."""
        self.run(
            "INSERT INTO objects (id, kind, account, created, doc, private) VALUES (?, ?, ?, ?, ?, ?)",
            record.id,
            record.kind,
            account,
            record.doc.get("created", 0),
            json.dumps(record.doc),
            json.dumps(record.private),
        )
        return record

    def save(self, record: Record) -> Record:
        """Store what has changed in an object."""
        self.run(
            "UPDATE objects SET doc = ?, private = ? WHERE id = ?",
            json.dumps(record.doc),
            json.dumps(record.private),
            record.id,
        )
        return record

    def find(self, kind: str, id: str, *, account: str) -> Record | None:
        """The object with this id, unless it is deleted or another account's."""
        rows = self.rows(
            "SELECT doc, private FROM objects WHERE id = ? AND kind = ? AND account = ? AND NOT deleted",
            id,
            kind,
            account,
        )
        return Record(kind, json.loads(rows[0][0]), json.loads(rows[0][1])) if rows else None

    def load(self, kind: str, id: str, *, account: str, noun: str | None = None, param: str = "id") -> Record:
        """The object with this id; ApiError 404 ``resource_missing`` otherwise."""
        record = self.find(kind, id, account=account)
        if record is None:
            raise missing_resource(noun or kind, id, param=param)
        return record

    def delete(self, record: Record) -> None:
        """Hide an object from lists and look-ups; what refers to it keeps its id."""
        self.run("UPDATE objects SET deleted = 1 WHERE id = ?", record.id)

    def blob(self, id: str) -> bytes:
        """The bytes kept under an id; none if there are none."""
        return bytes(self.value("SELECT content FROM blobs WHERE id = ?", id) or b"")

    def set_blob(self, id: str, content: bytes) -> None:
        """Keep bytes under an id."""
        self.run("INSERT INTO blobs VALUES (?, ?) ON CONFLICT DO UPDATE SET content = excluded.content", id, content)

    def wipe(self) -> None:
        """Forget everything but the settings."""
        for table in _DATA_TABLES:
            self.run(f"DELETE FROM {table}")  # noqa: S608 - names from the constant above


class Store:
    """The file, its single connection and the lock that serialises its use."""

    def __init__(self, path: Path | str, *, seed: int) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        # WAL with NORMAL loses nothing when the process is killed; only a power cut could take the last commits.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000", "temp_store = MEMORY"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._tx = Transaction(self._db, seed)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Hold the writer's lock for one transaction: committed on return, rolled back on any exception."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._tx
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Inside a transaction: undo what follows if it raises, without giving up the transaction."""
        self._db.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK TO attempt")
            self._db.execute("RELEASE attempt")
            raise
        self._db.execute("RELEASE attempt")

    def close(self) -> None:
        """Close the file; waits for the transaction in progress."""
        with self._lock:
            self._db.close()
