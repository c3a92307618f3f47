"""A transfer whose answer is lost again long after the first time is looked for, not sent under another key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backoffice.core.errors import Indeterminate
from backoffice.payments.gateway.stripe import StripeGateway
from backoffice.payouts.models import Payout
from backoffice.workflows import import_balance_transactions, release_payouts
from tests import factories
from tests.factories import SYSTEM
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import onboarded
from tests.workflows.steps import ROOMS, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
TRANSFER = StripeGateway.transfer


def never_arrives(self: StripeGateway, **facts: Any) -> Any:
    raise Indeterminate


def answer_lost(self: StripeGateway, **facts: Any) -> Any:
    TRANSFER(self, **facts)
    raise Indeterminate


@pytest.mark.parametrize("second", [never_arrives, answer_lost])
def test_a_host_is_paid_once_however_often_the_answer_is_lost(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, second: Callable[..., Any]
) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    onboarded(sandbox, host)
    booking = paid(home=factories.listing(host, now=now()), check_in=(now() + timedelta(days=40)).date())
    sandbox.set_clock(Payout.objects.get(booking=booking).due_at.timestamp() + 60)
    import_balance_transactions.run(now=now())
    for lost in (never_arrives, second):
        with monkeypatch.context() as patch:
            patch.setattr(StripeGateway, "transfer", lost)
            release_payouts.run(now=now(), actor=SYSTEM)
        sandbox.advance(20 * 60)
    for _ in range(3):
        release_payouts.run(now=now(), actor=SYSTEM)
        sandbox.advance(20 * 60)
    payout = Payout.objects.get(booking=booking)
    made = sandbox.client().v1.transfers.list({"limit": 100}).data
    assert (payout.status, payout.tries, [row.id for row in made]) == ("transferred", 1, [payout.transfer_id])
