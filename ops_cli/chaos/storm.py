"""The storm: parts are killed with -9, the provider loses answers after it has acted, webhooks get lost, time jumps."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any, Final

from ops_cli.chaos.desk import ThrowawayDesk
from ops_cli.chaos.people import Tally
from ops_cli.chaos.provider import Provider
from ops_cli.output import Failed

VICTIMS: Final = ("web", "worker", "sandbox", "redis")
# Seconds between two blows, and what is struck: mostly one part, sometimes two at once.
BETWEEN_KILLS: Final = (1.5, 5.0)
BETWEEN_CLOCKS: Final = (12.0, 25.0)
JUMPS: Final = ("10m", "45m", "3h", "9h", "26h")
# Each rule strikes with this chance, as long as the storm lasts. Calls are the provider's side of money moving.
CALLS: Final = ("/v1/payment_intents*", "/v1/refunds", "/v1/transfers*", "/v1/payouts")
ON_CALLS: Final = (
    ("reset_after_commit", 0.06, 0.0),
    ("timeout_after_commit", 0.01, 4.0),
    ("timeout_before_commit", 0.01, 4.0),
    ("error_500_after_commit", 0.02, 0.0),
    ("error_500_before_commit", 0.02, 0.0),
    ("error_429", 0.02, 0.0),
    ("lock_timeout", 0.01, 0.0),
)
ON_WEBHOOKS: Final = (
    ("drop_webhook", 0.08),
    ("duplicate_webhook", 0.08),
    ("delay_webhook", 0.05),
    ("reorder_webhook", 0.05),
)


class Storm(threading.Thread):
    """Rages until it is told to end; then says what it did."""

    def __init__(self, desk: ThrowawayDesk, provider: Provider, *, seed: int, tally: Tally) -> None:
        super().__init__(name="storm", daemon=True)
        self._desk, self._provider, self._tally = desk, provider, tally
        self._rng = random.Random(seed)  # noqa: S311  # a plan, not a secret
        self._over = threading.Event()
        self.kills = dict.fromkeys(VICTIMS, 0)
        self.clock_moves = 0
        self.faults: Counter[str] = Counter()

    def brew(self) -> None:
        """Lay the provider's faults; they outlive its own deaths."""
        for effect, probability, seconds in ON_CALLS:
            for path in CALLS:
                self._lay(effect=effect, method="POST", path=path, probability=probability, seconds=seconds)
        for effect, probability in ON_WEBHOOKS:
            self._lay(effect=effect, probability=probability, seconds=600.0 if effect == "delay_webhook" else 0.0)

    def _lay(self, **rule: Any) -> None:
        self._provider.control("POST", "faults", {"times": None, **rule})

    def run(self) -> None:
        next_clock = time.monotonic() + self._rng.uniform(*BETWEEN_CLOCKS)
        while not self._over.wait(self._rng.uniform(*BETWEEN_KILLS)):
            if not self._desk.is_looked_after:
                self._tally.hopeless.set()  # its supervisor has given up: nobody starts anything again
                return
            for name in self._rng.sample(VICTIMS, self._rng.choice([1, 1, 1, 2])):
                self.kills[name] += self._desk.kill(name)
            if time.monotonic() > next_clock:
                self._move_clock(self._rng.choice(JUMPS))
                next_clock = time.monotonic() + self._rng.uniform(*BETWEEN_CLOCKS)

    def _move_clock(self, span: str) -> None:
        try:
            self._desk.ops("sandbox", "clock", "advance", span)
            self.clock_moves += 1
        except Failed:
            return  # the provider or the database was away; the next move brings the clocks together

    def end(self) -> None:
        """No more blows."""
        self._over.set()
        self.join()

    def take_down(self) -> None:
        """Remove the faults, and keep how often each struck."""
        for rule in self._provider.control("GET", "faults")["data"]:
            self.faults[rule["effect"]] += rule["fired"]
        self._provider.control("DELETE", "faults")
