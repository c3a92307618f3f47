"""What is said, in which words, and how often sending is tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from string import Formatter
from typing import Final

from backoffice.core.errors import Invalid

# The first attempt is at once; then after 1, 2, 4 … 64 minutes: a mail server may be away for two hours.
MOST_ATTEMPTS: Final = 8
FIRST_PAUSE: Final = timedelta(minutes=1)

# A task for our own workers is never given up, since the business waits for it; the broker comes back.
TASK_PAUSE: Final = timedelta(seconds=30)

# Whoever claimed a message and said nothing for this long has died; somebody else may send it.
LEASE: Final = timedelta(seconds=60)

# A hint that takes longer than this is taken to be lost.
HINT_LOST_AFTER: Final = timedelta(seconds=10)

ERROR_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class Words:
    """One topic in one language. Fields in braces are given by the caller, amounts and dates as they are read."""

    subject: str
    text: str
    link: str = ""

    @property
    def fields(self) -> frozenset[str]:
        """What the caller must give."""
        parts = (self.subject, self.text, self.link)
        return frozenset(name for part in parts for _, name, _, _ in Formatter().parse(part) if name)


@dataclass(frozen=True, slots=True)
class Message:
    """What one person is told: the same words by e-mail and in the application."""

    subject: str
    text: str
    body: str
    link: str


_BOOKING: Final = "/api/v1/bookings/{booking}"

TOPICS: Final[Mapping[str, Mapping[str, Words]]] = {
    "en": {
        "welcome": Words("Welcome to Staydesk", "Your account is ready. Search for a home, or list your own."),
        "booking_created": Words(
            "Pay to keep your stay at {listing}",
            "We hold {listing}, {city}, for you from {check_in} to {check_out} until {pay_until}. "
            "Pay {total} by then, and the stay is yours. Your booking is {booking}.",
            _BOOKING,
        ),
        "booking_confirmed": Words(
            "Confirmed: {listing}, {check_in} to {check_out}",
            "Booking {booking} is confirmed: {listing}, {city}, from {check_in} to {check_out}.",
            _BOOKING,
        ),
        "booking_cancelled": Words(
            "Cancelled: {listing}, {check_in} to {check_out}",
            "Booking {booking} of {listing}, {check_in} to {check_out}, was cancelled by the {by}. "
            "The guest gets {refund} back.",
            _BOOKING,
        ),
        "hold_expired": Words(
            "Your booking of {listing} has expired",
            "No payment arrived in time for booking {booking}, {check_in} to {check_out}, so the nights are free again. "
            "If they still are, you can book them anew.",
            _BOOKING,
        ),
        "payment_received": Words(
            "We received {total} for booking {booking}",
            "Your payment of {total} for {listing}, {check_in} to {check_out}, has arrived.",
            _BOOKING,
        ),
        "payment_failed": Words(
            "Your payment for booking {booking} did not go through",
            "Your bank did not accept the payment of {amount} for booking {booking}: {reason} "
            "Nothing was charged. Try again or use another card while the booking is held.",
            _BOOKING,
        ),
        "late_capture_refunded": Words(
            "We are returning your payment for booking {booking}",
            "Your payment for {listing}, {check_in} to {check_out}, arrived after the booking had ended and the nights "
            "were given away. We return {total} in full; banks take up to ten days.",
            _BOOKING,
        ),
        "refund_approved": Words(
            "Your refund of {amount} is approved",
            "The refund of {amount} for booking {booking} is on its way; banks take up to ten days. "
            "Its number is {refund}.",
            _BOOKING,
        ),
        "refund_succeeded": Words(
            "Your refund of {amount} was sent",
            "We have returned {amount} for booking {booking}; banks take up to ten days to show it. "
            "Its number is {refund}.",
            _BOOKING,
        ),
        "refund_failed": Words(
            "Your refund of {amount} needs another way",
            "Your bank did not accept the refund of {amount} for booking {booking}. The money is still yours: "
            "we will write to you about another way to return it. Its number is {refund}.",
            _BOOKING,
        ),
        "payouts_enabled": Words(
            "You can be paid now",
            "The payment provider has all it asked of you. What you earn is sent to your bank from now on.",
        ),
        "payouts_restricted": Words(
            "Your payouts wait: the payment provider needs something of you",
            "The payment provider cannot pay you at the moment. Open your payout settings to see what it asks for; "
            "what you earn is kept for you until then.",
        ),
        "bank_details_changed": Words(
            "Your bank details were changed",
            "Payouts will go to {bank} from now on. For your safety nothing is sent there during the first {hours} hours, "
            "and our finance team looks at the change. If this was not you, write to us at once.",
        ),
        "bank_payout_failed": Words(
            "Your bank sent {amount} back",
            "The payout of {amount} did not reach your bank: {reason} The money is kept for you. "
            "Check your bank details in your payout settings; it is sent again by itself.",
        ),
        "payout_taken_back": Words(
            "We took {amount} back from your payout {payout}",
            "You owed us {amount}, and no payout was due to keep it from, so we took it back from payout {payout} of "
            "booking {booking}. The reason: {reason}",
            _BOOKING,
        ),
    }
}


def write(*, topic: str, context: Mapping[str, str], language: str = "en") -> Message:
    """Put a topic into words; a language without it falls back to English.

    Raises Invalid for an unknown topic or a field that is not given: errors of the calling code."""
    words = TOPICS.get(language, {}).get(topic) or TOPICS["en"].get(topic)
    if words is None:
        raise Invalid(f"topic: there are no words for {topic!r}.", field="topic")
    missing = sorted(words.fields - set(context))
    if missing:
        raise Invalid(f"context: {topic} also needs {', '.join(missing)}.", field="context")
    text = words.text.format_map(context)
    name = context.get("name", "")
    return Message(
        subject=" ".join(words.subject.format_map(context).split()),  # a subject is one line, whatever a title holds
        text=text,
        body=f"Hello{' ' + name if name else ''},\n\n{text}\n\nStaydesk\n",
        link=words.link.format_map(context),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message that could not be sent: the action of the state table, and when to try again."""

    action: str
    next_attempt_at: datetime


def after_failure(*, channel: str, attempts: int, now: datetime) -> Verdict:
    """Decide after the `attempts`-th failure."""
    if channel == "task":
        return Verdict("fail", now + TASK_PAUSE)
    if attempts >= MOST_ATTEMPTS:
        return Verdict("give_up", now)
    return Verdict("fail", now + FIRST_PAUSE * 2 ** (attempts - 1))
