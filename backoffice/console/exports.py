"""Lists out of the console as CSV or XLSX: by permission, as filtered, harmless in a spreadsheet, and logged."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from import_export import resources
from import_export.admin import ExportMixin
from import_export.formats.base_formats import CSV, XLSX
from unfold.contrib.import_export.forms import SelectableFieldsExportForm

from backoffice.audit import operations as audit
from backoffice.console.door import desk_of, may
from backoffice.core.money import Money

MOST_ROWS: Final = 50_000
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet runs: text that begins like a formula is led by an apostrophe; numbers stay."""
    if not isinstance(value, str):
        return value
    value = value.replace("\x00", "")
    if value.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def amount(value: int | None, currency: str) -> Decimal | None:
    """Minor units in major units, exactly: what a person sums in a spreadsheet."""
    return None if value is None else Money(value, currency).decimal()


class Resource(resources.Resource):
    """What an export holds: columns by name, each a `dehydrate_` method or an attribute. There is no import."""

    @classmethod
    def get_display_name(cls) -> str:
        return cls.__name__

    def export_field(self, field: Any, instance: Any, **kwargs: Any) -> Any:
        return harmless(super().export_field(field, instance, **kwargs))

    def get_user_visible_fields(self) -> Any:
        return self.get_export_fields()


class ExportForm(SelectableFieldsExportForm):
    """Format and columns; a column is named as it will stand in the file."""

    def _get_field_label(self, resource: Any, field_name: str) -> str:
        return str(resource.fields[field_name].column_name).capitalize()


class Exporting(ExportMixin):
    """A list that may be taken away by who holds `export_verb`."""

    export_verb: ClassVar[str] = ""
    export_form_class = ExportForm
    export_template_name = "console/export.html"
    plural: ClassVar[str]

    def has_export_permission(self, request: HttpRequest) -> bool:
        return bool(self.export_verb) and may(request, self.verb) and may(request, self.export_verb)

    def get_export_formats(self) -> list[Any]:
        return [CSV, XLSX]

    def export_action(self, request: HttpRequest) -> HttpResponse:
        """GET asks for format and columns, POST hands out the file."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not self.has_export_permission(request):
            raise PermissionDenied
        response: HttpResponse = super().export_action(request)
        return response

    def init_request_context_data(self, request: HttpRequest, form: Any) -> dict[str, Any]:
        self.stand(request, "Export")
        context: dict[str, Any] = super().init_request_context_data(request, form)
        return {**context, "title": f"Export {self.plural}", "filtered": bool(_filters(request))}

    def _do_file_export(
        self, file_format: Any, request: HttpRequest, queryset: QuerySet[Any], export_form: Any = None
    ) -> HttpResponse:
        rows = queryset.order_by("-pk")[: MOST_ROWS + 1].count()
        if rows > MOST_ROWS:
            messages.error(request, f"More than {MOST_ROWS:,} rows match: narrow the filter, for instance by days.")
            return HttpResponseRedirect(request.get_full_path())
        desk = desk_of(request)
        with transaction.atomic():
            audit.record(
                actor=desk.actor,
                verb=self.export_verb,
                kind="export",
                id=self.opts.label_lower,
                after={"filter": _logged(request), "rows": rows, "format": file_format.get_extension()},
                now=desk.now,
            )
        response: HttpResponse = super()._do_file_export(
            file_format, request, queryset.order_by("-pk"), export_form=export_form
        )
        response["Cache-Control"] = "no-store"
        return response

    def get_export_filename(self, request: HttpRequest, queryset: QuerySet[Any], file_format: Any) -> str:
        day = desk_of(request).now.date().isoformat()
        name = self.plural.replace(" ", "-")
        return f"staydesk-{name}-{day}.{file_format.get_extension()}"


def _filters(request: HttpRequest) -> dict[str, str]:
    pairs = parse_qsl(request.META.get("QUERY_STRING", ""))
    return {name: value for name, value in pairs if name not in {"before", "after", "oldest", "p"}}


def _logged(request: HttpRequest) -> dict[str, Any]:
    """The filter as the log keeps it: an address searched for is a person, so only its digest."""
    return {name: audit.personal(value) if "@" in value else value for name, value in _filters(request).items()}
