"""One whole run: a world, the storm over it, quiet, and the account."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ops_cli.chaos.desk import ThrowawayDesk
from ops_cli.chaos.people import Clerk, GaveUp, Tally, Visitor, wait_for
from ops_cli.chaos.provider import Provider
from ops_cli.chaos.stories import Home, Stories
from ops_cli.chaos.storm import Storm
from ops_cli.chaos.verdict import Check, checks, settle_down
from ops_cli.output import Failed
from ops_cli.parts.desk import ROOT

CLERK: Final = "finance"
WORKERS: Final = 6
WELL_SECONDS: Final = 120.0
# Time that passes when it is quiet: lost answers are asked for, saved failures forgotten, refunds end, stays begin and
# end, and what an issuer was to decide is decided.
AFTERWARDS: Final = ("2h", "1d", "26h", "10d", "30d", "60d", "2h")
PEOPLE: Final = ROOT / "fixtures" / "demo" / "world.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, what went wrong on the way, and what held in the end."""

    checks: Sequence[Check]
    counts: dict[str, int]
    kills: dict[str, int]
    faults: dict[str, int]
    clock_moves: int
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def run(desk: ThrowawayDesk, *, bookings: int, seed: int, progress: Callable[[], None]) -> Outcome:
    """Play so many bookings on a desk that has been started, in a storm; then judge."""
    clocks: dict[str, float] = {}
    tally = Tally()
    provider = Provider(desk.environment["STRIPE_API_BASE"], desk.environment["STRIPE_API_KEY"])
    with _timed(clocks, "world"):
        stories = _world(desk, provider, seed=seed, tally=tally)
    storm = Storm(desk, provider, seed=seed, tally=tally)
    with _timed(clocks, "storm"):
        _rage(storm, stories, bookings, tally, progress)
    with _timed(clocks, "quiet"):
        _wait_until_well(desk)
        storm.take_down()
        rest = settle_down(desk, provider, steps=AFTERWARDS)
    with _timed(clocks, "account"):
        found = [rest, _every_story_ended(stories, bookings), *checks(desk, provider, stories.told)]
    return Outcome(
        checks=found,
        counts=dict(sorted(tally.counts.items())),
        kills=dict(storm.kills),
        faults={effect: fired for effect, fired in storm.faults.items() if fired},
        clock_moves=storm.clock_moves,
        seconds=clocks,
    )


def _rage(storm: Storm, stories: Stories, bookings: int, tally: Tally, progress: Callable[[], None]) -> None:
    storm.brew()
    storm.start()
    try:
        with ThreadPoolExecutor(WORKERS) as crowd:
            try:
                for _ in crowd.map(stories.play, range(bookings)):
                    progress()
            except BaseException:  # somebody wants it to end: those who still wait for an answer need not
                tally.hopeless.set()
                raise
    finally:
        storm.end()


def _every_story_ended(stories: Stories, bookings: int) -> Check:
    return Check("everybody got an answer in the end", bookings, stories.broken_off)


def _world(desk: ThrowawayDesk, provider: Provider, *, seed: int, tally: Tally) -> Stories:
    """The demo's people and homes, with nothing booked yet."""
    desk.ops("seed", "demo", "--bookings", "0")
    logins = desk.logins()
    password = logins[0]["password"]
    people = json.loads(PEOPLE.read_text(encoding="utf-8"))

    def visitor(one: Mapping[str, str]) -> Visitor:
        return Visitor(desk.site, email=one["email"], password=password, tally=tally)

    homes = [
        Home(row["code"], host)
        for host in map(visitor, people["hosts"])
        for row in host.get("me/listings")["results"]
        if row["status"] == "published"
    ]
    clerk = next(login["email"] for login in logins if login["role"] == CLERK)
    return Stories(
        seed=seed,
        homes=homes,
        guests=[visitor(guest) for guest in people["guests"]],
        clerk=Clerk(desk.site, email=clerk, password=password, tally=tally),
        provider=provider,
        site=desk.site,
        tally=tally,
    )


def _wait_until_well(desk: ThrowawayDesk) -> None:
    """Raises Failed when a part does not come back."""
    try:
        if not desk.is_looked_after:
            raise GaveUp("the supervisor has given up")
        wait_for("the parts", lambda: not desk.unwell(), seconds=WELL_SECONDS)
    except GaveUp:
        raise Failed(
            f"these parts did not come back: {', '.join(desk.unwell())}; the desk said last:\n{desk.last_words()}"
        ) from None


@contextmanager
def _timed(clocks: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        clocks[what] = round(time.monotonic() - began, 1)
