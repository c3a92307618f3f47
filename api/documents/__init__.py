"""Documents that people keep: the same answers as the API's JSON, as PDF and CSV."""

from __future__ import annotations

from api.documents.receipt import CHARGED, receipt_pdf
from api.documents.renderers import Csv, Pdf, Problem, attached
from api.documents.statement import statement_csv, statement_pdf

__all__ = ["CHARGED", "Csv", "Pdf", "Problem", "attached", "receipt_pdf", "statement_csv", "statement_pdf"]
