"""Whether a host's account may be sent money now, and what becomes of it when the provider shows something new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from babel import Locale

from backoffice.payouts.states import ACCOUNT
from backoffice.rulebook.policies import RecoveryRules

_MOST_NAMED = 3
# What the provider calls what it asks for -> what a person would call it. The end of a name is enough: the same is asked of a
# person, a company's representative or its owners.
_ASKED_FOR: Final = {
    "business_profile.mcc": "the kind of business",
    "business_profile.url": "a web page, or what is offered",
    "business_profile.product_description": "what is offered",
    "business_type": "whether it is a person or a company",
    "external_account": "a bank account",
    "tos_acceptance": "a yes to its terms",
    "tos_acceptance.date": "a yes to its terms",
    "tos_acceptance.ip": "a yes to its terms",
    "first_name": "a name",
    "last_name": "a name",
    "dob.day": "a date of birth",
    "dob.month": "a date of birth",
    "dob.year": "a date of birth",
    "address.city": "an address",
    "address.line1": "an address",
    "address.postal_code": "an address",
    "address.state": "an address",
    "email": "an e-mail address",
    "phone": "a telephone number",
    "id_number": "the number of an identity document",
    "ssn_last_4": "the last four digits of the social security number",
    "tax_id": "a tax number",
    "verification.document": "a document that proves identity",
    "verification.additional_document": "a document that proves the address",
}
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


def asked_for(*, missing: Iterable[str]) -> list[str]:
    """What the provider still asks of a host, in words, each once."""
    return list(dict.fromkeys(_in_words(name) for name in missing))


def _asked(facts: AccountFacts) -> str:
    if not facts.missing:
        return "it is looking at what you told it." if not facts.disabled_reason else "it has restricted the account."
    asked = asked_for(missing=facts.missing)
    more = f" and {len(asked) - _MOST_NAMED} more" if len(asked) > _MOST_NAMED else ""
    return f"it still asks for {'; '.join(asked[:_MOST_NAMED])}{more}."


def _in_words(name: str) -> str:
    """What the provider asks for, in words; what is not known is named as the provider names it."""
    known = (words for end, words in _ASKED_FOR.items() if name == end or name.endswith(f".{end}"))
    return next(known, name.replace("_", " ").replace(".", ", "))
