from __future__ import annotations

import pytest

from backoffice.core.errors import Conflict, IllegalTransition
from backoffice.core.states import StateTable

DOOR = StateTable(
    kind="door",
    statuses=("shut", "open", "gone"),
    steps={"push": {"shut": "open"}, "pull": {"open": "shut"}, "take_away": {"open": "gone", "shut": "gone"}},
)


def test_a_table_knows_where_it_begins_and_ends() -> None:
    assert DOOR.initial == "shut" and DOOR.final == {"gone"} and DOOR.actions == ("push", "pull", "take_away")
    assert DOOR.available("open") == ("pull", "take_away") and DOOR.available("gone") == ()
    assert DOOR.choices[0] == ("shut", "Shut")


def test_a_step_that_is_not_there_says_what_it_is_and_what_was_tried() -> None:
    assert DOOR.after("shut", "push") == "open"
    with pytest.raises(IllegalTransition, match="A door that is gone cannot take away") as refused:
        DOOR.after("gone", "take_away")
    assert isinstance(refused.value, Conflict)
    assert refused.value.facts == {"kind": "door", "status": "gone", "action": "take away"}


def test_a_table_that_names_an_unknown_status_does_not_come_to_be() -> None:
    with pytest.raises(ValueError, match="ajar"):
        StateTable(kind="door", statuses=("shut",), steps={"push": {"shut": "ajar"}})


def test_an_action_that_is_none_is_a_programming_error_not_an_answer() -> None:
    with pytest.raises(KeyError):
        DOOR.allows("shut", "kick")


def test_the_diagram_holds_every_step_and_end() -> None:
    drawn = DOOR.mermaid().splitlines()
    assert "    [*] --> shut" in drawn and "    gone --> [*]" in drawn
    assert sum("-->" in line for line in drawn) == 1 + 4 + 1
