"""`ops chaos`: a small storm is survived; and what would be wrong after one is noticed by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.payments.models import WebhookEvent
from backoffice.workflows import apply_provider_event, charge_later, refund_booking, sweep_earnings
from ops_cli.chaos import people, stories, verdict
from ops_cli.chaos.desk import ThrowawayDesk
from ops_cli.chaos.people import GaveUp, Refusal, Tally, Visitor
from ops_cli.chaos.provider import Provider
from ops_cli.chaos.stories import FATES, Calendar, Home, Stories, Told
from ops_cli.output import Exit
from ops_cli.parts import plan
from ops_cli.parts.processes import MARK
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import sent
from tests.workflows.steps import ROOMS, asked_back, now, paid
from tests.workflows.test_saved_cards import ASKS_ALWAYS, far, until

ROOT = Path(__file__).resolve().parents[2]
NOBODY = Visitor("http://127.0.0.1:9", email="nobody@example.org", password="-", tally=Tally())
on_the_books = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


# The whole of it --------------------------------------------------------------------------------------------------------


def chaos(*arguments: str, seconds: float) -> tuple[int, dict[str, Any], str]:
    """`ops chaos` as from a shell that has set nothing."""
    clean = {name: value for name, value in os.environ.items() if name not in {*plan.SETTINGS, MARK}}
    done = subprocess.run(
        [sys.executable, "-m", "ops_cli.main", "chaos", *arguments, "--format", "json"],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.timeout(600)
def test_a_small_storm_loses_nothing_and_doubles_nothing() -> None:
    code, answer, said = chaos("--bookings", "24", "--seed", "2", seconds=580)
    assert code == 0, [row for row in answer.get("data", []) if not row["ok"]] or said
    summary = answer["summary"]
    assert sum(summary["kills"].values()) >= 2 and sum(summary["faults"].values()) >= 5
    assert summary["counts"]["paid"] >= 12
    assert {"cancelled", "refunded by staff", "charged back"} <= set(summary["counts"])
    looked_at = {row["check"]: row["looked_at"] for row in answer["data"]}
    assert all(row["ok"] for row in answer["data"]) and len(looked_at) >= 11
    assert looked_at["provider, bank and ledger agree"] >= summary["counts"]["paid"]
    assert looked_at["the log of who did what is whole"] > 100
    assert (
        looked_at["sweeps at the provider and here are the same, once"]
        >= looked_at["the bank has what was swept to it"]
    )


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_storm_of_the_usual_size_loses_nothing_and_doubles_nothing() -> None:
    """Of an ordinary `ops chaos`, with the seconds it took: 300 stories are to fit five minutes on two quiet cores."""
    began = time.monotonic()
    code, answer, said = chaos("--bookings", "300", "--seed", "7", seconds=1_700)
    print(f"300 stories in {time.monotonic() - began:.0f} s:", answer.get("summary", {}).get("seconds"))
    assert code == 0, [row for row in answer.get("data", []) if not row["ok"]] or said


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_a_great_storm_loses_nothing_and_doubles_nothing() -> None:
    code, answer, said = chaos("--bookings", "2000", "--seed", "12", seconds=7_000)
    assert code == 0, [row for row in answer.get("data", []) if not row["ok"]] or said
    assert all(answer["summary"]["kills"].values()) and answer["summary"]["clock_moves"] >= 10


# People -----------------------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """A desk that answers what it is told to, one after the other, then always the last."""

    answers: list[tuple[int, Mapping[str, Any]]]
    asked: list[tuple[str, str]] = field(default_factory=list)
    site: str = ""


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    one = Desk([(200, {})])

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            one.asked.append((self.path, self.headers.get("Idempotency-Key", "")))
            status, body = one.answers.pop(0) if len(one.answers) > 1 else one.answers[0]
            if status == 0:  # gone in the middle of an answer
                self.close_connection = True
                return
            said = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one.site = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(people, "PAUSE", 0.01)
    yield one
    server.shutdown()
    server.server_close()


def visitor(desk: Desk) -> Visitor:
    return Visitor(desk.site, email="alice@example.org", password="-", tally=Tally())


def test_whoever_gets_no_answer_asks_again_with_the_same_key(desk: Desk) -> None:
    busy = {"code": "idempotency_key_in_use"}
    desk.answers = [(0, {}), (503, {"code": "upstream_unavailable"}), (409, busy), (429, {}), (201, {"code": "BK-1"})]
    assert visitor(desk).post("bookings", quote="Q") == {"code": "BK-1"}
    assert len(desk.asked) == 5 and len({key for _, key in desk.asked}) == 1 and desk.asked[0][1]


def test_a_no_is_an_answer(desk: Desk) -> None:
    desk.answers = [(409, {"code": "nights_taken", "detail": "Somebody else has them."})]
    with pytest.raises(Refusal, match="nights_taken") as refusal:
        visitor(desk).post("bookings", quote="Q")
    assert (refusal.value.status, refusal.value.code) == (409, "nights_taken") and len(desk.asked) == 1


def test_who_is_not_signed_in_signs_in_and_goes_on(desk: Desk) -> None:
    desk.answers = [(401, {}), (200, {"access": "token"}), (200, {"done": True})]
    assert visitor(desk).post("bookings", quote="Q") == {"done": True}
    assert [path for path, _ in desk.asked] == ["/api/v1/bookings", "/api/v1/auth/login", "/api/v1/bookings"]


def test_patience_ends_and_at_once_when_there_is_no_desk_any_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.answers = [(503, {})]
    alice = visitor(desk)
    monkeypatch.setattr(people, "PATIENCE", 0.2)
    with pytest.raises(GaveUp):
        alice.post("bookings", quote="Q")
    monkeypatch.setattr(people, "PATIENCE", 60.0)
    alice._tally.hopeless.set()
    began = time.monotonic()
    with pytest.raises(GaveUp):
        alice.post("bookings", quote="Q")
    assert time.monotonic() - began < 5


def test_two_stories_never_get_the_same_nights() -> None:
    calendar, home = Calendar(), Home("LS-1", NOBODY)
    taken = [calendar.take(home, not_before=factories.NOW.date()) for _ in range(20)]
    nights = [first for first, _ in taken]
    assert len(set(nights)) == 20 and all(other >= end for (_, end), (other, _) in pairwise(taken))


class Refused(Visitor):
    """Whatever this person wants is offered, and then refused."""

    def __init__(self, *, offered: list[str], code: str) -> None:
        super().__init__("http://127.0.0.1:9", email="-", password="-", tally=Tally())
        self.offered, self.code, self.asked = offered, code, 0

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return {"status": "pending", "available_actions": self.offered, "money": {"charged": {"amount": 0}}}

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        self.asked += 1
        raise Refusal(f"POST {path}", 409, self.code, "Not now.")


def test_who_is_offered_something_and_refused_for_ever_gives_up_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "PATIENCE", 0.05)
    monkeypatch.setattr(stories, "PAUSE", 0.01)
    tally, nights = Tally(), (factories.NOW.date(), factories.NOW.date())
    nobody: Any = None
    plays = Stories(seed=1, homes=[], guests=[], clerk=nobody, provider=nobody, site="", tally=tally)
    tries: list[tuple[str, Callable[[Refused], Any]]] = [
        ("conflict", lambda guest: plays._cancel(Told("BK-1", guest), guest)),
        ("conflict", lambda guest: plays._pay(Told("BK-1", guest), "pm_card_visa", bank="succeed")),
        ("quote_expired", lambda guest: plays._book(guest, Home("LS-1", NOBODY), nights)),
    ]
    for code, act in tries:
        guest = Refused(offered=["cancel"], code=code)
        with pytest.raises(GaveUp):
            act(guest)
        assert guest.asked >= 2
    late = Refused(offered=[], code="conflict")
    plays._cancel(Told("BK-1", late), late)
    assert late.asked == 0 and tally.counts == {"too late to cancel": 1}


def test_every_fate_is_drawn_in_a_run_of_the_usual_size() -> None:
    drawn = {stories.fate_of(seed=7, number=number) for number in range(300)}
    assert drawn == set(FATES)


# The account ------------------------------------------------------------------------------------------------------------


def provider_of(sandbox: RunningSandbox) -> Provider:
    return Provider(sandbox.base_url, sandbox.api_key)


def charges(sandbox: RunningSandbox) -> verdict.Check:
    return verdict.charges(provider_of(sandbox))


def charged_again(sandbox: RunningSandbox, amount: int, payment: str) -> None:
    """What must never happen: the provider carried it out once more."""
    sandbox.client().v1.payment_intents.create(
        {
            "amount": amount,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"payment": payment} if payment else {},
        }
    )


@on_the_books
def test_a_charge_that_was_doubled_made_by_nobody_or_lost_is_named(sandbox: RunningSandbox) -> None:
    booking = paid()
    assert charges(sandbox).ok and charges(sandbox).looked_at == 1
    charged_again(sandbox, booking.charge_total, booking.payment.code)
    assert charges(sandbox).wrong == [f"{booking.payment.code} was carried out 2 times"]
    charged_again(sandbox, 500, "")
    assert any("is at the provider only" in line for line in charges(sandbox).wrong)
    sandbox.control("POST", "/_sim/reset")
    assert charges(sandbox).wrong == [f"{booking.payment.code} is here only"]


@on_the_books
def test_a_charge_of_another_amount_is_named(sandbox: RunningSandbox) -> None:
    booking = paid()
    sandbox.control("POST", "/_sim/reset")
    charged_again(sandbox, booking.charge_total - 1, booking.payment.code)
    (wrong,) = charges(sandbox).wrong
    assert wrong.startswith(f"{booking.payment.code}: ({booking.charge_total - 1}, 'EUR') there")


@on_the_books
def test_a_sweep_that_was_doubled_made_by_nobody_or_lost_is_named(sandbox: RunningSandbox) -> None:
    sent(sandbox, factories.person("Bob", is_host=True, now=now()))
    sweep = sweep_earnings.sweep(currency="EUR", actor=system("tests"), reason="Daily", now=now())
    theirs = provider_of(sandbox)
    assert verdict.sweeps(theirs).ok and verdict.sweeps(theirs).looked_at == 1
    v1 = sandbox.client().v1
    v1.payouts.create({"amount": 100, "currency": "eur", "metadata": {"sweep": sweep.code}})
    assert f"{sweep.code} was carried out 2 times" in verdict.sweeps(theirs).wrong
    v1.payouts.create({"amount": 100, "currency": "eur"})
    assert any("is at the provider only" in line for line in verdict.sweeps(theirs).wrong)
    sandbox.control("POST", "/_sim/reset")
    assert verdict.sweeps(theirs).wrong == [f"{sweep.code} is here only"]


@dataclass
class BusyDesk:
    """It runs what it is told and is never done."""

    told: list[tuple[str, ...]] = field(default_factory=list)

    def ops(self, *arguments: str) -> None:
        self.told.append(arguments)

    def control(self, *arguments: Any) -> None:
        return


def test_what_only_time_can_help_is_given_time_and_is_a_finding_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: Any = BusyDesk()
    monkeypatch.setattr(verdict, "waiting", lambda: {"refunds to be sent": 2})
    monkeypatch.setattr(verdict, "PAUSE", 0.01)
    monkeypatch.setattr(verdict, "STILL_SECONDS", 0.05)
    monkeypatch.setattr(verdict, "QUIET_SECONDS", 0.5)
    began = time.monotonic()
    rest = verdict.settle_down(busy, busy, steps=["2h", "1d", "2h"])
    assert 0.5 <= time.monotonic() - began < 1.5  # its whole patience once, in the end
    assert rest.wrong == ["in the end there are still 2 refunds to be sent"] and len(busy.told) == 3


def test_a_desk_that_gets_on_is_waited_for_longer_than_one_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: Any = BusyDesk()
    left = iter(range(60, -1, -1))
    monkeypatch.setattr(verdict, "waiting", lambda: {"events to be applied": many} if (many := next(left)) else {})
    monkeypatch.setattr(verdict, "PAUSE", 0.01)
    monkeypatch.setattr(verdict, "QUIET_SECONDS", 0.2)  # it needs three times as long
    assert verdict.settle_down(busy, busy, steps=["2h"]).ok


@on_the_books
def test_all_that_waits_is_counted_or_a_desk_that_works_it_off_would_seem_to_stand_still() -> None:
    at = clock.now()
    facts = {"type": "charge.updated", "created": at, "received_at": at, "next_attempt_at": at, "payload": b""}
    WebhookEvent.objects.bulk_create(WebhookEvent(event_id=f"evt_{number}", **facts) for number in range(450))
    assert verdict.waiting()["events to be applied"] == 450
    WebhookEvent.objects.filter(event_id="evt_0").delete()
    assert verdict.waiting()["events to be applied"] == 449


@on_the_books
def test_what_was_answered_and_is_not_so_is_named(sandbox: RunningSandbox) -> None:
    booking = paid()
    told = Told(booking.code, NOBODY, paid=True)
    assert verdict.nothing_lost([told]).ok
    told.cancelled = True
    assert verdict.nothing_lost([told]).wrong == [f"{booking.code} was cancelled and is confirmed"]
    gone = Told("BK-GONE99", NOBODY)
    assert verdict.nothing_lost([gone]).wrong == ["BK-GONE99 was answered and is gone"]
    told.cancelled, told.refunded = False, Money(1_000, "EUR")
    assert "there are []" in verdict.nothing_lost([told]).wrong[0]
    told.refunded, told.disputed = None, True
    assert verdict.nothing_lost([told]).wrong == [
        f"{booking.code} was disputed once, and is not here as one chargeback"
    ]
    assert booking.payment.charge_id is not None
    provider_of(sandbox).dispute(booking.payment.charge_id, reason="fraudulent")
    apply_provider_event.poll(now=now())
    apply_provider_event.apply_due(now=now())
    assert verdict.nothing_lost([told]).ok


def test_a_job_of_the_desk_s_own_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([Exit.LOCKED, Exit.LOCKED, Exit.DONE])

    def answer(*arguments: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, next(said), '{"data": [{"n": 1}], "summary": {}}', "")

    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert ThrowawayDesk(tmp_path).ops("reconcile", "bank").data == [{"n": 1}] and next(said, None) is None


@on_the_books
def test_a_stay_that_is_far_ahead_stands_by_a_card_until_its_day_comes(sandbox: RunningSandbox) -> None:
    booking = far(sandbox=sandbox)
    told = [Told(booking.code, NOBODY)]
    assert booking.status == "confirmed" and booking.payment.status == "requires_payment"
    assert verdict.nothing_lost(told).ok and "cards to be charged" not in verdict.waiting()
    until(sandbox, booking.payment.charge_at)
    assert verdict.waiting()["cards to be charged"] == 1
    assert verdict.nothing_lost(told).wrong == [f"{booking.code} is confirmed without having been paid"]


@on_the_books
def test_a_stay_whose_bank_wants_to_see_the_guest_stands_until_the_last_date(sandbox: RunningSandbox) -> None:
    booking = far(card=ASKS_ALWAYS, sandbox=sandbox)
    told = [Told(booking.code, NOBODY)]
    until(sandbox, booking.payment.charge_at)
    charge_later.charge_due(now=now())
    assert verdict.nothing_lost(told).ok and "cards to be charged" not in verdict.waiting()
    booking.payment.refresh_from_db()
    until(sandbox, booking.payment.pay_by)
    assert verdict.nothing_lost(told).wrong == [f"{booking.code} is confirmed without having been paid"]


@on_the_books
def test_what_the_desk_has_still_to_do_is_counted(sandbox: RunningSandbox) -> None:
    booking = paid()
    refund = asked_back(booking, 1_000)
    sandbox.advance(60)
    assert verdict.waiting()["refunds to be sent"] == 1
    assert f"refund {refund.code} is approved" in verdict.nothing_left().wrong
    refund_booking.send(refund_code=refund.code, actor=system("worker"), now=now())
    assert "refunds to be sent" not in verdict.waiting()
