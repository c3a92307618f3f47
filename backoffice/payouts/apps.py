from __future__ import annotations

from django.apps import AppConfig


class PayoutsConfig(AppConfig):
    name = "backoffice.payouts"
    label = "payouts"
    default_auto_field = "django.db.models.BigAutoField"
