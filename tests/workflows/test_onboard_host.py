"""A host sets up payouts: the account is made once, its state is the provider's, new bank details rest and are approved."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import (
    Conflict,
    Indeterminate,
    Invalid,
    NotAllowed,
    ProviderError,
    Refused,
    StaleVersion,
    UpstreamUnavailable,
)
from backoffice.notifications.models import Notification
from backoffice.payments import operations as payments
from backoffice.payments.gateway.stripe.accounts import Accounts
from backoffice.payments.policies.seen import SeenEvent
from backoffice.payouts import operations, queries
from backoffice.payouts.models import HostAccount
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import onboard_host
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import BACK, begun, change_bank, onboarded
from tests.workflows.steps import ROOMS, now

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def accounts_there(sandbox: RunningSandbox) -> list[str]:
    return [row.id for row in sandbox.client().v1.accounts.list({"limit": 100}).data]


def told(topic: str, host_id: int) -> int:
    return Notification.objects.filter(topic=topic, recipient_id=host_id).count()


def test_a_host_begins_waits_visibly_and_can_receive_once_they_have_told_everything(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    nothing = queries.can_receive(host_id=host.id, now=now())
    assert nothing is not None and "not set up yet" in nothing.sentence and nothing.until is None
    link = onboard_host.begin(actor=factories.acting(host), now=now(), return_url=BACK, country="be")
    assert "/_sim/onboarding/" in link
    account = queries.account_of(host_id=host.id)
    assert account is not None and (account.status, account.country, account.can_receive) == ("onboarding", "BE", False)
    waits = queries.can_receive(host_id=host.id, now=now())
    assert waits is not None and "still asks for the kind of business" in waits.sentence and "more" in waits.sentence
    done = onboarded(sandbox, host)
    assert (done.status, done.can_receive, done.can_pay_out, done.missing) == ("enabled", True, True, [])
    assert done.bank_hint.endswith("6789") and done.bank_changed_at is None
    assert queries.can_receive(host_id=host.id, now=now()) is None
    assert told("payouts_enabled", host.id) == 1 and len(accounts_there(sandbox)) == 1


def test_the_country_is_that_of_their_first_home_unless_given(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    actor = factories.acting(host)
    with pytest.raises(Invalid, match="two letters"):
        onboard_host.begin(actor=actor, now=now(), return_url=BACK)
    factories.listing(host, now=now())
    onboard_host.begin(actor=actor, now=now(), return_url=BACK)
    assert HostAccount.objects.get(host=host).country == "BE"


def test_a_country_that_was_wrong_is_corrected_until_the_account_is_made(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    begin = {"actor": factories.acting(host), "now": now(), "return_url": BACK}
    with pytest.raises(Invalid, match="country"):
        onboard_host.begin(country="XX", **begin)
    operations.begin_account(host_id=host.id, country="KP", actor=factories.acting(host), now=now())
    operations.begin_account(host_id=host.id, country="DE", actor=factories.acting(host), now=now())
    factories.listing(host, now=now())  # in Belgium
    onboard_host.begin(**begin)  # as they said before
    onboard_host.begin(country="FR", **begin)
    (made,) = sandbox.client().v1.accounts.list({"limit": 100}).data
    assert made.country == HostAccount.objects.get(host=host).country == "DE", "it is made: its country is settled"
    moved = AuditEntry.objects.get(verb="payouts.account.move")
    assert moved.object_id == host.code


def test_only_the_host_sets_up_their_payouts(sandbox: RunningSandbox) -> None:
    host, guest = factories.person("Bob", is_host=True, now=now()), factories.person("Alice", now=now())
    finance = factories.acting(factories.staff("finance", now=now()))
    for actor in (factories.acting(guest), finance):
        with pytest.raises(NotAllowed):
            onboard_host.begin(actor=actor, now=now(), return_url=BACK, country="BE")
    other = factories.acting(factories.person("Charlie", is_host=True, now=now()))
    with pytest.raises(NotAllowed):
        operations.begin_account(host_id=host.id, country="BE", actor=other, now=now())
    with pytest.raises(Conflict):
        onboard_host.begin(actor=factories.SYSTEM, now=now(), return_url=BACK, country="BE")
    assert accounts_there(sandbox) == []


def test_two_clicks_make_one_account(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    at, actor = now(), factories.acting(host)
    click = lambda: onboard_host.begin(actor=actor, now=at, return_url=BACK, country="BE")  # noqa: E731
    links = race([click, click, click])
    assert all(isinstance(link, str) for link in links), links
    assert len(accounts_there(sandbox)) == 1 and HostAccount.objects.count() == 1


def test_two_clicks_with_different_countries_make_one_account(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    begin = partial(onboard_host.begin, actor=factories.acting(host), now=now(), return_url=BACK)
    sandbox.fault(
        "slow", method="POST", path="/v1/accounts", times=None, seconds=0.5
    )  # both are there before either is made
    links = race([partial(begin, country=country) for country in ("BE", "DE", "FR")])
    assert all(isinstance(link, str) for link in links), links
    (made,) = sandbox.client().v1.accounts.list({"limit": 100}).data
    account = HostAccount.objects.get(host=host)
    assert (account.provider_id, account.country) == (made.id, made.country)


def made_in(sandbox: RunningSandbox) -> list[str]:
    return [row.country or "" for row in sandbox.client().v1.accounts.list({"limit": 100}).data]


@pytest.mark.parametrize("lost", ["reset_after_commit", "error_500_after_commit"])
def test_after_a_lost_answer_the_country_is_that_of_the_account_that_was_made(
    sandbox: RunningSandbox, lost: str
) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    sandbox.fault(lost, method="POST", path="/v1/accounts", times=3)
    with pytest.raises(Indeterminate):
        onboard_host.begin(actor=factories.acting(host), now=now(), return_url=BACK, country="BE")
    sandbox.clear_faults()
    sandbox.advance(2 * 86_400)
    onboard_host.begin(actor=factories.acting(host), now=now(), return_url=BACK, country="DE")
    assert made_in(sandbox) == ["BE"] == [HostAccount.objects.get(host=host).country]


def test_while_the_answer_is_awaited_the_country_stays_and_when_nothing_came_of_it_another_may_be_tried(
    sandbox: RunningSandbox,
) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    begin = partial(onboard_host.begin, actor=factories.acting(host), return_url=BACK)
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/accounts", times=3)
    for country in ("BE", "DE"):
        with pytest.raises(Indeterminate):
            begin(country=country, now=now())
        assert HostAccount.objects.get(host=host).country == "BE"
    sandbox.clear_faults()
    sandbox.advance(180)
    begin(country="DE", now=now())
    assert made_in(sandbox) == ["DE"] == [HostAccount.objects.get(host=host).country]


def test_another_country_may_be_tried_where_the_process_died_before_it_asked(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    actor = factories.acting(host)
    operations.begin_account(host_id=host.id, country="BE", actor=actor, now=now())
    operations.ask_for_account(host_id=host.id, now=now())
    sandbox.advance(180)
    onboard_host.begin(actor=actor, now=now(), return_url=BACK, country="DE")
    assert made_in(sandbox) == ["DE"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_country_may_be_tried_at_once_where_the_provider_had_no_time(
    sandbox: RunningSandbox, method: str
) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    begin = partial(onboard_host.begin, actor=factories.acting(host), now=now(), return_url=BACK)
    sandbox.fault("error_429", method=method, path="/v1/accounts", times=1)
    with pytest.raises(UpstreamUnavailable) as turned_away:
        begin(country="BE")
    assert not isinstance(turned_away.value, Indeterminate)
    begin(country="DE")
    assert made_in(sandbox) == ["DE"]


def test_one_of_two_who_is_turned_away_leaves_the_country_to_the_other(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    at, actor = now(), factories.acting(host)
    operations.begin_account(host_id=host.id, country="BE", actor=actor, now=at)
    first, alone = operations.ask_for_account(host_id=host.id, now=at)
    second, beside = operations.ask_for_account(host_id=host.id, now=at)
    assert (alone, beside) == (True, False)
    operations.was_not_asked(account=first)
    assert operations.begin_account(host_id=host.id, country="DE", actor=actor, now=at).country == "BE"
    assert HostAccount.objects.get(host=host).asked_at == second.asked_at


def test_clicks_with_different_countries_after_a_try_that_died_make_one_account(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    actor = factories.acting(host)
    operations.begin_account(host_id=host.id, country="BE", actor=actor, now=now())
    operations.ask_for_account(host_id=host.id, now=now())
    sandbox.advance(180)
    begin = partial(onboard_host.begin, actor=actor, now=now(), return_url=BACK)
    sandbox.fault("slow", method="POST", path="/v1/accounts", times=None, seconds=0.5)
    links = race([partial(begin, country=country) for country in ("DE", "FR", "IT")])
    assert all(isinstance(link, str) for link in links), links
    (made,) = made_in(sandbox)
    assert HostAccount.objects.get(host=host).country == made


def test_after_a_refusal_another_country_may_be_tried(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    begin = partial(onboard_host.begin, actor=factories.acting(host), now=now(), return_url=BACK)

    def refuse(*_: object, **__: object) -> None:
        raise ProviderError(message="We do not support transfers there.")

    with monkeypatch.context() as there:
        there.setattr(Accounts, "open_account", refuse)
        with pytest.raises(ProviderError):
            begin(country="BE")
    begin(country="DE")
    assert [row.country for row in sandbox.client().v1.accounts.list({"limit": 100}).data] == ["DE"]


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit", "error_500_before_commit"])
def test_a_lost_answer_does_not_make_a_second_account(sandbox: RunningSandbox, effect: str) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    sandbox.fault(effect, method="POST", path="/v1/accounts", times=3)
    with pytest.raises(Indeterminate):
        begun(host)
    sandbox.clear_faults()
    sandbox.advance(2 * 86_400)  # the provider has forgotten the key
    begun(host)
    assert len(accounts_there(sandbox)) == 1


def test_a_restricted_account_waits_and_its_host_is_told_once(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    account = onboarded(sandbox, host)
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/restrict", {})
    for _ in range(2):
        restricted = onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=now())
    assert restricted.status == "restricted" and told("payouts_restricted", host.id) == 1
    waits = queries.can_receive(host_id=host.id, now=now())
    assert waits is not None and "a document that proves identity" in waits.sentence
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/restrict", {"past_due": []})
    lifted = onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=now())
    assert lifted.status == "enabled" and queries.can_receive(host_id=host.id, now=now()) is None


def test_new_bank_details_rest_for_three_days_and_wait_for_finance(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    account = onboarded(sandbox, host)
    change_bank(sandbox, account, "000999999991")
    changed_at = now()
    account = onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=changed_at)
    assert account.bank_changed_at == changed_at and told("bank_details_changed", host.id) == 1
    rests = queries.can_receive(host_id=host.id, now=changed_at)
    assert rests is not None and rests.until == changed_at + timedelta(hours=72)
    later = changed_at + timedelta(hours=73)
    waits = queries.can_receive(host_id=host.id, now=later)
    assert waits is not None and waits.until is None and "finance" in waits.sentence
    assert [row.id for row in queries.bank_changes_waiting()] == [account.id]

    finance, junior = factories.staff("finance", now=now()), factories.staff("support_l2", now=now())
    terms = {"host_code": host.code, "now": later}
    with pytest.raises(NotAllowed):
        operations.approve_bank(reason="Called", version=account.version, actor=factories.acting(junior), **terms)
    with pytest.raises(Refused):
        operations.approve_bank(reason=" ", version=account.version, actor=factories.acting(finance), **terms)
    with pytest.raises(StaleVersion):
        operations.approve_bank(reason="Called", version=account.version - 1, actor=factories.acting(finance), **terms)
    operations.approve_bank(
        reason="Called them back", version=account.version, actor=factories.acting(finance), **terms
    )
    assert queries.can_receive(host_id=host.id, now=later) is None
    assert queries.can_receive(host_id=host.id, now=changed_at + timedelta(hours=71)) is not None, "approved, and rests"
    entry = AuditEntry.objects.get(verb="payouts.account.approve_bank")
    assert (entry.actor_id, entry.reason) == (finance.id, "Called them back")
    with pytest.raises(Conflict):
        operations.approve_bank(reason="Again", version=account.version + 1, actor=factories.acting(finance), **terms)


def test_details_changed_again_after_the_approval_wait_anew(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    account = onboarded(sandbox, host)
    change_bank(sandbox, account, "000999999991")
    account = onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=now())
    operations.approve_bank(
        host_code=host.code,
        reason="Called them back",
        version=account.version,
        actor=factories.acting(factories.staff("finance", now=now())),
        now=now(),
    )
    change_bank(sandbox, account, "000999999992")
    sandbox.advance(80 * 3600)
    account = onboard_host.refresh(host_code=host.code, actor=factories.SYSTEM, now=now())
    assert account.bank_approved_by is None
    waits = queries.can_receive(host_id=host.id, now=now())
    assert waits is not None and waits.until == account.bank_changed_at + timedelta(hours=72)


def test_an_event_of_the_account_brings_its_news_and_repeating_it_changes_nothing(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    account = begun(host)
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/onboard", {})
    news = [
        row.to_dict()
        for row in sandbox.client().v1.events.list({"limit": 100}, {"stripe_account": account.provider_id}).data
    ]
    updated = next(row for row in news if row["type"] == "account.updated")
    external = next(row for row in news if row["type"] == "account.external_account.created")
    for number, row in enumerate((updated, external, updated)):
        apply(row, account.provider_id, number)
    seen = queries.account_of(host_id=host.id)
    assert seen is not None and seen.status == "enabled" and told("payouts_enabled", host.id) == 1
    assert AuditEntry.objects.filter(verb="payouts.account.see", object_kind="host_account").count() == 2


def apply(row: dict, account: str | None, number: int) -> None:
    stored = payments.receive_event(
        event=SeenEvent(
            id=f"{row['id']}-{number}",
            type=row["type"],
            object_id=row["data"]["object"]["id"],
            account=account or "",
            created=now(),
            livemode=False,
            payload=b"{}",
        ),
        origin="webhook",
        now=now(),
    )
    assert stored is not None and events.apply(webhook_id=stored.id, now=now()) == "apply"


def test_the_provider_is_never_called_inside_a_transaction(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    actor = factories.acting(host)
    with transaction.atomic(), pytest.raises(RuntimeError, match="never called inside"):
        onboard_host.begin(actor=actor, now=now(), return_url=BACK, country="BE")
    assert accounts_there(sandbox) == []
