from __future__ import annotations

import inspect

import pytest

from backoffice.core import errors
from backoffice.core.errors import (
    Conflict,
    Invalid,
    NightsTaken,
    NotAllowed,
    OverLimit,
    PaymentDeclined,
    ProviderError,
    RefundTooLarge,
    StaydeskError,
)

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, StaydeskError)]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in TREE]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_says_a_sentence_even_when_a_fact_is_missing(kind: type[StaydeskError]) -> None:
    said = str(kind())
    assert said.endswith((".", ")")) or "(" in said
    assert said[:1].isupper() or said.startswith("(")
    assert str(kind("Said otherwise.", field="x")) == "Said otherwise." and kind(field="x").facts == {"field": "x"}


def test_facts_fill_the_sentence_and_are_kept_for_machines() -> None:
    taken = NightsTaken(check_in="2027-01-01", check_out="2027-01-03")
    assert str(taken) == "Some of the nights 2027-01-01 to 2027-01-03 are no longer free."
    assert isinstance(taken, Conflict) and taken.facts["check_in"] == "2027-01-01"
    assert "At most 5.00 EUR" in str(RefundTooLarge(maximum="5.00 EUR", amount="6.00 EUR"))


def test_a_verb_of_the_table_of_grants_is_spoken_and_kept_as_it_is_for_machines() -> None:
    refused = NotAllowed(verb="payouts.claw_back")
    assert str(refused) == "You may not claw back payouts." and refused.facts == {"verb": "payouts.claw_back"}
    assert str(NotAllowed(verb="lift a hold of 1.50 EUR")) == "You may not lift a hold of 1.50 EUR."
    over = OverLimit(verb="refunds.request", amount="6.00 EUR", limit="5.00 EUR per act")
    assert "6.00 EUR is over your limit of 5.00 EUR per act to request refunds;" in str(over)


def test_braces_in_a_fact_are_text() -> None:
    assert str(Invalid(field="{oops}")) == "{oops} is not valid."


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (ProviderError(message="Your card was declined."), "Your card was declined."),
        (ProviderError(message="No such destination"), "No such destination."),
        (ProviderError("PO-1 is not sent. It said so.", message="No such destination"), "No such destination."),
        (PaymentDeclined(decline_code="expired_card"), "The payment was declined (expired card); try another card."),
        (PaymentDeclined(decline_code="declined"), "The payment was declined; try another card."),
    ],
)
def test_what_is_kept_of_a_refusal_is_the_provider_s_own_sentence(refusal: ProviderError, words: str) -> None:
    assert refusal.words == words
