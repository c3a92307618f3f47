"""One SDK call, its answer in the port's terms, and the pages of a list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import stripe as sdk

from backoffice.core import clock
from backoffice.core.errors import (
    Indeterminate,
    ProviderError,
    StaydeskError,
    UnknownPaymentMethod,
    UpstreamUnavailable,
)

T = TypeVar("T")
# In the port's words: what Stripe does not know, and an account that is no longer connected to ours.
_MISSING: Final = {"resource_missing": "object", "account_invalid": "account"}
# What it answers where a card network has the charge.
_CHARGED_BACK: Final = frozenset({"charge_disputed", "refund_disputed_payment"})


class Calls:
    """The SDK's client, as every part of the gateway uses it."""

    _client: sdk.StripeClient

    def pages(self, listing: Callable[[Any], Any], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Every row of a list, newest first, asking for the next page when the last one is used up."""
        while True:
            page = read(partial(listing, params)).to_dict()
            yield from page["data"]
            if not page["has_more"]:
                return
            params = {**params, "starting_after": page["data"][-1]["id"]}


class CardDeclined(Exception):
    """A card was declined: an answer about a payment (or a card's set-up) that exists, not a failure of the call."""

    def __init__(self, intent: Mapping[str, Any], code: str, message: str) -> None:
        self.intent, self.code, self.message = intent, code, message
        super().__init__(code)


class Sends(threading.local):
    """How often the SDK has sent what this thread asks for now, and since when: it repeats what was not answered by itself."""

    number = 0
    began = datetime.min.replace(tzinfo=UTC)


SENDS: Final = Sends()
# Stripe may forget a key after 24 hours. A machine that slept for so long between two sendings must not send again: without
# its key the repeat is carried out a second time. What became of the first is then looked for, as of any answer that is lost.
KEY_LIVES: Final = timedelta(hours=20)


def counted(client: sdk.HTTPClient) -> sdk.HTTPClient:
    """The SDK's client, every request of which is counted."""
    send = client.request

    def request(*arguments: Any, **options: Any) -> Any:
        if SENDS.number == 0:
            SENDS.began = clock.now()
        elif clock.now() - SENDS.began > KEY_LIVES:
            why = "the key of what was sent may have been forgotten"
            raise sdk.APIConnectionError(why, should_retry=False)  # type: ignore[no-untyped-call]  # the SDK's own
        SENDS.number += 1
        return send(*arguments, **options)

    client.request = request  # type: ignore[method-assign]  # whichever class of client it is
    return client


def call(ask: Callable[[], T]) -> T:
    """Make one SDK call and translate what it raises into the port's three answers."""
    SENDS.number = 0
    try:
        return ask()
    except sdk.CardError as error:
        intent = getattr(error.error, "payment_intent", None) or getattr(error.error, "setup_intent", None)
        if intent is None:
            raise ProviderError(
                message=error.user_message or "the card was declined", provider_code=error.code
            ) from None
        code = getattr(error.error, "decline_code", None) or error.code or "declined"
        raise CardDeclined(intent.to_dict(), code, error.user_message or "") from None
    except sdk.RateLimitError:
        if SENDS.number > 1:  # it is the repeat that is turned away: what was sent before may have been carried out
            raise Indeterminate() from None
        raise UpstreamUnavailable(part="The payment provider") from None
    except sdk.APIConnectionError:
        # A refused connection and a lost answer look alike from here; the same key makes the repeat harmless.
        raise Indeterminate() from None
    except sdk.StripeError as error:
        raise _translated(error) from None


def read(ask: Callable[[], T]) -> T:
    """Make a call that changes nothing: an answer that is lost is simply asked for again."""
    try:
        return call(ask)
    except Indeterminate:
        raise UpstreamUnavailable(part="The payment provider") from None


def _translated(error: sdk.StripeError) -> StaydeskError:
    status = error.http_status or 0
    if status >= 500:
        return Indeterminate(answered=True)  # and saved under our key: it will be the answer for a day
    if status == 409:
        return Indeterminate()
    detail = error.error.message if error.error is not None else str(error)
    code = error.error.code if error.error is not None else None
    if code == "resource_missing" and error.error is not None and error.error.param == "payment_method":
        return UnknownPaymentMethod(field="payment_method", message=detail, provider_code=code)
    ours: dict[str, Any] = {"missing": _MISSING[code]} if code in _MISSING else {}
    if code in _CHARGED_BACK:
        ours["charged_back"] = True
    return ProviderError(message=detail or "no reason given", provider_code=code, **ours)


def word_of(row: Mapping[str, Any], words: Mapping[str, T]) -> T:
    """The status of an object in the port's terms. One that is new to us is an answer that cannot be read: what it is about
    stays under way, and is asked for again. Raises Indeterminate."""
    if row["status"] not in words:
        raise Indeterminate()
    return words[row["status"]]


def id_of(value: Any) -> str:
    """An id, whether the provider expanded the object or not."""
    if value is None:
        return ""
    return str(value["id"]) if isinstance(value, Mapping) else str(value)


def instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
