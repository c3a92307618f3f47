"""People: guests, hosts and staff."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.bookings.models import Booking
from backoffice.console import cells, exports, filters, story
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Page, Row, Table
from backoffice.core.errors import StaleVersion
from backoffice.listings.models import Listing
from backoffice.people import operations as people
from backoffice.people.models import StaffRole, User
from backoffice.people.states import ACCOUNT


class _AccountDialog(Dialog):
    def offered(self) -> bool:
        return ACCOUNT.allows(self.row.status, self.name) and self.row.id != self.desk.actor.id

    def seen(self, form: DialogForm) -> None:
        if self.row.version != form.cleaned_data["version"]:
            raise StaleVersion(kind="account")


class Suspend(_AccountDialog):
    name, label, verb = "suspend", "Suspend", "people.suspend"
    icon, tone = "block", "danger"
    intro = "They can no longer sign in, book or list. Bookings already made stand."

    @property
    def heading(self) -> str:
        return f"Suspend {self.row.name}?"

    def perform(self, form: DialogForm) -> str:
        self.seen(form)
        reason = form.cleaned_data["reason"]
        people.suspend(person_id=self.row.id, reason=reason, actor=self.desk.actor, now=self.desk.now)
        return f"{self.row.name} is suspended."


class Reinstate(_AccountDialog):
    name, label, verb = "reinstate", "Reinstate", "people.reinstate"
    icon, tone = "undo", "primary"
    intro = "They can sign in, book and list again."

    @property
    def heading(self) -> str:
        return f"Reinstate {self.row.name}?"

    def perform(self, form: DialogForm) -> str:
        self.seen(form)
        reason = form.cleaned_data["reason"]
        people.reinstate(person_id=self.row.id, reason=reason, actor=self.desk.actor, now=self.desk.now)
        return f"{self.row.name} may act again."


class PeopleExport(exports.Resource):
    code = Field("code", "code")
    name = Field("name", "name")
    email = Field("email", "email")
    status = Field("status", "status")
    host = Field("is_host", "host")
    staff = Field("is_staff", "staff")
    currency = Field("currency", "currency")
    joined = Field("created_at", "joined")


@admin.register(User)
class PersonAdmin(StaffAdmin):
    verb, export_verb = "people.view", "people.export"
    singular, plural = "person", "people"
    list_words = "Guests, hosts and staff. One person may be guest and host at once."
    empty_words = "People appear here when they register through the API or are imported with their homes."
    searches = (
        Search("email__startswith", "@", str.lower),
        Search("code__startswith", r"^PN-", str.upper),
        Search("name__startswith"),
    )
    search_help_text = "e-mail, PN- code, or a name"
    list_display = ("person", "roles_held", "account_status", "currency", "joined")
    list_filter = (("status", filters.Choices), ("created_at", filters.Days))
    lookups = ("is_host__exact", "is_staff__exact")
    list_select_related = ()
    dialogs = (Suspend, Reinstate)
    resource_classes = (PeopleExport,)

    def get_queryset(self, request: Any) -> QuerySet[User]:
        roles = Prefetch("roles", StaffRole.objects.order_by("role"))
        rows: QuerySet[User] = super().get_queryset(request).defer("password").prefetch_related(roles)
        return rows

    @display(description="Person")
    def person(self, row: User) -> SafeString:
        return cells.two(row.name, row.email)

    @display(description="Roles")
    def roles_held(self, row: User) -> SafeString:
        return roles_held(row)

    @display(description="Status")
    def account_status(self, row: User) -> SafeString:
        return cells.status(row.status)

    @display(description="Joined")
    def joined(self, row: User) -> SafeString:
        return cells.instant(row.created_at)

    def page(self, row: User, desk: Desk) -> Page:
        stays = Booking.objects.filter(guest=row).select_related("listing").order_by("-id")[:10]
        hosted = Booking.objects.filter(host=row).select_related("listing", "guest").order_by("-id")[:10]
        panels: list[Table] = []
        if desk.actor.may("bookings.view"):
            panels.append(_stays("Stays as a guest", stays, f"guest__code={row.code}", "Has not booked a stay."))
        if row.is_host and desk.actor.may("bookings.view"):
            panels.append(_stays("Bookings of their homes", hosted, f"host__code={row.code}", "No booking yet."))
        if row.is_host and desk.actor.may("listings.view"):
            panels.append(_homes(row))
        return Page(
            title=row.name,
            subtitle=row.email,
            status=cells.status(row.status),
            facts=(
                Fact("Code", cells.code(row.code)),
                Fact("Roles", roles_held(row)),
                Fact("Reads prices in", row.currency),
                Fact("Joined", cells.instant(row.created_at)),
                Fact("Last signed in", cells.instant(row.last_login)),
                Fact("Imported from", row.source or ""),
            ),
            panels=(*panels, story.audit_panel([("person", row.code)], desk)),
        )


def roles_held(row: User) -> SafeString:
    if row.is_staff:
        words = [cells.role(each.role) for each in row.roles.all()]
    else:
        words = ["guest", "host"] if row.is_host else ["guest"]
    return format_html_join(" ", '<span class="sd-tag">{}</span>', ((word,) for word in words))


def _stays(title: str, rows: QuerySet[Booking], query: str, empty: str) -> Table:
    return Table(
        title=title,
        columns=(Column("Booking"), Column("Home"), Column("Stay"), Column("Status"), Column("Charged", "money")),
        rows=[
            Row(
                (
                    cells.link(each),
                    each.listing.title,
                    cells.stay(each.check_in, each.check_out),
                    cells.status(each.status),
                    cells.money(each.charge_total, each.charge_currency),
                )
            )
            for each in rows
        ],
        empty=empty,
        more=cells.list_of(Booking, query),
    )


def _homes(row: User) -> Table:
    homes = Listing.objects.filter(host=row).order_by("-id")[:10]
    return Table(
        title="Homes",
        columns=(Column("Home"), Column("City"), Column("Status"), Column("A night", "money")),
        rows=[
            Row(
                (
                    cells.link(each, each.title),
                    each.city,
                    cells.status(each.status),
                    cells.money(each.nightly_price, each.currency),
                )
            )
            for each in homes
        ],
        empty="Has not listed a home yet.",
        more=cells.list_of(Listing, f"host__code={row.code}"),
    )
