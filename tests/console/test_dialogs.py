"""Dialogs over HTTP: what is shown is what is done, once, by who may."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.core.money import Money
from backoffice.payments.models import ExtraCharge, Payment, Refund, WebhookEvent
from backoffice.people.models import User
from backoffice.reconciliation.models import Break
from tests import factories
from tests.console.world import World, build, chargeback, now, paid, refund


def refund_path(booking: Booking) -> str:
    return reverse("admin:bookings_booking_refund", args=[booking.code])


def answers(client: Client, path: str, **typed: Any) -> dict[str, Any]:
    """The dialog as a browser would send it back: its hidden fields, what it was opened with, what was typed."""
    response = client.get(path)
    assert response.status_code == 200
    form = response.context["form"]
    sent = {name: form.initial.get(name, "") for name in form.fields}
    token = re.search(r'name="token" value="([^"]+)"', response.content.decode())
    sent |= {"token": token.group(1)} if token else {}
    sent |= {"seen": response.context["seen"], **typed}
    deciding = response.context["dialog"].deciding
    if "seen" not in typed and "amount" in deciding and set(deciding) & typed.keys():
        sent["seen"] = "|".join(str(sent[name]) for name in deciding)
    return sent


def ask(client: Client, booking: Booking, **typed: Any) -> Any:
    path = refund_path(booking)
    return client.post(path, answers(client, path, reason="No hot water", **typed))


def messages_of(client: Client, response: Any) -> str:
    return " ".join(str(message) for message in client.get(response["Location"]).context["messages"])


# Refunds --------------------------------------------------------------------------------------------------------------


def test_a_refund_within_the_limit_is_on_its_way(world: World) -> None:
    client, booking = world.client("support_l2"), paid()
    response = ask(client, booking, amount="120.00")
    assert response.status_code == 302
    made = Refund.objects.get(payment__booking=booking)
    assert (made.amount, made.status, made.requested_by) == (12_000, "approved", world.staff["support_l2"])
    assert made.reason == "No hot water"
    assert made.code in messages_of(client, response)
    assert AuditEntry.objects.get(verb="refunds.request", object_id=made.code).actor_id == made.requested_by_id


def test_the_preview_names_everyones_share_and_they_add_up(world: World) -> None:
    client, booking = world.client("finance"), paid()
    money = dict(client.get(refund_path(booking)).context["money"])
    amounts = {label: int(re.sub(r"\D", "", re.sub(r"<abbr>.*", "", str(shown)))) for label, shown in money.items()}
    assert amounts["Guest receives"] == booking.charge_total
    assert amounts["Guest receives"] == sum(amount for label, amount in amounts.items() if label != "Guest receives")


def test_another_amount_is_shown_before_it_is_done(world: World) -> None:
    client, booking = world.client("support_l2"), paid()
    path = refund_path(booking)
    sent = answers(client, path, amount="50.00", seen="999.99|service_issue|host", reason="Late")
    response = client.post(path, sent)
    assert response.status_code == 200 and "Confirm them" in response.context["error"]
    assert response.context["seen"] == "50.00|service_issue|host"
    assert not Refund.objects.filter(payment__booking=booking).exists()
    assert client.post(path, {**sent, "seen": response.context["seen"]}).status_code == 302
    assert Refund.objects.get(payment__booking=booking).amount == 5_000


def test_asking_for_a_preview_does_nothing_else(world: World) -> None:
    client, booking = world.client("support_l2"), paid()
    path = refund_path(booking)
    response = client.post(path, answers(client, path, amount="70.00", preview="1"), headers={"HX-Request": "true"})
    assert response.status_code == 200
    assert "70.00" in response.content.decode() and "<html" not in response.content.decode()
    assert not Refund.objects.filter(payment__booking=booking).exists()


@pytest.mark.parametrize("amount", ["0", "-5", "1e9", "abc", "12.345", "99999999", "NaN", "Infinity", "", "1,5"])
def test_an_amount_that_cannot_be_is_answered_in_words(world: World, amount: str) -> None:
    client, booking = world.client("finance"), paid()
    response = ask(client, booking, amount=amount)
    assert response.status_code in {409, 422}
    assert b"sd-danger" in response.content or b"Write how much" in response.content
    assert not Refund.objects.filter(payment__booking=booking).exists()


def test_a_reason_is_asked_for(world: World) -> None:
    client, booking = world.client("finance"), paid()
    path = refund_path(booking)
    response = client.post(path, answers(client, path, reason="  "))
    assert response.status_code == 422
    assert "Say why" in response.content.decode()
    assert not Refund.objects.filter(payment__booking=booking).exists()


def test_the_same_dialog_sent_again_makes_one_refund(world: World) -> None:
    client, booking = world.client("support_l2"), paid()
    path = refund_path(booking)
    sent = answers(client, path, amount="40.00", reason="Twice")
    first, second = client.post(path, sent), client.post(path, sent)
    assert first.status_code == second.status_code == 302
    assert Refund.objects.filter(payment__booking=booking).count() == 1


def test_a_version_that_has_moved_on_shows_the_new_numbers(world: World) -> None:
    client, booking = world.client("finance"), paid()
    path = refund_path(booking)
    sent = answers(client, path, amount="100.00", reason="Too late")
    refund(booking, 3_000, world.staff["finance"])
    response = client.post(path, sent)
    assert response.status_code == 409 and "changed since you opened it" in response.context["error"]
    assert Refund.objects.filter(payment__booking=booking).count() == 1
    fresh = response.context["form"].initial
    assert fresh["version"] == Payment.objects.get(booking=booking).version
    assert fresh["key"] != sent["key"] and fresh["reason"] == "Too late"
    sent |= {name: fresh[name] for name in ("key", "version")}
    assert client.post(path, sent).status_code == 302
    assert Refund.objects.filter(payment__booking=booking).count() == 2


def test_over_the_limit_it_waits_for_somebody_else(world: World) -> None:
    maker, lead, booking = world.client("support_l1"), world.client("team_lead"), paid()
    shown = maker.get(refund_path(booking))
    assert "a team lead or somebody in finance" in shown.content.decode()
    assert "Ask for approval" in shown.content.decode()
    response = ask(maker, booking, amount="250.00")
    made = Refund.objects.get(payment__booking=booking)
    assert made.status == "requested"
    assert "waits for a second person" in messages_of(maker, response)

    approve = reverse("admin:payments_refund_approve", args=[made.code])
    assert maker.get(approve).status_code == 403  # the maker's role may not approve at all
    response = lead.post(approve, answers(lead, approve))
    assert response.status_code == 302
    made.refresh_from_db()
    assert (made.status, made.approved_by) == ("approved", world.staff["team_lead"])


def test_nobody_approves_their_own(world: World) -> None:
    lead, booking = world.client("team_lead"), paid(nights=20, check_in=None)
    made = refund(booking, 210_000, world.staff["team_lead"])
    assert made.status == "requested"
    page = lead.get(reverse("admin:payments_refund_change", args=[made.code]))
    assert [button["name"] for button in page.context["buttons"]] == ["take_back"]
    path = reverse("admin:payments_refund_approve", args=[made.code])
    response = lead.post(path, answers(lead, path))
    assert response.status_code == 403 and "another person" in response.context["error"]
    made.refresh_from_db()
    assert made.status == "requested"


def test_a_refund_can_be_rejected_and_taken_back(world: World) -> None:
    first, second = world.waiting, refund(paid(), 15_000, world.staff["support_l1"])
    lead, maker = world.client("team_lead"), world.client("support_l1")
    reject = reverse("admin:payments_refund_reject", args=[first.code])
    assert lead.post(reject, answers(lead, reject, reason="Host has shown repairs")).status_code == 302
    take_back = reverse("admin:payments_refund_take_back", args=[second.code])
    assert maker.post(take_back, answers(maker, take_back)).status_code == 302
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, second.status) == ("rejected", "cancelled")


@pytest.mark.django_db(transaction=True)
def test_three_fast_clicks_make_one_refund() -> None:
    """Three requests at once on real connections, as three clicks send them (reference/unfold.md, 5)."""
    world = build()
    booking = paid()
    client = world.client("support_l2")
    path = refund_path(booking)
    sent = answers(client, path, amount="60.00", reason="Three clicks")
    outcomes: list[int] = []
    together = threading.Barrier(3)

    def click() -> None:
        mine = world.client("support_l2")
        together.wait()
        outcomes.append(mine.post(path, sent).status_code)
        connections.close_all()

    clicks = [threading.Thread(target=click) for _ in range(3)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert outcomes == [302, 302, 302]
    assert Refund.objects.filter(payment__booking=booking).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_staff_at_once_and_one_is_told_to_look_again() -> None:
    world = build()
    booking = paid()
    path = refund_path(booking)
    prepared = {
        role: answers(world.client(role), path, amount="60.00", reason=role) for role in ("support_l2", "finance")
    }
    outcomes: dict[str, int] = {}
    together = threading.Barrier(2)

    def decide(role: str) -> None:
        client = world.client(role)
        together.wait()
        outcomes[role] = client.post(path, prepared[role]).status_code
        connections.close_all()

    both = [threading.Thread(target=decide, args=[role]) for role in prepared]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(outcomes.values()) == [302, 409]
    assert Refund.objects.filter(payment__booking=booking).count() == 1


# Cancelling -----------------------------------------------------------------------------------------------------------


def test_a_booking_is_cancelled_on_the_terms_that_were_shown(world: World) -> None:
    client, booking = world.client("finance"), paid()
    path = reverse("admin:bookings_booking_cancel", args=[booking.code])
    shown = client.get(path)
    assert shown.context["quote"].lines
    sent = answers(client, path, reason="The guest wrote in")
    response = client.post(path, sent)
    assert response.status_code == 302, response.context["error"]
    booking.refresh_from_db()
    assert (booking.status, booking.cancelled_by) == ("cancelled", "staff")
    made = Refund.objects.get(payment__booking=booking)
    assert made.code in messages_of(client, response)


def test_for_the_host_there_are_other_numbers_and_they_are_shown_first(world: World) -> None:
    client, booking = world.client("finance"), paid()
    path = reverse("admin:bookings_booking_cancel", args=[booking.code])
    sent = answers(client, path, reason="Burst pipe", on_behalf_of="host")
    response = client.post(path, sent)  # the guest's numbers were on the screen
    assert response.status_code == 200 and "Confirm them" in response.context["error"]
    assert response.context["quote"].penalty
    booking.refresh_from_db()
    assert booking.status == "confirmed"
    sent |= {"seen": response.context["seen"], "token": response.context["token"]}
    assert client.post(path, sent).status_code == 302
    booking.refresh_from_db()
    assert booking.status == "cancelled"


def test_what_a_card_network_holds_of_a_stay_that_its_host_cancels_is_said_to_go_back_later(world: World) -> None:
    client, junior, booking = world.client("finance"), world.client("support_l1"), paid()
    chargeback(booking)
    path = reverse("admin:bookings_booking_cancel", args=[booking.code])
    for each in (junior, client):
        sent = answers(each, path, reason="Burst pipe", on_behalf_of="host")
        response = each.post(path, sent)
        assert "And once no chargeback holds it" in dict(response.context["quote"].shares)
        sent |= {"seen": response.context["seen"], "token": response.context["token"]}
        response = each.post(path, sent)
        if each is junior:  # it is over their limit, sent now or later
            assert response.status_code == 403 and "over your limit" in response.context["error"]
    made = Refund.objects.get(payment__booking=booking)
    assert (made.waits_for, made.amount) == ("chargeback", booking.charge_total)
    assert "once no chargeback holds it" in messages_of(client, response)


def test_what_every_charge_of_a_long_stay_gives_back_is_said_in_one(world: World) -> None:
    client, booking = world.client("finance"), paid()
    ExtraCharge.objects.create(
        booking=booking, kind="instalment", number=2, status="captured", amount=8_000, currency="EUR", held=8_000,
        charge_id="ch_second", due_at=now(), captured_at=now(), created_at=now(),
    )  # fmt: skip
    path = reverse("admin:bookings_booking_cancel", args=[booking.code])
    sent = answers(client, path, reason="Burst pipe", on_behalf_of="host")
    response = client.post(path, sent)
    sent |= {"seen": response.context["seen"], "token": response.context["token"]}
    told = messages_of(client, client.post(path, sent))
    given = Refund.objects.filter(by_rule=True).values_list("amount", flat=True)
    assert set(given) == {8_000, booking.charge_total - 8_000}, "the price, from the last that was paid first"
    assert str(Money(booking.charge_total, "EUR")) in told


def test_terms_that_changed_meanwhile_are_shown_again(world: World) -> None:
    client, booking = world.client("finance"), paid()
    path = reverse("admin:bookings_booking_cancel", args=[booking.code])
    sent = answers(client, path, reason="The guest wrote in")
    refund(booking, 5_000, world.staff["finance"])
    response = client.post(path, sent)
    assert response.status_code == 409 and "look again" in response.context["error"]
    booking.refresh_from_db()
    assert booking.status == "confirmed"


# Others ---------------------------------------------------------------------------------------------------------------


def test_a_person_is_suspended_and_reinstated_with_reasons(world: World) -> None:
    client, guest = world.client("trust_safety"), world.booking.guest
    for name, status in (("suspend", "suspended"), ("reinstate", "active")):
        path = reverse(f"admin:people_user_{name}", args=[guest.code])
        assert client.post(path, answers(client, path, reason="Three stolen cards")).status_code == 302
        guest.refresh_from_db()
        assert guest.status == status
        assert AuditEntry.objects.get(verb=f"people.{name}", object_id=guest.code).reason == "Three stolen cards"


def test_a_suspension_of_somebody_who_changed_meanwhile_is_asked_again(world: World) -> None:
    client, guest = world.client("trust_safety"), world.booking.guest
    path = reverse("admin:people_user_suspend", args=[guest.code])
    sent = answers(client, path, reason="Three stolen cards")
    User.objects.filter(pk=guest.pk).update(version=guest.version + 1)
    assert client.post(path, sent).status_code == 409
    guest.refresh_from_db()
    assert guest.status == "active"


def test_a_home_is_published_or_sent_back(world: World) -> None:
    client, home = world.client("trust_safety"), world.listing_in_review
    path = reverse("admin:listings_listing_publish", args=[home.code])
    assert client.post(path, answers(client, path)).status_code == 302
    home.refresh_from_db()
    assert home.status == "published"
    response = client.post(path, {"key": "k", "version": home.version, "seen": ""})
    assert response.status_code == 409 and "cannot" in response.context["error"]


def test_a_webhook_is_replayed(world: World) -> None:
    client = world.client("on_call")
    path = reverse("admin:payments_webhookevent_replay", args=[world.webhook.event_id])
    assert client.post(path, answers(client, path)).status_code == 302
    assert WebhookEvent.objects.get(pk=world.webhook.pk).status == "received"


def test_a_break_is_taken_noted_and_resolved(world: World) -> None:
    client = world.client("finance")
    found = world.rows[Break]
    explained = {"reason": "Explained", "cause": "timing", "ticket": "FIN-8812"}
    for name, typed in (("take", {}), ("note", {"reason": "Asked the provider"}), ("resolve", explained)):
        path = reverse(f"admin:reconciliation_break_{name}", args=[found.code])
        assert client.post(path, answers(client, path, **typed)).status_code == 302, name
    found.refresh_from_db()
    assert (found.status, found.owner) == ("resolved", world.staff["finance"])
    assert (found.cause, found.ticket) == ("timing", "FIN-8812")
    assert "Asked the provider" in found.notes


def test_a_dialog_about_nothing_is_not_found(world: World) -> None:
    client = world.client("finance")
    path = reverse("admin:bookings_booking_refund", args=["BK-NOSUCH"])
    assert client.get(path).status_code == 404
    assert client.post(path, {"key": "k", "version": 1}).status_code == 404


def test_opened_in_the_modal_it_answers_with_a_fragment_and_redirects_by_header(world: World) -> None:
    client, booking = world.client("support_l2"), paid()
    path = refund_path(booking)
    opened = client.get(path, headers={"HX-Request": "true"}).content.decode()
    assert 'id="dialog"' in opened and "<html" not in opened
    sent = answers(client, path, amount="10.00", reason="In the modal")
    failed = client.post(path, {**sent, "reason": ""}, headers={"HX-Request": "true"})
    assert failed.status_code in {200, 422} and 'id="dialog"' in failed.content.decode()
    done = client.post(path, sent, headers={"HX-Request": "true"})
    assert done["HX-Redirect"] == reverse("admin:bookings_booking_change", args=[booking.code])


def test_what_people_wrote_is_never_run(world: World) -> None:
    evil = "<script>alert(1)</script>"
    booking = paid(factories.person(evil))
    made = refund(booking, 15_000, world.staff["support_l1"])
    Refund.objects.filter(pk=made.pk).update(reason=evil, failure_reason=evil)
    client = world.client("finance")
    for path in (
        reverse("admin:bookings_booking_change", args=[booking.code]),
        reverse("admin:bookings_booking_changelist"),
        reverse("admin:payments_refund_change", args=[made.code]),
        reverse("admin:people_user_change", args=[booking.guest.code]),
        reverse("admin:payments_refund_approve", args=[made.code]),
        reverse("admin:payments_webhookevent_change", args=[world.webhook.event_id]),
        reverse("admin:search") + "?s=" + evil,
    ):
        assert evil not in client.get(path).content.decode(), path
