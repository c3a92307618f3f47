"""The power is cut before and after every commit and call of a clawback, a sweep and a set-up of payouts: the jobs pick up
what is left, or the person tries again, and it ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db.models import Sum

from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import Notification
from backoffice.payouts import queries
from backoffice.payouts.models import BankPayout, BankPayoutLine, Clawback, Payout
from backoffice.people.models import User
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import claw_back, import_balance_transactions, keep_time, onboard_host, sweep_earnings
from tests import factories
from tests.factories import SYSTEM
from tests.faults import test_crash_points as cutting
from tests.faults import two_of_three_are_long
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import owes, sent
from tests.workflows.steps import ROOMS, now, payouts_that_do_not_add_up

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
OWED = 8_000


@pytest.fixture(autouse=True)
def _calls_of_money_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "CALLS", ("reverse_transfer", "pay_out", "open_account"))


def recover(sandbox: RunningSandbox) -> None:
    """What beat does in the minutes after a restart."""
    sandbox.advance(90)
    events.poll(now=now())
    events.apply_due(now=now())
    keep_time.resolve_indeterminate(now=now())
    sandbox.advance(5)
    import_balance_transactions.run(now=now())


def _sent(sandbox: RunningSandbox) -> Payout:
    return sent(sandbox, factories.person("Bob", is_host=True, now=now()))


def _owing(sandbox: RunningSandbox) -> Payout:
    payout = _sent(sandbox)
    owes(payout.host, Money(OWED, "EUR"))
    return payout


def _claw_back(payout: Payout) -> None:
    if not Clawback.objects.filter(payout=payout).exists():
        claw_back.request(
            payout_code=payout.code,
            amount=Money(OWED, "EUR"),
            reason="Owed",
            version=Payout.objects.get(id=payout.id).version,
            actor=SYSTEM,
            now=now(),
        )
    claw_back.send(clawback_code=Clawback.objects.get(payout=payout).code, actor=SYSTEM, now=now())


def _taken_back(payout: Payout, sandbox: RunningSandbox) -> dict[str, Any]:
    payout.refresh_from_db()
    host = payout.host.code
    reversals = sandbox.client().v1.transfers.reversals.list(payout.transfer_id or "").data
    clawbacks = list(Clawback.objects.filter(payout=payout))
    return {
        "payout": (payout.status, payout.reversed_amount),
        "clawbacks": [(row.status, row.amount, bool(row.provider_id)) for row in clawbacks],
        "provider": [row.amount for row in reversals],
        "owed": ledger.balance(account="1310", key=host, currency="EUR"),
        "clearing": [ledger.balance(account="1170", key=row.code, currency="EUR") for row in clawbacks],
        "told": Notification.objects.filter(topic="payout_taken_back", recipient_id=payout.host_id).count(),
    }


def _sweep(payout: Payout) -> None:
    with suppress(Conflict):  # it was swept before the power went
        sweep_earnings.sweep(currency="EUR", actor=SYSTEM, reason=f"after {payout.code}", now=now())


def _swept(payout: Payout, sandbox: RunningSandbox) -> dict[str, Any]:
    rows = BankPayout.objects.filter(created_at__gt=payout.created_at)
    there = [
        row
        for row in sandbox.client().v1.payouts.list({"limit": 100}).data
        if row.created > payout.created_at.timestamp()
    ]
    return {
        "sweeps": [(row.status, row.amount, bool(row.provider_id)) for row in rows],
        "lines": [BankPayoutLine.objects.filter(bank_payout=row).aggregate(net=Sum("net"))["net"] for row in rows],
        "provider": [(row.amount, row.status) for row in there],
        "left": queries.left_by_last_sweep(currency="EUR")[1].amount
        - sum(money.amount for money in queries.kept(currency="EUR").values()),
        "on its way": [ledger.balance(account="1160", key=row.provider_id or "", currency="EUR") for row in rows],
    }


def _begins(sandbox: RunningSandbox) -> User:
    return factories.person("Bob", is_host=True, now=now())


def _set_up(host: User) -> None:
    onboard_host.begin(actor=factories.acting(host), now=now(), return_url="https://desk.example", country="BE")


def _set_up_once(host: User, sandbox: RunningSandbox) -> dict[str, Any]:
    account = queries.account_of(host_id=host.id)
    rows = sandbox.client().v1.accounts.list({"limit": 100}).data
    there = [row.id for row in rows if (row.to_dict()["metadata"] or {}).get("host") == host.code]
    return {"ours": account and account.status, "same": account and [account.provider_id] == there}


Story = tuple[Callable[[RunningSandbox], Any], Callable[[Any], None], Callable[[Any, RunningSandbox], dict[str, Any]]]
STORIES: dict[str, Story] = {
    "what is owed is taken back": (_owing, _claw_back, _taken_back),
    "what is earned is swept": (_sent, _sweep, _swept),
    "a host sets up payouts": (_begins, _set_up, _set_up_once),
}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(sandbox: RunningSandbox, story: str) -> None:
    begin, act, end = STORIES[story]
    moments = cutting.cut_everywhere(
        begin=lambda: begin(sandbox),
        act=act,
        recover=lambda: recover(sandbox),
        end=lambda subject: end(subject, sandbox),
    )
    assert len(moments) >= 6 and any(f"after {call}" in moments for call in cutting.CALLS), moments
    assert payouts_that_do_not_add_up() == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []
