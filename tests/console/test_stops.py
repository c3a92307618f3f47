"""Kill switches: nobody works on without seeing what is stopped, and who may turn them does so with a reason."""

from __future__ import annotations

import pytest
from django.urls import reverse

from backoffice.audit.models import AuditEntry
from backoffice.console import cells
from backoffice.jobs.models import Stop
from backoffice.jobs.states import STOP_SCOPES
from backoffice.people.policies import STAFF_VERBS
from tests import factories
from tests.console.test_dialogs import answers, messages_of
from tests.console.test_pages import text_of
from tests.console.test_payouts import seated
from tests.console.world import ROLES, World, addresses, now, paid, refund, stopped


def switch(scope: str) -> str:
    return reverse("admin:jobs_stop_change", args=[scope])


def test_what_is_stopped_stands_on_every_page_for_everybody(world: World) -> None:
    stopped("payouts")
    for role in ("support_l1", "auditor"):
        client = world.client(role)
        for address in [*addresses(world), None]:
            response = client.get(address.path if address else reverse("admin:index"))
            if address is not None and address.kind == "dialog":
                continue
            shown = text_of(response)
            assert "Payouts are stopped. “Cards are charged twice” Otto On-call, since" in shown, address
            assert f'href="{switch("payouts")}"' in response.content.decode()


def test_a_refund_that_is_approved_says_that_it_waits_for_the_end_of_the_stop(db: None) -> None:
    asked = refund(paid(), 5_000, factories.staff("finance", now=now()))
    client, sentence = seated("support_l1"), "sent as soon as refunds are no longer stopped"
    assert sentence not in text_of(client.get(cells.address_of(asked)))
    stopped("refunds")
    assert sentence in text_of(client.get(cells.address_of(asked)))


def test_nothing_is_said_while_nothing_is_stopped(world: World) -> None:
    assert "are stopped" not in text_of(world.client("auditor").get(reverse("admin:index")))


def test_the_list_shows_every_switch_even_before_anything_was_stopped(world: World) -> None:
    Stop.objects.all().delete()
    content = world.client("auditor").get("/console/jobs/stop/").content.decode()
    for scope in STOP_SCOPES:
        assert f'href="{switch(scope)}"' in content


def test_a_switch_that_is_none_is_not_there(world: World) -> None:
    assert world.client("auditor").get(switch("everything")).status_code == 404


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_turn_it_sees_the_button(world: World, role: str) -> None:
    response = world.client(role).get(switch("bookings"))
    offered = {button["name"] for button in response.context["buttons"]}
    assert offered == ({"stop"} if role in STAFF_VERBS["stops.switch"] else set())


def test_it_is_stopped_and_let_go_on_with_reasons(world: World) -> None:
    client = world.client("on_call")
    stop, resume = (reverse(f"admin:jobs_stop_{name}", args=["payouts"]) for name in ("stop", "resume"))
    assert "Payouts are not stopped" in client.get(resume).context["error"]
    refused = client.post(stop, answers(client, stop, reason=""))
    assert refused.status_code == 422 and not Stop.objects.filter(scope="payouts").exists()
    response = client.post(stop, answers(client, stop, reason="Transfers are sent twice"))
    assert response.status_code == 302 and "until somebody lets them go on" in messages_of(client, response)
    row = Stop.objects.get(scope="payouts", ended_at=None)
    assert (row.reason, row.by) == ("Transfers are sent twice", world.staff["on_call"].name)
    assert "Payouts are stopped" in client.get(stop).context["error"]
    lead = world.client("team_lead")
    assert "Transfers are sent twice" in text_of(lead.get(resume))
    assert lead.post(resume, answers(lead, resume, reason="It was one log line twice")).status_code == 302
    row.refresh_from_db()
    assert (row.ended_by, row.ended_reason) == (world.staff["team_lead"].name, "It was one log line twice")
    verbs = AuditEntry.objects.filter(object_kind="stop", object_id="payouts").order_by("seq")
    assert list(verbs.values_list("verb", flat=True)) == ["stops.stop", "stops.resume"]
    shown = text_of(lead.get(switch("payouts")))
    assert "All payouts stopped" in shown and "All payouts let go on" in shown
