"""Holds: within one's role, by whom, how long, and never on what has left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Invalid,
    KeyReused,
    NotAllowed,
    OverLimit,
    Refused,
    StaleVersion,
)
from backoffice.core.money import Money
from backoffice.notifications.models import Notification
from backoffice.payouts import operations, queries
from backoffice.payouts.models import Payout, PayoutHold
from backoffice.people.models import StaffRole, User
from tests import factories
from tests.factories import NOW
from tests.payouts.stays import host, paid_stay, refund, release_all

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def place(booking: Booking, amount: int | None = None, *, by: User | None = None, **options: Any) -> PayoutHold:
    facts: dict[str, Any] = {
        "cause": "dispute",
        "reason": "Broken window",
        "hours": 24,
        "owner_id": None,
        "now": NOW,
        **options,
    }
    return operations.place_hold(
        booking_code=booking.code,
        amount=None if amount is None else Money(amount, booking.currency),
        actor=factories.acting(by or factories.staff("team_lead")),
        **facts,
    )


def lift(hold: PayoutHold, by: User, *, version: int | None = None, reason: str = "Settled") -> PayoutHold:
    return operations.lift_hold(
        hold_code=hold.code, reason=reason, version=version or hold.version, actor=factories.acting(by), now=NOW
    )


@pytest.mark.parametrize(
    ("role", "most"),
    [
        ("support_l1", 72),
        ("support_l2", 336),
        ("team_lead", 720),
        ("finance", None),
        ("trust_safety", None),
        ("auditor", 0),
        ("on_call", 0),
        ("admin", 0),
    ],
)
def test_each_role_holds_for_as_long_as_it_may(role: str, most: int | None) -> None:
    booking, person = paid_stay(), factories.staff(role)
    if most == 0:
        with pytest.raises(NotAllowed):
            place(booking, by=person, hours=1)
        return
    hours = most or 10_000
    assert place(booking, by=person, hours=hours).expires_at == NOW + hours * HOUR
    if most is not None:
        with pytest.raises(OverLimit, match=f"{most + 1} hours .* ask a colleague who may hold for longer"):
            place(booking, by=person, hours=most + 1)


def test_one_key_makes_one_hold() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    hold = place(booking, 5_000, by=lead, key="dialog-1")
    assert place(booking, 5_000, by=lead, key="dialog-1") == hold
    with pytest.raises(KeyReused):
        place(booking, 5_001, by=lead, key="dialog-1")
    assert PayoutHold.objects.count() == 1 and Notification.objects.filter(topic="payout_held").count() == 1


@pytest.mark.parametrize(
    ("amount", "options", "error", "words"),
    [
        (0, {}, Invalid, "above zero"),
        (-5, {}, Invalid, "above zero"),
        (10**9, {}, Invalid, "left to hold"),
        (10**20, {}, Invalid, "left to hold"),
        (100, {"hours": 10**11}, Invalid, r"hours: at most 17,520 \(two years\)"),
        (100, {"hours": 0}, Invalid, "hours"),
        (100, {"cause": "spite"}, Invalid, "cause"),
        (100, {"reason": "  "}, Refused, "a reason"),
    ],
)
def test_what_is_wrong_is_named(amount: int, options: dict[str, Any], error: type[Exception], words: str) -> None:
    booking = paid_stay()
    with pytest.raises(error, match=words):
        place(booking, amount, by=factories.staff("finance"), **options)
    assert not PayoutHold.objects.exists()


def test_an_amount_in_another_currency_is_refused() -> None:
    booking = paid_stay()
    with pytest.raises(Invalid, match="EUR"):
        operations.place_hold(
            booking_code=booking.code,
            amount=Money(100, "USD"),
            cause="dispute",
            reason="x",
            hours=1,
            owner_id=None,
            actor=factories.SYSTEM,
            now=NOW,
        )


def test_what_was_sent_cannot_be_held_a_clawback_is_the_way() -> None:
    booking = paid_stay()
    assert [row.status for row in release_all(now=booking.check_in_at + 25 * HOUR)] == ["transferred"]
    with pytest.raises(Conflict, match="clawback"):
        place(booking)


def test_nobody_holds_money_of_their_own_booking() -> None:
    bob = host()
    booking = paid_stay(of=bob)
    bob.is_staff = True
    bob.save()
    StaffRole.objects.create(user=bob, role="finance", granted_at=NOW)
    with pytest.raises(NotAllowed):
        place(booking, by=bob)


def test_a_whole_hold_shows_on_the_payout_and_its_end_sets_it_free() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    hold = place(booking, by=lead)
    payout = Payout.objects.get(booking=booking)
    assert (payout.status, payout.waits_until) == ("held", hold.expires_at)
    longer = operations.extend_hold(
        hold_code=hold.code,
        hours=48,
        reason="No answer yet",
        version=hold.version,
        actor=factories.acting(lead),
        now=NOW,
    )
    payout.refresh_from_db()
    assert payout.waits_until == longer.expires_at == NOW + 48 * HOUR
    assert lift(longer, lead).status == "lifted"
    payout.refresh_from_db()
    assert (payout.status, payout.waits_for, payout.waits_until) == ("scheduled", "", None)
    verbs = AuditEntry.objects.filter(object_kind="payout_hold").order_by("seq").values_list("verb", flat=True)
    assert list(verbs) == ["payouts.hold.place", "payouts.hold.extend", "payouts.hold.lift"]


def test_a_partial_hold_leaves_the_payout_to_its_day() -> None:
    booking = paid_stay()
    place(booking, 5_000)
    assert Payout.objects.get(booking=booking).status == "scheduled"


def test_of_two_holds_the_money_waits_for_the_later() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    first, second = place(booking, by=lead), place(booking, by=lead, hours=100)
    lift(first, lead)
    payout = Payout.objects.get(booking=booking)
    assert (payout.status, payout.waits_until) == ("held", second.expires_at)


def test_what_no_hold_keeps_any_longer_does_not_wait_for_the_last_of_them() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    share, due = booking.host_price - booking.host_fee, booking.check_in_at + 25 * HOUR
    whole = place(booking, by=lead, hours=1, now=due)
    for amount, hours in ((5_000, 10), (3_000, 20)):
        place(booking, amount, by=lead, hours=hours, now=due)
    assert release_all(now=due) == []
    operations.lift_hold(hold_code=whole.code, reason="x", version=whole.version, actor=factories.acting(lead), now=due)
    sent = []
    for hours in (0, 9, 10, 19, 20):
        rows = release_all(now=due + hours * HOUR)
        sent.append([row.transfer_amount for row in rows if row.status == "transferred"])
    assert sent == [[share - 8_000], [], [5_000], [], [3_000]]


def test_lifting_needs_the_owner_or_somebody_who_could_have_placed_it() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    junior, owner, finance = (factories.staff(role) for role in ("support_l1", "support_l1", "finance"))
    hold = place(booking, by=lead, hours=500, owner_id=owner.pk)
    with pytest.raises(NotAllowed, match="owner"):
        lift(hold, junior)
    with pytest.raises(Refused):
        lift(hold, finance, reason=" ")
    with pytest.raises(StaleVersion):
        lift(hold, finance, version=hold.version + 1)
    assert lift(hold, owner).ended_by == owner
    with pytest.raises(IllegalTransition):
        lift(PayoutHold.objects.get(pk=hold.pk), finance)
    short = place(booking, by=lead, hours=72)
    assert lift(short, junior).status == "lifted"


def test_extending_neither_ends_a_hold_nor_outlasts_what_ones_role_may() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    junior, owner = (factories.staff("support_l1") for _ in range(2))

    def extend(hold: PayoutHold, by: User, hours: int, *, at: int = 0) -> PayoutHold:
        return operations.extend_hold(
            hold_code=hold.code, hours=hours, reason="x", version=hold.version, actor=factories.acting(by),
            now=NOW + at * HOUR,
        )  # fmt: skip

    long, short = place(booking, by=lead, hours=500, owner_id=owner.pk), place(booking, by=junior, hours=24)
    with pytest.raises(NotAllowed, match="lift"):
        extend(long, junior, 1)
    assert queries.extension_limit(hold=short, actor=factories.acting(junior), now=NOW + 20 * HOUR) == 52
    with pytest.raises(OverLimit, match="73 hours"):
        extend(short, junior, 53, at=20)
    assert extend(short, junior, 52, at=20).expires_at == NOW + 72 * HOUR
    assert extend(long, owner, 1).expires_at == NOW + HOUR, "its owner may lift it"


def test_a_hold_runs_out_by_itself_but_not_one_that_was_extended() -> None:
    booking, lead = paid_stay(), factories.staff("team_lead")
    hold = place(booking, by=lead, hours=24)
    operations.extend_hold(
        hold_code=hold.code, hours=48, reason="x", version=hold.version, actor=factories.acting(lead), now=NOW
    )
    assert not operations.expire_hold(hold_code=hold.code, actor=factories.SYSTEM, now=NOW + 25 * HOUR)
    assert operations.expire_hold(hold_code=hold.code, actor=factories.SYSTEM, now=NOW + 48 * HOUR)
    assert not operations.expire_hold(hold_code=hold.code, actor=factories.SYSTEM, now=NOW + 49 * HOUR)
    assert PayoutHold.objects.get().ended_reason == "its time was up"


def test_the_host_is_told_how_much_until_when_and_why_but_not_our_own_words() -> None:
    booking = paid_stay()
    place(booking, 5_000, reason="Guest says Bob lies", hours=48)
    told = Notification.objects.get(topic="payout_held")
    assert told.recipient_id == booking.host_id
    assert "€50.00" in told.body and f"{NOW + 48 * HOUR:%Y-%m-%d}" in told.body and "lies" not in told.body


def test_a_hold_of_more_than_a_refund_leaves_keeps_all_of_it() -> None:
    booking = paid_stay()
    place(booking, booking.host_price - booking.host_fee, hours=700)
    refund(booking, 20_000, now=NOW)
    due = booking.check_in_at + 25 * HOUR
    PayoutHold.objects.update(expires_at=due + HOUR)
    assert [row.status for row in release_all(now=due)] == ["held"]
    assert [row.status for row in release_all(now=due + HOUR)] == ["transferred"]
