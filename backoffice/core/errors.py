"""What can go wrong, as one tree: a code, the facts, a sentence that says what to do. Doors translate; nothing here
knows HTTP or exit codes."""

from __future__ import annotations

import re
from typing import Any, ClassVar


class StaydeskError(Exception):
    """An anticipated answer that is not success. `facts` are JSON-able; `str(error)` is fit for a user to read."""

    code: ClassVar[str] = "error"
    sentence: ClassVar[str] = "Something went wrong."

    def __init__(self, sentence: str = "", /, **facts: Any) -> None:
        self.facts = facts
        super().__init__(sentence or self.sentence.format_map(_Facts({**facts, **self.in_words(facts)})))

    @staticmethod
    def in_words(facts: dict[str, Any]) -> dict[str, Any]:
        """Facts that are said otherwise than programs are given them."""
        return {}


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"({key})"


class Invalid(StaydeskError):
    """An input that cannot be accepted; `field` names it."""

    code = "invalid"
    sentence = "{field} is not valid."


class NotFound(StaydeskError):
    """No such thing, or not for the one who asks: the two are never told apart."""

    code = "not_found"
    sentence = "No such {kind}."


class NotSignedIn(StaydeskError):
    """The act needs a known person."""

    code = "not_signed_in"
    sentence = "Sign in first."


class NotAllowed(StaydeskError):
    """The actor lacks the grant, or the thing is not theirs to change."""

    code = "not_allowed"
    sentence = "You may not {verb}."

    @staticmethod
    def in_words(facts: dict[str, Any]) -> dict[str, Any]:
        """A verb of the table of grants as it is spoken: "payouts.claw_back" is to claw back payouts."""
        found = re.fullmatch(r"([a-z_]+)\.([a-z_]+)", str(facts.get("verb", "")))
        return {"verb": f"{found[2]} {found[1]}".replace("_", " ")} if found else {}


class OverLimit(NotAllowed):
    """The actor has the grant, but not for this amount."""

    code = "over_limit"
    sentence = "{amount} is over your limit of {limit} to {verb}; a second person must approve it."


class Suspended(NotAllowed):
    """The person is suspended and may not act."""

    code = "suspended"
    sentence = "This account is suspended; write to support to learn why."


class Conflict(StaydeskError):
    """The thing is not in a state that allows this now."""

    code = "conflict"
    sentence = "This cannot be done now."


class IllegalTransition(Conflict):
    """The state table has no such step."""

    code = "illegal_transition"
    sentence = "A {kind} that is {status} cannot {action}."


class StaleVersion(Conflict):
    """Somebody else changed the thing since it was read."""

    code = "stale_version"
    sentence = "This {kind} has changed since you opened it; look at it again before you decide."


class NightsTaken(Conflict):
    """Another hold occupies at least one of these nights."""

    code = "nights_taken"
    sentence = "Some of the nights {check_in} to {check_out} are no longer free."


class QuoteExpired(Conflict):
    """The price was promised until an instant that has passed."""

    code = "quote_expired"
    sentence = "This quote expired at {expires_at}; ask for a new one."


class KeyReused(StaydeskError):
    """One idempotency key, two different requests."""

    code = "idempotency_key_reused"
    sentence = "This idempotency key was used for a different request; use a new key."


class InFlight(Conflict):
    """The first request with this key has not been answered yet."""

    code = "idempotency_key_in_use"
    sentence = "The first request with this idempotency key is still being worked on; repeat it in a moment."


class Unbalanced(StaydeskError):
    """A journal that does not sum to zero per currency; a programming error that the database refused."""

    code = "unbalanced"
    sentence = "The journal does not balance."


class Overdrawn(Conflict):
    """A ledger account that may only give what it was given was asked for more."""

    code = "overdrawn"
    sentence = "{account} of {key} holds {held}; {asked} cannot be taken from it."


class RefundTooLarge(Conflict):
    """More than what is left of the captured money, pending refunds counted."""

    code = "refund_too_large"
    sentence = "At most {maximum} can still be refunded; {amount} was asked for."


class Locked(StaydeskError):
    """The same job is running already."""

    code = "locked"
    sentence = "{job} is already running since {since} ({holder})."


class Refused(StaydeskError):
    """A confirmation, reason or approval is missing."""

    code = "refused"
    sentence = "Refused: {missing} is missing."


class Stopped(Refused):
    """A kill switch is on."""

    code = "stopped"
    sentence = "{scope} are stopped: {reason}"


class ProviderError(StaydeskError):
    """The provider answered, and the answer is no."""

    code = "provider_refused"
    sentence = "The payment provider refused: {message}"

    @property
    def words(self) -> str:
        """The provider's own words as a sentence: what is kept of a refusal, and put into a sentence of ours."""
        said = str(self.facts.get("message") or self).strip()
        return said if said.endswith((".", "!", "?")) else f"{said}."


class UnknownPaymentMethod(ProviderError):
    """The provider does not know the card that was named; another one may work."""

    code = "unknown_payment_method"
    sentence = "The payment provider has no such card; enter it again, and send what it is called then."


class PaymentDeclined(ProviderError):
    """The guest's bank or the provider declined this attempt; another card may work."""

    code = "payment_declined"
    sentence = "The payment was declined{why}; try another card."

    @staticmethod
    def in_words(facts: dict[str, Any]) -> dict[str, Any]:
        """The reason in words, where the code is more than the no itself."""
        code = str(facts.get("decline_code", ""))
        plain = code in {"", "declined", "generic_decline", "card_declined"}
        return {"why": "" if plain else f" ({code.replace('_', ' ')})"}


class UpstreamUnavailable(StaydeskError):
    """A part we depend on did not answer; the same request may be repeated safely."""

    code = "upstream_unavailable"
    sentence = "{part} did not answer; nothing was lost, try again."


class Indeterminate(UpstreamUnavailable):
    """The provider may or may not have acted; the same key will tell."""

    code = "indeterminate"
    sentence = "The provider has not confirmed yet; the outcome will follow by itself, do not repeat with another key."
