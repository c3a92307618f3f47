from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class CoreConfig(AppConfig):
    name = "backoffice.core"
    label = "core"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if settings.VIRTUAL_CLOCK:
            from backoffice.core import clock, queries

            clock.install_offset(queries.clock_offset)
