"""What we earned leaves for our bank: never what is owed, never more than is available, every cent of it listed, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import Conflict, Indeterminate, Locked, NotAllowed, ProviderError, Refused, Stopped
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.ledger import operations as ledger_operations
from backoffice.ledger import queries as ledger
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments.gateway.stripe import StripeGateway
from backoffice.payments.models import BalanceTransaction
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import BankPayout
from backoffice.payouts.policies.bank_payouts import earned
from backoffice.people.models import User
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import follow_bank_payouts, import_balance_transactions, keep_time, sweep_earnings
from tests import factories
from tests.factories import SYSTEM
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import sent
from tests.workflows.steps import ROOMS, now, paid, payouts_that_do_not_add_up

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


@pytest.fixture
def host() -> User:
    return factories.person("Bob", is_host=True, now=now())


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def swept(reason: str = "Friday", **terms: Any) -> BankPayout:
    return sweep_earnings.sweep(**{"currency": "EUR", "actor": SYSTEM, "reason": reason, "now": now(), **terms})


def shown() -> sweep_earnings.SweepPreview:
    return sweep_earnings.preview(currency="EUR", actor=SYSTEM, now=now())


def payouts_there(sandbox: RunningSandbox) -> list[Any]:
    return list(sandbox.client().v1.payouts.list({"limit": 100}).data)


def available(sandbox: RunningSandbox) -> int:
    return next(row.amount for row in sandbox.client().v1.balance.retrieve().available if row.currency == "eur")


def line_sum(row: BankPayout) -> int:
    return row.lines.aggregate(total=Sum("net"))["total"] or 0


def settled(sandbox: RunningSandbox) -> None:
    sandbox.advance(60)
    import_balance_transactions.run(now=now())


def test_what_is_earned_is_the_fees_less_what_the_provider_took(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    booking = payout.booking
    fee = BalanceTransaction.objects.get(reporting_category="charge").fee
    wanted = booking.guest_fee + booking.host_fee - fee
    seen = shown()
    assert (seen.earned.amount, seen.amount.amount, seen.movements) == (wanted, wanted, 2)
    assert {code: money.amount for code, money in seen.owed.items()} == {
        code: amount for code, amount in (("2300", booking.occupancy_tax), ("2310", booking.vat)) if amount
    }
    row = swept()
    assert (row.amount, row.status, line_sum(row)) == (wanted, "pending", wanted)
    assert [(one.amount, one.metadata["sweep"]) for one in payouts_there(sandbox)] == [(wanted, row.code)]
    settled(sandbox)
    assert ledger.balance(account="1160", key=row.provider_id or "", currency="EUR") == wanted
    assert shown().amount.amount == 0 and payouts_that_do_not_add_up() == []
    entry = AuditEntry.objects.get(verb="payouts.sweep.request")
    assert (entry.object_id, entry.reason, entry.after["amount"]) == (row.code, "Friday", wanted)


def test_what_is_held_for_a_stay_to_come_does_not_leave(sandbox: RunningSandbox) -> None:
    booking = paid(payment_method="pm_card_bypassPending")
    settled(sandbox)
    seen = shown()
    fee = BalanceTransaction.objects.get(reporting_category="charge").fee
    assert {code: money.amount for code, money in seen.owed.items() if code < "2300"} == {
        "2100": booking.host_price - booking.host_fee,
        "2110": booking.guest_fee,
        "2111": booking.host_fee,
    }
    assert (seen.earned.amount, seen.amount.amount) == (-fee, 0)
    with pytest.raises(Conflict, match=r"nothing to sweep in EUR: 0\.00 EUR"):
        swept()
    assert payouts_there(sandbox) == [] and not BankPayout.objects.exists()


def test_what_has_come_in_and_is_not_known_yet_does_not_leave(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    before = shown().amount
    sandbox.client().v1.payment_intents.create(
        {"amount": 9_000, "currency": "eur", "payment_method": "pm_card_bypassPending", "confirm": True,
         "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
    )  # fmt: skip
    settled(sandbox)
    fee = BalanceTransaction.objects.order_by("-id").values_list("fee", flat=True)[0]
    assert shown().amount.amount == before.amount - fee, (
        "a charge that is none of ours stands on 1150 until it is explained"
    )


def test_never_more_than_is_available(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host, payment_method="pm_card_visa")  # pending for days, as is the transfer that draws on it
    seen = shown()
    assert seen.earned.amount > 0 and seen.available.amount == 0 and seen.amount.amount == 0
    with pytest.raises(Conflict):
        swept()
    sandbox.advance(8 * 86_400)
    row = swept()
    assert row.amount == seen.earned.amount == line_sum(row)


def test_the_lines_of_every_sweep_add_up_and_each_movement_is_in_one(sandbox: RunningSandbox, host: User) -> None:
    total = 0
    for _ in range(3):
        sent(sandbox, host)
        row = swept()
        settled(sandbox)
        total += row.amount
        assert line_sum(row) == row.amount
    movements = [
        line.provider_id for row in queries.sweeps() for line in row.lines.all() if line.provider_id.startswith("txn_")
    ]
    carried = BalanceTransaction.objects.exclude(reporting_category="payout").values_list("provider_id", flat=True)
    assert sorted(movements) == sorted(carried) and len(set(movements)) == len(movements)
    mirror = ledger.balance(account="1100", key="stripe", currency="EUR")
    _, left = queries.left_by_last_sweep(currency="EUR")
    assert left.amount == mirror == sum(money.amount for money in queries.kept(currency="EUR").values())
    assert available(sandbox) == mirror and payouts_that_do_not_add_up() == [] and total > 0


@pytest.mark.parametrize("days_later", [1, 20])
def test_a_sweep_that_the_bank_sent_back_can_be_swept_again(
    sandbox: RunningSandbox, host: User, days_later: int
) -> None:
    sent(sandbox, host)
    first = swept()
    sandbox.advance(7 * 86_400)
    follow_bank_payouts.run(now=now())
    first.refresh_from_db()
    assert first.status == "paid" and first.paid_at is not None and first.trace
    for _ in range(days_later):
        sandbox.advance(86_400)
        follow_bank_payouts.run(now=now())
    sandbox.control("POST", f"/_sim/payouts/{first.provider_id}/fail", {"failure_code": "account_closed"})
    follow_bank_payouts.run(now=now())
    settled(sandbox)
    first.refresh_from_db()
    assert first.status == "failed" and "closed" in first.failure
    assert ledger.balance(account="1160", key=first.provider_id or "", currency="EUR") == 0
    assert shown().amount.amount == first.amount
    with pytest.raises(ProviderError):
        swept()
    assert BankPayout.objects.order_by("-id")[0].failure, "the provider does not pay to a bank account that failed"
    sandbox.control("POST", "/_sim/bank_account", {"account_number": "000123456789"})
    again = swept()
    assert (again.amount, line_sum(again)) == (first.amount, first.amount) and payouts_that_do_not_add_up() == []


def test_a_refused_sweep_leaves_its_movements_to_the_next(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    sandbox.control("POST", "/_sim/bank_account", {"account_number": "000111111113"})
    failing = swept()
    sandbox.advance(7 * 86_400)  # the bank account turns out to be closed, and is used no more
    settled(sandbox)
    with pytest.raises(ProviderError):
        swept()
    refused = BankPayout.objects.order_by("-id")[0]
    assert (refused.status, refused.provider_id) == ("failed", None) and "disabled" in refused.failure
    sandbox.control("POST", "/_sim/bank_account", {"account_number": "000123456789"})
    again = swept()
    assert line_sum(again) == again.amount == failing.amount


def test_who_may_with_what_and_when(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    with pytest.raises(NotAllowed):
        swept(actor=factories.acting(factories.staff("team_lead", now=now())))
    with pytest.raises(Refused):
        swept(reason=" ")
    jobs.stop(scope="payouts", reason="a doubt", actor=SYSTEM, now=now())
    with pytest.raises(Stopped):
        swept()
    jobs.resume(scope="payouts", reason="clear", actor=SYSTEM, now=now())
    finance = factories.staff("finance", now=now())
    assert swept(actor=factories.acting(finance)).requested_by_id == finance.id


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit"])
def test_a_lost_answer_is_looked_for_and_never_paid_twice(sandbox: RunningSandbox, host: User, effect: str) -> None:
    sent(sandbox, host)
    sandbox.fault(effect, method="POST", path="/v1/payouts", times=3)
    with pytest.raises(Indeterminate):
        swept()
    row = BankPayout.objects.get()
    assert row.status == "indeterminate" and len(payouts_there(sandbox)) == 1
    sandbox.clear_faults()
    sandbox.advance(90)
    assert sweep_earnings.resolve(now=now()) == 1
    row.refresh_from_db()
    assert row.status == "pending" and line_sum(row) == row.amount and len(payouts_there(sandbox)) == 1


def test_one_that_was_never_carried_out_is_given_up_and_what_is_earned_decided_anew(
    sandbox: RunningSandbox, host: User
) -> None:
    sent(sandbox, host)
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/payouts", times=3)
    with pytest.raises(Indeterminate):
        swept()
    row = BankPayout.objects.get()
    sandbox.clear_faults()
    sandbox.advance(5 * 60)
    assert sweep_earnings.resolve(now=now()) == 0 and payouts_there(sandbox) == [], "it may yet come"
    sandbox.advance(6 * 60)
    assert sweep_earnings.resolve(now=now()) == 1
    row.refresh_from_db()
    assert (row.status, row.provider_id) == ("failed", None) and "never carried out" in row.failure
    again = swept()
    assert [one.amount for one in payouts_there(sandbox)] == [again.amount] == [line_sum(again)]


def test_the_next_sweep_settles_the_one_before_it_first(
    sandbox: RunningSandbox, host: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(sandbox, host)

    def never_arrives(self: StripeGateway, **facts: Any) -> Any:
        raise Indeterminate

    with monkeypatch.context() as patch:
        patch.setattr(StripeGateway, "pay_out", never_arrives)
        with pytest.raises(Indeterminate):
            swept()
    first = BankPayout.objects.get()
    sandbox.advance(5)
    with pytest.raises(Conflict, match="nothing to sweep"):
        swept()
    first.refresh_from_db()
    assert first.status == "pending" and len(payouts_there(sandbox)) == 1


def test_an_event_brings_a_lost_answer(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    sandbox.fault("reset_after_commit", method="POST", path="/v1/payouts", times=3)
    with pytest.raises(Indeterminate):
        swept()
    sandbox.clear_faults()
    events.poll(now=now())
    events.apply_due(now=now())
    row = BankPayout.objects.get()
    assert row.status == "pending" and row.provider_id == payouts_there(sandbox)[0].id


def test_two_at_once_sweep_it_once(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    amount, at = shown().amount.amount, now()
    outcomes = race([lambda: swept(now=at)] * 3)
    assert sum(isinstance(one, BankPayout) for one in outcomes) == 1, outcomes
    assert all(isinstance(one, BankPayout | Locked | Conflict) for one in outcomes), outcomes
    assert [one.amount for one in payouts_there(sandbox)] == [amount]


def test_a_transfer_that_is_imported_while_a_sweep_is_claimed_is_not_swept(
    sandbox: RunningSandbox, host: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = payments.import_transactions

    def without_transfers(*, rows: Any, **facts: Any) -> int:
        return real(rows=[row for row in rows if row.reporting_category != "transfer"], **facts)

    with monkeypatch.context() as patch:
        patch.setattr(payments, "import_transactions", without_transfers)
        payout = sent(sandbox, host)
    facts = queries.sweep_facts(currency="EUR", available=eur(10**6))
    assert facts.kept["2210"].amount == payout.transfer_amount
    at = now()

    def import_in_between(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = execute(sql, params, many, context)
        if "WITH moved AS (\nINSERT INTO payouts_bankpayoutline" in sql:
            assert race([lambda: import_balance_transactions.run(now=at)]) == [1]
        return found

    with connection.execute_wrapper(import_in_between):
        row = payouts.claim_sweep(
            currency="EUR", available=eur(10**6), least=eur(1), reason="Friday", actor=SYSTEM, now=at
        )
    assert row.amount == earned(facts=facts).amount == line_sum(row)
    assert queries.sweep_facts(currency="EUR", available=eur(10**6)).moved.amount == -payout.transfer_amount


def test_the_daily_job_sweeps_from_the_minimum_on_and_once_a_day(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    assert shown().amount < shown().least == eur(10_000)
    assert sweep_earnings.run(now=now()) == {"swept": 0, "waiting": 1}
    home = factories.listing(host, now=now(), nightly_price=60_000)
    sent(sandbox, host, home=home)
    assert sweep_earnings.run(now=now()) == {"swept": 1, "waiting": 0}
    sent(sandbox, host, home=factories.listing(host, now=now(), nightly_price=60_000))
    assert sweep_earnings.run(now=now()) == {"swept": 0, "waiting": 1}
    sandbox.advance(86_400)
    assert sweep_earnings.run(now=now())["swept"] == 1


def test_a_payout_that_somebody_made_at_the_provider_is_a_break(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    earned = shown().amount.amount
    by_hand = sandbox.client().v1.payouts.create({"amount": 100, "currency": "eur"})
    settled(sandbox)
    follow_bank_payouts.run(now=now())
    assert payouts_that_do_not_add_up() == [(by_hand.id, -100)]
    row = swept()
    assert row.amount == earned - 100 == line_sum(row)


def test_what_others_owe_us_is_no_money(sandbox: RunningSandbox, host: User) -> None:
    sent(sandbox, host)
    before = shown().amount
    with transaction.atomic():
        ledger_operations.post(
            key="t1",
            kind="penalty",
            lines=[Line("1310", host.code, 50_000, "EUR"), Line("4200", "", -50_000, "EUR")],
            subject="",
            effective_at=now(),
            actor=SYSTEM,
            now=now(),
        )
    assert shown().amount == before


def test_a_process_that_died_while_claiming_leaves_nothing(
    sandbox: RunningSandbox, host: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(sandbox, host)

    class Gone(BaseException):
        pass

    def dies(self: StripeGateway, **facts: Any) -> Any:
        raise Gone

    with monkeypatch.context() as patch:
        patch.setattr(StripeGateway, "pay_out", dies)
        with pytest.raises(Gone):
            swept()
    row = BankPayout.objects.get()
    assert row.status == "requested" and line_sum(row) == row.amount and payouts_there(sandbox) == []
    sandbox.advance(61)
    jobs.stop(scope="payouts", reason="a doubt", actor=SYSTEM, now=now())
    assert keep_time.resolve_indeterminate(now=now()) == 0
    row.refresh_from_db()
    assert row.status == "requested" and payouts_there(sandbox) == [], "what was never sent waits for the stop to end"
    jobs.resume(scope="payouts", reason="clear", actor=SYSTEM, now=now())
    assert keep_time.resolve_indeterminate(now=now()) == 1
    row.refresh_from_db()
    assert row.status == "pending" and [one.amount for one in payouts_there(sandbox)] == [row.amount]
    assert row.created_at < now() - timedelta(seconds=60)
