"""The contract asks for every method of the port."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from backoffice.payments.gateway.port import Gateway
from tests.payments.providers import contract

FOLDER = Path(contract.__file__).parent


def methods_of(port: type) -> set[str]:
    """What a provider must be able to do, by the protocols that make up the port."""
    return {
        name
        for part in port.__mro__
        if part.__module__.startswith((Gateway.__module__, __name__))
        for name, value in vars(part).items()
        if callable(value) and not name.startswith("_")
    }


def functions() -> dict[str, list[ast.FunctionDef]]:
    """Every function of the contract by its name, tests and what they use."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for file in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, []).append(node)
    return found


def asked(test: str, known: dict[str, list[ast.FunctionDef]]) -> set[str]:
    """The methods of the gateway that a test calls, by itself or by what it uses."""
    methods: set[str] = set()
    seen: set[str] = set()
    waiting = [test]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for call in calls(known.get(name, ())):
            if isinstance(call, ast.Attribute) and getattr(call.value, "attr", "") == "gateway":
                methods.add(call.attr)
            else:
                waiting.append(call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", ""))
    return methods


def calls(bodies: Iterable[ast.FunctionDef]) -> Iterable[ast.expr]:
    return (node.func for body in bodies for node in ast.walk(body) if isinstance(node, ast.Call))


def not_asked_for(port: type) -> set[str]:
    known = functions()
    tests = [name for name in dir(contract.ProviderContract) if name.startswith("test_")]
    assert set(tests) == {name for name in known if name.startswith("test_")}, (
        "a part that the contract does not inherit"
    )
    return methods_of(port) - set().union(*(asked(test, known) for test in tests))


def test_every_method_of_the_port_is_called_by_a_test_of_the_contract() -> None:
    assert len(methods_of(Gateway)) > 30
    assert not_asked_for(Gateway) == set()


def test_a_method_that_the_contract_forgot_is_noticed() -> None:
    class Wider(Gateway, Protocol):
        def top_up(self) -> None: ...

    assert not_asked_for(Wider) == {"top_up"}
