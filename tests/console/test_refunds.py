"""Refunds that came back, in the console: paid another way by two people and noted once the bank has it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backoffice.console import cells, dashboard
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.payments import operations as payments
from backoffice.payments import queries as money
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payments.policies.seen import SeenBalanceTransaction
from tests import factories
from tests.console.test_dialogs import answers, messages_of
from tests.console.test_figures import figures, minor
from tests.console.test_payouts import buttons, seated
from tests.console.world import World, chargeback, late, now, paid, refund
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
