"""What the search box and every link of a code or a provider's id lead to."""

from __future__ import annotations

import pytest
from django.urls import reverse

from backoffice.audit.models import AuditEntry
from backoffice.console import cells, lookup, story
from backoffice.payments.models import Chargeback, ExtraCharge
from backoffice.payments.states import CHARGE
from tests.console.world import World


def test_whatever_is_made_a_link_is_known(db: None) -> None:
    assert set(cells.LEADS) == {prefix for prefix, *_ in lookup._KNOWN}


def test_charges_and_chargebacks_are_found_by_every_name_they_have(world: World) -> None:
    charge, dispute = world.rows[ExtraCharge], world.rows[Chargeback]
    assert isinstance(charge, ExtraCharge) and isinstance(dispute, Chargeback)
    ExtraCharge.objects.filter(pk=charge.pk).update(provider_id="pi_later", charge_id="ch_later")
    payment = world.booking.payment
    client, find = world.client("auditor"), reverse("admin:find")
    for term, target in (
        (charge.code.lower(), charge),
        ("pi_later", charge),
        ("ch_later", charge),
        (dispute.code, dispute),
        (dispute.provider_id, dispute),
        (payment.provider_id, payment),
        (payment.charge_id, payment),
    ):
        assert client.get(find, {"q": term})["Location"] == cells.address_of(target), term
    assert world.client("nobody").get(find, {"q": "ch_later"})["Location"] == reverse("admin:index")


@pytest.mark.parametrize("act", ["schedule", "request", *sorted(CHARGE.steps)])
def test_what_is_done_to_a_charge_is_told_in_words_and_leads_to_it(act: str) -> None:
    entry = AuditEntry(verb=f"charges.{act}", object_kind="charge", object_id="CH-1")
    assert story.sentence(entry).startswith("Charge CH-1 ")
    assert reverse("admin:payments_extracharge_change", args=["CH-1"]) in story.about(entry)
