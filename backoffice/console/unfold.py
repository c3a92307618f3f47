"""Unfold's settings: name, mark, colours, navigation. Only names and paths, since settings are read before any model."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Staydesk",
    "SITE_HEADER": "Staydesk",
    "SITE_SUBHEADER": "Operations desk",
    "SITE_URL": None,
    "SITE_ICON": lambda request: static("console/mark.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("console/mark.svg")},
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "7px",
    "ENVIRONMENT": "backoffice.console.dashboard.environment",
    "DASHBOARD_CALLBACK": "backoffice.console.dashboard.dashboard",
    "LOGIN": {
        "image": lambda request: static("console/login.svg"),
        "form": "backoffice.console.login.LoginForm",
    },
    "STYLES": [lambda request: static("console/console.css")],
    "SCRIPTS": [lambda request: static("console/console.js")],
    "ACCOUNT": {"navigation": "backoffice.console.dashboard.account_links"},
    "SIDEBAR": {
        "navigation": "backoffice.console.navigation.sidebar",
        "show_search": True,
        "command_search": True,
    },
    # Harbour at dusk: a blue-green that carries white text at 5:1, on greys that lean the same way.
    "COLORS": {
        "base": {
            "50": "oklch(98.4% .003 215)",
            "100": "oklch(96.4% .005 215)",
            "200": "oklch(92.4% .008 216)",
            "300": "oklch(86.6% .012 217)",
            "400": "oklch(70.8% .020 218)",
            "500": "oklch(55.4% .024 220)",
            "600": "oklch(44.4% .026 222)",
            "700": "oklch(36.8% .026 224)",
            "800": "oklch(27.6% .024 226)",
            "900": "oklch(20.8% .022 228)",
            "950": "oklch(13.6% .018 230)",
        },
        "primary": {
            "50": "oklch(97.6% .014 200)",
            "100": "oklch(94.4% .030 200)",
            "200": "oklch(89.2% .052 201)",
            "300": "oklch(81.8% .078 203)",
            "400": "oklch(72.4% .096 206)",
            "500": "oklch(61.2% .096 209)",
            "600": "oklch(50.6% .086 212)",
            "700": "oklch(43.8% .074 214)",
            "800": "oklch(37.8% .062 216)",
            "900": "oklch(32.4% .052 218)",
            "950": "oklch(23.4% .040 222)",
        },
        "font": {
            "subtle-light": "var(--color-base-500)",
            "subtle-dark": "var(--color-base-400)",
            "default-light": "var(--color-base-600)",
            "default-dark": "var(--color-base-300)",
            "important-light": "var(--color-base-900)",
            "important-dark": "var(--color-base-100)",
        },
    },
}
