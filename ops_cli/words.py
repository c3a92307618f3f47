"""Words of which there are only so many, such as the statuses of a payout, as they are written on the command line."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from operator import attrgetter
from typing import Any

import click


class OneOf(click.ParamType[str]):
    """One of the words at `place`, "module:attribute"; they are read when one is given, so that help costs nothing.

    A word that nothing can have is refused: the empty answer to it would be taken for "there are none"."""

    name = "word"

    def __init__(self, place: str) -> None:
        self.place = place

    @property
    def words(self) -> Collection[str]:
        module, _, attribute = self.place.partition(":")
        words: Collection[str] = attrgetter(attribute)(import_module(module))
        return words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and value not in self.words:
            self.fail(f"{value!r} is none of them; write one of {', '.join(self.words)}.", param, ctx)
        return str(value)
