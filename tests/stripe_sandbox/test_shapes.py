"""Nothing is let through for looking like something that passed: what has the same shape has the same verdict."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.stripe_sandbox import contract, sdk
from tests.stripe_sandbox.server import Json
from tests.stripe_sandbox.shapes import RULES, SAID, Shapes, rules_of

pytestmark = pytest.mark.skipif(
    not contract.PRESENT, reason="Stripe's schema is not beside the repository (../shared/stripe)"
)
KINDS = ("refund", "bank_account", "transfer", "file", "payout", "dispute", "deleted_customer", "balance")
# Every length that a rule names, and one more; words that a rule names somewhere, and others; every type.
OTHERS: tuple[Any, ...] = (
    None, True, False, 0, 7, 1.5, 2.0, "", "x", "usd", "list", "succeeded", "/v1/refunds", "/v2", *("x" * n for n in
    (80, 81, 150, 151, 200, 201, 500, 501, 5000, 5001)), {}, {"k": "v"}, [], ["x"], [{}],
)  # fmt: skip


@pytest.fixture
def shapes() -> Shapes:
    return Shapes(contract.schemas(), sdk.KINDS)


def places(value: Any) -> Iterator[Callable[[Any], None]]:
    """Ways to put something else at each place of an object, and to take it away."""
    for name in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield lambda other, name=name: value.__setitem__(name, other)  # type: ignore[misc]
        yield from places(value[name])
    if isinstance(value, dict):
        for name in value:
            yield lambda _, name=name: value.pop(name)  # type: ignore[misc]
        yield lambda other: value.__setitem__("surprise", other)


def verdict(value: Json, kind: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the judge says without having seen anything before."""
    monkeypatch.setattr(contract, "_passed", set())
    try:
        contract._check(value, {"$ref": f"#/components/schemas/{kind}"}, kind)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_the_same_is_judged_the_same(kind: str, shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(kind)
    example = copy.deepcopy(contract.fixtures()[kind])
    if kind == "dispute":  # Stripe's example is older than the SDK
        example["evidence_details"]["submission_method"] = "not_submitted"
        example["payment_method_details"]["card"]["network"] = "visa"
    seen = {shapes.of(example): (verdict(example, kind, monkeypatch), example)}
    assert seen[shapes.of(example)][0]
    for _ in range(150):
        changed = copy.deepcopy(example)
        dice.choice(list(places(changed)))(dice.choice(OTHERS))
        said = verdict(changed, kind, monkeypatch)
        before, other = seen.setdefault(shapes.of(changed), (said, changed))
        assert said == before, (changed, other)
    assert {said for said, _ in seen.values()} == {True, False}


def test_ids_amounts_and_instants_do_not_matter_and_words_types_and_lengths_do(shapes: Shapes) -> None:
    charge = contract.fixtures()["charge"]
    assert shapes.of({**charge, "id": charge["id"][::-1], "amount": 5, "created": 9}) == shapes.of(charge)
    changes: tuple[Json, ...] = ({"status": "failed"}, {"amount": "5"}, {"id": "x" * 5001}, {"paid": False}, {"k": 1})
    assert len({shapes.of({**charge, **change}) for change in changes} | {shapes.of(charge)}) == 1 + len(changes)


def test_shapes_respect_every_rule_that_a_schema_has() -> None:
    rules = [rule for schema in contract.schemas() for rule in rules_of(schema)]
    assert {name for name, _ in rules} <= RULES | SAID
    words = [word for name, value in rules if name == "enum" for word in value]
    assert all(word is None or isinstance(word, (str, bool)) for word in words)
