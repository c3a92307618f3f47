from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backoffice.audit import operations as audit
from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.console import navigation
from backoffice.core.actor import system
from tests import factories
from tests.console.world import World, addresses, now, paid, refund, webhook

PEOPLE = "/console/people/user/"


def shown(response) -> list[str]:
    return [row.code for row in response.context["cl"].result_list]


def many_people(count: int) -> list[str]:
    """Codes, newest first."""
    made = [factories.person(f"Guest {number}", now=now()) for number in range(count)]
    return [person.code for person in reversed(made)]


def test_every_list_is_within_fifteen_queries_and_constant_in_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(navigation, "waiting", dict)  # counted anew after seconds, which a busy machine outlasts
    client = world.client("finance")
    lists = [address for address in addresses(world) if address.kind == "list"]
    client.get(reverse("admin:index"))

    def cost(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200, path
        # The desk's clock is read anew every half second, whatever the page.
        return sum("core_clockoffset" not in query["sql"] for query in queries)

    before = {address.path: cost(address.path) for address in lists}
    for _ in range(3):
        booking = paid()
        refund(booking, 1_000, world.staff["support_l2"])
        webhook()
    after = {address.path: cost(address.path) for address in lists}
    assert after == before
    assert max(after.values()) <= 15


def test_pages_follow_each_other_without_gaps_or_repeats(db: None) -> None:
    world_staff = factories.staff("finance", now=now())
    codes = [*many_people(120)]
    client = Client()
    client.force_login(world_staff)
    seen: list[str] = []
    path = PEOPLE
    for _ in range(10):
        response = client.get(path)
        seen += shown(response)
        older = response.context["cl"].older_query
        if not response.context["cl"].has_older:
            break
        path = PEOPLE + older
    assert seen == [*codes, world_staff.code]
    last = client.get(f"{PEOPLE}?oldest=1")
    assert shown(last) == seen[-25:]
    assert last.context["cl"].has_newer and not last.context["cl"].has_older
    back = client.get(PEOPLE + last.context["cl"].newer_query)
    assert shown(back) == seen[-50:-25]
    assert back.context["cl"].has_older
    first = client.get(PEOPLE)
    assert first.context["cl"].has_older and not first.context["cl"].has_newer


def test_rows_that_arrive_meanwhile_shift_no_page(db: None, client) -> None:
    client.force_login(factories.staff("finance", now=now()))
    many_people(60)
    first = client.get(PEOPLE)
    many_people(5)
    second = client.get(PEOPLE + first.context["cl"].older_query)
    assert not set(shown(first)) & set(shown(second))


def test_the_last_page_costs_what_the_first_does(world: World) -> None:
    """No OFFSET and no COUNT: the statement of the last page reads as many rows as that of the first."""
    client = world.client("finance")
    client.get(reverse("admin:index"))  # badges are counted, and kept
    with CaptureQueriesContext(connection) as queries:
        client.get(f"{PEOPLE}?oldest=1")
    statements = " ".join(query["sql"] for query in queries)
    assert "OFFSET" not in statements and "COUNT(" not in statements


@pytest.mark.parametrize(
    "query",
    [
        "before=x",
        "before=99999999999999999999999",
        "after=-1",
        "after=%00",
        "created_at_from=yesterday",
        "created_at_from=9999-12-31&created_at_to=9999-12-31",
        "status__exact=%00",
        "q=%00",
        "q=" + "x" * 5000,
        "e=1",
        "p=999999999",
        "all=1",
        "o=1",
    ],
)
def test_nonsense_in_the_address_is_never_a_failure(world: World, query: str) -> None:
    response = world.client("finance").get(f"{PEOPLE}?{query}", follow=True)
    assert response.status_code == 200, query
    assert b"Something broke" not in response.content


@pytest.mark.parametrize(
    "query", ["password__startswith=argon2", "password=x", "roles__role=admin", "bookings__quote__code=x", "nope=1"]
)
def test_only_offered_filters_are_answered(world: World, query: str) -> None:
    """An open lookup would find out a password's digest letter by letter."""
    response = world.client("admin").get(f"{PEOPLE}?{query}")
    assert response.status_code == 400
    assert b"Not understood" in response.content


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2026-03-10", "2026-03-10", ["at midnight", "last instant"]),
        ("2026-03-09", "2026-03-10", ["day before", "at midnight", "last instant"]),
        ("2026-03-11", "", ["day after"]),
        ("", "2026-03-09", ["day before"]),
    ],
)
def test_days_are_whole_and_both_ends_count(db: None, client, first: str, last: str, expected: list[str]) -> None:
    """Unfold's own filter drops the last day (reference/unfold.md, 14)."""
    client.force_login(factories.staff("auditor", now=now()))
    instants = {
        "day before": datetime(2026, 3, 9, 23, 59, 59, 999_999, tzinfo=UTC),
        "at midnight": datetime(2026, 3, 10, tzinfo=UTC),
        "last instant": datetime(2026, 3, 10, 23, 59, 59, 999_999, tzinfo=UTC),
        "day after": datetime(2026, 3, 11, tzinfo=UTC),
    }
    for name, at in instants.items():
        audit.record(actor=system("tests"), verb="tests.mark", kind="mark", id=name, now=at)
    response = client.get(f"/console/audit/auditentry/?object_kind=mark&at_from={first}&at_to={last}")
    assert sorted(row.object_id for row in response.context["cl"].result_list) == sorted(expected)


def test_the_search_box_understands_what_people_say(world: World) -> None:
    client = world.client("finance")
    booking, guest = world.booking, world.booking.guest

    def found(path: str, term: str) -> list[str]:
        return shown(client.get(path, {"q": term}))

    paid(factories.person("Zoe", now=now()))
    assert found("/console/bookings/booking/", booking.code.lower()) == [booking.code]
    assert found("/console/bookings/booking/", guest.email[:-4].upper()) == [booking.code]
    assert found("/console/bookings/booking/", booking.payment.provider_id) == [booking.code]
    assert found("/console/payments/payment/", booking.payment.charge_id) == [booking.payment.code]
    assert found("/console/payments/refund/", booking.code) == [
        *Booking.objects.get(pk=booking.pk).payment.refunds.order_by("-id").values_list("code", flat=True)
    ]
    assert found(PEOPLE, guest.email) == [guest.code]
    assert found(PEOPLE, "No such person") == []


@pytest.mark.parametrize("place", ["bookings", "listings", "people", "payments", "refunds"])
def test_an_empty_list_says_so_in_words(db: None, client, place: str) -> None:
    client.force_login(factories.staff("finance", now=now()))
    path = {
        "bookings": "/console/bookings/booking/",
        "listings": "/console/listings/listing/",
        "people": f"{PEOPLE}?status__exact=closed",
        "payments": "/console/payments/payment/",
        "refunds": "/console/payments/refund/",
    }[place]
    content = client.get(path).content.decode()
    assert ("Nothing matches" if "?" in path else "Nothing here yet") in content


def test_amounts_stand_in_columns_that_align_right(world: World) -> None:
    content = world.client("finance").get("/console/bookings/booking/").content.decode()
    assert re.search(r'class="[^"]*column-money_charged', content)
    assert re.search(r'<span class="sd-money">[\d,.]+ <abbr>EUR</abbr></span>', content)


def test_find_goes_straight_to_what_is_named(world: World) -> None:
    client, find = world.client("finance"), reverse("admin:find")
    for term, target in (
        (world.booking.code.lower(), f"/console/bookings/booking/{world.booking.code}/"),
        (world.booking.guest.email.upper(), f"/console/people/user/{world.booking.guest.code}/"),
        (world.booking.payment.provider_id, f"/console/payments/payment/{world.booking.payment.code}/"),
        (world.waiting.code, f"/console/payments/refund/{world.waiting.code}/"),
        (world.webhook.event_id, f"/console/payments/webhookevent/{world.webhook.event_id}/"),
        ("BK-NOSUCH", reverse("admin:index")),
        ("", reverse("admin:index")),
    ):
        assert client.get(find, {"q": term})["Location"] == target, term
        palette = client.get(reverse("admin:search"), {"s": term}).content.decode()
        assert (target in palette) == (target != reverse("admin:index")), term


def test_find_shows_nothing_that_is_not_ones_own_to_see(world: World) -> None:
    client = world.client("nobody")
    assert client.get(reverse("admin:find"), {"q": world.booking.code})["Location"] == reverse("admin:index")
    assert world.booking.code not in client.get(
        reverse("admin:search"), {"s": world.booking.code}
    ).content.decode().replace(f"“{world.booking.code}”", "")


def test_audit_rows_are_found_by_what_they_are_about(world: World) -> None:
    client = world.client("auditor")
    response = client.get("/console/audit/auditentry/", {"q": world.booking.code})
    found = response.context["cl"].result_list
    assert found and {entry.object_id for entry in found} == {world.booking.code}
    one = AuditEntry.objects.order_by("-seq")[0]
    response = client.get("/console/audit/auditentry/", {"q": f"#{one.seq}"})
    assert [entry.seq for entry in response.context["cl"].result_list] == [one.seq]
