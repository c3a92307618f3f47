"""What a judge can tell apart. Most of what is answered has been answered before, but for ids, amounts and instants: no rule of
the schema and no class of the SDK looks at these, so that what has been judged once need not be judged again."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

# The rules of a schema that shapes respect; all else in it is said to people, or to other tools.
RULES = frozenset(
    "$ref additionalProperties anyOf enum items maxLength nullable pattern properties required type".split()
)
SAID = frozenset(
    "description format title x-expandableFields x-expansionResources x-resourceId x-stripeBypassValidation".split()
)
Shape = int


class Shapes:
    """Numbers for values, by the rules in some schemas: two values have the same one only if every rule treats them alike.

    A word that a rule names is itself, any other text is what rules on its length and its beginning make of it; a number
    is its type, a list the set of what is in it, an object its names with the shapes below them."""

    def __init__(self, schemas: Iterable[Any], words: Iterable[str]) -> None:
        rules = [(name, value) for schema in schemas for name, value in rules_of(schema)]
        named = [word for name, value in rules if name == "enum" for word in value]
        self._words = frozenset(word for word in named if isinstance(word, str)) | frozenset(words)
        self._lengths = sorted({value for name, value in rules if name == "maxLength"})
        patterns = sorted({value for name, value in rules if name == "pattern"})
        assert all(pattern.startswith("^/") for pattern in patterns), "one that looks at more than addresses"
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._numbers: dict[Any, Shape] = {}

    def of(self, value: Any) -> Shape:
        """The value's number."""
        return self._numbers.setdefault(self._key(value), len(self._numbers))

    def _key(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return value if value in self._words else self._text(value)
        if kind is dict:
            return frozenset((name, self.of(part)) for name, part in value.items())
        if kind is list:
            return (list, frozenset(map(self.of, value)))
        if kind is bool:
            return (bool, value)
        return (float, value.is_integer()) if kind is float else kind

    def _text(self, value: str) -> tuple[Any, ...]:
        patterns = self._patterns if value.startswith("/") else ()
        return (bisect_left(self._lengths, len(value)), *(bool(pattern.search(value)) for pattern in patterns))


def rules_of(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every rule in a schema and in those inside it, by its name."""
    for name, value in schema.items():
        yield name, value
        if name == "properties":
            for inner in value.values():
                yield from rules_of(inner)
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            yield from rules_of(value)
        elif name == "anyOf":
            for inner in value:
                yield from rules_of(inner)
