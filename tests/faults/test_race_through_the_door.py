"""The last nights of a home, wanted by sixty-four people at the same moment through the web server: one has them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import requests

from api import auth
from backoffice.bookings.models import Booking
from backoffice.listings.models import CalendarHold
from tests import factories
from tests.desk import RunningDesk
from tests.workflows.steps import ROOMS, now

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
CLIENTS = 64


def test_the_last_nights_are_booked_once_however_many_want_them(desk: RunningDesk) -> None:
    at = now()
    home, check_in = factories.listing(now=at), (at + timedelta(days=30)).date()
    guests = [factories.person(f"Guest {number}", now=at) for number in range(CLIENTS)]
    quotes = [factories.quote(home, guest, check_in=check_in, now=at).code for guest in guests]
    tokens = [auth.issue(person_id=guest.id).access for guest in guests]
    line = Barrier(CLIENTS)

    def book(number: int) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {tokens[number]}", "Idempotency-Key": f"race-{number}"}
        with requests.Session() as session:
            session.trust_env = False
            line.wait()
            answer = session.post(
                f"{desk.site}/api/v1/bookings", json={"quote": quotes[number]}, headers=headers, timeout=60
            )
        return answer.status_code, str(answer.json().get("code"))

    with ThreadPoolExecutor(CLIENTS) as crowd:
        answers = list(crowd.map(book, range(CLIENTS)))
    won = [code for status, code in answers if status == 201]
    assert len(won) == 1, Counter(answers)
    assert Counter(answer for answer in answers if answer[0] != 201) == {(409, "nights_taken"): CLIENTS - 1}
    assert list(Booking.objects.values_list("code", flat=True)) == won
    assert CalendarHold.objects.filter(listing=home, active=True).count() == 1
