from __future__ import annotations

from django.apps import AppConfig


class BookingsConfig(AppConfig):
    name = "backoffice.bookings"
    label = "bookings"
    default_auto_field = "django.db.models.BigAutoField"
