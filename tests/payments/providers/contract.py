"""What every payment provider must do behind our port, as tests. A second provider is one folder beside `gateway/stripe`, a
`Bench` for its test environment and a subclass of `ProviderContract` (docs/providers.md).

The tests ask nothing that a test account of a real provider could not answer: they look only at what they made themselves.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backoffice.core.errors import Invalid, ProviderError
from backoffice.core.money import Money
from backoffice.payments.gateway.port import Gateway
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenPayment

BACK = "https://desk.example/back"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A provider's test environment: cards that behave as they are called, and a way to let time pass there.

    `sign` makes the header that the provider would send with a payload at an instant, by the secret of that number. `host`
    tells the provider what it wants to know of an account's owner; None where only a person can."""

    gateway: Gateway
    good_card: str
    declined_card: str
    challenged_card: str
    settle: Callable[[], None]
    now: Callable[[], datetime]
    sign: Callable[[bytes, datetime, int], str]
    event: Callable[[], bytes]
    disputed_card: str = ""
    host: Callable[[str], None] | None = None
    native: str = "EUR"
    run: str = field(default_factory=lambda: secrets.token_hex(6))

    def code(self, kind: str, number: int = 1) -> str:
        """A code of ours that no other run has used."""
        return f"{kind}-{self.run}-{number}"

    def pay(self, card: str = "", *, amount: int = 10_000, number: int = 1, **options: Any) -> SeenPayment:
        return self.gateway.pay(
            amount=Money(amount, self.native),
            payment_method=card or self.good_card,
            reference=self.code("PY", number),
            group=self.code("BK"),
            key=self.code("key", number),
            return_url=BACK,
            **options,
        )

    def movement(self, *, category: str, source: str) -> SeenBalanceTransaction:
        """The movement of one of our objects, once the provider lists it."""
        since = self.now() - timedelta(hours=1)
        for _ in range(20):
            for row in self.gateway.balance_transactions(since=since):
                if (row.reporting_category, row.source_id) == (category, source):
                    return row
            self.settle()
        raise AssertionError(f"the provider does not list a {category} of {source}")


class ProviderContract:
    """Subclasses give the fixture `bench`."""

    def test_it_says_who_it_is(self, bench: Bench) -> None:
        assert bench.gateway.name and bench.gateway.ping()

    # Money in

    def test_a_good_card_pays_and_the_payment_is_found_by_its_id_and_by_our_code(self, bench: Bench) -> None:
        seen = bench.pay()
        assert (seen.status, seen.amount, seen.reference) == ("captured", Money(10_000, bench.native), bench.code("PY"))
        assert seen.charge_id
        assert bench.gateway.payment(payment_id=seen.id).status == "captured"
        since = bench.now() - timedelta(hours=1)
        found = bench.gateway.find_payment(reference=bench.code("PY"), since=since)
        assert found is not None and found.id == seen.id
        assert bench.gateway.find_payment(reference=bench.code("PY", 99), since=since) is None

    def test_the_same_key_is_the_same_payment_and_never_another_amount(self, bench: Bench) -> None:
        first = bench.pay()
        assert bench.pay().id == first.id
        with pytest.raises(ProviderError):
            bench.pay(amount=20_000)

    def test_a_decline_is_an_answer_and_another_card_may_follow(self, bench: Bench) -> None:
        declined = bench.pay(bench.declined_card)
        assert declined.status == "requires_payment" and declined.error_code and not declined.charge_id
        again = bench.gateway.try_again(
            payment_id=declined.id, payment_method=bench.good_card, key=bench.code("key", 2), return_url=BACK
        )
        assert (again.id, again.status) == (declined.id, "captured")

    def test_a_bank_that_asks_sends_the_guest_to_a_page(self, bench: Bench) -> None:
        asked = bench.pay(bench.challenged_card)
        assert asked.status == "requires_action" and asked.next_action_url.startswith("http")
        assert bench.gateway.cancel_payment(payment_id=asked.id, key=bench.code("cancel")).status == "cancelled"

    def test_an_authorisation_is_taken_once_or_let_go(self, bench: Bench) -> None:
        held = bench.pay(capture=False)
        assert held.status == "authorised" and held.capture_before is not None
        assert timedelta(days=1) < held.capture_before - bench.now() < timedelta(days=40)
        taken = bench.gateway.capture(payment_id=held.id, key=bench.code("capture"))
        assert taken.status == "captured" and taken.taken == held.amount
        other = bench.pay(capture=False, number=2)
        assert bench.gateway.cancel_payment(payment_id=other.id, key=bench.code("cancel")).status == "cancelled"
        with pytest.raises(ProviderError):
            bench.gateway.capture(payment_id=other.id, key=bench.code("capture", 2))

    def test_a_saved_card_is_charged_while_the_guest_is_away(self, bench: Bench) -> None:
        saved = bench.gateway.save_card(
            payment_method=bench.good_card,
            reference=bench.code("PY"),
            group=bench.code("BK"),
            key=bench.code("setup"),
            return_url=BACK,
        )
        assert saved.status == "saved" and saved.customer_id and saved.payment_method
        assert bench.gateway.card_setup(setup_id=saved.id).status == "saved"
        charged = bench.pay(saved.payment_method, customer_id=saved.customer_id, off_session=True)
        assert charged.status == "captured"

    # Money back

    def test_refunds_go_back_in_parts_until_nothing_is_left(self, bench: Bench) -> None:
        charge = bench.pay().charge_id
        bench.movement(category="charge", source=charge)

        def refund(amount: int, number: int) -> Any:
            return bench.gateway.refund(
                charge_id=charge,
                amount=Money(amount, bench.native),
                reference=bench.code("RF", number),
                key=bench.code("refund", number),
            )

        first = refund(4_000, 1)
        assert first.status in {"pending", "succeeded"} and first.charge_id == charge
        assert refund(4_000, 1).id == first.id, "the same key is the same refund"
        found = bench.gateway.find_refund(charge_id=charge, reference=bench.code("RF"))
        assert found is not None and found.id == first.id
        assert bench.gateway.find_refund(charge_id=charge, reference=bench.code("RF", 9)) is None
        with pytest.raises(ProviderError):
            refund(6_001, 2)
        refund(6_000, 3)
        with pytest.raises(ProviderError):
            refund(1, 4)
        assert bench.gateway.refund_state(refund_id=first.id).amount == Money(4_000, bench.native)

    # Movements, events, webhooks

    def test_every_movement_names_its_source_and_adds_up(self, bench: Bench) -> None:
        charge = bench.pay().charge_id
        moved = bench.movement(category="charge", source=charge)
        assert moved.amount == Money(10_000, bench.native) and moved.amount - moved.fee == moved.net
        assert moved.source_reference == bench.code("PY") and moved.available_on >= moved.created
        refund = bench.gateway.refund(
            charge_id=charge, amount=Money(2_500, bench.native), reference=bench.code("RF"), key=bench.code("refund")
        )
        back = bench.movement(category="refund", source=refund.id)
        assert back.amount == -Money(2_500, bench.native) and back.source_reference == bench.code("RF")

    def test_a_window_of_movements_is_half_open(self, bench: Bench) -> None:
        moved = bench.movement(category="charge", source=bench.pay().charge_id)
        inside = bench.gateway.balance_transactions(since=moved.created, until=moved.created + timedelta(seconds=1))
        assert moved.id in {row.id for row in inside}
        before = bench.gateway.balance_transactions(since=moved.created - timedelta(hours=1), until=moved.created)
        assert moved.id not in {row.id for row in before}

    def test_what_happened_is_told_once_more_on_request(self, bench: Bench) -> None:
        seen = bench.pay()
        events = list(bench.gateway.events(since=bench.now() - timedelta(hours=1)))
        assert seen.id in {event.object_id for event in events}
        assert len({event.id for event in events}) == len(events)

    def test_a_webhook_is_believed_by_either_of_two_secrets_within_five_minutes(self, bench: Bench) -> None:
        payload, at = bench.event(), datetime.now(UTC)
        for secret in (0, 1):
            event = bench.gateway.read_webhook(
                payload=payload, signature=bench.sign(payload, at, secret), now=bench.now()
            )
            assert event.id and event.type and event.payload == payload
        refused = (
            (payload + b" ", bench.sign(payload, at, 0)),
            (payload, bench.sign(payload, at, 2)),
            (payload, bench.sign(payload, at - timedelta(minutes=6), 0)),
            (payload, bench.sign(payload, at + timedelta(minutes=6), 0)),
            (payload, ""),
        )
        for sent, signature in refused:
            with pytest.raises(Invalid):
                bench.gateway.read_webhook(payload=sent, signature=signature, now=bench.now())

    def test_the_balance_is_one_amount_a_currency(self, bench: Bench) -> None:
        balance = bench.gateway.balance()
        assert all(money.currency == currency for currency, money in balance.items())

    # Money out

    def test_an_account_is_opened_once_and_cannot_receive_before_its_owner_was_asked(self, bench: Bench) -> None:
        facts = {"country": "DE", "email": "bob@example.org", "reference": bench.code("HO"), "key": bench.code("open")}
        opened = bench.gateway.open_account(**facts)
        assert bench.gateway.open_account(**facts).id == opened.id
        assert bench.gateway.account(account_id=opened.id) == opened
        found = bench.gateway.find_account(reference=bench.code("HO"), since=bench.now() - timedelta(hours=1))
        assert found is not None and found.id == opened.id
        assert not opened.can_receive and opened.missing
        charge = bench.pay().charge_id
        bench.movement(category="charge", source=charge)
        with pytest.raises(ProviderError):
            self._transfer(bench, opened.id, charge, "transfer")

    def test_a_transfer_is_made_once_and_found_by_its_key(self, bench: Bench) -> None:
        if bench.host is None:
            pytest.skip("an account is told everything by a person, on the provider's own page")
        account = bench.gateway.open_account(
            country="DE", email="bob@example.org", reference=bench.code("HO"), key=bench.code("open")
        ).id
        bench.host(account)
        charge = bench.pay().charge_id
        bench.movement(category="charge", source=charge)
        sent = self._transfer(bench, account, charge, "transfer")
        assert self._transfer(bench, account, charge, "transfer").id == sent.id
        assert (sent.amount, sent.account, sent.reversed_amount.amount) == (Money(6_000, bench.native), account, 0)
        found = bench.gateway.find_transfer(group=bench.code("BK"), key=bench.code("transfer"))
        assert found is not None and found.id == sent.id
        assert bench.movement(category="transfer", source=sent.id).amount == -Money(6_000, bench.native)

    def test_a_dispute_is_heard_of_and_its_evidence_is_staged_not_submitted(self, bench: Bench) -> None:
        charge = bench.pay(bench.disputed_card).charge_id
        taken = bench.movement(category="dispute", source=self._dispute_of(bench, charge).id)
        assert taken.amount == -Money(10_000, bench.native) and taken.fee.amount >= 0
        dispute = self._dispute_of(bench, charge)
        assert (dispute.kind, dispute.amount, dispute.status) == (
            "chargeback",
            Money(10_000, bench.native),
            "needs_response",
        )
        staged = bench.gateway.stage_evidence(
            dispute_id=dispute.id, evidence={"customer_name": "Alice"}, key=bench.code("stage")
        )
        assert (staged.status, staged.submissions) == ("needs_response", 0)

    @staticmethod
    def _transfer(bench: Bench, account: str, charge: str, key: str) -> Any:
        return bench.gateway.transfer(
            amount=Money(6_000, bench.native),
            account=account,
            charge_id=charge,
            group=bench.code("BK"),
            reference=bench.code("PO"),
            host=bench.code("HO"),
            key=bench.code(key),
        )

    @staticmethod
    def _dispute_of(bench: Bench, charge: str) -> Any:
        since = bench.now() - timedelta(hours=1)
        for _ in range(20):
            for row in bench.gateway.disputes(since=since):
                if row.charge_id == charge:
                    return row
            bench.settle()
        raise AssertionError(f"the provider knows no dispute of {charge}")
