"""Pages for people: the operator's overview, one object, and the bank's 3-D Secure challenge."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from typing import Any

from . import balance, faults
from .context import Context
from .errors import Json
from .events import show
from .money import shown

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1f36; }}
table {{ border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e3e8ee; }}
td {{ font-variant-numeric: tabular-nums; }}
th {{ color: #4f566b; font-weight: 600; }}
pre {{ background: #f6f8fa; padding: 1rem; overflow: auto; }}
.notice {{ background: #fff8e1; border: 1px solid #e6d9a8; padding: .5rem .8rem; border-radius: .4rem; }}
.bank {{ max-width: 24rem; margin: 4rem auto; border: 1px solid #c9d2dc; border-radius: .6rem; padding: 1.5rem; }}
button {{ font: inherit; padding: .5rem 1rem; border: 1px solid #635bff; border-radius: .4rem; background: #fff;
          color: #3d35c0; cursor: pointer; white-space: nowrap; margin: 0 .3rem .3rem 0; }}
button.primary {{ background: #635bff; color: #fff; }}
</style></head><body>{body}</body></html>"""
_ADVANCE = """<p>{buttons}</p><script>
for (const button of document.querySelectorAll("button[data-seconds]")) button.onclick = async () => {{
  await fetch("/_sim/clock", {{method: "POST", body: JSON.stringify({{advance: Number(button.dataset.seconds)}})}});
  location.reload();
}};
for (const button of document.querySelectorAll("button[data-event]")) button.onclick = async () => {{
  await fetch("/_sim/webhooks/redeliver", {{method: "POST", body: JSON.stringify({{event: button.dataset.event}})}});
  location.reload();
}};
</script>"""
_STEPS = (("1 minute", 60), ("1 hour", 3600), ("1 day", 86400), ("7 days", 7 * 86400))


def overview(ctx: Context, clock: Json) -> str:
    """Clock, balance, latest money, latest events with their deliveries, fault rules."""
    money = balance.balance(ctx)
    pending = {row["currency"]: row["amount"] for row in money["pending"]}
    balances = _table(
        ["currency", "available", "pending"],
        [
            [
                row["currency"].upper(),
                shown(row["amount"], row["currency"]),
                shown(pending[row["currency"]], row["currency"]),
            ]
            for row in money["available"]
        ],
    )
    transactions = _table(
        ["balance transaction", "category", "amount", "fee", "net", "source"],
        [[_link(row["id"]), row["reporting_category"], shown(row["amount"], row["currency"]),
          shown(row["fee"], row["currency"]), shown(row["net"], row["currency"]), _link(row["source"])]
         for row in ctx.tx.rows("SELECT * FROM balance_transactions ORDER BY seq DESC LIMIT 15")],
    )  # fmt: skip
    events = _table(
        ["event", "type", "when", "deliveries", ""],
        [[_link(row["id"]), row["type"], _when(row["created"]), _deliveries(ctx, row["id"]),
          f'<button data-event="{escape(row["id"])}">Send again</button>']
         for row in ctx.tx.rows("SELECT * FROM events ORDER BY seq DESC LIMIT 25")],
    )  # fmt: skip
    rules = _table(
        ["effect", "on", "nth", "times", "seen", "fired"],
        [
            [
                rule["effect"],
                escape(f"{rule['method']} {rule['path']} {rule['event']}"),
                rule["nth"],
                rule["times"] or "always",
                rule["seen"],
                rule["fired"],
            ]
            for rule in faults.listed(ctx.tx)
        ],
    )
    buttons = " ".join(f'<button data-seconds="{seconds}">+ {name}</button>' for name, seconds in _STEPS)
    return _frame(
        "Stripe sandbox",
        f"""
<h1>Stripe sandbox</h1>
<p class="notice">A local simulator. No money moves here, and nothing on this page is Stripe's.</p>
<h2>Clock</h2><p>{escape(clock["now_iso"])} ({escape(clock["mode"])})</p>{_ADVANCE.format(buttons=buttons)}
<h2>Balance</h2>{balances}<h2>Balance transactions</h2>{transactions}
<h2>Events</h2>{events}<h2>Fault rules</h2>{rules}""",
    )


def document(id: str, doc: Json) -> str:
    """One object, readable."""
    return _frame(
        id,
        f'<p><a href="/_sim/">Sandbox</a></p><h1>{escape(id)}</h1>'
        f"<pre>{escape(json.dumps(doc, indent=2, ensure_ascii=False))}</pre>",
    )


def onboarding(link: Json) -> str:
    """The form of a hosted onboarding link."""
    body = (
        '<form class="bank" method="post"><h1>Get paid</h1>'
        f"<p>Staydesk needs a bank account for {escape(link['account'])}. Everything else is filled in for you.</p>"
        '<p><label>Account number <input name="account_number" value="000123456789"></label></p>'
        '<button class="primary">Submit</button></form>'
    )
    return _frame("Onboarding", body)


def message(title: str, text: str) -> str:
    """A short word to whoever came here."""
    return _frame(title, f'<div class="bank"><h1>{escape(title)}</h1><p>{escape(text)}</p></div>')


def challenge(intent: Json) -> str:
    """The bank's page for a payment that needs the guest."""
    question = (
        "Do you agree that Staydesk keeps this card for later payments?"
        if intent["object"] == "setup_intent"
        else f"Do you confirm the payment of <strong>{escape(shown(intent['amount'], intent['currency']))}</strong> to "
        "Staydesk?"
    )
    return _frame(
        "Confirm your payment",
        f"""<div class="bank"><h1>Your bank asks</h1>
<p>{question}</p>
<form method="post" action="/_sim/3ds/{escape(intent["id"])}">
<input type="hidden" name="client_secret" value="{escape(intent["client_secret"])}">
<button class="primary" name="outcome" value="succeed">Complete authentication</button>
<button name="outcome" value="fail">Fail authentication</button></form>
<p><small>A simulated 3-D Secure challenge.</small></p></div>""",
    )


def find(ctx: Context, id: str) -> Json | None:
    """Whatever has this id."""
    if id.startswith("txn_"):
        return balance.find(ctx, id)
    if id.startswith("evt_"):
        rows = ctx.tx.rows("SELECT * FROM events WHERE id = ?", id)
        return show(ctx, rows[0]) if rows else None
    doc = ctx.tx.value("SELECT doc FROM objects WHERE id = ? AND NOT deleted", id)
    found: Json | None = json.loads(doc) if doc else None
    return found


def _deliveries(ctx: Context, event: str) -> str:
    rows = ctx.tx.rows("SELECT state, attempts, last_status, last_error FROM deliveries WHERE event = ?", event)
    told = [f"{row['state']} after {row['attempts']}: {row['last_status'] or row['last_error'] or '-'}" for row in rows]
    return escape("; ".join(told)) or "no endpoint"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + f"</tr>{cells}</table>"


def _link(id: str | None) -> str:
    return f'<a href="/_sim/objects/{escape(id)}">{escape(id)}</a>' if id else ""


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _frame(title: str, body: str) -> str:
    return _FRAME.format(title=escape(title), body=body)
