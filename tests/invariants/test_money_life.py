"""The money life of bookings, walked at random against the real sandbox: whatever guests, hosts, staff, banks, time and
the network do, in whatever order, no cent is unexplained, none moves twice, and both sides agree in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, TypeVar

import pytest
from django.core.management.color import no_style
from django.core.management.sql import sql_flush
from django.db import connection
from django.db.models import Model, Q, QuerySet
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from stripe import RequestOptions

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Invalid,
    NightsTaken,
    NotAllowed,
    PaymentDeclined,
    ProviderError,
    RefundTooLarge,
    StaydeskError,
    UpstreamUnavailable,
)
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import JournalLine
from backoffice.listings.models import CalendarHold
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import BalanceTransaction, Chargeback, ExtraCharge, Payment, Refund, WebhookEvent
from backoffice.payouts import operations as payouts
from backoffice.payouts.models import BankPayout, Clawback, HostAccount, Payout, PayoutHold
from backoffice.reconciliation.policies import SeenStatementLine
from backoffice.reconciliation.provider import reconcile
from backoffice.reporting.queries import health
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import (
    cancel_booking,
    claw_back,
    collect_charges,
    decide_request,
    follow_bank_payouts,
    import_balance_transactions,
    keep_time,
    onboard_host,
    refund_booking,
    release_payouts,
    sweep_earnings,
    work_chargebacks,
)
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.provider import DeskClient, Refusal
from tests.stripe_sandbox.server import ControlError, RunningSandbox
from tests.workflows.hosts import begun, change_bank, onboarded
from tests.workflows.steps import ROOMS, now

pytestmark = [pytest.mark.django_db(transaction=True, available_apps=ROOMS), pytest.mark.timeout(3_600)]
WORKER = system("worker")
Row = TypeVar("Row", bound=Model)

CARDS = [
    "pm_card_visa",
    "pm_card_visa_chargeDeclined",
    "pm_card_authenticationRequired",
    "pm_card_pendingRefund",
    "pm_card_refundFail",
]
# What the network does to a call: the answer or the call itself is lost, or the provider fails before or after it acted.
MISHAPS = [
    "reset_after_commit",
    "timeout_before_commit",
    "error_500_before_commit",
    "error_500_after_commit",
    "error_429",
]
CAPTURED, REFUNDED = "1150", "2400"
TRAVELLING = ("pending", "in_transit")
WEEK = 8  # days: a payout to a bank has arrived in them
# Where a booking's captured money may stand by our own facts, besides what was refunded.
PLACES = {
    "held for the host, and our fees until they are earned": ("2100", "2110", "2111", "2120"),
    "earned": ("4100", "4110", "4200"),
    "taxed": ("2300", "2310"),
    "the host's: payable, on its way, asked back, owed back": ("2200", "2210", "1170", "1310"),
    "sent back by the guest's bank": ("2410",),
    "taken by an issuer, or lost to one": ("1320", "5200"),
    "given by us": ("5210",),
    "exchanged": ("3900", "4300", "5300"),
}
EXPLAINED = {"1150", "2400", *(code for codes in PLACES.values() for code in codes)}
HOMES = [("EUR", "Antwerp", "BE", 10_000), ("JPY", "Kyoto", "JP", 12_000), ("USD", "Reno", "US", 9_900)]


class Pointless(Exception):
    """There is nothing yet to do it to."""


def refusable(*names: type[StaydeskError]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What the house refuses by one of these very names is an answer, and so is that the provider cannot be heard where
    something happens to its calls, or goes on saying that it failed. Anything else is a fault and ends the walk."""

    def rule_of(act: Callable[..., None]) -> Callable[..., None]:
        @wraps(act)
        def tried(*args: Any, **given: Any) -> None:
            try:
                act(*args, **given)
            except Pointless:
                pass
            except UpstreamUnavailable as lost:
                if not (given.get("mishap") or lost.facts.get("answered")):
                    raise
            except StaydeskError as refused:
                if type(refused) not in names:
                    raise

        return tried

    return rule_of


PaidStay = tuple[int, int, str | None, str]
PAID_STAY = st.tuples(
    st.integers(0, 2),
    st.sampled_from([2, 6, 20, 45]),
    st.sampled_from([None, "EUR", "USD", "JPY"]),
    st.sampled_from(["pm_card_visa", "pm_card_visa", "pm_card_pendingRefund", "pm_card_refundFail"]),
)


class MoneyLife(RuleBasedStateMachine):
    """One desk, one provider, a handful of homes and people."""

    sandbox: RunningSandbox
    reached: Counter[str] = Counter()
    booked = Bundle("booked")

    @initialize(target=booked, first=PAID_STAY, second=PAID_STAY)
    def open_the_desk(self, first: PaidStay, second: PaidStay) -> Any:
        """Two stays are paid already: the walk begins where money is."""
        connection.ops.execute_sql_flush(sql_flush(no_style(), connection, reset_sequences=False, allow_cascade=True))
        self.sandbox.control("POST", "/_sim/reset", {"clock": True})
        clock.forget_offset()
        at = now()
        self.number = 0
        self.refusals: list[Refusal] = []
        DeskClient.on_refusal = self._hear_refusal
        self.homes = [
            factories.listing(
                currency=currency, city=city, country=country, nightly_price=price, cleaning_fee=500, now=at
            )
            for currency, city, country, price in HOMES
        ]
        by_request = factories.listing(self.homes[0].host, city="Ghent", instant_book=False, now=at)
        by_the_month = factories.listing(self.homes[1].host, city="Bruges", maximum_nights=365, now=at)
        self.others = {"request": by_request, "month": by_the_month}
        for home in self.homes[:2]:
            onboarded(self.sandbox, home.host)
        begun(self.homes[2].host)  # this one has asked to be paid and told the provider nothing yet
        self.guests = [factories.person(name, now=at) for name in ("Alice", "Charlie")]
        self.staff = {role: factories.staff(role, now=at) for role in ("support_l1", "team_lead", "finance")}
        paid = [self._paid(*first)]
        with suppress(NightsTaken):
            paid.append(self._paid(*second))
        return multiple(*paid)

    # People -----------------------------------------------------------------------------------------------------

    @rule(
        target=booked,
        home=st.integers(0, 2),
        guest=st.integers(0, 1),
        ahead=st.sampled_from([2, 6, 20, 45]),
        currency=st.sampled_from([None, "EUR", "USD", "JPY"]),
    )
    def book(self, home: int, guest: int, ahead: int, currency: str | None) -> Any:
        at = now()
        try:
            made = factories.booking(
                self.homes[home],
                self.guests[guest],
                check_in=(at + timedelta(days=ahead)).date(),
                nights=2,
                currency=currency,
                now=at,
            )
        except NightsTaken:
            return multiple()
        return made.code

    @rule(target=booked, stay=PAID_STAY)
    def book_and_pay(self, stay: PaidStay) -> Any:
        try:
            return self._paid(*stay)
        except NightsTaken:
            return multiple()

    def _paid(self, home: int, ahead: int, currency: str | None, card: str) -> str:
        at = now()
        made = factories.booking(
            self.homes[home],
            self.guests[0],
            check_in=(at + timedelta(days=ahead)).date(),
            nights=2,
            currency=currency,
            now=at,
        )
        pay(booking_code=made.code, payment_method=card, actor=factories.acting(self.guests[0], now=at), now=at)
        return made.code

    @rule(target=booked, ahead=st.sampled_from([3, 20]))
    def ask_for_a_stay(self, ahead: int) -> Any:
        """Its host has to say yes; until then the money is reserved."""
        return self._else("request", ahead=ahead, nights=2)

    @rule(target=booked, ahead=st.sampled_from([2, 40]))
    def stay_for_weeks(self, ahead: int) -> Any:
        """Paid by the month, from the saved card."""
        return self._else("month", ahead=ahead, nights=45)

    @rule(target=booked)
    def book_far_ahead(self) -> Any:
        """Further than money may be held: the card is saved and charged later."""
        return self._else("month", ahead=100, nights=2)

    def _else(self, home: str, *, ahead: int, nights: int) -> Any:
        at, guest = now(), self.guests[1]
        try:
            made = factories.booking(
                self.others[home], guest, check_in=(at + timedelta(days=ahead)).date(), nights=nights, now=at
            )
        except NightsTaken:
            return multiple()
        pay(booking_code=made.code, payment_method=CARDS[0], actor=factories.acting(guest, now=at), now=at)
        return made.code

    @rule(code=booked, yes=st.booleans(), mishap=st.one_of(st.none(), st.none(), st.sampled_from(MISHAPS)))
    @refusable(Conflict, IllegalTransition)
    def a_host_answers(self, code: str, yes: bool, mishap: str | None) -> None:
        host = factories.acting(booking_queries.booking(code=code).host, now=now())
        with self._mishap(mishap, "/v1/payment_intents/*"):
            if yes:
                decide_request.accept(booking_code=code, actor=host, now=now())
            else:
                decide_request.decline(booking_code=code, reason="My sister comes", actor=host, now=now())

    @rule(mishap=st.one_of(st.none(), st.sampled_from(MISHAPS)))
    def what_is_due_later_is_collected(self, mishap: str | None) -> None:
        with self._mishap(mishap, "/v1/payment_intents*"):
            decide_request.run(now=now())
            collect_charges.run(now=now())

    @rule(code=booked, amount=st.sampled_from([500, 9_000]))
    @refusable(Conflict)
    def something_was_broken(self, code: str, amount: int) -> None:
        booking = booking_queries.booking(code=code)
        charge = payments.request_damage(
            booking_code=code,
            amount=Money(amount, booking.charge_currency),
            reason="The window is broken",
            actor=factories.acting(self.staff["team_lead"], now=now()),
            now=now(),
        )
        finance = factories.acting(self.staff["finance"], now=now())
        payments.approve_damage(charge_code=charge.code, version=charge.version, actor=finance, now=now())

    @rule(code=booked, card=st.sampled_from(CARDS), mishap=st.one_of(st.none(), st.none(), st.sampled_from(MISHAPS)))
    @refusable(Conflict, PaymentDeclined)
    def pay(self, code: str, card: str, mishap: str | None) -> None:
        try:
            with self._mishap(mishap, "/v1/payment_intents*"):
                pay(booking_code=code, payment_method=card, actor=self._guest(code), now=now())
        except PaymentDeclined:
            assert "Declined" in card or mishap
            raise

    @rule(code=booked, outcome=st.sampled_from(["succeed", "fail"]))
    def answer_the_bank(self, code: str, outcome: str) -> None:
        payment = Payment.objects.filter(booking__code=code).first()
        if payment is not None and payment.provider_id is not None:
            intent = self.sandbox.client().v1.payment_intents.retrieve(payment.provider_id)
            if intent.status == "requires_action":
                self.sandbox.complete_challenge(payment.provider_id, outcome)

    @rule(
        code=booked,
        tenths=st.integers(1, 11),
        role=st.sampled_from(["support_l1", "team_lead", "finance"]),
        bearer=st.sampled_from(["host", "host", "platform"]),
    )
    @refusable(Conflict, RefundTooLarge, Invalid)
    def refund(self, code: str, tenths: int, role: str, bearer: str) -> None:
        payment = Payment.objects.filter(booking__code=code).first()
        if payment is None:
            raise Pointless
        self.number += 1
        left = payment_queries.money_of(booking=booking_queries.booking(code=code)).refundable
        amount = Money(left.amount * tenths // 10, payment.currency)
        try:
            refund_booking.request(
                booking_code=code,
                amount=amount,
                cause="service_issue",
                bearer=bearer,
                reason="No hot water",
                idempotency_key=f"walk-{self.number}",
                version=payment.version,
                actor=factories.acting(self.staff[role], now=now()),
                now=now(),
            )
            assert amount <= left
        except RefundTooLarge:
            assert amount > left
            raise
        except Invalid:
            assert not amount
            raise

    @rule(data=st.data(), yes=st.booleans())
    @refusable(Conflict, NotAllowed)
    def decide_a_refund(self, data: st.DataObject, yes: bool) -> None:
        refund = self._one_of(data, Refund.objects.filter(status="requested"))
        actor = factories.acting(self.staff["finance"], now=now())
        try:
            if yes:
                refund_booking.approve(refund_code=refund.code, version=refund.version, actor=actor, now=now())
            else:
                refund_booking.reject(
                    refund_code=refund.code, reason="No proof", version=refund.version, actor=actor, now=now()
                )
        except NotAllowed:
            assert refund.requested_by_id == actor.id
            raise

    @rule(mishap=st.one_of(st.none(), st.sampled_from(MISHAPS)))
    @refusable(ProviderError)
    def send_a_refund(self, mishap: str | None) -> None:
        refund = Refund.objects.filter(status__in=["approved", "indeterminate"]).order_by("id").first()
        if refund is None:
            raise Pointless
        with self._mishap(mishap, "/v1/refunds"):
            refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())

    @rule(code=booked, side=st.sampled_from(["guest", "host"]))
    @refusable(Conflict, IllegalTransition)
    def cancel(self, code: str, side: str) -> None:
        booking = booking_queries.booking(code=code)
        actor = factories.acting(getattr(booking, side), now=now())
        shown = cancel_booking.preview(booking_code=code, actor=actor, now=now())
        cancel_booking.confirm(booking_code=code, token=shown.token, reason="Plans changed", actor=actor, now=now())

    # Money out --------------------------------------------------------------------------------------------------

    @rule(mishap=st.one_of(st.none(), st.none(), st.sampled_from(MISHAPS)))
    def hosts_are_paid(self, mishap: str | None) -> None:
        with self._mishap(mishap, "/v1/transfers"):
            release_payouts.run(now=now(), actor=WORKER)

    @rule(code=booked, tenths=st.one_of(st.none(), st.integers(1, 11)), hours=st.sampled_from([2, 72, 336]))
    @refusable(Conflict, Invalid)
    def hold(self, code: str, tenths: int | None, hours: int) -> None:
        booking = booking_queries.booking(code=code)
        share = booking.host_price - booking.host_fee
        payouts.place_hold(
            booking_code=code,
            amount=None if tenths is None else Money(share * tenths // 10, booking.currency),
            cause="suspicion",
            reason="Two cards from one address",
            hours=hours,
            owner_id=None,
            actor=factories.acting(self.staff["finance"], now=now()),
            now=now(),
        )

    @rule(data=st.data())
    @refusable()
    def lift_a_hold(self, data: st.DataObject) -> None:
        hold = self._one_of(data, PayoutHold.objects.filter(status="active"))
        payouts.lift_hold(
            hold_code=hold.code,
            reason="It was the same family",
            version=hold.version,
            actor=factories.acting(self.staff["finance"], now=now()),
            now=now(),
        )

    @rule()
    def the_last_host_tells_the_provider(self) -> None:
        onboarded(self.sandbox, self.homes[2].host)

    @rule(data=st.data(), tenths=st.integers(1, 11), mishap=st.one_of(st.none(), st.sampled_from(MISHAPS)))
    @refusable(Conflict)
    def claw_back(self, data: st.DataObject, tenths: int, mishap: str | None) -> None:
        payout = self._one_of(data, Payout.objects.filter(status__in=["transferred", "paid"]))
        with self._mishap(mishap, "/v1/transfers/*"):
            claw_back.request(
                payout_code=payout.code,
                amount=Money(max(1, payout.transfer_amount * tenths // 10), payout.transfer_currency),
                reason="The stay was refunded after it was paid out",
                version=payout.version,
                actor=factories.acting(self.staff["finance"], now=now()),
                now=now(),
            )

    @rule()
    def debts_are_recovered(self) -> None:
        claw_back.run(now=now())

    @rule()
    def banks_are_followed(self) -> None:
        follow_bank_payouts.run(now=now())

    @rule(data=st.data())
    def a_hosts_bank_sends_money_back(self, data: st.DataObject) -> None:
        """Within the days in which banks do, or long after them; the desk looks at once, or within a day."""
        paid = BankPayout.objects.filter(status="paid").exclude(account="")
        with suppress(Pointless, ControlError):
            self.sandbox.control("POST", f"/_sim/payouts/{self._one_of(data, paid).provider_id}/fail")
            follow_bank_payouts.run(now=now())

    @rule(mishap=st.one_of(st.none(), st.sampled_from(MISHAPS)))
    def earnings_are_swept(self, mishap: str | None) -> None:
        with self._mishap(mishap, "/v1/payouts"):
            sweep_earnings.run(now=now())

    # Chargebacks ------------------------------------------------------------------------------------------------

    @rule(code=booked, kind=st.sampled_from(["chargeback", "chargeback", "inquiry"]))
    def the_guest_goes_to_their_bank(self, code: str, kind: str) -> None:
        payment = Payment.objects.filter(booking__code=code, status="captured").first()
        if payment is not None:
            with suppress(ControlError):  # there may be nothing left to dispute
                self.sandbox.control("POST", "/_sim/disputes", {"charge": payment.charge_id, "kind": kind})

    @rule(data=st.data(), outcome=st.sampled_from(["won", "lost", "escalate"]))
    def the_issuer_decides(self, data: st.DataObject, outcome: str) -> None:
        listed = self.sandbox.client().v1.disputes.list({"limit": 100}).data
        still = [row for row in listed if row.status not in {"won", "lost", "warning_closed"}]
        if still:
            chosen = still[data.draw(st.integers(0, len(still) - 1), label="which")]
            is_inquiry = chosen.status.startswith(
                "warning"
            )  # only these can become a chargeback; they are closed, not lost
            told: dict[str, Any] = {"status": "warning_closed" if is_inquiry else outcome}
            if outcome == "escalate":
                told = {"escalate": True} if is_inquiry else {"status": "won"}
            with suppress(ControlError):
                self.sandbox.control("POST", f"/_sim/disputes/{chosen.id}", told)

    @rule()
    def chargebacks_are_followed(self) -> None:
        work_chargebacks.run(now=now())

    # Time and the network ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([30, 120, 120, 900, 3_600, 86_400, 4 * 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.sandbox.advance(seconds)

    @rule(weeks=st.integers(1, 4))
    def weeks_pass(self, weeks: int) -> None:
        """While the desk works as it should: stays begin, hosts are paid, banks pay out."""
        for _ in range(weeks):
            self.sandbox.advance(WEEK * 86_400)
            self._jobs_run()

    @rule()
    def holds_run_out(self) -> None:
        keep_time.expire_holds(now=now())

    @rule()
    def stays_begin_and_end(self) -> None:
        keep_time.complete_stays(now=now())

    @rule()
    def lost_answers_are_asked_for(self) -> None:
        keep_time.resolve_indeterminate(now=now())

    @rule()
    def movements_are_imported(self) -> None:
        import_balance_transactions.run(now=now())

    @rule(data=st.data())
    def webhooks_arrive(self, data: st.DataObject) -> None:
        """Some of the provider's events, in any order, some of them twice; the others are lost for now."""
        happened = list(gateway().events(since=now() - timedelta(days=3)))[:12]
        if not happened:
            return
        for pick in data.draw(st.lists(st.integers(0, len(happened) - 1), max_size=6), label="events"):
            payments.receive_event(event=happened[pick], origin="webhook", now=now())
        events.apply_due(now=now())

    @precondition(lambda self: WebhookEvent.objects.exists())
    @rule(data=st.data())
    def an_old_webhook_is_replayed(self, data: st.DataObject) -> None:
        known = list(WebhookEvent.objects.order_by("id").values_list("event_id", flat=True))
        event_id = known[data.draw(st.integers(0, len(known) - 1), label="which")]
        payments.replay_webhook(event_id=event_id, actor=factories.acting(self.staff["finance"], now=now()), now=now())
        events.apply_due(now=now())

    # What holds after every step --------------------------------------------------------------------------------

    @invariant()
    def the_provider_refuses_nothing_but_what_it_must(self) -> None:
        """Neither what a person asked of it nor what a job did, whoever caught it."""
        assert self.refusals == []

    @invariant()
    def the_books_add_up(self) -> None:
        """Every journal to zero per currency, every balance to its lines, every booking's and payout's money as its rows
        say (the ages of clearing accounts apart: here nobody is in a hurry)."""
        assert [finding for finding in health.ledger_check(now=now()) if not finding.ok and not _of_age(finding)] == []

    @invariant()
    def what_was_captured_went_somewhere_named(self) -> None:
        """Captured = refunded + held + earned + taxed + the host's + lost + exchanged, of each booking in each currency:
        the two ends by our rows, the rest as it stands on these accounts and no others."""
        for booking in Booking.objects.order_by("id"):
            in_each: dict[str, Counter[str]] = {booking.charge_currency: Counter()}
            lines = JournalLine.objects.filter(journal__subject=booking.code).select_related("account", "journal")
            for line in lines.exclude(journal__kind__startswith="bt."):
                in_each.setdefault(line.currency, Counter())[line.account.code] += line.amount
                assert line.account.code in EXPLAINED, (booking.code, line.account.code, line.journal.kind)
            stands = in_each[booking.charge_currency]
            captured = [
                *Payment.objects.filter(booking=booking, status="captured").values_list("amount", flat=True),
                *ExtraCharge.objects.filter(booking=booking, status="captured").values_list("amount", flat=True),
            ]
            back = [refund.amount for refund in Refund.objects.filter(payment__booking=booking) if _posted(refund)]
            assert stands[CAPTURED] == sum(captured), booking.code
            assert -stands[REFUNDED] == sum(back), booking.code
            for currency, amounts in in_each.items():
                places = {what: -sum(amounts[code] for code in codes) for what, codes in PLACES.items()}
                left = sum(captured) - sum(back) if currency == booking.charge_currency else 0
                assert left == sum(places.values()), (booking.code, currency, left, places)

    @invariant()
    def a_host_is_never_paid_more_than_their_share(self) -> None:
        for booking in Booking.objects.select_related("payment").filter(payment__status="captured"):
            rows = Payout.objects.filter(booking=booking)
            expected = [row.held for row in rows if row.status not in {"void"}]
            later = ExtraCharge.objects.filter(booking=booking).exclude(status="cancelled")
            assert sum(expected) <= booking.payment.held + sum(row.held for row in later), booking.code
            for row in rows.exclude(released_at=None).filter(transfer_currency=booking.currency):
                assert row.transfer_amount + row.netted == row.held, row.code

    @invariant()
    def a_host_who_cancelled_is_paid_nothing_for_it_any_more(self) -> None:
        for booking in filter(lambda one: booking_queries.cancelled_by_host(booking=one), Booking.objects.all()):
            planned = Payout.objects.filter(booking=booking, weight__gt=0)
            assert not planned.filter(released_at__gt=booking.cancelled_at).exists(), booking.code
            assert sum(row.held for row in planned.filter(released_at=None).exclude(status="void")) == 0, booking.code

    @invariant()
    def the_provider_has_moved_what_its_movements_say(self) -> None:
        """Our mirror and what was not imported yet are together what the provider holds for us, to the cent."""
        known = set(BalanceTransaction.objects.values_list("provider_id", flat=True))
        theirs, before = gateway().balance(), None
        while theirs != before:  # a charge settles a second after it was made, maybe while we are looking
            before = theirs
            movements = list(self.sandbox.client().v1.balance_transactions.list({"limit": 100}).auto_paging_iter())
            theirs = gateway().balance()
        ours = Counter({row.currency: row.debit - row.credit for row in ledger.trial_balance() if row.code == "1100"})
        for row in movements:
            if row.id not in known:
                ours[row.currency.upper()] += row.net
        held = {currency: money.amount for currency, money in theirs.items() if money.amount}
        assert {currency: amount for currency, amount in ours.items() if amount} == held

    @invariant()
    def nothing_is_refunded_or_paid_twice_or_beyond_what_was_paid(self) -> None:
        for payment in Payment.objects.filter(status="captured"):
            counted = [
                refund.amount
                for refund in payment.refunds.all()
                if refund.unclaimed or refund.status not in {"failed", "rejected", "cancelled"}
            ]
            later = ExtraCharge.objects.filter(booking_id=payment.booking_id, status="captured")
            assert sum(counted) <= payment.amount + sum(row.amount for row in later)
        v1 = self.sandbox.client().v1
        for listed, code, ours in (
            (v1.refunds, "refund", dict(Refund.objects.values_list("code", "amount"))),
            (v1.transfers, "payout", dict(Payout.objects.values_list("code", "transfer_amount"))),
            (v1.payouts, "sweep", dict(BankPayout.objects.values_list("code", "amount"))),
        ):
            rows = [row.to_dict() for row in listed.list({"limit": 100}).auto_paging_iter()]
            # Reserved money that is let go is a refund to the provider: nobody's, and it moved nothing.
            made = [row for row in rows if row["metadata"].get(code) or row["balance_transaction"]]
            codes = [row["metadata"][code] for row in made]
            assert len(codes) == len(set(codes))
            assert all(row["amount"] == ours[row["metadata"][code]] for row in made)

    @invariant()
    def a_refund_takes_from_the_parts_what_it_gives_the_card(self) -> None:
        """At the rate of the charge, to a rounding: nobody else gains or pays the difference."""
        for refund in Refund.objects.select_related("payment__booking").order_by("id"):
            of, promised = refund.payment.booking.charge_total, refund.payment.booking.total
            taken = sum(refund.parts.values()) + refund.platform_share
            assert abs(taken * of - refund.amount * promised) <= 2 * (of + promised)

    @invariant()
    def a_booking_stands_only_on_captured_money_and_holds_its_nights(self) -> None:
        for booking in Booking.objects.select_related("hold"):
            paid = Payment.objects.filter(booking=booking).filter(Q(status="captured") | Q(charge_at__isnull=False))
            if booking.status in {"confirmed", "checked_in", "completed"}:
                assert paid.exists() and booking.hold.active and booking.hold.expires_at is None
            if booking.status in {"expired", "cancelled"}:
                assert not booking.hold.active
        occupied = CalendarHold.objects.filter(active=True, kind="booking").count()
        assert occupied == Booking.objects.filter(hold__active=True).count()

    # And in the end ---------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "homes"):
            return
        for model in (Booking, Payment, ExtraCharge, Refund, Payout, PayoutHold, Clawback, BankPayout, Chargeback):
            for status in model.objects.values_list("status", flat=True).distinct():
                self.reached[f"{model.__name__.lower()} {status}"] += 1
        self.sandbox.clear_faults()
        onboarded(self.sandbox, self.homes[2].host)
        self._hosts_name_another_bank()
        self._all_is_decided()
        # The provider forgets a saved failure after a day, banks decide on refunds within weeks and issuers on chargebacks
        # within months; holds end, every stay is released; nobody acts any more.
        for days in (0, 1, 1, *[WEEK] * 17, 1, 1):
            self.sandbox.advance(days * 86_400 + 3_600)
            self._jobs_run()
        self.the_provider_refuses_nothing_but_what_it_must()
        outcome = reconcile(
            scope="all", since=None, until=None, statement=self._the_banks_statement(), actor=WORKER, now=now()
        )
        assert outcome.findings == []
        assert [finding for finding in health.ledger_check(now=now()) if not finding.ok] == []
        theirs = {currency: held.amount for currency, held in gateway().balance().items() if held.amount}
        ours = {row.currency: row.debit - row.credit for row in ledger.trial_balance() if row.code == "1100"}
        assert {currency: amount for currency, amount in ours.items() if amount} == theirs
        self._hosts_hold_what_we_say()
        assert not Refund.objects.filter(status__in=["approved", "submitted", "indeterminate"]).exists()
        assert not Refund.objects.exclude(waits_for="").exists()
        assert not Clawback.objects.filter(status__in=["requested", "submitted", "indeterminate"]).exists()
        left = Payout.objects.exclude(status__in=["transferred", "paid", "reversed", "netted", "void"])
        assert [(row.code, row.status, row.waits_for) for row in left] == []
        assert list(ledger.balances(code="2100", open_only=True)) == []
        self._nobody_is_left_paying_for_nothing()
        self._what_the_policy_gave_is_with_its_guest()
        self._nobody_is_owed_what_their_bank_gave_them()

    def _all_is_decided(self) -> None:
        """What still waits for a second person is rejected, or taken back by whoever asked for it."""
        for refund in Refund.objects.filter(status="requested", waits_for="", method="card").order_by("id"):
            refund.refresh_from_db()
            asked: dict[str, Any] = {"refund_code": refund.code, "version": refund.version, "now": now()}
            finance = factories.acting(self.staff["finance"], now=now())
            if refund.requested_by_id == finance.id and refund.status == "requested":
                refund_booking.cancel(actor=finance, **asked)
            elif refund.status == "requested":  # else decided with another of its request
                refund_booking.reject(reason="Too late", actor=finance, **asked)

    def _jobs_run(self) -> None:
        """What beat does, in the order of a bad day."""
        keep_time.expire_holds(now=now())
        keep_time.complete_stays(now=now())
        keep_time.resolve_indeterminate(now=now())
        decide_request.run(now=now())
        collect_charges.run(now=now())
        events.poll(now=now())
        events.apply_due(now=now())
        import_balance_transactions.run(now=now())
        work_chargebacks.run(now=now())
        release_payouts.run(now=now(), actor=WORKER)
        claw_back.run(now=now())
        follow_bank_payouts.run(now=now())
        sweep_earnings.run(now=now())
        import_balance_transactions.run(now=now())

    def _the_banks_statement(self) -> Iterator[SeenStatementLine]:
        """Whatever the provider has paid to our bank, as that writes it."""
        for row in self.sandbox.client().v1.payouts.list({"limit": 100, "status": "paid"}).auto_paging_iter():
            payout = row.to_dict()
            trace, on = payout["trace_id"]["value"], datetime.fromtimestamp(payout["arrival_date"], UTC).date()
            yield SeenStatementLine(
                account="BE68539007547034",
                reference=trace,
                amount=Money(payout["amount"], payout["currency"].upper()),
                booked_on=on,
                value_on=on,
                trace=trace,
                text="STRIPE PAYOUT",
            )

    def _hosts_name_another_bank(self) -> None:
        """Those whose bank sent money back, and finance has asked them; else it is with the provider still, and a break."""
        for account in HostAccount.objects.exclude(provider_id=None).select_related("host"):
            there: Any = self.sandbox.client().v1.accounts.retrieve(account.provider_id or "")
            if any(bank.status == "errored" for bank in there.external_accounts.data):
                change_bank(self.sandbox, account, "000999999991")
                seen = onboard_host.refresh(host_code=account.host.code, actor=WORKER, now=now())
                finance = factories.acting(self.staff["finance"], now=now())
                payouts.approve_bank(
                    host_code=account.host.code, reason="She says so", version=seen.version, actor=finance, now=now()
                )

    def _hosts_hold_what_we_say(self) -> None:
        """The memo accounts are what the provider holds for each host, what travels to their bank included."""
        client = self.sandbox.client()
        for account in HostAccount.objects.exclude(provider_id=None):
            options: RequestOptions = {"stripe_account": account.provider_id or ""}
            held = client.v1.balance.retrieve(options=options).to_dict()
            sent = [row.to_dict() for row in client.v1.payouts.list({"limit": 100}, options=options).auto_paging_iter()]
            theirs: Counter[str] = Counter()
            for part in (*held["available"], *held["pending"], *(row for row in sent if row["status"] in TRAVELLING)):
                theirs[part["currency"].upper()] += part["amount"]
            ours = {row.currency: int(row.amount) for row in ledger.balances(code="1800", key=account.provider_id)}  # type: ignore[attr-defined]  # annotated there
            assert {c: a for c, a in ours.items() if a} == {c: a for c, a in theirs.items() if a}, account.provider_id

    def _nobody_is_left_paying_for_nothing(self) -> None:
        for booking in Booking.objects.filter(status="expired"):
            payment = Payment.objects.filter(booking=booking, status="captured").first()
            if payment is not None:
                tries = list(Refund.objects.filter(payment=payment, cause="late_capture").order_by("id"))
                given = [row.status == "succeeded" or row.unclaimed for row in tries]
                # The guest has it, once: by the last refund, or because their bank took the very charge back.
                lost = Chargeback.objects.filter(charge_id=payment.charge_id, status="lost").exists()
                assert given.count(True) == (0 if lost and not given[-1] else 1) and (given[-1] or lost)

    def _what_the_policy_gave_is_with_its_guest(self) -> None:
        """Sent, or aside for them, or the very charge was given them by their bank: never with the host."""
        latest: dict[str, Refund] = {}
        for row in Refund.objects.filter(by_rule=True, cause__endswith="_cancellation").order_by("id"):
            latest[row.idempotency_key.partition(":again-")[0]] = row
        for row in latest.values():
            lost = Chargeback.objects.filter(charge_id=payment_queries.charge_of(refund=row), status="lost").exists()
            assert row.status == "succeeded" or row.unclaimed or lost, (row.code, row.status)

    def _nobody_is_owed_what_their_bank_gave_them(self) -> None:
        """What stands aside of a refund that came back, refunds that arrived and what a network took are no more than the
        charge; and where it took nothing, all that came back stands aside."""
        for row in Refund.objects.filter(unclaimed=True).select_related("payment", "charge"):
            charge_id, whole = payment_queries.charge_of(refund=row), (row.charge or row.payment).amount
            taken = Chargeback.objects.filter(charge_id=charge_id, status="lost").values_list("amount", flat=True)
            sent = row.payment.refunds.filter(charge=row.charge_id, status="succeeded").values_list("amount", flat=True)
            standing = ledger.standing(account="2410", key=row.code)
            self.reached[f"came back, {'lost' if taken else 'not lost'}, {'aside' if standing else 'given'}"] += 1
            assert standing or taken, row.code
            assert not standing or sum(taken) + sum(sent) < whole, (row.code, standing, whole, list(taken), list(sent))

    @contextmanager
    def _mishap(self, mishap: str | None, path: str) -> Iterator[None]:
        """What happens to the next calls there, if anything."""
        if mishap:
            self.sandbox.fault(mishap, method="POST", path=path, times=3, seconds=0)
        try:
            yield
        finally:
            self.sandbox.clear_faults()

    def _one_of(self, data: st.DataObject, rows: QuerySet[Row]) -> Row:
        """Any of the rows. Raises Pointless when there is none."""
        found = list(rows.order_by("pk"))
        if not found:
            raise Pointless
        return found[data.draw(st.integers(0, len(found) - 1), label="which")]

    def _hear_refusal(self, refusal: Refusal) -> None:
        if not self._must_be(refusal):
            self.refusals.append(refusal)

    def _must_be(self, refusal: Refusal) -> bool:
        """Whether the desk asked for what it could not know to be impossible: as the provider has it at this moment."""
        v1 = self.sandbox.client().v1
        match refusal.path.split("/")[2:], refusal.code:
            case ["payment_intents", id, "cancel" | "capture" | "confirm"], "payment_intent_unexpected_state":
                return v1.payment_intents.retrieve(id).status in {"succeeded", "canceled", "requires_capture"}
            case ["refunds"], "charge_disputed":  # nobody has told us yet
                disputes = v1.disputes.list({"charge": refusal.asked["charge"], "limit": 100}).data
                return any(not dispute.is_charge_refundable for dispute in disputes)
            case ["transfers"], "insufficient_capabilities_for_transfer":  # nor that its bank sent money back
                account: Any = v1.accounts.retrieve(refusal.asked["destination"])
                return bool(account.capabilities.transfers == "inactive")
            case ["transfers", id, "reversals"], "balance_insufficient":
                sent: Any = v1.transfers.retrieve(id)
                options: RequestOptions = {"stripe_account": sent.destination}
                held = v1.balance.retrieve(options=options).available
                return int(refusal.asked["amount"]) > sum(row.amount for row in held if row.currency == sent.currency)
        return False

    def _guest(self, code: str) -> Any:
        return factories.acting(Booking.objects.get(code=code).guest, now=now())


def _of_age(finding: Any) -> bool:
    return bool(finding.check == "clearing")


def _posted(refund: Refund) -> bool:
    """Whether our side of a refund stands in the ledger: approved, and neither reversed since (refused, or taken back for a
    chargeback) nor set aside for the guest (2410)."""
    refused = refund.status == "failed" and (not refund.unclaimed or refund.provider_id is None)
    return refund.approved_at is not None and not refused and refund.status != "cancelled"


def walk(sandbox: RunningSandbox, *, examples: int, steps: int, shrink: bool = False) -> None:
    """Shrinking a walk that fails takes minutes of walking it again; the ordinary suite prints it as it was."""
    machine = type("MoneyLifeHere", (MoneyLife,), {"sandbox": sandbox})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeskClient, "on_refusal", DeskClient.on_refusal)  # each walk hears for itself
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[phase for phase in Phase if shrink or phase not in {Phase.shrink, Phase.explain}],
                print_blob=True,
            ),
        )


def test_a_few_walks(sandbox: RunningSandbox) -> None:
    walk(sandbox, examples=4, steps=25)


@pytest.mark.long
def test_many_long_walks(sandbox: RunningSandbox) -> None:
    walk(sandbox, examples=200, steps=60, shrink=True)
    print("\n".join(f"{times:6} {what}" for what, times in sorted(MoneyLife.reached.items())))
    # The walks went where money is in danger, not only round the block.
    assert {
        "booking confirmed",
        "booking cancelled",
        "booking expired",
        "booking declined",
        "extracharge captured",
        "payment requires_action",
        "refund requested",
        "refund succeeded",
        "refund indeterminate",
        "refund rejected",
        "payout transferred",
        "payout paid",
        "payouthold active",
        "clawback succeeded",
        "bankpayout paid",
        "chargeback needs_response",
        "chargeback won",
        "chargeback lost",
    } <= set(MoneyLife.reached)
