"""The journey of a booking through the real doors: API, payment page, webhook, console and `ops`, over HTTP only.

A host lists a home and staff publishes it; a guest searches, quotes, books and pays with a card whose bank asks, so that
it is the webhook that confirms; staff gives part of the money back; the host cancels another stay; the books match the
provider to the cent, are tampered with, and say so. `ops demo journey` and a test run the same steps.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from backoffice.core.money import Money
from ops_cli.output import Exit
from ops_cli.parts.desk import ROOT
from ops_cli.parts.part import python
from ops_cli.simulator import Simulator
from ops_cli.visitors import Application, Browser, Turned

T = TypeVar("T")

# What goes back to the guest, in minor units of the home's currency: within the limit of every role that may refund.
PART: Final = 2_000
TAMPERED_BY: Final = -1


@dataclass(frozen=True, slots=True)
class Login:
    """A member of staff who may publish homes and refund."""

    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the journey and how it went."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What an `ops` command answered."""

    code: int
    data: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]


Ops = Callable[..., Answer]


def ops(*arguments: str) -> Answer:
    """Run `ops … --format json` in a process of its own, as a person would. Raises Turned when it fails."""
    done = subprocess.run(
        python("-m", "ops_cli.main", *arguments, "--format", "json"),
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode not in {Exit.DONE, Exit.FINDINGS}:
        raise Turned(f"ops {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    envelope = json.loads(done.stdout)
    return Answer(done.returncode, envelope["data"], envelope["summary"])


class Journey:
    """One whole journey. `steps` takes them in order and stops at the first that cannot be taken."""

    def __init__(
        self, *, site: str, simulator: Simulator, staff: Login, ops: Ops = ops, patience: float = 60.0
    ) -> None:
        self._simulator = simulator
        self._staff = staff
        self._ops = ops
        self._patience = patience
        self._mark = secrets.token_hex(4)
        self._host, self._guest = Application(site), Application(site)
        self._console, self._bank = Browser(site), Browser(site)
        self._home = self._stay = self._other_stay = self._intent = self._falsified = ""

    @property
    def plan(self) -> Sequence[tuple[str, Callable[[], str]]]:
        """The steps: what is done, and the doing, which says what came of it."""
        return (
            ("a host lists a home", self._list_home),
            ("staff publishes it in the console", self._publish),
            ("a guest searches and books it", self._book),
            ("the guest pays; the bank asks", self._pay),
            ("the webhook confirms", self._confirmed),
            ("staff refunds part in the console", self._refund),
            ("the host cancels another stay", self._host_cancels),
            ("the books match the provider", self._books_match),
            ("one cent is falsified at the provider", self._falsify),
            ("reconciliation names it", self._named),
            ("it is undone, and the books match again", self._undone),
        )

    def steps(self) -> Iterator[Step]:
        """Take the steps; the last one yielded is not ok when the journey ended there."""
        try:
            for name, take in self.plan:
                began = time.monotonic()
                try:
                    detail, ok = take(), True
                except Turned as reason:
                    detail, ok = str(reason), False
                yield Step(name, ok, round(time.monotonic() - began, 2), detail)
                if not ok:
                    return
        finally:
            if self._falsified:  # the desk is not left with a wrong cent
                self._put_right()

    # The steps --------------------------------------------------------------------------------------------------------

    def _list_home(self) -> str:
        self._join(self._host, "Journey Host", is_host=True)
        home = self._host.post(
            "listings",
            title=f"Journey house {self._mark}",
            description="A home that exists to be booked, refunded and cancelled.",
            room_type="entire_home",
            address="Quay 1",
            city="Antwerp",
            country="BE",
            latitude=51.22,
            longitude=4.40,
            time_zone="Europe/Brussels",
            capacity=4,
            beds=2,
            amenities=["Wifi", "Kitchen"],
            currency="EUR",
            nightly_price=12_000,
            cleaning_fee=3_000,
            cancellation_tier="moderate",
            instant_book=True,
        )
        self._home = home["code"]
        self._host.post(f"listings/{self._home}/submit")
        return f"{self._home}, in review"

    def _publish(self) -> str:
        self._console.sign_in(email=self._staff.email, password=self._staff.password)
        self._console.decide(f"/console/listings/listing/{self._home}/publish/")
        return f"by {self._staff.email}"

    def _book(self) -> str:
        self._join(self._guest, "Journey Guest", is_host=False)
        self._stay = self._book_from(40)
        return self._stay

    def _pay(self) -> str:
        paid = self._guest.post(f"bookings/{self._stay}/pay", payment_method="pm_card_threeDSecure2Required")["payment"]
        _expect(paid["status"] == "requires_action", f"the payment is {paid['status']}, though the bank should ask")
        self._intent = urlsplit(paid["next_action_url"]).path.rstrip("/").rpartition("/")[2]
        self._bank.answer_bank(paid["next_action_url"])
        return f"{paid['amount']['formatted']}, {self._intent}"

    def _confirmed(self) -> str:
        self._wait_for("the confirmation", lambda: self._booking(self._stay)["status"] == "confirmed")
        came = self._wait_for("the webhook", self._applied)  # it is marked as applied a moment after its effect
        return f"{self._stay} by {came[0]}"

    def _applied(self) -> list[str]:
        """The events by which the desk heard that the payment had succeeded."""
        events = self._ops("webhooks", "list", "--object", self._intent, "--status", "applied").data
        return [str(event["event"]) for event in events if event["type"] == "payment_intent.succeeded"]

    def _refund(self) -> str:
        self._console.decide(
            f"/console/bookings/booking/{self._stay}/refund/",
            amount=f"{PART // 100}.{PART % 100:02}",
            cause="service_issue",
            bearer="host",
            reason="Journey: no hot water",
        )
        self._wait_for("the refund", lambda: self._booking(self._stay)["money"]["refunded"]["amount"] == PART)
        return str(self._booking(self._stay)["money"]["refunded"]["formatted"])

    def _host_cancels(self) -> str:
        self._other_stay = self._book_from(80)
        self._guest.post(f"bookings/{self._other_stay}/pay", payment_method="pm_card_visa")
        terms = self._host.post(f"bookings/{self._other_stay}/cancellation-quote")
        self._host.post(f"bookings/{self._other_stay}/cancel", token=terms["token"], reason="Journey: burst pipe")
        self._wait_for("the refund in full", self._all_came_back)
        penalty = terms["penalty"]["formatted"] if terms["penalty"] else "none"
        return f"{self._other_stay}, {terms['refund']['formatted']} back, penalty {penalty}"

    def _books_match(self) -> str:
        found = self._reconcile()
        deadline = time.monotonic() + self._patience
        # A movement that is merely young is no finding; but the newest is falsified next, and must be in the books by then.
        while any((row["leg"], row["class"]) == ("line", "late") for row in found.data) and time.monotonic() < deadline:
            time.sleep(1)
            found = self._reconcile()
        _expect(found.code == Exit.DONE, f"there are breaks: {_words(found)}")
        return f"{found.summary['matched']} of {found.summary['lines']} movements match"

    def _falsify(self) -> str:
        (done,) = self._ops("sandbox", "fault", "drift", "--delta", str(TAMPERED_BY)).data
        self._falsified = str(done["balance_transaction"])
        before, after = (Money(done[name], done["currency"]) for name in ("before", "after"))
        return f"{self._falsified}: {before} became {after}"

    def _named(self) -> str:
        found = self._reconcile()
        breaks = [(row["class"], row["key"], row["difference"]) for row in _findings(found)]
        _expect(
            breaks == [("amount_mismatch", self._falsified, TAMPERED_BY)] and found.code == Exit.FINDINGS,
            f"not exactly that break, but (exit code {found.code}): {_words(found)}",
        )
        (row,) = _findings(found)
        difference = Money(row["difference"], row["currency"])
        return f"{row['code']}: {row['class']} of {difference} on {row['key']}, exit code {found.code}"

    def _undone(self) -> str:
        self._put_right()
        found = self._reconcile()
        _expect(found.code == Exit.DONE, f"there are breaks: {_words(found)}")
        return f"{found.summary['matched']} of {found.summary['lines']} movements match"

    # What they share --------------------------------------------------------------------------------------------------

    def _join(self, application: Application, name: str, *, is_host: bool) -> None:
        email = f"{name.lower().replace(' ', '.')}.{self._mark}@journey.example"
        application.register(name=name, email=email, password=secrets.token_urlsafe(16), is_host=is_host)

    def _book_from(self, days: int) -> str:
        """Search the home for three nights so many days ahead, quote and book it; the booking's code."""
        check_in = self._simulator.now().date() + timedelta(days=days)
        dates = {"check_in": check_in.isoformat(), "check_out": (check_in + timedelta(days=3)).isoformat()}
        found = self._guest.get("listings", q=self._mark, guests=2, **dates)["results"]
        _expect([home["code"] for home in found] == [self._home], f"the search did not find {self._home} alone")
        quote = self._guest.post("quotes", listing=self._home, guests=2, **dates)
        return str(self._guest.post("bookings", quote=quote["code"])["code"])

    def _booking(self, code: str) -> dict[str, Any]:
        return self._guest.get(f"bookings/{code}")

    def _all_came_back(self) -> bool:
        money = self._booking(self._other_stay)["money"]
        return bool(money["refunded"]["amount"] == money["charged"]["amount"] > 0)

    def _reconcile(self) -> Answer:
        return self._ops("reconcile", "stripe")

    def _put_right(self) -> None:
        name, self._falsified = self._falsified, ""
        self._simulator.call("POST", "drift", {"balance_transaction": name, "amount_delta": -TAMPERED_BY})

    def _wait_for(self, what: str, came: Callable[[], T]) -> T:
        """Ask until the answer is more than nothing; that answer. Raises Turned when patience ends."""
        deadline = time.monotonic() + self._patience
        while not (answer := came()):
            _expect(time.monotonic() < deadline, f"{what} did not come within {self._patience:.0f} s")
            time.sleep(0.3)
        return answer


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Turned(otherwise)


def _findings(answer: Answer) -> list[Mapping[str, Any]]:
    return [row for row in answer.data if row["class"] != "late"]


def _words(answer: Answer) -> str:
    named = [
        f"{row['class']} of {Money(row['difference'], row['currency'])} on {row['key']}" for row in _findings(answer)
    ]
    return "; ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "") or "none"
