"""`ops report`: figures, tied to the ledger."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import click

from ops_cli.bootstrap import reads
from ops_cli.output import Column, Exit, Result, money, renders
from ops_cli.times import DAY

if TYPE_CHECKING:
    from backoffice.core.actor import Actor
    from backoffice.reporting.queries import Tie

GMV: Final = (
    Column("group"),
    Column("currency"),
    Column("bookings", right=True),
    Column("charged", money="currency"),
    Column("refunded", money="currency"),
    Column("net", money="currency"),
)


@click.group(short_help="Print a report whose totals are tied to the ledger.")
def report() -> None:
    """Print a report whose totals are tied to the ledger.

    \b
    Example:
      ops report gmv --from 2026-01 --to 2027-01 --by month
    """


@report.command(short_help="Gross merchandise value by month or city.")
@click.option("--from", "since", type=DAY, help="The first day, or month.  [default: the year's first day]")
@click.option("--to", "until", type=DAY, help="The day or month after the last.  [default: tomorrow]")
@click.option(
    "--by", type=click.Choice(["month", "city"]), default="month", show_default=True, help="How rows are grouped."
)
@renders("report.gmv", GMV)
@reads
def gmv(actor: Actor, since: date | None, until: date | None, by: str) -> Result:
    """What guests were charged for stays and what went back, by month of capture or by city, in each currency.

    Each currency's total is compared with what the ledger was told in the same period; where they differ, a warning
    says by how much, and the exit code is 3.

    \b
    Example:
      ops report gmv --from 2026-01-01 --to 2027-01-01 --by month
      ops report gmv --from 2026-10 --to 2026-11 --by city --format csv
    """
    from backoffice.core import clock
    from backoffice.reporting import queries

    actor.must("reports.view")
    today = clock.now().date()
    since, until = since or today.replace(month=1, day=1), until or today + timedelta(days=1)
    rows = queries.gmv(since=since, until=until, by=by)
    ties = queries.ties(since=since, until=until, rows=rows)
    return Result(
        rows=[
            {
                "group": row.group,
                "currency": row.currency,
                "bookings": row.bookings,
                "charged": row.charged,
                "refunded": row.refunded,
                "net": row.net,
            }
            for row in rows
        ],
        summary={
            "from": since,
            "to": until,
            "by": by,
            "definition": queries.GMV,
            "tied_to_the_ledger": all(tie.holds for tie in ties),
            "totals": {
                tie.currency: {
                    "charged": money(tie.charged, tie.currency),
                    "ledger_charged": money(tie.ledger_charged, tie.currency),
                    "refunded": money(tie.refunded, tie.currency),
                    "ledger_refunded": money(tie.ledger_refunded, tie.currency),
                }
                for tie in ties
            },
        },
        warnings=[_untied(tie) for tie in ties if not tie.holds],
        exit_code=Exit.DONE if all(tie.holds for tie in ties) else Exit.FINDINGS,
    )


def _untied(tie: Tie) -> str:
    from backoffice.core.money import Money

    charged, refunded = Money(tie.charged, tie.currency), Money(tie.refunded, tie.currency)
    theirs = Money(tie.ledger_charged, tie.currency), Money(tie.ledger_refunded, tie.currency)
    return (
        f"{tie.currency} does not tie to the ledger: charged {charged} here and {theirs[0]} there, "
        f"refunded {refunded} here and {theirs[1]} there; see `ops ledger check`"
    )
