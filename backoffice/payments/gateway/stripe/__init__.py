"""Stripe, through its official SDK. Facts about its behaviour: https://docs.stripe.com/api, version of the SDK's pin."""

from __future__ import annotations

from functools import cache
from typing import Final

import stripe as sdk
from django.conf import settings

from backoffice.payments.gateway.stripe.accounts import Accounts
from backoffice.payments.gateway.stripe.calls import counted, read
from backoffice.payments.gateway.stripe.disputes import Disputes
from backoffice.payments.gateway.stripe.money_in import MoneyIn
from backoffice.payments.gateway.stripe.money_out import MoneyOut
from backoffice.payments.gateway.stripe.movements import Movements

CONNECT_SECONDS: Final = 3
RETRIES: Final = 2


class StripeGateway(MoneyIn, MoneyOut, Accounts, Disputes, Movements):
    name = "stripe"

    def __init__(self, *, api_key: str, base: str, secrets: list[str], read_seconds: float) -> None:
        sdk.enable_telemetry = False
        self._client = sdk.StripeClient(
            api_key,
            base_addresses={"api": base, "files": base, "connect": base, "meter_events": base},
            max_network_retries=RETRIES,
            http_client=counted(sdk.RequestsClient(timeout=(CONNECT_SECONDS, read_seconds))),
        )
        self._secrets = secrets

    def ping(self) -> str:
        read(self._client.v1.balance.retrieve)
        return str(sdk.api_version)


@cache
def gateway() -> StripeGateway:
    """The configured provider; one client a process."""
    return StripeGateway(
        api_key=settings.STRIPE_API_KEY,
        base=settings.STRIPE_API_BASE,
        secrets=[*settings.STRIPE_WEBHOOK_SECRETS, *settings.STRIPE_CONNECT_WEBHOOK_SECRETS],
        read_seconds=settings.STRIPE_READ_SECONDS,
    )
