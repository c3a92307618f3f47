"""From a quote to a paid stay and out of it again, through the door."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.audit import queries as audit
from backoffice.bookings import queries
from backoffice.bookings.models import Booking, Quote
from backoffice.core import clock
from backoffice.core.models import IdempotencyRecord
from backoffice.workflows import keep_time
from tests import factories
from tests.api.conftest import Caller, Person, book, in_days, make_home, stay
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import asked_back

pytestmark = pytest.mark.django_db


def quote(guest: Caller, home: str, **changes: Any) -> Any:
    return guest.post("quotes", {"listing": home, "guests": 2, **stay(), **changes})


def test_a_quote_says_every_line_and_freezes_the_rate(alice: Person, home: str) -> None:
    made = quote(alice, home, currency="USD").body
    assert made["nights"] == 5 and made["listing"]["code"] == home
    lines = {line["kind"]: line["amount"]["amount"] for line in made["lines"]}
    assert lines["nights"] == 68000 and lines["cleaning"] == 2000 and lines["guest_fee"] == 9800
    assert sum(lines.values()) == made["total"]["amount"]
    assert sum(line["charged"]["amount"] for line in made["lines"]) == made["charge_total"]["amount"]
    assert (made["total"]["currency"], made["charge_total"]["currency"]) == ("EUR", "USD")
    assert made["rate"]["base"] == "EUR" and made["rate"]["source"] == "ECB"
    assert alice.get(f"quotes/{made['code']}").body == made


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"check_in": in_days(65), "check_out": in_days(61)}, 422, "check_out"),
        ({"check_in": in_days(65), "check_out": in_days(65)}, 422, "check_out"),
        ({"guests": 999}, 422, "guests"),
        ({"guests": 5}, 422, "guests"),
        ({"guests": 0}, 422, "guests"),
        ({"guests": -4}, 422, "guests"),
        ({"check_in": in_days(-3)}, 422, "check_in"),
        ({"check_out": in_days(800)}, 422, "check_out"),
        ({"check_in": "2027-02-30"}, 422, "check_in"),
        ({"check_in": "9999-12-30", "check_out": "9999-12-31"}, 422, "check_in"),
        ({"check_in": "0001-01-01"}, 422, "check_in"),
        ({"check_in": 20270115}, 422, "check_in"),
        ({"currency": "XXX"}, 422, "currency"),
        ({"total": 1}, 422, "total"),
        ({"price": 1}, 422, "price"),
        ({"nights": -4}, 422, "nights"),
        ({"number_of_nights": -4}, 422, "number_of_nights"),
        ({"fee": 0}, 422, "fee"),
        ({"host": 1}, 422, "host"),
        ({"cancellation_tier": "flexible"}, 422, "cancellation_tier"),
        ({"property": "LS-1"}, 422, "property"),
        ({"listing": "LS-ZZZZZZZZ"}, 404, None),
        ({"listing": 1}, 422, "listing"),
    ],
)
def test_price_and_stay_are_ours_to_check(
    alice: Person, home: str, changes: dict[str, Any], status: int, field: str | None
) -> None:
    """Peers stored end before start, -4 nights, a total of 0.01 and 999 guests as the client sent them, or took price, fee,
    policy and host from it; one looked for overlaps under a field name that did not exist."""
    answer = quote(alice, home, **changes)
    assert (answer.status, answer.body.get("field")) == (status, field), answer.body
    assert not Quote.objects.exists()


def test_nights_that_are_taken_are_refused_typed(alice: Person, charlie: Person, home: str) -> None:
    theirs = quote(charlie, home).body["code"]
    book(alice, home)
    late = charlie.pay_or_book("bookings", {"quote": theirs})
    assert (late.status, late.code) == (409, "nights_taken")
    assert late.body["facts"] == stay()
    assert quote(charlie, home, check_in=in_days(64), check_out=in_days(66)).code == "nights_taken"
    assert quote(charlie, home, check_in=in_days(65), check_out=in_days(66)).status == 201  # half-open


def test_a_booking_is_pending_and_says_why(alice: Person, bob: Person, home: str) -> None:
    made = book(alice, home)
    assert (made["status"], made["pending_reason"]) == ("pending", "awaiting_payment")
    assert made["available_actions"] == ["pay", "cancel"]
    assert made["pay_until"] and made["host_money"] is None
    assert made["money"]["charged"]["amount"] == 0
    as_host = bob.get(f"bookings/{made['code']}").body
    assert as_host["available_actions"] == ["cancel"]
    assert as_host["host_money"]["earns"] == {"amount": 67900, "currency": "EUR", "formatted": "€679.00"}
    assert as_host["guest"] == {"code": alice.code, "name": "Alice"}
    assert [row["code"] for row in alice.get("bookings").body["results"]] == [made["code"]]
    assert alice.get("bookings?as=host").body["results"] == []
    assert [row["code"] for row in bob.get("bookings?as=host").body["results"]] == [made["code"]]


def test_a_quote_is_its_guests_and_runs_out(
    alice: Person, charlie: Person, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = quote(alice, home).body["code"]
    assert charlie.get(f"quotes/{code}").status == 404
    assert charlie.pay_or_book("bookings", {"quote": code}).status == 404
    later = clock.now() + timedelta(minutes=31)
    monkeypatch.setattr(clock, "now", lambda: later)
    expired = alice.pay_or_book("bookings", {"quote": code})
    assert (expired.status, expired.code) == (409, "quote_expired")


# Idempotency keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", " ", "é", "a b", "x" * 256])
def test_a_booking_needs_a_key(alice: Person, home: str, key: str) -> None:
    code = quote(alice, home).body["code"]
    refused = alice.call("POST", "bookings", {"quote": code}, **({"Idempotency-Key": key} if key else {}))
    assert (refused.status, refused.body["field"]) == (422, "Idempotency-Key")


def test_the_same_key_gives_the_same_answer_and_one_booking(alice: Person, home: str) -> None:
    code = quote(alice, home).body["code"]
    first = alice.pay_or_book("bookings", {"quote": code}, key="k-1")
    again = alice.pay_or_book("bookings", {"quote": code}, key="k-1")
    assert (first.status, again.status) == (201, 201)
    assert first.raw == again.raw
    assert again.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in first.headers
    assert Booking.objects.count() == 1
    other_key = alice.pay_or_book("bookings", {"quote": code}, key="k-2")
    assert (other_key.status, other_key.code) == (409, "conflict")
    assert other_key.body["facts"] == {"booking": first.body["code"]}


def test_a_key_belongs_to_one_request_and_one_person(alice: Person, charlie: Person, home: str) -> None:
    alice.pay_or_book("bookings", {"quote": quote(alice, home).body["code"]}, key="k-1")
    other = alice.pay_or_book("bookings", {"quote": quote(alice, home, **stay(90, 2)).body["code"]}, key="k-1")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    hers = charlie.pay_or_book("bookings", {"quote": quote(charlie, home, **stay(90, 2)).body["code"]}, key="k-1")
    assert hers.status == 201


def test_a_refusal_is_kept_under_its_key_and_a_wrong_input_is_not(alice: Person, charlie: Person, home: str) -> None:
    code = quote(alice, home).body["code"]
    book(charlie, home)
    first = alice.pay_or_book("bookings", {"quote": code}, key="k-1")
    again = alice.pay_or_book("bookings", {"quote": code}, key="k-1")
    assert first.code == again.code == "nights_taken" and again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Type"] == "application/problem+json"
    assert alice.pay_or_book("bookings", {"qoute": code}, key="k-9").status == 422
    assert not IdempotencyRecord.objects.filter(key="k-9").exists()


def test_a_key_whose_first_request_is_still_at_work_is_refused_for_now(alice: Person, home: str) -> None:
    code = quote(alice, home).body["code"]
    answered = alice.pay_or_book("bookings", {"quote": code}, key="k-1")
    IdempotencyRecord.objects.filter(key="k-1").update(state="started")
    waiting = alice.pay_or_book("bookings", {"quote": code}, key="k-1")
    assert (answered.status, waiting.status, waiting.code) == (201, 409, "idempotency_key_in_use")
    assert waiting.headers["Retry-After"]


def test_a_request_that_died_on_our_side_leaves_nothing_and_can_be_repeated(
    alice: Person, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = quote(alice, home).body["code"]

    def die(**_: Any) -> None:
        raise RuntimeError("the process died before the answer was kept")

    with monkeypatch.context() as patch:
        patch.setattr("api.idempotency.operations.answer_key", die)
        assert alice.pay_or_book("bookings", {"quote": code}, key="k-1").status == 500
    assert not Booking.objects.exists()
    assert alice.pay_or_book("bookings", {"quote": code}, key="k-1").status == 201
    assert Booking.objects.count() == 1


# Paying and cancelling, against the sandbox ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_paid_confirmed_and_cancelled_on_the_terms_that_were_shown(
    sandbox: RunningSandbox, alice: Person, bob: Person, home: str
) -> None:
    made = book(alice, home)
    path = f"bookings/{made['code']}"
    paid = alice.pay_or_book(f"{path}/pay", {"payment_method": "pm_card_visa"}, key="pay-1")
    assert paid.status == 200, paid.body
    assert paid.body["payment"]["status"] == "captured"
    assert (paid.body["booking"]["status"], paid.body["booking"]["pending_reason"]) == ("confirmed", None)
    assert paid.body["booking"]["money"]["charged"] == made["charge_total"]
    assert alice.pay_or_book(f"{path}/pay", {"payment_method": "pm_card_visa"}, key="pay-1").raw == paid.raw
    twice = alice.pay_or_book(f"{path}/pay", {"payment_method": "pm_card_visa"}, key="pay-2")
    assert (twice.status, twice.code) == (409, "conflict")

    terms = alice.post(f"{path}/cancellation-quote").body
    assert terms["by"] == "guest" and terms["refund"] == made["charge_total"] and terms["penalty"] is None
    assert terms["decision"]["trace"]
    cancelled = alice.post(f"{path}/cancel", {"token": terms["token"]})
    assert cancelled.status == 200, cancelled.body
    assert (cancelled.body["status"], cancelled.body["cancelled_by"]) == ("cancelled", "guest")
    assert cancelled.body["cancellation"]["trace"] and cancelled.body["available_actions"] == []
    assert (
        cancelled.body["money"]["refunds_pending"]["amount"] + cancelled.body["money"]["refunded"]["amount"]
        == (made["charge_total"]["amount"])
    )
    assert alice.post(f"{path}/cancel", {"token": terms["token"]}).code == "illegal_transition"
    verbs = set(audit.entries().values_list("verb", flat=True))
    assert {"bookings.create", "bookings.confirm", "bookings.cancel", "refunds.request"} <= verbs


@pytest.mark.django_db(transaction=True)
def test_what_a_request_covers_of_a_cancellation_is_said_and_counted(
    sandbox: RunningSandbox, alice: Person, home: str
) -> None:
    made = book(alice, home)
    path, total = f"bookings/{made['code']}", made["charge_total"]["amount"]
    assert alice.pay_or_book(f"{path}/pay", {"payment_method": "pm_card_visa"}, key="pay-1").status == 200
    booking = Booking.objects.get(code=made["code"])
    assert asked_back(booking, total - 1_000, by=factories.staff("support_l1")).status == "requested"
    terms = alice.post(f"{path}/cancellation-quote").body
    assert (terms["refund"]["amount"], terms["refund_asked"]["amount"]) == (1_000, total - 1_000)
    cancelled = alice.post(f"{path}/cancel", {"token": terms["token"]}).body["cancellation"]
    for decision in (terms["decision"], cancelled):
        assert decision["asked"].items() <= terms["refund_asked"].items()
        assert "due" not in decision, "how it divides between host and desk is our own"


@pytest.mark.django_db(transaction=True)
def test_a_declined_card_is_said_and_another_one_works(sandbox: RunningSandbox, alice: Person, home: str) -> None:
    path = f"bookings/{book(alice, home)['code']}/pay"
    declined = alice.pay_or_book(path, {"payment_method": "pm_card_chargeDeclinedInsufficientFunds"}, key="p-1")
    assert (declined.status, declined.code) == (402, "payment_declined")
    assert declined.body["facts"]["decline_code"] == "insufficient_funds"
    repeated = alice.pay_or_book(path, {"payment_method": "pm_card_chargeDeclinedInsufficientFunds"}, key="p-1")
    assert repeated.status == 402 and repeated.headers["Idempotent-Replayed"]
    assert alice.pay_or_book(path, {"payment_method": "pm_card_visa"}, key="p-2").status == 200


@pytest.mark.django_db(transaction=True)
def test_a_card_that_nobody_knows_is_422_names_the_field_and_another_one_works(
    sandbox: RunningSandbox, alice: Person, home: str
) -> None:
    path = f"bookings/{book(alice, home)['code']}/pay"
    unknown = alice.pay_or_book(path, {"payment_method": "pm_nobody"}, key="p-1")
    assert (unknown.status, unknown.code, unknown.body["field"]) == (422, "unknown_payment_method", "payment_method")
    assert alice.pay_or_book(path, {"payment_method": "pm_card_visa"}, key="p-2").status == 200


@pytest.mark.django_db(transaction=True)
def test_a_bank_that_asks_the_guest_is_202_with_the_address_to_go_to(
    sandbox: RunningSandbox, alice: Person, home: str
) -> None:
    path = f"bookings/{book(alice, home)['code']}/pay"
    asked = alice.pay_or_book(path, {"payment_method": "pm_card_threeDSecure2Required"})
    assert (asked.status, asked.body["payment"]["status"]) == (202, "requires_action"), asked.body
    assert asked.body["payment"]["next_action_url"].startswith("http")
    assert asked.body["booking"]["status"] == "pending"


@pytest.mark.django_db(transaction=True)
def test_a_provider_that_does_not_answer_is_503_and_the_same_key_may_be_repeated(
    sandbox: RunningSandbox, alice: Person, home: str
) -> None:
    path = f"bookings/{book(alice, home)['code']}/pay"
    sandbox.fault("timeout_after_commit", path="/v1/payment_intents", times=10)
    lost = alice.pay_or_book(path, {"payment_method": "pm_card_visa"}, key="p-1")
    assert (lost.status, lost.code) == (503, "indeterminate"), lost.body
    assert lost.headers["Retry-After"]
    assert not IdempotencyRecord.objects.filter(key="p-1").exists()


@pytest.mark.django_db(transaction=True)
def test_terms_that_have_changed_are_shown_again_not_applied(
    sandbox: RunningSandbox, alice: Person, bob: Person, home: str
) -> None:
    made = book(alice, home)
    path = f"bookings/{made['code']}"
    unpaid = alice.post(f"{path}/cancellation-quote").body
    assert unpaid["refund"]["amount"] == 0
    alice.pay_or_book(f"{path}/pay", {"payment_method": "pm_card_visa"})
    stale = alice.post(f"{path}/cancel", {"token": unpaid["token"]})
    assert (stale.status, stale.code) == (409, "stale_version")
    hosts = bob.post(f"{path}/cancellation-quote").body
    assert hosts["by"] == "host" and hosts["penalty"]["amount"] >= 4000
    swapped = alice.post(f"{path}/cancel", {"token": hosts["token"]})
    assert (swapped.status, swapped.body["field"]) == (422, "token")
    for token in ("x", hosts["token"][:-2], "\u20ac" * 40):
        assert alice.post(f"{path}/cancel", {"token": token}).body["field"] == "token"
    silent = bob.post(f"{path}/cancel", {"token": hosts["token"]})
    assert (silent.status, silent.code) == (422, "refused")
    told = bob.post(f"{path}/cancel", {"token": hosts["token"], "reason": "The roof leaks."})
    assert (told.body["status"], told.body["cancelled_by"]) == ("cancelled", "host")


def test_an_unpaid_booking_runs_out_and_its_nights_are_free(alice: Person, home: str) -> None:
    code = book(alice, home)["code"]
    later = clock.now() + timedelta(minutes=16)
    assert keep_time.expire_holds(now=later) == 1
    assert queries.booking(code=code).status == "expired"
    assert alice.get(f"bookings/{code}").body["available_actions"] == []
    assert quote(alice, home).status == 201


def test_a_list_costs_the_same_however_long(alice: Person, home: str, django_assert_max_num_queries: Any) -> None:
    for number in range(6):
        book(alice, home, first=60 + 3 * number, nights=2)
    with django_assert_max_num_queries(4):  # who asks, the page, its payments, and how far the desk's clock is ahead
        page = alice.get("bookings?limit=2")
    with django_assert_max_num_queries(4):
        page = alice.get("bookings?limit=6")
    assert len(page.body["results"]) == 6


def test_homes_without_a_price_and_ones_own_are_not_sold(alice: Person, bob: Person, home: str) -> None:
    assert quote(bob, home).code == "conflict"
    own = make_home(bob, nightly_price=1)
    assert quote(alice, own).status == 201
