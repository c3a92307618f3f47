"""The console's own admin site: only its own addresses, and no error without a page that says what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.settings import get_config
from unfold.sites import UnfoldAdminSite

from backoffice.console import lookup
from backoffice.console.base import StaffAdmin
from backoffice.console.door import desk_of
from backoffice.core.errors import NotAllowed, NotFound, StaydeskError
from backoffice.jobs.queries import stops

log = logging.getLogger(__name__)

# Django's own addresses that would change something past the operations, or answer questions past the grants.
_CLOSED: Final = frozenset({"autocomplete", "view_on_site", "password_change", "password_change_done", "search"})


class StaydeskSite(UnfoldAdminSite):
    """Every view answers domain errors, missing rows and accidents with a page in the console's own dress."""

    index_title = "Today"
    enable_nav_sidebar = True
    final_catch_all_view = True

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Only pages that obey the house rules; what a library registers for itself (groups, tokens) stays out."""
        if admin_class is not None and issubclass(admin_class, StaffAdmin):
            super().register(model_or_iterable, admin_class, **options)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("find/", self.admin_view(lookup.find), name="find"),
            path("search/", self.admin_view(lookup.palette), name="search"),
        ]
        kept = [each for each in super().get_urls() if getattr(each, "name", "") not in _CLOSED]
        return [*own, *kept]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Unfold's, and what is stopped now: nobody may work on without seeing it."""
        user = request.user
        known = user.is_authenticated and user.is_active and user.is_staff
        return {**super().each_context(request), "stops": list(stops()) if known else []}

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Of one app, for its page. The list of all that each page would be given is shown by none: the sidebar is ours."""
        return super().get_app_list(request, app_label) if app_label else []

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Unfold's settings on its defaults, which it would merge anew for each of the thirty that a page needs."""
        return dict(get_config(self.settings_name))

    def _get_config(self, key: str, *args: Any) -> Any:
        return self._get_value(self._settings[key], *args) if self._settings.get(key) else None

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:
        guarded: Callable[..., HttpResponse] = super().admin_view(view, cacheable)

        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                response = guarded(request, *args, **kwargs)
                # Rendered here, so that an accident in a template is caught here too.
                return response.render() if isinstance(response, TemplateResponse) else response
            except Exception as error:
                return self._error(request, error)

        return update_wrapper(answer, view)

    def catch_all_view(self, request: HttpRequest, url: str) -> HttpResponse:
        if settings.APPEND_SLASH and not url.endswith("/"):
            return HttpResponseRedirect(f"{request.path}/")
        raise Http404

    def _error(self, request: HttpRequest, error: Exception) -> HttpResponse:
        if isinstance(error, Http404 | NotFound):
            return self._sorry(request, 404, "Not here", "There is no such page, or it was never yours to see.")
        if isinstance(error, SuspiciousOperation):
            return self._sorry(request, 400, "Not understood", "This address asks for a filter that does not exist.")
        if isinstance(error, PermissionDenied | NotAllowed):
            words = str(error) if isinstance(error, NotAllowed) else "None of your roles may do this."
            return self._sorry(request, 403, "Not yours to open", f"{words} A team lead or an admin can tell who may.")
        if isinstance(error, StaydeskError) and request.path != reverse("admin:index"):
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:index"))
        log.exception("the console failed at %s %s", request.method, request.path, exc_info=error)
        return self._sorry(
            request, 500, "Something broke", "It is in the log; nothing half-done was kept. Try again, or tell on-call."
        )

    def _sorry(self, request: HttpRequest, status: int, title: str, words: str) -> HttpResponse:
        context = {"title": title, "words": words, "status": status}
        user = request.user
        if status != 500 and user.is_authenticated and user.is_active and user.is_staff:
            context = {**self.each_context(request), **context, "request_id": desk_of(request).actor.request_id}
            return TemplateResponse(request, "console/sorry.html", context, status=status).render()
        return TemplateResponse(request, "console/sorry_plain.html", context, status=status).render()


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without a valid CSRF token: nothing was done."""
    context = {
        "title": "This page was open too long",
        "words": "Nothing was done. Go back, load the page again and repeat what you wanted.",
        "status": 403,
    }
    return TemplateResponse(request, "console/sorry_plain.html", context, status=403).render()
