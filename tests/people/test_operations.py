"""What happens to accounts."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction

from backoffice.audit.models import AuditEntry
from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, IllegalTransition, Invalid, NotAllowed, NotFound, Refused, Suspended
from backoffice.notifications.models import OutboxMessage
from backoffice.people import operations as people
from backoffice.people import queries
from backoffice.people.models import StaffRole, User
from backoffice.people.states import ROLES
from tests import factories
from tests.factories import NOW, PASSWORD
from tests.racing import race
from tests.workflows.steps import ROOMS

pytestmark = pytest.mark.django_db
DOOR = Actor(kind="guest", id=None, name="", request_id="rq-1", address="192.0.2.7")
SHELL = queries.cli_actor(name="mara")


def register(**changes: object) -> User:
    facts = {"email": "ada@example.org", "password": PASSWORD, "name": "Ada Lovelace", "is_host": False, **changes}
    return people.register(**facts, actor=DOOR, now=NOW)  # type: ignore[arg-type]


# Registration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_host", [False, True])
def test_a_person_registers_once_and_signs_in(is_host: bool) -> None:
    ada = register(is_host=is_host)
    assert (ada.email, ada.is_host, ada.is_staff, ada.status) == ("ada@example.org", is_host, False, "active")
    assert ada.password.startswith(("argon2", "pbkdf2")) and PASSWORD not in ada.password
    assert authenticate(username="ada@example.org", password=PASSWORD) == ada
    assert OutboxMessage.objects.filter(topic="welcome", recipient_id=ada.id).exists()
    entry = AuditEntry.objects.get(verb="people.register")
    assert (entry.actor_id, entry.object_id, entry.request_id) == (ada.id, ada.code, "rq-1")
    assert "ada@example.org" not in str(vars(entry)) and "Lovelace" not in str(vars(entry))


@pytest.mark.parametrize("again", ["ada@example.org", "Ada@Example.ORG", "  ADA@example.org\t"])
def test_an_address_has_one_account_however_it_is_written(again: str) -> None:
    register()
    with pytest.raises(Conflict) as refused:
        register(email=again)
    assert refused.value.facts["field"] == "email" and User.objects.count() == 1


def test_the_database_itself_keeps_addresses_in_lower_case_and_once() -> None:
    register()
    for email in ("ADA@example.org", "ada@example.org"):
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create(email=email, name="Eve", created_at=NOW)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": ""}, "email"),
        ({"email": "ada"}, "email"),
        ({"email": "ada@"}, "email"),
        ({"email": "a\nb@example.org"}, "email"),
        ({"email": "ada@example.org\x00"}, "email"),
        ({"email": "x" * 300 + "@example.org"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "12345678901"}, "password"),
        ({"password": "password1234"}, "password"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "Ada\x00"}, "name"),
        ({"name": "Ada\x1b[31m"}, "name"),
        ({"currency": "€"}, "currency"),
        ({"currency": "eur"}, "currency"),
    ],
)
def test_a_field_that_cannot_be_accepted_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        register(**changes)
    assert refused.value.facts["field"] == field and not User.objects.exists() and not AuditEntry.objects.exists()


def test_sp_nobody_registers_as_staff() -> None:
    """SvetlaPost/StayFlow_Backend's public registration accepts `is_staff: true` and returns staff tokens."""
    assert not {"is_staff", "role", "roles", "status", "code"} & set(inspect.signature(people.register).parameters)
    with pytest.raises(TypeError):
        register(is_staff=True)
    assert not queries.grants_for(user=register(), now=NOW).keys() & {"refunds.request", "people.suspend"}


@pytest.mark.django_db(transaction=True, available_apps=ROOMS)
def test_of_many_registrations_of_one_address_at_once_one_succeeds() -> None:
    outcomes = race([register] * 8)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 7 + ["User"]


def test_a_guest_becomes_a_host_once() -> None:
    ada = register()
    with pytest.raises(NotAllowed):
        factories.acting(ada).must("listings.create")
    for _ in range(2):
        ada = people.become_host(person_id=ada.id, actor=factories.acting(ada), now=NOW)
    assert ada.is_host and ada.version == 2 and AuditEntry.objects.filter(verb="people.become_host").count() == 1
    assert factories.acting(ada).kind == "host"


def test_nobody_makes_somebody_else_a_host() -> None:
    with pytest.raises(NotAllowed):
        people.become_host(person_id=register().id, actor=factories.acting(factories.person("Charlie")), now=NOW)


def test_a_profile_is_its_owners_and_its_log_holds_no_names() -> None:
    ada = register()
    with pytest.raises(NotFound):
        people.edit_profile(person_id=ada.id, name="Eve", actor=factories.acting(factories.person()), now=NOW)
    ada = people.edit_profile(
        person_id=ada.id, name="  Ada   King ", currency="USD", actor=factories.acting(ada), now=NOW
    )
    assert (ada.name, ada.currency) == ("Ada King", "USD")
    entry = AuditEntry.objects.get(verb="people.edit")
    assert "King" not in str(vars(entry)) and entry.after["currency"] == "USD"
    people.edit_profile(person_id=ada.id, name="Ada King", actor=factories.acting(ada), now=NOW)
    assert AuditEntry.objects.filter(verb="people.edit").count() == 1


# Suspension ----------------------------------------------------------------------------------------------------------


def test_a_suspended_person_cannot_act_until_reinstated() -> None:
    ada, lead = register(), factories.acting(factories.staff("trust_safety"))
    people.suspend(person_id=ada.id, reason="Chargebacks", actor=lead, now=NOW)
    ada.refresh_from_db()
    with pytest.raises(Suspended):
        queries.actor_for(user=ada, now=NOW)
    assert authenticate(username=ada.email, password=PASSWORD) is None
    people.reinstate(person_id=ada.id, reason="Cleared", actor=lead, now=NOW)
    ada.refresh_from_db()
    assert queries.actor_for(user=ada, now=NOW).may("bookings.create")
    reasons = AuditEntry.objects.filter(object_id=ada.code, verb__in=["people.suspend", "people.reinstate"])
    assert list(reasons.order_by("seq").values_list("reason", flat=True)) == ["Chargebacks", "Cleared"]


@pytest.mark.parametrize("role", ROLES)
def test_who_suspends(role: str) -> None:
    ada, actor = register(), factories.acting(factories.staff(role))
    if role in {"team_lead", "trust_safety"}:
        assert people.suspend(person_id=ada.id, reason="x", actor=actor, now=NOW).status == "suspended"
    else:
        with pytest.raises(NotAllowed):
            people.suspend(person_id=ada.id, reason="x", actor=actor, now=NOW)


def test_a_suspension_needs_a_reason_another_person_and_an_active_account() -> None:
    ada, lead = register(), factories.staff("team_lead")
    actor = factories.acting(lead)
    with pytest.raises(Refused):
        people.suspend(person_id=ada.id, reason=" ", actor=actor, now=NOW)
    with pytest.raises(NotAllowed):
        people.suspend(person_id=lead.id, reason="x", actor=actor, now=NOW)
    with pytest.raises(NotFound):
        people.suspend(person_id=0, reason="x", actor=actor, now=NOW)
    people.suspend(person_id=ada.id, reason="x", actor=actor, now=NOW)
    with pytest.raises(IllegalTransition):
        people.suspend(person_id=ada.id, reason="x", actor=actor, now=NOW)


def test_a_suspended_hosts_home_is_not_sold() -> None:
    home, alice = factories.listing(), factories.person("Alice")
    quote = factories.quote(home, alice)
    people.suspend(
        person_id=home.host_id, reason="Fraud", actor=factories.acting(factories.staff("trust_safety")), now=NOW
    )
    with pytest.raises(Conflict):
        bookings.create(quote_code=quote.code, actor=factories.acting(alice), now=NOW)
    with pytest.raises((NotFound, Conflict)):
        factories.quote(home, alice)


# Staff ---------------------------------------------------------------------------------------------------------------


def test_an_admin_grants_roles_to_others_once() -> None:
    admin, mara = factories.acting(factories.staff("admin")), register(name="Mara")
    for _ in range(2):
        people.grant_role(person_id=mara.id, role="support_l1", actor=admin, now=NOW)
    mara.refresh_from_db()
    assert mara.is_staff and queries.roles_of(person_id=mara.id) == ("support_l1",)
    assert AuditEntry.objects.filter(verb="people.grant_role").count() == 1
    actor = queries.actor_for(user=mara, now=NOW)
    assert actor.kind == "staff" and actor.may("refunds.request") and not actor.may("bookings.create")


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"admin"}))
def test_nobody_else_grants_roles(role: str) -> None:
    with pytest.raises(NotAllowed):
        people.grant_role(person_id=register().id, role="admin", actor=factories.acting(factories.staff(role)), now=NOW)


def test_an_admin_does_not_grant_to_themselves_nor_a_role_that_is_none() -> None:
    admin = factories.staff("admin")
    with pytest.raises(NotAllowed):
        people.grant_role(person_id=admin.id, role="finance", actor=factories.acting(admin), now=NOW)
    with pytest.raises(Invalid, match="role"):
        people.grant_role(person_id=register().id, role="root", actor=factories.acting(admin), now=NOW)


def test_a_hosts_login_never_becomes_staff() -> None:
    bob = factories.person("Bob", is_host=True)
    with pytest.raises(Conflict):
        people.grant_role(person_id=bob.id, role="finance", actor=factories.acting(factories.staff("admin")), now=NOW)


def test_the_first_admin_is_made_at_the_shell_and_only_the_first() -> None:
    first = partial(people.bootstrap_admin, password=PASSWORD, name="Root", now=NOW)
    with pytest.raises(NotAllowed):
        first(email="a@example.org", actor=factories.acting(factories.person()))
    admin = first(email="root@example.org", actor=SHELL)
    assert admin.is_staff and queries.roles_of(person_id=admin.id) == ("admin",)
    with pytest.raises(Refused):
        first(email="b@example.org", actor=SHELL)
    admin.status = "suspended"
    admin.save()
    with pytest.raises(Refused):
        first(email="b@example.org", actor=SHELL)  # a suspended admin opens no back door


@pytest.mark.django_db(transaction=True, available_apps=ROOMS)
def test_two_first_admins_at_once_are_one() -> None:
    outcomes = race(
        [
            partial(
                people.bootstrap_admin,
                email=f"root{number}@example.org",
                password=PASSWORD,
                name="Root",
                actor=SHELL,
                now=NOW,
            )
            for number in range(6)
        ]
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refused"] * 5 + ["User"]
    assert StaffRole.objects.filter(role="admin").count() == 1 and User.objects.count() == 1


def test_demo_logins_are_the_systems_to_make() -> None:
    make = partial(people.make_demo_staff, email="m@example.org", password=PASSWORD, name="M", role="finance", now=NOW)
    for actor in (SHELL, factories.acting(factories.staff("admin"))):
        with pytest.raises(NotAllowed):
            make(actor=actor)
    assert make(actor=system("demo")) == make(actor=system("demo"))


def test_the_directory_finds_people_by_code_and_says_no_more_about_who_is_not_there() -> None:
    ada = register()
    assert queries.person_by_code(code=ada.code) == queries.person(person_id=ada.id) == ada
    for ask in (partial(queries.person_by_code, code="PN-NONE"), partial(queries.person, person_id=0)):
        with pytest.raises(NotFound, match="No such person"):
            ask()
