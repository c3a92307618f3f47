"""Hosts are paid: on the day, once, to the cent, whatever is lost, refused or stopped on the way."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import Conflict, NotAllowed, ProviderError, Stopped
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import Notification
from backoffice.payments.models import Payment, Refund
from backoffice.payments.queries import money_of
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import HostAccount, Payout, PayoutHold
from backoffice.payouts.policies.accounts import Waiting
from backoffice.payouts.policies.release import FUNDS
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.reporting.queries import health
from backoffice.workflows import (
    cancel_booking,
    collect_charges,
    import_balance_transactions,
    refund_booking,
    release_payouts,
)
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import onboarded, owes
from tests.workflows.steps import ROOMS, asked_back, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
DESK = system("payouts")
DAY = 86_400


def stay(sandbox: RunningSandbox, *, host: User | None = None, ready: bool = True, **options: Any) -> Booking:
    """A paid stay, three nights in 40 days (the new host's month is over by then), whose host can receive."""
    host = host or factories.person("Bob", is_host=True, now=now())
    if ready:
        onboarded(sandbox, host)
    options.setdefault("check_in", (now() + timedelta(days=40)).date())
    home = options.pop("home", None) or factories.listing(host, now=now())
    return paid(home=home, **options)


def until_due(sandbox: RunningSandbox, booking: Booking) -> None:
    """The clock of desk and provider stands just after the first release is due, all movements imported."""
    due = Payout.objects.filter(booking=booking).order_by("due_at").first().due_at
    sandbox.set_clock(due.timestamp() + 60)
    import_balance_transactions.run(now=now())


def balance(account: str, key: str, currency: str = "EUR") -> int:
    return ledger.balance(account=account, key=key, currency=currency)


def released(**options: Any) -> dict[str, int]:
    return release_payouts.run(now=now(), actor=DESK, **options)


def transfers(sandbox: RunningSandbox) -> list[dict[str, Any]]:
    return [row.to_dict() for row in sandbox.client().v1.transfers.list({"limit": 100}).data]


def all_is_well() -> None:
    import_balance_transactions.run(now=now())
    assert reconcile(scope="stripe", since=None, until=None, actor=DESK, now=now()).findings == []
    assert [finding for finding in health.ledger_check(now=now()) if not finding.ok] == []
    for row in Payout.objects.all():
        assert queries.explain(code=row.code, now=now()).adds_up, queries.explain(code=row.code, now=now())


def test_a_host_is_paid_a_day_after_check_in_and_both_sides_agree(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    payout = Payout.objects.get(booking=booking)
    share = booking.host_price - booking.host_fee
    assert (payout.status, payout.held, payout.due_at) == (
        "scheduled",
        share,
        booking.check_in_at + timedelta(hours=24),
    )
    assert released() == {}
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    payout.refresh_from_db()
    (transfer,) = transfers(sandbox)
    assert (payout.status, payout.transfer_id) == ("transferred", transfer["id"])
    assert (transfer["amount"], transfer["transfer_group"]) == (share, booking.code)
    assert transfer["source_transaction"] == booking.payment.charge_id
    assert balance("2100", booking.code) == balance("2200", booking.host.code) == 0
    assert balance("2210", payout.code) == -share
    sandbox.advance(60)
    all_is_well()
    assert balance("2210", payout.code) == 0
    assert balance("1800", transfer["destination"]) == share == -balance("2800", transfer["destination"])
    assert released() == {} and len(transfers(sandbox)) == 1


def approved(booking: Booking, amount: int, *, bearer: str = "host", key: str = "r1") -> Refund:
    made = asked_back(booking, amount, bearer=bearer, idempotency_key=f"{booking.code}-{key}")
    return Refund.objects.get(id=made.id)


def refund(booking: Booking, amount: int, **options: Any) -> Refund:
    made = approved(booking, amount, **options)
    refund_booking.send(refund_code=made.code, actor=DESK, now=now())
    return Refund.objects.get(id=made.id)


def test_a_refund_before_the_release_makes_the_payout_smaller(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    given = refund(booking, 5_000)
    payout = Payout.objects.get(booking=booking)
    assert payout.held == booking.host_price - booking.host_fee - given.held
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    payout.refresh_from_db()
    assert payout.transfer_amount == booking.host_price - booking.host_fee - given.held
    sandbox.advance(60)
    all_is_well()


def test_a_refund_after_the_release_is_owed_by_the_host_and_kept_from_the_next_payout(sandbox: RunningSandbox) -> None:
    first = stay(sandbox)
    until_due(sandbox, first)
    released()
    given = refund(first, 10_000)
    host = first.host.code
    assert given.status == "succeeded" and balance("1310", host) == given.held
    assert balance("2100", first.code) == balance("2110", first.code) == 0
    second = stay(sandbox, host=first.host, ready=False, home=first.listing)
    until_due(sandbox, second)
    assert released() == {"transferred": 1}
    payout = Payout.objects.get(booking=second)
    assert payout.netted == given.held
    assert payout.transfer_amount == second.host_price - second.host_fee - given.held
    assert balance("1310", host) == balance("2200", host) == 0
    sandbox.advance(60)
    all_is_well()


def hold(booking: Booking, amount: int | None, *, hours: int = 72) -> PayoutHold:
    return payouts.place_hold(
        booking_code=booking.code,
        amount=None if amount is None else Money(amount, booking.currency),
        cause="dispute",
        reason="Broken window",
        hours=hours,
        owner_id=None,
        actor=factories.acting(factories.staff("team_lead", now=now())),
        now=now(),
    )


def test_part_of_a_payout_is_held_back_and_follows_when_the_hold_ends(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    share = booking.host_price - booking.host_fee
    until_due(sandbox, booking)
    placed = hold(booking, 10_000)
    assert released() == {"transferred": 1}
    first, rest = Payout.objects.filter(booking=booking).order_by("number")
    assert (first.transfer_amount, rest.status, rest.held) == (share - 10_000, "held", 10_000)
    assert rest.remainder_of == first and rest.waits_until == placed.expires_at
    assert released() == {}, "it is not touched before the hold ends"
    said = queries.explain(code=rest.code, now=now())
    assert said.waits is not None and said.waits.until == placed.expires_at
    sandbox.set_clock(placed.expires_at.timestamp() + 1)
    assert released() == {"holds_expired": 1, "transferred": 1}
    rest.refresh_from_db()
    assert (rest.status, rest.transfer_amount) == ("transferred", 10_000)
    assert balance("2100", booking.code) == balance("2110", booking.code) == balance("2111", booking.code) == 0
    sandbox.advance(60)
    all_is_well()


def test_a_whole_hold_keeps_everything_until_it_is_lifted(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    placed = hold(booking, None)
    payout = Payout.objects.get(booking=booking)
    assert (payout.status, payout.waits_until) == ("held", placed.expires_at)
    until_due(sandbox, booking)
    again = hold(booking, None)
    sandbox.advance(60)
    assert released() == {"holds_expired": 1}
    lead = factories.acting(again.placed_by)
    payouts.lift_hold(hold_code=again.code, reason="Settled", version=again.version, actor=lead, now=now())
    payout.refresh_from_db()
    assert payout.status == "releasable" and not payout.waits_for
    assert released() == {"transferred": 1}
    sandbox.advance(60)
    all_is_well()


def test_a_cancelled_stay_pays_what_it_leaves_and_nothing_else(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox, check_in=(now() + timedelta(days=40)).date())
    sandbox.set_clock((booking.check_in_at - timedelta(days=4)).timestamp())
    guest = factories.acting(booking.guest)
    shown = cancel_booking.preview(booking_code=booking.code, actor=guest, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=guest, now=now())
    refund_booking.send(refund_code=Refund.objects.get().code, actor=DESK, now=now())
    payout = Payout.objects.get(booking=booking)
    assert 0 < payout.held < booking.host_price - booking.host_fee
    assert payout.due_at == booking.check_in_at + timedelta(hours=24)
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    payout.refresh_from_db()
    assert payout.transfer_amount == payout.held
    sandbox.advance(60)
    all_is_well()


def test_a_host_who_cancels_is_paid_nothing_and_the_penalty_is_kept_from_the_next(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    host = factories.acting(booking.host)
    shown = cancel_booking.preview(booking_code=booking.code, actor=host, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Burst pipe", actor=host, now=now())
    refund_booking.send(refund_code=Refund.objects.get().code, actor=DESK, now=now())
    assert Payout.objects.get(booking=booking).status == "void"
    assert shown.penalty is not None and balance("1310", booking.host.code) == shown.penalty.amount
    other = stay(sandbox, host=booking.host, ready=False, check_in=(now() + timedelta(days=50)).date())
    until_due(sandbox, other)
    assert released() == {"transferred": 1}
    payout = Payout.objects.get(booking=other)
    assert payout.netted == shown.penalty.amount and balance("1310", booking.host.code) == 0
    sandbox.advance(60)
    all_is_well()


def test_a_debt_larger_than_the_payout_takes_all_of_it(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    share = booking.host_price - booking.host_fee
    owes(booking.host, Money(share + 1_000, "EUR"))
    until_due(sandbox, booking)
    assert released() == {"netted": 1}
    payout = Payout.objects.get(booking=booking)
    assert (payout.status, payout.netted, payout.transfer_amount) == ("netted", share, 0)
    assert balance("1310", booking.host.code) == 1_000 and transfers(sandbox) == []
    all_is_well()


def test_a_host_not_yet_able_to_receive_waits_visibly_and_is_paid_once_they_can(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox, ready=False)
    until_due(sandbox, booking)
    assert released() == {"waiting": 1}
    payout = Payout.objects.get(booking=booking)
    assert payout.status == "scheduled" and "not set up" in payout.waits_for
    assert queries.plan(now=now())[0].waits is not None
    assert released() == {}, "nothing has changed"
    onboarded(sandbox, booking.host)
    assert released() == {"transferred": 1}
    payout.refresh_from_db()
    assert payout.waits_for == ""
    sandbox.advance(60)
    all_is_well()


def test_while_payouts_are_stopped_nothing_is_sent_and_everybody_can_read_why(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until_due(sandbox, booking)
    finance = factories.acting(factories.staff("finance", now=now()))
    jobs.stop(scope="payouts", reason="The provider's balance is off", actor=finance, now=now())
    assert released() == release_payouts.run(now=now(), actor=finance) == {"waiting": 1}
    payout = Payout.objects.get(booking=booking)
    assert "The provider's balance is off" in payout.waits_for
    with pytest.raises(Stopped):
        release_payouts.release_one(payout_code=payout.code, actor=finance, now=now())
    jobs.resume(scope="payouts", reason="Found", actor=finance, now=now())
    assert release_payouts.release_one(payout_code=payout.code, actor=finance, now=now()).status == "transferred"
    assert len(transfers(sandbox)) == 1


def test_a_person_who_asks_too_early_is_told_when(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    payout = Payout.objects.get(booking=booking)
    finance = factories.acting(factories.staff("finance", now=now()))
    with pytest.raises(Conflict, match=f"{payout.due_at:%Y-%m-%d}"):
        release_payouts.release_one(payout_code=payout.code, actor=finance, now=now())
    junior = factories.acting(factories.staff("support_l1", now=now()))
    with pytest.raises(NotAllowed):
        release_payouts.release_one(payout_code=payout.code, actor=junior, now=now())


LOST = ["error_500_after_commit", "timeout_after_commit", "reset_after_commit"]


@pytest.mark.parametrize("effect", LOST)
def test_a_transfer_whose_answer_was_lost_is_found_and_made_once(impatient: RunningSandbox, effect: str) -> None:
    booking = stay(impatient)
    until_due(impatient, booking)
    impatient.fault(effect, method="POST", path="/v1/transfers", times=3, seconds=1.5)
    assert released() == {"lost": 1}
    impatient.clear_faults()
    payout = Payout.objects.get(booking=booking)
    assert payout.status == "in_transfer"
    assert released() == {}, "it is given a minute"
    impatient.advance(90)
    assert released() == {"transferred": 1}
    assert len(transfers(impatient)) == 1
    impatient.advance(60)
    all_is_well()


def test_a_transfer_that_was_never_carried_out_is_sent_again_under_another_key(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until_due(sandbox, booking)
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/transfers", times=1)
    assert released() == {"lost": 1}
    sandbox.advance(700)  # the provider repeats the failure that it saved under the key
    assert released() == {"waiting": 2}, "given up, then resting"
    assert Payout.objects.get(booking=booking).status == "failed"
    assert transfers(sandbox) == []
    assert balance("2200", booking.host.code) == -(booking.host_price - booking.host_fee)
    sandbox.advance(25 * 3_600)
    assert released() == {"transferred": 1}
    payout = Payout.objects.get(booking=booking)
    assert (payout.tries, len(transfers(sandbox))) == (2, 1)
    sandbox.advance(60)
    all_is_well()


def test_a_refused_transfer_stays_payable_and_a_person_sends_it_again(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until_due(sandbox, booking)
    HostAccount.objects.update(provider_id="acct_gone")
    assert released() == {"failed": 1}
    payout = Payout.objects.get(booking=booking)
    assert payout.status == "failed" and payout.failure.startswith("No such destination")
    assert balance("2210", payout.code) == 0
    finance = factories.acting(factories.staff("finance", now=now()))
    said = f"{payout.code} is not sent. The payment provider refused it: {payout.failure} We try again. It waits until"
    with pytest.raises(Conflict, match=re.escape(said)):
        release_payouts.release_one(payout_code=payout.code, actor=finance, now=now())
    sandbox.advance(25 * 3_600)
    with pytest.raises(ProviderError, match=re.escape(said)):
        release_payouts.release_one(payout_code=payout.code, actor=finance, now=now())
    HostAccount.objects.all().delete()
    onboarded(sandbox, booking.host)
    assert released() == {"waiting": 1}, "a refused one rests"
    sandbox.advance(25 * 3_600)
    sent = release_payouts.release_one(payout_code=payout.code, actor=finance, now=now())
    assert (sent.status, sent.tries) == ("transferred", 3)
    sandbox.advance(60)
    all_is_well()


def test_two_runs_at_once_pay_each_host_once(sandbox: RunningSandbox) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    onboarded(sandbox, host)
    stays = [stay(sandbox, host=host, ready=False) for _ in range(3)]
    owes(host, Money(20_000, "EUR"))
    until_due(sandbox, stays[0])
    at = now()

    def one() -> dict[str, int]:
        return release_payouts.run(now=at, actor=DESK)

    outcomes = race([one, one, one])
    assert all(isinstance(outcome, dict) for outcome in outcomes), outcomes
    while released().get("left"):
        pass
    rows = list(Payout.objects.order_by("id"))
    assert [row.status for row in rows] == ["transferred"] * 3
    assert sum(row.netted for row in rows) == 20_000 and balance("1310", host.code) == 0
    assert sorted(row["amount"] for row in transfers(sandbox)) == sorted(row.transfer_amount for row in rows)
    sandbox.advance(60)
    all_is_well()


def converted_stay(sandbox: RunningSandbox) -> Booking:
    """A stay at a home priced in yen, settled in euros, whose host was paid."""
    home = factories.listing(currency="JPY", city="Kyoto", country="JP", nightly_price=12_000, now=now())
    onboarded(sandbox, home.host)
    booking = stay(sandbox, home=home, ready=False)
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    return booking


def test_a_home_in_another_currency_than_the_settlement_is_converted_on_the_day(sandbox: RunningSandbox) -> None:
    booking = converted_stay(sandbox)
    payout = Payout.objects.get(booking=booking)
    assert payout.transfer_currency == "EUR" and payout.rate is not None and payout.rate["quote"] == "EUR"
    assert ledger.standing(account="3900", key=booking.payment.charge_id or "") == []
    assert balance("2100", booking.code, "JPY") == 0
    shown = refund_booking.preview(
        booking_code=booking.code, amount=Money(3_000, "JPY"), cause="service_issue", bearer="host",
        actor=factories.acting(factories.staff("finance", name="Flo", now=now())), now=now(),
    )  # fmt: skip
    assert shown.guest == shown.host + shown.platform + shown.tax == Money(3_000, "JPY")
    assert shown.released is not None and shown.released.host.currency == "EUR"
    given = refund(booking, 3_000)
    assert (
        shown.released.host == Money(balance("1310", booking.host.code, "EUR"), "EUR") and given.status == "succeeded"
    )
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    assert ledger.standing(account="3900", key=booking.payment.charge_id or "") == []
    all_is_well()


def test_a_partial_hold_and_a_refund_after_it_take_from_both(sandbox: RunningSandbox) -> None:
    """The worked postings B and C in one: first what is still held, then the host and our revenue."""
    booking = stay(sandbox)
    until_due(sandbox, booking)
    hold(booking, 5_000)
    released()
    rest = Payout.objects.get(booking=booking, remainder_of__isnull=False)
    given = refund(booking, 20_000)
    assert balance("2100", booking.code) == 0 and balance("1310", booking.host.code) == given.held - 5_000
    rest.refresh_from_db()
    assert rest.status == "void" and rest.held == 0
    sandbox.advance(60)
    all_is_well()


def test_a_long_stay_is_paid_by_the_month(sandbox: RunningSandbox) -> None:
    home = factories.listing(minimum_nights=1, maximum_nights=90, now=now())
    onboarded(sandbox, home.host)
    booking = stay(sandbox, home=home, ready=False, nights=70)
    rows = list(Payout.objects.filter(booking=booking).order_by("number"))
    assert [row.due_at - booking.check_in_at for row in rows] == [timedelta(days=days) for days in (1, 31, 61)]
    sent = 0
    for row in rows:
        sandbox.set_clock(row.due_at.timestamp() + 60)
        collect_charges.collect_due(now=now())
        sandbox.advance(60)
        import_balance_transactions.run(now=now())
        assert released() == {"transferred": 1}
        row.refresh_from_db()
        sent += row.transfer_amount
    assert sent == booking.host_price - booking.host_fee
    assert balance("2100", booking.code) == balance("2110", booking.code) == balance("2111", booking.code) == 0
    sandbox.advance(60)
    all_is_well()


def test_a_new_host_waits_a_month_after_their_first_confirmed_booking(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox, check_in=(now() + timedelta(days=3)).date())
    payout = Payout.objects.get(booking=booking)
    assert payout.due_at == booking.confirmed_at + timedelta(days=30)


def test_a_stay_without_a_plan_gets_one_from_the_run(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    Payout.objects.all().delete()
    assert released() == {"scheduled": 1}
    assert Payout.objects.get(booking=booking).held == booking.host_price - booking.host_fee
    assert released() == {}


def test_what_a_refused_refund_gave_back_is_paid_after_all(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until_due(sandbox, booking)
    hold(booking, None)
    given = approved(booking, booking.charge_total)
    assert Payout.objects.get(booking=booking).status == "void"
    sandbox.client().v1.refunds.create({"charge": booking.payment.charge_id or ""})
    with pytest.raises(ProviderError):
        refund_booking.send(refund_code=given.code, actor=DESK, now=now())
    PayoutHold.objects.update(status="lifted")
    sandbox.advance(900)
    assert released() == {"scheduled": 1, "transferred": 1}
    assert Payout.objects.get(booking=booking, number=2).transfer_amount == booking.host_price - booking.host_fee


def in_credit(sandbox: RunningSandbox) -> tuple[Booking, Booking, Refund]:
    """A host was paid for one stay, a refund of it was kept from the payout of the next, and then the provider refused it."""
    first = stay(sandbox)
    until_due(sandbox, first)
    released()
    given = approved(first, 20_000)
    second = stay(sandbox, host=first.host, ready=False, home=first.listing)
    until_due(sandbox, second)
    assert released() == {"transferred": 1}
    assert Payout.objects.get(booking=second).netted == given.held > 0 == balance("1310", first.host.code)
    payment, charge = Payment.objects.filter(booking=first), first.payment.charge_id
    payment.update(charge_id="ch_gone")
    with pytest.raises(ProviderError, match="No such charge"):
        refund_booking.send(refund_code=given.code, actor=DESK, now=now())
    payment.update(charge_id=charge)
    assert balance("1310", first.host.code) == -given.held, "the debt that they paid is none"
    return first, second, given


def test_what_a_refused_refund_took_from_the_next_payout_goes_back_to_its_host(sandbox: RunningSandbox) -> None:
    first, second, given = in_credit(sandbox)
    assert released() == {"scheduled": 1, "transferred": 1}
    credit = Payout.objects.get(weight=0)
    assert (credit.booking_id, credit.transfer_amount, credit.netted) == (first.pk, given.held, 0)
    assert released() == {}
    host = first.host.code
    stays = [first, second]
    assert sum(row["amount"] for row in transfers(sandbox)) == sum(each.host_price - each.host_fee for each in stays)
    assert [balance(account, host) for account in ("1310", "2200", "5220")] == [0, 0, 0]
    assert balance("4110", "") == -sum(each.payment.host_fee for each in stays)
    assert balance("4100", "") == -sum(each.payment.guest_fee for each in stays)
    assert balance("2400", given.code) == balance("5210", given.code) == 0
    money = money_of(booking=Booking.objects.get(pk=first.pk))
    assert money.refundable == money.charged and not money.refunded and not money.refunds_pending
    assert Notification.objects.filter(topic="payout_owed_back", recipient_id=first.host_id).count() == 1
    sandbox.advance(60)
    all_is_well()


def test_what_is_owed_back_waits_for_funds_instead_of_being_tried(sandbox: RunningSandbox) -> None:
    first, _, given = in_credit(sandbox)
    client = sandbox.client()
    available = sum(row.amount for row in client.v1.balance.retrieve().available)
    client.v1.payouts.create({"amount": available, "currency": "eur"})  # somebody emptied the account by hand
    sent = len(transfers(sandbox))
    for planned in ({"scheduled": 1, "waiting": 1}, {"waiting": 1}):
        assert released() == planned
    credit = Payout.objects.get(weight=0)
    assert (credit.status, credit.tries, credit.failure, credit.waits_for) == ("releasable", 0, "", FUNDS)
    assert len(transfers(sandbox)) == sent and balance("2200", first.host.code) == -given.held
    assert not Notification.objects.filter(topic="payout_failed").exists()
    explained = queries.explain(code=credit.code, now=now())
    (planned_line,) = (line for line in queries.plan(now=now()) if line.payout == credit.code)
    assert explained.waits == planned_line.waits == Waiting(sentence=FUNDS)
    finance = factories.acting(factories.staff("finance", name="Flo", now=now()))
    with pytest.raises(Conflict, match="waits for funds"):
        release_payouts.release_one(payout_code=credit.code, actor=finance, now=now())
    stay(sandbox, host=first.host, ready=False, home=first.listing)
    sandbox.advance(8 * DAY)
    assert released() == {"transferred": 1}
    credit.refresh_from_db()
    assert (credit.status, credit.transfer_amount, credit.waits_for) == ("transferred", given.held, "")
    assert queries.explain(code=credit.code, now=now()).adds_up
