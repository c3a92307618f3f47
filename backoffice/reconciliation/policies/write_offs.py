"""What may be given up, and where it is booked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from backoffice.core.errors import Refused
from backoffice.core.money import Money
from backoffice.ledger.policies import Line
from backoffice.rulebook.policies import ReconciliationRules

ROUNDING: Final = "5900"
BAD_DEBT: Final = "5220"
_STANDING: Final = ("clearing", "bank")
# What two people decide about: to give up what stands somewhere, or to post a movement of the provider anew.
WRITE_OFF: Final = "write_off"
POST_ANEW: Final = "post_anew"


def kind_of(proposal: Mapping[str, Any] | None) -> str:
    """What is proposed for a break, empty when nothing is."""
    return "" if not proposal else str(proposal.get("kind", WRITE_OFF))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOff:
    """What would be posted: what stands under `account` and `key` goes to `contra` under `contra_key`."""

    account: str
    key: str
    amount: Money
    contra: str
    contra_key: str

    def lines(self) -> tuple[Line, Line]:
        return (
            Line.of(self.contra, self.contra_key, self.amount),
            Line.of(self.account, self.key, -self.amount),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "key": self.key,
            "amount": self.amount.amount,
            "currency": self.amount.currency,
            "contra": self.contra,
            "contra_key": self.contra_key,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> WriteOff:
        """As `as_dict` kept it."""
        return cls(
            account=kept["account"],
            key=kept["key"],
            amount=Money(kept["amount"], kept["currency"]),
            contra=kept["contra"],
            contra_key=kept["contra_key"],
        )


def rounding_key(*, run: int) -> str:
    """The key on 5900 of what is rounded away under a run."""
    return f"run {run}"


def write_off(
    *,
    leg: str,
    detail: Mapping[str, Any],
    currency: str,
    subject: str,
    run: int,
    capped: Money | None,
    rounded: Money,
    given_up: Money,
    rules: ReconciliationRules,
) -> WriteOff:
    """How the break of a clearing account is written off. `capped` is its amount in the currency of the caps, None where no
    rate tells it; `rounded` is what was rounded away under that run before, `given_up` what was given up as bad debt before of
    what stood under this very key.

    Up to the caps, of one item and of one run, it is rounding (5900, under the run that found it), whoever gains by it.
    Beyond, what we are short of is bad debt (5220, under the booking, else the key): it was owed to us and does not come. What
    was given up so and has come after all goes back there. Raises Refused for what is not ours to give up: any other surplus
    beyond the cap belongs to somebody, and the provider's mirror moves with balance transactions alone."""
    if leg in _STANDING and not detail.get("standing"):
        raise Refused(
            "Nothing stands on this clearing account any more: what was missing has come. The next run closes the break.",
            missing="a balance on a clearing account",
        )
    if leg not in _STANDING:
        raise Refused(
            "Only what stands on a clearing account can be written off: the provider's mirror moves with its own movements "
            "alone. Where our books tell one wrongly, post it anew: ops breaks post-anew.",
            missing="a balance on a clearing account",
        )
    standing = Money(int(detail["standing"]), currency)
    small = (
        capped is not None
        and abs(capped.amount) <= rules.rounding_per_item.amount
        and rounded.amount + abs(capped.amount) <= rules.rounding_per_run.amount
    )
    recovered = standing.amount < 0 and given_up.amount + standing.amount >= 0
    if standing.amount < 0 and not (small or recovered):
        raise Refused(
            f"{abs(standing)} too much stands here: it belongs to somebody. Find out to whom; only up to "
            f"{rules.rounding_per_item} may be kept as rounding, and {rules.rounding_per_run} in all of one run.",
            missing="an owner of the money",
        )
    account, key = str(detail["account"]), str(detail["key"])
    if recovered or not small:
        contra, contra_key = BAD_DEBT, subject or key
    else:
        contra, contra_key = ROUNDING, rounding_key(run=run)
    return WriteOff(account=account, key=key, amount=standing, contra=contra, contra_key=contra_key)
