"""Payouts: from a balance to a bank account. Pending, in transit, paid; or failed, even after it was paid.

Connected accounts are paid automatically on their schedule, and such a payout knows which balance transactions it is
made of. The platform's payouts are made by hand and know nothing of the kind.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from . import accounts, balance
from .clock import settlement_day
from .context import Context, deferred
from .errors import ApiError, Json
from .events import changes, emit
from .store import Record, token
from .transferring import INSUFFICIENT

ARRIVAL_BUSINESS_DAYS = 2
FAILURES = {
    "account_closed": "The bank account has been closed.",
    "account_frozen": "The bank account has been frozen.",
    "bank_account_restricted": "The bank account has restrictions on either the type, or the number, of payouts.",
    "could_not_process": "The bank could not process this payout.",
    "debit_not_authorized": "Debit transactions are not approved on this bank account.",
    "declined": "The bank has declined this transfer. Please contact the bank before retrying.",
    "insufficient_funds": "Your account has insufficient funds to cover the payout.",
    "invalid_account_number": "The routing number seems correct, but the account number is invalid.",
    "invalid_currency": "The bank was unable to process this payout because of its currency.",
    "no_account": "The bank account details on file are probably incorrect. No bank account could be located with "
    "those details.",
}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def create(
    ctx: Context,
    *,
    amount: int,
    currency: str,
    destination: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
    statement_descriptor: str | None = None,
    automatic: bool = False,
) -> Record:
    """Send ``amount`` (minor units) to the bank. ApiError 400 when the available balance or the bank does not allow."""
    bank = _bank(ctx, currency, destination)
    if amount > balance.available(ctx, currency):
        raise ApiError(400, INSUFFICIENT, code="balance_insufficient", param="amount")
    record = ctx.add("payout", {
        "id": ctx.tx.new_id("po_"),
        "object": "payout",
        "amount": amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": settlement_day(ctx.now, days=ARRIVAL_BUSINESS_DAYS, business_days=True),
        "automatic": automatic,
        "balance_transaction": None,
        "created": ctx.time,
        "currency": currency,
        "description": description or ("STRIPE PAYOUT" if automatic else None),
        "destination": bank.id,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": metadata or {},
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "in_progress" if automatic else "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": statement_descriptor,
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
    })  # fmt: skip
    record.doc["balance_transaction"] = balance.post(
        ctx, amount=-amount, currency=currency, type="payout", category="payout", source=record.id,
        description="STRIPE PAYOUT", payout=record.id if automatic else None,
    )  # fmt: skip
    ctx.tx.save(record)
    ctx.defer("payout_leaves", record.id, at=settlement_day(ctx.now, days=1, business_days=True))
    ctx.defer("payout_arrives", record.id, at=record.doc["arrival_date"])
    emit(ctx, "payout.created", record.doc)
    return record


def cancel(ctx: Context, record: Record) -> Record:
    """Call back a payout made by hand that has not left yet; the money is available again."""
    doc = record.doc
    if doc["automatic"] or doc["status"] != "pending":
        raise ApiError(
            400,
            "Automatic payouts cannot be canceled." if doc["automatic"]
            else f"Payouts with status {doc['status']} cannot be canceled; only pending ones can.",
            code="payout_not_cancelable", param="payout",
        )  # fmt: skip
    doc["status"] = "canceled"
    doc["failure_balance_transaction"] = _back(ctx, record, "payout_cancel")
    ctx.tx.save(record)
    emit(ctx, "payout.canceled", doc)
    return record


def fail(ctx: Context, record: Record, code: str) -> Record:
    """The bank sends it back: the money is available again, and the bank account is not used until it is replaced."""
    doc = record.doc
    if doc["status"] not in ("pending", "in_transit", "paid"):
        raise ApiError(400, f"A payout that is {doc['status']} cannot fail.", param="payout")
    if code not in FAILURES:
        raise ApiError(400, f"failure_code must be one of {', '.join(FAILURES)}.", param="failure_code")
    doc.update(status="failed", failure_code=code, failure_message=FAILURES[code])
    doc["failure_balance_transaction"] = _back(ctx, record, "payout_failure")
    ctx.tx.save(record)
    emit(ctx, "payout.failed", doc)
    _disable_bank(ctx, doc["destination"])
    return record


@deferred("automatic_payout")
def run_schedule(ctx: Context, currency: str) -> None:
    """Pay out everything available that no payout has taken yet, if today is a day of the schedule."""
    owner = ctx.tx.find("account", ctx.account, account=ctx.settings.platform)
    if owner is None:
        return
    schedule = owner.doc["settings"]["payouts"]["schedule"]
    if schedule["interval"] == "manual":
        return
    if not _is_payday(schedule, ctx.now):
        balance.schedule_payout(ctx, currency, at=ctx.now)
        return
    items = ctx.tx.rows(
        "SELECT id, net FROM balance_transactions WHERE account = ? AND currency = ? AND payout IS NULL "
        "AND available_on <= ?",
        ctx.account,
        currency,
        ctx.now,
    )
    total = sum(row["net"] for row in items)
    if not 0 < total <= balance.available(ctx, currency):
        return
    bank = accounts.bank_for(ctx, currency)
    if not owner.doc["payouts_enabled"] or bank is None or bank.doc["status"] == "errored":
        balance.schedule_payout(ctx, currency, at=ctx.now)
        return
    payout = create(ctx, amount=total, currency=currency, automatic=True)
    for row in items:
        ctx.tx.run("UPDATE balance_transactions SET payout = ? WHERE id = ?", payout.id, row["id"])


@deferred("payout_leaves")
def _leave(ctx: Context, id: str) -> None:
    record = ctx.load("payout", id)
    if record.doc["status"] == "pending":
        _update(ctx, record, "payout.updated", status="in_transit")


@deferred("payout_arrives")
def _arrive(ctx: Context, id: str) -> None:
    record = ctx.load("payout", id)
    if record.doc["status"] not in ("pending", "in_transit"):
        return
    if record.doc["automatic"]:
        _update(ctx, record, "payout.reconciliation_completed", reconciliation_status="completed")
    bank = ctx.tx.find("bank_account", record.doc["destination"], account=ctx.account)
    failure = bank.private["failure"] if bank else "account_closed"
    if failure:
        fail(ctx, record, failure)
        return
    trace = {"status": "supported", "value": token("trace", id, length=12).upper()}
    _update(ctx, record, "payout.paid", status="paid", trace_id=trace)


def _update(ctx: Context, record: Record, event: str, **fields: object) -> None:
    before = dict(record.doc)
    record.doc.update(fields)
    ctx.tx.save(record)
    emit(ctx, event, record.doc, changes(before, record.doc) if event == "payout.updated" else None)


def _back(ctx: Context, record: Record, type: str) -> str:
    return balance.post(
        ctx, amount=record.doc["amount"], currency=record.doc["currency"], type=type, category="payout_reversal",
        source=record.id, description=type.upper().replace("_", " "),
    )  # fmt: skip


def _bank(ctx: Context, currency: str, destination: str | None) -> Record:
    if destination is not None:
        bank = ctx.tx.find("bank_account", destination, account=ctx.account)
        if bank is None:
            raise ApiError(400, f"No such external account: '{destination}'", code="resource_missing",
                           param="destination")  # fmt: skip
    else:
        bank = accounts.bank_for(ctx, currency)
    if bank is None or bank.doc["currency"] != currency:
        raise ApiError(
            400, f"Sorry, you don't have any external accounts in that currency ({currency}).", param="currency"
        )
    if bank.doc["status"] == "errored":
        raise ApiError(
            400,
            "Payouts to this bank account have been disabled because a payout to it failed; update or replace it.",
            code="payouts_not_allowed",
            param="destination",
        )
    return bank


def _disable_bank(ctx: Context, id: str) -> None:
    bank = ctx.tx.find("bank_account", id, account=ctx.account)
    if bank is None:
        return
    before = dict(bank.doc)
    bank.doc["status"] = "errored"
    ctx.tx.save(bank)
    if not ctx.on_platform:
        emit(ctx, "account.external_account.updated", bank.doc, changes(before, bank.doc))
        owner = ctx.tx.find("account", ctx.account, account=ctx.settings.platform)
        if owner is not None:  # it may have been deleted while its last payout was under way
            accounts.review(ctx, owner, before=accounts.snapshot(owner))


def _is_payday(schedule: Json, at: float) -> bool:
    """Banks work on weekdays; an anchor on a day that the month does not have means its last day."""
    day = datetime.fromtimestamp(at, UTC)
    weekday = _WEEKDAYS[day.weekday()]
    if schedule["interval"] == "weekly":
        return weekday in (schedule.get("weekly_payout_days") or [schedule["weekly_anchor"]])
    if schedule["interval"] == "monthly":
        last = (day + timedelta(days=1)).month != day.month
        anchors = schedule.get("monthly_payout_days") or [schedule["monthly_anchor"]]
        return day.day in anchors or (last and max(anchors) > day.day)
    return day.weekday() < 5
