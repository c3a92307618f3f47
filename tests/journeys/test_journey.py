"""The journey through the real doors, on a desk of its own: the very steps of `ops demo journey`."""

from __future__ import annotations

import pytest

from ops_cli.journey import Answer, Journey, Login
from ops_cli.simulator import Simulator
from tests import factories
from tests.desk import RunningDesk

STEPS = 11


@pytest.fixture
def staff(desk: RunningDesk) -> Login:
    user = factories.staff("support_l2")
    return Login(user.email, factories.PASSWORD)


def test_a_booking_goes_through_every_door_and_the_books_match(desk: RunningDesk, staff: Login) -> None:
    desk.worker()

    def ops(*arguments: str) -> Answer:
        said = desk.ops(*arguments, code=None)
        return Answer(said["code"], said["data"], said["summary"])

    journey = Journey(site=desk.site, simulator=Simulator(desk.sandbox.base_url), staff=staff, ops=ops)
    steps = list(journey.steps())
    told = [f"{step.name}: {step.detail} ({step.seconds} s)" for step in steps]
    assert all(step.ok for step in steps), "\n".join(told)
    assert len(steps) == STEPS == len(journey.plan)
    parts = [argument for name in ("web", "worker", "redis", "provider", "guards") for argument in ("--check", name)]
    assert desk.ops("doctor", *parts)["summary"]["healthy"] is True
    assert desk.ops("ledger", "check")["summary"]["sound"] is True
    assert desk.ops("audit", "verify")["summary"]["intact"] is True
    (known,) = desk.ops("breaks", "list", "--all")["data"]
    assert (known["class"], known["status"]) == ("amount_mismatch", "self_healed")
