"""How one value looks anywhere in the console: amounts, instants, statuses, links. Everything here is escaped."""

from __future__ import annotations

from datetime import date, datetime
from functools import reduce
from typing import Any, Final

from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from backoffice.core.money import Money, minor_digits

NONE: Final = mark_safe('<span class="sd-none">–</span>')

# What a status means for whoever looks: done, moving, waiting for somebody, wrong, or over.
_TONES: Final[dict[str, tuple[str, ...]]] = {
    "success": ("confirmed", "checked_in", "published", "captured", "succeeded", "applied", "active", "completed",
                "resolved", "self_healed", "sent", "ok", "transferred", "paid", "enabled", "won"),
    "info": ("processing", "approved", "submitted", "received", "running", "in_review", "authorised",
             "investigating", "proposed", "scheduled", "releasable", "in_transfer", "in_transit", "under_review"),
    "warning": ("requested", "awaiting_payment", "requires_action", "requires_payment", "indeterminate", "pending",
                "paused", "open", "reopened", "interrupted", "expected", "late", "held", "onboarding",
                "needs_response"),
    "danger": ("failed", "dead", "suspended", "declined", "rejected", "no_show", "reversed", "restricted", "lost",
               "stopped"),
}  # fmt: skip
_TONE_OF: Final = {status: tone for tone, statuses in _TONES.items() for status in statuses}


def money(amount: int | None, currency: str, *, signed: bool = False) -> SafeString:
    """Minor units as a person reads them, the currency beside: "1,250.00 EUR". `signed` shows a plus too."""
    if amount is None:
        return NONE
    digits = minor_digits(currency)
    sign = "−" if amount < 0 else "+" if signed and amount > 0 else ""
    tone = "sd-money sd-negative" if amount < 0 else "sd-money"
    shown = f"{sign}{Money(abs(amount), currency).decimal():,.{digits}f}"
    return format_html('<span class="{}">{} <abbr>{}</abbr></span>', tone, shown, currency)


def of(value: Money, *, signed: bool = False) -> SafeString:
    """`money` of a Money."""
    return money(value.amount, value.currency, signed=signed)


def instant(value: datetime | None) -> SafeString:
    """A UTC instant; the seconds are on hover."""
    if value is None:
        return NONE
    return format_html(
        '<time datetime="{}" title="{} UTC">{} <span class="sd-time">{}</span></time>',
        value.isoformat(),
        value.strftime("%Y-%m-%d %H:%M:%S"),
        day_text(value.date()),
        value.strftime("%H:%M"),
    )


def when(value: datetime) -> str:
    """An instant inside a sentence."""
    return f"{day_text(value.date())}, {value:%H:%M} UTC"


def day_text(value: date) -> str:
    return f"{value.day} {value.strftime('%b %Y')}"


def day(value: date | None) -> SafeString:
    return NONE if value is None else format_html('<time datetime="{}">{}</time>', value.isoformat(), day_text(value))


def stay(check_in: date, check_out: date) -> SafeString:
    """A half-open stay with its nights."""
    nights = (check_out - check_in).days
    return format_html(
        '<span class="sd-stay">{} – {} <span class="sd-sub">{} {}</span></span>',
        day_text(check_in) if check_in.year != check_out.year else f"{check_in.day} {check_in.strftime('%b')}",
        day_text(check_out),
        nights,
        "night" if nights == 1 else "nights",
    )


def words(value: str) -> str:
    """A status, cause or verb as words."""
    return value.replace("_", " ").replace("-", " ")


_ROLES: Final = {
    "support_l1": "support L1",
    "support_l2": "support L2",
    "trust_safety": "trust & safety",
    "on_call": "on-call",
}


def role(value: str) -> str:
    """A staff role as it is spoken."""
    return _ROLES.get(value, words(value))


def status(value: str, text: str = "", *, tone: str = "") -> SafeString:
    """A badge whose tone says whether somebody must act; `tone` where the word alone does not."""
    shown = (text or words(value)).capitalize()
    return format_html('<span class="sd-badge sd-{}">{}</span>', tone or _TONE_OF.get(value, "plain"), shown)


def key_of(thing: Model, key: str) -> Any:
    """The value that names a thing in its address, perhaps of a related one: `host__code`."""
    return reduce(getattr, key.split("__"), thing)


def address_of(thing: Model) -> str:
    """The console page of a thing."""
    from django.contrib import admin  # the registry is complete only when every room is loaded

    meta = thing._meta
    registered = admin.site._registry.get(type(thing) if meta.concrete_model is None else meta.concrete_model)
    key = key_of(thing, getattr(registered, "key", "pk"))
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[key])


def list_of(model: type[Model], query: str = "") -> str:
    """The console list of a model, with a query string."""
    meta = model._meta
    address = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    return f"{address}?{query}" if query else address


def link(thing: Model | None, text: Any = "") -> SafeString:
    """A link to the page of a thing, named as a person would say it."""
    if thing is None:
        return NONE
    if not text:
        return format_html('<a class="sd-link sd-nobreak" href="{}">{}</a>', address_of(thing), str(thing))
    return format_html('<a class="sd-link" href="{}">{}</a>', address_of(thing), text)


def code(value: str | None) -> SafeString:
    """A code or a provider's id, in a face that tells 0 from O."""
    return NONE if not value else format_html('<span class="sd-code{}">{}</span>', _whole(value), value)


def _whole(name: str) -> str:
    """A code of ours is never broken at its hyphen; a provider's long id may be."""
    return " sd-nobreak" if len(name) <= 16 else ""


# What `find` knows to lead to: our codes, and the provider's ids of things we keep.
LEADS: Final = (
    *("BK-", "LS-", "PN-", "PY-", "RF-", "CH-", "CB-", "PO-", "HD-", "CW-", "WO-", "BP-", "BR-", "BL-"),
    *("pi_", "ch_", "re_", "txn_", "tr_", "trr_", "po_", "acct_", "du_", "dp_", "evt_"),
)


def lead(name: str | None, text: Any = "") -> SafeString:
    """A code or a provider's id that leads to what it names; it is looked up only when somebody follows it."""
    if not name or not name.startswith(LEADS):
        return code(name)
    address = f"{reverse('admin:find')}?{urlencode({'q': name})}"
    return format_html('<a class="sd-link sd-code{}" href="{}">{}</a>', _whole(name), address, text or name)


def two(first: Any, second: Any) -> SafeString:
    """A value with a quieter one beneath, if there is one."""
    second = "" if second == NONE else second
    return format_html('<span class="sd-two">{}<span class="sd-sub">{}</span></span>', first, second)


def yes_no(value: bool) -> str:
    return "Yes" if value else "No"
