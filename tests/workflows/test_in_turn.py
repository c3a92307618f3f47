"""What is asked again until it is answered is asked in turn: those who stay unanswered keep nobody behind them waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from backoffice.core.errors import UpstreamUnavailable
from backoffice.jobs import operations as jobs
from backoffice.jobs.models import Cursor
from backoffice.payments import queries as payments
from backoffice.payments.models import ExtraCharge, PaymentAttempt
from backoffice.payouts import queries as payouts
from backoffice.workflows import charge_later, collect_charges, decide_request, keep_time, refund_booking
from tests.factories import NOW
from tests.payments.test_queries import payment, refund

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(days=1)
MANY = 5


def charge(status: str, **fields: Any) -> str:
    row = ExtraCharge.objects.create(
        booking=payment().booking, kind="damage", status=status, amount=1, currency="EUR", due_at=NOW, created_at=NOW, **fields
    )  # fmt: skip
    return row.code


def attempt() -> int:
    row = PaymentAttempt.objects.create(
        payment=payment(status="processing"), number=1, idempotency_key=f"k{PaymentAttempt.objects.count()}",
        payment_method="pm", status="indeterminate", created_at=NOW,
    )  # fmt: skip
    return row.pk


LANES: dict[str, tuple[Callable[[], Any], ModuleType, str, Callable[[], int]]] = {
    "charges whose answer was lost": (
        lambda: charge("indeterminate", submitted_at=NOW),
        collect_charges, "resolve", lambda: collect_charges.resolve_unanswered(now=LATER),
    ),
    "charges that are due": (
        lambda: charge("scheduled", next_try_at=NOW),
        collect_charges, "charge", lambda: collect_charges.collect_due(now=LATER),
    ),
    "captures that were asked for": (
        lambda: payment(status="authorised", capture_asked_at=NOW).code,
        decide_request, "take_again", lambda: decide_request.sweep(now=LATER),
    ),
    "tries whose answer was lost": (attempt, keep_time, "resolve_attempt", lambda: keep_time.resolve_indeterminate(now=LATER)),
    "payments the provider works on": (
        lambda: payment(status="requires_action", created_at=LATER - timedelta(minutes=5)).pk,
        keep_time, "_ask", lambda: keep_time.resolve_indeterminate(now=LATER),
    ),
    "refunds to be sent": (
        lambda: refund(payment(), 1, "indeterminate").code,
        refund_booking, "send", lambda: keep_time.resolve_indeterminate(now=LATER),
    ),
    "refunds on their way": (
        lambda: refund(payment(), 1, "submitted", submitted_at=NOW).code,
        refund_booking, "ask", lambda: keep_time.resolve_indeterminate(now=LATER),
    ),
}  # fmt: skip


@pytest.mark.parametrize("lane", LANES)
def test_nobody_waits_for_ever_behind_those_that_stay_unanswered(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, room, act, sweep = LANES[lane]
    asked: Counter[Any] = Counter()

    def unanswered(*given: Any, **named: Any) -> Any:
        asked[given[0] if given else next(value for name, value in named.items() if name.endswith(("code", "id")))] += 1
        raise UpstreamUnavailable("no answer", part="provider")

    monkeypatch.setattr(room, act, unanswered)
    monkeypatch.setattr(jobs, "AT_A_TIME", 2)
    rows = [make() for _ in range(MANY)]
    for run in range(1, MANY + 1):
        sweep()
        assert asked.total() == 2 * run, "so much and no more in one run"
        if run == 2:
            rows.append(make())  # who comes meanwhile takes nobody's turn
    assert set(asked) == set(rows) and max(asked.values()) <= 2


def test_few_are_all_asked_in_every_run_and_nothing_is_written() -> None:
    codes = [charge("indeterminate", submitted_at=NOW) for _ in range(3)]
    ask = partial(payments.charges_unanswered, older_than=LATER)
    assert jobs.turn(ask=ask, now=NOW) == jobs.turn(ask=ask, now=NOW) == codes
    assert not Cursor.objects.exists()


def test_a_turn_goes_round_though_where_it_ended_is_settled_meanwhile() -> None:
    codes = [charge("indeterminate", submitted_at=NOW) for _ in range(3)]
    ask = partial(payments.charges_unanswered, older_than=LATER)
    assert jobs.turn(ask=ask, now=NOW, size=2) == codes[:2]
    ExtraCharge.objects.filter(code=codes[1]).update(status="failed")
    assert jobs.turn(ask=ask, now=NOW, size=2) == [codes[2], codes[0]]


def test_the_most_pressing_come_first_while_there_are_few() -> None:
    late, soon = charge("scheduled", next_try_at=NOW), charge("scheduled", next_try_at=NOW - timedelta(hours=1))
    assert payments.charges_due(now=LATER) == [soon, late]


ASKED = [
    partial(payments.authorisations_to_release, older_than=LATER),
    partial(payments.authorisations_lapsing, now=LATER),
    partial(payments.payments_to_charge, now=LATER),
    partial(payments.payments_unpaid, now=LATER),
    partial(payments.charges_unpaid, now=LATER),
    partial(payments.unanswered_claims, older_than=LATER),
    partial(payments.chargebacks_to_ask_about, older_than=LATER),
    partial(payments.unsettled_chargebacks),
    partial(payouts.holds_expired, now=LATER),
    partial(payouts.unscheduled),
    partial(payouts.damages_to_pay),
    partial(payouts.transfers_lost, now=LATER),
    partial(payouts.accounts_to_ask_about, now=LATER, older_than=timedelta(0)),
    partial(payouts.clawbacks_to_send, older_than=LATER),
]


@pytest.mark.parametrize("ask", ASKED, ids=lambda ask: ask.func.__name__)
def test_each_can_be_asked_from_where_the_last_turn_ended(ask: partial[list[Any]]) -> None:
    for after in (None, "", 0 if ask.func is payouts.accounts_to_ask_about else "gone"):
        assert ask(after=after, limit=2) == []


def test_saved_cards_are_charged_in_turn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    def unanswered(*, payment_code: str, **_: Any) -> Any:
        asked[payment_code] += 1
        raise UpstreamUnavailable("no answer", part="provider")

    monkeypatch.setattr(charge_later, "charge", unanswered)
    monkeypatch.setattr(jobs, "AT_A_TIME", 2)
    rows = [payment(status="requires_payment", next_try_at=NOW) for _ in range(3)]
    for row in rows:
        row.booking.status = "confirmed"
        row.booking.save(update_fields=["status"])
    for _ in range(3):
        charge_later.charge_due(now=LATER)
    assert asked == {row.code: 2 for row in rows}
