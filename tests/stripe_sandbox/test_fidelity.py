"""The fidelity table names tests that exist, and says all that is not simulated."""

from __future__ import annotations

import re

from tests.stripe_sandbox import fidelity_docs
from tests.stripe_sandbox.server import ROOT


def test_every_test_named_in_the_table_exists() -> None:
    text = (ROOT / "docs" / "stripe-fidelity.md").read_text()
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    for file, test in named:
        source = (ROOT / "tests" / "stripe_sandbox" / file).read_text()
        assert not test or f"def {test}(" in source, f"{file}::{test}"


def test_what_answers_501_is_written_down() -> None:
    assert fidelity_docs.PAGE.read_text().endswith("\n" + fidelity_docs.render()), (
        "run python -m tests.stripe_sandbox.fidelity_docs"
    )
