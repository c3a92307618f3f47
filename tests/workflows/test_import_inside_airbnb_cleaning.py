"""Each quirk of real exports, as one field and what becomes of it."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.workflows.import_inside_airbnb import cleaning, masking
from backoffice.workflows.import_inside_airbnb.cleaning import Price, Unreadable
from backoffice.workflows.import_inside_airbnb.places import KNOWN, place

SENTINEL = 5_000_00


@pytest.mark.parametrize(
    ("printed", "currency", "expected"),
    [
        ("$85.00", "SGD", Price(85_00)),
        ("$1,250.00", "EUR", Price(1_250_00)),
        ("149", "USD", Price(149_00)),
        ("€90.50", "EUR", Price(90_50)),
        ("$12,000.00", "JPY", Price(12_000)),
        ("$1.250", "KWD", Price(1_250)),
        ("$4,453.00", "CAD", Price(4_453_00)),
        ("$10,286.00", "SGD", Price(10_286_00)),
        ("$11,000.00", "SGD", Price(11_000_00)),
        ("", "EUR", Price(None)),
        ("  ", "EUR", Price(None)),
        ("0", "USD", Price(None, "price_zero")),
        ("$0.00", "USD", Price(None, "price_zero")),
        ("$9,999.00", "CAD", Price(None, "price_sentinel")),
        ("$24,999.00", "EUR", Price(None, "price_sentinel")),
        ("$109,999.00", "SGD", Price(None, "price_sentinel")),
        ("10000", "USD", Price(None, "price_sentinel")),
        ("$999.00", "USD", Price(999_00)),
        ("$85.5012", "EUR", Price(None, "price_unreadable")),
        ("$85.50", "JPY", Price(None, "price_unreadable")),
        ("$-5.00", "EUR", Price(None, "price_unreadable")),
        ("$1,25.00", "EUR", Price(None, "price_unreadable")),
        ("abc", "EUR", Price(None, "price_unreadable")),
        ("٣٤", "EUR", Price(None, "price_unreadable")),
    ],
)
def test_prices_as_printed(printed: str, currency: str, expected: Price) -> None:
    assert cleaning.price(printed, currency, SENTINEL) == expected


def test_a_round_price_is_a_price_where_it_is_worth_little_or_no_rate_is_known() -> None:
    assert cleaning.price("$9,999.00", "JPY", 830_000) == Price(9_999)
    assert cleaning.price("$9,999.00", "EUR", None) == Price(9_999_00)


@given(st.integers(min_value=1, max_value=4_999_99))
def test_every_amount_below_the_sentinels_is_read_to_the_cent(amount: int) -> None:
    printed = f"${amount // 100:,}.{amount % 100:02}"
    assert cleaning.price(printed, "EUR", SENTINEL) == Price(amount)


@pytest.mark.parametrize("text", ["985940069189910173", "9223372036854775807"])
def test_ids_above_two_to_the_53_keep_every_digit(text: str) -> None:
    assert str(cleaning.identifier(text)) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "1e17", "9.85e17", "9223372036854775808", "12a", "１２"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(Unreadable):
        cleaning.identifier(text)


@pytest.mark.parametrize(("text", "expected"), [("", None), (" ", None), ("9999", 9999), ("2.0", 2), ("007", 7)])
def test_numbers(text: str, expected: int | None) -> None:
    assert cleaning.number(text) == expected


@pytest.mark.parametrize("text", ["2.5", "-1", "N/A", "1_000"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(Unreadable):
        cleaning.number(text)


@pytest.mark.parametrize("text", ["", "2025-02-29", "20250105", "2025-1-5", "0001-01-01", "9999-12-31", "N/A"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(Unreadable, match="date"):
        cleaning.day(text)
    assert cleaning.day_after(text) == ""


def test_dates() -> None:
    assert cleaning.day("2024-02-28") == date(2024, 2, 28)
    assert cleaning.day_after("2024-02-28") == "2024-02-29"
    assert cleaning.day_after("2024-12-31") == "2025-01-01"


@pytest.mark.parametrize(
    ("text", "bare", "expected"),
    [
        ("1 bath", "", "1"),
        ("1.5 shared baths", "", "1.5"),
        ("0 baths", "", "0"),
        ("Half-bath", "", "0.5"),
        ("Shared half-bath", "", "0.5"),
        ("Private half-bath", "", "0.5"),
        ("", "2.5", "2.5"),
        ("", "1.0", "1.0"),
    ],
)
def test_bathrooms(text: str, bare: str, expected: str) -> None:
    assert cleaning.bathrooms(text, bare) == Decimal(expected)


def test_no_bathrooms_are_not_zero_bathrooms() -> None:
    assert cleaning.bathrooms("", "") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["Wifi", "Long term stays \\u2013 allowed", "43\\" TV"]', ["Wifi", "Long term stays – allowed", '43" TV']),
        ('{TV,"Cable TV","Smoke Detector",TV}', ["TV", "Cable TV", "Smoke Detector"]),
        ("{}", []),
        ("[]", []),
        ("", []),
        ("[broken", []),
        ("null", []),
        ('["Wifi", 3, null, "  ", "Wifi"]', ["Wifi"]),
    ],
)
def test_amenities_of_new_and_of_old_exports(text: str, expected: list[str]) -> None:
    assert cleaning.amenities(text) == expected


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Plain text", "Plain text"),
        ("We <3 this home", "We <3 this home"),
        ("a < b and <3", "a < b and <3"),
        ("One<br />two<br/>three", "One\ntwo\nthree"),
        ("<b>The space</b><br /><br />Big", "The space\n\nBig"),
        ("Tea &amp; toast &lt;b&gt;", "Tea & toast <b>"),
        ("A\r<br/>B", "A\n\nB"),
        ("A\r\nB\rC\u2028D", "A\nB\nC\nD"),
        ("near\x80\x9cthe park\x80\x9d", "nearthe park"),
        ("room\uf0a7 1", "room 1"),
        ("zero\u200bwidth", "zerowidth"),
        ("👨\u200d👩\u200d👧 welcome", "👨\u200d👩\u200d👧 welcome"),
        ("nbsp\u00a0and  double   spaces ", "nbsp and double spaces"),
        ("名前 ★4.44", "名前 ★4.44"),
        ("null\x00byte", "nullbyte"),
        ("lone \udcff surrogate", "lone surrogate"),
    ],
)
def test_text_that_is_fit_to_show(raw: str, shown: str) -> None:
    assert cleaning.clean(raw) == shown


@given(st.text(max_size=200))
def test_cleaned_text_can_always_be_stored_and_cleaning_it_again_keeps_it_so(raw: str) -> None:
    shown = cleaning.clean(raw)
    assert "\x00" not in shown
    shown.encode("utf-8")
    assert "\n" not in cleaning.line(raw, 30) and len(cleaning.line(raw, 30)) <= 30


@pytest.mark.parametrize(
    ("score", "count", "expected"),
    [
        ("4.75", "12", (12, 57)),
        ("95", "10", (10, 48)),
        ("", "3", (0, 0)),
        ("5.0", "0", (0, 0)),
        ("NaN", "2", (0, 0)),
        ("4.5", "x", (0, 0)),
    ],
)
def test_ratings_of_every_scale(score: str, count: str, expected: tuple[int, int]) -> None:
    assert cleaning.rating(score, count) == expected


@pytest.mark.parametrize("maximum", [9_999, 100_000, 9_001, 1_825])
def test_beyond_the_longest_stay_means_no_limit(maximum: int) -> None:
    assert cleaning.stay_bounds(1, maximum) == (1, cleaning.LONGEST_STAY)
    assert cleaning.stay_bounds(0, 0) == (None, None)


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("The host canceled this reservation 20 days before arrival. This is an automated posting.", True),
        ("The reservation was canceled the day before arrival. This is an automated posting.", True),
        ("The host canceled on us, shame.", False),
        (".", False),
        ("", False),
    ],
)
def test_notices_of_cancellation_are_told_from_reviews(comment: str, expected: bool) -> None:
    assert cleaning.is_cancellation_notice(comment) is expected


# Masking --------------------------------------------------------------------------------------------------------------


def test_a_pseudonym_is_believable_stable_and_differs_between_people() -> None:
    names = [masking.person(key) for key in range(1, 400)]
    assert names == [masking.person(key) for key in range(1, 400)]
    assert len(set(names)) > 380
    assert all(re.fullmatch(r"[A-Z]\w+ [A-Z]\w+", name) for name in names)
    assert re.fullmatch(r"[A-Z]\w+ [A-Z]\.", masking.author(5))


def test_a_blurred_review_keeps_everyday_words_only() -> None:
    text = "Wilhelmina was a great host! The flat near Gravensteen is clean, call her at 0470 12 34 56."
    assert masking.blurred(text) == "… was a great host! The flat near … is clean, … her at …."


@pytest.mark.parametrize("text", ["", ".", "👍🏻", "房东很好，地点方便", "Wilhelmina Bartholomeus Gravensteen"])
def test_nothing_is_left_of_a_review_that_cannot_be_blurred(text: str) -> None:
    assert masking.blurred(text) == ""


@given(st.text(max_size=300))
def test_no_word_passes_the_blur_that_is_not_on_the_list(text: str) -> None:
    for word in re.findall(r"[^\W_]+", masking.blurred(text)):
        stem = word.lower()
        assert stem in masking._KEPT or word == "I" or len(word) <= 3  # the letters after an apostrophe: don't, it's


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to ada@example.org or www.example.org/x now", "write to … or … now"),
        ("call +32 470 12 34 56 or (0470) 12-34-56", "call … or (…"),
        ("built in 1890, 3 rooms, 120 m2", "built in 1890, 3 rooms, 120 m2"),
    ],
)
def test_ways_to_reach_somebody_are_taken_out(text: str, expected: str) -> None:
    assert masking.without_contacts(text) == expected


def test_the_real_name_of_a_host_is_taken_out_of_what_they_wrote() -> None:
    assert masking.without_name("Wilhelmina's loft", "Wilhelmina", "Ada Berg") == "Ada's loft"
    assert masking.without_name("Jan and Griet welcome you, Januari too", "Jan & Griet", "Ada Berg") == (
        "Ada and Ada welcome you, Januari too"
    )
    assert masking.without_name("475 steps", "475", "Ada Berg") == "475 steps"


def test_cancellation_tiers_are_spread_and_stay() -> None:
    tiers = [masking.cancellation_tier(key) for key in range(2_000)]
    assert tiers == [masking.cancellation_tier(key) for key in range(2_000)]
    assert {"flexible", "moderate", "limited", "firm", "strict", "non-refundable"} == set(tiers)
    assert tiers.count("flexible") > tiers.count("strict") * 3


def test_every_city_we_know_is_one_that_can_be_loaded() -> None:
    for slug in KNOWN:
        assert place(city=slug.replace("-", " ").title()).slug == slug
    assert place(city="  Málaga ", country="ES", time_zone="Europe/Madrid").slug == "malaga"
    assert place(city="西雅图", country="US", time_zone="America/Los_Angeles").slug == "西雅图"
