"""What happens to accounts."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from backoffice.core.money import is_currency
from backoffice.notifications import operations as notifications
from backoffice.people import queries
from backoffice.people.models import StaffRole, User
from backoffice.people.states import ACCOUNT, ROLES

# RFC 5321: a path of 256 octets, in angle brackets.
LONGEST_EMAIL = 254


def register(
    *, email: str, password: str, name: str, is_host: bool, actor: Actor, now: datetime, currency: str = "EUR"
) -> User:
    """Make an account for a guest, or for a host at once. Staff are made by role grants only, never here.

    Raises Invalid naming `email`, `password`, `name` or `currency`; Conflict when the address has an account."""
    email = email.strip().lower()
    name = " ".join(name.split())
    _check_identity(email=email, name=name, currency=currency)
    user = User(email=email, name=name, is_host=is_host, currency=currency, created_at=now)
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages), field="password") from None
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            actor = actor if actor.id is not None else _self(user, actor)
            audit.record(
                actor=actor, verb="people.register", kind="person", id=user.code, after={"is_host": is_host}, now=now
            )
            notifications.tell(
                topic="welcome", recipient_id=user.id, address=user.email, context={"name": user.first_name}, now=now
            )
    except IntegrityError as error:
        if "email" not in str(error):
            raise
        raise Conflict("There is an account with this e-mail address; sign in instead.", field="email") from None
    return user


def become_host(*, person_id: int, actor: Actor, now: datetime) -> User:
    """Let a guest list homes too. Repeating it changes nothing."""
    actor.must("people.become_host")
    with transaction.atomic():
        user = _locked(person_id)  # a suspension at the same moment must win or lose as a whole
        if actor.id != user.id:
            raise NotAllowed(verb="make somebody else a host")
        if not user.is_host:
            user.is_host = True
            user.version += 1
            user.save(update_fields=["is_host", "version"])
            audit.record(
                actor=actor,
                verb="people.become_host",
                kind="person",
                id=user.code,
                before={"is_host": False},
                after={"is_host": True},
                now=now,
            )
    return user


def edit_profile(
    *, person_id: int, actor: Actor, now: datetime, name: str | None = None, currency: str | None = None
) -> User:
    """Change one's own name or preferred currency. Raises Invalid naming the field."""
    actor.must("people.edit")
    with transaction.atomic():
        user = _locked(person_id)  # two edits at once must not lose one
        if actor.id != user.id:
            raise NotFound(kind="person")
        before: dict[str, object] = {}
        after: dict[str, object] = {}
        if name is not None and (name := " ".join(name.split())) != user.name:
            before["name"], after["name"] = audit.personal(user.name), audit.personal(name)
            user.name = name
        if currency is not None and currency != user.currency:
            before["currency"], after["currency"] = user.currency, currency
            user.currency = currency
        _check_identity(email=user.email, name=user.name, currency=user.currency)
        if after:
            user.version += 1
            user.save(update_fields=["name", "currency", "version"])
            audit.record(
                actor=actor, verb="people.edit", kind="person", id=user.code, before=before, after=after, now=now
            )
    return user


def suspend(*, person_id: int, reason: str, actor: Actor, now: datetime) -> User:
    """Bar a person from acting; their bookings stand. A reason is required."""
    return _move(person_id=person_id, action="suspend", reason=reason, actor=actor, now=now)


def reinstate(*, person_id: int, reason: str, actor: Actor, now: datetime) -> User:
    """Let a suspended person act again. A reason is required."""
    return _move(person_id=person_id, action="reinstate", reason=reason, actor=actor, now=now)


def _move(*, person_id: int, action: str, reason: str, actor: Actor, now: datetime) -> User:
    actor.must(f"people.{action}")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        user = _locked(person_id)  # two staff deciding at once: the second sees what the first did
        if actor.id == user.id:
            raise NotAllowed(verb=f"{action} yourself")
        before = user.status
        user.status = ACCOUNT.after(user.status, action)
        user.version += 1
        user.save(update_fields=["status", "version"])
        audit.record(
            actor=actor.because(reason),
            verb=f"people.{action}",
            kind="person",
            id=user.code,
            before={"status": before},
            after={"status": user.status},
            now=now,
        )
    return user


def grant_role(*, person_id: int, role: str, actor: Actor, now: datetime) -> StaffRole:
    """Give a staff role. Nobody grants to themselves, and a host's login never becomes staff."""
    actor.must("people.grant_role")
    if role not in ROLES:
        raise Invalid(f"role: {role!r} is not one of {', '.join(ROLES)}.", field="role")
    with transaction.atomic():
        user = _locked(person_id)  # the staff flag and the role must agree
        if actor.id == user.id:
            raise NotAllowed(verb="grant a role to yourself")
        if user.is_host:
            raise Conflict("This person lists homes; staff have a login of their own.")
        return _grant(user=user, role=role, actor=actor, now=now)


def bootstrap_admin(*, email: str, password: str, name: str, actor: Actor, now: datetime) -> User:
    """Make the first admin of a desk; works only while there is none."""
    actor.must("people.bootstrap")
    with transaction.atomic():
        with connection.cursor() as cursor:  # two first admins at once: the second waits, and then finds one
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('people.bootstrap_admin'))")
        if queries.any_admin():
            raise Refused("There is an admin already: roles are granted in the console, by two people.")
        return _make_staff(email=email, password=password, name=name, role="admin", actor=actor, now=now)


def make_demo_staff(*, email: str, password: str, name: str, role: str, actor: Actor, now: datetime) -> User:
    """Make a staff login of a demo desk. Only the system does this, and only where payments are simulated."""
    if actor.kind != "system":
        raise NotAllowed(verb="make demo logins")
    existing = User.objects.filter(email=email.strip().lower()).first()
    if existing is not None:
        return existing
    return _make_staff(email=email, password=password, name=name, role=role, actor=actor, now=now)


def _make_staff(*, email: str, password: str, name: str, role: str, actor: Actor, now: datetime) -> User:
    with transaction.atomic():
        user = register(email=email, password=password, name=name, is_host=False, actor=actor, now=now)
        _grant(user=user, role=role, actor=actor, now=now)
    return user


def _grant(*, user: User, role: str, actor: Actor, now: datetime) -> StaffRole:
    granted, created = StaffRole.objects.get_or_create(
        user=user, role=role, defaults={"granted_at": now, "granted_by_id": actor.id}
    )
    if created:
        user.is_staff = True
        user.version += 1
        user.save(update_fields=["is_staff", "version"])
        audit.record(actor=actor, verb="people.grant_role", kind="person", id=user.code, after={"role": role}, now=now)
    return granted


def lock_person(*, person_id: int | None) -> None:
    """Let one act of a person at a time through to the end of the transaction, where acts count together (limits of a
    day). Taken before the locks of higher floors; nothing for a process, which has no such limits."""
    if person_id is not None:
        list(User.objects.select_for_update(no_key=True).filter(id=person_id).values_list("id", flat=True))


def _locked(person_id: int) -> User:
    user = User.objects.select_for_update().filter(id=person_id).first()
    if user is None:
        raise NotFound(kind="person")
    return user


def _self(user: User, actor: Actor) -> Actor:
    """Who registers is the person who then exists; the door knows only the address."""
    return (
        Actor(
            kind="host" if user.is_host else "guest",
            id=user.id,
            name=user.code,
            request_id=actor.request_id,
            address=actor.address,
        )
        if actor.kind not in {"system", "cli"}
        else actor
    )


def _check_identity(*, email: str, name: str, currency: str) -> None:
    try:
        validate_email(email)
        if len(email) > LONGEST_EMAIL:
            raise ValidationError("too long")
    except ValidationError:
        raise Invalid("email: write an address such as ada@example.org.", field="email") from None
    if not 1 <= len(name) <= 120 or any(ord(character) < 32 for character in name):
        raise Invalid("name: write 1 to 120 characters.", field="name")
    if not is_currency(currency):
        raise Invalid("currency: write a three-letter code such as EUR.", field="currency")
