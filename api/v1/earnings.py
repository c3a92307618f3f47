"""What a host earns, and their account with us: earnings by month, and a statement to keep."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api import documents
from api.endpoint import Endpoint
from api.fields import FIRST_DAY, LAST_DAY, MoneyOut
from api.schema import documented
from backoffice.core.errors import Invalid, NotAllowed
from backoffice.reporting import queries

TAG = "Payouts"
PERIOD = [
    OpenApiParameter("since", {"type": "string", "format": "date"}, description="First day, UTC. Default: a year ago."),
    OpenApiParameter(
        "until", {"type": "string", "format": "date"}, description="The day after the last. Default: tomorrow."
    ),
]


class EarningsRowOut(serializers.Serializer[Any]):
    """Stays that begin in one month, in one currency: gross − refunds − fees − chargebacks = net, of what guests have paid.
    `scheduled` is still to become due, with what guests have yet to pay (instalments, a saved card that is charged later);
    `released` has."""

    month = serializers.CharField(help_text="2026-11")
    currency = serializers.CharField()
    stays = serializers.IntegerField()
    gross = MoneyOut()
    refunds = MoneyOut()
    fees = MoneyOut()
    chargebacks = MoneyOut(help_text="what lost chargebacks took of the host's share")
    net = MoneyOut()
    scheduled = MoneyOut()
    released = MoneyOut()


class EarningsOut(serializers.Serializer[Any]):
    """`balances` is what the account stands at now, by currency: above zero it is the host's."""

    since = serializers.DateField()
    until = serializers.DateField()
    results = EarningsRowOut(many=True)
    balances = serializers.ListField(child=MoneyOut())


class StatementLineOut(serializers.Serializer[Any]):
    """`payable` is the change of what we owe, `owed` of what the host owes; `amount` is both, `balance` the account after."""

    at = serializers.DateTimeField()
    journal = serializers.IntegerField()
    what = serializers.CharField()
    booking = serializers.CharField()
    reference = serializers.CharField()
    payable = MoneyOut()
    owed = MoneyOut()
    amount = MoneyOut()
    balance = MoneyOut()


class StatementAccountOut(serializers.Serializer[Any]):
    """One currency: opening + lines = closing."""

    currency = serializers.CharField()
    opening = MoneyOut()
    lines = StatementLineOut(many=True)
    closing = MoneyOut()
    payable = MoneyOut()
    owed = MoneyOut()


class StatementOut(serializers.Serializer[Any]):
    host = serializers.CharField()
    name = serializers.CharField()
    since = serializers.DateField()
    until = serializers.DateField()
    issued_at = serializers.DateTimeField()
    accounts = StatementAccountOut(many=True)


class HostEndpoint(Endpoint):
    """What belongs to the host who asks; who is none has nothing to see."""

    def own(self) -> int:
        if self.actor.must("payouts.view").scope != "own":
            raise NotAllowed(verb="have earnings as staff; the console shows every host's")
        return self.person_id

    def period(self, request: Request, *, first: date) -> tuple[date, date]:
        tomorrow = self.now.date() + timedelta(days=1)
        return _day(request, "since", first), _day(request, "until", tomorrow)


class Earnings(HostEndpoint):
    @documented(
        "my_earnings",
        "What one's stays earn, by the month in which they begin",
        tag=TAG,
        answers={200: EarningsOut},
        parameters=PERIOD,
    )
    def get(self, request: Request) -> Response:
        since, until = self.period(request, first=self.now.date() - timedelta(days=365))
        rows = queries.earnings(host_id=self.own(), since=since, until=until)
        balances = queries.balances(host_id=self.person_id).values()
        found = {"since": since, "until": until, "results": rows, "balances": balances}
        return Response(EarningsOut(found).data)


class _Statement(HostEndpoint):
    def statement(self, request: Request) -> queries.HostStatement:
        since, until = self.period(request, first=self.now.date() - timedelta(days=30))
        return queries.statement(host_id=self.own(), since=since, until=until, now=self.now)


class Statement(_Statement):
    @documented(
        "my_statement",
        "One's account over a period: opening, every movement, closing",
        tag=TAG,
        answers={200: StatementOut},
        parameters=PERIOD,
    )
    def get(self, request: Request) -> Response:
        return Response(StatementOut(self.statement(request)).data)


class StatementPdf(_Statement):
    renderer_classes = [documents.Pdf, documents.Problem]

    @documented(
        "print_statement",
        "The statement as a PDF",
        tag=TAG,
        answers={(200, "application/pdf"): OpenApiTypes.BINARY},
        parameters=PERIOD,
    )
    def get(self, request: Request) -> Response:
        found = self.statement(request)
        return documents.attached(documents.statement_pdf(found), f"{_name(found)}.pdf", "application/pdf")


class StatementCsv(_Statement):
    renderer_classes = [documents.Csv, documents.Problem]

    @documented(
        "download_statement",
        "The statement for a spreadsheet",
        tag=TAG,
        answers={(200, "text/csv"): OpenApiTypes.STR},
        parameters=PERIOD,
    )
    def get(self, request: Request) -> Response:
        found = self.statement(request)
        return documents.attached(documents.statement_csv(found), f"{_name(found)}.csv", "text/csv; charset=utf-8")


def _name(statement: queries.HostStatement) -> str:
    return f"statement-{statement.host}-{statement.since}-{statement.until}"


def _day(request: Request, name: str, default: date) -> date:
    text = request.query_params.get(name, "")
    if not text:
        return default
    try:
        day = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        day = None
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        raise Invalid(f"{name}: write a day from {FIRST_DAY} to {LAST_DAY}, as in 2026-11-01.", field=name)
    return day
