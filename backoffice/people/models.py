"""Guests, hosts and staff: one person, in one or several of these roles."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower

from backoffice.core.fields import new_code, status_check
from backoffice.people.states import ACCOUNT, ROLES


def new_person_code() -> str:
    return new_code("PN", 8)


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser):
    """A login. `email` is kept in lower case; the database holds it unique in that form."""

    code = models.CharField(max_length=20, unique=True, default=new_person_code)
    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=120)
    is_host = models.BooleanField(default=False)
    is_staff = models.BooleanField(default=False, help_text="kept by role grants; opens the console")
    status = models.CharField(max_length=12, choices=ACCOUNT.choices, default=ACCOUNT.initial)
    currency = models.CharField(max_length=3, default="EUR", help_text="the currency this person likes to see")
    source = models.CharField(max_length=120, null=True, unique=True, help_text="where an imported person came from")
    created_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1)

    objects = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints = [
            status_check("account_status", ACCOUNT.statuses),
            models.CheckConstraint(name="email_in_lower_case", condition=models.Q(email=Lower("email"))),
        ]
        indexes = [
            models.Index(name="people_newest", fields=["-id", "status"]),
            models.Index(name="people_by_name", fields=["name"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"

    @property
    def is_active(self) -> bool:  # type: ignore[override]
        return self.status == "active"

    @property
    def first_name(self) -> str:
        return self.name.split(" ", 1)[0]

    def get_full_name(self) -> str:
        return self.name

    def get_short_name(self) -> str:
        return self.first_name

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Django's own permissions are not used: the console asks the actor's grants, everywhere else the actor."""
        return False

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_staff


class StaffRole(models.Model):
    """One role of one staff person, and who granted it."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="roles")
    role = models.CharField(max_length=16, choices=[(role, role.replace("_", " ")) for role in ROLES])
    granted_at = models.DateTimeField()
    granted_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(name="staff_role_once", fields=["user", "role"]),
            status_check("staff_role_known", ROLES, "role"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.role}"
