"""Posting rules for our own events: facts in, lines of one journal out (the worked postings of the chart of accounts).

Debit is positive. Every fact the provider also reports is posted against a clearing account under its key; the balance
transaction (`provider.py`) releases it, so whatever did not happen, happened twice or differs is left standing there.
Parts are in the listing's currency; where the charge was in another, `3900` under the charge's id stands between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from backoffice.core.money import Money
from backoffice.ledger.policies import Line
from backoffice.payments.policies.parts import Parts, PostingKeys
from backoffice.rulebook.policies import ExchangeRate, TimingRules

Lines = tuple[Line, ...]
LossBearer = Literal["platform", "host"]

BANK: Final = "1010"
CHARGE: Final = "1150"
BANK_PAYOUT: Final = "1160"
REVERSAL: Final = "1170"
GUEST_RECEIVABLE: Final = "1300"
HOST_RECEIVABLE: Final = "1310"
DISPUTE: Final = "1320"
CONNECTED_BALANCE: Final = "1800"
HELD: Final = "2100"
DEFERRED_GUEST_FEE: Final = "2110"
DEFERRED_HOST_FEE: Final = "2111"
DAMAGE_HELD: Final = "2120"
HOST_PAYABLE: Final = "2200"
TRANSFER: Final = "2210"
OCCUPANCY_TAX: Final = "2300"
VAT: Final = "2310"
REFUND: Final = "2400"
UNCLAIMED: Final = "2410"
CONNECTED_CONTRA: Final = "2800"
FX_POSITION: Final = "3900"
GUEST_FEE_REVENUE: Final = "4100"
HOST_FEE_REVENUE: Final = "4110"
CANCELLATION_FEE: Final = "4200"
FX_GAIN: Final = "4300"
DISPUTE_LOSS: Final = "5200"
HOST_PROTECTION: Final = "5210"
BAD_DEBT: Final = "5220"
FX_LOSS: Final = "5300"
SUSPENSE: Final = "9900"


def journal(*lines: Line) -> Lines:
    """The lines of one journal in the order given: those of one account, key and currency as one, zeros left out."""
    sums: dict[tuple[str, str, str], int] = {}
    for line in lines:
        place = (line.account, line.key, line.currency)
        sums[place] = sums.get(place, 0) + line.amount
    return tuple(Line(account, key, amount, currency) for (account, key, currency), amount in sums.items() if amount)


def debit(account: str, key: str, money: Money) -> Line:
    return Line.of(account, key, money)


def credit(account: str, key: str, money: Money) -> Line:
    return Line.of(account, key, -money)


def exchange(charge: str, given: Money, taken: Money) -> Lines:
    """Between two currencies: what is given up is debited to the position, what is taken on is credited to it. Of one
    currency the two must be equal, and nothing stands between.

    Raises ValueError when they are not: the journal would not balance."""
    if given.currency != taken.currency:
        return (debit(FX_POSITION, charge, given), credit(FX_POSITION, charge, taken))
    if given != taken:
        raise ValueError(f"{given} is not {taken}: the parts do not add up to the amount")
    return ()


def _deferred(parts: Parts, keys: PostingKeys) -> Lines:
    """The parts as they stand between capture and release, credited."""
    return (
        credit(HELD, keys.booking, parts.held),
        credit(DEFERRED_GUEST_FEE, keys.booking, parts.guest_fee),
        credit(DEFERRED_HOST_FEE, keys.booking, parts.host_fee),
        credit(VAT, keys.vat, parts.vat),
        credit(OCCUPANCY_TAX, keys.occupancy_tax, parts.occupancy_tax),
    )


def _recognised(parts: Parts, keys: PostingKeys) -> Lines:
    """The parts where a refund after the release takes them from: the host owes, our revenue shrinks; debited."""
    return (
        debit(HOST_RECEIVABLE, keys.host, parts.held),
        debit(GUEST_FEE_REVENUE, "", parts.guest_fee),
        debit(HOST_FEE_REVENUE, "", parts.host_fee),
        debit(VAT, keys.vat, parts.vat),
        debit(OCCUPANCY_TAX, keys.occupancy_tax, parts.occupancy_tax),
    )


def _reversed(lines: Lines) -> Lines:
    return tuple(-line for line in lines)


# Money in, money back ------------------------------------------------------------------------------------------------


def captured(*, charge: str, charged: Money, parts: Parts, keys: PostingKeys) -> Lines:
    """A payment was captured: `charged` is expected from the provider, and every part of it is owed to somebody."""
    return journal(
        debit(CHARGE, charge, charged),
        *exchange(charge, parts.total, charged),
        *_deferred(parts, keys),
    )


def refunded(
    *,
    refund: str,
    amount: Money,
    held: Parts,
    released: Parts,
    of_released: Money,
    keys: PostingKeys,
    charge: str,
    platform_share: Money,
) -> Lines:
    """A refund of `amount` (currency of the charge) was approved: the `held` parts come out of what is held, the `released`
    ones from the host (1310) and our revenue, the rest is what we bear ourselves.

    The held parts are in the listing's currency. The others, and what we bear, are in the settlement's where the release had
    to convert; `of_released` is the part of `amount` that they stand for."""
    taken = (*_reversed(_deferred(held, keys)), *_recognised(released, keys))
    ours = released.total + platform_share
    if held.currency == ours.currency:
        between = exchange(charge, amount, held.total + ours)
    else:
        between = (*exchange(charge, amount - of_released, held.total), *exchange(charge, of_released, ours))
    return journal(*taken, debit(HOST_PROTECTION, refund, platform_share), *between, credit(REFUND, refund, amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Borne:
    """What of a `refund` that we bore comes back to us: `taken` of the parts (listing's currency), and the `amount` of it in the
    currency in which it cost us, which is that of the settlement of its `charge`."""

    refund: str
    charge: str
    taken: Money
    amount: Money


def recouped(*, parts: Parts, keys: PostingKeys, borne: Iterable[Borne]) -> Lines:
    """A stay was cancelled whose guest had got some of it from us before: what they cannot get twice is not the host's either.
    It comes back to us, against what each refund had cost us."""
    lines = list(_reversed(_deferred(parts, keys)))
    for each in borne:
        lines += [*exchange(each.charge, each.amount, each.taken), credit(HOST_PROTECTION, each.refund, each.amount)]
    return journal(*lines)


def set_aside(*, refund: str, amount: Money) -> Lines:
    """The provider refused a refund that is owed by rule: it stands aside for its guest, as one that came back does."""
    return journal(debit(REFUND, refund, amount), credit(UNCLAIMED, refund, amount))


def repaid(*, returned: str, refund: str, standing: Money, amount: Money, charge: str) -> Lines:
    """What stood aside of a refund that did not reach its guest (`returned`) is sent again, another way: as `amount`, which is
    what the `charge` was settled as where it stands in the currency that was charged."""
    return journal(
        debit(UNCLAIMED, returned, standing), *exchange(charge, amount, standing), credit(REFUND, refund, amount)
    )


def repaid_from_bank(*, refund: str, bank: str, amount: Money, suspense: str = "") -> Lines:
    """What was to be paid another way has left our bank account (below zero: came back to it): a line of its statement says
    so, or said so before anybody knew whose it is, and stands in suspense under that key."""
    place = credit(SUSPENSE, suspense, amount) if suspense else credit(BANK, bank, amount)
    return journal(debit(REFUND, refund, amount), place)


# Release and payout --------------------------------------------------------------------------------------------------


def release_due_at(*, check_in_at: datetime, timings: TimingRules) -> datetime:
    """When what is held becomes the host's: a day after check-in."""
    return check_in_at + timedelta(hours=timings.release_hours_after_check_in)


def released(*, parts: Parts, keys: PostingKeys) -> Lines:
    """What is held becomes payable to the host, and our fees become revenue. `parts` are what remains after refunds
    (the kept part of a cancellation is released the same way), or one instalment. Taxes stay payable where they are."""
    return journal(
        debit(HELD, keys.booking, parts.held),
        debit(DEFERRED_GUEST_FEE, keys.booking, parts.guest_fee),
        debit(DEFERRED_HOST_FEE, keys.booking, parts.host_fee),
        credit(HOST_PAYABLE, keys.host, parts.held),
        credit(GUEST_FEE_REVENUE, "", parts.guest_fee),
        credit(HOST_FEE_REVENUE, "", parts.host_fee),
    )


def released_converted(*, charge: str, parts: Parts, keys: PostingKeys, rate: ExchangeRate) -> Lines:
    """The release of a charge that was settled in another currency than the listing's: every part, taxes too, is
    converted at that day's `rate`, so that the promise ends and `fx_realised` can close the position."""
    settled = Parts.from_amounts(rate.convert_lines(parts.amounts))
    return journal(
        *_reversed(_deferred(parts, keys)),
        *exchange(charge, settled.total, parts.total),
        credit(HOST_PAYABLE, keys.host, settled.held),
        credit(GUEST_FEE_REVENUE, "", settled.guest_fee),
        credit(HOST_FEE_REVENUE, "", settled.host_fee),
        credit(VAT, keys.vat, settled.vat),
        credit(OCCUPANCY_TAX, keys.occupancy_tax, settled.occupancy_tax),
    )


def payable_converted(*, host: str, charge: str, amount: Money, given: Money) -> Lines:
    """What is payable in a currency that its charge was not settled in becomes payable in the other (`given`)."""
    return journal(
        debit(HOST_PAYABLE, host, amount),
        *exchange(charge, given, amount),
        credit(HOST_PAYABLE, host, given),
    )


def transfer_requested(*, host: str, transfer: str, amount: Money) -> Lines:
    """What is payable was asked to be sent to the host's connected account."""
    return journal(debit(HOST_PAYABLE, host, amount), credit(TRANSFER, transfer, amount))


def reversal_requested(*, host: str, reversal: str, amount: Money) -> Lines:
    """What the host owes was asked back from the connected account."""
    return journal(debit(REVERSAL, reversal, amount), credit(HOST_RECEIVABLE, host, amount))


def netted(*, host: str, amount: Money) -> Lines:
    """What the host owes was taken from what is payable to them."""
    return journal(debit(HOST_PAYABLE, host, amount), credit(HOST_RECEIVABLE, host, amount))


def written_off(*, host: str, amount: Money) -> Lines:
    """What the host owes will not come; two people said so."""
    return journal(debit(BAD_DEBT, host, amount), credit(HOST_RECEIVABLE, host, amount))


def penalised(*, host: str, amount: Money) -> Lines:
    """A host who cancelled owes the penalty; it comes out of future payouts."""
    return journal(debit(HOST_RECEIVABLE, host, amount), credit(CANCELLATION_FEE, "", amount))


def connected_payout_paid(*, account: str, amount: Money) -> Lines:
    """Money left a host's provider balance for their bank (memo only: it is not ours)."""
    return journal(debit(CONNECTED_CONTRA, account, amount), credit(CONNECTED_BALANCE, account, amount))


def connected_payout_returned(*, account: str, amount: Money) -> Lines:
    """The host's bank sent it back: it stands on their provider balance again."""
    return journal(debit(CONNECTED_BALANCE, account, amount), credit(CONNECTED_CONTRA, account, amount))


# Bank and taxes ------------------------------------------------------------------------------------------------------


def bank_line(*, bank: str, amount: Money, payout: str = "", external_id: str = "") -> Lines:
    """A line of the bank statement, signed as the bank signs it: the provider's payout, or money nobody knows yet.

    Raises ValueError when neither a payout nor the line's own id is given."""
    if not payout and not external_id:
        raise ValueError("a bank line is identified by a payout or by its own id")
    contra = credit(BANK_PAYOUT, payout, amount) if payout else credit(SUSPENSE, external_id, amount)
    return journal(debit(BANK, bank, amount), contra)


def tax_remitted(*, account: Literal["2300", "2310"], key: str, bank: str, amount: Money) -> Lines:
    """A period's tax was paid to its authority."""
    return journal(debit(account, key, amount), credit(BANK, bank, amount))


# Damage --------------------------------------------------------------------------------------------------------------


def damage_approved(*, claim: str, amount: Money) -> Lines:
    """The guest owes for damage; the host will get it."""
    return journal(debit(GUEST_RECEIVABLE, claim, amount), credit(DAMAGE_HELD, claim, amount))


def damage_captured(*, claim: str, charge: str, amount: Money) -> Lines:
    """The guest paid for the damage."""
    return journal(debit(CHARGE, charge, amount), credit(GUEST_RECEIVABLE, claim, amount))


def damage_covered(*, claim: str, amount: Money) -> Lines:
    """The guest did not pay; we protect the host."""
    return journal(debit(HOST_PROTECTION, claim, amount), credit(GUEST_RECEIVABLE, claim, amount))


def damage_released(*, claim: str, host: str, amount: Money) -> Lines:
    """The damage money becomes payable to the host."""
    return journal(debit(DAMAGE_HELD, claim, amount), credit(HOST_PAYABLE, host, amount))


# Chargebacks ---------------------------------------------------------------------------------------------------------


def dispute_lost_before_release(*, dispute: str, amount: Money, charge: str, parts: Parts, keys: PostingKeys) -> Lines:
    """A chargeback was lost while the money was still held: the held parts have gone back to the guest. What the parts
    do not cover (the same currency only) is our loss. Raises ValueError when the parts are more than was lost."""
    shortfall = amount - parts.total if amount.currency == parts.currency else Money.zero(amount.currency)
    covered = amount - _not_negative(shortfall)
    return journal(
        *_reversed(_deferred(parts, keys)),
        *exchange(charge, covered, parts.total),
        debit(DISPUTE_LOSS, dispute, shortfall),
        credit(DISPUTE, dispute, amount),
    )


def dispute_lost_after_release(
    *, dispute: str, amount: Money, bearer: LossBearer, parts: Parts, keys: PostingKeys
) -> Lines:
    """A chargeback was lost after the host was paid. We bear it; or, when the case says so, the host gives back their
    share, we give up our fees, and the rest is our loss. `parts` and `amount` are of one currency.

    Raises ValueError when the parts are more than was lost."""
    if bearer == "platform":
        return journal(debit(DISPUTE_LOSS, dispute, amount), credit(DISPUTE, dispute, amount))
    loss = _not_negative(amount - parts.held - parts.guest_fee - parts.host_fee)
    return journal(
        debit(HOST_RECEIVABLE, keys.host, parts.held),
        debit(GUEST_FEE_REVENUE, "", parts.guest_fee),
        debit(HOST_FEE_REVENUE, "", parts.host_fee),
        debit(DISPUTE_LOSS, dispute, loss),
        credit(DISPUTE, dispute, amount),
    )


def dispute_lost_aside(*, dispute: str, refund: str, amount: Money) -> Lines:
    """A chargeback was lost of a charge of which a refund had come back: what stood aside of that for the guest, the network
    has given them."""
    return journal(debit(UNCLAIMED, refund, amount), credit(DISPUTE, dispute, amount))


def _not_negative(loss: Money) -> Money:
    if loss.amount < 0:
        raise ValueError("the parts are more than the chargeback took; scale them with pro_rata first")
    return loss
