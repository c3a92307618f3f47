"""Writes the end of docs/stripe-fidelity.md from the sandbox's tables: `python -m tests.stripe_sandbox.fidelity_docs`."""

from __future__ import annotations

from collections.abc import Iterator

from ops_cli.stripe_sandbox import resources
from ops_cli.stripe_sandbox.params import Field, Group, NotSimulated
from ops_cli.stripe_sandbox.registry import NOT_SIMULATED, OPERATIONS, SEARCHES
from ops_cli.stripe_sandbox.resources.account_params import BANK, TokenOrBank
from tests.stripe_sandbox.server import ROOT

assert resources.__all__
PAGE = ROOT / "docs" / "stripe-fidelity.md"
HEADING = "## What answers 501\n"
INTRODUCTION = f"""{HEADING}
In Stripe's error shape, with the code `not_implemented`, and never a silent success. An operation that is neither in this
list nor answered is one too: every other address under `/v1/` and `/v2/` (Stripe itself answers 404 where it has nothing
there). No test of the desk meets one: its client fails the test that does, and so does the end of one with a running desk.

Of the operations that are answered, these parameters answer 501, and so do a payout that is to be instant and a payment
method other than a card; of Stripe's resources beside them, these operations:

"""


def render() -> str:
    by_names: dict[str, list[str]] = {}
    for (method, path), operation in sorted(OPERATIONS.items(), key=lambda item: item[0][::-1]):
        names = ", ".join(f"`{name}`" for name in left_out(operation.fields))
        if names:
            by_names.setdefault(names, []).append(f"`{method} {path}`")
    rows = ["| operation | what of it answers 501 |", "|---|---|"]
    rows += [f"| {', '.join(operations)} | {names} |" for names, operations in by_names.items()]
    beside = sorted(NOT_SIMULATED | SEARCHES, key=lambda key: key[::-1])
    rows += [f"| `{method} {path}` | all of it |" for method, path in beside]
    return INTRODUCTION + "\n".join(rows) + "\n"


def left_out(fields: Field | dict[str, Field] | object, within: str = "") -> Iterator[str]:
    for name, field in fields.items() if isinstance(fields, dict) else ():
        path = f"{within}[{name}]" if within else name
        if isinstance(field, NotSimulated):
            yield path
        elif isinstance(field, (Group, TokenOrBank)):
            yield from left_out(dict(field.fields if isinstance(field, Group) else BANK.fields), path)


def main() -> None:
    PAGE.write_text(PAGE.read_text().partition(HEADING)[0] + render())


if __name__ == "__main__":
    main()
