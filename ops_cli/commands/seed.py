"""`ops seed`: put data on a desk: a real city's open data, or a small demo world."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from ops_cli.bootstrap import cli_actor, needs_django
from ops_cli.output import Column, Result, dry_run, progress, renders
from ops_cli.parts.desk import write_private

_COUNTS: Final = [
    Column("kind"),
    *(
        Column(name, right=True)
        for name in ("read", "loaded", "rejected", "set_aside", "added", "updated", "unchanged", "retired")
    ),
    Column("reasons"),
]


@click.group(short_help="Load a real city's open data, or a demo world.")
def seed() -> None:
    """Put data on the desk: a real city's open data, or a small demo world.

    \b
    Example:
      ops seed inside-airbnb ~/data/singapore --city Singapore --currency SGD
      ops seed demo --if-empty
    """


@seed.command("inside-airbnb", short_help="Load an Inside Airbnb export of a city.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--city", required=True, help="The city's name, as guests search for it.")
@click.option("--currency", required=True, help="The currency of the city's prices: the export prints $ for all.")
@click.option("--country", help="ISO 3166-1; known for the larger cities.")
@click.option("--time-zone", help="IANA name; known for the larger cities.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where records go that cannot be loaded.  [default: imports/CITY-rejects.csv in the desk's directory]",
)
@click.option("--keep-names", is_flag=True, help="Keep real names and texts; by default they are made unrecognisable.")
@dry_run
@renders("seed.inside-airbnb", _COUNTS)
@needs_django
def inside_airbnb(
    directory: Path,
    city: str,
    currency: str,
    country: str | None,
    time_zone: str | None,
    rejects: Path | None,
    keep_names: bool,
    dry_run: bool,
) -> Result:
    """Load DIRECTORY, an Inside Airbnb export (listings, and if there: calendar, reviews; plain or gzip).

    Unavailable nights become host blocks of unknown cause. All is loaded or nothing; running it again changes nothing;
    a newer snapshot of the city updates, adds and retires. docs/import-inside-airbnb.md says what happens to each field.

    \b
    Example:
      ops seed inside-airbnb ~/data/singapore --city Singapore --currency SGD --format json
      ops seed inside-airbnb ~/data/ghent --city Ghent --currency EUR --country BE --time-zone Europe/Brussels --dry-run
    """
    from django.conf import settings

    from backoffice.core import clock
    from backoffice.people.policies import cli_grants
    from backoffice.workflows import import_inside_airbnb as importer

    request = importer.Request(
        directory=directory,
        city=city,
        currency=currency.upper(),
        rejects=rejects or settings.HOME / "imports" / f"{'-'.join(city.lower().split())}-rejects.csv",
        country=country,
        time_zone=time_zone,
        keep_names=keep_names,
        dry_run=dry_run,
    )
    with progress("reading", total=importer.size(directory)) as advance:
        report = importer.load(
            request=request,
            actor=cli_actor(grants=cli_grants()),
            now=clock.now(),
            progress=lambda kind, steps: advance(steps, description=kind),
        )
    return Result(
        rows=[tally.as_row() for tally in report.tallies],
        summary={
            "city": report.place.name,
            "country": report.place.country,
            "currency": report.currency,
            "snapshot": report.seen_on,
            "changed": report.changed,
            "dry_run": report.dry_run,
            "rejects": str(report.rejects) if report.rejects else None,
        },
        warnings=report.warnings,
    )


@seed.command("demo", short_help="Load a small believable world.")
@click.option("--if-empty", is_flag=True, help="Do nothing on a desk that has homes of its own.")
@click.option("--seed", "plan", type=int, default=7, show_default=True, help="Another number draws other bookings.")
@click.option(
    "--bookings",
    "number",
    type=click.IntRange(0, 500),
    default=40,
    show_default=True,
    help="How many bookings to plan.",
)
@renders("seed.demo", [Column("role"), Column("email"), Column("password")])
@needs_django
def demo(if_empty: bool, plan: int, number: int) -> Result:
    """Load hosts, homes in four currencies, guests, bookings in every state and a staff login for every role.

    Everything is made through the desk's own operations and paid at the payment sandbox. Running it again changes
    nothing; one that was cut short goes on. Refused where payments are real.

    \b
    Example:
      ops seed demo --if-empty
      ops seed demo --bookings 120 --seed 3 --format json
    """
    from django.conf import settings

    from backoffice.core import clock
    from backoffice.people.policies import cli_grants
    from backoffice.workflows import seed_demo

    with progress("demo") as advance:
        report = seed_demo.load(
            actor=cli_actor(grants=cli_grants()),
            now=clock.now(),
            if_empty=if_empty,
            seed=plan,
            number=number,
            progress=lambda what: advance(1, description=what),
        )
    if report.skipped:
        return Result(warnings=[report.skipped])
    people = {"guest": report.guest, "host": report.host}
    logins = [asdict(login) for login in report.staff]
    one_each = {name: asdict(login) for name, login in people.items() if login}
    write_private(settings.HOME / "demo.json", json.dumps({"logins": logins, **one_each}, indent=2) + "\n")
    return Result(
        rows=[*logins, *one_each.values()],
        summary={"added": dict(sorted(report.added.items())), "bookings": dict(sorted(report.bookings.items()))},
        warnings=report.warnings,
    )
