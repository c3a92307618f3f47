"""Where the cities are that Inside Airbnb publishes: the country and time zone of each, since the export names neither."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from backoffice.core.errors import Invalid
from backoffice.core.stays import time_zones

# city slug -> ISO 3166-1 country, IANA time zone. Others are given with --country and --time-zone.
KNOWN: Final[dict[str, tuple[str, str]]] = {
    "albany": ("US", "America/New_York"),
    "amsterdam": ("NL", "Europe/Amsterdam"),
    "antwerp": ("BE", "Europe/Brussels"),
    "athens": ("GR", "Europe/Athens"),
    "bangkok": ("TH", "Asia/Bangkok"),
    "barcelona": ("ES", "Europe/Madrid"),
    "berlin": ("DE", "Europe/Berlin"),
    "boston": ("US", "America/New_York"),
    "brussels": ("BE", "Europe/Brussels"),
    "buenos-aires": ("AR", "America/Argentina/Buenos_Aires"),
    "cape-town": ("ZA", "Africa/Johannesburg"),
    "chicago": ("US", "America/Chicago"),
    "copenhagen": ("DK", "Europe/Copenhagen"),
    "dublin": ("IE", "Europe/Dublin"),
    "edinburgh": ("GB", "Europe/London"),
    "geneva": ("CH", "Europe/Zurich"),
    "hong-kong": ("HK", "Asia/Hong_Kong"),
    "istanbul": ("TR", "Europe/Istanbul"),
    "lisbon": ("PT", "Europe/Lisbon"),
    "london": ("GB", "Europe/London"),
    "los-angeles": ("US", "America/Los_Angeles"),
    "madrid": ("ES", "Europe/Madrid"),
    "melbourne": ("AU", "Australia/Melbourne"),
    "mexico-city": ("MX", "America/Mexico_City"),
    "milan": ("IT", "Europe/Rome"),
    "montreal": ("CA", "America/Toronto"),
    "new-york": ("US", "America/New_York"),
    "oslo": ("NO", "Europe/Oslo"),
    "paris": ("FR", "Europe/Paris"),
    "prague": ("CZ", "Europe/Prague"),
    "rio-de-janeiro": ("BR", "America/Sao_Paulo"),
    "rome": ("IT", "Europe/Rome"),
    "san-francisco": ("US", "America/Los_Angeles"),
    "seattle": ("US", "America/Los_Angeles"),
    "singapore": ("SG", "Asia/Singapore"),
    "stockholm": ("SE", "Europe/Stockholm"),
    "sydney": ("AU", "Australia/Sydney"),
    "taipei": ("TW", "Asia/Taipei"),
    "tokyo": ("JP", "Asia/Tokyo"),
    "toronto": ("CA", "America/Toronto"),
    "vancouver": ("CA", "America/Vancouver"),
    "victoria": ("CA", "America/Vancouver"),
    "vienna": ("AT", "Europe/Vienna"),
    "washington": ("US", "America/New_York"),
    "zurich": ("CH", "Europe/Zurich"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A city with what its homes need: its slug names the import, its country and time zone go on every home."""

    name: str
    slug: str
    country: str
    time_zone: str


def place(*, city: str, country: str | None = None, time_zone: str | None = None) -> Place:
    """The place called `city`. Raises Invalid naming the option that is missing or wrong."""
    name = " ".join(city.split())
    slug = _slug(name)
    if not slug or len(name) > 120:
        raise Invalid("--city: write the name of the city, at most 120 characters.", field="city")
    known = KNOWN.get(slug, (None, None))
    country, time_zone = country or known[0], time_zone or known[1]
    if country is None:
        raise Invalid(f"--country: the country of {name} is not known here; write its two letters.", field="country")
    if not re.fullmatch(r"[A-Z]{2}", country):
        raise Invalid("--country: write two capital letters such as SG (ISO 3166-1).", field="country")
    if time_zone is None:
        raise Invalid(
            f"--time-zone: the time zone of {name} is not known here; write one such as Europe/Paris.",
            field="time_zone",
        )
    if time_zone not in time_zones():
        raise Invalid(f"--time-zone: {time_zone!r} is not an IANA name such as Europe/Paris.", field="time_zone")
    return Place(name=name, slug=slug, country=country, time_zone=time_zone)


def _slug(name: str) -> str:
    """Letters and digits of the name without accents, joined by hyphens; other scripts keep their letters."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(sign))
    return "-".join(re.findall(r"[^\W_]+", plain))[:60]
