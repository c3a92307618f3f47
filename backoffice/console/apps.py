from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin import checks as of_admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.core import checks


class ConsoleConfig(AppConfig):
    name = "backoffice.console"
    label = "console"


class ConsoleAdminConfig(SimpleAdminConfig):
    """Django's admin with the desk's own site, so that its doors are the only ones there are.

    Its pages are loaded with the addresses (backoffice/urls.py), so by web alone: workers, beat and `ops` do without them, and
    Django is set up in half the time."""

    default_site = "backoffice.console.site.StaydeskSite"

    def ready(self) -> None:
        checks.register(of_admin.check_dependencies, checks.Tags.admin)
        checks.register(_check_pages, checks.Tags.admin)


def _check_pages(app_configs: Sequence[AppConfig] | None, **options: Any) -> list[checks.CheckMessage]:
    admin.autodiscover()
    return of_admin.check_admin_app(app_configs, **options)
