"""Decisions about money: what a payment is made of, how much can go back, and the lines each fact is posted as."""

from backoffice.payments.policies.parts import (
    PART_NAMES,
    Parts,
    PostingKeys,
    RefundLimits,
    RefundTaken,
    captured_parts,
    instalments,
    parts_of_cancellation,
    posting_keys,
    pro_rata,
    refund_limits,
)
from backoffice.payments.policies.postings import (
    Lines,
    LossBearer,
    bank_line,
    captured,
    connected_payout_paid,
    connected_payout_returned,
    damage_approved,
    damage_captured,
    damage_covered,
    damage_released,
    dispute_lost_after_release,
    dispute_lost_before_release,
    goodwill,
    netted,
    penalised,
    refunded,
    release_due_at,
    released,
    released_converted,
    repaid,
    reversal_requested,
    tax_remitted,
    transfer_requested,
    written_off,
)
from backoffice.payments.policies.provider import (
    KNOWN_CATEGORIES,
    BalanceTransactionFacts,
    balance_transaction,
    fx_realised,
)

__all__ = (
    "KNOWN_CATEGORIES PART_NAMES BalanceTransactionFacts Lines LossBearer Parts PostingKeys RefundLimits "
    "RefundTaken balance_transaction bank_line captured captured_parts connected_payout_paid "
    "connected_payout_returned damage_approved damage_captured damage_covered damage_released "
    "dispute_lost_after_release dispute_lost_before_release fx_realised goodwill instalments netted "
    "parts_of_cancellation penalised posting_keys pro_rata refund_limits refunded release_due_at released "
    "released_converted repaid reversal_requested tax_remitted transfer_requested written_off"
).split()
