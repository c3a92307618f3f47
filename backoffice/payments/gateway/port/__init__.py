"""What Staydesk needs of a payment provider, in Staydesk's words. A second provider is one more module like `stripe`.

Every method that changes something takes our idempotency key: calling again with the same key has no second effect.
Methods raise ProviderError (the answer is no, nothing happened), Indeterminate (it may have happened; the same key will
tell) or UpstreamUnavailable (it did not happen, nor in a try that the method made before by itself; repeat it). The fact
`missing` of a ProviderError is `object` where the provider does not know what it is asked about, and `account` where that is
of an account which is not connected to ours, or no longer; its fact `charged_back` is true where a refund is refused because
a card network has the charge.
"""

from __future__ import annotations

from typing import Protocol

from backoffice.payments.gateway.port.accounts import Accounts
from backoffice.payments.gateway.port.disputes import Disputes
from backoffice.payments.gateway.port.money_in import MoneyIn
from backoffice.payments.gateway.port.money_out import MoneyOut
from backoffice.payments.gateway.port.movements import Movements


class Gateway(MoneyIn, MoneyOut, Accounts, Disputes, Movements, Protocol):
    name: str

    def ping(self) -> str:
        """Ask something harmless; returns the provider's API version."""
        ...
