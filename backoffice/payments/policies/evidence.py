"""Evidence against a chargeback: which fields the provider knows, how much of it, and a first draft of what we know.

Limits are the provider's (docs.stripe.com, disputes): 150,000 characters in all, files of PDF, JPEG or PNG, 4.5 MB of them
together and 5 MB each; one file per field. It is submitted once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from backoffice.core.errors import Invalid
from backoffice.core.words import counted

WORDS: Final[Mapping[str, str]] = {
    "product_description": "What was sold",
    "customer_name": "Guest’s name",
    "customer_email_address": "Guest’s e-mail",
    "customer_purchase_ip": "Address the purchase came from",
    "billing_address": "Billing address",
    "service_date": "Dates of the stay",
    "access_activity_log": "What the guest did, and when",
    "cancellation_policy_disclosure": "How the cancellation policy was shown",
    "cancellation_rebuttal": "Why a cancellation does not entitle to the money",
    "refund_policy_disclosure": "How the refund policy was shown",
    "refund_refusal_explanation": "Why nothing more is refunded",
    "duplicate_charge_explanation": "Why it is no duplicate",
    "duplicate_charge_id": "The charge it is said to duplicate",
    "shipping_address": "Shipping address",
    "shipping_carrier": "Carrier",
    "shipping_date": "Date of shipping",
    "shipping_tracking_number": "Tracking number",
    "uncategorized_text": "Anything else",
}
FILES: Final[Mapping[str, str]] = {
    "receipt": "Receipt",
    "customer_communication": "Messages with the guest",
    "service_documentation": "Proof of the stay",
    "cancellation_policy": "Cancellation policy",
    "refund_policy": "Refund policy",
    "customer_signature": "Guest’s signature",
    "duplicate_charge_documentation": "Proof that it is no duplicate",
    "shipping_documentation": "Proof of shipping",
    "uncategorized_file": "Another document",
}
FIELDS: Final[Mapping[str, str]] = {**WORDS, **FILES}
MOST_CHARACTERS: Final = 150_000
MOST_IN_A_FIELD: Final = 20_000
MOST_BYTES: Final = 5 * 2**20
MOST_BYTES_TOGETHER: Final = 4_500_000
_SIGNATURES: Final = ((b"%PDF-", "PDF"), (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"))


def check_words(evidence: Mapping[str, str]) -> dict[str, str]:
    """The texts without the space around them. Raises Invalid for a field the provider does not know, one that takes a
    file, or a text that is too long for one field."""
    wanted = {field: text.strip() for field, text in evidence.items()}
    for field, text in wanted.items():
        if field in FILES and text:
            raise Invalid(f"{field}: this field takes a file; upload one.", field=field)
        if field not in FIELDS:
            raise Invalid(f"{field}: the provider knows no such field; use one of {', '.join(WORDS)}.", field=field)
        if len(text) > MOST_IN_A_FIELD:
            raise Invalid(
                f"{field}: {len(text):,} characters are too many; write {MOST_IN_A_FIELD:,} at most.", field=field
            )
    return wanted


def check_length(evidence: Mapping[str, str]) -> None:
    """Raises Invalid when all texts together are more than the provider takes."""
    total = sum(len(text) for field, text in evidence.items() if field in WORDS)
    if total > MOST_CHARACTERS:
        raise Invalid(
            f"evidence: {total:,} characters in all are too many; shorten it to {MOST_CHARACTERS:,}.", field="evidence"
        )


def check_file(*, field: str, name: str, content: bytes, others: int) -> str:
    """What kind of file it is, by its first bytes. Raises Invalid with the remedy; `others` are the bytes of the files
    in the other fields."""
    if field not in FILES:
        raise Invalid(f"field: no file goes there; use one of {', '.join(FILES)}.", field="field")
    if not content:
        raise Invalid(f"file: {name or 'it'} is empty; choose another.", field="file")
    kind = next((kind for signature, kind in _SIGNATURES if content.startswith(signature)), None)
    if kind is None:
        raise Invalid(f"file: {name or 'it'} is no PDF, JPEG or PNG; save it as a PDF.", field="file")
    if len(content) > MOST_BYTES:
        raise Invalid("file: it is larger than 5 MB; make it smaller.", field="file")
    if len(content) + others > MOST_BYTES_TOGETHER:
        left = max(0, MOST_BYTES_TOGETHER - others)
        raise Invalid(
            f"file: all files together may have 4.5 MB, and {left / 1e6:.1f} MB are left; make it smaller.",
            field="file",
        )
    return kind


def digest(content: bytes) -> str:
    """SHA-256, by which a file can be told from every other."""
    return hashlib.sha256(content).hexdigest()


# The first draft -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened, at an instant (UTC)."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What we know of a disputed stay. Amounts are as they are read, `policy` the cancellation policy in words."""

    booking: str
    listing: str
    city: str
    host: str
    guest: str
    email: str
    check_in: date
    check_out: date
    guests: int
    booked_at: datetime
    policy: str
    receipt: Sequence[tuple[str, str]]
    total: str
    steps: Sequence[Step]
    cancelled: str = ""
    refunded: str = ""


def draft(*, known: Known) -> dict[str, str]:
    """A first draft of the evidence from what the desk knows; a person reads and completes it before it is submitted."""
    nights = (known.check_out - known.check_in).days
    stay = f"{known.check_in.isoformat()} to {known.check_out.isoformat()}"
    shown = f"shown before payment and accepted with booking {known.booking} on {known.booked_at:%Y-%m-%d %H:%M} UTC"
    found = {
        "product_description": (
            f"Short stay: {known.listing}, {known.city}, hosted by {known.host}. {counted(nights, 'night')} from {stay} for "
            f"{counted(known.guests, 'guest')}, booking {known.booking}, {known.total}."
        ),
        "customer_name": known.guest,
        "customer_email_address": known.email,
        "service_date": stay,
        "access_activity_log": "\n".join(f"{step.at:%Y-%m-%d %H:%M} UTC: {step.what}" for step in known.steps),
        "cancellation_policy_disclosure": f"The cancellation policy was {shown}.\n{known.policy}",
        "cancellation_rebuttal": known.cancelled
        or f"The guest did not cancel booking {known.booking}; the nights were kept for them and for nobody else.",
        "refund_policy_disclosure": f"What is refunded follows the cancellation policy, {shown}.\n{known.policy}",
        "refund_refusal_explanation": (
            f"Refunded so far: {known.refunded}. By the policy the guest accepted, nothing more is owed."
            if known.refunded
            else "By the policy the guest accepted, nothing is to be refunded."
        ),
        "uncategorized_text": "Receipt of booking {}\n{}\nTotal: {}".format(
            known.booking, "\n".join(f"{label}: {amount}" for label, amount in known.receipt), known.total
        ),
    }
    return {field: text for field, text in found.items() if text}
