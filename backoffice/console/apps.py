from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AppConfig):
    name = "backoffice.console"
    label = "console"


class ConsoleAdminConfig(AdminConfig):
    """Django's admin with the desk's own site, so that its doors are the only ones there are."""

    default_site = "backoffice.console.site.StaydeskSite"
