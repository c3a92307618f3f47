from __future__ import annotations

from django.apps import AppConfig


class ListingsConfig(AppConfig):
    name = "backoffice.listings"
    label = "listings"
    default_auto_field = "django.db.models.BigAutoField"
