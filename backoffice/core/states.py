"""State tables: the statuses of a thing, its actions, and the one table between them.

The same table drives the check in operations, the console's buttons, the API's `available_actions`, the database CHECK,
the diagram in `docs/states.md` and the test that walks every status and action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backoffice.core.errors import IllegalTransition


@dataclass(frozen=True)
class StateTable:
    """`steps` maps action -> {status before: status after}. The first of `statuses` is where a thing begins."""

    kind: str
    statuses: tuple[str, ...]
    steps: Mapping[str, Mapping[str, str]]
    final: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        for action, moves in self.steps.items():
            unknown = (set(moves) | set(moves.values())) - set(self.statuses)
            if unknown:
                raise ValueError(f"{self.kind}.{action} names unknown statuses: {sorted(unknown)}")
        moving = {status for moves in self.steps.values() for status in moves}
        object.__setattr__(self, "final", frozenset(set(self.statuses) - moving))

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(self.steps)

    @property
    def initial(self) -> str:
        return self.statuses[0]

    @property
    def choices(self) -> list[tuple[str, str]]:
        return [(status, status.replace("_", " ").capitalize()) for status in self.statuses]

    def allows(self, status: str, action: str) -> bool:
        return status in self.steps[action]

    def available(self, status: str) -> tuple[str, ...]:
        """The actions that the table allows from `status`; who may take them is the actor's grants."""
        return tuple(action for action in self.steps if status in self.steps[action])

    def after(self, status: str, action: str) -> str:
        """The status after `action`. Raises IllegalTransition when the table has no such step."""
        try:
            return self.steps[action][status]
        except KeyError:
            raise IllegalTransition(kind=self.kind, status=status, action=action.replace("_", " ")) from None

    def mermaid(self) -> str:
        """A state diagram for the docs."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        for action, moves in self.steps.items():
            lines += [f"    {before} --> {after}: {action}" for before, after in moves.items()]
        lines += [f"    {status} --> [*]" for status in self.statuses if status in self.final]
        return "\n".join(lines)
