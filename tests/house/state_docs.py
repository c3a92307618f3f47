"""Writes docs/states.md from the state tables: `python -m tests.house.state_docs`."""

from __future__ import annotations

from pathlib import Path

from backoffice.bookings.states import BOOKING
from backoffice.listings.states import LISTING
from backoffice.payments.states import ATTEMPT, CHARGE, PAYMENT, REFUND, WEBHOOK
from backoffice.payouts import states as payouts
from backoffice.people.states import ACCOUNT
from backoffice.reconciliation.states import BREAK, MATCH

TABLES = (
    ACCOUNT, LISTING, BOOKING, PAYMENT, ATTEMPT, CHARGE, REFUND, payouts.PAYOUT, payouts.HOLD, payouts.CLAWBACK,
    payouts.WRITE_OFF, payouts.BANK_PAYOUT, payouts.ACCOUNT, WEBHOOK, BREAK,
    MATCH,
)  # fmt: skip
INTRODUCTION = """# States

Each thing has one table of statuses and actions. It drives the check in the operation, the console's buttons, the API's
`available_actions`, the database CHECK and these diagrams (`python -m tests.house.state_docs` writes them, a test compares).
"""


def render() -> str:
    parts = [INTRODUCTION]
    for table in TABLES:
        parts.append(
            f"\n## {table.kind.capitalize()}\n\n```mermaid\n{table.mermaid()}\n```\n\n| action | from | to |\n|---|---|---|\n"
        )
        for action, moves in table.steps.items():
            parts += [f"| {action} | {before} | {after} |\n" for before, after in moves.items()]
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).resolve().parents[2] / "docs" / "states.md").write_text(render(), encoding="utf-8")
