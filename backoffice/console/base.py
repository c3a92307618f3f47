"""The one ModelAdmin of the console: it reads, and what writes is a dialog.

Every room's page is declared on it; what a class gets wrong about the house rules stops the desk from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.contrib.admin import ShowFacets
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from backoffice.console import dialogs, exports, lists
from backoffice.console.dialogs import Dialog
from backoffice.console.door import Desk, desk_of, may
from backoffice.console.lists import VIEW, KeysetPaginator, NewestFirst, Search, View
from backoffice.console.page import Overview, Page, Panel

_UNFOLD_ACTIONS = ("actions_list", "actions_row", "actions_detail", "actions_submit_line")


class StaffAdmin(exports.Exporting, ModelAdmin):
    """Read-only. `verb` opens it, `export_verb` lets its list be taken away, `dialogs` are all that changes anything.

    `key` is the column that names a row in its address, also of a related row (`host__code`); `searches` say what the
    search box understands; `views` are the list as it is worked, the first of them as it opens; `overviews` are pages
    about the list as a whole."""

    verb: ClassVar[str]
    singular: ClassVar[str]
    plural: ClassVar[str]
    key: ClassVar[str] = "code"
    dialogs: ClassVar[tuple[type[Dialog], ...]] = ()
    searches: ClassVar[tuple[Search, ...]] = ()
    lookups: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[tuple[View, ...]] = ()
    overviews: ClassVar[tuple[Overview, ...]] = ()
    empty_words: ClassVar[str] = ""
    list_words: ClassVar[str] = ""
    page_template: ClassVar[str] = "console/record.html"

    actions = None
    paginator = KeysetPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    sortable_by = ()
    list_per_page = 25  # rendering a row is what a list costs; paging by key costs nothing
    list_fullwidth = True
    list_filter_submit = True
    list_filter_sheet = True
    list_before_template = "console/list_words.html"
    change_list_template = "console/list.html"
    import_export_change_list_template = "console/list.html"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _obey_house_rules(cls)

    # What may be seen ------------------------------------------------------------------------------------------------

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.verb)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, self.verb)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only what is offered: an open lookup would let staff find out a password's digest letter by letter."""
        if lookup in self.lookups or lookup in lists.PAGING or lookup == VIEW:
            return True
        fields = [each[0] if isinstance(each, tuple | list) else each.parameter_name for each in self.list_filter]
        endings = ("", "__exact", "__isnull", "_from", "_to")
        return any(lookup == f"{field}{ending}" for field in fields for ending in endings)

    # Addresses -------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """The list, its export, each row's page and each row's dialogs. Django's add, change, delete and history do
        not exist here."""
        name = self._place

        def at(route: str, view: Callable[..., HttpResponse], what: str) -> URLPattern:
            pattern: URLPattern = path(route, self.admin_site.admin_view(view), name=f"{name}_{what}")
            return pattern

        urls = [at("", self.changelist_view, "changelist")]
        if self.export_verb:
            urls.append(at("export/", self.export_action, "export"))
        urls += [at(f"{each.name}/", self._overview_view(each), each.name) for each in self.overviews]
        urls += [at(f"<str:key>/{each.name}/", dialogs.view_of(each, self), each.name) for each in self.dialogs]
        return [*urls, at("<str:key>/", self.page_view, "change")]

    # The list --------------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NewestFirst]:
        return NewestFirst

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [each.lookup for each in self.searches]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return (lists.search(queryset, search_term, self.searches) if search_term.strip() else queryset), False

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        """Give the rows of one page what their columns need of elsewhere, in one statement for all of them."""

    def above(self, desk: Desk) -> Sequence[Panel]:
        """What stands above the list: sums and switches of it as a whole."""
        return ()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        self.stand(request)
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            "title": self.plural.capitalize(),
            "above": self.above(desk_of(request)),
            "overviews": [
                {"label": each.label, "icon": each.icon, "href": reverse(f"admin:{self._place}_{each.name}")}
                for each in self.overviews
            ],
            **(extra_context or {}),
        }
        response: HttpResponse = super().changelist_view(request, context)
        return response

    @property
    def _place(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def stand(self, request: HttpRequest, crumb: str = "") -> None:
        """Tell the header where the request stands: the list, and what of it is looked at."""
        request.current_app = self.admin_site.name
        request.console_place = {  # type: ignore[attr-defined]
            "title": self.plural.capitalize(),
            "href": reverse(f"admin:{self._place}_changelist"),
            "crumb": crumb,
        }

    # One row's page --------------------------------------------------------------------------------------------------

    def page_rows(self, desk: Desk) -> QuerySet[Any]:
        """The rows a page may show, with what it needs of others."""
        rows: QuerySet[Any] = self.get_queryset(desk.request).select_related(*self.list_select_related)
        return rows

    def find(self, key: str, desk: Desk) -> Any:
        """The row that an address names. Raises Http404, also for a key that cannot be one."""
        try:
            return self.page_rows(desk).get(**{self.key: key})
        except (self.model.DoesNotExist, ValueError, OverflowError):
            raise Http404(f"No such {self.singular}.") from None

    def page(self, row: Any, desk: Desk) -> Page:
        """What the page of `row` shows."""
        raise NotImplementedError

    def more(self, row: Any, desk: Desk) -> dict[str, Any]:
        """More context for an own `page_template`."""
        return {}

    def buttons(self, row: Any, desk: Desk) -> list[dict[str, Any]]:
        """The dialogs that this person may open on this row now."""
        opened = [each(self, row, desk) for each in self.dialogs if desk.actor.may(each.verb)]
        return [
            {"label": each.label, "icon": each.icon, "tone": each.tone, "href": each.address, "name": each.name}
            for each in opened
            if each.offered()
        ]

    def page_view(self, request: HttpRequest, key: str) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        desk = desk_of(request)
        row = self.find(key, desk)
        return self._answer(
            self.page(row, desk), desk, self.page_template, buttons=self.buttons(row, desk), **self.more(row, desk)
        )

    def _overview_view(self, overview: Overview) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest) -> HttpResponse:
            if request.method not in {"GET", "HEAD"}:
                return HttpResponseNotAllowed(["GET", "HEAD"])
            if not self.has_view_permission(request):
                raise PermissionDenied
            desk = desk_of(request)
            return self._answer(getattr(self, overview.name)(desk), desk, "console/record.html", buttons=[])

        return view

    def _answer(self, page: Page, desk: Desk, template: str, **context: Any) -> HttpResponse:
        self.stand(desk.request, page.title)
        known = {**self.admin_site.each_context(desk.request), "title": page.title, "opts": self.opts, "page": page}
        return TemplateResponse(desk.request, template, {**known, **context})


def _obey_house_rules(cls: type[StaffAdmin]) -> None:
    def refuse(why: str) -> None:
        raise ImproperlyConfigured(f"{cls.__module__}.{cls.__name__}: {why}")

    if not all(getattr(cls, name, "") for name in ("verb", "singular", "plural")):
        refuse("name the verb that opens it, and what one and many of its rows are called.")
    if "list_select_related" not in cls.__dict__ or isinstance(cls.list_select_related, bool):
        refuse("list_select_related must name the relations its list shows, or be ().")
    if cls.actions:
        refuse("stock actions run without a dialog; declare a Dialog.")
    for kind in _UNFOLD_ACTIONS:
        for action in getattr(cls, kind) or ():
            method = getattr(cls, action if isinstance(action, str) else "", None)
            if not getattr(method, "allowed_permissions", None) or not getattr(method, "dialog", None):
                refuse(f"{kind}: {action} runs on a plain GET for anybody; declare a Dialog.")
    if cls.list_editable or cls.date_hierarchy or cls.show_facets is not ShowFacets.NEVER:
        refuse("no editable lists, date hierarchies or facets.")
    for dialog in cls.dialogs:
        if not dialog.verb:
            refuse(f"{dialog.__name__} names no verb.")
