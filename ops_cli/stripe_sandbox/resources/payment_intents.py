"""PaymentIntents: parameters and operations; what they do to money is in ``intents``."""

from __future__ import annotations

from typing import Any

from ops_cli.stripe_sandbox import intents
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json
from ops_cli.stripe_sandbox.forms import Raw
from ops_cli.stripe_sandbox.money import check_charge_amount, read_currency
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    SHIPPING,
    Boolean,
    BooleanOrChoice,
    Choice,
    Field,
    Group,
    Integer,
    ListOf,
    Metadata,
    NotSimulated,
    Text,
    TimeRange,
    Values,
    listing,
    merged,
)
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.shapes import complete, load_customer
from ops_cli.stripe_sandbox.store import Record


class NoLongerAccepted(Field):
    """``payment_method_types``: an error of its own since 2026-09-30.endive."""

    def read(self, raw: Raw, name: str) -> Any:
        raise ApiError(
            400,
            "The payment_method_types parameter is no longer supported. Use automatic_payment_methods, "
            "excluded_payment_method_types or allowed_payment_method_types instead.",
            code="payment_method_types_no_longer_supported",
            param=name,
        )


_CARD_OPTIONS: dict[str, Field] = {
    "request_three_d_secure": Choice(of=("any", "automatic", "challenge")),
    **{
        name: NotSimulated()
        for name in (
            "capture_method", "cvc_token", "installments", "mandate_options", "network",
            "request_extended_authorization", "request_incremental_authorization", "request_multicapture",
            "request_overcapture", "require_cvc_recollection", "setup_future_usage", "statement_descriptor_suffix_kana",
            "statement_descriptor_suffix_kanji", "three_d_secure", "setup_credential_usage", "stored_credential_usage",
        )
    },
}  # fmt: skip
_TYPES = ListOf(item=Text())
_COMMON: dict[str, Field] = {
    "allowed_payment_method_types": _TYPES,
    "capture_method": Choice(of=("automatic", "automatic_async", "manual")),
    "excluded_payment_method_types": ListOf(item=Text(), clearable=True),
    "payment_method": Text(),
    "payment_method_data": NotSimulated(),
    "payment_method_options": Group(fields={
        "card": Group(fields=_CARD_OPTIONS, clearable=True),
        "link": NotSimulated(),
        "sepa_debit": NotSimulated(),
    }),
    "payment_method_types": NoLongerAccepted(),
    "receipt_email": Text(clearable=True),
    "setup_future_usage": Choice(of=("off_session", "on_session"), clearable=True),
    "shipping": Group(fields=SHIPPING, clearable=True),
}  # fmt: skip
_DESCRIBED: dict[str, Field] = {
    "application_fee_amount": NotSimulated(),
    "customer": Text(),
    "customer_account": NotSimulated(),
    "description": Text(longest=1000),
    "metadata": Metadata(),
    "statement_descriptor": Text(longest=22),
    "statement_descriptor_suffix": Text(longest=22),
    "transfer_data": NotSimulated(),
    "transfer_group": Text(),
}
_CONFIRMING: dict[str, Field] = {
    "confirmation_token": NotSimulated(),
    "error_on_requires_action": Boolean(),
    "mandate": NotSimulated(),
    "mandate_data": NotSimulated(),
    "off_session": BooleanOrChoice(of=("one_off", "recurring")),
    "return_url": Text(),
    "use_stripe_sdk": Boolean(),
}
_ONLY_WITH_CONFIRM = ("error_on_requires_action", "off_session", "return_url")
_STORED = (
    "allowed_payment_method_types", "capture_method", "confirmation_method", "description",
    "excluded_payment_method_types", "receipt_email", "setup_future_usage", "shipping", "statement_descriptor",
    "statement_descriptor_suffix", "transfer_group",
)  # fmt: skip
_AMOUNT_MAY_CHANGE = ("requires_payment_method", "requires_confirmation", "requires_action")
_ALWAYS_CHANGEABLE = frozenset({"description", "metadata", "receipt_email", "shipping", "transfer_group", "expand"})


@operation(
    "POST",
    "/v1/payment_intents",
    {
        **_COMMON,
        **_DESCRIBED,
        **_CONFIRMING,
        "amount": Integer(required=True),
        "automatic_payment_methods": Group(
            fields={"allow_redirects": Choice(of=("always", "never")), "enabled": Boolean(required=True)}
        ),
        "confirm": Boolean(),
        "confirmation_method": Choice(of=("automatic", "manual")),
        "currency": Text(required=True),
        "on_behalf_of": NotSimulated(),
    },
)
def create_intent(ctx: Context, params: Values) -> Json:
    """A new intent, confirmed at once when asked."""
    currency = read_currency(params["currency"])
    _check_amount(ctx, params["amount"], currency)
    _refuse_contradictions(params)
    customer = load_customer(ctx, params["customer"]).id if "customer" in params else None
    fields: Json = {"amount": params["amount"], "currency": currency, "customer": customer}
    if "automatic_payment_methods" in params:
        fields["automatic_payment_methods"] = {"allow_redirects": "always", **params["automatic_payment_methods"]}
    if "payment_method" in params:
        fields["payment_method"] = intents.use_method(ctx, params["payment_method"], customer).id
    fields.update(_stored(params))
    fields["metadata"] = merged({}, params.get("metadata") or {})
    intent = intents.create(ctx, {**fields, **_types(params)})
    if "payment_method_options" in params:
        _set_options(ctx, intent, params)
    if params.get("confirm"):
        _confirm(ctx, intent, params)
    return intent.doc


@operation("GET", "/v1/payment_intents", listing(created=TimeRange(), customer=Text(), customer_account=NotSimulated()))
def list_intents(ctx: Context, params: Values) -> Json:
    """Intents, newest first."""
    query = objects(ctx, "payment_intent").created(params).equal(params, customer="doc ->> '$.customer'")
    return query.page(params, "/v1/payment_intents", show_document)


@operation("GET", "/v1/payment_intents/{intent}", {"client_secret": Text()})
def retrieve_intent(ctx: Context, params: Values, intent: str) -> Json:
    """One intent."""
    record = _load(ctx, intent)
    _check_secret(record, params)
    return record.doc


@operation(
    "POST",
    "/v1/payment_intents/{intent}",
    {
        **_COMMON,
        **_DESCRIBED,
        "amount": Integer(),
        "currency": Text(),
    },
)
def update_intent(ctx: Context, params: Values, intent: str) -> Json:
    """Change an intent that has not been paid; afterwards only what describes it."""
    record = _load(ctx, intent)
    doc = record.doc
    fixed = sorted(set(params) - _ALWAYS_CHANGEABLE)
    if fixed and doc["status"] not in _AMOUNT_MAY_CHANGE:
        raise intents.unexpected_state(
            record,
            f"This PaymentIntent's {fixed[0]} could not be updated because it has a status of {doc['status']}. You may "
            f"only update the {fixed[0]} of a PaymentIntent with one of the following statuses: "
            f"{', '.join(_AMOUNT_MAY_CHANGE)}.",
        )
    if "amount" in params or "currency" in params:
        currency = read_currency(params["currency"]) if "currency" in params else doc["currency"]
        doc.update(amount=params.get("amount", doc["amount"]), currency=currency)
        _check_amount(ctx, doc["amount"], currency)
    if "customer" in params:
        doc["customer"] = load_customer(ctx, params["customer"]).id
    if "payment_method" in params:
        doc["payment_method"] = intents.use_method(ctx, params["payment_method"], doc["customer"]).id
        doc.update(status="requires_confirmation", next_action=None)
    if "metadata" in params:
        doc["metadata"] = merged(doc["metadata"], params["metadata"])
    doc.update({**_stored(params), **_types(params)})
    _set_options(ctx, record, params)
    return ctx.tx.save(record).doc


@operation(
    "POST",
    "/v1/payment_intents/{intent}/confirm",
    {
        **_COMMON,
        **_CONFIRMING,
        "amount_to_confirm": Integer(),
        "client_secret": Text(),
    },
)
def confirm_intent(ctx: Context, params: Values, intent: str) -> Json:
    """Attempt the payment."""
    record = _load(ctx, intent)
    doc = record.doc
    _check_secret(record, params)
    if params.get("amount_to_confirm", doc["amount"]) != doc["amount"]:
        raise ApiError(
            400,
            "The provided amount_to_confirm does not match the amount of the PaymentIntent.",
            code="payment_intent_invalid_parameter",
            param="amount_to_confirm",
            payment_intent=doc,
        )
    if "payment_method" in params and doc["status"] in intents.CONFIRMABLE:
        doc["payment_method"] = intents.use_method(ctx, params["payment_method"], doc["customer"]).id
    doc.update({**_stored(params), **_types(params)})
    _set_options(ctx, record, params)
    return _confirm(ctx, record, params).doc


@operation(
    "POST",
    "/v1/payment_intents/{intent}/capture",
    {
        "amount_to_capture": Integer(least=1),
        "application_fee_amount": NotSimulated(),
        "final_capture": Boolean(),
        "metadata": Metadata(),
        "statement_descriptor": NotSimulated(),
        "statement_descriptor_suffix": Text(longest=22),
        "transfer_data": NotSimulated(),
    },
)
def capture_intent(ctx: Context, params: Values, intent: str) -> Json:
    """Take an authorised payment, in full or in part, once."""
    record = _load(ctx, intent)
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    record.doc.update(_stored(params))
    return intents.capture(ctx, record, amount=params.get("amount_to_capture")).doc


@operation(
    "POST",
    "/v1/payment_intents/{intent}/cancel",
    {
        "cancellation_reason": Choice(of=("abandoned", "duplicate", "fraudulent", "requested_by_customer")),
    },
)
def cancel_intent(ctx: Context, params: Values, intent: str) -> Json:
    """Give up an intent that has not succeeded."""
    return intents.cancel(ctx, _load(ctx, intent), params.get("cancellation_reason")).doc


def _load(ctx: Context, id: str) -> Record:
    return ctx.load("payment_intent", id, param="intent")


def _confirm(ctx: Context, record: Record, params: Values) -> Record:
    return intents.confirm(
        ctx,
        record,
        off_session=params.get("off_session", False),
        return_url=params.get("return_url"),
        use_sdk=params.get("use_stripe_sdk", False),
        fail_on_action=params.get("error_on_requires_action", False),
    )


def _check_amount(ctx: Context, amount: int, currency: str) -> None:
    check_charge_amount(amount, currency, tariff=ctx.settings.tariff, rates=ctx.rates, at=ctx.now)


def _check_secret(record: Record, params: Values) -> None:
    if params.get("client_secret", record.doc["client_secret"]) != record.doc["client_secret"]:
        raise ApiError(
            400,
            "The client_secret provided does not match the client_secret associated with the PaymentIntent.",
            code="payment_intent_invalid_parameter",
            param="client_secret",
        )


def _refuse_contradictions(params: Values) -> None:
    for name in _ONLY_WITH_CONFIRM:
        if params.get(name) and not params.get("confirm"):
            raise ApiError(
                400,
                f"The parameter `{name}` cannot be passed when creating a PaymentIntent unless "
                "`confirm` is set to true.",
                param=name,
            )
    exclusive = [
        name
        for name in ("allowed_payment_method_types", "automatic_payment_methods", "excluded_payment_method_types")
        if name in params
    ]
    if len(exclusive) > 1 and "allowed_payment_method_types" in exclusive:
        raise ApiError(
            400,
            f"You may only specify one of these parameters: {', '.join(exclusive)}.",
            code="parameters_exclusive",
            param=exclusive[0],
        )


def _stored(params: Values) -> Json:
    return {name: complete(name, params[name]) for name in _STORED if name in params}


def _types(params: Values) -> Json:
    """Which types remain: the sandbox's account has cards alone, so a filter leaves cards or nothing."""
    allowed = params.get("allowed_payment_method_types")
    excluded = params.get("excluded_payment_method_types") or []
    if allowed is None and not excluded:
        return {}
    return {"payment_method_types": ["card"] if "card" in (allowed or ["card"]) and "card" not in excluded else []}


def _set_options(ctx: Context, record: Record, params: Values) -> None:
    given = (params.get("payment_method_options") or {}).get("card")
    if given:
        options = record.doc["payment_method_options"]
        record.doc["payment_method_options"] = {**options, "card": {**options["card"], **given}}
    ctx.tx.save(record)
