"""The lives of payments, refunds and webhooks (DOMAIN.md, statuses)."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

PAYMENT: Final = StateTable(
    kind="payment",
    statuses=(
        "requires_payment",
        "requires_action",
        "processing",
        "authorised",
        "captured",
        "failed",
        "cancelled",
    ),
    steps={
        "attempt": {"requires_payment": "processing", "requires_action": "processing", "failed": "processing"},
        "ask_guest": {"processing": "requires_action", "requires_payment": "requires_action"},
        "authorise": {"processing": "authorised", "requires_action": "authorised", "requires_payment": "authorised"},
        "capture": {
            "requires_payment": "captured",
            "requires_action": "captured",
            "processing": "captured",
            "authorised": "captured",
            "failed": "captured",
            "cancelled": "captured",
        },
        "decline": {"processing": "requires_payment", "requires_action": "requires_payment"},
        # The card was made ready to be charged later; nothing has been paid.
        "save": {"processing": "requires_payment", "requires_action": "requires_payment"},
        "fail": {"processing": "failed", "requires_action": "failed", "requires_payment": "failed"},
        "cancel": {
            "requires_payment": "cancelled",
            "requires_action": "cancelled",
            "processing": "cancelled",
            "authorised": "cancelled",
            "failed": "cancelled",
        },
    },
)

ATTEMPT: Final = StateTable(
    kind="attempt",
    statuses=("submitted", "requires_action", "succeeded", "declined", "indeterminate"),
    steps={
        "ask_guest": {"submitted": "requires_action", "indeterminate": "requires_action"},
        "succeed": {
            "submitted": "succeeded",
            "requires_action": "succeeded",
            "indeterminate": "succeeded",
        },
        "decline": {"submitted": "declined", "requires_action": "declined", "indeterminate": "declined"},
        "lose_sight": {"submitted": "indeterminate"},
    },
)

CHARGE_KINDS: Final = ("instalment", "damage")
CHARGE: Final = StateTable(
    kind="extra charge",
    statuses=(
        "requested",
        "scheduled",
        "submitted",
        "indeterminate",
        "requires_action",
        "captured",
        "failed",
        "covered",
        "cancelled",
    ),
    steps={
        "approve": {"requested": "scheduled"},
        "reject": {"requested": "cancelled"},
        "submit": {
            "scheduled": "submitted",
            "failed": "submitted",
            "requires_action": "submitted",
            "indeterminate": "submitted",
        },
        "lose_sight": {"submitted": "indeterminate"},
        "ask_guest": {"submitted": "requires_action", "indeterminate": "requires_action", "failed": "requires_action"},
        "capture": {
            "submitted": "captured",
            "indeterminate": "captured",
            "requires_action": "captured",
            "failed": "captured",
            # Too late: it goes back.
            "cancelled": "captured",
            "covered": "captured",
        },
        "fail": {"submitted": "failed", "indeterminate": "failed", "requires_action": "failed"},
        # Nobody decides over damage while its guest is at a page of their bank, where they may pay at any moment: the page
        # is given up by the next try.
        "cover": {"failed": "covered"},
        "cancel": {"requested": "cancelled", "scheduled": "cancelled", "failed": "cancelled"},
        # An instalment whose stay has ended; one that is with the provider only when nothing came of that.
        "lapse": {
            "scheduled": "cancelled",
            "failed": "cancelled",
            "requires_action": "cancelled",
            "submitted": "cancelled",
            "indeterminate": "cancelled",
        },
    },
)

REFUND: Final = StateTable(
    kind="refund",
    statuses=(
        "requested",
        "approved",
        "submitted",
        "indeterminate",
        "succeeded",
        "failed",
        "rejected",
        "cancelled",
    ),
    steps={
        "approve": {"requested": "approved"},
        "reject": {"requested": "rejected"},
        "cancel": {"requested": "cancelled", "approved": "cancelled"},
        "submit": {"approved": "submitted", "indeterminate": "submitted"},
        "lose_sight": {"submitted": "indeterminate"},
        "succeed": {"submitted": "succeeded", "indeterminate": "succeeded"},
        "fail": {"submitted": "failed", "indeterminate": "failed", "succeeded": "failed"},
    },
)
# A refund in one of these takes away from what can still be refunded.
REFUND_COUNTS: Final = ("requested", "approved", "submitted", "indeterminate", "succeeded")
# Between the key of a refund that is owed by rule and the number of a further try to give the same.
REFUND_AGAIN: Final = ":again-"
# After the code of a person's request: the key of what goes back by rule where that comes to nothing.
REFUND_INSTEAD: Final = ":instead"
# It has been asked for, and may still come to nothing.
REFUND_UNDER_WAY: Final = ("requested", "approved", "submitted", "indeterminate")
# A refund paid another way that was approved, and that the bank did not carry out or sent back.
REPAYMENT_GIVEN_UP: Final = ("cancelled", "failed")

REFUND_CAUSES: Final = (
    "guest_cancellation",
    "host_cancellation",
    "staff_cancellation",
    "late_capture",
    "service_issue",
    "goodwill",
    "duplicate",
)
BEARERS: Final = ("host", "platform")
REFUND_METHODS: Final = ("card", "other")
# What a refund that is owed by rule may wait for, requested, before it is approved by itself.
REFUND_WAITS: Final = ("chargeback",)

WEBHOOK: Final = StateTable(
    kind="webhook",
    statuses=("received", "applied", "ignored", "failed", "dead"),
    steps={
        "apply": {"received": "applied", "failed": "applied", "dead": "applied"},
        "ignore": {"received": "ignored", "failed": "ignored", "dead": "ignored"},
        "fail": {"received": "failed", "failed": "failed", "dead": "failed"},
        "give_up": {"failed": "dead", "received": "dead"},
        "replay": {"applied": "received", "ignored": "received", "failed": "received", "dead": "received"},
    },
)

# A chargeback's status is the provider's own word (see `policies/chargebacks.py`); only these are ours.
CHARGEBACK_KINDS: Final = ("inquiry", "chargeback")
LOSS_BEARERS: Final = ("platform", "host")
