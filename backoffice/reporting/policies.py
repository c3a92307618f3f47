"""What a reader is told beside the numbers: when money that is on its way may be expected, and what a movement was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

# The provider: a refund is on a statement 5 to 10 business days after it was sent, depending on the guest's bank
# (https://docs.stripe.com/refunds).
REFUND_ARRIVES_AFTER: Final = (5, 10)

# What a movement of a host's account was, by the kind of its journal.
MOVEMENTS: Final = {
    "release": "Payout became due",
    "conversion": "Converted into the currency that is sent",
    "netting": "Kept for what you owed",
    "transfer": "Sent to your account",
    "bt.transfer_reversal": "Came back from your account",
    "damage-released": "Damage, paid for you",
    "penalty": "Penalty for a cancellation",
    "refund": "Refund to the guest after your payout",
    "dispute-lost": "Chargeback by the guest's bank",
    "clawback": "Taken back from your account",
    "write_off": "Given up by us",
    "host-credit": "Owed back to you, now payable",
    "reversal": "An earlier entry was taken back",
}


@dataclass(frozen=True, slots=True)
class RefundStory:
    """Where a refund stands, in the guest's words; between which days it may be expected, once it was sent."""

    state: str
    sentence: str
    arrives_from: date | None = None
    arrives_by: date | None = None


def movement(kind: str) -> str:
    """A journal's kind in a host's words; one that is not known is named as it is."""
    return MOVEMENTS.get(kind) or kind.replace("_", " ").replace(".", " ").capitalize()


def business_days_after(day: date, days: int) -> date:
    """The `days`-th Monday to Friday after `day`; public holidays are the banks' own."""
    while days:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return day


def refund_story(
    *,
    status: str,
    sent_on: date | None,
    unclaimed: bool,
    repaid: str,
    method: str,
    refused: bool = False,
    by_network: bool = False,
    stopped: str = "",
    disputed: bool = False,
    answered_by: date | None = None,
) -> RefundStory:
    """What a guest is told of one refund. `sent_on` is the day on which the provider took it; `repaid` the status of the
    repayment of one that did not reach them: their bank sent it back, or the provider never sent it (`refused`); `by_network`
    says that their bank has given them this very money since, as they had questioned the payment; `stopped` is why all refunds
    are stopped, while one is not sent yet; `disputed` says that it is theirs and waits for their bank's own questions, which we
    answer by `answered_by`."""
    first, last = (business_days_after(sent_on, days) if sent_on else None for days in REFUND_ARRIVES_AFTER)
    to = "your bank account" if method == "other" else "your card"
    if status == "requested" and disputed:
        answer = f" We answer it by {answered_by:%d %b %Y}." if answered_by is not None else ""
        return RefundStory(
            "waiting",
            "This refund is yours. Your bank is questioning a payment of this booking; we send it as soon as that is settled, "
            f"unless your bank has given you this money by then.{answer}",
        )
    if status == "requested":
        return RefundStory("waiting", "We are looking at this refund; you will hear from us.")
    if status == "approved" and stopped:
        return RefundStory(
            "waiting",
            f"This refund is yours. All refunds are stopped for now: {stopped}. It is sent as soon as they go on.",
        )
    if status in {"approved", "submitted", "indeterminate"}:
        return RefundStory("on_its_way", f"This refund is on its way to {to}.", first, last)
    if status == "succeeded":
        return RefundStory("sent", f"This refund was sent to {to}; banks take 5 to 10 business days.", first, last)
    what = "This refund could not be sent to your card" if refused else "Your bank sent this refund back"
    if unclaimed and by_network:
        return RefundStory(
            "sent", f"{what}. Your bank has given you this money since, as you had questioned the payment."
        )
    if unclaimed and repaid == "succeeded":
        return RefundStory("sent", f"{what}; it was paid to you another way.")
    if unclaimed and repaid and repaid != "failed":
        return RefundStory("returned", f"{what}; it is being paid to you another way.")
    if unclaimed:
        return RefundStory("returned", f"{what}; write to us where else we may pay it.")
    if method == "other":
        return RefundStory("returned", "The bank sent this back; write to us where else we may pay it.")
    return RefundStory("failed", "This refund could not be made; nothing was taken from it, and we are on it.")
