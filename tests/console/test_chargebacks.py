"""The chargebacks' pages: pressing first, every figure explained, answered once by who may."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from backoffice.audit.models import AuditEntry
from backoffice.console import dashboard
from backoffice.core.money import Money
from backoffice.payments import operations as payments
from backoffice.payments import queries as money
from backoffice.payments.models import Chargeback, EvidenceFile
from backoffice.payments.policies.chargebacks import SeenDispute
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.people.models import StaffRole, User
from tests import factories
from tests.console.test_dialogs import answers, messages_of
from tests.console.world import SYSTEM, World, chargeback, now, paid
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import paid as paid_there
from tests.workflows.test_chargebacks import PDF, finance, submit, told

LIST = "admin:payments_chargeback_changelist"


def page(client: Client, row: Chargeback) -> str:
    response = client.get(reverse("admin:payments_chargeback_change", args=[row.code]))
    assert response.status_code == 200
    return response.content.decode()


def words(html: str) -> str:
    """What a person reads of a page."""
    bare = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", strip_tags(bare.replace("<", " <")))


def dialog(row: Chargeback, name: str) -> str:
    return reverse(f"admin:payments_chargeback_{name}", args=[row.code])


def codes(client: Client, query: str = "") -> list[str]:
    response = client.get(reverse(LIST) + query)
    assert response.status_code == 200
    return [row.code for row in response.context["cl"].result_list]


def taken(row: Chargeback) -> None:
    """The network's withdrawal, as it is imported."""
    amount, fee = Money(-row.amount, row.currency), Money(1_500, row.currency)
    payments.import_transactions(
        rows=[
            SeenBalanceTransaction(
                id=f"txn_{row.provider_id}",
                type="adjustment",
                reporting_category="dispute",
                source_id=row.provider_id,
                source_reference="",
                amount=amount,
                fee=fee,
                net=amount - fee,
                created=now(),
                available_on=now(),
                disputed_charge=row.charge_id,
            )
        ],
        actor=SYSTEM,
        now=now(),
    )
    payments.follow_chargeback_money(provider_id=row.provider_id, actor=SYSTEM, now=now())


# The list and the page ------------------------------------------------------------------------------------------------


def test_the_list_opens_with_what_must_be_answered_soonest_first(world: World) -> None:
    client, at = world.client("finance"), now()
    calm = world.rows[Chargeback]
    late = chargeback(paid(), opened=at - timedelta(days=10), due_by=at + timedelta(days=2))
    soon = chargeback(paid(), opened=at - timedelta(days=5), due_by=at + timedelta(days=4))
    reviewed = chargeback(paid(), status="under_review")
    over = chargeback(paid(), status="lost")
    assert codes(client) == [late.code, soon.code, calm.code]
    assert codes(client, "?view=network") == [reviewed.code]
    assert set(codes(client, "?view=all")) == {late.code, soon.code, calm.code, reviewed.code, over.code}
    shown = client.get(reverse(LIST)).content.decode()
    badges = re.findall(r'sd-badge sd-(\w+)">([^<]*(?:days|h|end|min))<', shown)
    assert [tone for tone, _ in badges] == ["danger", "warning", "info"]
    assert "to the end" in badges[0][1]


def test_an_appeal_stands_among_what_must_be_answered_though_its_chargeback_was(world: World) -> None:
    client, at = world.client("finance"), now()
    row = chargeback(paid(), status="lost")
    lead = world.staff["finance"]
    Chargeback.objects.filter(pk=row.pk).update(submitted_at=at, submitted_by=lead)
    assert row.code not in codes(client)
    seen = SeenDispute(
        id=row.provider_id, status="appeal_needs_response", kind="chargeback", amount=Money(row.amount, row.currency),
        charge_id=row.charge_id, payment_id="", opened=row.opened_at, due_by=at + timedelta(days=5),
        page=f"https://provider.example/disputes/{row.provider_id}",
    )  # fmt: skip
    payments.record_dispute(seen=seen, actor=SYSTEM, now=now())
    row.refresh_from_db()
    assert row.code in codes(client) and row.code not in codes(client, "?view=network")
    link = f'href="{seen.page}"'
    assert link in client.get(reverse(LIST)).content.decode()
    html = page(client, row)
    assert link in html and "answer it on the provider’s own pages" in words(html)
    assert 'sd-info">' in html and dialog(row, "submit") not in html
    dashboard.forget()
    figures = client.get(reverse("admin:index")).content.decode()
    assert re.search(r"Chargebacks to answer.{0,600}?>\s*2\s*<", figures, re.DOTALL)
    payments.record_dispute(
        seen=replace(seen, status="appeal_under_review"), actor=SYSTEM, now=at + timedelta(minutes=1)
    )
    assert row.code not in codes(client) and row.code in codes(client, "?view=network")


def test_a_list_costs_the_same_however_many_there_are(world: World, django_assert_max_num_queries: Any) -> None:
    client = world.client("finance")
    client.get(reverse(LIST))
    for _ in range(6):
        chargeback(paid())
    with django_assert_max_num_queries(16):
        assert len(codes(client)) == 7


def test_the_page_explains_its_money_by_postings_and_provider_ids(world: World) -> None:
    row = world.rows[Chargeback]
    assert isinstance(row, Chargeback)
    taken(row)
    html = page(world.client("finance"), row)
    shown, total = words(html), f"{row.amount / 100:,.2f}"
    for said in (
        f"Taken by the network {total} EUR",
        "Fees",
        "15.00 EUR",
        f"txn_{row.provider_id}",
        "1320 Dispute receivable",
        "5110 Chargeback fees",
        "If it is lost",
        "Host’s share, still held",
        "Our deadline",
        "nothing of this payment can be refunded",
    ):
        assert said in shown, said
    assert row.payment is not None
    for thing in (row.payment, row.payment.booking):
        assert reverse(f"admin:{thing._meta.label_lower.replace('.', '_')}_change", args=[thing.code]) in html


def test_who_may_not_read_the_ledger_sees_amounts_without_postings(world: World) -> None:
    row = world.rows[Chargeback]
    assert isinstance(row, Chargeback)
    taken(row)
    shown = words(page(world.client("support_l1"), row))
    assert f"Taken by the network {row.amount / 100:,.2f} EUR" in shown and "1320" not in shown


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"status": "pre_arbitration"}, "which we do not know"),
        ({"status": "appeal_needs_response"}, "This is an appeal"),
        ({"opened": now() - timedelta(days=10), "due_by": now() + timedelta(days=1)}, "Our own deadline has passed"),
        ({"opened": now() - timedelta(days=20), "due_by": now() - timedelta(days=1)}, "takes no evidence any more"),
        ({"kind": "inquiry", "status": "warning_needs_response"}, "An inquiry moves no money"),
    ],
)
def test_what_is_unusual_is_said(world: World, seen: dict[str, Any], said: str) -> None:
    assert said in words(page(world.client("finance"), chargeback(paid(), **seen)))


def test_a_charge_of_nobody_of_ours_has_a_page(world: World) -> None:
    row = chargeback(paid(), id="du_strange", charge_id="ch_strange", payment_id="")
    assert row.payment is None
    shown = words(page(world.client("finance"), row))
    assert "of a charge of none of our bookings" in shown
    assert "none of our bookings" in words(world.client("finance").get(reverse(LIST)).content.decode())


def test_the_ratio_page_warns(world: World) -> None:
    response = world.client("auditor").get(reverse("admin:payments_chargeback_ratio"))
    assert response.status_code == 200
    ratio = next(each for each in money.chargeback_ratios(month=now().date()) if each.network == "visa")
    assert ratio.standing == "over"
    said = f"Visa {ratio.chargebacks} {ratio.charges} {ratio.percent} % 0.75 % {ratio.threshold_percent} % over"
    assert said in words(response.content.decode()).replace(" Over", " over")


def test_search_finds_by_code_booking_charge_and_provider_id(world: World) -> None:
    row = world.rows[Chargeback]
    assert isinstance(row, Chargeback) and row.payment is not None
    client = world.client("finance")
    for term in (row.code, row.provider_id, row.charge_id, row.payment.booking.code.lower()):
        assert codes(client, f"?q={term}") == [row.code], term


# Dialogs --------------------------------------------------------------------------------------------------------------


def test_buttons_are_those_of_what_can_be_done(world: World) -> None:
    row = world.rows[Chargeback]
    assert isinstance(row, Chargeback)

    def buttons(role: str, of: Chargeback) -> set[str]:
        response = world.client(role).get(reverse("admin:payments_chargeback_change", args=[of.code]))
        return {button["name"] for button in response.context["buttons"]}

    assert buttons("finance", row) == {"evidence", "upload", "accept", "own", "note", "bear"}
    assert buttons("support_l2", row) == {"evidence", "upload", "own", "note"}
    assert buttons("support_l1", row) == buttons("auditor", row) == set()
    payments.save_evidence(
        code=row.code,
        evidence={"customer_name": "A"},
        version=None,
        actor=factories.acting(world.staff["finance"], now=now()),
        now=now(),
    )
    assert "submit" in buttons("finance", row)
    assert buttons("finance", chargeback(paid(), status="won")) == {"note"}
    guest = factories.person("Dora", now=now())
    own = chargeback(paid(guest=guest))
    StaffRole.objects.create(user=guest, role="finance", granted_at=now())
    User.objects.filter(pk=guest.pk).update(is_staff=True)
    world.staff["dora"] = User.objects.get(pk=guest.pk)
    assert buttons("dora", own) == {"own", "note"}


def test_it_is_given_an_owner_a_note_and_a_bearer(world: World) -> None:
    row, client = world.rows[Chargeback], world.client("finance")
    assert isinstance(row, Chargeback)
    owner = world.staff["support_l2"]
    client.post(dialog(row, "own"), answers(client, dialog(row, "own"), owner=str(owner.pk)))
    sent = answers(client, dialog(row, "note"), text="Asked the host for the key log")
    assert client.post(dialog(row, "note"), sent).status_code == 302
    assert client.post(dialog(row, "note"), sent).status_code == 409  # the second click finds it noted
    shown = client.get(dialog(row, "bear"))
    assert shown.context["money"]
    response = client.post(
        dialog(row, "bear"), answers(client, dialog(row, "bear"), bearer="host", reason="Terms 4.2", seen="host")
    )
    assert response.status_code == 302 and row.code in messages_of(client, response)
    row.refresh_from_db()
    assert (row.owner_id, row.loss_bearer) == (owner.pk, "host")
    assert row.notes.count("Asked the host for the key log") == 1


@pytest.mark.django_db(transaction=True)
def test_evidence_is_drafted_staged_completed_and_submitted_once(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid_there())
    client = Client()
    finance()
    client.force_login(User.objects.get(roles__role="finance"))
    path = dialog(row, "evidence")
    sent = answers(client, path)
    assert "captured" in sent["access_activity_log"] and row.payment is not None
    assert sent["service_date"].startswith(str(row.payment.booking.check_in))
    response = client.post(path, {**sent, "uncategorized_text": "The door log shows every entry."})
    assert response.status_code == 302 and "not submitted" in messages_of(client, response)
    row.refresh_from_db()
    assert row.evidence["uncategorized_text"] == "The door log shows every entry." and row.staged_at is not None

    path = dialog(row, "upload")
    form = client.get(path)
    assert 'enctype="multipart/form-data"' in form.content.decode()
    sent = {**answers(client, path), "field": "receipt", "file": SimpleUploadedFile("r.pdf", PDF)}
    assert client.post(path, sent).status_code == 302
    kept = EvidenceFile.objects.get()
    assert (kept.name, kept.field) == ("r.pdf", "receipt")
    refused = client.post(
        path, {**answers(client, path), "field": "receipt", "file": SimpleUploadedFile("x.exe", b"MZ")}
    )
    assert refused.status_code == 409 and "save it as a PDF" in refused.content.decode()

    path = dialog(row, "submit")
    shown = words(client.get(path).content.decode())
    assert "The door log shows every entry." in shown and "r.pdf" in shown
    sent = answers(client, path)
    assert client.post(path, sent).status_code == 302
    assert client.post(path, sent).status_code == 409
    row.refresh_from_db()
    assert row.status == "under_review"
    assert sandbox.client().v1.disputes.retrieve(row.provider_id).evidence_details.submission_count == 1
    assert "r.pdf" in page(client, row) and "x.exe" not in page(client, row)


@pytest.mark.django_db(transaction=True)
def test_it_is_given_up_with_a_reason_and_what_that_costs_is_shown(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid_there())
    client = Client()
    finance()
    client.force_login(User.objects.get(roles__role="finance"))
    path = dialog(row, "accept")
    assert "Host’s share, still held" in words(client.get(path).content.decode())
    assert client.post(path, answers(client, path, reason=" ")).status_code == 422
    assert client.post(path, answers(client, path, reason="The guest is right")).status_code == 302
    row.refresh_from_db()
    assert row.status == "lost"
    shown = words(page(client, row))
    assert "Settled as a loss" in shown and "Still open account 1320 now 0.00 EUR" in shown
    moved = client.get(dialog(row, "bear")).context["money"]
    assert "Host’s share, still held" in {label for label, _ in moved}, "what was lost is shown before it is moved"


@pytest.mark.django_db(transaction=True)
def test_a_page_that_somebody_else_answered_meanwhile_says_so(sandbox: RunningSandbox) -> None:
    row = told(sandbox, paid_there())
    actor = finance()
    client = Client()
    client.force_login(User.objects.get(roles__role="finance"))
    sent = answers(client, dialog(row, "accept"), reason="Give up")
    payments.save_evidence(code=row.code, evidence={"customer_name": "A"}, version=None, actor=actor, now=row.opened_at)
    submit(row, actor)
    response = client.post(dialog(row, "accept"), sent)
    assert response.status_code == 409
    assert not AuditEntry.objects.filter(verb="chargebacks.accept", object_id=row.code).exists()
    row.refresh_from_db()
    assert row.accepted_at is None
