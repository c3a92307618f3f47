"""Filters that say what they do: whole days at both ends, aware, and only on what an index carries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.contrib.filters.forms import RadioForm


class Choices(ChoicesCheckboxFilter):
    """Any of a column's choices, as plain boxes: a form widget for each box was a fifth of what a list cost."""

    template = "console/filter_choices.html"

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        chosen = set(self.value() or ())
        for value, words in self.field.flatchoices:
            shown = str(words)
            yield {
                "name": self.lookup_kwarg,
                "value": value,
                "words": shown[:1].upper() + shown[1:],
                "on": value in chosen,
            }


class Days(admin.FieldListFilter):
    """Days of a date or an instant, both ends included: [from 00:00 UTC, the day after `to` 00:00 UTC)."""

    template = "console/filter_days.html"

    def __init__(
        self,
        field: Field[Any, Any],
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        # The base class takes our two parameters out of the address and keeps them as lists.
        super().__init__(field, request, params, model, model_admin, field_path)
        kept: dict[str, Any] = self.used_parameters
        self.given = {name: values[-1] for name, values in kept.items() if values and values[-1]}

    def expected_parameters(self) -> list[str | None]:
        return [f"{self.field_path}_from", f"{self.field_path}_to"]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (self._day(str(name)) for name in self.expected_parameters())
        is_instant = self.field.get_internal_type() == "DateTimeField"
        if first is not None:
            queryset = queryset.filter(**{f"{self.field_path}__gte": _midnight(first) if is_instant else first})
        if last is not None and last < date.max:
            end = last + timedelta(days=1)
            queryset = queryset.filter(**{f"{self.field_path}__lt": _midnight(end) if is_instant else end})
        return queryset

    def _day(self, name: str) -> date | None:
        try:
            return date.fromisoformat(self.given[name])
        except KeyError:
            return None
        except ValueError:
            raise IncorrectLookupParameters(f"{name}: write a day such as 2026-07-10") from None

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        for name, words in zip(self.expected_parameters(), ("From", "To and including"), strict=True):
            yield {"name": name, "words": words, "value": self.given.get(str(name), "")}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


class Kinds(admin.FieldListFilter):
    """One of a few known words in a column without choices; the words are listed here, never by a scan."""

    template = "unfold/filters/filters_field.html"
    words = ("guest", "host", "staff", "system", "cli")

    def __init__(
        self,
        field: Field[Any, Any],
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        self.lookup_kwarg = field_path
        super().__init__(field, request, params, model, model_admin, field_path)
        self.chosen = (params.pop(field_path, None) or [""])[-1]
        self.used_parameters[field_path] = self.chosen

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return []  # the choice is taken from the parameters here, not by the base class

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.lookup_kwarg: self.chosen}) if self.chosen else queryset

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        choices = [("", "All"), *((word, word.capitalize()) for word in self.words)]
        yield {
            "form": RadioForm(
                label=f"By {self.title}", name=self.lookup_kwarg, choices=choices, data={self.lookup_kwarg: self.chosen}
            )
        }
