from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.stays import Stay, instant

days = st.dates(date(2024, 1, 1), date(2030, 1, 1))
stays = st.builds(lambda first, nights: Stay(first, first + timedelta(days=nights)), days, st.integers(1, 60))


@given(stays)
def test_a_stay_has_as_many_dates_as_nights_and_not_that_of_check_out(stay: Stay) -> None:
    dates = list(stay.dates())
    assert len(dates) == stay.nights and dates[0] == stay.check_in and stay.check_out not in dates


@given(stays, stays)
def test_stays_overlap_exactly_when_they_share_a_night(left: Stay, right: Stay) -> None:
    assert left.overlaps(right) == right.overlaps(left) == bool(set(left.dates()) & set(right.dates()))


def test_a_stay_ends_after_it_begins() -> None:
    with pytest.raises(ValueError, match="after"):
        Stay(date(2026, 1, 2), date(2026, 1, 2))


@pytest.mark.parametrize(
    ("zone", "day", "at", "utc"),
    [
        ("Europe/Paris", date(2026, 3, 29), time(15), datetime(2026, 3, 29, 13, tzinfo=UTC)),
        ("Europe/Paris", date(2026, 3, 28), time(15), datetime(2026, 3, 28, 14, tzinfo=UTC)),
        ("Europe/Paris", date(2026, 3, 29), time(2, 30), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("Asia/Singapore", date(2026, 7, 1), time(15), datetime(2026, 7, 1, 7, tzinfo=UTC)),
    ],
)
def test_an_instant_is_the_wall_clock_at_the_home(zone: str, day: date, at: time, utc: datetime) -> None:
    assert instant(day, at, zone) == utc
