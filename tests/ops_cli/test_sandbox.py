"""`ops sandbox`: the provider's clock and faults, from the shell, against a real sandbox."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from backoffice.core import clock
from backoffice.core import queries as core
from ops_cli.commands import sandbox as commands
from ops_cli.output import Exit
from ops_cli.stripe_sandbox import faults
from tests.ops_cli.conftest import Answered
from tests.stripe_sandbox.server import RunningSandbox

Ops = Callable[..., Answered]


@pytest.fixture
def provider(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> RunningSandbox:
    """The sandbox, as the environment of a desk names it."""
    monkeypatch.setenv("STRIPE_API_BASE", sandbox.base_url)
    monkeypatch.setenv("DATABASE_URL", os.environ.get("DATABASE_URL") or "postgresql://desk@127.0.0.1/desk")
    return sandbox


@pytest.fixture
def movement(provider: RunningSandbox) -> str:
    """A balance transaction at the provider."""
    client = provider.client()
    client.v1.payment_intents.create(
        {
            "amount": 12_000,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    provider.advance(2)
    return str(client.v1.balance_transactions.list().data[0].id)


def test_the_effects_that_can_be_asked_for_are_the_sandboxs_own() -> None:
    assert (commands.ON_REQUESTS, commands.ON_EVENTS) == (faults.ON_REQUESTS, faults.ON_EVENTS)


def test_status_counts_what_is_there(ops: Ops, provider: RunningSandbox, movement: str) -> None:
    found = ops("sandbox", "status")
    assert found.code == Exit.DONE
    assert found.summary["balance_transactions"] == 1 and found.summary["objects"]["payment_intent"] == 1


def test_drift_says_what_it_changed_and_is_undone_by_its_opposite(
    ops: Ops, provider: RunningSandbox, movement: str
) -> None:
    (row,) = ops("sandbox", "fault", "drift").rows
    assert row == {
        "kind": "altered",
        "balance_transaction": movement,
        "before": 12_000,
        "after": 12_001,
        "difference": 1,
        "currency": "EUR",
    }
    assert provider.client().v1.balance_transactions.retrieve(movement).amount == 12_001
    assert ops("sandbox", "fault", "drift", "--transaction", movement, "--delta", "-1").rows[0]["after"] == 12_000
    (gone,) = ops("sandbox", "fault", "drift", "--kind", "missing").rows
    assert (gone["before"], gone["after"], gone["difference"]) == (12_000, None, -12_000)
    (extra,) = ops("sandbox", "fault", "drift", "--kind", "extra", "--delta", "500").rows
    assert (extra["before"], extra["after"], extra["difference"]) == (None, 500, 500)


def test_faults_are_added_listed_and_cleared(ops: Ops, provider: RunningSandbox) -> None:
    (made,) = ops("sandbox", "fault", "add", "timeout_after_commit", "--path", "/v1/refunds", "--always").rows
    assert (made["effect"], made["path"], made["times"], made["fired"]) == (
        "timeout_after_commit",
        "/v1/refunds",
        None,
        0,
    )
    ops("sandbox", "fault", "add", "drop_webhook", "--event", "refund.*", "--nth", "2")
    assert [rule["effect"] for rule in ops("sandbox", "fault", "list").rows] == ["timeout_after_commit", "drop_webhook"]
    assert ops("sandbox", "fault", "clear", str(made["id"])).summary == {"cleared": 1}
    assert ops("sandbox", "fault", "clear").summary == {"cleared": 1}


def test_a_reset_wants_to_be_meant(ops: Ops, provider: RunningSandbox, movement: str) -> None:
    assert ops("sandbox", "reset").code == Exit.REFUSED
    assert ops("sandbox", "status").summary["balance_transactions"] == 1
    assert ops("sandbox", "reset", "--yes").code == Exit.DONE
    assert ops("sandbox", "status").summary["balance_transactions"] == 0


def test_what_the_sandbox_refuses_is_one_line(ops: Ops, provider: RunningSandbox) -> None:
    found = ops("sandbox", "fault", "drift", "--transaction", "txn_none")
    assert (
        found.code == Exit.USAGE and "the payment sandbox refused" in found.said and len(found.said.splitlines()) == 1
    )


def test_without_a_sandbox_it_is_exit_code_7(
    ops: Ops, provider: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    found = ops("sandbox", "status")
    assert found.code == Exit.UPSTREAM and "did not answer" in found.said


@pytest.mark.parametrize("base", ["", "https://api.stripe.com", "https://api.stripe.com/"])
def test_where_payments_are_real_there_is_nothing_to_play_with(
    ops: Ops, provider: RunningSandbox, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.setenv("STRIPE_API_BASE", base)
    monkeypatch.setenv("STAYDESK_HOME", "/nonexistent")
    for command in (("sandbox", "fault", "drift"), ("demo", "journey")):
        found = ops(*command)
        assert found.code == Exit.REFUSED and "there is no sandbox" in found.said


# The clock ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_clock(provider: RunningSandbox, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A desk with a virtual clock of its own; yields the hints that are sent."""
    hints: list[str] = []
    monkeypatch.setattr("backoffice.core.enqueue.enqueue_after_commit", lambda task, **kwargs: hints.append(task))
    settings.VIRTUAL_CLOCK = True
    clock.install_offset(core.clock_offset)
    yield hints
    clock.install_offset(None)


def apart(provider: RunningSandbox) -> float:
    clock.forget_offset()
    return abs(provider.now() - clock.now().timestamp())


@pytest.mark.django_db(transaction=True)
def test_desk_and_sandbox_move_forward_together_and_time_is_told_of_it(
    ops: Ops, provider: RunningSandbox, one_clock: list[str]
) -> None:
    ops("sandbox", "clock", "advance", "0")
    before = provider.now()
    found = ops("sandbox", "clock", "advance", "2d")
    assert found.code == Exit.DONE and found.summary["apart_seconds"] <= 1
    assert timedelta(days=2).total_seconds() <= provider.now() - before < timedelta(days=2, minutes=5).total_seconds()
    assert apart(provider) <= 1
    assert {"workflows.expire_holds", "workflows.complete_stays", "jobs.heartbeat"} <= set(one_clock)


@pytest.mark.django_db(transaction=True)
def test_clocks_that_came_apart_are_brought_together_at_the_later(
    ops: Ops, provider: RunningSandbox, one_clock: list[str]
) -> None:
    provider.advance(3_600)
    assert apart(provider) > 3_000
    ahead = provider.now()
    assert ops("sandbox", "clock", "show").summary["apart_seconds"] > 3_000
    assert ops("sandbox", "clock", "advance", "0").code == Exit.DONE
    assert apart(provider) <= 1 and provider.now() >= ahead


@pytest.mark.django_db(transaction=True)
def test_when_the_sandbox_is_away_the_desks_clock_stands(
    ops: Ops, provider: RunningSandbox, one_clock: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = core.clock_offset()
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    assert ops("sandbox", "clock", "advance", "60").code == Exit.UPSTREAM
    assert core.clock_offset() == offset


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("seconds", "code", "says"),
    [("-5", Exit.USAGE, ""), ("soon", Exit.USAGE, "not a length of time"), ("99999d", Exit.USAGE, "hundred years")],
)
def test_time_runs_forward_only(
    ops: Ops, provider: RunningSandbox, one_clock: list[str], seconds: str, code: Exit, says: str
) -> None:
    found = ops("sandbox", "clock", "advance", seconds)
    assert found.code == code and says in found.said


@pytest.mark.django_db(transaction=True)
def test_a_production_desk_refuses_to_move_its_clock(
    ops: Ops, provider: RunningSandbox, one_clock: list[str], settings: Any
) -> None:
    settings.VIRTUAL_CLOCK = False
    before = provider.now()
    found = ops("sandbox", "clock", "advance", "60")
    assert found.code == Exit.REFUSED and "production" in found.said
    assert provider.now() - before < 30
