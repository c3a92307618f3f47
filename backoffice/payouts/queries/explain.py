"""Why a payout is what it is, and why it waits: one answer for every door, made of the postings behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Q

from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.payments import queries as payments
from backoffice.payouts.models import Payout
from backoffice.payouts.policies.accounts import Waiting
from backoffice.payouts.policies.bank_payouts import sent_back
from backoffice.payouts.policies.release import UNANSWERED
from backoffice.payouts.queries.payouts import LOST_AFTER, payouts_of_booking, share_of, waits, why_not_all
from backoffice.payouts.queries.payouts import payout as payout_of
from backoffice.payouts.states import SENT, UNRELEASED

_HELD: Final = "2100"
_HOST_FEE: Final = "2111"
_LABELS: Final[Mapping[str, str]] = {
    "refund": "Refunded to the guest",
    "reversal": "A refund that was not carried out",
    "release": "Sent with another payout of this stay",
    "dispute-lost": "Chargeback by the guest's bank",
}

_PAYABLE: Final[Mapping[str, str]] = {
    "damage-released": "Damage, paid for you",
    "host-credit": "Paid by you for a debt that is none after all",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One step towards the amount. `journal_id` is the posting that says so (None: it has not happened yet), `reference`
    what it is about: a charge, a refund, another payout, a transfer."""

    label: str
    amount: Money
    journal_id: int | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One line of a posting; debit positive."""

    account: str
    name: str
    key: str
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A journal that moved this payout's money."""

    journal_id: int
    kind: str
    reference: str
    effective_at: datetime
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A payout to the cent. The `lines` add up to `share` (the booking's currency); what it became in the currency it is
    sent in (`settled`, by `rate` where it had to be converted), less `netted`, is `amount`. Before the release the last three
    are what is expected by today's facts; they are None where only the release day's rate can tell.

    `waits` says why nothing is sent, or not all, and until when; None when nothing keeps it."""

    payout: str
    booking: str
    host: str
    status: str
    due_at: datetime
    policy: str
    waits: Waiting | None
    lines: tuple[Line, ...]
    share: Money
    rate: Mapping[str, str] | None
    settled: Money | None
    netted: Money | None
    amount: Money | None
    transfer: str
    reversed: Money | None
    postings: tuple[Posting, ...]

    @property
    def adds_up(self) -> bool:
        """Whether the lines come to the share, and the share to what is sent."""
        if Money.sum((line.amount for line in self.lines), self.share.currency) != self.share:
            return False
        if self.settled is None or self.netted is None or self.amount is None:
            return True
        same = self.settled.currency != self.share.currency or self.settled == self.share
        return same and self.settled - self.netted == self.amount


def explain(*, code: str, now: datetime, actor: Actor | None = None) -> Explanation:
    """Everything that makes a payout what it is. For a host only their own. Raises NotFound."""
    try:
        return _explained(payout_of(code=code, actor=actor), now)
    except StaleVersion:  # it was released while we looked: it is told as it is now
        return _explained(payout_of(code=code, actor=actor), now)


def _explained(row: Payout, now: datetime) -> Explanation:
    is_open = row.status in UNRELEASED
    journals = ledger.trace(row.booking.code)
    lines, share = _lines(row, journals, now, is_open)
    reason = None
    if is_open:
        reason = why_not_all(payout=row, part=share_of(payout=row, now=now), now=now)
    elif row.status == "failed":
        reason = waits(payout=row, now=now)
    elif row.status == "in_transfer" and row.submitted_at is not None and now - row.submitted_at > LOST_AFTER:
        reason = Waiting(sentence=UNANSWERED)
    elif row.status in SENT and row.bank_payout is not None and row.bank_payout.status == "failed":
        reason = sent_back(failure=row.bank_payout.failure)
    settled, netted, amount = _sent(row, share, is_open and row.weight > 0)
    return Explanation(
        payout=row.code,
        booking=row.booking.code,
        host=row.host.code,
        status=row.status,
        due_at=row.due_at,
        policy=row.policy,
        waits=reason,
        lines=tuple(lines),
        share=share,
        rate=row.rate,
        settled=settled,
        netted=netted,
        amount=amount,
        transfer=row.transfer_id or "",
        reversed=Money(row.reversed_amount, row.transfer_currency) if row.transfer_currency else None,
        postings=_postings(row, journals),
    )


def explain_booking(*, booking: Booking, now: datetime) -> list[Explanation]:
    """Every payout of a booking in its order."""
    return [explain(code=row.code, now=now) for row in payouts_of_booking(booking_id=booking.pk)]


# Private --------------------------------------------------------------------------------------------------------------


def _lines(row: Payout, journals: list[Journal], now: datetime, is_open: bool) -> tuple[list[Line], Money]:
    if row.weight == 0:
        return _payable_lines(row, journals)
    return _open_lines(row, journals, now) if is_open else _released_lines(row, journals)


def _open_lines(row: Payout, journals: Iterable[Journal], now: datetime) -> tuple[list[Line], Money]:
    """Before the release: what is held, what instalments will bring, what other releases will take, what a hold keeps."""
    currency = row.currency
    lines = _held_lines(row, journals)
    held = Money.sum((line.amount for line in lines), currency)
    if not lines:
        held = _promised(row, lines)
    else:
        to_come = payments.parts_to_come(booking=row.booking).held
        held = held + to_come
        if to_come:
            lines.append(Line(label="Instalments that the guest has yet to pay", amount=to_come))
    part = share_of(payout=row, now=now)
    # From its day on it is what a release would take; until then what is expected of all that is still to come.
    share = part.released.held + part.kept.held if now >= row.due_at else Money(row.held, currency)
    others = held - share
    if others:
        lines.append(Line(label="In later payouts of this stay", amount=-others))
    if part.held_back:
        kept = min(part.kept.held, share)
        lines.append(Line(label="Held back for now", amount=-kept))
        share = share - kept
    return lines, share


def _payable_lines(row: Payout, journals: Iterable[Journal]) -> tuple[list[Line], Money]:
    """What the guest paid for damage, or we did for them, and what we owe back: payable as it was, in its own currency."""
    about = {row.policy.rpartition(" ")[2], row.code}
    amounts = [
        _line(journal, _PAYABLE[journal.kind], -line.money)
        for journal in journals
        for line in journal.lines.all()
        if journal.kind in _PAYABLE and journal.reference in about and line.account.code == "2200"
    ]
    return amounts, Money.sum(
        (line.amount for line in amounts), amounts[0].amount.currency if amounts else row.currency
    )


def _promised(row: Payout, lines: list[Line]) -> Money:
    """Nothing is paid yet: what the booking promises."""
    booking, currency = row.booking, row.currency
    lines += [
        Line(label="Price of the stay", amount=Money(booking.host_price, currency), reference=booking.code),
        Line(label="Host fee", amount=Money(-booking.host_fee, currency), reference=booking.code),
    ]
    return Money(booking.host_price - booking.host_fee, currency)


def _released_lines(row: Payout, journals: Iterable[Journal]) -> tuple[list[Line], Money]:
    """After the release: what was held until then, less what it left for others."""
    rows = list(journals)
    own = next((journal.pk for journal in rows if journal.idempotency_key == f"release:{row.code}"), None)
    share = Money(row.held, row.currency)
    if own is None:  # void: nothing was left of it
        before = _held_lines(row, rows)
        rest = Money.sum((line.amount for line in before), row.currency) - share
        return ([*before, Line(label="In other payouts of this stay", amount=-rest)] if rest else before), share
    lines = _held_lines(row, [journal for journal in rows if journal.pk < own])
    left = Money.sum((line.amount for line in lines), row.currency) - share
    if left:
        lines.append(Line(label="Left for later payouts of this stay", amount=-left, journal_id=own))
    return lines, share


def _held_lines(row: Payout, journals: Iterable[Journal]) -> list[Line]:
    """What made the host's share of the booking what it is, one line a posting; a capture shows its fee apart."""
    lines: list[Line] = []
    for journal in journals:
        share = _moved(journal, _HELD, row)
        if not share:
            continue
        if journal.kind == "capture":
            fee = _moved(journal, _HOST_FEE, row)
            lines.append(_line(journal, "Price of the stay, paid by the guest", share + fee))
            if fee:
                lines.append(_line(journal, "Host fee", -fee))
        else:
            label = _LABELS.get(journal.kind, journal.kind.replace("_", " ").replace(".", " ").capitalize())
            lines.append(_line(journal, label, share))
    return lines


def _moved(journal: Journal, account: str, row: Payout) -> Money:
    """What a journal gave to an account of the booking, credit positive."""
    amounts = (
        -line.amount
        for line in journal.lines.all()
        if (line.account.code, line.account.key, line.currency) == (account, row.booking.code, row.currency)
    )
    return Money(sum(amounts), row.currency)


def _line(journal: Journal, label: str, amount: Money) -> Line:
    return Line(label=label, amount=amount, journal_id=journal.pk, reference=journal.reference)


def _sent(row: Payout, share: Money, is_open: bool) -> tuple[Money | None, Money | None, Money | None]:
    """What the share became, what was kept of it for a debt, and what was sent; of an open payout what is expected."""
    if not is_open and row.transfer_currency:
        sent, netted = Money(row.transfer_amount, row.transfer_currency), Money(row.netted, row.transfer_currency)
        return sent + netted, netted, sent
    if not is_open:
        return share, Money.zero(share.currency), share
    payment = payments.payment_of(booking=row.booking)
    if payment is None or payments.settlement_currency(payment=payment) != share.currency:
        return None, None, None
    netted = max(min(_owed_by_then(row, share.currency), share), Money.zero(share.currency))
    return share, netted, share - netted


def _owed_by_then(row: Payout, currency: str) -> Money:
    """What the host owes, less what the payouts that are due before this one will have kept of it."""
    owed = Money(ledger.balance(account="1310", key=row.host.code, currency=currency), currency)
    if owed.amount <= 0:
        return owed
    before = Q(due_at__lt=row.due_at) | Q(due_at=row.due_at, id__lt=row.pk)
    sooner = Payout.objects.filter(before, host_id=row.host_id, status__in=UNRELEASED)
    return owed - Money.sum((one.share for one in sooner if one.share.currency == currency), currency)


def _postings(row: Payout, journals: Iterable[Journal]) -> tuple[Posting, ...]:
    own = [journal for journal in journals if row.code in {journal.reference, *journal.idempotency_key.split(":")}]
    seen = {journal.pk for journal in own}
    if row.transfer_id:
        moved = ledger.journals().filter(reference__in=_movements(row)).order_by("id")
        own += [journal for journal in moved if journal.pk not in seen]
    return tuple(
        Posting(
            journal_id=journal.pk,
            kind=journal.kind,
            reference=journal.reference,
            effective_at=journal.effective_at,
            legs=tuple(
                Leg(
                    account=line.account.code,
                    name=ledger.chart()[line.account.code].name,
                    key=line.account.key,
                    amount=line.money,
                )
                for line in journal.lines.all()
            ),
        )
        for journal in own
    )


def _movements(row: Payout) -> list[str]:
    rows = payments.balance_transactions().filter(source_id=row.transfer_id)
    return list(rows.values_list("provider_id", flat=True))
