"""What a handler is given: the transaction, the virtual time, the account, and how to tell the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .errors import Json
from .money import Rates
from .settings import Settings
from .store import Record, Transaction


@dataclass(frozen=True)
class Context:
    """One request, or one deferred act, inside its transaction."""

    tx: Transaction
    now: float
    settings: Settings
    rates: Rates
    account: str
    request_id: str | None = None
    idempotency_key: str | None = None

    @property
    def on_platform(self) -> bool:
        """Whether the platform's own account is meant, rather than a connected one."""
        return self.account == self.settings.platform

    @property
    def platform(self) -> Context:
        """The same moment, for the platform's account."""
        return self.within(self.settings.platform)

    def within(self, account: str) -> Context:
        """The same moment, for another account."""
        return replace(self, account=account)

    @property
    def time(self) -> int:
        """The virtual time as Stripe shows it: whole epoch seconds."""
        return int(self.now)

    def load(self, kind: str, id: str, *, noun: str | None = None, param: str = "id") -> Record:
        """An object of this account; ApiError 404 otherwise."""
        return self.tx.load(kind, id, account=self.account, noun=noun, param=param)

    def add(self, kind: str, doc: Json, private: Json | None = None) -> Record:
        """Store a new object of this account."""
        return self.tx.add(Record(kind, doc, private or {}), account=self.account)

    def defer(self, kind: str, subject: str, *, at: float) -> None:
        """Have ``kind`` done to ``subject`` when the virtual clock reaches ``at`` (epoch seconds)."""
        self.tx.run(
            "INSERT INTO deferred (due_at, kind, subject, account) VALUES (?, ?, ?, ?)", at, kind, subject, self.account
        )


Deferred = Callable[[Context, str], None]
DEFERRED: dict[str, Deferred] = {}


def deferred(kind: str) -> Callable[[Deferred], Deferred]:
    """Register what a deferred act of this kind does; it is given its context and the subject's id."""

    def register(act: Deferred) -> Deferred:
        DEFERRED[kind] = act
        return act

    return register


def run_due(ctx: Context) -> int:
    """Do every deferred act that is due, oldest first, each at the time it was due; how many."""
    done = 0
    while True:
        rows = ctx.tx.rows(
            "SELECT id, due_at, kind, subject, account FROM deferred WHERE due_at <= ? ORDER BY due_at, id LIMIT 1",
            ctx.now,
        )
        if not rows:
            return done
        row = rows[0]
        ctx.tx.run("DELETE FROM deferred WHERE id = ?", row["id"])
        then = replace(ctx, now=row["due_at"], account=row["account"], request_id=None, idempotency_key=None)
        DEFERRED[row["kind"]](then, row["subject"])
        done += 1
