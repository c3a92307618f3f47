"""A small believable world on an empty desk, made through the same operations as everything else.

The plan is drawn from a seed and hangs on one anchor, the day the demo was first loaded, so that a run that was cut
short goes on where it stopped and a finished one changes nothing. What the plan says of a day in the past is done with
that day's `now`: prices, rates and rules are those of then."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, partial
from pathlib import Path
from time import sleep as pause
from typing import Any, Final
from urllib.request import Request, urlopen

from django.conf import settings

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor, system
from backoffice.core.errors import PaymentDeclined, Refused, StaydeskError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.jobs import operations as jobs
from backoffice.ledger import queries as ledger
from backoffice.listings import operations as listings
from backoffice.listings.models import CalendarHold, Listing
from backoffice.payments.models import Chargeback
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import Payout, PayoutHold
from backoffice.people import operations as people
from backoffice.people import queries as people_queries
from backoffice.people.models import User
from backoffice.workflows import (
    cancel_booking,
    import_balance_transactions,
    keep_time,
    mark_no_show,
    onboard_host,
    pay_booking,
    refund_booking,
    release_payouts,
    work_chargebacks,
)

JOB: Final = "seed.demo"
ACTOR: Final = system("demo")
WORLD: Final = Path(__file__).resolve().parents[2] / "fixtures" / "demo" / "world.json"
# One password for every login of the demo: it is printed, and only a desk with simulated payments has them.
PASSWORD: Final = "harbour-lantern-42"  # noqa: S105
OPENED: Final = timedelta(days=200)  # the desk had been open that long when the demo was first loaded

PATIENCE: Final = 15  # seconds
CLEARING: Final = "1150"  # captured, and not yet seen among the provider's movements

# What becomes of twenty bookings; a longer plan repeats it. "open" ones are made last and left unpaid.
_FATES: Final = (
    "completed", "upcoming", "completed", "guest_cancels", "staying", "completed", "disputed", "partly_refunded",
    "expired", "completed", "asked_about", "host_cancels", "completed", "refund_waiting", "upcoming", "staying",
    "declined", "guest_cancels", "open", "no_show",
)  # fmt: skip
# With which card a booking is paid, where what becomes of it begins there.
_CARDS: Final = {
    "declined": "pm_card_chargeDeclined",
    "disputed": "pm_card_createDisputeProductNotReceived",
    "asked_about": "pm_card_createDisputeInquiry",
}
_PAST: Final = frozenset({"completed", "partly_refunded", "refund_waiting"})


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who can sign in on this demo."""

    role: str
    email: str
    password: str = PASSWORD


@dataclass(slots=True)
class Report:
    """What the demo holds, and what this run had to add."""

    staff: list[Login] = field(default_factory=list)
    host: Login | None = None
    guest: Login | None = None
    added: Counter[str] = field(default_factory=Counter)
    bookings: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class _Planned:
    """One booking of the plan: who stays where and when, and what becomes of it."""

    fate: str
    home: Mapping[str, Any]
    guest: str
    check_in: date
    nights: int
    guests: int
    booked: datetime

    @property
    def check_out(self) -> date:
        return self.check_in + timedelta(days=self.nights)


def quiet(what: str) -> None:
    """A progress that tells nobody."""


def load(
    *,
    actor: Actor,
    now: datetime,
    if_empty: bool = False,
    seed: int = 7,
    number: int = 40,
    progress: Callable[[str], None] = quiet,
) -> Report:
    """Load the demo: staff of every role, hosts, homes in four currencies, guests and `number` bookings in every state.

    Repeating it changes nothing. With `if_empty` a desk that has homes of its own is left alone. Raises Refused where
    money is real, Locked when it is running. Without an answer from the provider the bookings stay unpaid, which is told."""
    if not (settings.DEBUG and settings.SANDBOXED):
        raise Refused("The demo is only for a desk with DEBUG=1 and the payment sandbox; this one is not.")
    actor.must("jobs.run")
    report = Report()
    world = _world()
    if if_empty and Listing.objects.exclude(host__email__in=[host["email"] for host in world["hosts"]]).exists():
        report.skipped = "This desk has homes of its own; the demo was not loaded."
        return report
    with jobs.running(name=JOB, actor=actor, now=now) as run:
        anchor = _anchor(now)
        _people(world, anchor, report, progress)
        _homes(world, anchor, report, progress)
        _payout_accounts(world, anchor, now, report, progress)
        _bookings(world, anchor, now, random.Random(seed), number, report, progress)  # noqa: S311  # a plan, not a secret
        report.added = +report.added  # what was looked for and not needed is no news
        run.count(**report.added)
    audit.seal(now=now)
    emails = [guest["email"] for guest in world["guests"]]
    report.bookings.update(Booking.objects.filter(guest__email__in=emails).values_list("status", flat=True))
    return report


@cache
def _world() -> dict[str, Any]:
    world: dict[str, Any] = json.loads(WORLD.read_text(encoding="utf-8"))
    return world


def _anchor(now: datetime) -> datetime:
    """When the demo was first loaded: everything else is counted from there."""
    first = User.objects.filter(email=_world()["staff"][0]["email"]).values_list("created_at", flat=True).first()
    return first + OPENED if first else now


# People and homes -----------------------------------------------------------------------------------------------------


def _people(world: Mapping[str, Any], anchor: datetime, report: Report, progress: Callable[[str], None]) -> None:
    for one in world["staff"]:
        if not User.objects.filter(email=one["email"]).exists():
            people.make_demo_staff(**one, password=PASSWORD, actor=ACTOR, now=anchor - OPENED)
            report.added["people"] += 1
        report.staff.append(Login(one["role"], one["email"]))
        progress("staff")
    for kind, is_host in (("hosts", True), ("guests", False)):
        for place, one in enumerate(world[kind]):
            if not User.objects.filter(email=one["email"]).exists():
                joined = anchor - OPENED + timedelta(days=3 * place + 1)
                people.register(**one, password=PASSWORD, is_host=is_host, actor=ACTOR, now=joined)
                report.added["people"] += 1
            progress(kind)
    report.host = Login("host", world["hosts"][0]["email"])
    report.guest = Login("guest", world["guests"][0]["email"])


def _homes(world: Mapping[str, Any], anchor: datetime, report: Report, progress: Callable[[str], None]) -> None:
    """Each home goes its whole way: drafted and submitted by its host, published by staff."""
    moderator = _actor(next(one["email"] for one in world["staff"] if one["role"] == "support_l2"), anchor)
    for place, home in enumerate(world["homes"]):
        progress("homes")
        told = anchor - OPENED + timedelta(days=30 + place)
        host = _actor(home["host"], told)
        listing = Listing.objects.filter(host_id=host.id, title=home["title"]).first()
        if listing is None:
            fields = {name: value for name, value in home.items() if name != "host"} | world["cities"][home["city"]]
            listing = listings.create(fields=fields, actor=host, now=told)
            report.added["homes"] += 1
        if listing.status == "draft":
            listing = listings.submit(code=listing.code, actor=host, now=told)
        if listing.status == "in_review" and place % 12 != 11:  # one in twelve is left for a moderator to look at
            listings.publish(code=listing.code, actor=moderator, now=told + timedelta(hours=5))
            _calendar(listing, place, host, anchor)


def _calendar(listing: Listing, place: int, host: Actor, anchor: datetime) -> None:
    """Some hosts ask more for a busy week, some keep a week for themselves."""
    week = anchor.date() + timedelta(days=90 + place)
    if place % 3 == 0 and listing.nightly_price:
        listings.set_night_prices(
            code=listing.code,
            first=week,
            end=week + timedelta(days=7),
            price=listing.nightly_price + listing.nightly_price // 4,
            actor=host,
            now=anchor - OPENED / 2,
        )
    if place % 4 == 1 and not CalendarHold.objects.filter(listing=listing, kind="block").exists():
        stay = Stay(week + timedelta(days=10), week + timedelta(days=15))
        listings.block(code=listing.code, stay=stay, cause="family visit", actor=host, now=anchor - OPENED / 2)


def _payout_accounts(
    world: Mapping[str, Any], anchor: datetime, now: datetime, report: Report, progress: Callable[[str], None]
) -> None:
    """Hosts set up their payouts, all but the last, who has yet to begin; of the one before the provider wants more."""
    *ready, restricted, _ = [one["email"] for one in world["hosts"]]
    for email in (*ready, restricted):
        progress("payout accounts")
        host = _actor(email, now)
        assert host.id is not None
        account = payout_queries.account_of(host_id=host.id)
        if account is not None and account.status != "onboarding":
            continue
        try:
            onboard_host.begin(actor=host, now=anchor - OPENED / 2, return_url=settings.SITE_URL)
            account = payout_queries.account_of(host_id=host.id)
            assert account is not None
            _at_provider(f"accounts/{account.provider_id}/onboard", {})
            if email == restricted:
                _at_provider(f"accounts/{account.provider_id}/restrict", {})
            onboard_host.refresh(host_code=account.host.code, actor=ACTOR, now=now)
            report.added["payout accounts"] += 1
        except (StaydeskError, OSError) as error:
            report.warnings.append(
                f"Hosts were not set up for payouts, as the payment provider did not answer: {error}"
            )
            return


def _at_provider(act: str, facts: Mapping[str, Any]) -> None:
    """Do in the sandbox what a person does on the provider's own pages; only a desk with a sandbox has a demo."""
    request = Request(  # noqa: S310 — the sandbox's own address
        f"{settings.STRIPE_API_BASE}/_sim/{act}", data=json.dumps(facts).encode(), method="POST"
    )
    with urlopen(request, timeout=PATIENCE):  # noqa: S310
        pass


def _actor(email: str, now: datetime) -> Actor:
    return people_queries.actor_for(user=User.objects.get(email=email), now=now)


# Bookings -------------------------------------------------------------------------------------------------------------


def _bookings(
    world: Mapping[str, Any],
    anchor: datetime,
    now: datetime,
    rng: random.Random,
    number: int,
    report: Report,
    progress: Callable[[str], None],
) -> None:
    """Do the plan's steps in the order of their days, as they would have happened."""
    story = _Story(world, anchor, report)
    steps: list[tuple[datetime, int, Callable[[datetime], None]]] = []
    for planned in _plan(world, anchor, rng, number):
        steps += [(at, len(steps) + place, step) for place, (at, step) in enumerate(story.steps(planned))]
    for day in range(75, -1, -1):
        at = anchor - timedelta(days=day)
        steps.append((at, len(steps), _pass_time))
    for at, _, step in sorted(steps, key=lambda step: step[:2]):
        try:
            step(at)
        except StaydeskError as error:  # somebody works on this desk meanwhile: the rest of the demo stands without it
            report.warnings.append(f"{at:%Y-%m-%d}: {error}")
        progress("bookings")
    if story.provider_answers:
        try:
            _import_movements(now)
            _hear_of_chargebacks(now, report)
            _pay_hosts(story, now, report)
        except StaydeskError as error:
            report.warnings.append(f"The provider's movements were not imported, or hosts not paid, yet: {error}")


def _pay_hosts(story: _Story, now: datetime, report: Report) -> None:
    """Two stays are looked into; what else is due goes to the hosts who can be paid, as a running desk does each minute."""
    report.added["holds"] += story.hold_two(now)
    counts = release_payouts.run(now=now, actor=release_payouts.ACTOR)
    report.added["payouts"] += counts.get("transferred", 0)
    import_balance_transactions.run(now=now)


def _import_movements(now: datetime) -> None:
    """Import what the provider moved. It lists a movement a few seconds after the charge, which a quick demo outruns."""
    patience = PATIENCE
    import_balance_transactions.run(now=now)
    while patience and any(standing.account == CLEARING for standing in ledger.clearing_open(now=now)):
        pause(1)
        patience -= 1
        import_balance_transactions.run(now=now)


def _hear_of_chargebacks(now: datetime, report: Report) -> None:
    """What guests disputed with their banks, as the job finds it that looks for what no event told of."""
    known = Chargeback.objects.count()
    work_chargebacks.run(now=now)
    report.added["chargebacks"] += Chargeback.objects.count() - known


def _pass_time(now: datetime) -> None:
    """The jobs that beat would have run."""
    keep_time.complete_stays(now=now)


def _plan(world: Mapping[str, Any], anchor: datetime, rng: random.Random, number: int) -> Iterator[_Planned]:
    """Draw the bookings; none overlaps another in the same home."""
    homes = [home for place, home in enumerate(world["homes"]) if place % 12 != 11]
    taken: dict[str, list[Stay]] = {}
    for place in range(number):
        fate = _FATES[place % len(_FATES)]
        for _ in range(200):
            planned = _draw(fate, rng.choice(homes), rng.choice(world["guests"])["email"], anchor, rng)
            stay = Stay(planned.check_in, planned.check_out)
            if not any(stay.overlaps(other) for other in taken.get(planned.home["title"], [])):
                taken.setdefault(planned.home["title"], []).append(stay)
                yield planned
                break


def _draw(fate: str, home: Mapping[str, Any], guest: str, anchor: datetime, rng: random.Random) -> _Planned:
    nights, ahead = rng.randint(2, 6), rng.randint(4, 20)
    if fate in _PAST:
        offset = -rng.randint(nights + 2, 60)
    elif fate in {"staying", "no_show"}:
        offset, nights = -1, rng.randint(3, 5)
    elif fate == "guest_cancels":
        offset = rng.randint(3, 25)
    else:
        offset = rng.randint(5, 70)
    check_in = anchor.date() + timedelta(days=offset)
    latest = min(check_in, anchor.date()) - timedelta(days=2)
    booked = datetime.combine(
        min(latest, check_in - timedelta(days=ahead)), time(rng.randint(7, 20), rng.randint(0, 59)), UTC
    )
    if fate == "open":
        booked = anchor
    return _Planned(fate, home, guest, check_in, nights, rng.randint(1, home["capacity"]), booked)


class _Story:
    """Turns planned bookings into steps; each looks first whether it was taken in an earlier run."""

    def __init__(self, world: Mapping[str, Any], anchor: datetime, report: Report) -> None:
        self._by_role = {one["role"]: one["email"] for one in world["staff"]}
        self._anchor = anchor
        self._report = report
        self.provider_answers = True

    def steps(self, planned: _Planned) -> Iterator[tuple[datetime, Callable[[datetime], None]]]:
        """What happens to one booking, and when."""
        yield planned.booked, partial(self._book, planned)
        after = planned.booked + timedelta(hours=30)
        later = min(after, self._anchor)
        if planned.fate == "guest_cancels":
            yield later, partial(self._cancel, planned, "guest")
        elif planned.fate == "host_cancels":
            yield later, partial(self._cancel, planned, "host")
        elif planned.fate == "partly_refunded":
            yield self._anchor - timedelta(hours=20), partial(self._refund, planned, 12)
        elif planned.fate == "refund_waiting":
            yield self._anchor - timedelta(hours=3), partial(self._refund, planned, 1)
        elif planned.fate == "no_show":
            yield self._anchor, partial(self._no_show, planned)

    def _book(self, planned: _Planned, now: datetime) -> None:
        """Quote, book and pay at once: a running desk would let an unpaid past hold expire at its next tick."""
        if self._booking(planned) is not None:
            return
        guest = _actor(planned.guest, now)
        listing = Listing.objects.get(host__email=planned.home["host"], title=planned.home["title"])
        quote = bookings.make_quote(
            listing_code=listing.code,
            check_in=planned.check_in,
            check_out=planned.check_out,
            guests=planned.guests,
            currency=None,
            actor=guest,
            now=now,
        )
        booking = bookings.create(quote_code=quote.code, actor=guest, now=now)
        self._report.added["bookings"] += 1
        if planned.fate not in {"expired", "open"}:
            self._pay(booking, _CARDS.get(planned.fate, "pm_card_visa"), guest, now)
        if planned.fate != "open":
            keep_time.expire_holds(now=now + timedelta(minutes=20))

    def _pay(self, booking: Booking, card: str, guest: Actor, now: datetime) -> None:
        if not self.provider_answers:
            return
        try:
            pay_booking.pay(booking_code=booking.code, payment_method=card, actor=guest, now=now)
            self._report.added["payments"] += 1
        except PaymentDeclined:
            pass
        except UpstreamUnavailable as error:
            self.provider_answers = False
            self._report.warnings.append(f"Bookings are left unpaid, as the payment provider did not answer: {error}")

    def _cancel(self, planned: _Planned, by: str, now: datetime) -> None:
        booking = self._booking(planned)
        if booking is None or booking.status != "confirmed":
            return
        actor = _actor(planned.guest if by == "guest" else planned.home["host"], now)
        preview = cancel_booking.preview(booking_code=booking.code, actor=actor, now=now)
        reason = "Our plans changed." if by == "guest" else "The boiler broke and cannot be repaired in time."
        cancel_booking.confirm(booking_code=booking.code, token=preview.token, reason=reason, actor=actor, now=now)
        self._report.added["cancellations"] += 1
        self._send_refunds(booking, now)

    def _refund(self, planned: _Planned, share: int, now: datetime) -> None:
        """A small refund is within an agent's limit and is sent; the whole is not and waits for a second person."""
        booking = self._booking(planned)
        key = f"demo:{planned.guest}:{planned.check_in}"
        if booking is None or booking.status not in {"checked_in", "completed"}:
            return
        if booking.payment.refunds.filter(idempotency_key=key).exists():
            return
        agent = _actor(self._by_role["support_l1"], now)
        cause, bearer = ("goodwill", "platform") if share > 1 else ("service_issue", "host")
        terms: dict[str, Any] = {"booking_code": booking.code, "cause": cause, "bearer": bearer}
        maximum = refund_booking.preview(amount=None, actor=agent, now=now, **terms)
        amount = Money(maximum.amount.amount // share, maximum.amount.currency)
        refund_booking.request(
            amount=amount,
            reason="The heating failed for a night." if share > 1 else "The home was not as described; the guest left.",
            idempotency_key=key,
            version=maximum.payment_version,
            actor=agent,
            now=now,
            **terms,
        )
        self._report.added["refunds"] += 1
        self._send_refunds(booking, now)

    def _send_refunds(self, booking: Booking, now: datetime) -> None:
        """Send what is approved, as the worker would: a demo has to show it without waiting for one."""
        for refund in booking.payment.refunds.filter(status="approved"):
            refund_booking.send(refund_code=refund.code, actor=ACTOR, now=now)

    def _no_show(self, planned: _Planned, now: datetime) -> None:
        booking = self._booking(planned)
        if booking is not None and booking.status in {"confirmed", "checked_in"}:
            agent = _actor(self._by_role["support_l2"], now)
            mark_no_show.mark(
                booking_code=booking.code, reason="The host waited; the guest never came.", actor=agent, now=now
            )

    def hold_two(self, now: datetime) -> int:
        """A guest complained of a stay that was had: half of it is kept back. Of one to come the payer looks odd."""
        agent = _actor(self._by_role["support_l2"], now)
        placed = 0
        for status, share, cause, reason in (
            (
                "completed",
                2,
                "dispute",
                "The guest says that the kitchen could not be used; the host has yet to answer.",
            ),
            ("confirmed", 1, "suspicion", "Card and guest come from different countries; trust & safety takes a look."),
        ):
            row = (
                Payout.objects.filter(
                    booking__status=status, status="scheduled", host__payout_account__can_receive=True
                )
                .select_related("booking")
                .order_by("id")
                .first()
            )
            if row is None or PayoutHold.objects.filter(cause=cause, placed_by_id=agent.id).exists():
                continue
            payouts.place_hold(
                booking_code=row.booking.code,
                amount=Money(row.held // share, row.currency) if share > 1 else None,
                cause=cause,
                reason=reason,
                hours=72 if share > 1 else 20,
                owner_id=agent.id,
                actor=agent,
                now=now,
            )
            placed += 1
        return placed

    def _booking(self, planned: _Planned) -> Booking | None:
        return (
            Booking.objects.filter(
                listing__title=planned.home["title"],
                listing__host__email=planned.home["host"],
                guest__email=planned.guest,
                check_in=planned.check_in,
            )
            .select_related("listing", "payment")
            .first()
        )
