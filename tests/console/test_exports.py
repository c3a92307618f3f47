from __future__ import annotations

import csv
import io
from decimal import Decimal

import openpyxl
import pytest
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.console import exports
from backoffice.people.models import User
from tests.console.world import World, paid

CSV, XLSX = "0", "1"
EVERY_PERSON_COLUMN = ("code", "name", "email", "status", "host", "staff", "currency", "joined")


def export(world: World, place: str, columns: tuple[str, ...], *, query: str = "", format: str = CSV) -> HttpResponse:
    resource = place_resource(place)
    chosen = {f"{resource.lower()}_{column}": "on" for column in columns}
    path = reverse(f"admin:{place}_export") + (f"?{query}" if query else "")
    return world.client("finance").post(path, {"format": format, "resource": "0", **chosen})


def place_resource(place: str) -> str:
    return {"people_user": "PeopleExport", "payments_refund": "RefundsExport", "bookings_booking": "BookingsExport"}[
        place
    ]


def rows_of(response: HttpResponse) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(response.content.decode())))


@pytest.mark.parametrize(
    "evil", ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "%0A", "|x"]
)
def test_no_spreadsheet_runs_what_a_guest_wrote(evil: str) -> None:
    assert exports.harmless(evil) == f"'{evil}"


@pytest.mark.parametrize("fine", ["-12.50", "+3", "42", "a=b", "", "Ada", None, 7, Decimal("-1.50")])
def test_numbers_and_words_are_left_alone(fine: object) -> None:
    assert exports.harmless(fine) == fine


@given(st.text(max_size=30))
def test_whatever_is_written_no_cell_begins_like_a_formula(text: str) -> None:
    cell = exports.harmless(text)
    begins = cell.lstrip(" ")[:1]
    assert begins not in {"=", "@", "\t", "\r", "\n", "|", "%"} or begins == "'"
    if begins in {"+", "-"}:
        float(cell)


def test_people_come_out_as_csv_with_nothing_that_runs(world: World) -> None:
    User.objects.filter(pk=world.booking.guest_id).update(name='=HYPERLINK("http://evil","Alice")')
    response = export(world, "people_user", EVERY_PERSON_COLUMN)
    assert response["Content-Type"] == "text/csv" and "no-store" in response["Cache-Control"]
    assert response["Content-Disposition"].startswith('attachment; filename="staydesk-people-')
    rows = rows_of(response)
    assert len(rows) == User.objects.count()
    mine = next(row for row in rows if row["code"] == world.booking.guest.code)
    assert mine["name"] == "'" + '=HYPERLINK("http://evil","Alice")'
    assert "password" not in rows[0]


def test_refunds_come_out_as_xlsx_with_amounts_as_numbers(world: World) -> None:
    response = export(world, "payments_refund", ("code", "amount", "currency", "status"), format=XLSX)
    sheet = openpyxl.load_workbook(io.BytesIO(response.content)).active
    assert sheet is not None
    table = list(sheet.iter_rows(values_only=True))
    assert table[0] == ("refund", "status", "amount", "currency")
    amounts = {row[0]: row[2] for row in table[1:]}
    assert amounts[world.waiting.code] == 150
    assert isinstance(amounts[world.waiting.code], int | float)


def test_only_what_the_filter_shows_is_exported(world: World) -> None:
    rows = rows_of(export(world, "payments_refund", ("code", "status"), query="status__exact=requested"))
    assert [row["refund"] for row in rows] == [world.waiting.code]


def test_paging_does_not_shorten_an_export(world: World) -> None:
    newest = User.objects.order_by("-id")[0]
    rows = rows_of(export(world, "people_user", ("code",), query=f"before={newest.pk}"))
    assert len(rows) == User.objects.count()


def test_an_export_is_logged_with_who_what_and_how_many(world: World) -> None:
    export(world, "people_user", ("code",), query="q=alice@example.org&status__exact=active")
    entry = AuditEntry.objects.order_by("-seq")[0]
    assert (entry.verb, entry.object_kind, entry.object_id) == ("people.export", "export", "people.user")
    assert entry.actor_id == world.staff["finance"].pk
    assert entry.after["format"] == "csv" and entry.after["rows"] == 0
    assert entry.after["filter"]["status__exact"] == "active"
    assert entry.after["filter"]["q"]["changed"] is True  # an address searched for is a person: only its digest
    assert "alice" not in str(entry.after)


def test_looking_at_the_form_is_not_an_export(world: World) -> None:
    before = AuditEntry.objects.count()
    world.client("finance").get(reverse("admin:people_user_export"))
    assert AuditEntry.objects.count() == before


def test_too_many_rows_are_refused_in_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MOST_ROWS", 2)
    response = export(world, "people_user", ("code",))
    assert response.status_code == 302
    shown = world.client("finance").get(response["Location"])
    assert shown.status_code == 200
    assert not AuditEntry.objects.filter(verb="people.export").exists()


def test_an_export_costs_the_same_queries_whatever_the_rows(world: World) -> None:
    client = world.client("finance")
    path = reverse("admin:bookings_booking_export")
    chosen = {f"bookingsexport_{column}": "on" for column in ("code", "listing", "city", "guest", "host", "total")}

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            response = client.post(path, {"format": CSV, "resource": "0", **chosen})
        assert len(rows_of(response)) == Booking.objects.count()
        return sum("core_clockoffset" not in query["sql"] for query in queries)

    client.get(path)
    before = cost()
    for _ in range(3):
        paid()
    assert cost() == before <= 15
