"""Every worked posting of the chart of accounts, and every one owed besides (DOMAIN.md, ledger), has its golden test: a row
that loses it is named. The golden lines themselves are in test_policies.py."""

from __future__ import annotations

import pytest

from tests.payments import test_policies
from tests.payments.test_policies import WORKED

# Scenario and event -> the worked row that holds its lines, or the story that follows it to its end.
ROWS = {
    "A capture succeeded": "A capture",
    "A charge settles, with its fee": "A charge settles",
    "A release, a day after check-in": "A release",
    "A transfer requested": "A transfer requested",
    "A transfer settles, with the memo legs": "A transfer settles",
    "A connected payout paid": "A, I connected payout paid",
    "A payout to our bank": "A payout",
    "A bank line arrives": "A bank line",
    "A tax remitted": "A tax remitted",
    "B refund before the release": "B refund before the release",
    "B refund settles": "B refund settles",
    "C refund after the release": "C refund after the release",
    "C refund settles": "B refund settles",
    "C transfer reversal requested": "C reversal requested",
    "C transfer reversal settles": "C reversal settles",
    "D host cancels, everything back": "D host cancels: everything back",
    "D penalty, lifted to its floor of 44.75": "D penalty",
    "E chargeback with its fee": "E chargeback",
    "E1 lost after the release, borne by us": "E1 lost after the release, we absorb it",
    "E1 lost after the release, borne by the host": "E1 lost after the release, the host bears it",
    "E1 lost before the release: the held money has gone back": "E1 lost before the release",
    "E2 won": "E2 won",
    "F claim approved": "F claim approved",
    "F captured": "F captured",
    "F released to the host": "F released",
    "F2 not paid, covered by us": "F2 covered",
    "G capture in another currency": "G capture in dollars",
    "G charge settles in ours": "G charge settles in euros",
    "G difference realised": "G difference realised",
    "H transfer failed: liability and memo legs reopen": "H transfer failed",
    "I connected payout returned": "I connected payout returned",
    "K payout failed": "K payout failed",
    "owed: guest cancels with part kept": "test_a_guest_cancels_and_the_kept_part_is_released_after_check_in",
    "owed: penalty netted": "D penalty netted",
    "owed: goodwill": "goodwill",
    "owed: write-off": "write-off",
    "owed: partial capture": "test_a_partial_capture_shows_two_movements_and_clears",
    "owed: countered-dispute fee": "E countered-dispute fee",
    "owed: monthly instalments": "test_monthly_instalments_add_up_and_clear",
    "owed: refund at another rate, 52.80 in and 51.60 out": "test_a_refund_is_converted_at_another_rate_than_the_charge",
    "owed: three currencies at once": "test_three_currencies_at_once",
    "story A to our bank": "test_story_a_ends_with_our_revenue_in_the_bank",
    "story B": "test_story_b_releases_what_remains_after_a_refund",
    "story C": "test_story_c_takes_the_hosts_share_back",
    "story D": "test_story_d_leaves_only_the_penalty",
    "story E": "test_story_e_a_chargeback_clears_whatever_its_outcome",
    "story F": "test_story_f_damage_is_paid_by_the_guest_or_covered_by_us",
    "story G": "test_story_g_settled_in_the_listings_currency",
    "stories H and K": "test_story_h_and_k_failures_reopen_what_was_owed",
}
GOLDEN = {name for name, _, _ in WORKED}


@pytest.mark.parametrize("row", ROWS)
def test_every_worked_posting_has_its_golden_test(row: str) -> None:
    where = ROWS[row]
    if where.startswith("test_"):
        assert callable(getattr(test_policies, where, None)), f"{row}: {where} is gone"
    else:
        assert where in GOLDEN, f"{row}: no worked row {where!r}"


def test_no_golden_row_is_there_twice() -> None:
    """A second one of the same name would hide that the first was changed."""
    names = [name for name, _, _ in WORKED]
    assert len(names) == len(set(names))
