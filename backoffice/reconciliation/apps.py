from __future__ import annotations

from django.apps import AppConfig


class ReconciliationConfig(AppConfig):
    name = "backoffice.reconciliation"
    label = "reconciliation"
    default_auto_field = "django.db.models.BigAutoField"
