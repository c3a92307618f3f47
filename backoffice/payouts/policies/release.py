"""How much of what a booking holds is released now, and why a release waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from backoffice.core.money import Money
from backoffice.payments.policies import Parts, instalments
from backoffice.payouts.policies.accounts import Waiting
from backoffice.rulebook.policies import PayoutRules

HELD: Final = "It is held back while we look into something."
FUNDS: Final = (
    "It waits for funds: the payment provider holds less than this available for us. It is tried again by itself."
)
UNANSWERED: Final = "The payment provider has not answered yet; it is asked again by itself."
# So much of the provider's words fits into the reason of a wait.
LONGEST_WORDS: Final = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An active hold: its amount (listing's currency; None: all of the booking's money), and when it ends by itself."""

    code: str
    amount: Money | None
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFacts:
    """All that can keep a release that is due from being sent. `held`: a hold keeps all of what is payable already, whose
    share no release takes. `short`: it draws on no charge but on what is available, which is less."""

    due_at: datetime
    stopped: str = ""
    held: Waiting | None = None
    disputed: Waiting | None = None
    account: Waiting | None = None
    settled: bool = True
    failed_at: datetime | None = None
    failure: str = ""
    short: bool = False


def why_waits(*, facts: WaitFacts, rules: PayoutRules, now: datetime) -> Waiting | None:
    """Why nothing is sent now, as a sentence that the host can read, and until when where that is known; None: send it.

    The first that holds is named: what the host can do something about, then what they cannot."""
    if now < facts.due_at:
        return Waiting(sentence="It is not due yet.", until=facts.due_at)
    if facts.account is not None:
        return facts.account
    if facts.stopped:
        return Waiting(sentence=f"All payouts are stopped for now: {facts.stopped}")
    if facts.held is not None:
        return facts.held
    if facts.disputed is not None:
        return facts.disputed
    if not facts.settled:
        return Waiting(sentence="The payment provider has not settled the guest's payment yet.")
    if facts.failed_at is not None:
        resting = refused(failure=facts.failure, at=facts.failed_at, rules=rules)
        if resting.until is not None and now < resting.until:
            return resting
    return Waiting(sentence=FUNDS) if facts.short else None


def all_held(*, holds: Sequence[Hold]) -> Waiting | None:
    """Why all of a booking's money waits, and until when; None where no hold keeps all of it."""
    ends = [hold.until for hold in holds if hold.amount is None]
    return Waiting(sentence=HELD, until=max(ends)) if ends else None


def refused(*, failure: str, at: datetime, rules: PayoutRules) -> Waiting:
    """How long a transfer rests that was refused, or came back, at this instant, and why in the provider's words: a
    sentence, cut where it is long."""
    again = at + timedelta(hours=rules.retry_hours)
    said = failure if len(failure) <= LONGEST_WORDS else f"{failure[: LONGEST_WORDS - 1].rstrip()}…"
    return Waiting(sentence=f"The payment provider refused it: {said} We try again.", until=again)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a release moves now, and what of its share stays because of a hold (`held_back`) or is not paid for yet."""

    released: Parts
    kept: Parts
    waits: Waiting | None = None
    held_back: bool = False


def share(
    *,
    held: Parts,
    to_come: Parts,
    weights: Sequence[int],
    position: int,
    holds: Sequence[Hold],
    overdue: bool = False,
) -> Share:
    """The share of the step at `position` among the `weights` still to be released, less what is held back.

    `held` is what the booking holds now, `to_come` what instalments that were not paid yet will bring: a step never takes
    the money of nights that the guest has yet to pay for, nor more than there is, and while a payment of theirs is `overdue`
    it waits for its whole share. A hold keeps its amount of the host's
    share in the booking, wherever it lies, and of the other parts in proportion."""
    expected = instalments(parts=held + to_come, weights=weights)[position]
    mine = Parts.from_amounts([min(want, there) for want, there in zip(expected.amounts, held.amounts, strict=True)])
    nothing = Parts.none(held.currency)
    if overdue and mine.held < expected.held:
        return Share(released=nothing, kept=mine, waits=Waiting(sentence="The guest has yet to pay for these nights."))
    free = max(held.held - kept_back(held=held.held, holds=holds), Money.zero(held.currency))
    now = min(mine.held, free)
    if now == mine.held and (now or not any(hold.amount is None for hold in holds)):
        return Share(released=mine, kept=nothing)
    waits = Waiting(sentence="Part of it is held back while we look into something.", until=_end(holds))
    if not now:
        waits = Waiting(sentence=HELD, until=_end(holds))
        return Share(released=nothing, kept=mine, waits=waits, held_back=True)
    released, kept = instalments(parts=mine, weights=[now.amount, (mine.held - now).amount])
    return Share(released=released, kept=kept, waits=waits, held_back=True)


def kept_back(*, held: Money, holds: Sequence[Hold]) -> Money:
    """How much of the host's share the holds keep: all of it, or their sum, never more than there is."""
    if any(hold.amount is None for hold in holds):
        return held
    return min(held, Money.sum((hold.amount for hold in holds if hold.amount is not None), held.currency))


def split_weight(*, weight: int, share: Money, kept: Money) -> tuple[int, int]:
    """A step's weight over what is released now and what stays, in proportion; neither is nothing."""
    stays = min(max(weight * kept.amount // share.amount, 1), max(weight - 1, 1))
    return max(weight - stays, 1), stays


def too_little(*, amount: Money, due_at: datetime, rules: PayoutRules, now: datetime) -> Waiting | None:
    """Why an amount waits that is below the minimum of its currency: it is sent with less haste."""
    least, until = rules.minimum(amount.currency), due_at + timedelta(days=rules.minimum_wait_days)
    if amount >= least or now >= until:
        return None
    return Waiting(sentence=f"Amounts below {least} are sent once a month.", until=until)


def nettable(*, payable: Money, owed: Money) -> Money:
    """How much of what is payable is kept for what the host owes in the same currency."""
    return max(min(payable, owed), Money.zero(payable.currency))


def source_of(*, amount: Money, left: Sequence[tuple[str, Money]]) -> str:
    """The charge that a transfer draws on: the first that still has as much; "" when none has (it draws on the available
    balance). `left` is, of each charge, what no transfer has taken yet."""
    enough = [charge for charge, rest in left if rest.currency == amount.currency and rest >= amount]
    return enough[0] if enough else ""


def hold_hours(*, limits: Sequence[int | None]) -> int | None:
    """How long a person of several roles may hold: the widest of them; None is "as long as they like"."""
    if any(limit is None for limit in limits):
        return None
    return max((limit for limit in limits if limit is not None), default=0)


def _end(holds: Sequence[Hold]) -> datetime | None:
    return max((hold.until for hold in holds), default=None)
