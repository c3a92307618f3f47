"""Hosts' payouts to their banks are followed: by events and by asking, in any order, each fact posted once."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db.models import Sum

from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import Notification
from backoffice.payments import operations as payments
from backoffice.payments.gateway.stripe import StripeGateway
from backoffice.payments.models import WebhookEvent
from backoffice.payments.policies.seen import SeenEvent
from backoffice.payouts import queries
from backoffice.payouts.models import BankPayout, HostAccount, Payout
from backoffice.payouts.queries.bank_payouts import MAY_RETURN
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import claw_back, follow_bank_payouts, import_balance_transactions
from tests import factories
from tests.factories import SYSTEM
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import change_bank, onboarded, owes, sent
from tests.workflows.steps import ROOMS, now, payouts_that_do_not_add_up

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
DAY = 86_400


@pytest.fixture
def host() -> User:
    return factories.person("Bob", is_host=True, now=now())


def account_of(host: User) -> HostAccount:
    found = queries.account_of(host_id=host.id)
    assert found is not None
    return found


def at_provider(host: User) -> int:
    """What stands on the host's provider balance by our book."""
    return ledger.balance(account="1800", key=account_of(host).provider_id or "", currency="EUR")


def journals(kind: str) -> int:
    return ledger.journals().filter(kind=kind).count()


def poll(sandbox: RunningSandbox) -> None:
    follow_bank_payouts.run(now=now())


def hear(
    sandbox: RunningSandbox, host: User, *, order: Callable[[list[Any]], list[Any]] = list, copies: int = 1
) -> None:
    """The provider's events of the host's account reach the inbox, in some order, some more than once."""
    account = account_of(host).provider_id
    rows = [row.to_dict() for row in sandbox.client().v1.events.list({"limit": 100}, {"stripe_account": account}).data]
    at = now()  # the desk's clock is asked over HTTP here, and two answers may be in the wrong order
    for number, row in enumerate(order(rows) * copies):
        stored = payments.receive_event(
            event=SeenEvent(
                id=f"{row['id']}-{number}",
                type=row["type"],
                object_id=row["data"]["object"].get("id") or "",
                account=account or "",
                created=at,
                livemode=False,
                payload=b"{}",
            ),
            origin="webhook",
            now=at,
        )
        assert stored is not None
        assert events.apply(webhook_id=stored.id, now=at) in {"apply", "ignore"}


def test_what_was_sent_arrives_at_the_bank_and_is_the_sum_of_its_lines(sandbox: RunningSandbox, host: User) -> None:
    first, second = sent(sandbox, host), sent(sandbox, host)
    total = first.transfer_amount + second.transfer_amount
    assert at_provider(host) == total
    for _ in range(4):  # banks rest on Sundays
        sandbox.advance(DAY)
        poll(sandbox)
        if queries.bank_payouts().exists():
            break
    [row] = queries.bank_payouts()
    assert (row.status, row.amount, row.automatic, row.host_id) == ("pending", total, True, host.id)
    assert at_provider(host) == total, "still on its way"
    sandbox.advance(7 * DAY)
    for _ in range(2):
        poll(sandbox)
    row.refresh_from_db()
    assert row.status == "paid" and row.trace and row.arrival_on is not None
    assert row.lines.aggregate(total=Sum("net"))["total"] == total and row.lines.count() == 2
    assert at_provider(host) == 0 and journals("connected_payout") == 1 and payouts_that_do_not_add_up() == []
    for payout in Payout.objects.all():
        assert (payout.status, payout.bank_payout_id) == ("paid", row.id) and payout.paid_at is not None
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


@pytest.mark.parametrize("seed", range(3))
def test_events_in_any_order_and_more_than_once_come_to_the_same(
    sandbox: RunningSandbox, host: User, seed: int
) -> None:
    payout = sent(sandbox, host)
    sandbox.advance(8 * DAY)

    def shuffled(rows: list[Any]) -> list[Any]:
        return random.Random(seed).sample(rows, len(rows))

    hear(sandbox, host, order=shuffled, copies=2)
    payout.refresh_from_db()
    assert payout.status == "paid" and at_provider(host) == 0 and journals("connected_payout") == 1


def test_an_event_and_the_poll_at_once_make_one_row(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    sandbox.advance(8 * DAY)
    account, at = account_of(host).provider_id or "", now()
    [there] = sandbox.client().v1.payouts.list({}, {"stripe_account": account}).data
    look = lambda: follow_bank_payouts.take_over(  # noqa: E731
        payout_id=there.id, account=account, actor=SYSTEM, now=at
    )
    outcomes = race([look] * 4)
    assert {type(one) for one in outcomes} == {BankPayout}, outcomes
    assert BankPayout.objects.count() == 1 and journals("connected_payout") == 1 and at_provider(host) == 0


def test_a_bank_that_sends_it_back_after_it_was_paid(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    sandbox.advance(8 * DAY)
    poll(sandbox)
    row = BankPayout.objects.get()
    assert row.status == "paid" and at_provider(host) == 0
    sandbox.control("POST", f"/_sim/payouts/{row.provider_id}/fail", {"failure_code": "account_closed"})
    for _ in range(2):
        poll(sandbox)
    row.refresh_from_db()
    payout.refresh_from_db()
    assert (row.status, payout.status, payout.paid_at) == ("failed", "transferred", None)
    assert at_provider(host) == payout.transfer_amount and journals("connected_payout_returned") == 1
    assert Notification.objects.filter(topic="bank_payout_failed", recipient_id=host.id).count() == 1
    why = queries.explain(code=payout.code, now=now()).waits
    assert why is not None and payout.waits_for == why.sentence[:200]
    assert "another bank account" in why.sentence and "has been closed" in why.sentence

    change_bank(sandbox, account_of(host), "000999999991")
    sandbox.advance(8 * DAY)
    poll(sandbox)
    payout.refresh_from_db()
    assert payout.waits_for == "" and queries.explain(code=payout.code, now=now()).waits is None
    again = BankPayout.objects.exclude(id=row.id).get()
    assert (again.status, payout.status, payout.bank_payout_id) == ("paid", "paid", again.id)
    assert at_provider(host) == 0 and payouts_that_do_not_add_up() == []
    hear(sandbox, host, copies=2)
    payout.refresh_from_db()
    assert (payout.status, payout.bank_payout_id, at_provider(host)) == ("paid", again.id, 0)
    assert (journals("connected_payout"), journals("connected_payout_returned")) == (2, 1)


def test_one_that_never_arrived_moves_nothing_of_ours(sandbox: RunningSandbox, host: User) -> None:
    onboarded(sandbox, host, number="000111111116")
    payout = sent(sandbox, host)
    sandbox.advance(8 * DAY)
    poll(sandbox)
    row = BankPayout.objects.get()
    payout.refresh_from_db()
    assert (row.status, payout.status) == ("failed", "transferred") and "bank account" in row.failure
    assert "The bank sent it back" in payout.waits_for
    assert at_provider(host) == payout.transfer_amount and journals("connected_payout") == 0
    told = Notification.objects.get(topic="bank_payout_failed", recipient_id=host.id)
    assert Money(row.amount, "EUR").format() in told.title
    account = account_of(host)
    assert account.status == "restricted" and account.missing == ["external_account"]


def test_what_was_taken_back_is_less_in_the_payout_to_the_bank(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, Money(3_000, "EUR"))
    clawback = claw_back.request(
        payout_code=payout.code,
        amount=Money(3_000, "EUR"),
        reason="Owed",
        version=payout.version,
        actor=SYSTEM,
        now=now(),
    )
    claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    sandbox.advance(8 * DAY)
    import_balance_transactions.run(now=now())
    poll(sandbox)
    row = BankPayout.objects.get()
    assert (row.status, row.amount, at_provider(host)) == ("paid", payout.transfer_amount - 3_000, 0)


def test_a_host_who_banks_in_another_currency_is_followed_in_ours(sandbox: RunningSandbox, host: User) -> None:
    onboarded(sandbox, host)
    home = factories.listing(host, now=now(), currency="USD", city="Boston", country="US")
    payout = sent(sandbox, host, home=home)
    sandbox.advance(8 * DAY)
    poll(sandbox)
    row = BankPayout.objects.get()
    payout.refresh_from_db()
    assert payout.transfer_currency == "USD" and row.currency == "EUR" and row.amount != payout.transfer_amount
    account = account_of(host).provider_id or ""
    assert ledger.standing(account="1800", key=account) == [] and payout.status == "paid"
    sandbox.control("POST", f"/_sim/payouts/{row.provider_id}/fail", {})
    poll(sandbox)
    assert ledger.standing(account="1800", key=account) == [Money(payout.transfer_amount, "USD")]
    change_bank(sandbox, account_of(host), "000999999991")
    sandbox.advance(8 * DAY)
    poll(sandbox)
    assert ledger.standing(account="1800", key=account) == [] and payouts_that_do_not_add_up() == []


def test_payouts_of_accounts_that_are_none_of_ours_are_not_taken_over(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    sandbox.advance(8 * DAY)
    account = account_of(host).provider_id or ""
    [there] = sandbox.client().v1.payouts.list({}, {"stripe_account": account}).data
    HostAccount.objects.update(provider_id="acct_other")
    with pytest.raises(NotFound):
        follow_bank_payouts.take_over(payout_id=there.id, account=account, actor=SYSTEM, now=now())
    assert not BankPayout.objects.exists()


@pytest.mark.parametrize("reachable", [True, False])
def test_events_of_an_account_that_is_none_of_ours_are_kept_and_say_so(
    sandbox: RunningSandbox, host: User, reachable: bool
) -> None:
    sent(sandbox, host)
    sandbox.advance(8 * DAY)
    other = account_of(host).provider_id
    told = sandbox.client().v1.events.list({"limit": 100}, {"stripe_account": other or ""}).data
    assert "payout.paid" in {event.type for event in told}
    HostAccount.objects.update(provider_id="acct_ours")
    if not reachable:
        sandbox.fault("error_500_before_commit", method="GET", path="/v1/*", times=None)
    for number, event in enumerate(told):
        stored = payments.receive_event(
            event=SeenEvent(
                id=f"evt_{number}",
                type=event.type,
                object_id=event.to_dict()["data"]["object"].get("id") or "",
                account=other or "",
                created=now(),
                livemode=False,
                payload=b"{}",
            ),
            origin="webhook",
            now=now(),
        )
        assert stored is not None and events.apply(webhook_id=stored.id, now=now()) == "ignore"
    sandbox.clear_faults()
    kept = WebhookEvent.objects.filter(account=other or "", type__startswith="payout.")
    assert kept and {row.status for row in kept} == {"ignored"}
    assert all(f"{other} is none of our hosts' accounts" in row.error for row in kept)
    assert not BankPayout.objects.exists()


def test_money_of_ours_that_went_to_an_account_that_is_none_of_ours_is_a_break(
    sandbox: RunningSandbox, host: User
) -> None:
    sent(sandbox, host)
    sandbox.advance(DAY)
    assert reconcile(scope="all", since=None, until=None, actor=SYSTEM, now=now()).findings == []
    account = account_of(host).provider_id or ""
    HostAccount.objects.update(provider_id="acct_ours")
    by_hand = sandbox.client().v1.transfers.create({"amount": 700, "currency": "eur", "destination": account})
    sandbox.advance(2 * DAY)
    found = reconcile(scope="all", since=None, until=None, actor=SYSTEM, now=now()).findings
    assert [(each.key.split()[-1], each.at_risk) for each in found] == [(by_hand.id, 700)], found


def test_the_state_of_an_account_is_looked_at_once_a_day_without_an_event(sandbox: RunningSandbox, host: User) -> None:
    account = onboarded(sandbox, host)
    sandbox.control("POST", f"/_sim/accounts/{account.provider_id}/restrict", {})
    poll(sandbox)
    assert account_of(host).status == "enabled"
    sandbox.advance(DAY + 60)
    poll(sandbox)
    assert account_of(host).status == "restricted"


def test_a_desk_that_was_down_for_weeks_finds_what_was_paid_meanwhile(sandbox: RunningSandbox, host: User) -> None:
    poll(sandbox)
    payout = sent(sandbox, host)
    sandbox.advance(40 * DAY)
    for _ in range(2):
        follow_bank_payouts.run(now=now())
    payout.refresh_from_db()
    assert payout.status == "paid" and at_provider(host) == 0


def test_what_a_bank_sends_back_weeks_later_is_seen_within_a_day_though_no_event_tells_of_it(
    sandbox: RunningSandbox, host: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    payout = sent(sandbox, host)
    for _ in range(5):
        sandbox.advance(8 * DAY)
        poll(sandbox)
    row = BankPayout.objects.get()
    assert row.status == "paid" and row.paid_at is not None and now() - row.paid_at > 3 * MAY_RETURN
    asked: list[str] = []
    real = StripeGateway.bank_payouts_sent_back

    def sent_back(self: StripeGateway, *, account: str = "") -> Any:
        asked.append(account)
        return real(self, account=account)

    monkeypatch.setattr(StripeGateway, "bank_payouts_sent_back", sent_back)
    sandbox.control("POST", f"/_sim/payouts/{row.provider_id}/fail", {"failure_code": "account_closed"})
    for _ in range(3):
        sandbox.advance(7 * 3_600)
        poll(sandbox)
    assert asked == ["", "", ""], "an account of which nothing is heard is asked about once a day"
    sandbox.advance(7 * 3_600)
    poll(sandbox)
    row.refresh_from_db()
    payout.refresh_from_db()
    assert (row.status, payout.status, payout.paid_at) == ("failed", "transferred", None)
    assert at_provider(host) == payout.transfer_amount and journals("connected_payout_returned") == 1
    assert Notification.objects.filter(topic="bank_payout_failed", recipient_id=host.id).count() == 1

    change_bank(sandbox, account_of(host), "000999999991")
    sandbox.advance(8 * DAY)
    poll(sandbox)
    payout.refresh_from_db()
    assert payout.status == "paid" and at_provider(host) == 0 and payouts_that_do_not_add_up() == []


def test_runs_that_stand_still_do_not_close_the_days_in_which_a_bank_may_send_it_back(
    sandbox: RunningSandbox, host: User
) -> None:
    payout = sent(sandbox, host)
    sandbox.advance(8 * DAY)
    poll(sandbox)
    row = BankPayout.objects.get()
    assert row.status == "paid"
    sandbox.advance(2 * DAY)
    sandbox.control("POST", f"/_sim/payouts/{row.provider_id}/fail", {"failure_code": "account_closed"})
    sandbox.advance(40 * DAY)  # the desk is down; the provider keeps its events for thirty days
    sandbox.fault("error_500_before_commit", method="GET", path="/v1/payouts", times=None)
    poll(sandbox)  # and of its first look nothing comes
    sandbox.clear_faults()
    poll(sandbox)
    payout.refresh_from_db()
    assert payout.status == "transferred" and at_provider(host) == payout.transfer_amount


def test_one_account_that_cannot_be_asked_does_not_keep_the_others_waiting(
    sandbox: RunningSandbox, host: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = factories.person("Dora", is_host=True, now=now())
    payouts = [sent(sandbox, host), sent(sandbox, other)]
    sandbox.advance(8 * DAY)
    HostAccount.objects.filter(host=host).update(provider_id="acct_gone")
    BankPayout.objects.create(
        account="acct_gone",
        host=host,
        provider_id="po_gone",
        status="pending",
        amount=1,
        currency="EUR",
        created_at=now(),
    )
    poll(sandbox)
    assert Payout.objects.get(id=payouts[1].id).status == "paid"
    assert Payout.objects.get(id=payouts[0].id).status == "transferred"
    gone, known = account_of(host), account_of(other)
    assert gone.followed_at is None and gone.looked_at == known.looked_at == known.followed_at
    listed: list[datetime] = []
    real = StripeGateway.bank_payouts

    def list_since(self: StripeGateway, *, account: str, since: datetime) -> Any:
        if account == known.provider_id:
            listed.append(since)
        return real(self, account=account, since=since)

    def lines_again(self: StripeGateway, **facts: Any) -> Any:
        raise AssertionError("what is known is not asked for again")

    monkeypatch.setattr(StripeGateway, "bank_payouts", list_since)
    monkeypatch.setattr(StripeGateway, "bank_payout_lines", lines_again)
    poll(sandbox)
    assert listed == [known.followed_at - follow_bank_payouts.LOOK_BACK], "one that is gone makes no look longer"


def test_every_account_has_its_turn_and_is_looked_at_from_where_its_own_look_ended(
    sandbox: RunningSandbox, host: User
) -> None:
    payouts = [sent(sandbox, host), sent(sandbox, factories.person("Dora", is_host=True, now=now()))]
    sandbox.advance(40 * DAY)
    for _ in payouts:
        follow_bank_payouts.run(now=now(), limit=1)
    assert [Payout.objects.get(id=payout.id).status for payout in payouts] == ["paid", "paid"]


def test_news_of_the_successor_before_that_of_the_one_sent_back_is_put_right_by_the_next_look(
    sandbox: RunningSandbox, host: User
) -> None:
    payout = sent(sandbox, host)
    sandbox.advance(8 * DAY)
    account = account_of(host).provider_id or ""
    of_account: Any = {"stripe_account": account}
    [first] = sandbox.client().v1.payouts.list({}, of_account).data
    sandbox.control("POST", f"/_sim/payouts/{first.id}/fail", {"failure_code": "account_closed"})
    change_bank(sandbox, account_of(host), "000999999991")
    sandbox.advance(8 * DAY)
    newest, oldest = sandbox.client().v1.payouts.list({}, of_account).data
    for payout_id in (newest.id, oldest.id):
        follow_bank_payouts.take_over(payout_id=payout_id, account=account, actor=SYSTEM, now=now())
    poll(sandbox)
    payout.refresh_from_db()
    assert payout.bank_payout is not None
    assert (payout.status, payout.bank_payout.provider_id, at_provider(host)) == ("paid", newest.id, 0)
    assert (journals("connected_payout"), journals("connected_payout_returned")) == (1, 0), "one of them never arrived"
    assert payouts_that_do_not_add_up() == []
