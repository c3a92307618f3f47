"""Parameters of connected accounts: what the sandbox acts on, and the many names that it knows and refuses with 501."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ops_cli.stripe_sandbox.accounts import CAPABILITIES
from ops_cli.stripe_sandbox.forms import Raw
from ops_cli.stripe_sandbox.params import (
    ADDRESS,
    Boolean,
    Choice,
    Field,
    Group,
    Integer,
    ListOf,
    Metadata,
    NotSimulated,
    Text,
)

BANK = Group(fields={
    "account_holder_name": Text(), "account_holder_type": Choice(of=("company", "individual")),
    "account_number": Text(required=True), "account_type": NotSimulated(), "country": Text(required=True),
    "currency": Text(), "documents": NotSimulated(), "object": Choice(of=("bank_account",)), "routing_number": Text(),
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TokenOrBank(Field):
    """A bank account: a test token, or its numbers."""

    def parse(self, raw: Raw, name: str) -> Any:
        return raw if isinstance(raw, str) else BANK.parse(raw, name)


@dataclass(frozen=True, kw_only=True)
class DelayDays(Field):
    """``delay_days``: a number, or ``minimum`` for the shortest the country allows (None here)."""

    def parse(self, raw: Raw, name: str) -> int | None:
        return None if raw == "minimum" else Integer(least=0, most=31).parse(raw, name)


def _refused(names: str) -> dict[str, Field]:
    return {name: NotSimulated() for name in names.split()}


_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
_DOB: dict[str, Field] = {part: Integer(required=True) for part in ("day", "month", "year")}
_INDIVIDUAL: dict[str, Field] = {
    "address": Group(fields=ADDRESS),
    "dob": Group(fields=_DOB, clearable=True),
    "email": Text(),
    "first_name": Text(longest=100),
    "last_name": Text(longest=100),
    "id_number": Text(),
    "phone": Text(),
    **_refused(
        "address_kana address_kanji first_name_kana first_name_kanji full_name_aliases gender id_number_secondary "
        "last_name_kana last_name_kanji maiden_name metadata political_exposure registered_address relationship "
        "ssn_last_4 verification"
    ),
}
_PROFILE: dict[str, Field] = {
    "mcc": Text(longest=4),
    "name": Text(),
    "product_description": Text(longest=40000),
    "support_address": Group(fields=ADDRESS),
    "support_email": Text(),
    "support_phone": Text(),
    "support_url": Text(clearable=True),
    "url": Text(),
    **_refused(
        "annual_revenue estimated_worker_count minority_owned_business_designation monthly_estimated_revenue "
        "specified_commercial_transactions_act_url"
    ),
}
_SCHEDULE: dict[str, Field] = {
    "delay_days": DelayDays(),
    "interval": Choice(of=("daily", "manual", "monthly", "weekly")),
    "monthly_anchor": Integer(least=1, most=31),
    "monthly_payout_days": ListOf(item=Integer(least=1, most=31)),
    "weekly_anchor": Choice(of=(*_WEEKDAYS, "saturday", "sunday")),
    "weekly_payout_days": ListOf(item=Choice(of=_WEEKDAYS)),
}
_SETTINGS: dict[str, Field] = {
    "payouts": Group(fields={
        "debit_negative_balances": Boolean(),
        "schedule": Group(fields=_SCHEDULE),
        "statement_descriptor": Text(longest=22),
    }),
    **_refused("bacs_debit_payments branding card_issuing card_payments invoices payments treasury"),
}  # fmt: skip
UPDATE: dict[str, Field] = {
    "business_profile": Group(fields=_PROFILE),
    "business_type": Choice(of=("company", "government_entity", "individual", "non_profit")),
    "capabilities": Group(fields={name: Group(fields={"requested": Boolean()}) for name in CAPABILITIES}),
    "default_currency": Text(),
    "email": Text(),
    "external_account": TokenOrBank(),
    "individual": Group(fields=_INDIVIDUAL),
    "metadata": Metadata(),
    "settings": Group(fields=_SETTINGS),
    "tos_acceptance": Group(fields={
        "date": Integer(), "ip": Text(), "service_agreement": Text(), "user_agent": Text(),
    }),
    **_refused("account_token company documents groups"),
}  # fmt: skip
CREATE: dict[str, Field] = {
    **UPDATE,
    "bank_account": TokenOrBank(),
    "controller": Group(fields={
        "fees": Group(fields={"payer": Choice(of=("account", "application"))}),
        "losses": Group(fields={"payments": Choice(of=("application", "stripe"))}),
        "requirement_collection": Choice(of=("application", "stripe")),
        "stripe_dashboard": Group(fields={"type": Choice(of=("express", "full", "none"))}),
    }),
    "country": Text(),
    "type": Choice(of=("custom", "express", "standard")),
}  # fmt: skip
EXTERNAL: dict[str, Field] = {
    "bank_account": TokenOrBank(),
    "default_for_currency": Boolean(),
    "external_account": TokenOrBank(),
    "metadata": Metadata(clearable=False),
}
EXTERNAL_UPDATE: dict[str, Field] = {
    "account_holder_name": Text(clearable=True),
    "account_holder_type": Choice(of=("company", "individual"), clearable=True),
    "default_for_currency": Boolean(),
    "metadata": Metadata(),
    **_refused(
        "account_type address_city address_country address_line1 address_line2 address_state address_zip documents "
        "exp_month exp_year name"
    ),
}
