"""A guest's receipt and refunds: what the paper says is what the ledger says, and only its guest reads it."""

from __future__ import annotations

import io
import re
from datetime import date, timedelta
from typing import Any

import pytest
from pypdf import PdfReader

from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.ledger import queries as ledger
from backoffice.payments import operations as payments_operations
from backoffice.payments import queries as payments
from backoffice.reporting.policies import business_days_after, refund_story
from backoffice.workflows import refund_booking
from tests import factories
from tests.api.conftest import Caller
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import FINANCE, now, paid, refund

NAME = "Żofia Ευαγγελία Дмитриевна O'Brien <b>&"


def signed_in(user: Any) -> Caller:
    from api import auth

    return Caller(token=auth.issue(person_id=user.pk).access)


def read_pdf(raw: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(raw)).pages)


@pytest.fixture(params=["EUR", "USD"])
def booking(request: pytest.FixtureRequest, sandbox: RunningSandbox, transactional_db: None) -> Any:
    return paid(sandbox, guest=factories.person(NAME, now=now()), currency=request.param)


def test_the_receipt_adds_up_and_is_what_the_ledger_was_told(booking: Any) -> None:
    found = signed_in(booking.guest).get(f"bookings/{booking.code}/receipt")
    assert found.status == 200, found.body
    said = found.body
    assert sum(line["amount"]["amount"] for line in said["lines"]) == said["total"]["amount"] == booking.total
    assert sum(line["charged"]["amount"] for line in said["lines"]) == said["charge_total"]["amount"]
    assert (said["charged"]["amount"], said["charged"]["currency"]) == (booking.charge_total, booking.charge_currency)
    assert [(row["what"], row["amount"]) for row in said["charges"]] == [("stay", said["charged"])]
    assert (said["refunds"], said["paid"]) == ([], said["charged"])
    assert said["rate"]["quote"] == booking.charge_currency and said["guest"] == NAME
    posted = ledger.trace(booking.code)[0].lines.filter(account__code="1150").get()
    assert (posted.amount, posted.currency) == (said["charged"]["amount"], said["charged"]["currency"])


def test_while_refunds_are_stopped_its_guest_reads_why_and_not_that_it_is_on_its_way(
    sandbox: RunningSandbox, transactional_db: None
) -> None:
    booking = paid(sandbox)
    asked = refund(booking, 5_000)
    jobs.stop(scope="refunds", reason="The bank asked us to wait.", actor=factories.SYSTEM, now=now())
    guest = signed_in(booking.guest)
    (told,) = guest.get(f"bookings/{booking.code}/refunds").body["results"]
    assert told["state"] == "waiting" and "stopped for now: The bank asked us to wait. It is sent" in told["message"]
    receipt = guest.get(f"bookings/{booking.code}/receipt").body
    assert (receipt["refunds_pending"]["amount"], receipt["refunded"]["amount"]) == (5_000, 0)
    jobs.resume(scope="refunds", reason="they answered", actor=factories.SYSTEM, now=now())
    (told,) = guest.get(f"bookings/{booking.code}/refunds").body["results"]
    assert (told["state"], told["message"]) == ("on_its_way", "This refund is on its way to your card.")
    jobs.stop(scope="refunds", reason="again", actor=factories.SYSTEM, now=now())
    payments_operations.claim_refund(refund_code=asked.code, now=now())
    (told,) = guest.get(f"bookings/{booking.code}/refunds").body["results"]
    assert told["state"] == "on_its_way", "what the provider was asked for goes on"


def test_refunds_are_on_it_with_where_they_are_and_when_to_expect_them(booking: Any) -> None:
    asked = refund(booking, 5_000)
    guest = signed_in(booking.guest)
    before = guest.get(f"bookings/{booking.code}/receipt").body
    assert [(row["state"], row["arrives_by"]) for row in before["refunds"]] == [("on_its_way", None)]
    assert (before["refunds_pending"]["amount"], before["paid"]["amount"]) == (5_000, booking.charge_total)
    refund_booking.send(refund_code=asked.code, actor=FINANCE, now=now())
    after = guest.get(f"bookings/{booking.code}/receipt").body
    (row,) = after["refunds"]
    assert (row["code"], row["state"], row["amount"]["amount"]) == (asked.code, "sent", 5_000)
    assert date.fromisoformat(row["arrives_by"]) > date.fromisoformat(row["arrives_from"]) > now().date()
    assert "5 to 10 business days" in row["message"]
    money = payments.money_of(booking=booking)
    assert Money(after["refunded"]["amount"], after["refunded"]["currency"]) == money.refunded
    assert after["paid"]["amount"] == booking.charge_total - 5_000 and after["refunds_pending"]["amount"] == 0
    assert guest.get(f"bookings/{booking.code}/refunds").body == {"results": after["refunds"]}


def test_the_pdf_read_back_says_the_same_amounts_in_every_script(booking: Any) -> None:
    refund_booking.send(refund_code=refund(booking, 5_000).code, actor=FINANCE, now=now())
    guest = signed_in(booking.guest)
    said = guest.get(f"bookings/{booking.code}/receipt").body
    printed = guest.get(f"bookings/{booking.code}/receipt.pdf")
    assert (printed.status, printed.headers["Content-Type"]) == (200, "application/pdf")
    assert f'filename="receipt-{said["number"]}.pdf"' in printed.headers["Content-Disposition"]
    text = read_pdf(printed.raw)
    assert NAME in text and booking.code in text and booking.listing.title in text
    assert _amounts(text) >= {line["charged"]["formatted"] for line in said["lines"]}
    assert _amounts(text) >= {
        said[name]["formatted"] for name in ("total", "charge_total", "charged", "refunded", "paid")
    }
    assert ("Converted at 1 EUR" in text) == (booking.charge_currency != "EUR")


def _amounts(text: str) -> set[str]:
    return set(re.findall(r"-?(?:€|\$)[\d,.]+\d", text))


def test_the_same_facts_are_the_same_bytes(booking: Any) -> None:
    from dataclasses import replace

    from api.documents import receipt_pdf
    from backoffice.reporting import queries

    found = queries.receipt(booking_code=booking.code, actor=factories.acting(booking.guest), now=now())
    assert receipt_pdf(found) == receipt_pdf(found)
    longer = replace(found, lines=found.lines * 60)
    assert len(PdfReader(io.BytesIO(receipt_pdf(longer))).pages) > 1
    for nights, guests, said in ((1, 1, "1 night, 1 guest\n"), (2, 3, "2 nights, 3 guests\n")):
        assert said in read_pdf(receipt_pdf(replace(found, nights=nights, guests=guests)))


def test_only_its_guest_and_staff_read_it(booking: Any) -> None:
    for path in ("receipt", "receipt.pdf", "refunds"):
        at = f"bookings/{booking.code}/{path}"
        assert signed_in(booking.guest).get(at).status == 200
        assert signed_in(factories.staff("finance", now=now())).get(at).status == 200
        assert Caller().get(at).status == 401
        for stranger in (booking.host, factories.person("Dana", now=now())):
            refused = signed_in(stranger).get(at)
            assert (refused.status, refused.code) == (404, "not_found")
            assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
def test_before_anything_was_paid_there_is_no_receipt() -> None:
    booking = factories.booking(now=now())
    for path in ("receipt", "receipt.pdf"):
        refused = signed_in(booking.guest).get(f"bookings/{booking.code}/{path}")
        assert (refused.status, refused.code) == (409, "conflict") and "nothing" in refused.body["detail"].lower()
    assert signed_in(booking.guest).get(f"bookings/{booking.code}/refunds").body == {"results": []}


# The story of a refund -----------------------------------------------------------------------------------------------

FRIDAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("day", "days", "after"),
    [
        (FRIDAY, 1, date(2026, 11, 23)),
        (FRIDAY, 5, date(2026, 11, 27)),
        (FRIDAY, 10, date(2026, 12, 4)),
        (FRIDAY + timedelta(days=1), 1, date(2026, 11, 23)),
        (FRIDAY, 0, FRIDAY),
    ],
)
def test_business_days_leave_out_weekends(day: date, days: int, after: date) -> None:
    assert business_days_after(day, days) == after


@pytest.mark.parametrize(
    ("repaid", "state", "says"),
    [("", "returned", "where else"), ("submitted", "returned", "is being paid"), ("succeeded", "sent", "was paid")],
)
def test_one_that_the_provider_never_sent_is_not_told_as_the_guest_s_bank_s_doing(
    repaid: str, state: str, says: str
) -> None:
    story = refund_story(status="failed", sent_on=FRIDAY, unclaimed=True, repaid=repaid, method="card", refused=True)
    assert story.state == state and says in story.sentence and "could not be sent to your card" in story.sentence


@pytest.mark.parametrize(
    ("status", "unclaimed", "repaid", "method", "state", "says"),
    [
        ("requested", False, "", "card", "waiting", "looking at"),
        ("approved", False, "", "card", "on_its_way", "your card"),
        ("indeterminate", False, "", "card", "on_its_way", "your card"),
        ("succeeded", False, "", "card", "sent", "5 to 10"),
        ("succeeded", False, "", "other", "sent", "your bank account"),
        ("failed", False, "", "card", "failed", "could not be made"),
        ("failed", True, "", "card", "returned", "where else"),
        ("failed", True, "submitted", "card", "returned", "is being paid"),
        ("failed", True, "succeeded", "card", "sent", "another way"),
        ("failed", True, "failed", "card", "returned", "where else"),
        ("failed", False, "", "other", "returned", "The bank sent this back"),
    ],
)
def test_every_state_is_told_in_words(
    status: str, unclaimed: bool, repaid: str, method: str, state: str, says: str
) -> None:
    story = refund_story(status=status, sent_on=FRIDAY, unclaimed=unclaimed, repaid=repaid, method=method)
    assert story.state == state and says in story.sentence
