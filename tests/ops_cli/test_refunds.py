"""`ops refunds`: shown, previewed, asked for and decided, by people whom the desk knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backoffice.audit import queries as audit
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payments import operations as payments
from backoffice.payments import queries
from backoffice.payments.models import Refund
from backoffice.payments.states import REFUND_CAUSES
from backoffice.reconciliation import operations as reconciliation
from backoffice.workflows import cancel_booking, import_balance_transactions
from ops_cli.commands import refunds as command
from ops_cli.output import Exit
from tests import factories
from tests.console.world import SYSTEM, bank_line, chargeback, late
from tests.ops_cli.conftest import Answered
from tests.payments.test_repayments import came_back
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import paid as stay_paid
from tests.workflows.test_pay_and_refund import now, paid
from tests.workflows.test_release_payouts import converted_stay

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]


@pytest.fixture
def booking(sandbox: RunningSandbox):
    return paid(sandbox)


def test_the_causes_offered_are_those_of_the_house() -> None:
    assert command.CAUSES == REFUND_CAUSES


def test_the_preview_is_the_same_three_ways_and_changes_nothing(ops: Ops, booking) -> None:
    shown = ops("refunds", "preview", booking.code.lower(), "--amount", "50.00")
    assert shown.code == Exit.DONE and not Refund.objects.exists()
    amounts = {row["who"]: row["amount"]["amount"] for row in shown.rows}
    assert amounts["guest"] == 5_000 == amounts["host"] + amounts["platform"] + amounts["tax office"]
    assert shown.summary["most"] == {"amount": booking.charge_total, "currency": "EUR"}
    assert shown.summary["worth"] == {"amount": 5_000, "currency": "EUR"}
    ours = ops("refunds", "preview", booking.code, "--amount", "50.00", "--bearer", "platform").rows
    assert [row["amount"]["amount"] for row in ours] == [5_000, 0, 0, 0, 5_000] and ours[-1]["what"] == "bears besides"
    assert ops("refunds", "request", booking.code, "--amount", "50.00", "--dry-run").rows == shown.rows
    assert not Refund.objects.exists()


def test_what_is_approved_while_refunds_are_stopped_says_why_it_waits(ops: Ops, ops_as, booking) -> None:
    sam = factories.staff("support_l1", now=now())
    (row,) = ops_as(sam, "refunds", "request", booking.code, "--amount", "50.00", "--reason", "no hot water").rows
    assert (row["status"], row["waits"]) == ("approved", None)
    jobs.stop(scope="refunds", reason="the bank asked us to wait", actor=factories.SYSTEM, now=now())
    (listed,) = ops("refunds", "list").rows
    shown = {fact["fact"]: fact["value"] for fact in ops("refunds", "show", row["code"]).rows}
    assert listed["waits"] == shown["waits"] == "All refunds are stopped for now: the bank asked us to wait"


def test_of_what_has_gone_back_all_that_is_left_is_nothing_and_is_said_so(ops: Ops, ops_as, booking) -> None:
    finance = factories.staff("finance", now=now())
    assert ops_as(finance, "refunds", "request", booking.code, "--reason", "all of it").code == Exit.DONE
    for asked in (("preview", booking.code), ("request", booking.code, "--dry-run")):
        found = ops("refunds", *asked)
        assert found.code == Exit.FAILURE and "has gone back already, or is on its way" in found.said


def test_who_signs_in_refunds_within_their_limit_once(ops_as, ops: Ops, booking) -> None:
    sam = factories.staff("support_l1", now=now())
    asked = ("refunds", "request", booking.code, "--amount", "50.00", "--reason", "no hot water")
    first = ops_as(sam, *asked)
    assert first.code == Exit.DONE, first.said
    assert (first.rows[0]["status"], first.summary) == ("approved", {"waits_for_second_person": False})
    assert ops_as(sam, *asked).rows[0]["code"] == first.rows[0]["code"]
    assert ops_as(sam, *asked, "--key", "another").rows[0]["code"] != first.rows[0]["code"]
    assert first.rows[0]["requested_by"] == sam.code
    kept = audit.entries(verb="refunds.request").filter(object_id=first.rows[0]["code"]).get()
    assert (kept.reason, kept.actor_id) == ("no hot water", sam.pk)
    shown = {row["fact"]: row["value"] for row in ops("refunds", "show", first.rows[0]["code"]).rows}
    assert shown["amount"] == "50.00 EUR" and shown["booking"] == booking.code
    assert len(ops("refunds", "list", "--booking", booking.code, "--open").rows) == 2


@pytest.mark.parametrize("how", ["amount", "all", "lines"])
def test_the_same_request_finds_the_first_when_nothing_is_left_to_preview(ops_as, booking, how: str) -> None:
    fay, nights = factories.staff("finance", now=now()), queries.line_limits(payment=booking.payment)["nights"]
    whole = Money(booking.charge_total, "EUR").decimal()
    typed = {"amount": ("--amount", f"{whole}"), "all": (), "lines": ("--line", f"nights={nights.decimal()}")}[how]
    ask = ("refunds", "request", booking.code, *typed, "--reason", "fire", "--key", "one")
    first, again = ops_as(fay, *ask), ops_as(fay, *ask)
    assert first.code == again.code == Exit.DONE, again.said
    assert again.rows[0]["code"] == first.rows[0]["code"] and Refund.objects.count() == 1
    assert "different request" in ops_as(fay, *ask, "--cause", "goodwill").said


def test_lines_are_refunded_with_the_taxes_that_follow_them(ops_as, ops: Ops, booking) -> None:
    shown = ops("refunds", "preview", booking.code, "--line", "nights=100.00", "--line", "cleaning=20.00")
    assert shown.code == Exit.DONE, shown.said
    lines = {name: money["amount"] for name, money in shown.summary["lines"].items()}
    guest = next(row["amount"]["amount"] for row in shown.rows if row["who"] == "guest")
    assert (lines["nights"], lines["cleaning"]) == (10_000, 2_000) and sum(lines.values()) == guest
    fay = factories.staff("finance", now=now())
    asked = ops_as(fay, "refunds", "request", booking.code, "--line", "cleaning=20.00", "--reason", "left dirty")
    assert asked.code == Exit.DONE, asked.said
    assert Refund.objects.get().lines["cleaning"] == 2_000
    for wrong, says in ((("--line", "towels=1"), "towels"), (("--line", "nights"), "--line"), (
        ("--line", "nights=1", "--amount", "1"), "not both")):  # fmt: skip
        found = ops("refunds", "preview", booking.code, *wrong)
        assert found.code == Exit.USAGE and says in found.said


def test_with_an_approval_alone_it_waits_for_somebody_the_desk_knows(ops_as, ops: Ops, booking) -> None:
    asked = ops("refunds", "request", booking.code, "--amount", "50.00", "--reason", "x", "--approval", "AP-1")
    assert asked.code == Exit.DONE and asked.summary == {"waits_for_second_person": True}
    code = asked.rows[0]["code"]
    refused = ops("refunds", "approve", code, "--reason", "x")
    assert refused.code == Exit.REFUSED and "--as" in refused.said
    sam, lea = factories.staff("support_l1", now=now()), factories.staff("team_lead", now=now())
    assert ops_as(sam, "refunds", "approve", code, "--reason", "x").code == Exit.NOT_ALLOWED
    (done,) = ops_as(lea, "refunds", "approve", code, "--reason", "photos agree").rows
    assert (done["status"], done["approved_by"]) == ("approved", lea.code)


def test_a_second_person_says_no(ops_as, ops: Ops, booking) -> None:
    sam, lea = factories.staff("support_l1", now=now()), factories.staff("team_lead", now=now())
    asked = ops_as(sam, "refunds", "request", booking.code, "--amount", "150.00", "--reason", "x")
    assert asked.summary == {"waits_for_second_person": True}
    assert ops_as(sam, "refunds", "reject", asked.rows[0]["code"], "--reason", "x").code == Exit.NOT_ALLOWED
    (row,) = ops_as(lea, "refunds", "reject", asked.rows[0]["code"], "--reason", "the guest had left").rows
    assert row["status"] == "rejected"
    assert [row["status"] for row in ops("refunds", "list", "--status", "rejected").rows] == ["rejected"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--amount", "1"), Exit.REFUSED, "a reason (--reason)"),
        (("--amount", "1", "--reason", "x"), Exit.REFUSED, "--as"),
        (("--amount", "1", "--reason", "x", "--as", "nobody@example.org"), Exit.REFUSED, "--password-stdin"),
        (("--amount", "12.345", "--dry-run"), Exit.USAGE, "12.345"),
        (("--amount", "much", "--dry-run"), Exit.USAGE, "much"),
        (("--amount", "99999", "--dry-run"), Exit.FAILURE, "At most"),
        (("--cause", "whim"), Exit.USAGE, "whim"),
    ],
)
def test_what_is_missing_is_one_line(ops: Ops, booking, arguments: tuple[str, ...], code: Exit, says: str) -> None:
    found = ops("refunds", "request", booking.code, *arguments)
    assert found.code == code and says in found.said and not Refund.objects.exists()


def test_a_wrong_password_and_a_guest_are_not_let_in(ops_as, booking) -> None:
    sam, guest = factories.staff("finance", now=now()), factories.person("Gil", now=now())
    asked = ("refunds", "request", booking.code, "--amount", "1", "--reason", "x")
    for user, password in ((sam, "wrong"), (guest, factories.PASSWORD)):
        found = ops_as(user, *asked, password=password)
        assert found.code == Exit.NOT_ALLOWED and "No member of staff" in found.said
    assert not Refund.objects.exists()


def test_while_refunds_are_stopped_the_door_says_why(ops_as, ops: Ops, booking) -> None:
    jobs.stop(scope="refunds", reason="the bank has an outage", actor=factories.SYSTEM, now=now())
    sam = factories.staff("finance", now=now())
    found = ops_as(sam, "refunds", "request", booking.code, "--amount", "1", "--reason", "x")
    assert found.code == Exit.REFUSED and "the bank has an outage" in found.said and not Refund.objects.exists()


def test_what_a_bank_sent_back_is_paid_another_way_by_two_of_finance(ops_as, ops: Ops, sandbox: RunningSandbox) -> None:
    fay, fred = (factories.staff("finance", name=name, now=now()) for name in ("Fay", "Fred"))
    (back,) = came_back(sandbox, stay_paid(payment_method="pm_card_refundFail"), fay, 4_000)
    ask = ("refunds", "repay", back.code, "--reason", "her new account")
    assert ops(*ask).code == Exit.REFUSED
    assert "import its movements" in ops_as(fay, *ask).said
    import_balance_transactions.run(now=now())
    assert ops_as(factories.staff("team_lead", now=now()), *ask).code == Exit.NOT_ALLOWED
    asked = ops_as(fay, *ask)
    assert asked.code == Exit.DONE and asked.summary == {"repays": back.code, "waits_for_second_person": True}
    code = asked.rows[0]["code"]
    sent = ("refunds", "sent", code, "--reference", "E2E-77", "--reason", "sent today")
    assert ops_as(fay, *sent).code != Exit.DONE
    assert ops_as(fay, "refunds", "approve", code, "--reason", "agreed").code == Exit.NOT_ALLOWED
    assert ops_as(fred, "refunds", "approve", code, "--reason", "agreed").rows[0]["status"] == "approved"
    assert ops_as(fay, *sent).rows[0]["status"] == "submitted"
    shown = {row["fact"]: row["value"] for row in ops("refunds", "show", code).rows}
    assert (shown["repays"], shown["method"], shown["provider_id"]) == (back.code, "other", "E2E-77")


def test_what_our_bank_did_not_pay_is_recorded_and_asked_for_anew(ops_as, ops: Ops, sandbox: RunningSandbox) -> None:
    fay, fred = (factories.staff("finance", name=name, now=now()) for name in ("Fay", "Fred"))
    (back,) = came_back(sandbox, stay_paid(payment_method="pm_card_refundFail"), fay, 4_000)
    import_balance_transactions.run(now=now())
    ask = ("refunds", "repay", back.code, "--reason", "her new account")
    code = ops_as(fay, *ask).rows[0]["code"]
    take_back = ("refunds", "cancel", code, "--reason", "wrong account")
    assert ops_as(fred, *take_back).code == Exit.NOT_ALLOWED
    assert ops_as(fay, *take_back).rows[0]["status"] == "cancelled"
    code = ops_as(fay, *ask).rows[0]["code"]
    ops_as(fred, "refunds", "approve", code, "--reason", "agreed")
    ops_as(fay, "refunds", "sent", code, "--reference", "E2E-77", "--reason", "sent today")
    refused = ("refunds", "returned", code, "--reason", "no such account")
    assert ops(*refused).code == Exit.REFUSED
    assert ops_as(factories.staff("team_lead", now=now()), *refused).code == Exit.NOT_ALLOWED
    found = ops_as(fred, *refused)
    assert found.code == Exit.DONE and found.summary == {"repays": back.code}
    assert (found.rows[0]["status"], found.rows[0]["failure"]) == ("failed", "no such account")
    assert audit.entries(verb="refunds.fail").filter(object_id=code).get().reason == "no such account"
    assert ops_as(fay, *refused).code == Exit.FAILURE
    assert ops_as(fay, *ask).summary == {"repays": back.code, "waits_for_second_person": True}


def test_what_came_back_less_a_fee_is_said_by_finance_and_asked_for_anew(
    ops_as, ops: Ops, sandbox: RunningSandbox
) -> None:
    fay, fred = (factories.staff("finance", name=name, now=now()) for name in ("Fay", "Fred"))
    (back,) = came_back(sandbox, stay_paid(payment_method="pm_card_refundFail"), fay, 4_000)
    import_balance_transactions.run(now=now())
    shown = {fact["fact"]: fact["value"] for fact in ops("refunds", "show", back.code).rows}
    assert "sent it back" in shown["waits"] and "ops refunds repay" in shown["waits"]
    ask = ("refunds", "repay", back.code, "--reason", "her new account")
    code = ops_as(fay, *ask).rows[0]["code"]
    ops_as(fred, "refunds", "approve", code, "--reason", "agreed")
    bank_line(-4_000, text=f"SEPA {code}")
    reconciliation.match_lines(actor=SYSTEM, now=now())
    kept = bank_line(3_950, text=f"RETURN {code}")
    reconciliation.match_lines(actor=SYSTEM, now=now())
    ops_as(fay, "refunds", "returned", code, "--reason", "no such account")
    assert ops_as(fay, *ask).code == Exit.FAILURE, "it has not come back yet, for all that is known"
    say = ("refunds", "came-back", code.lower(), "--line", kept.code.lower(), "--reason", "0.50 kept")
    assert ops(*say).code == Exit.REFUSED
    assert ops_as(factories.staff("team_lead", now=now()), *say).code == Exit.NOT_ALLOWED
    found = ops_as(fay, *say)
    assert found.code == Exit.DONE and found.summary == {"repays": back.code}
    assert audit.entries(verb="refunds.bring_back").filter(object_id=code).get().reason == "0.50 kept"
    assert ops_as(fay, *ask).rows[0]["amount"] == 4_000


def test_one_that_the_provider_refused_says_what_to_do(ops: Ops, booking) -> None:
    row = late(booking)
    payments.claim_refund(refund_code=row.code, now=now())
    payments.refuse_refund(refund_code=row.code, failure="No.", charged_back=False, actor=SYSTEM, now=now())
    (listed,) = ops("refunds", "list", "--status", "failed").rows
    shown = {fact["fact"]: fact["value"] for fact in ops("refunds", "show", row.code).rows}
    assert listed["waits"] == shown["waits"] and listed["failure"] == "No."
    assert "provider refused" in shown["waits"] and "ops refunds repay" in shown["waits"]


def test_what_is_owed_by_rule_says_why_it_waits_and_nobody_decides_it(ops_as, ops: Ops, booking) -> None:
    held_by = chargeback(booking)
    row = late(booking)
    (listed,) = ops("refunds", "list", "--open").rows
    assert (listed["code"], listed["status"]) == (row.code, "requested")
    assert held_by.code in listed["waits"] and f"{held_by.due_by:%d %b %Y}" in listed["waits"]
    shown = {fact["fact"]: fact["value"] for fact in ops("refunds", "show", row.code).rows}
    assert (shown["waits"], shown["waits_until"][:10]) == (listed["waits"], f"{held_by.due_by:%Y-%m-%d}")
    assert shown["by_rule"] is True
    said = ops_as(factories.staff("finance", now=now()), "refunds", "approve", row.code, "--reason", "now")
    assert said.code != Exit.DONE and "by rule" in said.said


def test_after_a_release_that_converted_every_figure_has_its_own_currency(ops: Ops, sandbox: RunningSandbox) -> None:
    booking = converted_stay(sandbox)
    shown = ops("refunds", "preview", booking.code, "--amount", "3000")
    assert shown.code == Exit.DONE, shown.said
    promised = [row["amount"] for row in shown.rows if row["who"] != "guest" and not row["what"].startswith("of it")]
    assert {amount["currency"] for amount in promised} == {"JPY"} and sum(
        amount["amount"] for amount in promised
    ) == 3_000
    owed = [row for row in shown.rows if row["who"] == "host" and row["what"].startswith("of it")]
    assert [row["amount"]["currency"] for row in owed] == ["EUR"] and owed[0]["amount"]["amount"] > 0


def test_a_no_to_what_covers_a_cancellation_shows_what_goes_back_instead(ops: Ops, ops_as, booking) -> None:
    sam, lea = factories.staff("support_l1", now=now()), factories.staff("team_lead", now=now())
    amount = str((Money(booking.charge_total, "EUR") - Money(1_000, "EUR")).decimal())
    (asked,) = ops_as(sam, "refunds", "request", booking.code, "--amount", amount, "--reason", "no hot water").rows
    assert asked["status"] == "requested"
    guest = factories.acting(booking.guest, now=now())
    terms = cancel_booking.preview(booking_code=booking.code, actor=guest, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=terms.token, reason="", actor=guest, now=now())
    shown = next(row for row in ops("refunds", "list").rows if row["code"] == asked["code"])
    assert shown["waits"].startswith("It waits for a second person. The stay was cancelled after this was asked for.")
    assert f"Whatever is decided, {terms.refund_asked}" in shown["waits"]
    rejected, instead = ops_as(lea, "refunds", "reject", asked["code"], "--reason", "by the policy").rows
    assert (rejected["code"], rejected["status"], rejected["waits"]) == (asked["code"], "rejected", None)
    assert (instead["status"], instead["amount"]) == ("approved", terms.refund_asked.amount)
