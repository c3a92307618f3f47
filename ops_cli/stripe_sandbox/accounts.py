"""Connected accounts: what they still owe the provider, what they may do, where their money is paid."""

from __future__ import annotations

import copy
from typing import Any

from .context import Context
from .errors import ApiError, Json, missing_resource
from .events import changes, emit
from .money import CURRENCIES
from .settings import PAYOUT_SPEED, SLOWEST
from .store import Record, token

CAPABILITIES = ("card_payments", "legacy_payments", "link_payments", "sepa_debit_payments", "transfers")
# What a person must tell before money may flow; at Stripe the list depends on country, capability and business type.
_PERSON_DUE = (
    "business_profile.mcc", "business_profile.url", "business_type", "external_account", "individual.dob.day",
    "individual.dob.month", "individual.dob.year", "individual.first_name", "individual.last_name",
    "tos_acceptance.date", "tos_acceptance.ip",
)  # fmt: skip
_HOME_CURRENCY = {
    "US": "usd", "GB": "gbp", "SG": "sgd", "CA": "cad", "CH": "chf", "AU": "aud", "JP": "jpy", "SE": "sek", "DK": "dkk",
    "NO": "nok", "PL": "pln", "CZ": "czk", "HU": "huf", "NZ": "nzd", "HK": "hkd", "MX": "mxn", "BR": "brl", "TH": "thb",
}  # fmt: skip
# What happens to payouts by test account number (Stripe's testing page; its numbers for the United States).
_FAILING_NUMBERS = {
    "000111111116": "no_account", "000111111113": "account_closed", "000222222227": "insufficient_funds",
    "000333333335": "debit_not_authorized", "000444444440": "invalid_currency",
}  # fmt: skip
_TOKENS = {
    "btok_us_verified": "000123456789", "btok_us": "000123456789", "btok_us_noAccount": "000111111116",
    "btok_us_accountClosed": "000111111113", "btok_us_insufficientFunds": "000222222227",
    "btok_us_debitNotAuthorized": "000333333335", "btok_us_invalidCurrency": "000444444440",
}  # fmt: skip


def create(ctx: Context, fields: Json, *, kind: str, controller: Json) -> Record:
    """A new connected account that has told nothing yet beyond ``fields``."""
    country = fields.pop("country", None) or ctx.settings.country
    days = PAYOUT_SPEED.get(country, SLOWEST)[0]
    id = ctx.tx.new_id("acct_")
    return ctx.add("account", {
        "id": id,
        "object": "account",
        "business_profile": {
            "annual_revenue": None, "estimated_worker_count": None, "mcc": None,
            "minority_owned_business_designation": None, "name": None, "product_description": None,
            "support_address": None, "support_email": None, "support_phone": None, "support_url": None, "url": None,
        },
        "business_type": None,
        "capabilities": {},
        "charges_enabled": False,
        "controller": controller,
        "country": country,
        "created": ctx.time,
        "default_currency": fields.pop("default_currency", None) or _HOME_CURRENCY.get(country, "eur"),
        "details_submitted": False,
        "email": None,
        "external_accounts": _external_list(id, []),
        "future_requirements": _requirements([], None),
        "metadata": {},
        "payouts_enabled": False,
        "requirements": _requirements([], None),
        "settings": _settings(days),
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": kind,
        **fields,
    }, {"individual": {}, "rejected": None, "onboarded": False, "past_due": []})  # fmt: skip


def load(ctx: Context, id: str) -> Record:
    """A connected account of the platform, or the platform's own; ApiError 403 for anybody else's."""
    if id == ctx.settings.platform:
        return _own(ctx)
    record = ctx.tx.find("account", id, account=ctx.settings.platform)
    if record is None:
        raise ApiError(
            403,
            f"The provided key does not have access to account '{id}' (or that account does not exist). Application "
            "access may have been revoked.",
            code="account_invalid",
        )
    return record


def review(ctx: Context, record: Record, *, before: Json | None) -> Record:
    """Work out what is due and what is allowed, save, and tell how it differs from ``before`` (``account.updated``)."""
    doc, private = record.doc, record.private
    banks = external_accounts(ctx.within(record.id))
    doc["external_accounts"] = _external_list(record.id, [bank.doc for bank in banks])
    due = _due(record, banks)
    rejected = private["rejected"]
    reason = f"rejected.{rejected}" if rejected else "requirements.past_due" if due else None
    doc["requirements"] = _requirements(due, reason, past_due=private["past_due"])
    doc["details_submitted"] = private["onboarded"] or not due
    able = not due and rejected is None
    for name in doc["capabilities"]:
        doc["capabilities"][name] = "active" if able else "inactive"
    doc["charges_enabled"] = able and doc["capabilities"].get("card_payments") == "active"
    doc["payouts_enabled"] = able and bool(doc["capabilities"])
    ctx.tx.save(record)
    if before is None:
        return record
    changed = changes(before, doc)
    within = ctx.within(record.id)
    for name in sorted(doc["capabilities"]):
        if before["capabilities"].get(name) != doc["capabilities"][name]:
            emit(within, "capability.updated", capability(record, name))
    if changed:
        emit(within, "account.updated", doc, changed)
    return record


def onboard(ctx: Context, record: Record, *, number: str | None = None) -> Record:
    """What the hosted form collects: everything that is due, with a bank account unless there is one."""
    before = snapshot(record)
    if not external_accounts(ctx.within(record.id)):
        add_bank(ctx.within(record.id), record, {"account_number": number or "000123456789"})
    doc = record.doc
    doc["business_type"] = doc["business_type"] or "individual"
    profile = doc["business_profile"]
    profile.update(mcc=profile["mcc"] or "6513", url=profile["url"] or "https://example.com")
    doc["tos_acceptance"] = {**doc["tos_acceptance"], "date": ctx.time, "ip": "127.0.0.1"}
    record.private.update(
        onboarded=True,
        past_due=[],
        individual={"first_name": "Jenny", "last_name": "Rosen", "dob": {"day": 1, "month": 1, "year": 1990}},
    )
    return review(ctx, record, before=before)


def capability(record: Record, name: str) -> Json:
    """A capability as its own object."""
    status = record.doc["capabilities"].get(name)
    return {
        "id": name,
        "object": "capability",
        "account": record.id,
        "future_requirements": _requirements([], None),
        "requested": status is not None,
        "requested_at": record.private.get("requested", {}).get(name),
        "requirements": _requirements(record.doc["requirements"]["currently_due"] if status == "inactive" else [],
                                      "requirements.fields_needed" if status == "inactive" else None),
        "status": status or "unrequested",
    }  # fmt: skip


def request_capability(ctx: Context, record: Record, name: str, wanted: bool) -> None:
    """Ask for a capability or give it up; ``review`` decides whether it is active."""
    if wanted:
        record.doc["capabilities"].setdefault(name, "inactive")
        record.private.setdefault("requested", {}).setdefault(name, ctx.time)
    else:
        record.doc["capabilities"].pop(name, None)


def external_accounts(ctx: Context) -> list[Record]:
    """The bank accounts of the context's account, newest first."""
    ids = ctx.tx.rows(
        "SELECT id FROM objects WHERE kind = 'bank_account' AND account = ? AND NOT deleted ORDER BY seq DESC",
        ctx.account,
    )
    return [ctx.load("bank_account", row["id"]) for row in ids]


def add_bank(ctx: Context, owner: Record, given: Json | str, *, default: bool = False) -> Record:
    """A bank account for payouts, from a test token or from numbers; the first of a currency is its default."""
    if isinstance(given, str):
        if given not in _TOKENS:
            raise missing_resource("token", given, param="external_account")
        given = {"account_number": _TOKENS[given], "routing_number": "110000000", "country": "US", "currency": "usd"}
    country = str(given.get("country") or owner.doc["country"]).upper()
    currency = str(given.get("currency") or _HOME_CURRENCY.get(country, "eur")).lower()
    if currency not in CURRENCIES:
        raise ApiError(400, f"Invalid currency: {currency}", param="external_account[currency]")
    number = str(given["account_number"])
    others = [bank for bank in external_accounts(ctx) if bank.doc["currency"] == currency]
    bank = ctx.add("bank_account", {
        "id": ctx.tx.new_id("ba_"),
        "object": "bank_account",
        "account": owner.id,
        "account_holder_name": given.get("account_holder_name"),
        "account_holder_type": given.get("account_holder_type"),
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "STRIPE TEST BANK",
        "country": country,
        "currency": currency,
        "default_for_currency": default or not others,
        "fingerprint": token("bank", number, length=16),
        "future_requirements": _bank_requirements(),
        "last4": number[-4:],
        "metadata": {},
        "requirements": _bank_requirements(),
        "routing_number": given.get("routing_number"),
        "status": "new",
    }, {"failure": _FAILING_NUMBERS.get(number)})  # fmt: skip
    if bank.doc["default_for_currency"]:
        make_default(ctx, bank)
    if not ctx.on_platform:
        emit(ctx, "account.external_account.created", bank.doc)
    return bank


def make_default(ctx: Context, bank: Record) -> None:
    """Pay this currency to this account from now on."""
    for other in external_accounts(ctx):
        if other.doc["currency"] == bank.doc["currency"]:
            other.doc["default_for_currency"] = other.id == bank.id
            ctx.tx.save(other)
    bank.doc["default_for_currency"] = True


def bank_for(ctx: Context, currency: str) -> Record | None:
    """Where payouts of ``currency`` go. The platform always has an account; a connected one may have none."""
    for bank in external_accounts(ctx):
        if bank.doc["currency"] == currency and bank.doc["default_for_currency"]:
            return bank
    if ctx.on_platform:
        return add_bank(ctx, _own(ctx), {"account_number": "000123456789", "currency": currency})
    return None


def holds(ctx: Context, record: Record) -> set[str]:
    """Currencies that a connected account keeps as they come; all others become its default currency."""
    return {record.doc["default_currency"], *(bank.doc["currency"] for bank in external_accounts(ctx))}


def snapshot(record: Record) -> Json:
    """The document as it is now, safe from later changes to its parts."""
    return copy.deepcopy(record.doc)


def _own(ctx: Context) -> Record:
    return Record("account", {
        "id": ctx.settings.platform, "object": "account", "business_profile": None, "business_type": "company",
        "capabilities": dict.fromkeys(("card_payments", "transfers"), "active"), "charges_enabled": True,
        "controller": {"type": "account"}, "country": ctx.settings.country, "created": 0,
        "default_currency": ctx.settings.tariff.native[0], "details_submitted": True, "email": None,
        "external_accounts": _external_list(ctx.settings.platform, []), "payouts_enabled": True, "metadata": {},
        "settings": {**_settings(2), "payouts": {**_settings(2)["payouts"], "schedule": {"delay_days": 2,
                                                                                       "interval": "manual"}}},
        "type": "standard",
    })  # fmt: skip


def _due(record: Record, banks: list[Record]) -> list[str]:
    doc = record.doc
    told = {
        "business_profile.mcc": doc["business_profile"]["mcc"],
        "business_profile.url": doc["business_profile"]["url"] or doc["business_profile"]["product_description"],
        "business_type": doc["business_type"],
        "external_account": any(bank.doc["status"] != "errored" for bank in banks),
        "tos_acceptance.date": doc["tos_acceptance"]["date"],
        "tos_acceptance.ip": doc["tos_acceptance"]["ip"],
    }
    person: dict[str, Any] = record.private["individual"]
    due = [name for name in _PERSON_DUE if not name.startswith("individual.") and not told[name]]
    if doc["business_type"] in (None, "individual"):
        due += [f"individual.{name}" for name in ("first_name", "last_name") if not person.get(name)]
        due += [
            f"individual.dob.{part}" for part in ("day", "month", "year") if not (person.get("dob") or {}).get(part)
        ]
    return sorted({*due, *record.private["past_due"]})


def _requirements(due: list[str], reason: str | None, *, past_due: list[str] | None = None) -> Json:
    return {
        "alternatives": [], "current_deadline": None, "currently_due": due, "disabled_reason": reason, "errors": [],
        "eventually_due": due, "past_due": past_due or [], "pending_verification": [],
    }  # fmt: skip


def _bank_requirements() -> Json:
    return {"currently_due": [], "errors": [], "past_due": [], "pending_verification": []}


def _external_list(account: str, banks: list[Json]) -> Json:
    url = f"/v1/accounts/{account}/external_accounts"
    return {"object": "list", "data": banks[:10], "has_more": len(banks) > 10, "url": url}


def _settings(delay_days: int) -> Json:
    return {
        "bacs_debit_payments": {"display_name": None, "service_user_number": None},
        "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
        "card_issuing": {"tos_acceptance": {"date": None, "ip": None}},
        "card_payments": {
            "decline_on": {"avs_failure": False, "cvc_failure": False}, "statement_descriptor_prefix": None,
            "statement_descriptor_prefix_kana": None, "statement_descriptor_prefix_kanji": None,
        },
        "dashboard": {"display_name": None, "timezone": "Etc/UTC"},
        "invoices": {"default_account_tax_ids": None, "hosted_payment_method_save": None},
        "payments": {"statement_descriptor": None, "statement_descriptor_kana": None,
                     "statement_descriptor_kanji": None},
        "payouts": {"debit_negative_balances": True, "schedule": {"delay_days": delay_days, "interval": "daily"},
                    "statement_descriptor": None},
        "sepa_debit_payments": {},
    }  # fmt: skip
