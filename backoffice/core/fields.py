"""Columns that mean the same everywhere, and public identifiers that say nothing about how many there are."""

from __future__ import annotations

import secrets
from typing import Any

from django.db import models

# Crockford's alphabet without vowels and look-alikes: codes are read over the telephone and spell nothing.
_ALPHABET = "23456789BCDFGHJKMNPQRSTVWXZ"


def new_code(prefix: str, length: int = 6) -> str:
    """A random public code such as BK-7QF3K2: opaque, unguessable enough to be unique, never a key to access."""
    return f"{prefix}-" + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def minor_units(**options: Any) -> models.BigIntegerField[Any, Any]:
    """An amount in whole minor units of the row's currency."""
    return models.BigIntegerField(**options)


def currency_code(**options: Any) -> models.CharField[str, str]:
    """A three-letter ISO 4217 code."""
    return models.CharField(max_length=3, **options)


def status_check(name: str, statuses: tuple[str, ...], column: str = "status") -> models.CheckConstraint:
    """The database's copy of a state table: no other status can be stored."""
    return models.CheckConstraint(name=name, condition=models.Q(**{f"{column}__in": list(statuses)}))
