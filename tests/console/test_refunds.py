"""Refunds that came back, in the console: paid another way by two people and noted once the bank has it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backoffice.audit import queries as audit
from backoffice.console import cells, dashboard
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal, JournalLine
from backoffice.payments import operations as payments
from backoffice.payments import queries as money
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import operations as reconciliation
from backoffice.reconciliation.models import StatementLine
from backoffice.workflows import cancel_booking
from tests import factories
from tests.console.test_dialogs import answers, messages_of
from tests.console.test_figures import figures, minor
from tests.console.test_payouts import buttons, seated
from tests.console.world import SYSTEM, World, bank_line, chargeback, late, now, paid, refund
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_release_payouts import converted_stay


def act(client: Client, name: str, row: Refund, **typed: Any) -> Any:
    path = reverse(f"admin:payments_refund_{name}", args=[row.code])
    row.refresh_from_db()
    return client.post(path, {"key": uuid.uuid4().hex, "version": row.version, "seen": "", **typed})


@pytest.fixture
def returned(world: World) -> Refund:
    """15.00 that the guest's bank sent back, its movement imported."""
    sent = refund(paid(), 1_500, world.staff["finance"])
    Refund.objects.filter(pk=sent.pk).update(
        status="failed",
        unclaimed=True,
        provider_id=f"re_{sent.code}",
        failure_reason="closed",
        version=sent.version + 1,
    )
    at = now() - timedelta(hours=1)
    gross, none = Money(1_500, "EUR"), Money.zero("EUR")
    back = SeenBalanceTransaction(
        id=f"txn_{sent.code}",
        type="refund_failure",
        reporting_category="refund_failure",
        source_id=f"re_{sent.code}",
        amount=gross,
        fee=none,
        net=gross,
        created=at,
        available_on=at,
        source_reference=sent.code,
        presented=gross,
    )
    payments.import_transactions(rows=[back], actor=system("import"), now=now())
    sent.refresh_from_db()
    return sent


def test_two_of_finance_pay_it_another_way_and_the_bank_s_reference_is_kept(world: World, returned: Refund) -> None:
    first, lead = world.client("finance"), world.client("team_lead")
    world.staff["fatima"] = factories.staff("finance", name="Fatima", now=now())
    second = world.client("fatima")
    assert "repay" in buttons(first, returned) and "repay" not in buttons(lead, returned)
    assert act(lead, "repay", returned, reason="Her new account").status_code == 403
    assert "15.00" in messages_of(first, act(first, "repay", returned, reason="Her new account, by letter"))
    asked = Refund.objects.get(repays=returned)
    assert asked.amount == 1_500 and "repay" not in buttons(first, returned)
    assert buttons(first, asked) == {"take_back"} and not buttons(lead, asked)
    assert buttons(second, asked) == {"approve", "reject"}
    assert act(second, "approve", asked).status_code == 302
    asked.refresh_from_db()
    assert buttons(first, asked) == {"sent", "returned"}
    assert act(first, "sent", asked, reference="E2E-77").status_code == 302
    asked.refresh_from_db()
    assert (asked.status, asked.provider_id) == ("submitted", "E2E-77")
    assert asked.code in first.get(cells.address_of(returned)).content.decode()
    assert returned.code in first.get(cells.address_of(asked)).content.decode()
    assert act(lead, "returned", asked, reason="No such account").status_code == 403
    assert buttons(first, asked) == {"returned"} and "repay" not in buttons(first, returned)
    assert returned.code in messages_of(first, act(first, "returned", asked, reason="No such account"))
    asked.refresh_from_db()
    assert asked.status == "failed" and not buttons(first, asked)
    assert "No such account" in first.get(cells.address_of(asked)).content.decode()
    assert "repay" in buttons(first, returned), "it waits for another way again"
    assert act(first, "repay", returned, reason="Another account").status_code == 302


@pytest.fixture
def back_less(world: World, returned: Refund) -> Refund:
    """Paid another way, seen to leave at the bank, recorded as sent back; 14.50 of it came back, and 9.00 of somebody's."""
    first = factories.acting(world.staff["finance"], now=now())
    second = factories.acting(factories.staff("finance", name="Fatima", now=now()), now=now())
    asked = payments.request_repayment(
        refund_code=returned.code, version=returned.version, reason="Her new account", actor=first, now=now()
    )
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=second, now=now())
    bank_line(-1_500, text=f"SEPA {asked.code}")
    reconciliation.match_lines(actor=SYSTEM, now=now())
    asked.refresh_from_db()
    payments.return_repayment(
        refund_code=asked.code, reason="No such account", version=asked.version, actor=first, now=now()
    )
    bank_line(900, text="Rent of somebody")
    bank_line(1_450, text=f"Return {asked.code}", reference="B-LESS")
    bank_line(1_600, text="Too much")
    bank_line(-20, text="A charge of the bank")
    reconciliation.match_lines(actor=SYSTEM, now=now())
    asked.refresh_from_db()
    return asked


def test_the_line_that_brings_a_refund_back_less_a_fee_is_chosen_shown_and_posted_once(
    world: World, returned: Refund, back_less: Refund
) -> None:
    finance, lead = world.client("finance"), world.client("team_lead")
    path = reverse("admin:payments_refund_came_back", args=[back_less.code])
    line = StatementLine.objects.get(reference="B-LESS")
    assert buttons(finance, back_less) == {"came_back"} and not buttons(lead, back_less)
    assert lead.get(path).status_code == act(lead, "came_back", back_less, line=line.code).status_code == 403
    told = finance.get(cells.address_of(line)).content.decode()
    assert "It may be what a bank has left" in told and cells.address_of(back_less) in told
    opened = finance.get(path)
    offered = [words for code, words in opened.context["form"].fields["line"].choices if code]
    assert [words.split(" · ")[0] for words in offered] == ["14.50 EUR", "9.00 EUR"], "the one that names it first"
    assert opened.context["form"].initial["line"] == line.code, "one names it"
    amounts = {label: minor(amount) for label, amount in opened.context["money"]}
    assert amounts == {"The line brings": 1_450, "A bank has kept": 50, "The guest can be paid anew": 1_500}
    shown = {
        key: minor(debit) if credit == cells.NONE else -minor(credit)
        for _, key, debit, credit in opened.context["posts"]
    }
    assert shown == {back_less.code: -1_450, f"bank:{line.code}": 1_450}
    typed = {"line": line.code, "seen": line.code, "reason": "Her bank kept 0.50"}
    journals = Journal.objects.count()
    assert "Confirm them" in act(finance, "came_back", back_less, **{**typed, "seen": ""}).content.decode()
    assert act(finance, "came_back", back_less, **{**typed, "reason": ""}).status_code == 422
    assert Journal.objects.count() == journals
    assert returned.code in messages_of(finance, act(finance, "came_back", back_less, **typed))
    posted = JournalLine.objects.filter(journal=Journal.objects.latest("id")).select_related("account")
    assert {one.account.key: one.amount for one in posted} == shown, "what was shown is what was posted"
    assert ledger.balance(account="2400", key=back_less.code, currency="EUR") == 50
    assert audit.entries(verb="refunds.bring_back").filter(object_id=back_less.code).get().reason == typed["reason"]
    assert not buttons(finance, back_less) and "repay" in buttons(finance, returned)
    assert act(finance, "came_back", back_less, **typed).status_code == 422
    assert Journal.objects.count() == journals + 1
    told = finance.get(cells.address_of(StatementLine.objects.get(amount=900))).content.decode()
    assert "It may be what a bank has left" not in told


def test_a_line_that_cannot_be_it_is_refused_by_name_and_so_is_what_somebody_else_has_done_meanwhile(
    world: World, returned: Refund, back_less: Refund
) -> None:
    finance = world.client("finance")
    for wrong in (*StatementLine.objects.exclude(amount__in=[900, 1_450]).values_list("code", flat=True), "BL-NOSUCH"):
        said = act(finance, "came_back", back_less, line=wrong, seen=wrong, reason="0.50 kept")
        assert said.status_code == 422
        assert "does not wait in suspense" in said.context["form"].errors["line"][0], wrong
    line = StatementLine.objects.get(reference="B-LESS")
    typed = {"line": line.code, "seen": line.code, "reason": "0.50 kept"}
    path = reverse("admin:payments_refund_came_back", args=[back_less.code])
    stale = finance.post(path, {"key": uuid.uuid4().hex, "version": back_less.version + 1, **typed})
    assert stale.status_code == 409 and stale.context["form"].initial["reason"] == typed["reason"]
    other = StatementLine.objects.get(amount=900)
    reconciliation.bring_back_less(
        line_code=other.code, refund_code=back_less.code, reason="It is this one", now=now(),
        actor=factories.acting(world.staff["finance"], now=now()),
    )  # fmt: skip
    refused = act(finance, "came_back", back_less, **typed)
    assert refused.status_code == 409
    assert f"Another line has brought {back_less.code} back" in refused.context["error"]
    assert ledger.balance(account="9900", key=f"bank:{line.code}", currency="EUR") == -1_450
    assert act(finance, "came_back", returned, **typed).status_code == 404, "a card's is the provider's to tell of"


def test_a_refund_over_two_charges_is_shown_and_decided_as_one(world: World) -> None:
    booking = paid()
    ExtraCharge.objects.create(
        booking=booking,
        kind="instalment",
        number=2,
        status="captured",
        amount=8_000,
        currency="EUR",
        held=8_000,
        charge_id=f"ch_{booking.code}_2",
        due_at=now(),
        captured_at=now(),
        created_at=now(),
    )
    asking = world.client("support_l1")
    path = reverse("admin:bookings_booking_refund", args=[booking.code])
    opened = asking.get(path)
    left = money.money_of(booking=booking).refundable
    assert opened.context["form"].initial["amount"] == str(left.decimal())
    assert "2 charges" in opened.content.decode()
    assert asking.post(path, answers(asking, path, reason="Noise", amount="110.00")).status_code == 302
    first, second = Refund.objects.filter(payment__booking=booking).order_by("id")
    assert (first.amount, second.amount, second.part_of) == (8_000, 3_000, first)
    lead = world.client("team_lead")
    page = lead.get(cells.address_of(second)).content.decode()
    assert first.code in page and "110.00 EUR in all" in page
    assert act(lead, "reject", second, reason="Not so bad").status_code == 302
    assert set(Refund.objects.filter(payment__booking=booking).values_list("status", flat=True)) == {"rejected"}


@pytest.mark.parametrize("no", ["reject", "take_back"])
def test_a_no_to_what_covers_a_cancellation_says_what_goes_back_instead(world: World, no: str) -> None:
    booking = paid()
    maker = seated("support_l1")
    path = reverse("admin:bookings_booking_refund", args=[booking.code])
    most = money.money_of(booking=booking).refundable
    asked = answers(maker, path, reason="Noise", amount=str((most - Money(1_000, "EUR")).decimal()))
    assert maker.post(path, asked).status_code == 302
    row = Refund.objects.get(payment__booking=booking)
    cancelling, lead = reverse("admin:bookings_booking_cancel", args=[booking.code]), world.client("team_lead")
    shown = lead.post(
        cancelling, {**answers(lead, cancelling), "on_behalf_of": "guest", "preview": "1"}
    ).content.decode()
    assert "Covered by what was asked for before" in shown
    guest = factories.acting(booking.guest, now=now())
    terms = cancel_booking.preview(booking_code=booking.code, actor=guest, now=now())
    assert terms.refund_asked
    cancel_booking.confirm(booking_code=booking.code, token=terms.token, reason="", actor=guest, now=now())
    page = lead.get(cells.address_of(row)).content.decode()
    assert f"Whatever is decided, {terms.refund_asked}" in page and "goes back by rule instead" in page
    decides, reason = (lead, {"reason": "The policy"}) if no == "reject" else (maker, {})
    dialog = decides.get(reverse(f"admin:payments_refund_{no}", args=[row.code])).content.decode()
    assert "goes back by rule instead" in dialog
    answer = act(decides, no, row, **reason)
    assert answer.status_code == 302
    said = messages_of(decides, answer)
    assert f"The stay was cancelled, so {terms.refund_asked} goes back by rule instead" in said
    page = lead.get(cells.address_of(row)).content.decode()
    assert "goes back by rule instead" not in page


def test_one_that_is_owed_by_rule_says_why_it_waits_and_offers_no_decision(world: World) -> None:
    booking = paid()
    waiting = Refund.objects.filter(status="requested").count()
    held_by = chargeback(booking)
    row = late(booking)
    assert (row.status, row.waits_for) == ("requested", "chargeback")
    finance, lead = world.client("finance"), world.client("team_lead")
    assert held_by.due_by is not None
    until = f"{held_by.due_by:%d %b %Y}"
    for client in (finance, lead):
        assert not buttons(client, row)
    assert (
        act(finance, "approve", row).status_code
        == act(finance, "reject", row, reason="It was not owed").status_code
        == 409
    )
    row.refresh_from_db()
    assert row.status == "requested"
    for shown in (row, booking):
        page = finance.get(cells.address_of(shown)).content.decode()
        assert "by rule" in page and held_by.code in page and until in page
        assert ("Owed by rule" in page) is (shown is row)
    for address in (reverse("admin:payments_refund_changelist"), cells.address_of(booking)):
        assert "Waits for the end of a chargeback" in finance.get(address).content.decode()
    assert row.code in finance.get(cells.address_of(held_by)).content.decode()
    dashboard.forget()
    today = finance.get(reverse("admin:index"))
    assert row.code not in today.content.decode()
    listed = finance.get(reverse("admin:payments_refund_changelist") + "?status__exact=requested&waits_for__exact=")
    assert listed.status_code == 200
    assert len(listed.context["cl"].result_list) == waiting == dashboard.BACKLOGS["refunds"](now())


def test_one_that_the_provider_refused_says_so_and_leads_finance_to_another_way(world: World) -> None:
    row = late(paid())
    payments.claim_refund(refund_code=row.code, now=now())
    payments.refuse_refund(
        refund_code=row.code,
        failure="This card takes no refunds.",
        charged_back=False,
        actor=system("tests"),
        now=now(),
    )
    row.refresh_from_db()
    finance, lead = world.client("finance"), world.client("team_lead")
    for client in (finance, lead):
        page = client.get(cells.address_of(row)).content.decode()
        assert "The provider refused to send it" in page and "ops refunds repay" in page
    assert "repay" not in buttons(finance, row), "what the charge brought is not known yet"
    at = now()
    charge = row.charge
    assert charge is not None
    gross, none = Money(row.amount, "EUR"), Money.zero("EUR")
    brought = SeenBalanceTransaction(
        id=f"txn_{row.code}", type="charge", reporting_category="charge", source_id=charge.charge_id or "",
        source_reference=charge.code, amount=gross, fee=none, net=gross, presented=gross, created=at, available_on=at,
    )  # fmt: skip
    payments.import_transactions(rows=[brought], actor=system("import"), now=at)
    assert "repay" in buttons(finance, row) and "repay" not in buttons(lead, row)
    dialog = finance.get(reverse("admin:payments_refund_repay", args=[row.code])).content.decode()
    assert "This card takes no refunds." in dialog and "do not have it already" in dialog
    assert act(finance, "repay", row, reason="Her account, by letter").status_code == 302
    assert "The provider refused to send it" not in finance.get(cells.address_of(row)).content.decode()


@pytest.mark.django_db(transaction=True)
def test_after_a_release_that_converted_every_figure_has_its_own_currency(sandbox: RunningSandbox) -> None:
    booking = converted_stay(sandbox)
    asking, deciding = (seated(role) for role in ("support_l1", "finance"))
    path = reverse("admin:bookings_booking_refund", args=[booking.code])
    typed = {"amount": "30000", "cause": "service_issue", "bearer": "host"}
    form = {"key": uuid.uuid4().hex, "version": Payment.objects.get(booking=booking).version, "reason": "No hot water"}
    shown = dict(asking.post(path, {**form, **typed, "preview": "1"}).context["money"])
    host, owed = shown["Host gives up"], shown["Of it the host will owe"]
    assert "JPY" in host or "¥" in host
    assert "EUR" in owed or "€" in owed
    assert asking.post(path, {**form, **typed, "seen": "30000|service_issue|host"}).status_code == 302
    row = Refund.objects.get()
    assert row.status == "requested"
    approve = reverse("admin:payments_refund_approve", args=[row.code])
    assert owed in dict(deciding.get(approve).context["money"]).values(), "the second person sees the same"
    assert act(deciding, "approve", row).status_code == 302
    found = figures(row)  # each that unfolds is the sum of its postings
    assert found["Host gives up"].amount == host and found["Host gives up"].postings is None
    assert found["Host gives up, in EUR"].amount == owed and len(found["Host gives up, in EUR"].postings or ()) == 1


def test_what_each_gives_up_is_said_alike_before_asking_and_before_deciding_and_adds_up(world: World) -> None:
    booking, asking, deciding = paid(currency="USD"), world.client("support_l1"), world.client("team_lead")
    path = reverse("admin:bookings_booking_refund", args=[booking.code])
    for number, bearer in enumerate(("host", "platform"), start=1):
        typed = {"amount": "150.00", "cause": "service_issue", "bearer": bearer}
        version = Payment.objects.get(booking=booking).version
        form = {"key": uuid.uuid4().hex, "version": version, "reason": "No hot water"}
        shown = dict(asking.post(path, {**form, **typed, "preview": "1"}).context["money"])
        labels = ["Host gives up", "Platform gives up", "Taxes given back"]
        labels += ["Platform bears besides"] if bearer == "platform" else []
        settled = ["Of it ours, as it was settled"] if bearer == "platform" else []  # in dollars: nothing is held of it
        assert [*shown] == ["Guest receives", "Which is, at the booking’s rate", *labels, *settled]
        assert minor(shown["Which is, at the booking’s rate"]) == sum(minor(shown[label]) for label in labels)
        assert asking.post(path, {**form, **typed, "seen": f"150.00|service_issue|{bearer}"}).status_code == 302
        row = Refund.objects.get(requested_by=world.staff["support_l1"], payment__booking=booking, bearer=bearer)
        decided = dict(deciding.get(reverse("admin:payments_refund_approve", args=[row.code])).context["money"])
        assert decided == shown, number


def test_while_a_chargeback_is_open_the_page_says_why_nothing_is_refunded_and_what_to_do(world: World) -> None:
    booking, client = paid(), world.client("support_l1")
    row = chargeback(booking)
    path = reverse("admin:bookings_booking_refund", args=[booking.code])
    words = client.get(cells.address_of(booking)).content.decode()
    assert f"No refund now. The card network holds this money because of chargeback {row.code}" in words
    assert "if it is won, refund then" in words and path not in words
    assert row.code in client.get(path).context["error"]
    other = paid()
    refund(other, other.charge_total, world.staff["finance"])
    assert (
        "has gone back already"
        in client.get(reverse("admin:bookings_booking_refund", args=[other.code])).context["error"]
    )
