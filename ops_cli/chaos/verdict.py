"""What must hold once it is quiet again: nothing lost, nothing doubled, every cent explained, the log whole."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from backoffice.bookings import queries as bookings
from backoffice.core import clock
from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.notifications import queries as notifications
from backoffice.payments import queries as payments
from backoffice.payouts import queries as payouts
from ops_cli.chaos.desk import ThrowawayDesk
from ops_cli.chaos.people import PAUSE, wait_for
from ops_cli.chaos.provider import Provider
from ops_cli.chaos.stories import Told
from ops_cli.journey import Answer
from ops_cli.output import Exit

# Wall-clock seconds that a desk may take after each step of time to work off what was left, as long as it gets less or other.
WORKED_OFF_SECONDS: Final = 600.0
QUIET_SECONDS: Final = 120.0  # how long it may stand still in the end
STILL_SECONDS: Final = 10.0  # and on the way, before the next step of time
ALL: Final = 1_000_000  # what waits is counted, not listed: beyond a limit a desk that works would seem to stand still
STANDS: Final = ("confirmed", "checked_in", "completed", "no_show")
SHOWN: Final = 5
BANK_ACCOUNT: Final = "BE68539007547034"  # of the platform, as its bank writes it


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, how many of it were looked at, and what is wrong."""

    name: str
    looked_at: int
    wrong: Sequence[str]

    @property
    def ok(self) -> bool:
        return not self.wrong

    def row(self) -> dict[str, Any]:
        more = f" … and {len(self.wrong) - SHOWN} more" if len(self.wrong) > SHOWN else ""
        return {
            "check": self.name,
            "ok": self.ok,
            "looked_at": self.looked_at,
            "wrong": len(self.wrong),
            "detail": "; ".join(self.wrong[:SHOWN]) + more,
        }


def waiting() -> dict[str, int]:
    """What the desk has still to do by itself, by kind; empty when it is quiet."""
    clock.forget_offset()
    now = clock.now()
    left = {
        "payments whose end is not known": len(payments.unsettled_attempts(older_than=now, limit=ALL)),
        "cards to be charged": len(payments.payments_to_charge(now=now, limit=ALL))
        + len(payments.charges_due(now=now, limit=ALL)),
        "refunds to be sent": len(payments.refunds_to_send(older_than=now, limit=ALL)),
        "events to be applied": len(payments.events_due(now=now, limit=ALL)),
        "messages to go out": notifications.due(now=now).count(),
        "holds that ran out": len(bookings.expired_unpaid(now=now, limit=ALL)),
        "stays to begin": len(bookings.due_to_begin(now=now, limit=ALL)),
        "stays to end": len(bookings.due_to_end(now=now, limit=ALL)),
    }
    return {what: number for what, number in left.items() if number}


def settle_down(desk: ThrowawayDesk, provider: Provider, *, steps: Sequence[str]) -> Check:
    """Let the desk work off what was left, step by step of time. What it has not managed in the end is a finding: on the
    way a provider that saved a failure keeps giving it for a day, and a chargeback keeps a refund waiting, so that only
    time helps: it goes on as soon as nothing moves any more."""
    left: Mapping[str, int] = {}
    for number, step in enumerate(steps, start=1):
        desk.ops("sandbox", "clock", "advance", step)  # which runs every job at once
        provider.control("POST", "webhooks/flush", {"timeout": 20})
        left = _worked_off(still=QUIET_SECONDS if number == len(steps) else STILL_SECONDS)
    wrong = ["in the end there are still " + ", ".join(f"{many} {what}" for what, many in left.items())] if left else []
    return Check("the jobs come to rest", len(steps), wrong)


def _worked_off(*, still: float) -> Mapping[str, int]:
    """Wait until the desk has nothing to do; what is left when that has not changed for so long."""
    last, since, began = waiting(), time.monotonic(), time.monotonic()
    while last and time.monotonic() - since < still and time.monotonic() - began < WORKED_OFF_SECONDS:
        time.sleep(PAUSE)
        left = waiting()
        if left != last:
            last, since = left, time.monotonic()
    return last


def checks(desk: ThrowawayDesk, provider: Provider, told: Sequence[Told]) -> Iterator[Check]:
    """Everything that must hold now, asked one after the other."""
    yield nothing_lost(told)
    yield charges(provider)
    yield _one_to_one("refunds", provider.listed("refunds"), _our_refunds(), lambda row: True, "refund")
    yield _one_to_one("transfers", provider.listed("transfers"), _our_transfers(), lambda row: True, "payout")
    yield sweeps(provider)
    yield _hosts_are_paid()
    yield _no_night_sold_twice()
    yield nothing_left()
    yield _by_command("the bank has what was swept to it", lambda: _bank(desk, provider))
    yield _by_command("provider, bank and ledger agree", lambda: _reconciled(desk))
    yield _by_command("the books are sound", lambda: _found(desk.ops("ledger", "check")))
    yield _by_command("the log of who did what is whole", lambda: _found(desk.ops("audit", "verify"), of="entries"))


def nothing_lost(told: Sequence[Told]) -> Check:
    """Whatever was answered with 2xx is there, and as it was answered."""
    clock.forget_offset()
    wrong, now = [], clock.now()
    for one in told:
        try:
            booking = bookings.booking(code=one.booking)
        except NotFound:
            wrong.append(f"{one.booking} was answered and is gone")
            continue
        payment = payments.payment_of(booking=booking)
        if one.paid and (payment is None or payment.status != "captured"):
            wrong.append(f"{one.booking} was paid and is not")
        if one.cancelled and booking.status != "cancelled":
            wrong.append(f"{one.booking} was cancelled and is {booking.status}")
        if one.refunded and payment is not None:
            amounts = list(payment.refunds.filter(cause="service_issue").values_list("amount", flat=True))
            if amounts != [one.refunded.amount]:
                wrong.append(f"{one.booking}: {one.refunded} was refunded once, and there are {amounts}")
        if one.disputed and payments.chargebacks().filter(payment=payment).count() != 1:
            wrong.append(f"{one.booking} was disputed once, and is not here as one chargeback")
        paid = payment is not None and (payment.status == "captured" or _to_be_charged(payment, now))
        if booking.status in STANDS and not paid:
            wrong.append(f"{one.booking} is {booking.status} without having been paid")
    return Check("nothing that was answered is lost", len(told), wrong)


def _to_be_charged(payment: Any, now: datetime) -> bool:
    """A stay that is far ahead stands by a card that is kept: until the day on which it is charged, and where its bank wants
    to see the guest, until the last date on which they can pay."""
    until = payment.next_try_at or payment.pay_by
    return payment.status == "requires_payment" and bool(payment.saved_method) and until is not None and until > now


Amounts = Mapping[str, tuple[int, str]]


def charges(provider: Provider) -> Check:
    """The provider has taken each payment once, and no other."""
    return _one_to_one("charges", provider.listed("charges"), _our_charges(), lambda row: row["paid"], "payment")


def sweeps(provider: Provider) -> Check:
    """The provider has sent our bank each sweep once, and no other."""
    return _one_to_one("sweeps", provider.listed("payouts"), _our_sweeps(), lambda row: True, "sweep")


def _our_charges() -> Amounts:
    return {row.code: (row.amount, row.currency) for row in payments.payments().filter(status="captured")}


def _our_refunds() -> Amounts:
    rows = payments.refunds().filter(provider_id__isnull=False)
    return {row.code: (row.amount, row.currency) for row in rows}


def _our_transfers() -> Amounts:
    rows = payouts.payouts().filter(transfer_id__isnull=False)
    return {row.code: (row.transfer_amount, row.transfer_currency) for row in rows}


def _our_sweeps() -> Amounts:
    rows = payouts.sweeps().filter(provider_id__isnull=False)
    return {row.code: (row.amount, row.currency) for row in rows}


def _hosts_are_paid() -> Check:
    """Every stay that stands has been paid out, unless somebody or something keeps it back and says so."""
    clock.forget_offset()
    now = clock.now()
    stuck = payouts.payouts().filter(status__in=["in_transfer", "failed"])
    wrong = [f"payout {row.code} of {row.booking.code} is {row.status}: {row.failure or 'no answer'}" for row in stuck]
    wrong += [f"booking {code} has no payout" for code in payouts.unscheduled()]
    wrong += [f"payout {one.payout} is due and not sent" for one in payouts.plan(now=now) if one.waits is None]
    return Check("hosts are paid, or know why not", payouts.payouts().count(), wrong)


def _one_to_one(
    kind: str,
    theirs: Iterable[Mapping[str, Any]],
    ours: Amounts,
    counts: Callable[[Mapping[str, Any]], bool],
    reference: str,
) -> Check:
    """The provider carried out each of ours once, by our code in its metadata, and nothing else."""
    rows = [row for row in theirs if counts(row)]
    seen = Counter(row["metadata"].get(reference, f"{row['id']} without a code of ours") for row in rows)
    amounts = {row["metadata"].get(reference): (row["amount"], row["currency"].upper()) for row in rows}
    wrong = [f"{code} was carried out {times} times" for code, times in seen.items() if times > 1]
    wrong += [f"{code} is at the provider only" for code in seen if code not in ours]
    wrong += [f"{code} is here only" for code in ours if code not in seen]
    wrong += [
        f"{code}: {amounts[code]} there, {ours[code]} here"
        for code in ours
        if amounts.get(code, ours[code]) != ours[code]
    ]
    return Check(f"{kind} at the provider and here are the same, once", len(rows), wrong)


def _no_night_sold_twice() -> Check:
    rows = bookings.bookings().filter(status__in=STANDS).order_by("listing_id", "check_in", "id")
    stays = list(rows.values_list("listing_id", "check_in", "check_out", "code"))
    wrong = [
        f"{one[3]} and {other[3]} share a night"
        for one, other in pairwise(stays)
        if one[0] == other[0] and other[1] < one[2]
    ]
    return Check("no night is sold twice", len(stays), wrong)


def nothing_left() -> Check:
    """Nothing hangs half-way, and nothing has been given up."""
    _, _, dead = payments.inbox_backlog(now=clock.now())
    refunds = payments.refunds().filter(status__in=["submitted", "indeterminate", "approved"])
    wrong = [f"{number} {what}" for what, number in waiting().items()]
    wrong += [f"refund {row.code} is {row.status}" for row in refunds]
    wrong += [f"payment {row.code} is {row.status}" for row in payments.payments().filter(status="processing")]
    wrong += [f"{dead} events were given up"] if dead else []
    wrong += [f"message {row.topic} was given up: {row.error}" for row in notifications.messages(status="dead")]
    return Check("nothing is left half-way", payments.payments().count(), wrong)


def _by_command(name: str, ask: Callable[[], tuple[int, list[str]]]) -> Check:
    looked_at, wrong = ask()
    return Check(name, looked_at, wrong)


def _bank(desk: ThrowawayDesk, provider: Provider) -> tuple[int, list[str]]:
    """The platform's bank sends its statement: whatever the provider has paid it, and nothing else."""
    arrived = [row for row in provider.listed("payouts") if row["status"] == "paid"]
    statement = desk.home / "statement.csv"
    with statement.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["account", "reference", "amount", "currency", "booked_on", "trace", "text"])
        lines.writerows(_statement_line(row) for row in arrived)
    return len(arrived), _breaks(desk.ops("reconcile", "bank", "--file", str(statement)))


def _statement_line(row: Mapping[str, Any]) -> Sequence[str]:
    amount, on = Money(row["amount"], row["currency"].upper()), datetime.fromtimestamp(row["arrival_date"], UTC).date()
    trace = row["trace_id"]["value"]
    return (BANK_ACCOUNT, trace, str(amount.decimal()), amount.currency, str(on), trace, "STRIPE PAYOUT")


def _reconciled(desk: ThrowawayDesk) -> tuple[int, list[str]]:
    """What is merely young at the provider is waited for."""

    def not_young() -> Answer | None:
        answer = desk.ops("reconcile", "all")
        return None if any(row["class"] == "late" and row["leg"] == "line" for row in answer.data) else answer

    answer = wait_for("the newest movements", not_young, seconds=QUIET_SECONDS)
    assert answer is not None
    return int(answer.summary["lines"]), _breaks(answer)


def _breaks(answer: Answer) -> list[str]:
    return [
        f"{row['class']} of {row['difference']} {row['currency']} on {row['key']}"
        for row in answer.data
        if row["class"] != "late"
    ]


def _found(answer: Answer, *, of: str = "") -> tuple[int, list[str]]:
    """What a command that proves something has looked at, and what it found."""
    looked_at = int(answer.summary[of]) if of else len(answer.data)
    if answer.code == Exit.DONE:
        return looked_at, []
    bad = [row for row in answer.data if not row.get("ok")]
    return looked_at, [str(dict(row)) for row in bad] or [str(dict(answer.summary))]
