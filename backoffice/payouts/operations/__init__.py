"""What happens to hosts' accounts, payouts and what is kept or taken back. Nothing here calls the provider."""

from backoffice.payouts.operations.accounts import approve_bank, begin_account, record_account
from backoffice.payouts.operations.bank_payouts import (
    claim_sweep,
    lose_sight_of_sweep,
    record_bank_payout,
    refuse_sweep,
)
from backoffice.payouts.operations.clawbacks import (
    claim_clawback,
    fail_clawback,
    lose_sight_of_clawback,
    record_clawback,
    request_clawback,
    retry_clawback,
)
from backoffice.payouts.operations.write_offs import check_write_off_decider, decide_write_off, propose_write_off

__all__ = [
    "approve_bank",
    "begin_account",
    "check_write_off_decider",
    "claim_clawback",
    "claim_sweep",
    "decide_write_off",
    "fail_clawback",
    "lose_sight_of_clawback",
    "lose_sight_of_sweep",
    "propose_write_off",
    "record_account",
    "record_bank_payout",
    "record_clawback",
    "refuse_sweep",
    "request_clawback",
    "retry_clawback",
]
