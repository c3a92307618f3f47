"""Steps that the tests of money out share: a host whose account the provider has made and looked at."""

from __future__ import annotations

from backoffice.payouts import queries as payouts
from backoffice.payouts.models import HostAccount
from backoffice.people.models import User
from backoffice.workflows import onboard_host
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now

BACK = "https://desk.example/payouts"


def begun(host: User) -> HostAccount:
    """The host has asked to be paid and told the provider nothing yet."""
    onboard_host.begin(actor=factories.acting(host, now=now()), now=now(), return_url=BACK, country="BE")
    account = payouts.account_of(host_id=host.id)
    assert account is not None and account.provider_id
    return account


def onboarded(sandbox: RunningSandbox, host: User, *, number: str = "000123456789") -> HostAccount:
    """The host has told the provider everything; `number` decides how payouts to their bank end."""
    account = begun(host)
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/onboard", {"account_number": number})
    return onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=now())


def change_bank(sandbox: RunningSandbox, account: HostAccount, number: str) -> None:
    """The host (or who has their password) puts another bank account in."""
    assert account.provider_id is not None
    sandbox.client().v1.accounts.external_accounts.create(
        account.provider_id,
        {
            "external_account": {
                "object": "bank_account",
                "account_number": number,
                "country": account.country,
                "currency": "eur",
            },  # type: ignore[typeddict-item]
            "default_for_currency": True,
        },
    )
