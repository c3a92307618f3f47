"""Stripe's form encoding: ``a=1``, ``a[b]=2``, ``a[]=3``, ``a[0][b]=4``, turned into nested mappings of text.

Lists stay mappings from position to value here; only the parameter table knows which names are lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import ApiError

Raw = str | dict[str, "Raw"]

_KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PART = re.compile(r"\[([^\[\]]*)\]")
_DEEPEST = 10


def decode(pairs: Iterable[tuple[str, str]]) -> dict[str, Raw]:
    """Nest ``pairs`` by their bracketed names; the last value of a repeated name wins.

    Raises ApiError 400 for a name with unbalanced brackets, or one used both as a value and as a group.
    """
    root: dict[str, Raw] = {}
    for name, value in pairs:
        path = _path(name)
        group = root
        for part in path[:-1]:
            child = group.setdefault(_position(part, group), {})
            if isinstance(child, str):
                raise _malformed(name)
            group = child
        last = _position(path[-1], group)
        if isinstance(group.get(last), dict):
            raise _malformed(name)
        group[last] = value
    return root


def _path(name: str) -> list[str]:
    match = _KEY.match(name)
    if match is None:
        raise _malformed(name)
    path = [match[1], *_PART.findall(match[2])]
    if len(path) > _DEEPEST:
        raise _malformed(name)
    return path


def _position(part: str, group: dict[str, Raw]) -> str:
    return part or str(len(group))


def _malformed(name: str) -> ApiError:
    return ApiError(400, f"Invalid request: could not parse the parameter name {name!r}.", param=name)
