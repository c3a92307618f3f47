"""Connected accounts, their capabilities and bank accounts, and the links that lead hosts to the hosted form."""

from __future__ import annotations

from functools import cache
from typing import Any

from babel import Locale

from ops_cli.stripe_sandbox import accounts
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, missing_resource
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.money import read_currency
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import Boolean, Choice, Group, Text, TimeRange, Values, listing, merged
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.settings import PAYOUT_SPEED, SLOWEST
from ops_cli.stripe_sandbox.store import Record

from .account_params import CREATE, EXTERNAL, EXTERNAL_UPDATE, UPDATE

LINK_SECONDS = 300
_REJECTIONS = (
    "credit", "fraud_no_intent_to_fulfill", "fraud_other", "fraud_payment_method_casher", "fraud_payment_method_tester",
    "other", "terms_of_service",
)  # fmt: skip
# Which controller properties a type stands for, and the type that properties amount to.
_CONTROLLERS = {
    "standard": ("account", "stripe", "stripe", "full"),
    "express": ("application_express", "application", "stripe", "express"),
    "custom": ("application_custom", "application", "application", "none"),
}


# What stands among the territories of the locale data and is no country of ISO 3166-1.
_NO_COUNTRIES = frozenset("AC CP CQ DG EA EU EZ IC QO TA UN XA XB XK ZZ".split())


@cache
def _countries() -> frozenset[str]:
    known = map(str, Locale("en").territories)
    return frozenset(code for code in known if len(code) == 2 and code.isalpha()) - _NO_COUNTRIES


@operation("POST", "/v1/accounts", CREATE)
def create_account(ctx: Context, params: Values) -> Json:
    """A new connected account: by ``type``, or by the properties of its ``controller``."""
    if "type" in params and "controller" in params:
        raise ApiError(
            400,
            "You may only specify one of these parameters: type, controller.",
            code="parameters_exclusive",
            param="type",
        )
    country = params.get("country", ctx.settings.country).upper()
    if country not in _countries():
        raise ApiError(400, f"Country '{country}' is unknown.", code="country_unsupported", param="country")
    kind = "none" if "controller" in params else params.get("type", "standard")
    record = accounts.create(ctx, {"country": country}, kind=kind, controller=_controller(kind, params))
    _apply(ctx, record, params)
    return accounts.review(ctx, record, before=None).doc


@operation("GET", "/v1/accounts", listing(created=TimeRange()))
def list_accounts(ctx: Context, params: Values) -> Json:
    """Connected accounts, newest first."""
    return objects(ctx, "account").created(params).page(params, "/v1/accounts", show_document)


@operation("GET", "/v1/account")
def retrieve_own(ctx: Context, params: Values) -> Json:
    """The account that asks."""
    return accounts.load(ctx, ctx.account).doc


@operation("GET", "/v1/accounts/{account}")
def retrieve_account(ctx: Context, params: Values, account: str) -> Json:
    """One connected account."""
    return accounts.load(ctx, account).doc


@operation("POST", "/v1/accounts/{account}", UPDATE)
def update_account(ctx: Context, params: Values, account: str) -> Json:
    """Change what is given; what is due and allowed follows from it."""
    record = _connected(ctx, account)
    before = accounts.snapshot(record)
    _apply(ctx, record, params)
    return accounts.review(ctx, record, before=before).doc


@operation("DELETE", "/v1/accounts/{account}", expandable=False)
def delete_account(ctx: Context, params: Values, account: str) -> Json:
    """Delete an account whose balance is zero."""
    record = _connected(ctx, account)
    sums = ctx.tx.rows(
        "SELECT currency FROM balance_transactions WHERE account = ? GROUP BY currency HAVING sum(net) <> 0", account
    )
    if sums:
        raise ApiError(
            400, f"The account {account} cannot be deleted: its balance is not zero.", code="account_invalid"
        )
    ctx.tx.delete(record)
    return {"id": account, "object": "account", "deleted": True}


@operation(
    "POST",
    "/v1/accounts/{account}/reject",
    {"payouts_action": Choice(of=("none", "pause")), "reason": Choice(of=_REJECTIONS, required=True)},
)
def reject_account(ctx: Context, params: Values, account: str) -> Json:
    """Refuse to do business with an account; nothing is paid to it from now on."""
    record = _connected(ctx, account)
    before = accounts.snapshot(record)
    reason = params["reason"]
    record.private["rejected"] = (
        "platform_fraud" if "fraud" in reason else {"terms_of_service": "platform_terms_of_service"}.get(
            reason, "platform_other"
        )
    )  # fmt: skip
    return accounts.review(ctx, record, before=before).doc


@operation("GET", "/v1/accounts/{account}/capabilities")
def list_capabilities(ctx: Context, params: Values, account: str) -> Json:
    """The capabilities that were asked for."""
    record = accounts.load(ctx, account)
    data = [accounts.capability(record, name) for name in sorted(record.doc["capabilities"])]
    return {"object": "list", "url": f"/v1/accounts/{account}/capabilities", "has_more": False, "data": data}


@operation("GET", "/v1/accounts/{account}/capabilities/{capability}")
def retrieve_capability(ctx: Context, params: Values, account: str, capability: str) -> Json:
    """One capability, also when it was never asked for."""
    return accounts.capability(accounts.load(ctx, account), _known(capability))


@operation("POST", "/v1/accounts/{account}/capabilities/{capability}", {"requested": Boolean()})
def update_capability(ctx: Context, params: Values, account: str, capability: str) -> Json:
    """Ask for a capability, or give it up."""
    record = _connected(ctx, account)
    before = accounts.snapshot(record)
    if "requested" in params:
        accounts.request_capability(ctx, record, _known(capability), params["requested"])
    accounts.review(ctx, record, before=before)
    return accounts.capability(record, _known(capability))


@operation("GET", "/v1/accounts/{account}/external_accounts", listing(object=Choice(of=("bank_account", "card"))))
def list_external_accounts(ctx: Context, params: Values, account: str) -> Json:
    """The bank accounts of an account, newest first; there are no debit cards here."""
    accounts.load(ctx, account)
    query = objects(ctx.within(account), params.get("object", "bank_account"))
    return query.page(params, f"/v1/accounts/{account}/external_accounts", show_document)


@operation("POST", "/v1/accounts/{account}/external_accounts", EXTERNAL)
def create_external_account(ctx: Context, params: Values, account: str) -> Json:
    """A bank account for payouts."""
    record = _connected(ctx, account)
    given = params.get("external_account", params.get("bank_account"))
    if given is None:
        raise ApiError(
            400, "Missing required param: external_account.", code="parameter_missing", param="external_account"
        )
    before = accounts.snapshot(record)
    bank = accounts.add_bank(
        ctx.within(account), record, given, default=params.get("default_for_currency", False)
    )  # fmt: skip
    bank.doc["metadata"] = merged({}, params.get("metadata") or {})
    ctx.tx.save(bank)
    accounts.review(ctx, record, before=before)
    return bank.doc


@operation("GET", "/v1/accounts/{account}/external_accounts/{id}")
def retrieve_external_account(ctx: Context, params: Values, account: str, id: str) -> Json:
    """One bank account."""
    accounts.load(ctx, account)
    return _bank(ctx, account, id).doc


@operation("POST", "/v1/accounts/{account}/external_accounts/{id}", EXTERNAL_UPDATE)
def update_external_account(ctx: Context, params: Values, account: str, id: str) -> Json:
    """Change the holder or the metadata, or make it the default of its currency; numbers never change."""
    record, bank = _connected(ctx, account), _bank(ctx, account, id)
    before, account_before = dict(bank.doc), accounts.snapshot(record)
    if params.get("default_for_currency"):
        accounts.make_default(ctx.within(account), bank)
    if "metadata" in params:
        bank.doc["metadata"] = merged(bank.doc["metadata"], params["metadata"])
    bank.doc.update({name: params[name] for name in ("account_holder_name", "account_holder_type") if name in params})
    ctx.tx.save(bank)
    emit(ctx.within(account), "account.external_account.updated", bank.doc, changes(before, bank.doc))
    accounts.review(ctx, record, before=account_before)
    return bank.doc


@operation("DELETE", "/v1/accounts/{account}/external_accounts/{id}", expandable=False)
def delete_external_account(ctx: Context, params: Values, account: str, id: str) -> Json:
    """Remove a bank account; the default of a currency stays as long as there is another one."""
    record, bank = _connected(ctx, account), _bank(ctx, account, id)
    others = [other for other in accounts.external_accounts(ctx.within(account)) if other.id != id]
    if bank.doc["default_for_currency"] and any(other.doc["currency"] == bank.doc["currency"] for other in others):
        raise ApiError(400, "You cannot delete the default external account for your default currency.", param="id")
    before = accounts.snapshot(record)
    ctx.tx.delete(bank)
    emit(ctx.within(account), "account.external_account.deleted", bank.doc)
    accounts.review(ctx, record, before=before)
    return {"id": id, "object": "bank_account", "currency": bank.doc["currency"], "deleted": True}


@operation(
    "POST",
    "/v1/account_links",
    {
        "account": Text(required=True),
        "collect": Choice(of=("currently_due", "eventually_due")),
        "collection_options": Group(fields={
            "fields": Choice(of=("currently_due", "eventually_due")),
            "future_requirements": Choice(of=("include", "omit")),
        }),
        "refresh_url": Text(),
        "return_url": Text(),
        "type": Choice(of=("account_onboarding", "account_update"), required=True),
    },
)  # fmt: skip
def create_account_link(ctx: Context, params: Values) -> Json:
    """A link to the hosted form, good for five minutes and one use."""
    _connected(ctx, params["account"])
    for name in ("refresh_url", "return_url"):
        if name not in params:
            raise ApiError(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    id = ctx.tx.new_id("accl_")
    ctx.add("account_link", {"id": id, "account": params["account"], "created": ctx.time,
                             "expires_at": ctx.time + LINK_SECONDS, "refresh_url": params["refresh_url"],
                             "return_url": params["return_url"]})  # fmt: skip
    return {
        "object": "account_link",
        "created": ctx.time,
        "expires_at": ctx.time + LINK_SECONDS,
        "url": f"{ctx.settings.base_url}/_sim/onboarding/{id}",
    }


@operation("POST", "/v1/accounts/{account}/login_links")
def create_login_link(ctx: Context, params: Values, account: str) -> Json:
    """A link to the host's own dashboard; express accounts that have told everything only."""
    record = _connected(ctx, account)
    if record.doc["controller"].get("stripe_dashboard", {}).get("type") != "express" or not record.private["onboarded"]:
        raise ApiError(
            400, f"Cannot create a login link for an account that has not completed onboarding: {account}.",
        )  # fmt: skip
    return {"object": "login_link", "created": ctx.time, "url": f"{ctx.settings.base_url}/_sim/objects/{account}"}


def _apply(ctx: Context, record: Record, params: Values) -> None:
    doc = record.doc
    for name in ("business_type", "email"):
        if name in params:
            doc[name] = params[name]
    if "default_currency" in params:
        doc["default_currency"] = read_currency(params["default_currency"])
    if "metadata" in params:
        doc["metadata"] = merged(doc["metadata"], params["metadata"])
    for name in ("business_profile", "tos_acceptance"):
        doc[name] = {**doc[name], **params.get(name, {})}
    record.private["individual"] = {**record.private["individual"], **params.get("individual", {})}
    for name, wish in params.get("capabilities", {}).items():
        accounts.request_capability(ctx, record, name, wish.get("requested", False))
    payouts = dict(params.get("settings", {}).get("payouts", {}))
    schedule = payouts.pop("schedule", {})
    kept = doc["settings"]["payouts"]
    doc["settings"]["payouts"] = {**kept, **payouts, "schedule": _schedule(doc, kept["schedule"], schedule)}
    bank = params.get("external_account", params.get("bank_account"))
    if bank is not None:
        accounts.add_bank(ctx.within(record.id), record, bank, default=True)


def _schedule(doc: Json, before: Json, given: Json) -> Json:
    least = PAYOUT_SPEED.get(doc["country"], SLOWEST)[0]
    schedule = {**before, **given}
    schedule["delay_days"] = max(schedule["delay_days"] or least, least)
    needs = {"weekly": "weekly_anchor", "monthly": "monthly_anchor"}.get(schedule["interval"])
    for anchor in ("weekly_anchor", "monthly_anchor"):
        if anchor != needs:
            schedule.pop(anchor, None)
    if needs and needs not in schedule and not schedule.get(needs.replace("anchor", "payout_days")):
        raise ApiError(
            400,
            f"You must provide {needs} when using a {schedule['interval']} payout interval.",
            param=f"settings[payouts][schedule][{needs}]",
        )
    return schedule


def _controller(kind: str, params: Values) -> Json:
    given: dict[str, Any] = params.get("controller", {})
    payer, losses, collection, dashboard = _CONTROLLERS.get(kind, _CONTROLLERS["standard"])
    return {
        "type": "application",
        "is_controller": True,
        "fees": {"payer": given.get("fees", {}).get("payer", payer)},
        "losses": {"payments": given.get("losses", {}).get("payments", losses)},
        "requirement_collection": given.get("requirement_collection", collection),
        "stripe_dashboard": {"type": given.get("stripe_dashboard", {}).get("type", dashboard)},
    }


def _connected(ctx: Context, id: str) -> Record:
    record = accounts.load(ctx, id)
    if id == ctx.settings.platform:
        raise ApiError(400, "The platform's own account cannot be changed through the API.", param="account")
    return record


def _known(name: str) -> str:
    if name not in accounts.CAPABILITIES:
        raise missing_resource("capability", name)
    return name


def _bank(ctx: Context, account: str, id: str) -> Record:
    return ctx.within(account).load("bank_account", id, noun="external account")
