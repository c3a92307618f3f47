"""What is decided about chargebacks: who bears a loss (the chart's worked postings E to E2), deadlines, blocks, the ratio,
evidence."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.payments import policies
from backoffice.payments.policies import Parts, PostingKeys, RefundLimits, RefundTaken, evidence, pro_rata
from backoffice.payments.policies import chargebacks as rules
from backoffice.payments.policies.postings import Lines
from backoffice.rulebook.policies import ChargebackRules, parse_policy

RULES: ChargebackRules = parse_policy(
    json.loads((Path(__file__).parents[2] / "fixtures" / "policies" / "chargebacks.json").read_text())
).rules
NAMES = ("held", "host_fee", "guest_fee", "vat", "occupancy_tax")
KEYS = PostingKeys(booking="BK-1", host="H1", vat="BE:2026-07", occupancy_tax="BE-ANTWERP:2026-07")


def parts(*amounts: int, currency: str = "EUR") -> Parts:
    return Parts.of(currency=currency, amounts=dict(zip(NAMES, amounts, strict=False)))


# The chart's booking: 407.40 for the host, fees 12.60 and 50.00, VAT 10.50, tax 19.50, in all 500.00.
A = parts(40_740, 1_260, 5_000, 1_050, 1_950)
NOTHING = Parts.none("EUR")


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def left(of: Parts, charged: Money | None = None) -> RefundLimits:
    whole = charged or of.total
    return RefundLimits(parts=of, charged=whole, of_parts=whole)


def standing(**facts: object) -> rules.Standing:
    known = {"lost": eur(50_000), "disputed": eur(50_000), "remaining": left(A), "in_hand": A, **facts}
    return rules.Standing(**known)  # type: ignore[arg-type]


def aside(standing_now: int, charged: Money | None = None, *, before: bool = True, refund: str = "RF-1") -> rules.Aside:
    """What stands aside of a refund that came back."""
    return rules.Aside(refund=refund, standing=eur(standing_now), charged=charged or eur(standing_now), before=before)


REFUNDED = parts(8_148, 252, 1_000, 210, 390)  # 100.00 of it


def posted(stands: rules.Standing, bearer: policies.LossBearer = "platform") -> list[str]:
    lines = rules.lost(
        dispute="dp_1", charge="ch_1", shares=rules.loss_shares(standing=stands), bearer=bearer, keys=KEYS
    )
    return written(lines)


def written(lines: Lines) -> list[str]:
    shown = [
        " ".join(filter(None, [line.account, line.key, str(line.amount), line.currency.replace("EUR", "")]))
        for line in lines
    ]
    return sorted(shown)


def balanced(lines: Lines) -> bool:
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.currency] = sums.get(line.currency, 0) + line.amount
    return not any(sums.values())


GOLDEN = [
    (
        "E1 before the release: the held money has gone back to the guest",
        standing(),
        "platform",
        [
            "1320 dp_1 -50000",
            "2100 BK-1 40740",
            "2110 BK-1 5000",
            "2111 BK-1 1260",
            "2300 BE-ANTWERP:2026-07 1950",
            "2310 BE:2026-07 1050",
        ],
    ),
    (
        "E1 after the release: we absorb it",
        standing(in_hand=NOTHING),
        "platform",
        ["1320 dp_1 -50000", "5200 dp_1 50000"],
    ),
    (
        "E1 after the release: the host bears it",
        standing(in_hand=NOTHING),
        "host",
        ["1310 H1 40740", "1320 dp_1 -50000", "4100 5000", "4110 1260", "5200 dp_1 3000"],
    ),
    (
        "half released, we absorb the released half with its taxes",
        standing(in_hand=parts(20_370, 630, 2_500)),
        "platform",
        [
            "1320 dp_1 -50000",
            "2100 BK-1 20370",
            "2110 BK-1 2500",
            "2111 BK-1 630",
            "2300 BE-ANTWERP:2026-07 975",
            "2310 BE:2026-07 525",
            "5200 dp_1 25000",
        ],
    ),
    (
        "100.00 was refunded before: what no part covers is ours",
        standing(remaining=left(A.minus(REFUNDED)), in_hand=parts(32_592, 1_008, 4_000)),
        "host",
        [
            "1320 dp_1 -50000",
            "2100 BK-1 32592",
            "2110 BK-1 4000",
            "2111 BK-1 1008",
            "2300 BE-ANTWERP:2026-07 1560",
            "2310 BE:2026-07 840",
            "5200 dp_1 10000",
        ],
    ),
    (
        "100.00 was refunded and came back: the guest has it by the network, what stood aside is no loss",
        standing(remaining=left(A.minus(REFUNDED)), in_hand=A.minus(REFUNDED), aside=(aside(10_000),)),
        "host",
        [
            "1320 dp_1 -50000",
            "2100 BK-1 32592",
            "2110 BK-1 4000",
            "2111 BK-1 1008",
            "2300 BE-ANTWERP:2026-07 1560",
            "2310 BE:2026-07 840",
            "2410 RF-1 10000",
        ],
    ),
    (
        "100.00 came back and is on its way another way: what of it is lost is ours",
        standing(remaining=left(A.minus(REFUNDED)), in_hand=NOTHING),
        "platform",
        ["1320 dp_1 -50000", "5200 dp_1 50000"],
    ),
    (
        "of 100.00 that had come back 40.00 is disputed: 60.00 still stands aside",
        standing(lost=eur(4_000), disputed=eur(4_000), remaining=left(A.minus(REFUNDED)), aside=(aside(10_000),)),
        "platform",
        ["1320 dp_1 -4000", "2410 RF-1 4000"],
    ),
    (
        "400.00 is disputed while 100.00 was on its way back to the guest, and then came back: it still stands aside",
        standing(
            lost=eur(40_000),
            disputed=eur(40_000),
            remaining=left(A.minus(REFUNDED)),
            in_hand=NOTHING,
            aside=(aside(10_000, before=False),),
        ),
        "platform",
        ["1320 dp_1 -40000", "5200 dp_1 40000"],
    ),
    (
        "all is disputed while 100.00 was on its way back to the guest, and then came back: that is no loss",
        standing(
            remaining=left(A.minus(REFUNDED)),
            in_hand=NOTHING,
            aside=(aside(10_000, before=False),),
        ),
        "platform",
        ["1320 dp_1 -50000", "2410 RF-1 10000", "5200 dp_1 40000"],
    ),
    (
        "two came back, the first is taken first",
        standing(
            lost=eur(9_000),
            disputed=eur(9_000),
            remaining=left(A.minus(REFUNDED)),
            aside=(aside(6_000), aside(4_000, refund="RF-2")),
        ),
        "platform",
        ["1320 dp_1 -9000", "2410 RF-1 6000", "2410 RF-2 3000"],
    ),
    (
        "540.00 USD charged, 108.00 came back as 98.00 EUR and was taken as 99.00: 1.00 is loss of exchange",
        standing(
            lost=eur(49_500),
            disputed=Money(54_000, "USD"),
            in_hand=NOTHING,
            remaining=left(A.minus(REFUNDED), Money(43_200, "USD")),
            aside=(aside(9_800, Money(10_800, "USD")),),
        ),
        "platform",
        ["1320 dp_1 -49500", "2410 RF-1 9800", "5200 dp_1 39600", "5300 100"],
    ),
    (
        "a fifth of the charge takes a fifth of each part",
        standing(lost=eur(10_000), disputed=eur(10_000)),
        "platform",
        [
            "1320 dp_1 -10000",
            "2100 BK-1 8148",
            "2110 BK-1 1000",
            "2111 BK-1 252",
            "2300 BE-ANTWERP:2026-07 390",
            "2310 BE:2026-07 210",
        ],
    ),
    (
        "540.00 USD charged, 495.00 EUR taken: 5.00 is gain of exchange",
        standing(lost=eur(49_500), disputed=Money(54_000, "USD"), remaining=left(A, Money(54_000, "USD"))),
        "platform",
        [
            "1320 dp_1 -49500",
            "2100 BK-1 40740",
            "2110 BK-1 5000",
            "2111 BK-1 1260",
            "2300 BE-ANTWERP:2026-07 1950",
            "2310 BE:2026-07 1050",
            "4300 -500",
        ],
    ),
    (
        "540.00 USD charged, 505.00 EUR taken: 5.00 is loss of exchange",
        standing(lost=eur(50_500), disputed=Money(54_000, "USD"), remaining=left(A, Money(54_000, "USD"))),
        "platform",
        [
            "1320 dp_1 -50500",
            "2100 BK-1 40740",
            "2110 BK-1 5000",
            "2111 BK-1 1260",
            "2300 BE-ANTWERP:2026-07 1950",
            "2310 BE:2026-07 1050",
            "5300 500",
        ],
    ),
]


@pytest.mark.parametrize(("stands", "bearer", "lines"), [case[1:] for case in GOLDEN], ids=[case[0] for case in GOLDEN])
def test_a_loss_is_posted_as_the_chart_says(
    stands: rules.Standing, bearer: policies.LossBearer, lines: list[str]
) -> None:
    assert posted(stands, bearer) == lines


def test_a_loss_settled_in_another_currency_moves_the_charges_position() -> None:
    baht = parts(1_500_000, 46_000, 210_000, currency="THB")
    stands = rules.Standing(lost=eur(46_000), disputed=baht.total, remaining=left(baht), in_hand=baht)
    lines = rules.lost(
        dispute="dp_1", charge="ch_1", shares=rules.loss_shares(standing=stands), bearer="platform", keys=KEYS
    )
    assert balanced(lines)
    assert {"3900 ch_1 -1756000 THB", "3900 ch_1 46000", "1320 dp_1 -46000"} <= set(written(lines))


amounts = st.lists(st.integers(0, 10**7), min_size=5, max_size=5).filter(any)


@given(
    captured=amounts, share=st.integers(0, 100), refunded=st.integers(0, 100), part=st.integers(1, 100),
    rate=st.integers(50, 200), bearer=st.sampled_from(["platform", "host"]), listing=st.sampled_from(["EUR", "THB"]),
    returned=st.integers(0, 100), before=st.booleans(),
)  # fmt: skip
def test_whatever_was_refunded_released_and_disputed_a_loss_balances_and_clears(
    captured: list[int], share: int, refunded: int, part: int, rate: int, bearer: policies.LossBearer, listing: str,
    returned: int, before: bool,
) -> None:  # fmt: skip
    whole = parts(*captured, currency=listing)
    given_back = pro_rata(remaining=whole, amount=Money(whole.total.amount * refunded // 100, listing))
    remaining = policies.refund_limits(
        captured=whole,
        charged=whole.total,
        refunds=[RefundTaken(status="succeeded", parts=given_back, charged=given_back.total)],
    )
    in_hand = Parts.from_amounts([Money(each.amount * share // 100, listing) for each in remaining.parts.amounts])
    disputed = Money(max(1, whole.total.amount * part // 100), listing)
    lost = Money(max(1, disputed.amount * rate // 100 if listing != "EUR" else disputed.amount), "EUR")
    back = Money(given_back.total.amount * returned // 100, listing)
    there = Money(back.amount * rate // 100 if listing != "EUR" else back.amount, "EUR")
    came = (aside(there.amount, back, before=before),) if back and there else ()
    stands = rules.Standing(lost=lost, disputed=disputed, remaining=remaining, in_hand=in_hand, aside=came)
    shares = rules.loss_shares(standing=stands)
    lines = rules.lost(dispute="dp_1", charge="ch_1", shares=shares, bearer=bearer, keys=KEYS)
    assert balanced(lines)
    assert sum(line.amount for line in lines if line.account == "1320") == -lost.amount
    for name in ("held", "host_fee", "guest_fee"):
        assert getattr(shares.held, name) <= getattr(in_hand, name)
    worth = shares.held_worth + shares.released.total + shares.out_of_aside
    assert shares.uncovered.amount >= 0 and worth + shares.uncovered == lost
    taken = [each for each in shares.aside if each.refund == "RF-1"]
    assert all(Money(0, "EUR") <= each.standing <= there and each.charged <= min(back, disputed) for each in taken)
    if came and listing == "EUR":  # nothing is ours while something stands aside for what the network gave
        assert not shares.uncovered or shares.aside[0].standing == there
    if refunded == 0 or disputed <= remaining.of_parts:
        assert not shares.uncovered
    if bearer == "platform":
        assert not [line for line in lines if line.account == "1310"]


@given(left_over=st.integers(-(10**6), 10**6).filter(bool))
def test_what_a_moved_rate_left_is_realised(left_over: int) -> None:
    lines = rules.rate_moved(dispute="dp_1", left=eur(left_over))
    assert balanced(lines) and lines[0].account == "1320" and lines[0].amount == -left_over
    assert lines[1].account == ("5300" if left_over > 0 else "4300")


# Statuses, deadlines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "open_", "blocks"),
    [
        ("inquiry", "warning_needs_response", True, False),
        ("inquiry", "warning_under_review", True, False),
        ("inquiry", "warning_closed", False, False),
        ("chargeback", "needs_response", True, True),
        ("chargeback", "under_review", True, True),
        ("chargeback", "won", False, False),
        ("chargeback", "lost", False, True),
        ("chargeback", "prevented", False, False),
        ("chargeback", "appeal_needs_response", True, True),
        ("chargeback", "appeal_under_review", True, True),
        ("chargeback", "something_new", True, True),
    ],
)
def test_what_a_status_means(kind: str, status: str, open_: bool, blocks: bool) -> None:
    assert (rules.is_open(status), rules.blocks_refunds(kind=kind, status=status)) == (open_, blocks)


def test_every_status_of_the_provider_is_known() -> None:
    assert set(rules.KNOWN) == {
        *("warning_needs_response", "warning_under_review", "warning_closed"),
        *("needs_response", "under_review", "won", "lost", "prevented"),
        *("appeal_needs_response", "appeal_under_review"),
    }


@pytest.mark.parametrize(
    ("status", "case_type", "kind"),
    [
        ("warning_needs_response", "inquiry", "inquiry"),
        ("warning_needs_response", "", "inquiry"),
        ("needs_response", "chargeback", "chargeback"),
        ("needs_response", "", "chargeback"),
        ("warning_closed", "chargeback", "chargeback"),
        ("needs_response", "compliance", "chargeback"),
    ],
)
def test_an_inquiry_is_told_by_the_networks_word(status: str, case_type: str, kind: str) -> None:
    assert rules.kind_of(status=status, case_type=case_type) == kind


OPENED = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_our_deadline_is_at_sixty_per_cent_of_the_time() -> None:
    due_by = OPENED + timedelta(days=10)
    assert rules.internal_deadline(opened=OPENED, due_by=due_by, rules=RULES) == OPENED + timedelta(days=6)


@pytest.mark.parametrize(
    ("status", "days", "pressing"),
    [
        ("needs_response", 0, "calm"),
        ("needs_response", 4.9, "calm"),
        ("needs_response", 5, "soon"),
        ("needs_response", 6, "late"),
        ("needs_response", 10, "late"),
        ("needs_response", 10.1, "overdue"),
        ("appeal_needs_response", 5, "soon"),
        ("under_review", 6, "none"),
        ("lost", 11, "none"),
        ("something_new", 11, "none"),
    ],
)
def test_how_pressing_an_answer_is(status: str, days: float, pressing: str) -> None:
    due_by = OPENED + timedelta(days=10)
    internal = rules.internal_deadline(opened=OPENED, due_by=due_by, rules=RULES)
    now = OPENED + timedelta(days=days)
    assert rules.urgency(status=status, due_by=due_by, internal_due_at=internal, now=now) == pressing
    assert rules.urgency(status=status, due_by=None, internal_due_at=None, now=now) == "none"


# The ratio -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chargebacks", "charges", "percent", "stands"),
    [
        (0, 0, "0", "fine"),
        (0, 1_000, "0.00", "fine"),
        (7, 1_000, "0.70", "fine"),
        (75, 10_000, "0.75", "warning"),
        (149, 10_000, "1.49", "warning"),
        (1_499_999, 100_000_000, "1.50", "warning"),
        (150, 10_000, "1.50", "over"),
        (1, 0, "100", "over"),
    ],
)
def test_the_ratio_warns_at_half_of_the_threshold(chargebacks: int, charges: int, percent: str, stands: str) -> None:
    (found,) = rules.network_ratios(chargebacks={"visa": chargebacks}, charges={"visa": charges}, rules=RULES)
    assert (found.percent, found.standing) == (Decimal(percent), stands)
    assert (found.threshold_percent, found.warning_percent) == (Decimal("1.50"), Decimal("0.75"))


def test_every_network_stands_alone_and_the_worst_speaks() -> None:
    found = rules.network_ratios(
        chargebacks={"visa": 1, "amex": 3}, charges={"visa": 1_000, "mastercard": 10, "amex": 300}, rules=RULES
    )
    assert [ratio.network for ratio in found] == ["amex", "visa", "mastercard"]
    assert rules.worst(found) == "warning" and rules.worst(found[1:]) == "fine" and rules.worst([]) == "fine"


# Evidence ------------------------------------------------------------------------------------------------------------


def test_all_texts_together_have_a_limit_of_their_own() -> None:
    evidence.check_length({"uncategorized_text": "x" * 150_000, "receipt": "file_" * 1_000})
    with pytest.raises(Invalid, match="shorten it to 150,000"):
        evidence.check_length({"uncategorized_text": "x" * 150_000, "customer_name": "A"})


@pytest.mark.parametrize(
    ("content", "kind"), [(b"%PDF-1.7", "PDF"), (b"\xff\xd8\xff\xe0", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG")]
)
def test_a_file_is_what_its_first_bytes_say(content: bytes, kind: str) -> None:
    assert evidence.check_file(field="receipt", name="receipt.exe", content=content, others=0) == kind


def test_files_share_four_and_a_half_megabytes() -> None:
    content = b"%PDF-" + b"0" * 1_000_000
    evidence.check_file(field="receipt", name="r", content=content, others=3_000_000)
    with pytest.raises(Invalid, match=r"0\.5 MB are left"):
        evidence.check_file(field="receipt", name="r", content=content, others=4_000_000)


def known(**facts: object) -> evidence.Known:
    base = {
        "booking": "BK-1",
        "listing": "Harbour loft",
        "city": "Antwerp",
        "host": "Bob",
        "guest": "Alice",
        "email": "alice@example.org",
        "check_in": date(2026, 7, 10),
        "check_out": date(2026, 7, 13),
        "guests": 2,
        "booked_at": datetime(2026, 5, 1, 10, tzinfo=UTC),
        "policy": "Moderate.",
        "receipt": [("3 nights", "300.00 EUR")],
        "total": "391.01 EUR",
        "steps": [evidence.Step(at=datetime(2026, 5, 1, 10, tzinfo=UTC), what="the guest booked")],
    }
    return evidence.Known(**{**base, **facts})  # type: ignore[arg-type]


def test_the_draft_is_made_of_what_is_known_in_the_providers_fields() -> None:
    drafted = evidence.draft(known=known())
    assert evidence.check_words(drafted) == drafted  # every field is one of words, none too long
    assert "3 nights from 2026-07-10 to 2026-07-13" in drafted["product_description"]
    alone = evidence.draft(known=known(check_out=date(2026, 7, 11), guests=1))["product_description"]
    assert "1 night from" in alone and "for 1 guest, booking" in alone
    assert "2026-05-01 10:00 UTC: the guest booked" in drafted["access_activity_log"]
    assert "did not cancel" in drafted["cancellation_rebuttal"]
    assert "nothing is to be refunded" in drafted["refund_refusal_explanation"]


def test_a_draft_says_what_was_cancelled_and_refunded() -> None:
    drafted = evidence.draft(known=known(cancelled="Cancelled by the guest.", refunded="100.00 EUR"))
    assert drafted["cancellation_rebuttal"] == "Cancelled by the guest."
    assert drafted["refund_refusal_explanation"].startswith("Refunded so far: 100.00 EUR")
