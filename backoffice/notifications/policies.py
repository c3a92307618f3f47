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
_CHARGEBACK: Final = "/console/payments/chargeback/{chargeback}/"
_REFUND: Final = "/console/payments/refund/{refund}/"

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
        "request_sent": Words(
            "We asked the host of {listing}",
            "The host of {listing}, {city}, is asked about {check_in} to {check_out} and answers by {answer_by}. Until "
            "then nothing is charged: {total} is only reserved. Your request is {booking}.",
            _BOOKING,
        ),
        "request_received": Words(
            "{guest} asks for {listing}, {check_in} to {check_out}",
            "Say yes or no to request {booking} by {answer_by}; afterwards it expires and the nights are free again.",
            _BOOKING,
        ),
        "request_declined": Words(
            "Your request for {listing} was declined",
            "The host of {listing} cannot take you from {check_in} to {check_out}: {reason} Nothing was charged; what "
            "was reserved is let go, which banks show within a few days.",
            _BOOKING,
        ),
        "request_expired": Words(
            "Request {booking} for {listing} has ended",
            "The request for {listing}, {check_in} to {check_out}, has ended: {why} Nothing was charged, and the nights "
            "are free again.",
            _BOOKING,
        ),
        "card_saved": Words(
            "Your card will be charged {amount} on {charge_on}",
            "Nothing was charged for booking {booking} of {listing} yet. We charge your card {amount} on {charge_on}; "
            "cancel before that day and it costs you nothing.",
            _BOOKING,
        ),
        "charge_failed": Words(
            "Pay {amount} for booking {booking} by {pay_by}",
            "Your card was not charged {amount} for booking {booking} of {listing}: {reason} Pay with this or another "
            "card by {pay_by}; otherwise {otherwise}.",
            _BOOKING,
        ),
        "charge_received": Words(
            "We received {amount} for booking {booking}",
            "{amount} for booking {booking} of {listing} was charged to your card: {what}.",
            _BOOKING,
        ),
        "booking_unpaid": Words(
            "Cancelled unpaid: {listing}, {check_in} to {check_out}",
            "{amount} for booking {booking} of {listing} was not paid by {pay_by}, so the booking ends: {consequence}.",
            _BOOKING,
        ),
        "instalment_unpaid": Words(
            "{amount} for booking {booking} was not paid",
            "{amount} for booking {booking} of {listing}, {check_in} to {check_out}, was not paid by {pay_by}. The stay is "
            "over: it is not charged any more, and the host receives what was paid.",
            _BOOKING,
        ),
        "stay_unpaid": Words(
            "{amount} for booking {booking} was not paid",
            "{amount} for booking {booking} of {listing}, {check_in} to {check_out}, was not paid by {pay_by}. The stay is over: "
            "the card is not charged any more, and the host is not paid for it. What is paid all the same goes back.",
            _BOOKING,
        ),
        "stay_unpaid_staff": Words(
            "{booking} was stayed and never paid: {amount}",
            "The saved card for booking {booking} of {listing}, {check_in} to {check_out}, was not charged by {pay_by}, and the "
            "stay was over by then. It was given up: the guest is asked for nothing more, and nothing is owed to the host. "
            "Look at the payment, and write to both if you agree on something else.",
            "/console/payments/payment/{payment}/",
        ),
        "damage_requested": Words(
            "{amount} is asked of you for damage at {listing}",
            "For your stay {booking} the host asks {amount}: {reason} Unless you answer us by {answer_by}, the card you "
            "paid with is charged then.",
            _BOOKING,
        ),
        "damage_rejected": Words(
            "Nothing is charged for damage at {listing}",
            "The {amount} that was asked for your stay {booking} is not asked for any more. {reason} Nothing was charged.",
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
            "Your payment for {listing}, {check_in} to {check_out}, arrived too late: the booking had ended, and we did not "
            "wait for it any more. We return {total} in full; banks take up to ten days.",
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
            "We could not bring you the refund of {amount} for booking {booking}. The money is still yours: "
            "we will write to you about another way to return it. Its number is {refund}.",
            _BOOKING,
        ),
        "refund_stands_aside": Words(
            "{refund} of {amount} did not reach its guest",
            "The refund of {amount} for booking {booking} could not be paid to the card: {reason} The money stands aside for the "
            "guest. Ask them where it is to go; two of finance then pay it another way.",
            _REFUND,
        ),
        "refund_waits": Words(
            "Your refund of {amount} waits for your bank",
            "{amount} that you paid for booking {booking} is yours. Your bank is questioning a payment of this "
            "booking; we send the refund as soon as that is settled, unless your bank has given you this very money by then. "
            "Its number is {refund}.",
            _BOOKING,
        ),
        "refund_stopped": Words(
            "Your refund of {amount} is with your bank",
            "Your bank has taken back the payment for booking {booking} because you questioned it there, so we do not send "
            "the refund of {amount} as well: it would be paid twice. Ask your bank about the money. Its number was {refund}.",
            _BOOKING,
        ),
        "chargeback_opened": Words(
            "{kind} {chargeback} of {amount}: answer by {internal_due}",
            "The card network sent {kind} {chargeback} of {amount} for booking {booking}, reason: {reason}. "
            "Answer it by {internal_due}; the provider takes evidence until {due_by}.",
            _CHARGEBACK,
        ),
        "chargeback_due": Words(
            "{chargeback} of {amount} is not answered yet",
            "Our own deadline for {chargeback}, booking {booking}, has passed. The provider takes evidence until {due_by}; "
            "after that {amount} is lost. Submit the evidence, or accept it.",
            _CHARGEBACK,
        ),
        "appeal_opened": Words(
            "{chargeback} of {amount} is in appeal: answer by {internal_due}",
            "The appeal of {chargeback}, booking {booking}, needs an answer; the provider’s date is {due_by}. Answer it on the "
            "provider’s own pages ({link}), which alone take an appeal.",
            _CHARGEBACK,
        ),
        "appeal_due": Words(
            "The appeal of {chargeback}, {amount}, is not answered yet",
            "Our own deadline for the appeal of {chargeback}, booking {booking}, has passed; the provider’s date is {due_by}. "
            "Answer it on the provider’s own pages ({link}), which alone take an appeal.",
            _CHARGEBACK,
        ),
        "chargeback_closed": Words(
            "{chargeback} of {amount}: {status}",
            "{kind} {chargeback} of {amount} for booking {booking} has ended: {status}.",
            _CHARGEBACK,
        ),
        "fraud_warning": Words(
            "The card’s bank suspects fraud: booking {booking}",
            "The bank of the card that paid {amount} for booking {booking} reports it as possible fraud ({reason}). "
            "A refund now may avoid a chargeback and its fee; nothing was done yet.",
            "/console/payments/payment/{payment}/",
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
        "payout_sent": Words(
            "{amount} is on its way to you for booking {booking}",
            "We sent {amount} to your account at the payment provider for {listing}, booking {booking} (payout {payout}). "
            "It goes to your bank from there by itself.",
        ),
        "payout_failed": Words(
            "Your payout of {amount} for booking {booking} was refused",
            "The payment provider refused to take {amount} for {listing}, booking {booking} (payout {payout}): {reason} The "
            "money is kept for you and is sent again by itself; check your payout settings meanwhile.",
        ),
        "payout_held": Words(
            "Part of what you earned with booking {booking} waits",
            "We keep back {amount} of booking {booking}, {listing}, until {until} at the latest: {reason} The rest is paid as "
            "planned.",
        ),
        "bank_payout_failed": Words(
            "Your bank sent {amount} back",
            "The payout of {amount} did not reach your bank: {reason} The money is kept for you. "
            "Check your bank details in your payout settings; it is sent again by itself.",
        ),
        "payout_owed_back": Words(
            "We owe you {amount} back for booking {booking}",
            "You paid {amount} for a debt from booking {booking} that is none after all. It is sent to you with payout {payout}, "
            "less anything else you owe us.",
            _BOOKING,
        ),
        "payout_taken_back": Words(
            "We took {amount} back from your payout {payout}",
            "The reason given: {reason} You owed us {amount}, and no payout was due to keep it from, so we took it back "
            "from payout {payout} of booking {booking}.",
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
