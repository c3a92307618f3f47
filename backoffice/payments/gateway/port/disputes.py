"""Chargebacks and the evidence against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol

from backoffice.payments.policies.chargebacks import SeenDispute, SeenFraudWarning


class Disputes(Protocol):
    def dispute(self, *, dispute_id: str) -> SeenDispute:
        """The dispute's present state."""
        ...

    def disputes(self, *, since: datetime) -> Iterator[SeenDispute]:
        """Disputes opened since then, newest first, page by page."""
        ...

    def stage_evidence(self, *, dispute_id: str, evidence: Mapping[str, str], key: str) -> SeenDispute:
        """Lay evidence beside what is there without submitting it; an empty text takes a field back."""
        ...

    def submit_evidence(self, *, dispute_id: str, evidence: Mapping[str, str], key: str) -> SeenDispute:
        """Hand the evidence to the issuer, once and for all."""
        ...

    def accept_dispute(self, *, dispute_id: str, key: str) -> SeenDispute:
        """Give the money up; there is no way back."""
        ...

    def upload_evidence(self, *, name: str, content: bytes, key: str) -> str:
        """Keep a file there for use as evidence; returns its id."""
        ...

    def fraud_warning(self, *, warning_id: str) -> SeenFraudWarning:
        """An early fraud warning's present state."""
        ...
