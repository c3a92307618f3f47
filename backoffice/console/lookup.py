"""Finding a thing by what it is called: a code, an e-mail address or a provider's id leads straight to its page.

The palette (Ctrl+K) and the search box on the first page both ask here: by an index, by the grants, never cached.
"""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from backoffice.bookings.models import Booking
from backoffice.console import cells, navigation
from backoffice.console.door import may
from backoffice.listings.models import Listing
from backoffice.payments.models import BalanceTransaction, Chargeback, ExtraCharge, Payment, Refund, WebhookEvent
from backoffice.payouts.models import BankPayout, Clawback, HostAccount, Payout, PayoutHold, WriteOff
from backoffice.people.models import User
from backoffice.reconciliation.models import Break, StatementLine

# How a term begins -> what it names, by which column, and the verb that shows it; the first that is so called is it.
_KNOWN: Final[tuple[tuple[str, type[Model], str, str], ...]] = (
    ("BK-", Booking, "code", "bookings.view"),
    ("LS-", Listing, "code", "listings.view"),
    ("PN-", User, "code", "people.view"),
    ("PY-", Payment, "code", "payments.view"),
    ("RF-", Refund, "code", "refunds.view"),
    ("BR-", Break, "code", "breaks.view"),
    ("BL-", StatementLine, "code", "breaks.view"),
    ("PO-", Payout, "code", "payouts.view"),
    ("HD-", PayoutHold, "code", "payouts.view"),
    ("CW-", Clawback, "code", "payouts.view"),
    ("WO-", WriteOff, "code", "payouts.view"),
    ("BP-", BankPayout, "code", "payouts.view"),
    ("CH-", ExtraCharge, "code", "payments.view"),
    ("CB-", Chargeback, "code", "chargebacks.view"),
    ("pi_", Payment, "provider_id", "payments.view"),
    ("pi_", ExtraCharge, "provider_id", "payments.view"),
    ("ch_", Payment, "charge_id", "payments.view"),
    ("ch_", ExtraCharge, "charge_id", "payments.view"),
    ("du_", Chargeback, "provider_id", "chargebacks.view"),
    ("dp_", Chargeback, "provider_id", "chargebacks.view"),
    ("re_", Refund, "provider_id", "refunds.view"),
    ("txn_", BalanceTransaction, "provider_id", "payments.view"),
    ("tr_", Payout, "transfer_id", "payouts.view"),
    ("trr_", Clawback, "provider_id", "payouts.view"),
    ("po_", BankPayout, "provider_id", "payouts.view"),
    ("acct_", HostAccount, "provider_id", "payouts.view"),
    ("evt_", WebhookEvent, "event_id", "webhooks.view"),
)


def find(request: HttpRequest) -> HttpResponse:
    """Go to the page of what the term names, asked of the grants like any page."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    term = _term(request, "q")
    found = _find(request, term) if term else None
    if found is not None:
        return HttpResponseRedirect(cells.address_of(found))
    if term:
        messages.warning(request, f"Nothing is called “{term}”. Give a whole code, e-mail address or provider id.")
    return HttpResponseRedirect(reverse("admin:index"))


def palette(request: HttpRequest) -> HttpResponse:
    """What Unfold's command palette shows for a term: the thing so called, and the lists so named."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    term = _term(request, "s")
    found = _find(request, term) if term else None
    results = [] if found is None else [(cells.address_of(found), "arrow_forward", str(found), "open its page")]
    results += [
        (item["link"], item["icon"], item["title"], "list")
        for group in navigation.sidebar(request)
        for item in group["items"]
        if term and term.lower() in item["title"].lower()
    ]
    return TemplateResponse(request, "console/palette.html", {"results": results, "term": term})


def _term(request: HttpRequest, name: str) -> str:
    return request.GET.get(name, "").strip().replace("\x00", "")[:254]


def _find(request: HttpRequest, term: str) -> Any:
    if "@" in term:
        return User.objects.filter(email=term.lower()).first() if may(request, "people.view") else None
    for prefix, model, column, verb in _KNOWN:
        if term.lower().startswith(prefix.lower()) and may(request, verb):
            wanted = term.upper() if prefix.isupper() else term
            found = model._default_manager.filter(**{column: wanted}).first()
            if found is not None:
                return found
    return None
