"""The worked postings of the ledger, line by line, and what must hold for every posting."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.bookings.policies import CancellationFacts, Override, PricingFacts, decide_cancellation, price_stay
from backoffice.core.errors import Invalid, RefundTooLarge
from backoffice.core.money import Money
from backoffice.core.stays import Stay, instant
from backoffice.ledger.policies import parse_chart
from backoffice.payments import policies as rules
from backoffice.payments.policies import BalanceTransactionFacts, Lines, Parts, RefundTaken
from backoffice.rulebook.policies import ExchangeRate, parse_policy

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures" / "policies"
CHART = parse_chart(json.loads((ROOT / "fixtures" / "chart_of_accounts.json").read_text()))
KEYS = rules.posting_keys(booking="BK-1", host="H1", country="BE", jurisdiction="BE-DEMO", check_in=date(2026, 7, 10))
TAX, VAT = "BE-DEMO:2026-07", "BE:2026-07"
# Booking A: 420.00 + 19.50 tax + 50.00 guest fee + 10.50 VAT = 500.00; host fee 12.60.
A = Parts.of(
    currency="EUR",
    amounts={"held": 40_740, "host_fee": 1_260, "guest_fee": 5_000, "vat": 1_050, "occupancy_tax": 1_950},
)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def usd(amount: int) -> Money:
    return Money(amount, "USD")


def bt(category: str, amount: Money, *, fee: int = 0, source: str = "", **more: Any) -> Lines:
    fees = Money(fee, amount.currency)
    return rules.balance_transaction(
        facts=BalanceTransactionFacts(
            **{
                "id": "txn_1",
                "type": category,
                "reporting_category": category,
                "source": source,
                "amount": amount,
                "fee": fees,
                "net": amount - fees,
                **more,
            }
        )
    )


def capture_a() -> Lines:
    return rules.captured(charge="ch_1", charged=eur(50_000), parts=A, keys=KEYS)


def refunded(
    refund: str,
    amount: Money,
    parts: Parts,
    *,
    charge: str = "ch_1",
    released: bool = False,
    share: Money | None = None,
) -> Lines:
    """A refund as it is posted: from what is still held, the rest from the host and our revenue. Taxes are held until they
    are remitted, whatever was released."""
    ours = share or Money.zero(parts.currency)
    taxes = {"vat": parts.vat.amount, "occupancy_tax": parts.occupancy_tax.amount}
    held = Parts.of(currency=parts.currency, amounts=taxes) if released else parts
    origin = rules.refund_origin(amount=amount, parts=parts, held=held, share=ours, settled="EUR", rate=None)
    return rules.refunded(
        refund=refund,
        amount=amount,
        held=origin.held,
        released=origin.released,
        of_released=origin.of_released,
        keys=KEYS,
        charge=charge,
        platform_share=origin.share,
    )


def refund_100(*, released: bool, refund: str = "RF-1") -> Lines:
    return refunded(refund, eur(10_000), rules.pro_rata(remaining=A, amount=eur(10_000)), released=released)


def text(lines: Iterable[Any]) -> list[str]:
    """Lines as a table: account, key, amount in minor units (credits negative), currency when it is not EUR."""
    return [
        " ".join(
            part
            for part in (line.account, line.key, str(line.amount), "" if line.currency == "EUR" else line.currency)
            if part
        )
        for line in lines
    ]


WORKED: list[tuple[str, Lines, list[str]]] = [
    (
        "A capture",
        capture_a(),
        [
            "1150 ch_1 50000",
            "2100 BK-1 -40740",
            "2110 BK-1 -5000",
            "2111 BK-1 -1260",
            f"2310 {VAT} -1050",
            f"2300 {TAX} -1950",
        ],
    ),
    (
        "A charge settles",
        bt("charge", eur(50_000), fee=775, source="ch_1"),
        ["1100 stripe 49225", "5100 775", "1150 ch_1 -50000"],
    ),
    (
        "A release",
        rules.released(parts=A, keys=KEYS),
        ["2100 BK-1 40740", "2110 BK-1 5000", "2111 BK-1 1260", "2200 H1 -40740", "4100 -5000", "4110 -1260"],
    ),
    (
        "A transfer requested",
        rules.transfer_requested(host="H1", transfer="tr_1", amount=eur(40_740)),
        ["2200 H1 40740", "2210 tr_1 -40740"],
    ),
    (
        "A transfer settles",
        bt("transfer", eur(-40_740), source="tr_1", account="acct_1"),
        ["1100 stripe -40740", "2210 tr_1 40740", "1800 acct_1 40740", "2800 acct_1 -40740"],
    ),
    (
        "A, I connected payout paid",
        rules.connected_payout_paid(account="acct_1", amount=eur(40_740)),
        ["2800 acct_1 40740", "1800 acct_1 -40740"],
    ),
    ("A payout", bt("payout", eur(-8_485), source="po_9"), ["1100 stripe -8485", "1160 po_9 8485"]),
    (
        "A bank line",
        rules.bank_line(bank="main", amount=eur(8_485), payout="po_9"),
        ["1010 main 8485", "1160 po_9 -8485"],
    ),
    (
        "A tax remitted",
        rules.tax_remitted(account="2300", key=TAX, bank="main", amount=eur(1_950)),
        [f"2300 {TAX} 1950", "1010 main -1950"],
    ),
    (
        "B refund before the release",
        refund_100(released=False),
        [
            "2100 BK-1 8148",
            "2110 BK-1 1000",
            "2111 BK-1 252",
            f"2310 {VAT} 210",
            f"2300 {TAX} 390",
            "2400 RF-1 -10000",
        ],
    ),
    (
        "B refund settles",
        bt("refund", eur(-10_000), source="re_1", key="RF-1"),
        ["1100 stripe -10000", "2400 RF-1 10000"],
    ),
    (
        "C refund after the release",
        refund_100(released=True),
        [f"2310 {VAT} 210", f"2300 {TAX} 390", "1310 H1 8148", "4100 1000", "4110 252", "2400 RF-1 -10000"],
    ),
    (
        "C reversal requested",
        rules.reversal_requested(host="H1", reversal="trr_1", amount=eur(8_148)),
        ["1170 trr_1 8148", "1310 H1 -8148"],
    ),
    (
        "C reversal settles",
        bt("transfer_reversal", eur(8_148), type="transfer_refund", source="trr_1", account="acct_1"),
        ["1100 stripe 8148", "1170 trr_1 -8148", "1800 acct_1 -8148", "2800 acct_1 8148"],
    ),
    (
        "D host cancels: everything back",
        refunded("RF-3", eur(50_000), A),
        [
            "2100 BK-1 40740",
            "2110 BK-1 5000",
            "2111 BK-1 1260",
            f"2310 {VAT} 1050",
            f"2300 {TAX} 1950",
            "2400 RF-3 -50000",
        ],
    ),
    ("D penalty", rules.penalised(host="H1", amount=eur(4_475)), ["1310 H1 4475", "4200 -4475"]),
    ("D penalty netted", rules.netted(host="H1", amount=eur(4_475)), ["2200 H1 4475", "1310 H1 -4475"]),
    (
        "E chargeback",
        bt("dispute", eur(-50_000), fee=1_500, source="dp_1", type="adjustment"),
        ["1100 stripe -51500", "5110 dp_1 1500", "1320 dp_1 50000"],
    ),
    (
        "E1 lost after the release, we absorb it",
        rules.dispute_lost_after_release(dispute="dp_1", amount=eur(50_000), bearer="platform", parts=A, keys=KEYS),
        ["5200 dp_1 50000", "1320 dp_1 -50000"],
    ),
    (
        "E1 lost after the release, the host bears it",
        rules.dispute_lost_after_release(dispute="dp_1", amount=eur(50_000), bearer="host", parts=A, keys=KEYS),
        ["1310 H1 40740", "4100 5000", "4110 1260", "5200 dp_1 3000", "1320 dp_1 -50000"],
    ),
    (
        "E1 lost before the release",
        rules.dispute_lost_before_release(dispute="dp_1", amount=eur(50_000), charge="ch_1", parts=A, keys=KEYS),
        [
            "2100 BK-1 40740",
            "2110 BK-1 5000",
            "2111 BK-1 1260",
            f"2310 {VAT} 1050",
            f"2300 {TAX} 1950",
            "1320 dp_1 -50000",
        ],
    ),
    (
        "E2 won",
        bt("dispute_reversal", eur(50_000), source="dp_1", type="adjustment"),
        ["1100 stripe 50000", "1320 dp_1 -50000"],
    ),
    (
        "E countered-dispute fee",
        bt("fee", eur(-1_500), source="dp_1", type="stripe_fee", of_dispute=True),
        ["1100 stripe -1500", "5110 dp_1 1500"],
    ),
    (
        "F claim approved",
        rules.damage_approved(claim="CL-1", amount=eur(15_000)),
        ["1300 CL-1 15000", "2120 CL-1 -15000"],
    ),
    (
        "F captured",
        rules.damage_captured(claim="CL-1", charge="ch_2", amount=eur(15_000)),
        ["1150 ch_2 15000", "1300 CL-1 -15000"],
    ),
    (
        "F released",
        rules.damage_released(claim="CL-1", host="H1", amount=eur(15_000)),
        ["2120 CL-1 15000", "2200 H1 -15000"],
    ),
    (
        "F2 covered",
        rules.damage_covered(claim="CL-2", amount=eur(15_000)),
        ["5210 CL-2 15000", "1300 CL-2 -15000"],
    ),
    (
        "G capture in dollars",
        rules.captured(charge="ch_3", charged=usd(54_000), parts=A, keys=KEYS),
        [
            "1150 ch_3 54000 USD",
            "3900 ch_3 50000",
            "3900 ch_3 -54000 USD",
            "2100 BK-1 -40740",
            "2110 BK-1 -5000",
            "2111 BK-1 -1260",
            f"2310 {VAT} -1050",
            f"2300 {TAX} -1950",
        ],
    ),
    (
        "G charge settles in euros",
        bt("charge", eur(49_800), fee=1_644, source="ch_3", presented=usd(54_000)),
        ["1100 stripe 48156", "5100 1644", "1150 ch_3 -54000 USD", "3900 ch_3 54000 USD", "3900 ch_3 -49800"],
    ),
    (
        "G difference realised",
        rules.fx_realised(charge="ch_3", positions=[usd(0), eur(200)]),
        ["5300 200", "3900 ch_3 -200"],
    ),
    (
        "H transfer failed",
        bt("transfer_reversal", eur(40_740), type="transfer_failure", source="tr_2", host="H1", account="acct_1"),
        ["1100 stripe 40740", "2200 H1 -40740", "1800 acct_1 -40740", "2800 acct_1 40740"],
    ),
    (
        "I connected payout returned",
        rules.connected_payout_returned(account="acct_1", amount=eur(40_740)),
        ["1800 acct_1 40740", "2800 acct_1 -40740"],
    ),
    ("K payout failed", bt("payout_reversal", eur(8_485), source="po_9"), ["1100 stripe 8485", "1160 po_9 -8485"]),
    (
        "goodwill",
        refunded("RF-4", eur(2_500), Parts.none("EUR"), share=eur(2_500)),
        ["5210 RF-4 2500", "2400 RF-4 -2500"],
    ),
    ("write-off", rules.written_off(host="H1", amount=eur(4_475)), ["5220 H1 4475", "1310 H1 -4475"]),
    (
        "refund sent back by the guest's bank",
        bt("refund_failure", eur(10_000), source="re_1", key="RF-4", booking="BK-1"),
        ["1100 stripe 10000", "2410 RF-4 -10000"],
    ),
    (
        "and sent again",
        rules.repaid(returned="RF-4", refund="RF-5", standing=eur(10_000), amount=eur(10_000), charge="ch_1"),
        ["2410 RF-4 10000", "2400 RF-5 -10000"],
    ),
    (
        "refused by the provider, and the guest's by rule",
        rules.set_aside(refund="RF-4", amount=Money(1_500_000, "JPY")),
        ["2400 RF-4 1500000 JPY", "2410 RF-4 -1500000 JPY"],
    ),
    (
        "and paid another way, as what its charge was settled as",
        rules.repaid(
            returned="RF-4", refund="RF-5", standing=Money(1_500_000, "JPY"), amount=eur(8_796), charge="ch_1"
        ),
        ["2410 RF-4 1500000 JPY", "3900 ch_1 8796", "3900 ch_1 -1500000 JPY", "2400 RF-5 -8796"],
    ),
    (
        "refund borne in part by us",
        refunded("RF-6", eur(10_000), rules.pro_rata(remaining=A, amount=eur(5_000)), share=eur(5_000)),
        [
            "2100 BK-1 4074",
            "2110 BK-1 500",
            "2111 BK-1 126",
            f"2310 {VAT} 105",
            f"2300 {TAX} 195",
            "5210 RF-6 5000",
            "2400 RF-6 -10000",
        ],
    ),
    ("Radar fee", bt("fee", eur(-7), type="stripe_fee"), ["1100 stripe -7", "5100 7"]),
    ("tax on fees", bt("tax", eur(-2), type="tax_fee"), ["1100 stripe -2", "5100 2"]),
    ("top-up", bt("topup", eur(900), source="tu_1"), ["1100 stripe 900", "1160 tu_1 -900"]),
    ("failed later", bt("charge_failure", eur(-50_000), source="ch_1"), ["1100 stripe -50000", "1150 ch_1 50000"]),
    (
        "an unknown category waits in suspense",
        bt("climate_order_purchase", eur(-300), source="co_1", fee=5),
        ["1100 stripe -305", "5100 5", "9900 txn_1 300"],
    ),
    (
        "a failed transfer of nobody we know waits in suspense",
        bt("transfer_reversal", eur(10), type="transfer_failure", source="tr_9", account="acct_9"),
        ["1100 stripe 10", "9900 txn_1 -10", "1800 acct_9 -10", "2800 acct_9 10"],
    ),
    (
        "a bank line nobody knows",
        rules.bank_line(bank="main", amount=eur(12), external_id="stmt-7"),
        ["1010 main 12", "9900 stmt-7 -12"],
    ),
    (
        "a bank sends a payout back",
        rules.bank_line(bank="main", amount=eur(-8_485), payout="po_9"),
        ["1010 main -8485", "1160 po_9 8485"],
    ),
]


@pytest.mark.parametrize(("name", "lines", "expected"), WORKED, ids=[row[0] for row in WORKED])
def test_worked_postings(name: str, lines: Lines, expected: list[str]) -> None:
    assert text(lines) == expected
    assert_balanced(lines)


def assert_balanced(lines: Lines) -> None:
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        sums[line.currency] += line.amount
        assert line.amount != 0
        account = CHART[line.account]
        assert bool(line.key) == bool(account.dimension), f"{line.account} is kept by {account.dimension!r}"
    assert len(lines) >= 2
    assert not any(sums.values()), sums


class Books:
    """Balances by account, key and currency, for following a story to its end."""

    def __init__(self) -> None:
        self.balance: dict[tuple[str, str, str], int] = defaultdict(int)

    def post(self, *journals: Lines) -> Books:
        for lines in journals:
            if lines:
                assert_balanced(lines)
            for line in lines:
                self.balance[line.account, line.key, line.currency] += line.amount
        return self

    def positions(self, charge: str) -> list[Money]:
        return [
            Money(amount, currency)
            for (account, key, currency), amount in self.balance.items()
            if (account, key) == ("3900", charge)
        ]

    def realise(self, charge: str) -> Books:
        return self.post(rules.fx_realised(charge=charge, positions=self.positions(charge)))

    def standing(self) -> dict[str, int]:
        """What is left, by account and key."""
        return {
            " ".join(part for part in (account, key, "" if currency == "EUR" else currency) if part): amount
            for (account, key, currency), amount in sorted(self.balance.items())
            if amount
        }

    def assert_clear(self) -> None:
        open_keys = {
            place: amount
            for place, amount in self.standing().items()
            if CHART[place.split()[0]].clears_within is not None
        }
        assert open_keys == {}


def test_story_a_ends_with_our_revenue_in_the_bank() -> None:
    books = Books().post(
        capture_a(),
        bt("charge", eur(50_000), fee=775, source="ch_1"),
        rules.released(parts=A, keys=KEYS),
        rules.transfer_requested(host="H1", transfer="tr_1", amount=eur(40_740)),
        bt("transfer", eur(-40_740), source="tr_1", account="acct_1"),
        rules.connected_payout_paid(account="acct_1", amount=eur(40_740)),
        bt("payout", eur(-8_485), source="po_9"),
        rules.bank_line(bank="main", amount=eur(8_485), payout="po_9"),
        rules.tax_remitted(account="2300", key=TAX, bank="main", amount=eur(1_950)),
        rules.tax_remitted(account="2310", key=VAT, bank="main", amount=eur(1_050)),
    )
    books.assert_clear()
    assert books.standing() == {"1010 main": 5_485, "4100": -5_000, "4110": -1_260, "5100": 775}


def test_story_b_releases_what_remains_after_a_refund() -> None:
    refund = rules.pro_rata(remaining=A, amount=eur(10_000))
    books = Books().post(
        capture_a(),
        bt("charge", eur(50_000), fee=775, source="ch_1"),
        refund_100(released=False),
        bt("refund", eur(-10_000), source="re_1", key="RF-1"),
        rules.released(parts=A.minus(refund), keys=KEYS),
    )
    books.assert_clear()
    assert books.standing()["2200 H1"] == -32_592
    assert not any(place.startswith("21") for place in books.standing())


def test_story_c_takes_the_hosts_share_back() -> None:
    books = Books().post(
        refund_100(released=True),
        bt("refund", eur(-10_000), source="re_1", key="RF-1"),
        rules.reversal_requested(host="H1", reversal="trr_1", amount=eur(8_148)),
        bt("transfer_reversal", eur(8_148), type="transfer_refund", source="trr_1", account="acct_1"),
    )
    books.assert_clear()
    assert "1310 H1" not in books.standing()


def test_story_d_leaves_only_the_penalty() -> None:
    books = Books().post(
        capture_a(),
        bt("charge", eur(50_000), fee=775, source="ch_1"),
        refunded("RF-3", eur(50_000), A),
        bt("refund", eur(-50_000), source="re_3", key="RF-3"),
        rules.penalised(host="H1", amount=eur(4_475)),
    )
    books.assert_clear()
    assert books.standing() == {"1100 stripe": -775, "1310 H1": 4_475, "4200": -4_475, "5100": 775}


@pytest.mark.parametrize("outcome", ["won", "lost before", "lost after"])
def test_story_e_a_chargeback_clears_whatever_its_outcome(outcome: str) -> None:
    books = Books().post(
        capture_a(),
        bt("charge", eur(50_000), fee=775, source="ch_1"),
        bt("dispute", eur(-50_000), fee=1_500, source="dp_1"),
    )
    with pytest.raises(AssertionError):
        books.assert_clear()
    if outcome == "won":
        books.post(bt("dispute_reversal", eur(50_000), source="dp_1"))
        assert books.standing()["2100 BK-1"] == -40_740
    elif outcome == "lost before":
        books.post(
            rules.dispute_lost_before_release(dispute="dp_1", amount=eur(50_000), charge="ch_1", parts=A, keys=KEYS)
        )
        assert books.standing() == {"1100 stripe": -2_275, "5100": 775, "5110 dp_1": 1_500}
    else:
        books.post(
            rules.released(parts=A, keys=KEYS),
            rules.dispute_lost_after_release(dispute="dp_1", amount=eur(50_000), bearer="platform", parts=A, keys=KEYS),
        )
        assert books.standing()["5200 dp_1"] == 50_000
    books.assert_clear()


def test_a_chargeback_after_a_partial_refund_is_covered_by_what_is_held_and_the_rest_is_lost() -> None:
    remaining = A.minus(rules.pro_rata(remaining=A, amount=eur(10_000)))
    lines = rules.dispute_lost_before_release(
        dispute="dp_1", amount=eur(50_000), charge="ch_1", parts=remaining, keys=KEYS
    )
    assert "5200 dp_1 10000" in text(lines)
    assert_balanced(lines)
    with pytest.raises(ValueError, match="scale them with pro_rata"):
        rules.dispute_lost_before_release(dispute="dp_1", amount=eur(100), charge="ch_1", parts=A, keys=KEYS)


def test_story_f_damage_is_paid_by_the_guest_or_covered_by_us() -> None:
    paid = Books().post(
        rules.damage_approved(claim="CL-1", amount=eur(15_000)),
        rules.damage_captured(claim="CL-1", charge="ch_2", amount=eur(15_000)),
        bt("charge", eur(15_000), fee=250, source="ch_2"),
        rules.damage_released(claim="CL-1", host="H1", amount=eur(15_000)),
    )
    paid.assert_clear()
    assert paid.standing() == {"1100 stripe": 14_750, "2200 H1": -15_000, "5100": 250}
    covered = Books().post(
        rules.damage_approved(claim="CL-2", amount=eur(15_000)),
        rules.damage_covered(claim="CL-2", amount=eur(15_000)),
        rules.damage_released(claim="CL-2", host="H1", amount=eur(15_000)),
    )
    assert covered.standing() == {"2200 H1": -15_000, "5210 CL-2": 15_000}


def test_story_h_and_k_failures_reopen_what_was_owed() -> None:
    transfer = Books().post(
        rules.transfer_requested(host="H1", transfer="tr_2", amount=eur(40_740)),
        bt("transfer", eur(-40_740), source="tr_2", account="acct_1"),
        bt("transfer_reversal", eur(40_740), type="transfer_failure", source="tr_2", host="H1", account="acct_1"),
    )
    assert transfer.standing() == {}
    payout = Books().post(bt("payout", eur(-8_485), source="po_9"), bt("payout_reversal", eur(8_485), source="po_9"))
    assert payout.standing() == {}


def test_a_partial_capture_shows_two_movements_and_clears() -> None:
    """420.00 of 500.00 authorised were captured; the provider shows the whole and gives the rest back."""
    parts = Parts.of(currency="EUR", amounts={"held": 40_740, "host_fee": 1_260})
    books = Books().post(
        rules.captured(charge="ch_7", charged=eur(42_000), parts=parts, keys=KEYS),
        bt("charge", eur(50_000), fee=775, source="ch_7"),
        bt("partial_capture_reversal", eur(-8_000), type="refund", source="ch_7"),
    )
    books.assert_clear()
    assert books.standing()["1100 stripe"] == 41_225


def test_a_cent_of_drift_stays_standing_under_its_key() -> None:
    books = Books().post(capture_a(), bt("charge", eur(50_001), fee=775, source="ch_1"))
    assert books.standing()["1150 ch_1"] == -1


# Other currencies


def test_story_g_settled_in_the_listings_currency() -> None:
    books = Books().post(rules.captured(charge="ch_3", charged=usd(54_000), parts=A, keys=KEYS)).realise("ch_3")
    assert books.positions("ch_3") == [eur(50_000), usd(-54_000)]
    books.post(bt("charge", eur(49_800), fee=1_644, source="ch_3", presented=usd(54_000))).realise("ch_3")
    books.assert_clear()
    assert books.standing()["5300"] == 200


def test_a_refund_is_converted_at_another_rate_than_the_charge() -> None:
    """60.00 USD: 52.80 EUR came in, 51.60 EUR went out; the difference is our gain."""
    parts = Parts.of(currency="EUR", amounts={"held": 5_280})
    books = Books().post(
        rules.captured(charge="ch_3", charged=usd(6_000), parts=parts, keys=KEYS),
        bt("charge", eur(5_280), source="ch_3", presented=usd(6_000)),
        refunded("RF-1", usd(6_000), parts, charge="ch_3"),
    )
    assert rules.fx_realised(charge="ch_3", positions=books.positions("ch_3")) == ()
    settled = bt("refund", eur(-5_160), source="re_1", key="RF-1", charge="ch_3", presented=usd(6_000))
    books.post(settled).realise("ch_3")
    books.assert_clear()
    assert books.standing() == {"1100 stripe": 120, "4300": -120}


def test_the_order_of_the_providers_movements_does_not_matter() -> None:
    parts = Parts.of(currency="EUR", amounts={"held": 5_280})
    books = Books().post(
        rules.captured(charge="ch_3", charged=usd(6_000), parts=parts, keys=KEYS),
        refunded("RF-1", usd(6_000), parts, charge="ch_3"),
    )
    books.post(bt("refund", eur(-5_160), source="re_1", key="RF-1", charge="ch_3", presented=usd(6_000)))
    books.realise("ch_3")
    books.post(bt("charge", eur(5_280), source="ch_3", presented=usd(6_000))).realise("ch_3")
    books.assert_clear()
    assert books.standing() == {"1100 stripe": 120, "4300": -120}


def test_settled_in_another_currency_the_release_converts_and_realises() -> None:
    """A home in Singapore dollars paid in euros: settled in euros, released at the day's rate."""
    parts = Parts.of(
        currency="SGD",
        amounts={"held": 40_740, "host_fee": 1_260, "guest_fee": 5_000, "vat": 1_050, "occupancy_tax": 1_950},
    )
    rate = ExchangeRate(base="SGD", quote="EUR", value=Fraction("0.70"), on=date(2026, 7, 11), source="ECB")
    books = Books().post(
        rules.captured(charge="ch_4", charged=eur(34_000), parts=parts, keys=KEYS),
        bt("charge", eur(34_000), fee=500, source="ch_4"),
    )
    books.realise("ch_4")
    assert "5300" not in books.standing()
    books.post(rules.released_converted(charge="ch_4", parts=parts, keys=KEYS, rate=rate)).realise("ch_4")
    books.assert_clear()
    assert books.standing() == {
        "1100 stripe": 33_500,
        "2200 H1": -28_518,
        f"2300 {TAX}": -1_365,
        f"2310 {VAT}": -735,
        "4100": -3_500,
        "4110": -882,
        "5100": 500,
        "5300": 1_000,
    }


def test_three_currencies_at_once() -> None:
    """A home in baht, paid in dollars, settled in euros."""
    parts = Parts.of(currency="THB", amounts={"held": 970_000, "host_fee": 30_000, "guest_fee": 140_000})
    rate = ExchangeRate(base="THB", quote="EUR", value=Fraction("0.0260"), on=date(2026, 7, 11), source="ECB")
    books = (
        Books()
        .post(
            rules.captured(charge="ch_5", charged=usd(33_000), parts=parts, keys=KEYS),
            bt("charge", eur(29_800), fee=900, source="ch_5", presented=usd(33_000)),
        )
        .realise("ch_5")
    )
    assert sorted(str(position) for position in books.positions("ch_5") if position) == [
        "-298.00 EUR",
        "11,400.00 THB",
    ]
    books.post(rules.released_converted(charge="ch_5", parts=parts, keys=KEYS, rate=rate)).realise("ch_5")
    books.assert_clear()
    assert books.standing() == {
        "1100 stripe": 28_900,
        "2200 H1": -25_220,
        "4100": -3_640,
        "4110": -780,
        "4300": -160,
        "5100": 900,
    }


def test_three_currencies_refunded_before_the_release() -> None:
    parts = Parts.of(currency="THB", amounts={"held": 970_000, "host_fee": 30_000, "guest_fee": 140_000})
    books = (
        Books()
        .post(
            rules.captured(charge="ch_5", charged=usd(33_000), parts=parts, keys=KEYS),
            bt("charge", eur(29_800), source="ch_5", presented=usd(33_000)),
            refunded("RF-9", usd(33_000), parts, charge="ch_5"),
            bt("refund", eur(-30_100), source="re_9", key="RF-9", charge="ch_5", presented=usd(33_000)),
        )
        .realise("ch_5")
    )
    books.assert_clear()
    assert books.standing() == {"1100 stripe": -300, "5300": 300}


def test_parts_that_do_not_add_up_to_the_charge_are_refused() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        rules.captured(charge="ch_1", charged=eur(49_999), parts=A, keys=KEYS)


# Cancellation: part goes back, part is released


def example_price() -> Any:
    fees = parse_policy(json.loads((FIXTURES / "fees.json").read_text())).rules
    taxes = parse_policy(json.loads((FIXTURES / "taxes.json").read_text())).rules
    return price_stay(
        facts=PricingFacts(
            stay=Stay(date(2026, 7, 10), date(2026, 7, 13)),
            nightly=(eur(12_000),) * 3,
            guests=2,
            included_guests=2,
            plan=fees.plan("split-capped"),
            rate=ExchangeRate.same(currency="EUR", on=date(2026, 5, 1)),
            cleaning=eur(6_000),
            extra_guest=eur(0),
            jurisdictions=(taxes.jurisdiction("BE-DEMO"),),
            vat=taxes.vat_in("BE"),
        )
    )


def cancel(price: Any, cancelled: str, **more: Any) -> Any:
    """The moderate tier's answer for booking A, cancelled at 15:00 of that day at the home."""
    return decide_cancellation(
        facts=CancellationFacts.of_price(
            price=price,
            policy=parse_policy(json.loads((FIXTURES / "cancellation.json").read_text())),
            tier="moderate",
            stay=Stay(date(2026, 7, 10), date(2026, 7, 13)),
            check_in_time=time(15),
            time_zone="Europe/Paris",
            confirmed_at=datetime(2026, 5, 1, tzinfo=UTC),
            **more,
        ),
        now=instant(date.fromisoformat(cancelled), time(15), "Europe/Paris"),
    )


def test_a_guest_cancels_and_the_kept_part_is_released_after_check_in() -> None:
    """Moderate, four days before: 120.00 + 50 % of 240.00 are kept; cleaning and the tax on what came back return."""
    price = example_price()
    assert rules.captured_parts(price=price) == A
    decision = cancel(price, "2026-07-06")
    back = rules.parts_of_cancellation(remaining=A, decision=decision)
    assert back.as_dict() == {"held": 17_460, "host_fee": 540, "guest_fee": 0, "vat": 0, "occupancy_tax": 650}
    assert back.total == decision.refund
    books = Books().post(
        capture_a(),
        bt("charge", eur(50_000), fee=775, source="ch_1"),
        refunded("RF-2", eur(18_650), back),
        bt("refund", eur(-18_650), source="re_2", key="RF-2"),
        rules.released(parts=A.minus(back), keys=KEYS),
    )
    books.assert_clear()
    assert books.standing() == {
        "1100 stripe": 30_575,
        "2200 H1": -23_280,
        f"2300 {TAX}": -1_300,
        f"2310 {VAT}": -1_050,
        "4100": -5_000,
        "4110": -720,
        "5100": 775,
    }


@pytest.mark.parametrize("earlier", [0, 1, 10_000, 25_000, 49_999])
def test_when_the_host_cancels_all_that_earlier_refunds_left_goes_back(earlier: int) -> None:
    override = Override(kind="host_cancel", basis="the host cancelled")
    decision = cancel(example_price(), "2026-07-06", override=override)
    remaining = A.minus(rules.pro_rata(remaining=A, amount=eur(earlier)))
    assert rules.parts_of_cancellation(remaining=remaining, decision=decision) == remaining


def test_monthly_instalments_add_up_and_clear() -> None:
    steps = rules.instalments(parts=A, weights=[30, 30, 15])
    books = Books().post(capture_a(), bt("charge", eur(50_000), fee=775, source="ch_1"))
    for step in steps:
        books.post(rules.released(parts=step, keys=KEYS))
    books.assert_clear()
    assert [step.held.amount for step in steps] == [16_296, 16_296, 8_148]
    assert not any(place.startswith(("2100", "2110", "2111")) for place in books.standing())


def test_the_release_is_due_a_day_after_check_in() -> None:
    timings = parse_policy(json.loads((FIXTURES / "timings.json").read_text())).rules
    check_in_at = datetime(2026, 7, 10, 13, tzinfo=UTC)
    assert rules.release_due_at(check_in_at=check_in_at, timings=timings) == check_in_at + timedelta(hours=24)


# How much can still go back


def taken(status: str, amount: int, **more: Any) -> RefundTaken:
    return RefundTaken(
        status=status, parts=rules.pro_rata(remaining=A, amount=eur(amount)), charged=eur(amount), **more
    )


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("requested", True),
        ("approved", True),
        ("submitted", True),
        ("indeterminate", True),
        ("succeeded", True),
        ("failed", False),
        ("rejected", False),
        ("cancelled", False),
    ],
)
def test_which_refunds_take_from_the_limit(status: str, counts: bool) -> None:
    limits = rules.refund_limits(captured=A, charged=eur(50_000), refunds=[taken(status, 10_000)])
    assert limits.total == eur(40_000 if counts else 50_000)
    assert limits.charged == eur(40_000 if counts else 50_000)


def test_a_refund_the_bank_sent_back_is_owed_from_elsewhere() -> None:
    limits = rules.refund_limits(captured=A, charged=eur(50_000), refunds=[taken("failed", 10_000, unclaimed=True)])
    assert limits.total == eur(40_000)


@pytest.mark.parametrize(
    ("given_since", "gone", "owed"),
    [
        (0, 0, 8_000),  # all of it, made of what it was made of
        (3_000, 3_000, 5_000),
        (9_000, 9_000, 0),
        (0, 45_000, 5_000),  # no more than the charge has left
    ],
)
def test_what_a_refund_still_owes_is_never_given_twice(given_since: int, gone: int, owed: int) -> None:
    own = Parts.of(currency="EUR", amounts={"held": 8_000})
    limits = rules.refund_limits(captured=A, charged=eur(50_000), refunds=[taken("succeeded", gone)] if gone else [])
    amount, parts = rules.still_owed(amount=eur(8_000), parts=own, given=eur(given_since), left=limits)
    assert (amount, parts.total) == (eur(owed), eur(owed)) and parts.within(limits.parts) == parts
    assert parts == own or owed < 8_000


def test_the_limit_is_per_part_and_in_total() -> None:
    limits = rules.refund_limits(
        captured=A, charged=eur(50_000), refunds=[taken("succeeded", 10_000), taken("indeterminate", 10_000)]
    )
    assert limits.parts.as_dict() == {
        "held": 24_444,
        "host_fee": 756,
        "guest_fee": 3_000,
        "vat": 630,
        "occupancy_tax": 1_170,
    }
    limits.check(amount=eur(30_000))
    with pytest.raises(RefundTooLarge, match=r"At most 300\.00 EUR"):
        limits.check(amount=eur(30_001))
    with pytest.raises(Invalid, match="above zero"):
        limits.check(amount=eur(0))


def test_nothing_goes_back_while_a_chargeback_is_open() -> None:
    limits = rules.refund_limits(captured=A, charged=eur(50_000), refunds=[], disputed=True)
    with pytest.raises(RefundTooLarge, match=r"At most 0\.00 EUR"):
        limits.check(amount=eur(1))
    assert limits.in_charge(amount=eur(0)) == eur(0)


def test_more_refunded_than_captured_leaves_nothing_not_less() -> None:
    limits = rules.refund_limits(
        captured=A, charged=eur(50_000), refunds=[taken("succeeded", 50_000), taken("succeeded", 1_000)]
    )
    assert (limits.total, limits.charged) == (eur(0), eur(0))


def test_a_part_beyond_what_remains_is_refused() -> None:
    with pytest.raises(RefundTooLarge, match=r"At most 500\.00 EUR can still be refunded; 500\.01 EUR"):
        rules.pro_rata(remaining=A, amount=eur(50_001))


# What must hold for every posting

AMOUNT = st.integers(0, 5_000_000)


def parts_of(currency: str) -> st.SearchStrategy[Parts]:
    return st.builds(
        lambda amounts: Parts.from_amounts([Money(amount, currency) for amount in amounts]),
        st.lists(AMOUNT, min_size=5, max_size=5).filter(any),
    )


@settings(max_examples=200)
@given(parts_of("EUR"), st.data())
def test_a_refund_by_proportion_adds_up_and_no_part_gives_more_than_it_has(parts: Parts, data: st.DataObject) -> None:
    amount = eur(data.draw(st.integers(1, parts.total.amount)))
    taken_parts = rules.pro_rata(remaining=parts, amount=amount)
    assert taken_parts.total == amount
    for part, whole in zip(taken_parts.amounts, parts.amounts, strict=True):
        assert 0 <= part.amount <= whole.amount
    for released in (False, True):
        assert_balanced(refunded("RF-1", amount, taken_parts, released=released))


@settings(max_examples=200)
@given(parts_of("EUR"), st.lists(st.integers(1, 3_000_000), max_size=6), st.sampled_from(["EUR", "USD", "JPY"]), AMOUNT)
def test_captured_less_any_refunds_and_the_release_leaves_no_cent(
    parts: Parts, wanted: list[int], currency: str, presented: int
) -> None:
    """Capture, any number of refunds, release: what was held, deferred and positioned is gone to the last unit."""
    charged = parts.total if currency == "EUR" else Money(presented + 1, currency)
    books = Books().post(rules.captured(charge="ch_1", charged=charged, parts=parts, keys=KEYS))
    refunds: list[RefundTaken] = []
    for number, amount in enumerate(wanted):
        limits = rules.refund_limits(captured=parts, charged=charged, refunds=refunds)
        back = min(eur(amount), limits.total)
        if not back:
            break
        on_card = limits.in_charge(amount=back)
        taken_parts = rules.pro_rata(remaining=limits.parts, amount=back)
        books.post(refunded(f"RF-{number}", on_card, taken_parts))
        refunds.append(RefundTaken(status="succeeded", parts=taken_parts, charged=on_card))
    limits = rules.refund_limits(captured=parts, charged=charged, refunds=refunds)
    assert bool(limits.total) or limits.charged == Money.zero(currency)
    books.post(rules.released(parts=limits.parts, keys=KEYS))
    assert not any(place.startswith(("2100", "2110", "2111")) for place in books.standing())


@given(
    st.sampled_from([*sorted(rules.KNOWN_CATEGORIES), "issuing_transaction", "new_in_2027"]),
    st.sampled_from(["charge", "transfer_failure", "transfer_cancel", "adjustment", "unheard_of"]),
    st.integers(-(10**9), 10**9).filter(bool),
    st.integers(-(10**5), 10**5),
    st.one_of(st.none(), st.integers(1, 10**9)),
    st.sampled_from(["ch_1", "re_1", "dp_1", "tr_1", ""]),
    st.sampled_from(["H1", ""]),
)
def test_every_balance_transaction_moves_the_mirror_by_its_net(
    category: str, kind: str, amount: int, fee: int, presented: int | None, source: str, host: str
) -> None:
    lines = bt(
        category,
        eur(amount),
        fee=fee,
        type=kind,
        source=source,
        account="acct_1",
        host=host,
        presented=None if presented is None else usd(presented),
    )
    if lines:
        assert_balanced(lines)
    mirror = sum(line.amount for line in lines if line.account == "1100")
    assert mirror == amount - fee
    if category not in rules.KNOWN_CATEGORIES:
        assert sum(line.amount for line in lines if line.account == "9900") == -amount


def test_a_movement_whose_net_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match=r"txn_1: 1\.00 EUR less 0\.10 EUR is not 1\.00 EUR"):
        bt("charge", eur(100), fee=10, net=eur(100))


@given(parts_of("SGD"), st.fractions(Fraction(1, 100), 100))
def test_a_converted_release_balances_in_both_currencies(parts: Parts, value: Fraction) -> None:
    rate = ExchangeRate(base="SGD", quote="EUR", value=value, on=date(2026, 7, 11), source="test")
    assert_balanced(rules.released_converted(charge="ch_1", parts=parts, keys=KEYS, rate=rate))


@given(parts_of("EUR"), st.lists(st.integers(0, 1_000), min_size=1, max_size=13).filter(any))
def test_instalments_add_up(parts: Parts, weights: list[int]) -> None:
    steps = rules.instalments(parts=parts, weights=weights)
    total = steps[0]
    for step in steps[1:]:
        total = total + step
    assert total == parts
