"""What the world outside does, on request: hosts fill in forms, banks and guests' issuers decide. ``POST /_sim/…``."""

from __future__ import annotations

from collections.abc import Callable

from . import accounts, disputing, fraud_warnings, payouts
from .context import Context
from .errors import ApiError, Json, missing_resource
from .events import emit
from .store import Record

Act = Callable[..., Json]
ACTS: dict[str, Act] = {}


def act(path: str) -> Callable[[Act], Act]:
    """Register ``act(ctx, given, **path_parts)`` as a control endpoint."""

    def register(function: Act) -> Act:
        ACTS[path] = function
        return function

    return register


def only(given: Json, *names: str) -> None:
    """ApiError 400 for a field that is not among ``names``."""
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ApiError(400, f"Unknown field: {', '.join(unknown)}. Known: {', '.join(names)}.", param=unknown[0])


@act("/_sim/accounts/<account>/onboard")
def onboard(ctx: Context, given: Json, account: str) -> Json:
    """The host fills in the hosted form: ``{"account_number": "000123456789"}``, which decides how payouts end."""
    only(given, "account_number")
    return accounts.onboard(ctx, _account(ctx, account), number=given.get("account_number")).doc


@act("/_sim/accounts/<account>/restrict")
def restrict(ctx: Context, given: Json, account: str) -> Json:
    """The provider wants more: ``{"past_due": ["individual.verification.document"]}``; an empty list lifts it."""
    only(given, "past_due")
    record = _account(ctx, account)
    before = accounts.snapshot(record)
    record.private["past_due"] = [str(name) for name in given.get("past_due", ["individual.verification.document"])]
    return accounts.review(ctx, record, before=before).doc


@act("/_sim/bank_account")
def replace_bank(ctx: Context, given: Json) -> Json:
    """Where the platform's own payouts go: ``{"account_number": "000111111116", "currency": "eur"}``."""
    only(given, "account_number", "currency")
    own = accounts.load(ctx, ctx.account)
    bank = accounts.add_bank(ctx, own, {"currency": own.doc["default_currency"], **given}, default=True)
    return ctx.tx.save(bank).doc


@act("/_sim/payouts/<payout>/fail")
def fail_payout(ctx: Context, given: Json, payout: str) -> Json:
    """The bank sends a payout back, even one that was paid: ``{"failure_code": "account_closed"}``."""
    only(given, "failure_code")
    owner = ctx.tx.value("SELECT account FROM objects WHERE id = ? AND kind = 'payout'", payout)
    if owner is None:
        raise missing_resource("payout", payout, param="payout")
    within = ctx.within(owner)
    return payouts.fail(within, within.load("payout", payout), given.get("failure_code", "account_closed")).doc


@act("/_sim/disputes")
def open_dispute(ctx: Context, given: Json) -> Json:
    """An issuer disputes a charge: ``{"charge": id, "kind": "chargeback" | "inquiry", "reason": …, "amount": …}``."""
    only(given, "charge", "kind", "reason", "amount")
    kind = given.get("kind", "chargeback")
    if kind not in ("chargeback", "inquiry"):
        raise ApiError(400, "kind must be chargeback or inquiry.", param="kind")
    within, charge = _charge(ctx, given)
    return disputing.start(
        within, charge, kind=kind, reason=given.get("reason", "fraudulent"), amount=given.get("amount")
    ).doc


@act("/_sim/disputes/<dispute>")
def move_dispute(ctx: Context, given: Json, dispute: str) -> Json:
    """What the issuer decides: ``{"status": "won"}``, or anything else Stripe may say, also what nobody knows yet;
    ``{"funds": "withdrawn" | "reinstated"}`` moves the money of an appeal; ``{"escalate": true}`` an inquiry."""
    only(given, "status", "funds", "escalate")
    owner = ctx.tx.value("SELECT account FROM objects WHERE id = ? AND kind = 'dispute'", dispute)
    if owner is None:
        raise missing_resource("dispute", dispute, param="dispute")
    within = ctx.within(owner)
    record = within.load("dispute", dispute)
    if given.get("escalate"):
        if not record.doc["status"].startswith("warning_"):
            raise ApiError(400, f"{dispute} is {record.doc['status']}: only an inquiry escalates.", param="escalate")
        return disputing.escalate(within, record).doc
    if given.get("funds") == "withdrawn":
        disputing.withdraw(within, record)
    elif given.get("funds") == "reinstated":
        disputing.give_back(within, record)
    if given.get("status") in ("won", "lost", "warning_closed"):
        return disputing.end(within, record, given["status"]).doc
    if "status" in given:
        record.doc["status"] = str(given["status"])
        ctx.tx.save(record)
        emit(within, "charge.dispute.updated", record.doc)
    return record.doc


@act("/_sim/early_fraud_warnings")
def warn_of_fraud(ctx: Context, given: Json) -> Json:
    """An issuer suspects a charge: ``{"charge": id}``."""
    only(given, "charge")
    within, charge = _charge(ctx, given)
    return fraud_warnings.warn(within, charge).doc


def account_link(ctx: Context, id: str) -> Json | None:
    """A hosted onboarding link and whether it can still be used."""
    record = ctx.tx.find("account_link", id, account=ctx.account)
    if record is None:
        return None
    return {**record.doc, "usable": not record.private.get("used") and record.doc["expires_at"] > ctx.now}


def finish_onboarding(ctx: Context, id: str, number: str | None) -> None:
    """Use up a link: its account has told everything."""
    record = ctx.load("account_link", id)
    record.private["used"] = True
    ctx.tx.save(record)
    accounts.onboard(ctx, _account(ctx, record.doc["account"]), number=number or None)


def _charge(ctx: Context, given: Json) -> tuple[Context, Record]:
    id = str(given.get("charge", ""))
    owner = ctx.tx.value("SELECT account FROM objects WHERE id = ? AND kind = 'charge'", id)
    if owner is None:
        raise missing_resource("charge", id, param="charge")
    return ctx.within(owner), ctx.within(owner).load("charge", id)


def _account(ctx: Context, id: str) -> Record:
    record = ctx.tx.find("account", id, account=ctx.account)
    if record is None:
        raise missing_resource("account", id, param="account")
    return record
