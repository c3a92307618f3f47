"""The console's house rules (DESIGN.md "The console"), each kept by a walk over every address there is."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog
from backoffice.people import policies
from backoffice.people.models import User
from tests import factories
from tests.console.world import ROLES, World, addresses

OPEN_TO_STAFF = {"index", "logout", "find", "search", "jsi18n", "app_list"}


def patterns_of(resolver: URLResolver) -> list[URLPattern]:
    found: list[URLPattern] = []
    for each in resolver.url_patterns:
        found += patterns_of(each) if isinstance(each, URLResolver) else [each]
    return found


def console_patterns() -> list[URLPattern]:
    (console,) = (
        each
        for each in get_resolver().url_patterns
        if isinstance(each, URLResolver) and str(each.pattern) == "console/"
    )
    return patterns_of(console)


def verbs_of(role: str) -> set[str]:
    return {verb for verb, roles in policies.STAFF_VERBS.items() if role in roles}


def test_no_address_escapes_the_walks(world: World) -> None:
    walked = {address.name for address in addresses(world)} | OPEN_TO_STAFF | {"login"}
    named = {str(pattern.name) for pattern in console_patterns() if pattern.name}
    unnamed = [str(pattern.pattern) for pattern in console_patterns() if not pattern.name]
    assert named == walked
    assert unnamed == ["(?P<url>.*)$"]  # the last resort: 404


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_every_address_asks_the_grants_of_every_role(world: World, role: str) -> None:
    """And a button that then refuses is a bug: what is shown opens without a complaint."""
    client, held, walked = world.client(role), verbs_of(role), addresses(world)
    buttons, errors = set[str](), dict[str, str]()
    for address in walked:
        allowed = held.issuperset(address.verbs)
        response = client.get(address.path)
        assert response.status_code == (200 if allowed else 403), f"GET {address.path} as {role}"
        if allowed and address.kind == "page":
            buttons |= {button["href"] for button in response.context["buttons"]}
        elif allowed and address.kind == "dialog":
            errors[address.path] = response.context["error"]
    for button in sorted(buttons):
        if button not in errors:  # of another row than the one that is walked
            opened = client.get(button)
            assert opened.status_code == 200, f"{button} as {role}"
            errors[button] = opened.context["error"]
        assert errors[button] == "", f"{button} as {role}: {errors[button]}"
    for address in walked:
        allowed = held.issuperset(address.verbs)
        expected = {"list": 405, "page": 405, "export": 200, "dialog": 422}[address.kind]
        if not allowed and address.kind in {"export", "dialog"}:
            expected = 403
        assert client.post(address.path, {}).status_code == expected, f"POST {address.path} as {role}"


@pytest.mark.parametrize("role", ["finance", "team_lead", "trust_safety"])
def test_every_post_needs_a_csrf_token(world: World, role: str) -> None:
    client = world.client(role, enforce_csrf_checks=True)
    for address in addresses(world):
        response = client.post(address.path, {"reason": "because", "key": "k", "version": 1})
        assert response.status_code == 403, address.path
        assert b"open too long" in response.content


@pytest.mark.parametrize(
    "role",
    ["finance", *(pytest.param(role, marks=pytest.mark.long) for role in ("team_lead", "support_l2", "on_call"))],
)
def test_no_get_changes_anything(world: World, role: str) -> None:
    client = world.client(role)
    client.get(reverse("admin:index"))  # what a session writes when it begins
    before = writes()
    for address in addresses(world):
        client.get(address.path)
        client.get(address.path, headers={"HX-Request": "true"})
        assert writes() == before, f"GET {address.path} wrote"
    for path in ("index", "find", "search"):
        client.get(reverse(f"admin:{path}"), {"q": world.booking.code, "s": world.booking.code})
    assert writes() == before


def writes() -> int:
    """Rows inserted, updated and deleted so far by the test's own transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_xact_user_tables")
        return int(cursor.fetchone()[0])


def test_the_walk_would_notice_a_write(world: World) -> None:
    before = writes()
    User.objects.filter(pk=world.booking.guest_id).update(currency="USD")
    assert writes() == before + 1


def test_strangers_guests_and_suspended_staff_are_sent_to_the_login(world: World) -> None:
    suspended = factories.staff("finance")
    User.objects.filter(pk=suspended.pk).update(status="suspended")
    for person in (None, world.booking.guest, suspended):
        client = Client()
        if person is not None:
            client.force_login(person)
        for address in addresses(world):
            response = client.get(address.path)
            assert response.status_code == 302 and "/console/login/" in response["Location"], address.path
        assert client.post(reverse("admin:search")).status_code == 302


def test_what_django_would_offer_beside_the_operations_is_not_there(world: World) -> None:
    client = world.client("admin")
    code = world.booking.code
    for path in (
        "/console/bookings/booking/add/",
        f"/console/bookings/booking/{code}/delete/",
        f"/console/bookings/booking/{code}/history/",
        f"/console/bookings/booking/{world.booking.pk}/change/",
        "/console/autocomplete/",
        "/console/password_change/",
        "/console/r/1/1/",
        "/console/nowhere/",
    ):
        response = client.get(path)
        assert response.status_code == 404, path
        assert b"Not here" in response.content and b"Traceback" not in response.content


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model.__name__)
def test_every_page_is_read_only_and_lists_never_count(model: Any) -> None:
    page = admin.site._registry[model]
    assert isinstance(page, StaffAdmin)
    assert page.verb in policies.STAFF_VERBS
    assert not page.export_verb or page.export_verb in policies.STAFF_VERBS
    assert {dialog.verb for dialog in page.dialogs} <= set(policies.STAFF_VERBS)
    assert page.show_full_result_count is False and page.paginator.__name__ == "KeysetPaginator"
    assert not any((page.has_add_permission(None), page.has_change_permission(None), page.has_delete_permission(None)))


def bad(name: str, **attributes: Any) -> None:
    fine = {"verb": "people.view", "singular": "person", "plural": "people", "list_select_related": ()}
    type(name, (StaffAdmin,), {**fine, **attributes, "__module__": __name__})


def unsafe(self: Any, request: Any) -> None: ...


class Nameless(Dialog):
    name, label, verb = "x", "X", ""


@pytest.mark.parametrize(
    "attributes",
    [
        {"verb": ""},
        {"plural": ""},
        {"list_select_related": True},
        {"actions": ["delete_selected"]},
        {"actions_detail": ["unsafe"], "unsafe": unsafe},
        {"actions_row": ["unsafe"], "unsafe": unsafe},
        {"list_editable": ["name"]},
        {"date_hierarchy": "created_at"},
        {"show_facets": admin.ShowFacets.ALWAYS},
        {"dialogs": (Nameless,)},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_a_page_that_breaks_a_house_rule_cannot_be_declared(attributes: dict[str, Any]) -> None:
    bad("Fine")
    with pytest.raises(ImproperlyConfigured):
        bad("Bad", **attributes)


def test_a_page_without_list_select_related_cannot_be_declared() -> None:
    with pytest.raises(ImproperlyConfigured, match="list_select_related"):
        type("Bad", (StaffAdmin,), {"verb": "people.view", "singular": "p", "plural": "ps", "__module__": __name__})


def test_menu_and_pages_agree(world: World) -> None:
    for role in ROLES:
        client, held = world.client(role), verbs_of(role)
        shown = client.get(reverse("admin:index")).content.decode()
        for address in addresses(world):
            if address.kind == "list":
                assert (f'href="{address.path}"' in shown) == held.issuperset(address.verbs), (
                    f"{address.path} as {role}"
                )
