"""One sandbox without its doors: store, clock, rates, deliveries. The API and the control endpoints stand on it."""

from __future__ import annotations

import json
from typing import Any

from .clock import Clock, Mode
from .context import Context
from .money import Rates
from .settings import Settings
from .store import Store, Transaction
from .webhooks import Deliverer


class World:
    """What the API and the control endpoints share."""

    def __init__(self, store: Store, settings: Settings, clock: Mode) -> None:
        self.settings = settings
        self.store = store
        self.clock = Clock(clock)
        self.rates = Rates()
        self.deliveries = Deliverer(
            store, self.context, timeout=settings.webhook_timeout, workers=settings.webhook_workers
        )
        with store.transaction() as tx:
            self.boot = int(tx.meta("boots") or 0) + 1
            tx.set_meta("boots", self.boot)
            for entry in json.loads(tx.meta("rates") or "[]"):
                self.rates.add(*entry)

    def context(self, tx: Transaction, **who: Any) -> Context:
        """A context at the present virtual time, for the platform's account unless told otherwise."""
        return Context(
            tx=tx,
            now=self.clock.now(tx),
            settings=self.settings,
            rates=self.rates,
            **{"account": self.settings.platform, **who},
        )
