"""A host is paid, through the real doors of a running desk: set up, waited for, sent, paid out to the bank, and accounted
for. What happens on the host's account at the provider is heard by webhook; nobody polls for it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from backoffice.core import clock
from backoffice.listings import operations as listings
from backoffice.payouts.models import HostAccount
from ops_cli.visitors import Application
from tests import factories
from tests.api.conftest import HOME, stay
from tests.desk import RunningDesk, wait_until

DAY = 86_400
PASSWORD = "correct-horse-battery"


@pytest.mark.timeout(600)
def test_a_host_is_paid_and_every_door_says_the_same(desk: RunningDesk) -> None:
    desk.worker()
    host, guest = Application(desk.site), Application(desk.site)
    for who, name, is_host in ((host, "Bob", True), (guest, "Alice", False)):
        who.register(name=name, email=f"{name}-{uuid.uuid4().hex}@example.org", password=PASSWORD, is_host=is_host)
    set_up(desk, host)
    booking = booked(host, guest)
    receipt = guest.get(f"bookings/{booking}/receipt")
    assert receipt["paid"] == receipt["charged"] == receipt["charges"][0]["amount"]

    (planned,) = host.get("me/payouts")["results"]
    waiting = host.get(f"me/payouts/{planned['code']}")
    assert waiting["waits_for"] and waiting["waits_until"] and waiting["share"] == planned["amount"]
    desk.pass_time(43 * DAY, "workflows.import_balance_transactions")
    desk.ops("stop", "payouts", "--reason", "a drill")
    assert "a drill" in host.get(f"me/payouts/{planned['code']}")["waits_for"]
    assert desk.ops("doctor", "--check", "stops", code=3)["data"][0]["ok"] is False
    desk.ops("resume", "payouts", "--reason", "the drill is over")
    desk.broker.send_task("workflows.release_payouts")
    becomes(host, planned["code"], "transferred", desk)
    # The provider pays the host's bank by itself, and tells us; its movements are imported as ever.
    desk.pass_time(9 * DAY, "workflows.import_balance_transactions")
    assert desk.sandbox.flush()
    becomes(host, planned["code"], "paid", desk)

    statement = host.get("me/statement", since=f"{clock.now().date() - timedelta(days=60)}")
    (account,) = statement["accounts"]
    moved = {line["what"]: line["amount"]["amount"] for line in account["lines"]}
    share = planned["amount"]["amount"]
    assert moved == {"Payout became due": share, "Sent to your account": -share} and account["closing"]["amount"] == 0
    explained = desk.ops("payouts", "explain", booking)
    assert [row["amount"] for row in explained["data"] if row["what"] == "= sent"] == [share]
    wait_until(lambda: desk.ops("ledger", "check", code=None)["code"] == 0, seconds=90, otherwise=desk.workers[0].said)


def set_up(desk: RunningDesk, host: Application) -> None:
    """The host follows the provider's link and tells it everything; its webhook tells us."""
    assert host.post("me/payout-account", country="BE")["url"].startswith(desk.sandbox.base_url)
    account = HostAccount.objects.get()
    desk.sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/onboard", {})
    wait_until(lambda: host.get("me/payout-account")["status"] == "enabled", seconds=60, otherwise=desk.workers[0].said)


def booked(host: Application, guest: Application) -> str:
    """A home of the host's, published, and a stay in it that the guest has paid for."""
    code = host.post("listings", **HOME)["code"]
    host.post(f"listings/{code}/submit")
    listings.publish(code=code, actor=factories.SYSTEM, now=clock.now())
    quote = guest.post("quotes", listing=code, guests=2, **stay(40, 3))
    booking: str = guest.post("bookings", quote=quote["code"])["code"]
    paid = guest.post(f"bookings/{booking}/pay", payment_method="pm_card_visa")
    assert paid["booking"]["status"] == "confirmed"
    return booking


def becomes(host: Application, code: str, status: str, desk: RunningDesk) -> Any:
    def there() -> bool:
        return bool(host.get(f"me/payouts/{code}")["status"] == status)

    wait_until(there, seconds=90, otherwise=desk.workers[0].said)
