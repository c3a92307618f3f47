"""What happens to payments, refunds, the provider's movements and its webhooks. Nothing here calls the provider."""

from backoffice.payments.operations.attempts import (
    abandon_attempt,
    begin_attempt,
    lock_payment,
    lose_sight_of_attempt,
    record_payment,
    touch,
)
from backoffice.payments.operations.inbox import (
    claim_event,
    finish_event,
    receive_event,
    replay_webhook,
)
from backoffice.payments.operations.refunds import (
    approve_refund,
    cancel_refund,
    check_second_person,
    claim_refund,
    fail_refund,
    lose_sight_of_refund,
    open_refund,
    record_refund,
    reject_refund,
)
from backoffice.payments.operations.repayments import note_repayment, request_repayment, settle_repayment
from backoffice.payments.operations.transactions import (
    import_transactions,
)

__all__ = [
    "abandon_attempt",
    "approve_refund",
    "begin_attempt",
    "cancel_refund",
    "check_second_person",
    "claim_event",
    "claim_refund",
    "fail_refund",
    "finish_event",
    "import_transactions",
    "lock_payment",
    "lose_sight_of_attempt",
    "lose_sight_of_refund",
    "note_repayment",
    "open_refund",
    "receive_event",
    "record_payment",
    "record_refund",
    "reject_refund",
    "replay_webhook",
    "request_repayment",
    "settle_repayment",
    "touch",
]
