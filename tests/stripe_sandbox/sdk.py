"""The SDK's classes as a second judge of what is answered: they name every field of every object with its type, also of
those that the schema at hand leaves out, and of the version that the SDK speaks."""

from __future__ import annotations

import builtins
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import stripe
from stripe._object_classes import OBJECT_CLASSES, get_object_class
from stripe._stripe_object import StripeObject, UntypedStripeObject

_LIST = {"object", "data", "has_more", "url"}
KINDS = frozenset(OBJECT_CLASSES)


def differences(value: Any, path: str = "$", hint: Any = Any) -> Iterator[str]:
    """What of an answer the SDK's classes do not know: fields, and values of another type than theirs."""
    options = _options(hint)
    if isinstance(value, Mapping):
        yield from _of_object(value, path, options)
    elif isinstance(value, list):
        items = [option for option in options if get_origin(option) is list]
        for item in value if items or hint is Any else ():
            yield from differences(item, f"{path}[]", get_args(items[0])[0] if items else Any)
    elif not any(_fits(value, option) for option in options):
        yield f"{path} is {value!r}, not {hint}"


def _of_object(value: Mapping[str, Any], path: str, options: list[Any]) -> Iterator[str]:
    name = value.get("object")
    if name == "list":
        yield from (f"{path}.{key}" for key in value if key not in _LIST)
        for item in value["data"]:
            yield from differences(item, f"{path}.data[]")
        return
    named = isinstance(name, str) and name in KINDS  # of an event's data it is the object itself
    kinds = [get_object_class("V1", str(name))] if named else _classes(options)
    if kinds:
        yield from min((list(_of_class(value, path, kind)) for kind in kinds), key=len)


def _of_class(value: Mapping[str, Any], path: str, kind: type) -> Iterator[str]:
    known = _fields(kind)
    for name, part in value.items():
        if name not in known:
            yield f"{path}.{name}"
        else:
            yield from differences(part, f"{path}.{name}", known[name])
    if not value.get("deleted"):
        for name in known.keys() - value.keys():
            if type(None) not in _options(known[name]):
                yield f"{path} without {name}"


def _classes(options: list[Any]) -> list[type]:
    return [
        option
        for option in options
        if isinstance(option, type)
        and issubclass(option, StripeObject)
        and not issubclass(option, UntypedStripeObject)
        and option is not StripeObject
    ]


def _fits(value: Any, option: Any) -> bool:
    """Words are open: the SDK's list of them may grow without a new version."""
    if option is Any or (get_origin(option) is Literal and isinstance(value, str)):
        return True
    if get_origin(option) is Literal:
        return value in get_args(option)
    if option is type(None):
        return value is None
    if option is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(option, type) and type(value) is option


@cache
def _options(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [option for part in get_args(hint) for option in _options(part)]
    return [hint]


class _Names(dict[str, Any]):
    """Names that the SDK's modules import for type checkers alone."""

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(stripe, name)
        except AttributeError:
            if hasattr(typing, name) or hasattr(builtins, name):
                raise KeyError(name) from None
            return Any


@cache
def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, localns=_Names())
    return {name: hint for name, hint in hints.items() if not name.startswith("_") and name != "OBJECT_NAME"}
