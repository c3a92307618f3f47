"""What guests, hosts, staff and issuers do with one booking. The plan is drawn from a seed; what comes of it is not known:
the desk may be down, the clock may have moved on, and the answer given to the next question decides how it goes on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from backoffice.core.money import Money
from ops_cli.chaos.people import ANSWERED, PATIENCE, PAUSE, Clerk, GaveUp, Refusal, Tally, Visitor, wait_for
from ops_cli.chaos.provider import Provider
from ops_cli.output import Failed
from ops_cli.visitors import Browser, Turned

# Fate -> how often it is drawn.
FATES: Final[Mapping[str, int]] = {
    "stays": 24,
    "the bank asks": 8,
    "the bank refuses": 4,
    "declined at first": 6,
    "never paid": 5,
    "guest cancels": 14,
    "host cancels": 8,
    "refund pending": 4,
    "refund fails": 3,
    "staff refunds": 14,
    "charged back": 8,
    "two at once": 4,
}
CARDS: Final = {
    "the bank asks": "pm_card_threeDSecure2Required",
    "the bank refuses": "pm_card_threeDSecure2Required",
    "declined at first": "pm_card_visa_chargeDeclined",
    "refund pending": "pm_card_pendingRefund",
    "refund fails": "pm_card_refundFail",
}
GOOD_CARD: Final = "pm_card_visa"
NIGHTS: Final = 2
TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class Home:
    """A home that can be booked, and its host."""

    code: str
    host: Visitor


@dataclass(slots=True)
class Told:
    """What the desk has answered about one booking: none of it may be gone afterwards."""

    booking: str
    guest: Visitor
    paid: bool = False
    cancelled: bool = False
    refunded: Money | None = None
    disputed: bool = False


@dataclass(slots=True)
class Calendar:
    """Which nights of each home this run has given away, so that two stories meet only where they mean to."""

    _next: dict[str, date] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, home: Home, *, not_before: date) -> tuple[date, date]:
        with self._lock:
            first = max(self._next.get(home.code, not_before), not_before)
            self._next[home.code] = first + timedelta(days=NIGHTS)
        return first, first + timedelta(days=NIGHTS)


def fate_of(*, seed: int, number: int) -> str:
    """What becomes of one booking of a run, as the seed has it."""
    (fate,) = _dice(seed, number, "what").choices(list(FATES), weights=list(FATES.values()))
    return fate


def _dice(seed: int, number: int, of: str) -> random.Random:
    return random.Random(f"{seed}:{number}:{of}")  # noqa: S311  # a plan, not a secret


class Stories:
    """Everybody who takes part, and what has been answered so far."""

    def __init__(
        self,
        *,
        seed: int,
        homes: Sequence[Home],
        guests: Sequence[Visitor],
        clerk: Clerk,
        provider: Provider,
        site: str,
        tally: Tally,
    ) -> None:
        self._seed, self._homes, self._guests = seed, homes, guests
        self._clerk, self._provider, self._site, self._tally = clerk, provider, site, tally
        self._calendar = Calendar()
        self._desk_is_free = threading.Lock()  # there is one clerk
        self.told: list[Told] = []
        self.broken_off: list[str] = []

    def play(self, number: int) -> None:
        """One story from beginning to end. One that cannot go on is kept as such, and the others go on."""
        if self._tally.hopeless.is_set():
            return
        fate, rng = fate_of(seed=self._seed, number=number), _dice(self._seed, number, "how")
        home, guest = rng.choice(self._homes), rng.choice(self._guests)
        ahead = rng.choice([1, 2, 3, 8, 20])
        try:
            self._play(fate, home, guest, ahead, rng)
            self._tally.add(f"story: {fate}")
        except (Turned, Failed) as reason:
            self.broken_off.append(f"{fate}: {reason}")

    def _play(self, fate: str, home: Home, guest: Visitor, ahead: int, rng: random.Random) -> None:
        nights = self._calendar.take(home, not_before=self._provider.now().date() + timedelta(days=ahead))
        if fate == "two at once":
            other = rng.choice([one for one in self._guests if one is not guest])
            rival = threading.Thread(target=self._book_quietly, args=(other, home, nights))
            rival.start()
            self._book_quietly(guest, home, nights)
            rival.join()
            return
        told = self._book(guest, home, nights)
        if told is None or fate == "never paid":
            return
        card = CARDS.get(fate, GOOD_CARD)
        self._pay(told, card, bank="fail" if fate == "the bank refuses" else "succeed")
        if not told.paid and fate in {"declined at first", "the bank refuses"}:
            self._pay(told, GOOD_CARD, bank="succeed")
        if told.paid:
            self._after(fate, told, home, rng)

    def _after(self, fate: str, told: Told, home: Home, rng: random.Random) -> None:
        if fate in {"guest cancels", "refund pending", "refund fails"}:
            self._cancel(told, told.guest)
        elif fate == "host cancels":
            self._cancel(told, home.host)
        elif fate == "staff refunds":
            self._refund(told, share=rng.choice([10, 25, 50]))
        elif fate == "charged back":
            self._charge_back(told, rng.choice(["fraudulent", "product_not_received"]))

    # Booking and paying -----------------------------------------------------------------------------------------------

    def _book_quietly(self, guest: Visitor, home: Home, nights: tuple[date, date]) -> None:
        try:
            told = self._book(guest, home, nights)
            if told is not None:
                self._pay(told, GOOD_CARD, bank="succeed")
        except Turned as reason:
            self.broken_off.append(f"two at once: {reason}")

    def _book(self, guest: Visitor, home: Home, nights: tuple[date, date]) -> Told | None:
        """Quote and book; None when somebody else has the nights, or time has overtaken them. Raises GaveUp."""
        for _ in range(TRIES):
            try:
                quote = guest.post(
                    "quotes", listing=home.code, check_in=f"{nights[0]}", check_out=f"{nights[1]}", guests=1
                )
                told = Told(guest.post("bookings", quote=quote["code"])["code"], guest)
            except Refusal as no:
                if no.code == "quote_expired":
                    continue
                if no.code in {"nights_taken", "invalid"}:
                    self._tally.add(f"not booked: {no.code}")
                    return None
                raise
            self.told.append(told)
            self._tally.add("booked")
            return told
        raise GaveUp(f"every quote for {home.code} had expired when it was booked")

    def _pay(self, told: Told, card: str, *, bank: str) -> None:
        """Pay, until it is known what came of it. While an earlier try is under way, the desk says so; then wait. Raises
        GaveUp when it is never known."""
        deadline = time.monotonic() + PATIENCE
        while not self._over(told):
            if time.monotonic() > deadline:
                raise GaveUp(f"{told.booking} is neither paid nor free again")
            try:
                payment = told.guest.post(f"bookings/{told.booking}/pay", payment_method=card)["payment"]
            except Refusal as no:
                if no.code == "payment_declined":
                    self._tally.add("declined")
                    return
                if no.code not in {"conflict", "illegal_transition"}:
                    raise
                time.sleep(ANSWERED * PAUSE)
                continue
            if payment["status"] == "requires_action":
                self._answer_bank(payment["next_action_url"], bank)
                if bank == "fail":
                    return
            wait_for(f"the end of a payment of {told.booking}", lambda: self._over(told))
            return

    def _over(self, told: Told) -> bool:
        """Whether there is nothing left to pay: it was paid, or time ran out."""
        booking = told.guest.get(f"bookings/{told.booking}")
        if booking["money"]["charged"]["amount"] and not told.paid:
            told.paid = True
            self._tally.add("paid")
        return bool(booking["status"] != "pending")

    def _answer_bank(self, address: str, outcome: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return Browser(self._site).answer_bank(address, outcome=outcome)
            except Turned as turned:
                # The page has no form any more once the bank has been answered.
                if turned.status is None and "has no form" in str(turned):
                    return None
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)

    # What follows -----------------------------------------------------------------------------------------------------

    def _cancel(self, told: Told, who: Visitor) -> None:
        """Cancel on the terms that are shown; terms that were overtaken are asked for again. Raises GaveUp when it is
        refused however often, though it is offered."""
        path, refused = f"bookings/{told.booking}", ""
        for _ in range(TRIES):
            booking = who.get(path)
            if booking["status"] != "cancelled":
                if "cancel" not in booking["available_actions"]:
                    self._tally.add("too late to cancel")
                    return
                try:
                    terms = who.post(f"{path}/cancellation-quote")
                    booking = who.post(f"{path}/cancel", token=terms["token"], reason="Plans changed in the storm")
                except Refusal as no:
                    if no.status not in {409, 422}:
                        raise
                    refused = str(no)
                    continue
            if booking["status"] != "cancelled":
                raise GaveUp(f"{told.booking} was answered to be cancelled and is {booking['status']}")
            told.cancelled = True
            self._tally.add("cancelled")
            return
        raise GaveUp(f"{told.booking} could not be cancelled: {refused}")

    def _refund(self, told: Told, *, share: int) -> None:
        """A clerk gives part of it back, in the console."""
        charged = told.guest.get(f"bookings/{told.booking}")["money"]["charged"]
        amount = Money(charged["amount"] * share // 100, charged["currency"])
        with self._desk_is_free:
            self._clerk.decide(
                f"/console/bookings/booking/{told.booking}/refund/",
                amount=str(amount.decimal()),
                cause="service_issue",
                bearer="host",
                reason="No hot water in the storm",
            )
        told.refunded = amount
        self._tally.add("refunded by staff")

    def _charge_back(self, told: Told, reason: str) -> None:
        charge = self._provider.charge_of(told.booking)
        if charge is None:
            raise GaveUp(f"{told.booking} is paid, and the provider has no charge of it")
        self._provider.dispute(charge, reason=reason)
        told.disputed = True
        self._tally.add("charged back")
