"""A host's earnings and statement: every number is the ledger's."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice.core.actor import system
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as books
from backoffice.ledger.policies import Line
from backoffice.payments.policies import postings
from backoffice.payouts import operations as payouts
from backoffice.reporting import queries
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now, paid, refund

ROBOT = system("tests")
NOW = factories.NOW


def post(host: str, kind: str, lines: tuple[Line, ...], *, days: int, subject: str = "BK-AAAAAA") -> None:
    at = NOW + timedelta(days=days)
    ledger.post(
        key=f"{kind}:{host}:{days}",
        kind=kind,
        lines=lines,
        subject=subject,
        reference=f"PO-{days}",
        effective_at=at,
        actor=ROBOT,
        now=at,
    )


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


@pytest.fixture
def host(db: None) -> Any:
    """Owed 400.00, fined 68.00, of which the next payout kept 68.00 and sent 332.00."""
    user = factories.person("Bob", is_host=True)
    held = (Line.of("1150", "ch_1", eur(40_000)), Line.of("2200", user.code, eur(-40_000)))
    post(user.code, "release", held, days=1)
    post(user.code, "penalty", postings.penalised(host=user.code, amount=eur(6_800)), days=2)
    post(user.code, "netting", postings.netted(host=user.code, amount=eur(6_800)), days=3)
    sent = postings.transfer_requested(host=user.code, transfer="PO-4", amount=eur(33_200))
    post(user.code, "transfer", sent, days=4)
    return user


def statement(host: Any, first: int, last: int) -> queries.HostStatement:
    day = NOW.date()
    return queries.statement(
        host_id=host.pk, since=day + timedelta(days=first), until=day + timedelta(days=last), now=NOW
    )


def test_opening_and_lines_are_the_closing_balance_and_the_ledgers(host: Any) -> None:
    (account,) = statement(host, 0, 10).accounts
    assert [(line.what, line.amount.amount, line.balance.amount) for line in account.lines] == [
        ("Payout became due", 40_000, 40_000),
        ("Penalty for a cancellation", -6_800, 33_200),
        ("Kept for what you owed", 0, 33_200),
        ("Sent to your account", -33_200, 0),
    ]
    kept = account.lines[2]
    assert (kept.payable, kept.owed) == (eur(-6_800), eur(6_800))
    assert (account.opening, account.closing, account.payable, account.owed) == (eur(0),) * 4


@pytest.mark.parametrize("cut", range(7))
def test_periods_that_follow_each_other_close_where_the_next_opens(host: Any, cut: int) -> None:
    whole, first, second = statement(host, 0, 7), statement(host, 0, cut or 1), statement(host, cut or 1, 7)
    assert first.accounts[0].closing == second.accounts[0].opening
    assert second.accounts[0].closing == whole.accounts[0].closing
    for found in (whole, first, second):
        (account,) = found.accounts
        assert account.opening + Money.sum((line.amount for line in account.lines), "EUR") == account.closing
        assert account.payable - account.owed == account.closing
    assert first.accounts[0].lines + tuple(second.accounts[0].lines) == whole.accounts[0].lines


def test_each_currency_is_an_account_of_its_own_and_ends_at_the_kept_balance(host: Any) -> None:
    yen = (Line.of("1150", "ch_2", Money(9_000, "JPY")), Line.of("2200", host.code, Money(-9_000, "JPY")))
    post(host.code, "release", yen, days=6, subject="BK-BBBBBB")
    post(host.code, "penalty", postings.penalised(host=host.code, amount=eur(5_000)), days=7)
    found = statement(host, 0, 10)
    assert [account.currency for account in found.accounts] == ["EUR", "JPY"]
    for account in found.accounts:
        kept = [books.balance(account=code, key=host.code, currency=account.currency) for code in ("2200", "1310")]
        assert account.closing == Money(-sum(kept), account.currency)
        assert (account.payable.amount, account.owed.amount) == (-kept[0], kept[1])
    assert queries.balances(host_id=host.pk) == {"EUR": eur(-5_000), "JPY": Money(9_000, "JPY")}


@given(
    amounts=st.lists(
        st.tuples(
            st.sampled_from(["release", "penalty", "netting", "transfer"]),
            st.integers(1, 10**9),
            st.integers(0, 20),
            st.sampled_from(["EUR", "JPY", "KWD"]),
        ),
        max_size=12,
    ),
    cut=st.integers(1, 20),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_moves_and_wherever_it_is_cut_both_halves_add_up(db: None, amounts: Any, cut: int) -> None:
    user = factories.person("Bob", is_host=True)
    with transaction.atomic():
        for number, (kind, amount, day, currency) in enumerate(amounts):
            money = Money(amount, currency)
            lines = {
                "release": (Line.of("1150", "ch", money), Line.of("2200", user.code, -money)),
                "penalty": postings.penalised(host=user.code, amount=money),
                "netting": (Line.of("1310", user.code, -money), Line.of("1150", "ch", money)),
                "transfer": (Line.of("1310", user.code, money), Line.of("2210", "PO", -money)),
            }[kind]
            at = NOW + timedelta(days=day)
            ledger.post(
                key=f"{user.code}:{number}", kind=kind, lines=lines, subject="", effective_at=at, actor=ROBOT, now=at
            )
        whole, first, second = statement(user, 0, 21), statement(user, 0, cut), statement(user, cut, 21)
        kept = queries.balances(host_id=user.pk)
        transaction.set_rollback(True)
    assert {account.currency for account in whole.accounts} == {currency for *_, currency in amounts}
    for all_of_it, before, after in zip(whole.accounts, first.accounts, second.accounts, strict=True):
        assert before.lines + after.lines == all_of_it.lines and before.closing == after.opening
        assert all_of_it.closing == kept.get(all_of_it.currency, Money.zero(all_of_it.currency))
        for account in (all_of_it, before, after):
            moved = Money.sum((line.amount for line in account.lines), account.currency)
            assert account.opening + moved == account.closing == account.payable - account.owed


@pytest.mark.django_db
def test_what_was_paid_for_damage_is_told_in_words() -> None:
    from tests.payouts.stays import release_all
    from tests.payouts.test_damages import damaged, stay

    booking = stay()
    charge = damaged(booking, 15_000)
    assert charge.released_at is not None
    payouts.pay_damage(charge_code=charge.code, actor=ROBOT, now=charge.released_at)
    release_all(now=charge.released_at)
    (account,) = queries.statement(
        host_id=booking.host_id, since=booking.check_in, until=charge.released_at.date() + timedelta(days=1), now=NOW
    ).accounts
    assert [(line.what, line.amount) for line in account.lines[-2:]] == [
        ("Damage, paid for you", eur(15_000)),
        ("Sent to your account", eur(-15_000)),
    ]


def test_a_host_sees_nothing_of_another(host: Any) -> None:
    other = factories.person("Carol", is_host=True)
    assert statement(other, 0, 10).accounts == () and queries.balances(host_id=other.pk) == {}


@pytest.mark.parametrize(("first", "last"), [(1, 1), (2, 1), (0, 367)])
def test_a_period_is_at_least_a_day_and_at_most_a_year(host: Any, first: int, last: int) -> None:
    with pytest.raises(Invalid, match="until"):
        statement(host, first, last)


# Earnings ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_earnings_are_what_the_ledger_holds_for_the_host(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    other = paid(sandbox, currency="USD")
    refund(booking, 5_000)
    rows = queries.earnings(host_id=booking.host_id, since=booking.check_in, until=booking.check_in + timedelta(days=1))
    (row,) = rows
    held = books.balance(account="2100", key=booking.code, currency="EUR")
    fee = books.balance(account="2111", key=booking.code, currency="EUR")
    assert (row.month, row.currency, row.stays) == (f"{booking.check_in:%Y-%m}", "EUR", 1)
    assert (row.net, row.fees) == (eur(-held), eur(-fee))
    assert row.gross == eur(booking.host_price) and row.gross - row.refunds - row.fees == row.net
    assert other.host_id != booking.host_id
    assert queries.earnings(host_id=booking.host_id, since=date(2000, 1, 1), until=booking.check_in) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ["refused by the provider", "taken back for a chargeback"])
def test_a_refund_that_was_not_carried_out_takes_nothing_from_the_host(sandbox: RunningSandbox, end: str) -> None:
    from backoffice.payments import operations as payments

    booking = paid(sandbox)
    asked = refund(booking, 5_000)
    if end == "refused by the provider":
        payments.claim_refund(refund_code=asked.code, now=now())
        payments.fail_refund(refund_code=asked.code, failure="card closed", at_provider=False, actor=ROBOT, now=now())
    else:
        with transaction.atomic():
            payments.stop_refund(refund=asked, actor=ROBOT.because("a network has taken it"), now=now())
    (row,) = queries.earnings(
        host_id=booking.host_id, since=booking.check_in, until=booking.check_in + timedelta(days=1)
    )
    assert row.refunds == eur(0) and row.net == eur(booking.host_price - booking.host_fee)


@pytest.mark.django_db(transaction=True)
def test_what_a_lost_chargeback_took_is_no_longer_earned_until_it_comes_back(sandbox: RunningSandbox) -> None:
    from tests.workflows.test_chargebacks import answered, decide, hear, told

    booking = paid(sandbox)
    share = eur(booking.host_price - booking.host_fee)

    def row() -> queries.EarningsRow:
        (found,) = queries.earnings(
            host_id=booking.host_id, since=booking.check_in, until=booking.check_in + timedelta(days=1)
        )
        assert found.gross - found.refunds - found.fees - found.chargebacks == found.net
        return found

    lost = answered(sandbox, told(sandbox, booking), "losing_evidence")
    assert (row().chargebacks, row().net, row().scheduled) == (share, eur(0), eur(0))
    decide(sandbox, lost.provider_id, status="won")
    hear(sandbox)
    assert (row().chargebacks, row().net, row().scheduled) == (eur(0), share, share)


@pytest.mark.django_db(transaction=True)
def test_a_stay_whose_saved_card_is_charged_later_is_one_that_is_to_come(sandbox: RunningSandbox) -> None:
    from tests.workflows.test_saved_cards import far

    booking = far()
    (row,) = queries.earnings(
        host_id=booking.host_id, since=booking.check_in, until=booking.check_in + timedelta(days=1)
    )
    assert (row.stays, row.scheduled) == (1, eur(booking.host_price - booking.host_fee))
    assert (row.gross, row.net, row.released) == (eur(0), eur(0), eur(0)), "nobody has paid yet"


def test_earnings_of_no_days_are_refused(host: Any) -> None:
    with pytest.raises(Invalid, match="until"):
        queries.earnings(host_id=host.pk, since=NOW.date(), until=NOW.date())
