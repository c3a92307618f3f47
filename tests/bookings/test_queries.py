"""Who sees which booking, and which actions each is offered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries
from backoffice.bookings.models import Booking
from backoffice.bookings.states import BOOKING
from backoffice.core.actor import Actor
from backoffice.core.errors import NotFound, StaydeskError
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.people.models import User
from backoffice.people.queries import cli_actor
from backoffice.people.states import ROLES
from backoffice.workflows import cancel_booking, decide_request, mark_no_show
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> dict[str, User]:
    booking = factories.booking()
    return {
        "alice": booking.guest,
        "bob": booking.host,
        "charlie": factories.person("Charlie", is_host=True),
        "mara": factories.staff("support_l1"),
    }


def test_guest_and_host_see_theirs_staff_see_all_and_strangers_none(cast: dict[str, User]) -> None:
    booking = Booking.objects.get()
    for name in ("alice", "bob", "mara"):
        assert queries.booking(code=booking.code, actor=factories.acting(cast[name])) == booking
    with pytest.raises(NotFound, match="No such booking"):
        queries.booking(code=booking.code, actor=factories.acting(cast["charlie"]))
    with pytest.raises(NotFound, match="No such booking"):
        queries.booking(code="BK-NONE", actor=factories.acting(cast["mara"]))
    assert queries.booking(code=booking.code, actor=cli_actor(name="mara")) == booking


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reads_bookings(role: str) -> None:
    booking = factories.booking()
    assert queries.booking(code=booking.code, actor=factories.acting(factories.staff(role))) == booking


def test_lists_are_ones_own_newest_first_and_cost_one_statement(
    cast: dict[str, User], django_assert_num_queries: Any
) -> None:
    home = factories.listing(cast["charlie"])
    mine = [factories.booking(home, cast["alice"], check_in=date(2027, 5, 1) + timedelta(days=7 * n)) for n in range(3)]
    with django_assert_num_queries(1):
        found = [(row.code, row.listing.title, row.host.name) for row in queries.bookings_for(host_id=home.host_id)]
    assert [code for code, *_ in found] == [booking.code for booking in reversed(mine)]
    assert queries.bookings_of(guest_id=cast["alice"].id).count() == 4
    assert not queries.bookings_of(guest_id=cast["bob"].id).exists()


# A button that then refuses is a bug: what is offered is done, what is not offered is refused ----------------------


def _do(action: str, booking: Booking, actor: Actor, at: datetime) -> None:
    if action == "cancel":
        shown = cancel_booking.preview(booking_code=booking.code, actor=actor, now=at)
        cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="x", actor=actor, now=at)
    elif action == "mark_no_show":
        mark_no_show.mark(booking_code=booking.code, reason="x", actor=actor, now=at)
    elif action == "accept":  # what is reserved is taken at the provider; whether the host may say yes is asked here
        bookings.for_host_to_decide(booking=bookings.lock(code=booking.code), actor=actor, now=at)
    elif action == "decline":
        decide_request.decline(booking_code=booking.code, reason="x", actor=actor, now=at)
    elif action == "pay":
        locked = bookings.lock(code=booking.code)
        payments.begin_attempt(booking=locked, payment_method="pm_card_visa", actor=actor, now=at)


ACTIONS = ("pay", "accept", "decline", "cancel", "mark_no_show")
MOMENTS = {
    "booked": NOW,
    "hold over": NOW + timedelta(minutes=15),
    "midnight of check-in": datetime(2026, 12, 19, 23, 0, tzinfo=UTC),
    "after check-in": datetime(2026, 12, 21, 0, 0, tzinfo=UTC),
    "after check-out": datetime(2026, 12, 24, 0, 0, tzinfo=UTC),
    "long after": datetime(2027, 1, 24, 0, 0, tzinfo=UTC),
}


@pytest.mark.parametrize("status", BOOKING.statuses)
def test_what_is_offered_can_be_done_and_what_is_not_is_refused(status: str) -> None:
    """By everybody at every moment; what is done is taken back, so that the next one meets the booking as it was."""
    booking = factories.booking()
    Booking.objects.filter(id=booking.id).update(status=status)
    people = {"guest": booking.guest, "host": booking.host, "another host": factories.person("Charlie", is_host=True)}
    people |= {role: factories.staff(role) for role in ("support_l1", "auditor", "finance")}
    for (who, person), (moment, at) in product(people.items(), MOMENTS.items()):
        actor = factories.acting(person)
        offered = payment_queries.available_actions(booking=queries.booking(code=booking.code), actor=actor, now=at)
        assert set(offered) <= {*ACTIONS}
        for action in ACTIONS:
            try:
                with transaction.atomic():
                    _do(action, booking, actor, at)
                    done = True
                    transaction.set_rollback(True)
            except StaydeskError:
                done = False
            assert (action in offered) is done, (who, moment, action)


def test_what_time_will_do_is_found_in_time() -> None:
    booking = factories.booking()
    assert queries.expired_unpaid(now=NOW + timedelta(minutes=15) - timedelta(seconds=1)) == []
    assert queries.expired_unpaid(now=NOW + timedelta(minutes=15)) == [booking.code]
    Booking.objects.update(status="confirmed")
    assert queries.due_to_begin(now=booking.check_in_at - timedelta(seconds=1)) == []
    assert queries.due_to_begin(now=booking.check_in_at) == [booking.code]
    Booking.objects.update(status="checked_in")
    assert queries.due_to_end(now=booking.check_out_at) == [booking.code]


@pytest.mark.parametrize(("status", "reason"), [("awaiting_payment", "awaiting_payment"), ("confirmed", "")])
def test_why_a_booking_is_pending(status: str, reason: str) -> None:
    assert queries.pending_reason(booking=Booking(status=status)) == reason
