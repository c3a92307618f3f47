"""Where hosts are paid and what they are paid, at the API's door."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payouts.models import HostAccount, Payout
from backoffice.workflows import onboard_host, release_payouts
from tests import factories
from tests.api.test_receipts import signed_in
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import owes
from tests.workflows.test_pay_and_refund import FINANCE, now
from tests.workflows.test_release_payouts import stay, until_due

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def host(sandbox: RunningSandbox) -> Any:
    return factories.person("Bob", is_host=True, now=now())


def test_a_host_sets_up_payouts_and_sees_how_it_stands(sandbox: RunningSandbox, host: Any) -> None:
    bob = signed_in(host)
    assert bob.get("me/payout-account").status == 404
    begun = bob.post("me/payout-account", {"country": "BE", "return_url": "https://example.org/back"})
    assert begun.status == 200 and begun.body["url"].startswith(sandbox.base_url)
    waiting = bob.get("me/payout-account").body
    assert (waiting["status"], waiting["can_receive"]) == ("onboarding", False)
    assert waiting["missing"] and "provider" in waiting["waits_for"] and waiting["waits_until"] is None
    account = HostAccount.objects.get(host=host)
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/onboard", {})
    onboard_host.refresh(host_code=host.code, actor=FINANCE, now=now())
    ready = bob.get("me/payout-account").body
    assert (ready["status"], ready["can_receive"], ready["can_pay_out"], ready["missing"]) == (
        "enabled",
        True,
        True,
        [],
    )
    assert ready["waits_for"] == "" and ready["bank"]
    assert account.provider_id not in str(ready), "the provider's id is ours to know"


def test_beginning_twice_makes_one_account(sandbox: RunningSandbox, host: Any) -> None:
    bob = signed_in(host)
    assert [bob.post("me/payout-account", {"country": "BE"}).status for _ in range(2)] == [200, 200]
    assert len(sandbox.client().v1.accounts.list().data) == 1


def test_new_bank_details_rest_and_the_host_sees_until_when(sandbox: RunningSandbox, host: Any) -> None:
    bob = signed_in(host)
    bob.post("me/payout-account", {"country": "BE"})
    changed = now() - timedelta(hours=1)
    HostAccount.objects.filter(host=host).update(can_receive=True, can_pay_out=True, bank_changed_at=changed)
    said = bob.get("me/payout-account").body
    assert "bank details" in said["waits_for"] and said["waits_until"] > f"{now():%Y-%m-%dT%H}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"country": "Belgium"}, "country"),
        ({"country": "BE", "return_url": "javascript:alert(1)"}, "return_url"),
        ({"country": "BE", "return_url": "//elsewhere"}, "return_url"),
        ({"country": "BE", "return_url": "https://user@elsewhere"}, "return_url"),
        ({"country": "BE", "return_url": "http://["}, "return_url"),
        ({"country": "BE", "return_url": "http://a\u2100b"}, "return_url"),
        ({}, "country"),
        ({"country": "BE", "host": 1}, "host"),
    ],
)
def test_what_cannot_be_used_is_422(host: Any, body: dict[str, Any], field: str) -> None:
    refused = signed_in(host).post("me/payout-account", body)
    assert (refused.status, refused.body["field"]) == (422, field) and not HostAccount.objects.exists()


@pytest.mark.parametrize("scope", ["bookings", "payouts", "refunds"])
def test_a_stopped_scope_answers_503_with_its_reason(sandbox: RunningSandbox, scope: str) -> None:
    """Only bookings can be begun by a guest; the others go on to be read."""
    home, guest = factories.listing(now=now()), factories.person("Alice", now=now())
    jobs.stop(scope=scope, reason="the calendar is being repaired", actor=factories.SYSTEM, now=now())
    alice = signed_in(guest)
    first = (now() + timedelta(days=30)).date()
    asked = {"listing": home.code, "guests": 2, "check_in": f"{first}", "check_out": f"{first + timedelta(days=2)}"}
    made = alice.post("quotes", asked)
    if scope != "bookings":
        assert made.status == 201
        return
    assert (made.status, made.code) == (503, "stopped")
    assert "the calendar is being repaired" in made.body["detail"] and made.headers["Retry-After"] == "60"
    jobs.resume(scope=scope, reason="repaired", actor=factories.SYSTEM, now=now())
    assert alice.post("quotes", asked).status == 201


# Payouts -------------------------------------------------------------------------------------------------------------


def test_a_host_reads_each_payout_why_it_waits_and_what_it_is_made_of(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    bob, payout = signed_in(booking.host), Payout.objects.get(booking=booking)
    (listed,) = bob.get("me/payouts").body["results"]
    assert (listed["code"], listed["status"], listed["amount"]["amount"]) == (payout.code, "scheduled", payout.held)
    assert listed["sent"] is None
    waiting = bob.get(f"me/payouts/{payout.code}").body
    assert waiting["waits_for"] and waiting["waits_until"] == f"{payout.due_at:%Y-%m-%dT%H:%M:%SZ}"
    until_due(sandbox, booking)
    jobs.stop(scope="payouts", reason="transfers doubled", actor=factories.SYSTEM, now=now())
    assert "transfers doubled" in bob.get(f"me/payouts/{payout.code}").body["waits_for"]
    jobs.resume(scope="payouts", reason="repaired", actor=factories.SYSTEM, now=now())
    owes(booking.host, Money(4_000, "EUR"))
    release_payouts.run(now=now(), actor=FINANCE)
    said = bob.get(f"me/payouts/{payout.code}").body
    assert (said["status"], said["waits_for"], said["waits_until"]) == ("transferred", "", None)
    assert sum(line["amount"]["amount"] for line in said["lines"]) == said["share"]["amount"] == payout.held
    assert said["amount"]["amount"] == payout.held - 4_000 == payout.held - said["kept"]["amount"]
    (listed,) = bob.get("me/payouts?status=transferred").body["results"]
    assert (listed["sent"]["amount"], listed["kept"]["amount"]) == (payout.held - 4_000, 4_000)
    assert bob.get("me/payouts?status=failed").body["results"] == []
    for wrong in ("status=late", "booking=%00", f"booking={'B' * 25}", "colour=red"):
        assert bob.get(f"me/payouts?{wrong}").status == 422
    assert len(bob.get(f"me/payouts?booking={booking.code}").body["results"]) == 1
    stranger = signed_in(factories.person("Carol", is_host=True, now=now()))
    assert stranger.get("me/payouts").body["results"] == [] and stranger.get(f"me/payouts/{payout.code}").status == 404
    assert signed_in(booking.guest).get(f"me/payouts/{payout.code}").status == 403


def test_statement_and_earnings_follow_a_real_payout_to_the_cent(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    bob, payout = signed_in(booking.host), Payout.objects.get(booking=booking)
    period = f"?since={booking.check_in}&until={booking.check_in + timedelta(days=1)}"
    (row,) = bob.get(f"me/earnings{period}").body["results"]
    assert row["net"]["amount"] == row["scheduled"]["amount"] == payout.held and row["released"]["amount"] == 0
    until_due(sandbox, booking)
    owes(booking.host, Money(4_000, "EUR"))
    release_payouts.run(now=now(), actor=FINANCE)
    (row,) = bob.get(f"me/earnings{period}").body["results"]
    assert row["net"]["amount"] == row["released"]["amount"] == payout.held and row["scheduled"]["amount"] == 0
    (account,) = bob.get("me/statement").body["accounts"]
    lines = {line["what"]: line["amount"]["amount"] for line in account["lines"]}
    assert lines == {
        "Payout became due": payout.held,
        "Penalty for a cancellation": -4_000,
        "Kept for what you owed": 0,
        "Sent to your account": 4_000 - payout.held,
    }
    assert account["closing"]["amount"] == 0


def test_nothing_is_called_sent_that_was_not_and_damage_is_what_it_is(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    bob, payout = signed_in(booking.host), Payout.objects.get(booking=booking)
    refused = {"status": "failed", "transfer_amount": payout.held, "transfer_currency": payout.currency}
    Payout.objects.filter(pk=payout.pk).update(**refused)
    damage = Payout.objects.create(
        booking=booking, host=booking.host, number=2, status="releasable", weight=0, held=0, host_fee=0, guest_fee=0,
        currency="EUR", due_at=now(), policy="damage XC-1", transfer_amount=15_000, transfer_currency="USD",
        created_at=now(),
    )  # fmt: skip
    listed = {row["code"]: row for row in bob.get("me/payouts").body["results"]}
    assert (listed[payout.code]["amount"]["amount"], listed[payout.code]["sent"]) == (payout.held, None)
    amount = listed[damage.code]["amount"]
    assert (amount["amount"], amount["currency"], listed[damage.code]["sent"]) == (15_000, "USD", None)


def test_a_payout_that_is_released_while_it_is_read_is_told_as_it_is_now(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journey over HTTP met it: the row was read as open, and a run released it before its share was reckoned."""
    booking = stay(sandbox)
    bob, payout = signed_in(booking.host), Payout.objects.get(booking=booking)
    until_due(sandbox, booking)
    explaining = sys.modules["backoffice.payouts.queries.explain"]  # the package names its function the same
    trace = explaining.ledger.trace

    def released_meanwhile(subject: str) -> Any:
        monkeypatch.setattr(explaining.ledger, "trace", trace)
        release_payouts.run(now=now(), actor=FINANCE)
        return trace(subject)

    monkeypatch.setattr(explaining.ledger, "trace", released_meanwhile)
    said = bob.get(f"me/payouts/{payout.code}")
    assert (said.status, said.body["status"], said.body["amount"]["amount"]) == (200, "transferred", payout.held)
