"""The process: clean ends, crashes, restarts, taken ports and files."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.receiver import Receiver, run_receiver
from tests.stripe_sandbox.server import ROOT, run_sandbox

PAY: Any = {
    "amount": 1000,
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": True,
    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops_cli.stripe_sandbox", *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_ends_cleanly_and_remembers(tmp_path: Path) -> None:
    with run_sandbox(tmp_path, clock="frozen") as sandbox:
        intent = sandbox.client().v1.payment_intents.create(PAY)
        sandbox.advance(1_000)
        sandbox.control("POST", "/_sim/rates", {"currency": "sek", "date": "2020-02-01", "per_eur": "10"})
        sandbox.fault("slow", path="/v1/nothing")
        now = sandbox.now()
        assert sandbox.stop() == 0
        sandbox.start()
        assert sandbox.now() == now
        assert sandbox.client().v1.payment_intents.retrieve(intent.id).status == "succeeded"
        assert len(sandbox.control("GET", "/_sim/faults")["data"]) == 1
        assert sandbox.client().v1.payment_intents.create(PAY).id != intent.id


def test_real_clock_keeps_its_offset(tmp_path: Path) -> None:
    with run_sandbox(tmp_path) as sandbox:
        sandbox.advance(43_200)
        sandbox.advance(43_200)
        assert 86_399 < sandbox.now() - time.time() < 86_401
        sandbox.stop()
        sandbox.start()
        assert 86_399 < sandbox.now() - time.time() < 86_401


def test_real_clock_does_what_is_due_without_being_asked(tmp_path: Path) -> None:
    with run_receiver() as receiver, run_sandbox(tmp_path, webhook_url=receiver.url, async_seconds=0.2) as sandbox:
        sandbox.client().v1.payment_intents.create(PAY)
        receiver.wait_for(4)
        assert "charge.updated" in receiver.types()


def test_undelivered_webhooks_continue_after_a_crash(tmp_path: Path) -> None:
    with run_receiver() as receiver, run_sandbox(tmp_path, webhook_url=receiver.url, clock="frozen") as sandbox:
        receiver.status = 503
        sandbox.client().v1.customers.create()
        receiver.wait_for(1)
        sandbox.flush()
        sandbox.kill()
        receiver.status = 200
        sandbox.start()
        sandbox.advance(15)
        first, second = receiver.wait_for(2)
        assert first.event["id"] == second.event["id"]
        assert sandbox.flush()
        assert [item["state"] for item in sandbox.control("GET", "/_sim/deliveries")["data"]] == ["succeeded"]


def test_nothing_answered_is_lost_when_killed(tmp_path: Path) -> None:
    """Kill it again and again under load: what was answered is there, once, with its events; keys make retries safe."""
    answered: dict[str, str] = {}
    stop = threading.Event()

    def guest(number: int) -> None:
        count = 0
        while not stop.is_set():
            key = f"{number}-{count}"
            try:
                answered[key] = sandbox.client().v1.payment_intents.create(PAY, {"idempotency_key": key}).id
                count += 1
            except stripe.StripeError:
                time.sleep(0.02)

    with run_receiver() as receiver, run_sandbox(tmp_path, webhook_url=receiver.url, async_seconds=0.01) as sandbox:
        guests = [threading.Thread(target=guest, args=(number,)) for number in range(3)]
        for thread in guests:
            thread.start()
        for _ in range(3):
            time.sleep(random.uniform(0.2, 0.5))
            sandbox.kill()
            sandbox.start()
        time.sleep(0.2)
        stop.set()
        for thread in guests:
            thread.join()
        client = sandbox.client()
        intents = list(client.v1.payment_intents.list({"limit": 100}).auto_paging_iter())
        assert len(answered) > 5
        assert {intent.id for intent in intents} >= set(answered.values())
        assert len(set(answered.values())) == len(answered)
        # At most the request that was under way in each thread is there without an answer having been seen.
        assert len(intents) - len(answered) <= len(guests)
        assert {intent.status for intent in intents} == {"succeeded"}
        time.sleep(0.1)
        assert sandbox.flush()
        told = _ids(receiver, "payment_intent.succeeded")
        assert told == {intent.id for intent in intents}
        rows = list(client.v1.balance_transactions.list({"limit": 100}).auto_paging_iter())
        assert len(rows) == len(intents) == len({row.source for row in rows})


def _ids(receiver: Receiver, type: str) -> set[str]:
    events = [item.event for item in receiver.received]
    return {event["data"]["object"]["id"] for event in events if event["type"] == type}


def test_taken_file_and_port_are_one_line(tmp_path: Path) -> None:
    with run_sandbox(tmp_path) as sandbox:
        taken = run("--db", str(tmp_path / "stripe.sqlite3"))
        assert (taken.returncode, taken.stdout) == (1, "") and "in use by another sandbox" in taken.stderr
        port = sandbox.base_url.rpartition(":")[2]
        taken = run("--db", str(tmp_path / "other.sqlite3"), "--port", port)
        assert taken.returncode == 1 and f"port {port}" in taken.stderr
        assert len(taken.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--db", "x", "--clock", "sundial"],
        ["--db", "x", "--fee", "eur"],
        ["--db", "x", "--settle", "zzz"],
        ["--db", "x", "--webhook-url", "http://127.0.0.1:9"],
    ],
)
def test_wrong_usage(wrong: list[str]) -> None:
    done = run(*wrong)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_tariff_from_the_command_line(tmp_path: Path) -> None:
    with run_sandbox(tmp_path, clock="frozen", fee="usd=290:30", settle="usd,eur") as sandbox:
        client = sandbox.client()
        client.v1.payment_intents.create({**PAY, "currency": "usd", "amount": 10_000})
        client.v1.payment_intents.create({**PAY, "currency": "gbp", "amount": 10_000})
        sandbox.advance(2)
        pounds, dollars = client.v1.balance_transactions.list().data
        assert (dollars.fee, dollars.currency, pounds.currency) == (320, "usd", "usd")


def test_webhook_address_may_change_between_starts(tmp_path: Path) -> None:
    with run_receiver() as receiver, run_sandbox(tmp_path, webhook_url="http://127.0.0.1:9/") as sandbox:
        before = sandbox.client().v1.webhook_endpoints.list().data
        sandbox.stop()
        sandbox.command[sandbox.command.index("http://127.0.0.1:9/")] = receiver.url
        sandbox.start()
        after = sandbox.client().v1.webhook_endpoints.list().data
        assert [len(before), len(after)] == [1, 1] and after[0].url == receiver.url
        sandbox.client().v1.customers.create()
        receiver.wait_for(1)
