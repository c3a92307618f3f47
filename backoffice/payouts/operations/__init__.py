"""What happens to hosts' accounts, payouts and what is kept or taken back. Nothing here calls the provider."""

from backoffice.payouts.operations.accounts import (
    approve_bank,
    ask_for_account,
    begin_account,
    record_account,
    refuse_account,
    was_not_asked,
)
from backoffice.payouts.operations.bank_payouts import (
    claim_sweep,
    lose_sight_of_sweep,
    note_followed,
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
from backoffice.payouts.operations.credits import pay_credit
from backoffice.payouts.operations.damages import pay_damage
from backoffice.payouts.operations.holds import check_lifter, expire_hold, extend_hold, lift_hold, place_hold
from backoffice.payouts.operations.release import release
from backoffice.payouts.operations.schedule import schedule
from backoffice.payouts.operations.transfers import fail_transfer, note_transfer_failure, record_transfer
from backoffice.payouts.operations.write_offs import check_write_off_decider, decide_write_off, propose_write_off

__all__ = [
    "approve_bank",
    "ask_for_account",
    "begin_account",
    "check_lifter",
    "check_write_off_decider",
    "claim_clawback",
    "claim_sweep",
    "decide_write_off",
    "expire_hold",
    "extend_hold",
    "fail_clawback",
    "fail_transfer",
    "lift_hold",
    "lose_sight_of_clawback",
    "lose_sight_of_sweep",
    "note_followed",
    "note_transfer_failure",
    "pay_credit",
    "pay_damage",
    "place_hold",
    "propose_write_off",
    "record_account",
    "record_bank_payout",
    "record_clawback",
    "record_transfer",
    "refuse_account",
    "refuse_sweep",
    "release",
    "request_clawback",
    "retry_clawback",
    "schedule",
    "was_not_asked",
]
