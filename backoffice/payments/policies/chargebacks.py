"""Decisions about chargebacks: what their statuses mean, when we want to have answered, who bears a loss, the ratio.

An *inquiry* is the money-less first form; it may become a chargeback and stays one row. Money moves by the provider's
balance transactions alone (`provider.py`): withdrawn and reinstated stand on 1320 under the dispute, and only what is
left there when it is lost is posted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from backoffice.core.money import Money
from backoffice.payments.policies.parts import Parts, PostingKeys, RefundLimits, pro_rata
from backoffice.payments.policies.postings import (
    DISPUTE,
    DISPUTE_LOSS,
    FX_GAIN,
    FX_LOSS,
    Lines,
    LossBearer,
    credit,
    debit,
    dispute_lost_after_release,
    dispute_lost_aside,
    dispute_lost_before_release,
    journal,
)
from backoffice.rulebook.policies import ChargebackRules

Kind = Literal["inquiry", "chargeback"]

# The provider's words that we know. Any other is kept, shown, and taken for open: nothing is refunded or released on it.
ANSWERABLE: Final = ("warning_needs_response", "needs_response")
APPEALABLE: Final = ("appeal_needs_response",)
IN_REVIEW: Final = ("warning_under_review", "under_review", "appeal_under_review")
CLOSED: Final = ("warning_closed", "won", "lost", "prevented")
KNOWN: Final = (*ANSWERABLE, *APPEALABLE, *IN_REVIEW, *CLOSED)
# After these the provider lets the charge be refunded again; a lost one is with the guest already.
REFUNDABLE_AFTER: Final = ("won", "warning_closed", "prevented")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDispute:
    """A dispute as the provider has it now. `amount` is in the charge's currency; `status` is its own word; `page` is where
    people see it at the provider and answer what only that takes, "" where it has no such page."""

    id: str
    status: str
    kind: Kind
    amount: Money
    charge_id: str
    payment_id: str
    opened: datetime
    reason: str = ""
    network_reason: str = ""
    network: str = ""
    due_by: datetime | None = None
    submissions: int = 0
    evidence: Mapping[str, str] = field(default_factory=dict)
    page: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFraudWarning:
    """An issuer's early word that a charge may be fraud, as the provider has it now."""

    id: str
    charge_id: str
    payment_id: str
    kind: str
    actionable: bool


def kind_of(*, status: str, case_type: str) -> Kind:
    """An inquiry by the network's word for the case, or by the status where that says nothing."""
    return "inquiry" if case_type == "inquiry" or (not case_type and status.startswith("warning_")) else "chargeback"


def is_open(status: str) -> bool:
    """Whether the outcome is still to come; a status nobody knows is taken for open."""
    return status not in CLOSED


def is_appealed(*, status: str, loss_posted: bool) -> bool:
    """Whether a loss that was posted may still turn: who bears it is not decided anew meanwhile, since what would be posted
    is known only when the outcome is."""
    return loss_posted and is_open(status)


def awaits_answer(*, status: str, claimed: bool) -> bool:
    """Whether somebody has to answer now. What a person handed in (`claimed`) answers the chargeback, not an appeal: that is
    answered on the provider's own pages, and only the provider says that it was."""
    return status in APPEALABLE or (status in ANSWERABLE and not claimed)


def blocks_refunds(*, kind: str, status: str) -> bool:
    """No refund while a chargeback is open, nor of a charge that was lost to it: the guest has that money. An inquiry
    has taken nothing, and a refund is one way to end it."""
    return kind == "chargeback" and status not in REFUNDABLE_AFTER


def internal_deadline(*, opened: datetime, due_by: datetime, rules: ChargebackRules) -> datetime:
    """When we want to have answered: that share of the time from the opening to the provider's deadline."""
    share = Fraction(rules.internal_deadline_percent) / 100
    return opened + (due_by - opened) * share.numerator / share.denominator


Urgency = Literal["overdue", "late", "soon", "calm", "none"]


def urgency(*, status: str, due_by: datetime | None, internal_due_at: datetime | None, now: datetime) -> Urgency:
    """How pressing an answer is: the provider's deadline has passed, our own has, less than a quarter of our time is left
    (a day at least), or there is time. Only what can still be answered presses; an appeal can for as long as the provider
    says that it needs an answer, whatever date it named."""
    if status not in (*ANSWERABLE, *APPEALABLE) or internal_due_at is None:
        return "none"
    if due_by is not None and now > due_by and status not in APPEALABLE:
        return "overdue"
    if now >= internal_due_at:
        return "late"
    if due_by is None:
        return "calm"
    soon = max((due_by - internal_due_at).total_seconds() / 4, 86_400)
    return "soon" if (internal_due_at - now).total_seconds() <= soon else "calm"


# Who bears a loss ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What stands aside for the guest of a `refund` of the charge that came back from their bank: `standing` with us, in the
    settlement currency, `charged` in that of the charge. `before` says that it came back before the chargeback was opened."""

    refund: str
    standing: Money
    charged: Money
    before: bool

    def part(self, charged: Money) -> Aside:
        return Aside(
            refund=self.refund,
            standing=_scaled(self.standing, charged, self.charged),
            charged=charged,
            before=self.before,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the money of a lost chargeback stands.

    `lost` is what 1320 still holds, in the settlement currency; `disputed` what the network took of the charge, in the
    charge's currency. `remaining` is what refunds and earlier losses have left of the charge (listing's currency), and
    `in_hand` how much of it has not been released yet; `aside` is what stands aside of refunds of it."""

    lost: Money
    disputed: Money
    remaining: RefundLimits
    in_hand: Parts
    aside: tuple[Aside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossShares:
    """Who a loss comes from: `held` parts go back out of what has not been released (listing's currency), worth
    `held_worth` of what was lost; `released` are the parts of the rest (settlement currency). `aside` is what stood aside for
    the guest and is theirs by the network now, worth as much of the loss as `aside_worth` says of each; `uncovered` is what
    none of these covers, a refund having gone out before."""

    held: Parts
    held_worth: Money
    released: Parts
    aside: tuple[Aside, ...]
    aside_worth: tuple[Money, ...]
    uncovered: Money

    @property
    def out_of_aside(self) -> Money:
        """What of the loss is no loss of anybody's: the guest has it instead of what stood aside."""
        return Money.sum(self.aside_worth, self.uncovered.currency)


def loss_shares(*, standing: Standing) -> LossShares:
    """First what stood aside of the charge when its guest went to their bank, since it is that which they had not got; then
    each part from what is still held, the rest from where the release put it, taxes following the parts they are on; then what
    came back since. What had been refunded already cannot be taken again."""
    limits = standing.remaining
    before = _taken([each for each in standing.aside if each.before], standing.disputed)
    open_to = standing.disputed - Money.sum((each.charged for each in before), standing.disputed.currency)
    covered = min(open_to, limits.of_parts)
    since = _taken([each for each in standing.aside if not each.before], open_to - covered)
    aside = (*before, *since)
    worth = _scaled(standing.lost, covered, standing.disputed)
    aside_worth = _worth_of(aside, standing.lost - worth, standing.disputed - covered)
    wanted = pro_rata(remaining=limits.parts, amount=limits.from_charge(amount=covered))
    held = _held_of(wanted, standing.in_hand)
    held_worth = _scaled(worth, held.total, wanted.total)
    rest = wanted.minus(held)
    released = (
        Parts.from_amounts((worth - held_worth).allocate([part.amount for part in rest.amounts]))
        if rest.total
        else Parts.none(standing.lost.currency)
    )
    return LossShares(
        held=held,
        held_worth=held_worth,
        released=released,
        aside=aside,
        aside_worth=aside_worth,
        uncovered=standing.lost - worth - Money.sum(aside_worth, standing.lost.currency),
    )


def lost(*, dispute: str, charge: str, shares: LossShares, bearer: LossBearer, keys: PostingKeys) -> Lines:
    """A chargeback is lost (worked postings E1): what is held has gone back to the guest; what was released is borne by
    us, or by the host when a person decided so; what stood aside for the guest is nobody's loss. A rate that has moved since
    the charge, or since a refund came back, is gain or loss of exchange."""
    worth = shares.held_worth
    same = shares.held.currency == worth.currency
    before = (
        dispute_lost_before_release(
            dispute=dispute, amount=shares.held.total if same else worth, charge=charge, parts=shares.held, keys=keys
        )
        if shares.held.total
        else ()
    )
    after = dispute_lost_after_release(
        dispute=dispute,
        amount=shares.released.total + shares.uncovered,
        bearer=bearer,
        parts=shares.released,
        keys=keys,
    )
    aside = [
        line
        for each, share in zip(shares.aside, shares.aside_worth, strict=True)
        for line in (
            *dispute_lost_aside(dispute=dispute, refund=each.refund, amount=each.standing),
            *_moved_rate(dispute, each.standing - share),
        )
    ]
    return journal(*before, *(_moved_rate(dispute, shares.held.total - worth) if same else ()), *aside, *after)


def lost_by_nobody_of_ours(*, dispute: str, amount: Money) -> Lines:
    """A chargeback of a charge that is none of our bookings' was lost: ours to bear."""
    return journal(debit(DISPUTE_LOSS, dispute, amount), credit(DISPUTE, dispute, amount))


def rate_moved(*, dispute: str, left: Money) -> Lines:
    """Withdrawn at one rate and reinstated at another: `left` is what 1320 then still holds, debit positive."""
    return _moved_rate(dispute, -left)


def _moved_rate(dispute: str, gained: Money) -> Lines:
    """The clearing account takes what is missing to zero; above zero it is a gain."""
    account = FX_GAIN if gained.amount > 0 else FX_LOSS
    return journal(debit(DISPUTE, dispute, gained), credit(account, "", gained))


def _scaled(amount: Money, part: Money, whole: Money) -> Money:
    return amount.share(Fraction(part.amount, whole.amount)) if whole else Money.zero(amount.currency)


def _taken(aside: Iterable[Aside], amount: Money) -> tuple[Aside, ...]:
    """What of these an amount in the currency of the charge takes, the oldest first."""
    taken = []
    for each in aside:
        share = min(each.charged, amount)
        if share:
            taken.append(each.part(share))
            amount -= share
    return tuple(taken)


def _worth_of(aside: tuple[Aside, ...], lost: Money, disputed: Money) -> tuple[Money, ...]:
    """What each of these is worth of what was lost besides the parts, `disputed` being that in the currency of the charge."""
    taken = [each.charged.amount for each in aside]
    rest = disputed.amount - sum(taken)
    return tuple(lost.allocate([*taken, rest])[:-1]) if aside else ()


def _held_of(wanted: Parts, in_hand: Parts) -> Parts:
    """What can be taken from what is held; taxes in the share in which their parts are."""
    ours = [
        min(want, have)
        for want, have in zip(
            (wanted.held, wanted.host_fee, wanted.guest_fee),
            (in_hand.held, in_hand.host_fee, in_hand.guest_fee),
            strict=True,
        )
    ]
    asked = wanted.held + wanted.host_fee + wanted.guest_fee
    taken = Money.sum(ours, wanted.currency)
    share = Fraction(taken.amount, asked.amount) if asked else Fraction(0)
    return Parts(
        held=ours[0],
        host_fee=ours[1],
        guest_fee=ours[2],
        vat=wanted.vat.share(share),
        occupancy_tax=wanted.occupancy_tax.share(share),
    )


# The ratio -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRatio:
    """Chargebacks against charges of one card network in a month. `percent` is for reading, two decimals rounded up: what
    is near the threshold is not shown as further from it; `standing` goes by the exact share."""

    network: str
    chargebacks: int
    charges: int
    threshold_percent: Decimal
    warning_percent: Decimal

    @property
    def percent(self) -> Decimal:
        """Without a charge in the month nothing can be said against it but the chargebacks themselves."""
        if not self.charges:
            return Decimal(100) if self.chargebacks else Decimal(0)
        hundredths = -(-self.chargebacks * 10_000 // self.charges)
        return Decimal(hundredths).scaleb(-2)

    @property
    def standing(self) -> Literal["fine", "warning", "over"]:
        """Over at the network's threshold, warning at our share of it."""
        found = Fraction(self.chargebacks * 100, self.charges) if self.charges else Fraction(self.percent)
        if found >= Fraction(self.threshold_percent):
            return "over"
        return "warning" if found >= Fraction(self.warning_percent) else "fine"


def network_ratios(
    *, chargebacks: Mapping[str, int], charges: Mapping[str, int], rules: ChargebackRules
) -> list[NetworkRatio]:
    """The ratio of every network that had a charge or a chargeback, the highest first, then by name."""
    warning = rules.ratio_threshold_percent * rules.ratio_warning_percent / 100
    found = [
        NetworkRatio(
            network=network,
            chargebacks=chargebacks.get(network, 0),
            charges=charges.get(network, 0),
            threshold_percent=rules.ratio_threshold_percent,
            warning_percent=warning,
        )
        for network in chargebacks.keys() | charges.keys()
    ]
    return sorted(found, key=lambda ratio: (-ratio.percent, ratio.network))


def worst(ratios: Iterable[NetworkRatio]) -> Literal["fine", "warning", "over"]:
    """How the worst of them stands."""
    found = {ratio.standing for ratio in ratios}
    return "over" if "over" in found else "warning" if "warning" in found else "fine"
