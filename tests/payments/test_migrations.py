"""What a migration makes of the rows that were there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps

from backoffice.payments.models import Payment, Refund
from tests import factories

pytestmark = pytest.mark.django_db


def refund(payment: Payment, key: str, cause: str, status: str) -> Refund:
    parts = dict.fromkeys(("held", "host_fee", "guest_fee", "vat", "occupancy_tax"), 0)
    return Refund.objects.create(
        payment=payment, status=status, amount=100, currency="EUR", **parts, cause=cause, idempotency_key=key,
        request_hash="", requested_at=factories.NOW,
    )  # fmt: skip


def migrated() -> None:
    schema: Any = None  # neither touches it
    import_module("backoffice.payments.migrations.0018_refund_by_rule").by_their_keys(apps, schema)
    import_module("backoffice.payments.migrations.0019_guests_cancellations_by_rule").those_under_way(apps, schema)


@pytest.mark.parametrize(
    ("key", "cause", "status", "by_rule"),
    [
        ("late-capture:PY-1", "late_capture", "failed", True),
        ("late-charge:EC-1:again-1", "late_capture", "requested", True),
        ("cancel:BK-1:2", "host_cancellation", "cancelled", True),
        ("cancel:BK-1", "guest_cancellation", "submitted", True),
        # What was left to people then is theirs.
        ("cancel:BK-1", "guest_cancellation", "failed", False),
        ("cancel:BK-1", "guest_cancellation", "cancelled", False),
        # A key that somebody chose.
        ("late-capture:PY-1", "goodwill", "approved", False),
        ("cancel:BK-1", "service_issue", "approved", False),
        ("ops:cancel:BK-1", "host_cancellation", "approved", False),
    ],
)
def test_what_was_owed_by_rule_is_so_from_now_on(key: str, cause: str, status: str, by_rule: bool) -> None:
    booking = factories.booking(now=factories.NOW)
    parts = dict.fromkeys(("held", "host_fee", "guest_fee", "vat", "occupancy_tax"), 0)
    payment = Payment.objects.create(booking=booking, amount=100, currency="EUR", **parts, created_at=factories.NOW)
    row = refund(payment, key, cause, status)
    migrated()
    row.refresh_from_db()
    assert row.by_rule is by_rule
