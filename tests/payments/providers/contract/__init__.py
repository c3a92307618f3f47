"""What every payment provider must do behind our port, as tests. A second provider is one folder beside `gateway/stripe`, a
`Bench` for its test environment and a subclass of `ProviderContract` (docs/providers.md).

The tests ask nothing that a test account of a real provider could not answer: they look only at what they made themselves.
Where one awaits what takes days there, it says what, and is skipped.
"""

from __future__ import annotations

from tests.payments.providers.contract.accounts import AccountsContract
from tests.payments.providers.contract.bank import BankContract
from tests.payments.providers.contract.bench import Bench, Cards
from tests.payments.providers.contract.disputes import DisputesContract
from tests.payments.providers.contract.money_back import MoneyBackContract
from tests.payments.providers.contract.money_in import MoneyInContract
from tests.payments.providers.contract.money_out import MoneyOutContract
from tests.payments.providers.contract.movements import MovementsContract

__all__ = ["Bench", "Cards", "ProviderContract"]


class ProviderContract(
    MoneyInContract,
    MoneyBackContract,
    MoneyOutContract,
    AccountsContract,
    BankContract,
    DisputesContract,
    MovementsContract,
):
    """Subclasses give the fixture `bench`."""
