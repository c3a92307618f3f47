"""`ops demo journey` where it cannot be taken: it says where it ended, and leaves no wrong cent behind. The whole journey
on a running desk is in tests/journeys."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ops_cli.journey import Answer, Journey, Login
from ops_cli.output import Exit
from ops_cli.simulator import Simulator
from ops_cli.visitors import Page, Turned
from tests.ops_cli.conftest import Answered
from tests.stripe_sandbox.server import RunningSandbox

Ops = Callable[..., Answered]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STAYDESK_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://desk@127.0.0.1:9/desk")
    monkeypatch.setenv("STRIPE_API_BASE", NOWHERE)
    monkeypatch.setenv("SITE_URL", NOWHERE)


def test_without_a_staff_login_it_says_how_to_get_one(ops: Ops) -> None:
    found = ops("demo", "journey")
    assert found.code == Exit.REFUSED and "ops seed demo" in found.said and "--staff-email" in found.said
    assert ops("demo", "journey", "--staff-email", "a@example.org").code == Exit.USAGE


def test_a_desk_that_does_not_answer_ends_the_journey_at_its_first_step(ops: Ops, tmp_path: Path) -> None:
    login = {"role": "support_l2", "email": "marco@staydesk.example", "password": "secret"}
    (tmp_path / "demo.json").write_text(json.dumps({"logins": [login]}))
    found = ops("demo", "journey")
    assert found.code == Exit.FINDINGS
    (step,) = found.rows
    assert (step["name"], step["ok"]) == ("a host lists a home", False) and "Connection refused" in step["detail"]
    assert (found.summary["completed"], found.summary["steps"]) == (False, "0 of 11")


def test_a_journey_that_ends_early_puts_the_falsified_cent_right(sandbox: RunningSandbox) -> None:
    client = sandbox.client()
    client.v1.payment_intents.create(
        {
            "amount": 12_000,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    sandbox.advance(2)
    (movement,) = client.v1.balance_transactions.list().data
    seen: list[int] = []

    def blind(*arguments: str) -> Answer:
        """An `ops` whose reconciliation finds nothing."""
        if arguments[:2] == ("sandbox", "fault"):
            done = sandbox.drift(amount_delta=int(arguments[-1]))
            row = {"balance_transaction": done["balance_transaction"], "before": 1, "after": 2, "currency": "EUR"}
            return Answer(0, [row], {})
        seen.append(client.v1.balance_transactions.retrieve(movement.id).amount)
        return Answer(0, [], {})

    class Short(Journey):
        @property
        def plan(self) -> Sequence[tuple[str, Callable[[], str]]]:
            return super().plan[8:10]

    journey = Short(site=NOWHERE, simulator=Simulator(sandbox.base_url), staff=Login("", ""), ops=blind)
    steps = list(journey.steps())
    assert [step.ok for step in steps] == [True, False] and "not exactly that break" in steps[1].detail
    assert seen == [11_999], "the cent was wrong while the journey looked"
    assert client.v1.balance_transactions.retrieve(movement.id).amount == 12_000


PAGE = """
<form action="/search"><input name="q" value="x"></form>
<form method="post" action="">
  <input type="hidden" name="key" value="k&amp;1"><input name="amount" value="5.00">
  <input type="checkbox" name="off"><input type="checkbox" name="on" value="1" checked>
  <select name="cause"><option value="a">A</option><option value="b" selected>B</option></select>
  <select name="first"><option value="c">C</option><option value="d">D</option></select>
  <textarea name="reason">
Too &lt;cold&gt;</textarea>
  <button name="preview" value="1">Preview</button><input type="submit" name="go" value="Go">
  <p role="alert">At most <b>5.00 EUR</b><br> can be refunded.</p><p>Not this.</p>
</form>
"""


def test_a_page_is_read_as_a_browser_would_send_it_back() -> None:
    page = Page.read("http://desk/dialog", PAGE)
    form = page.form_with("key")
    assert form.fields == {
        "key": "k&1",
        "amount": "5.00",
        "on": "1",
        "cause": "b",
        "first": "c",
        "reason": "Too <cold>",
    }
    assert (form.action, page.alert) == ("", "At most 5.00 EUR can be refunded.")
    with pytest.raises(Turned, match="has no form with password"):
        page.form_with("password")
