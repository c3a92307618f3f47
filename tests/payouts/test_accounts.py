"""What the rules say of a host's account: whether it may be sent money, and what news of it means."""

from __future__ import annotations

from datetime import datetime, timedelta
from string import ascii_uppercase

import pytest

from backoffice.core.errors import Conflict, Invalid, NotAllowed
from backoffice.payments.policies.seen_accounts import SeenAccount
from backoffice.payouts import operations, queries
from backoffice.payouts.models import HostAccount
from backoffice.payouts.policies.accounts import AccountFacts, bank_changed, is_country, status_after, waiting
from backoffice.rulebook.policies import RecoveryRules
from tests import factories
from tests.factories import NOW, SYSTEM

RULES = RecoveryRules(
    bank_cool_down_hours=72, netting_days=14, retry_days=7, reverse_automatically=True, sweep_minimums=()
)
HOUR = timedelta(hours=1)


def facts(
    *, made: bool = True, able: bool = True, missing: tuple[str, ...] = (), reason: str = "",
    changed: datetime | None = None, approved: bool = False,
) -> AccountFacts:  # fmt: skip
    return AccountFacts(
        made=made,
        can_receive=able,
        missing=missing,
        disabled_reason=reason,
        bank_changed_at=changed,
        bank_approved=approved,
    )


@pytest.mark.parametrize(
    ("account", "sentence", "until"),
    [
        (None, "not set up yet", None),
        (facts(made=False, able=False), "not set up yet", None),
        (
            facts(able=False, missing=("tos_acceptance.date", "tos_acceptance.ip", "individual.verification.document")),
            "still asks for a yes to its terms; a document that proves identity.",
            None,
        ),
        (facts(able=False, missing=("company.name_kana",)), "still asks for company, name kana.", None),
        (facts(able=False, missing=("a", "b", "c", "d", "e")), "a; b; c and 2 more.", None),
        (facts(able=False), "looking at what you told it", None),
        (facts(able=False, reason="rejected.fraud"), "has restricted the account", None),
        (facts(changed=NOW), "rest before", NOW + 72 * HOUR),
        (facts(changed=NOW, approved=True), "rest before", NOW + 72 * HOUR),
        (facts(changed=NOW - 71 * HOUR, approved=True), "rest before", NOW + HOUR),
        (facts(changed=NOW - 72 * HOUR), "finance team has yet to approve", None),
        (facts(changed=NOW - 72 * HOUR, approved=True), None, None),
        (facts(), None, None),
        (facts(able=False, changed=NOW), "cannot pay this account yet", None),
    ],
)
def test_why_nothing_is_sent(account: AccountFacts | None, sentence: str | None, until: datetime | None) -> None:
    waits = waiting(facts=account, rules=RULES, now=NOW)
    if sentence is None:
        assert waits is None
    else:
        assert waits is not None and sentence in waits.sentence and waits.until == until
        assert waits.sentence.endswith(".")


@pytest.mark.parametrize(
    ("before", "receives", "pays", "told", "after"),
    [
        ("onboarding", False, False, False, "onboarding"),
        ("onboarding", True, True, True, "enabled"),
        ("onboarding", False, False, True, "restricted"),
        ("onboarding", True, False, False, "onboarding"),
        ("enabled", True, True, True, "enabled"),
        ("enabled", True, False, True, "restricted"),
        ("enabled", False, True, True, "restricted"),
        ("restricted", True, True, True, "enabled"),
        ("restricted", False, False, True, "restricted"),
    ],
)
def test_what_news_makes_of_its_status(before: str, receives: bool, pays: bool, told: bool, after: str) -> None:
    assert status_after(before=before, can_receive=receives, can_pay_out=pays, told_everything=told) == after


@pytest.mark.parametrize(
    ("before", "seen", "changed"),
    [("", "", False), ("", "a", False), ("a", "a", False), ("a", "", False), ("a", "b", True)],
)
def test_when_the_money_would_go_elsewhere(before: str, seen: str, changed: bool) -> None:
    assert bank_changed(before=before, seen=seen) is changed


def seen(host: str, *, bank: str = "a", id: str = "acct_1") -> SeenAccount:
    return SeenAccount(
        id=id,
        reference=host,
        can_receive=True,
        can_pay_out=True,
        told_everything=True,
        bank_fingerprint=bank,
        bank_hint=f"Bank ••{bank}",
    )


@pytest.mark.parametrize(("code", "known"), [("BE", True), ("SG", True), ("XX", False), ("EU", False), ("be", False)])
def test_what_is_a_country(code: str, known: bool) -> None:
    assert is_country(code) is known
    assert sum(is_country(one + other) for one in ascii_uppercase for other in ascii_uppercase) == 249


@pytest.mark.django_db
def test_details_that_were_taken_away_and_replaced_are_a_change_all_the_same() -> None:
    host = factories.person("Bob", is_host=True)
    operations.begin_account(host_id=host.id, country="be", actor=SYSTEM, now=NOW)
    for hour, bank in enumerate(("a", "", "b")):
        operations.record_account(seen=seen(host.code, bank=bank), actor=SYSTEM, now=NOW + hour * HOUR)
    account = HostAccount.objects.get()
    assert (account.bank_changed_at, account.bank_hint, account.country) == (NOW + 2 * HOUR, "Bank ••b", "BE")
    back = operations.record_account(seen=seen(host.code, bank="a"), actor=SYSTEM, now=NOW + 9 * HOUR)
    assert back is not None and back.bank_changed_at == NOW + 9 * HOUR, "going back is a change too"


@pytest.mark.django_db
def test_repeating_what_is_known_writes_nothing_new() -> None:
    host = factories.person("Bob", is_host=True)
    operations.begin_account(host_id=host.id, country="BE", actor=SYSTEM, now=NOW)
    first = operations.record_account(seen=seen(host.code), actor=SYSTEM, now=NOW)
    again = operations.record_account(seen=seen(host.code), actor=SYSTEM, now=NOW + HOUR)
    assert first is not None and again is not None
    assert again.version == first.version == 2 and again.seen_at == NOW + HOUR
    assert operations.begin_account(host_id=host.id, country="DE", actor=SYSTEM, now=NOW).id == first.id


@pytest.mark.django_db
def test_what_is_not_ours_is_left_alone_and_a_second_account_of_a_host_is_refused() -> None:
    host = factories.person("Bob", is_host=True)
    assert operations.record_account(seen=seen("PN-NOBODY"), actor=SYSTEM, now=NOW) is None
    operations.begin_account(host_id=host.id, country="BE", actor=SYSTEM, now=NOW)
    operations.record_account(seen=seen(host.code), actor=SYSTEM, now=NOW)
    with pytest.raises(Conflict, match="acct_2"):
        operations.record_account(seen=seen(host.code, id="acct_2"), actor=SYSTEM, now=NOW)
    with pytest.raises(Invalid):
        operations.begin_account(host_id=host.id, country="Belgium", actor=SYSTEM, now=NOW)
    guest = factories.person("Alice")
    with pytest.raises(NotAllowed):
        operations.begin_account(host_id=guest.id, country="BE", actor=SYSTEM, now=NOW)


@pytest.mark.django_db
def test_a_host_who_works_in_finance_does_not_approve_their_own_bank() -> None:
    finance = factories.staff("finance")
    finance.is_host = True
    finance.save()
    operations.begin_account(host_id=finance.id, country="BE", actor=SYSTEM, now=NOW)
    for bank in "ab":
        account = operations.record_account(seen=seen(finance.code, bank=bank), actor=SYSTEM, now=NOW)
    assert account is not None and [row.id for row in queries.bank_changes_waiting()] == [account.id]
    with pytest.raises(NotAllowed, match="your own"):
        operations.approve_bank(
            host_code=finance.code,
            reason="It is mine",
            version=account.version,
            actor=factories.acting(finance),
            now=NOW,
        )
