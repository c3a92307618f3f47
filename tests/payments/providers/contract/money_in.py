"""Payments, authorisations and saved cards."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.core.errors import Indeterminate, ProviderError, UpstreamUnavailable
from backoffice.payments.policies.seen import SeenPayment, SeenSetup
from tests.payments.providers.contract.bench import BACK, Bench, need


class MoneyInContract:
    def test_it_says_who_it_is(self, bench: Bench) -> None:
        assert bench.gateway.name and bench.gateway.ping()

    def test_a_good_card_pays_and_the_payment_is_found_by_its_id_and_by_our_code(self, bench: Bench) -> None:
        seen = bench.pay()
        assert (seen.status, seen.amount, seen.reference) == ("captured", bench.money(10_000), bench.code("PY"))
        assert seen.charge_id and seen.taken == seen.amount
        again = bench.gateway.payment(payment_id=seen.id)
        assert (again.status, again.charge_id) == ("captured", seen.charge_id)
        found = bench.gateway.find_payment(reference=bench.code("PY"), since=bench.since)
        assert found is not None and found.id == seen.id
        assert bench.gateway.find_payment(reference=bench.code("PY", 99), since=bench.since) is None
        with pytest.raises(ProviderError):
            bench.gateway.payment(payment_id=seen.id + "x")

    def test_the_same_key_is_the_same_payment_and_never_another_amount(self, bench: Bench) -> None:
        first = bench.pay()
        assert bench.pay().id == first.id
        with pytest.raises(ProviderError):
            bench.pay(amount=20_000)

    def test_an_answer_that_is_lost_is_found_under_the_same_key(self, bench: Bench) -> None:
        need(bench.lose_answer, "an answer that is lost on its way")()
        with pytest.raises(Indeterminate):
            bench.pay()
        found = bench.gateway.find_payment(reference=bench.code("PY"), since=bench.since)
        assert found is not None and bench.pay().id == found.id

    def test_being_turned_away_is_no_answer_and_the_call_is_repeated(self, bench: Bench) -> None:
        need(bench.turn_away, "a call that is one too many")()
        with pytest.raises(UpstreamUnavailable):
            bench.pay()
        assert bench.gateway.find_payment(reference=bench.code("PY"), since=bench.since) is None
        assert bench.pay().status == "captured"

    def test_a_decline_is_an_answer_and_another_card_may_follow(self, bench: Bench) -> None:
        declined = bench.pay(bench.cards.declined)
        assert declined.status == "requires_payment" and declined.error_code and not declined.charge_id

        def another() -> SeenPayment:
            return bench.gateway.try_again(
                payment_id=declined.id, payment_method=bench.cards.good, key=bench.code("key", 2), return_url=BACK
            )

        again = another()
        assert (again.id, again.status) == (declined.id, "captured")
        assert another().charge_id == again.charge_id, "the same key is the same try"

    def test_a_bank_that_asks_sends_the_guest_to_a_page(self, bench: Bench) -> None:
        asked = bench.pay(bench.cards.challenged)
        assert asked.status == "requires_action" and asked.next_action_url.startswith("http")
        assert bench.gateway.cancel_payment(payment_id=asked.id, key=bench.code("cancel")).status == "cancelled"

    # Authorised, taken later

    def test_an_authorisation_is_taken_once_or_let_go(self, bench: Bench) -> None:
        held = bench.pay(capture=False)
        assert held.status == "authorised" and held.capture_before is not None
        assert timedelta(days=1) < held.capture_before - bench.now() < timedelta(days=40)
        taken = bench.gateway.capture(payment_id=held.id, key=bench.code("capture"))
        assert taken.status == "captured" and taken.taken == held.amount
        assert bench.gateway.capture(payment_id=held.id, key=bench.code("capture")).status == "captured"
        with pytest.raises(ProviderError):
            bench.gateway.capture(payment_id=held.id, key=bench.code("capture", 2))
        with pytest.raises(ProviderError):
            bench.gateway.cancel_payment(payment_id=held.id, key=bench.code("cancel", 2))
        other = bench.pay(capture=False, number=2)
        for _ in range(2):  # the second time by the same key
            assert bench.gateway.cancel_payment(payment_id=other.id, key=bench.code("cancel")).status == "cancelled"
        with pytest.raises(ProviderError):
            bench.gateway.capture(payment_id=other.id, key=bench.code("capture", 3))

    def test_of_an_authorisation_a_part_is_taken_and_the_rest_let_go(self, bench: Bench) -> None:
        held = bench.pay(capture=False)
        with pytest.raises(ProviderError):
            bench.gateway.capture(payment_id=held.id, key=bench.code("more"), amount=bench.money(10_001))
        taken = bench.gateway.capture(payment_id=held.id, key=bench.code("capture"), amount=bench.money(6_000))
        assert (taken.status, taken.taken, taken.amount) == ("captured", bench.money(6_000), bench.money(10_000))
        bench.movement(category="charge", source=taken.charge_id)
        moved = [row for row in bench.movements(taken.charge_id) if row.reporting_category != "refund"]
        assert sum(row.amount.amount for row in moved) == 6_000

    def test_what_is_not_taken_in_time_is_let_go_by_itself(self, bench: Bench) -> None:
        held = bench.pay(capture=False)

        def lapsed() -> SeenPayment | None:
            seen = bench.gateway.payment(payment_id=held.id)
            return seen if seen.status == "cancelled" else None

        let_go = bench.later("an authorisation to lapse", lapsed, within=timedelta(days=8))
        assert not let_go.charge_id and let_go.taken == bench.money(0)

    # Saved cards

    def test_a_saved_card_is_charged_while_the_guest_is_away(self, bench: Bench) -> None:
        saved = _save(bench)
        assert saved.status == "saved" and saved.customer_id and saved.payment_method
        assert _save(bench).id == saved.id, "the same key is the same card"
        assert bench.gateway.card_setup(setup_id=saved.id) == saved
        charged = bench.pay(saved.payment_method, customer_id=saved.customer_id, off_session=True)
        assert charged.status == "captured" and charged.customer_id == saved.customer_id

    def test_a_card_that_is_not_saved_says_why_and_is_found_by_our_code(self, bench: Bench) -> None:
        asked = _save(bench, bench.cards.challenged)
        assert asked.status == "requires_action" and asked.next_action_url.startswith("http")
        found = bench.gateway.find_setup(reference=bench.code("PY"), since=bench.since)
        assert found is not None and found.id == asked.id
        assert bench.gateway.find_setup(reference=bench.code("PY", 99), since=bench.since) is None
        declined = _save(bench, bench.cards.declined, number=2)
        assert (
            declined.status == "requires_payment" and declined.error_code and declined.reference == bench.code("PY", 2)
        )

    def test_a_bank_that_asks_a_guest_who_is_away_has_declined(self, bench: Bench) -> None:
        away = bench.pay(bench.cards.wary, off_session=True)
        assert away.status == "requires_payment" and away.error_code and not away.charge_id


def _save(bench: Bench, card: str = "", number: int = 1) -> SeenSetup:
    return bench.gateway.save_card(
        payment_method=card or bench.cards.good,
        reference=bench.code("PY", number),
        group=bench.code("BK"),
        key=bench.code("setup", number),
        return_url=BACK,
    )
