"""Stripe's published schema as a judge: of every answer, of every event's object, of every request that was accepted.

The schema lies beside the repository and is not part of it; without it the checks are left out (``PRESENT``).
The SDK's classes judge beside it (``sdk``). Two traps: Stripe writes ``nullable`` beside ``anyOf`` and ``enum``, which
validators overlook; and its response schemas are open, so unknown keys are looked for by a walk of our own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.stripe_sandbox import sdk
from tests.stripe_sandbox.server import ROOT, Json, RunningSandbox
from tests.stripe_sandbox.shapes import Shape, Shapes

FOLDER = ROOT.parent / "shared" / "stripe"
PRESENT = (FOLDER / "openapi-subset.json").exists()
_URI = "urn:stripe"


@cache
def spec() -> Json:
    """The schema with every ``nullable`` made explicit."""
    document: Json = json.loads((FOLDER / "openapi-subset.json").read_text())
    _allow_null(document)
    return document


@cache
def fixtures() -> Json:
    """Stripe's own example objects, by kind."""
    return dict(json.loads((FOLDER / "fixtures-subset.json").read_text())["resources"])


def check_object(value: Json) -> None:
    """AssertionError unless ``value`` is what the schema and the SDK say of its kind, with no key more.

    SetupIntents are not in the part of the schema at hand: for them the SDK is the only judge.
    """
    where = str(value.get("id", value["object"]))
    if value["object"] == "setup_intent":
        check_by_sdk(value, where)
    else:
        _check(value, {"$ref": f"#/components/schemas/{value['object']}"}, where)


def schemas() -> Iterator[Json]:
    """Every schema that something is held against: of objects, of answers, of requests and their parameters."""
    yield from spec()["components"]["schemas"].values()
    for operation in (operation for methods in spec()["paths"].values() for operation in methods.values()):
        yield from (parameter["schema"] for parameter in operation.get("parameters", ()))
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            yield from (content["schema"] for content in body.get("content", {}).values())


def check_by_sdk(value: Json, where: str) -> None:
    """AssertionError for a field or a type that the SDK's classes do not know, and for a field that they want."""
    different = sorted(set(sdk.differences(value)))
    assert not different, f"{where}: not as the SDK has it: {different}"


def check_exchange(method: str, url: str, sent: str | bytes | None, status: int, body: str) -> None:
    """AssertionError unless the answer fits the operation, and the request too when it was accepted."""
    parts = urlsplit(url)
    if not parts.path.startswith("/v1/"):
        return
    operation = _operation(method, parts.path)
    answer = json.loads(body)
    answers = operation["responses"] if operation else {}
    if status == 200 and parts.path.startswith("/v1/setup_intents"):
        for item in answer["data"] if answer["object"] == "list" else [answer]:
            check_object(item)
        check_setup_request(method, parts.path, parse_qsl(parts.query if method != "POST" else str(sent or ""), True))
    elif status == 200:
        _check(answer, answers["200"]["content"]["application/json"]["schema"], f"{method} {parts.path}")
        if isinstance(sent, bytes):
            check_upload(operation or {}, sent)
        elif operation is not None:
            check_request(operation, parse_qsl(parts.query if method != "POST" else sent or "", True))
        if parts.path.startswith("/v1/events"):
            for event in answer["data"] if answer["object"] == "list" else [answer]:
                check_event(event)
    else:
        _check(answer, {"$ref": "#/components/schemas/error"}, f"{method} {parts.path} {status}")


def check_request(operation: Json, pairs: list[tuple[str, str]]) -> None:
    """AssertionError unless the parameters are ones the operation's schema allows."""
    given = _nest(pairs)
    content = operation.get("requestBody", {}).get("content", {})
    form = content.get("application/x-www-form-urlencoded")
    if form is not None:
        _check(_coerce(given, form["schema"]), form["schema"], operation["operationId"], closed=False)
        return
    known = {item["name"]: item["schema"] for item in operation.get("parameters", []) if item["in"] == "query"}
    assert set(given) <= set(known), f"{operation['operationId']}: unknown {set(given) - set(known)}"
    for name, value in given.items():
        _check(_coerce(value, known[name]), known[name], f"{operation['operationId']} {name}", closed=False)


def check_event(event: Json) -> None:
    """AssertionError unless the object inside is what the schema says of its kind."""
    check_object(event["data"]["object"])


def judge_events(sandbox: RunningSandbox) -> None:
    """Hold every event that there has been, whoever it was sent to, and the object inside it against the schema."""
    for event in sandbox.events() if PRESENT else ():
        check_object(event)
        check_event(event)


def check_upload(operation: Json, sent: bytes) -> None:
    """AssertionError unless the parts of an uploaded form are those that the schema names, all that it requires among
    them, with a purpose that it knows."""
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    parts = dict(re.findall(rb'form-data; name="([^"]+)"[^\r\n]*(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)', sent))
    given = {name.decode() for name in parts}
    assert set(schema["required"]) <= given <= set(schema["properties"]), f"an upload with {sorted(given)}"
    assert parts[b"purpose"].decode() in schema["properties"]["purpose"]["enum"], parts[b"purpose"]


def check_setup_request(method: str, path: str, pairs: list[tuple[str, str]]) -> None:
    """AssertionError unless the SDK has such parameters of a SetupIntent, which the schema at hand does not know."""
    *_, name = path.split("/")
    verb = {"setup_intents": ("List", "Create"), "confirm": ("", "Confirm"), "cancel": ("", "Cancel")}.get(
        name, ("Retrieve", "Update")
    )[method == "POST"]
    known = set(getattr(stripe.params, f"SetupIntent{verb}Params").__annotations__)
    assert set(_nest(pairs)) <= known, f"SetupIntent{verb}Params has no {set(_nest(pairs)) - known}"


class JudgedClient(stripe.RequestsClient):
    """The SDK's HTTP client, holding everything that passes through it against the schema."""

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        content, status, answered = super().request(method, url, headers, post_data)
        if PRESENT:
            check_exchange(method.upper(), url, post_data, status, content)
        return content, status, answered


def _operation(method: str, path: str) -> Json | None:
    for pattern, methods in _templates():
        if method.lower() in methods and pattern.fullmatch(path):
            return dict(methods[method.lower()])
    return None


@cache
def _templates() -> list[tuple[re.Pattern[str], Json]]:
    """The paths, those without a variable part first."""
    ordered = sorted(spec()["paths"].items(), key=lambda item: item[0].count("{"))
    return [(re.compile(re.sub(r"\{[^}]+\}", "[^/]+", template)), methods) for template, methods in ordered]


_passed: set[tuple[str | int, Shape, bool]] = set()


@cache
def _shapes() -> Shapes:
    return Shapes(schemas(), sdk.KINDS)


def _check(value: Any, schema: Json, where: str, *, closed: bool = True) -> None:
    """What has the shape of something that passed passes; whatever is refused is judged again each time."""
    verdict = (_name(schema), _shapes().of(value), closed)
    if verdict in _passed:
        return
    errors = list(_validator(schema).iter_errors(value))
    assert not errors, f"{where}: {errors[0].json_path}: {errors[0].message[:400]}"
    if closed:
        unknown = sorted(_unknown_keys(value, schema, "$"))
        assert not unknown, f"{where}: keys that the schema does not know: {unknown}"
        check_by_sdk(value, where)
    _passed.add(verdict)


_validators: dict[str | int, tuple[Draft202012Validator, Json]] = {}


def _name(schema: Json) -> str | int:
    """A reference is what it refers to, any other schema itself: `_validators` keeps it, so that no other takes its place."""
    return str(schema["$ref"]) if set(schema) == {"$ref"} else id(schema)


def _validator(schema: Json) -> Draft202012Validator:
    name = _name(schema)
    if name not in _validators:
        registry = Registry().with_resource(_URI, Resource.from_contents(spec(), DRAFT202012))
        absolute = json.loads(json.dumps(schema).replace('"#/', f'"{_URI}#/'))
        _validators[name] = Draft202012Validator(absolute, registry=registry), schema
    return _validators[name][0]


def _unknown_keys(value: Any, schema: Json, path: str) -> set[str]:
    schema = _resolved(schema)
    if "anyOf" in schema:
        if not isinstance(value, (dict, list)):
            return set()
        fitting = [option for option in schema["anyOf"] if _validator(option).is_valid(value)]
        return min((_unknown_keys(value, option, path) for option in fitting), key=len, default=set())
    if isinstance(value, list):
        return {key for item in value for key in _unknown_keys(item, schema.get("items", {}), f"{path}[]")}
    if not isinstance(value, dict) or "properties" not in schema:
        return set()
    unknown = {f"{path}.{key}" for key in value if key not in schema["properties"]}
    for key in value.keys() & schema["properties"].keys():
        unknown |= _unknown_keys(value[key], schema["properties"][key], f"{path}.{key}")
    return unknown


def _resolved(schema: Json) -> Json:
    while "$ref" in schema:
        schema = spec()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _allow_null(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _allow_null(item)
    elif isinstance(node, dict):
        for item in node.values():
            _allow_null(item)
        if node.get("nullable") is True:
            if isinstance(node.get("type"), str):
                node["type"] = [node["type"], "null"]
            if isinstance(node.get("enum"), list) and None not in node["enum"]:
                node["enum"].append(None)
            if isinstance(node.get("anyOf"), list):
                node["anyOf"].append({"type": "null"})


def _nest(pairs: list[tuple[str, str]]) -> Json:
    root: Json = {}
    for name, value in pairs:
        *groups, last = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
        node = root
        for part in groups:
            node = node.setdefault(part or str(len(node)), {})
        node[last or str(len(node))] = value
    return root


def _coerce(value: Any, schema: Json) -> Any:
    """Form text as the type the schema expects; what does not fit stays text and fails validation."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            tried = _coerce(value, option)
            if _validator(option).is_valid(tried):
                return tried
        return value
    kind = schema.get("type")
    if kind == "integer" and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    if kind == "array" and isinstance(value, dict):
        return [_coerce(value[key], schema["items"]) for key in sorted(value, key=int)]
    if kind == "object" and isinstance(value, dict):
        return {key: _coerce(item, schema.get("properties", {}).get(key, {})) for key, item in value.items()}
    return value
