"""Whether a host's account may be sent money now, and what becomes of it when the provider shows something new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from babel import Locale

from backoffice.payouts.states import ACCOUNT
from backoffice.rulebook.policies import RecoveryRules

_MOST_NAMED = 3
# What stands among the territories of the locale data and is no country of ISO 3166-1.
_NO_COUNTRIES = frozenset("AC CP CQ DG EA EU EZ IC QO TA UN XA XB XK ZZ".split())


# A call to the provider, with all its repetitions, has been answered by then or is lost.
_CALL_LASTS: Final = timedelta(minutes=2)


def is_country_settled(*, made: bool, asked_at: datetime | None, now: datetime) -> bool:
    """Whether the country of a host's account is no longer theirs to choose: the account is there, or the provider is being
    asked to make it. What it was asked and not heard to have made is looked for there before it is asked again."""
    return made or (asked_at is not None and now - asked_at <= _CALL_LASTS)


def is_country(code: str) -> bool:
    """Whether this is the code of a country: two capital letters of ISO 3166-1. Which of them it pays out to, the provider
    says."""
    return len(code) == 2 and code.isalpha() and code in Locale("en").territories and code not in _NO_COUNTRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why money waits, as a sentence that its host can read, and until when where that is known."""

    sentence: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """What we know of a host's account at the provider."""

    made: bool
    can_receive: bool
    missing: tuple[str, ...] = ()
    disabled_reason: str = ""
    bank_changed_at: datetime | None = None
    bank_approved: bool = False


def waiting(*, facts: AccountFacts | None, rules: RecoveryRules, now: datetime) -> Waiting | None:
    """Why nothing can be sent to this account now; None when it can.

    New bank details rest for the cool-down even when they are approved: who took over an account hopes for haste."""
    if facts is None or not facts.made:
        return Waiting(sentence="Payouts are not set up yet: tell the payment provider who you are and where to pay.")
    if not facts.can_receive:
        return Waiting(sentence=f"The payment provider cannot pay this account yet: {_asked(facts)}")
    if facts.bank_changed_at is None:
        return None
    rested = facts.bank_changed_at + timedelta(hours=rules.bank_cool_down_hours)
    if now < rested:
        return Waiting(sentence="The bank details were changed; new ones rest before the first payout.", until=rested)
    if not facts.bank_approved:
        return Waiting(sentence="The bank details were changed; our finance team has yet to approve the new ones.")
    return None


def status_after(*, before: str, can_receive: bool, can_pay_out: bool, told_everything: bool) -> str:
    """The status of an account that now looks like this: enabled as soon as money can go all the way to the bank,
    restricted when it could before or all has been told and it cannot."""
    if can_receive and can_pay_out:
        return before if before == "enabled" else ACCOUNT.after(before, "enable")
    if before == "enabled" or (before == "onboarding" and told_everything):
        return ACCOUNT.after(before, "restrict")
    return before


def bank_changed(*, before: str, seen: str) -> bool:
    """Whether the money would now go elsewhere. The first bank account is no change, nor is one that was taken away:
    what replaces it is compared with what was there before."""
    return bool(before) and bool(seen) and before != seen


def _asked(facts: AccountFacts) -> str:
    if not facts.missing:
        return "it is looking at what you told it." if not facts.disabled_reason else "it has restricted the account."
    names = [name.replace("_", " ").replace(".", ", ") for name in facts.missing[:_MOST_NAMED]]
    more = f" and {len(facts.missing) - _MOST_NAMED} more" if len(facts.missing) > _MOST_NAMED else ""
    return f"it still asks for {'; '.join(names)}{more}."
