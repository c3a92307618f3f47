"""Inside Airbnb's open data of a city as the desk's own listings, nights and reviews (docs/import-inside-airbnb.md)."""

from backoffice.workflows.import_inside_airbnb.journey import JOB, Report, Request, load, size
from backoffice.workflows.import_inside_airbnb.reading import UnusableExport

__all__ = ["JOB", "Report", "Request", "UnusableExport", "load", "size"]
