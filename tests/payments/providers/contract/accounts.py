"""Hosts' accounts."""

from __future__ import annotations

import pytest

from backoffice.core.errors import ProviderError
from tests.payments.providers.contract.bench import BACK, Bench
from tests.payments.providers.contract.money_out import transfer


class AccountsContract:
    def test_an_account_is_opened_once_and_cannot_receive_before_its_owner_was_asked(self, bench: Bench) -> None:
        facts = {"country": "DE", "email": "bob@example.org", "reference": bench.code("HO"), "key": bench.code("open")}
        opened = bench.gateway.open_account(**facts)
        assert bench.gateway.open_account(**facts).id == opened.id, "the same key is the same account"
        assert bench.gateway.account(account_id=opened.id) == opened
        found = bench.gateway.find_account(reference=bench.code("HO"), since=bench.since)
        assert found is not None and found.id == opened.id
        assert bench.gateway.find_account(reference=bench.code("HO", 9), since=bench.since) is None
        assert not opened.can_receive and not opened.told_everything and opened.missing
        assert (opened.reference, opened.country, opened.bank_fingerprint) == (bench.code("HO"), "DE", "")
        charge = bench.charge()
        with pytest.raises(ProviderError):
            transfer(bench, opened.id, charge)

    def test_what_the_provider_does_not_know_is_told_from_an_account_that_is_not_ours(self, bench: Bench) -> None:
        with pytest.raises(ProviderError) as unknown:
            bench.gateway.payment(payment_id=bench.code("none"))
        assert unknown.value.facts["missing"] == "object"
        with pytest.raises(ProviderError) as not_ours:
            bench.gateway.bank_payout(payout_id=bench.code("none"), account=bench.code("account"))
        assert not_ours.value.facts["missing"] == "account"

    def test_its_owner_is_sent_to_a_page_of_the_provider_that_is_good_once(self, bench: Bench) -> None:
        opened = bench.gateway.open_account(
            country="DE", email="bob@example.org", reference=bench.code("HO"), key=bench.code("open")
        )
        link = bench.gateway.onboarding_link(account_id=opened.id, return_url=BACK)
        assert link.startswith("http") and not link.startswith(BACK)
        assert bench.gateway.onboarding_link(account_id=opened.id, return_url=BACK) != link

    def test_an_account_that_was_told_everything_may_receive_and_shows_where_its_money_goes(self, bench: Bench) -> None:
        seen = bench.gateway.account(account_id=bench.ready_host())
        assert (seen.can_receive, seen.can_pay_out, seen.told_everything) == (True, True, True)
        assert seen.bank_fingerprint and seen.bank_hint and not seen.disabled_reason
