from __future__ import annotations

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "backoffice.workflows"
    label = "workflows"
    default_auto_field = "django.db.models.BigAutoField"
