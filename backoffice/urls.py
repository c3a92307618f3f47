"""Which door answers which path; wiring only."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from api import health, webhooks

admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(url="/console/", permanent=False)),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("webhooks/stripe", webhooks.stripe),
    path("api/v1/", include("api.v1.urls")),
    path("console/", admin.site.urls),
]
