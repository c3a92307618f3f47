"""What a host is paid and where: each payout with why it waits and until when, and the account it goes to."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Input, MoneyOf, MoneyOut, Text, money
from api.pagination import CursorPages
from api.schema import CURSOR, LIMIT, documented, page_of
from api.v1.earnings import TAG, HostEndpoint
from backoffice.core.errors import Invalid, NotFound
from backoffice.core.money import Money
from backoffice.payouts import queries
from backoffice.payouts.states import ACCOUNT, PAYOUT
from backoffice.workflows import onboard_host


class OnboardIn(Input):
    country = serializers.RegexField(
        r"\A[A-Z]{2}\Z",
        required=False,
        default="",
        help_text="where one lives; as said before, or that of one's first home, when absent",
    )
    return_url = Text(
        max_length=500, required=False, default="", help_text="where the provider leads back to; the desk when absent"
    )


class OnboardOut(serializers.Serializer[Any]):
    url = serializers.CharField(help_text="the provider's page, good for a few minutes and one use")


class PayoutAccountOut(serializers.Serializer[Any]):
    """Where payouts go. `waits_for` says why nothing can be sent there now, `waits_until` until when if that is known."""

    status = serializers.ChoiceField(choices=ACCOUNT.statuses)
    country = serializers.CharField()
    can_receive = serializers.BooleanField()
    can_pay_out = serializers.BooleanField(help_text="the provider pays out to the bank")
    missing = serializers.ListField(child=serializers.CharField(), help_text="what the provider still asks for")
    bank = serializers.CharField(source="bank_hint", help_text="bank and last four digits")
    bank_changed_at = serializers.DateTimeField(allow_null=True)
    waits_for = serializers.SerializerMethodField()
    waits_until = serializers.SerializerMethodField()

    def get_waits_for(self, account: Any) -> str:
        waiting = self.context["waiting"]
        return waiting.sentence if waiting is not None else ""

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_waits_until(self, account: Any) -> str | None:
        waiting = self.context["waiting"]
        until = waiting.until if waiting is not None else None
        return serializers.DateTimeField().to_representation(until) if until is not None else None


class PayoutAccount(HostEndpoint):
    @documented(
        "my_payout_account",
        "Where one's payouts go, and what it still waits for",
        tag=TAG,
        answers={200: PayoutAccountOut},
        errors=(404,),
    )
    def get(self, request: Request) -> Response:
        account = queries.account_of(host_id=self.own())
        if account is None:
            raise NotFound("You have not set up payouts yet; POST to this address to begin.", kind="payout account")
        waiting = queries.can_receive(host_id=self.person_id, now=self.now)
        return Response(PayoutAccountOut(account, context={"waiting": waiting}).data)

    @documented(
        "set_up_payouts",
        "Begin, or go on, telling the provider where one is paid",
        tag=TAG,
        request=OnboardIn,
        answers={200: OnboardOut},
        errors=(409, 502, 503),
    )
    def post(self, request: Request) -> Response:
        self.own()
        fields = OnboardIn.read(request.data)
        url = onboard_host.begin(
            actor=self.actor, now=self.now, return_url=_back(fields["return_url"]), country=fields["country"]
        )
        return Response({"url": url})


def _back(given: str) -> str:
    """Where a host comes back to. Raises Invalid for what is no web address."""
    if not given:
        return str(settings.SITE_URL)
    try:
        parts = urlsplit(given)
    except ValueError:  # brackets that are no address, letters that would change into others
        parts = urlsplit("")
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None:
        raise Invalid("return_url: write a web address, as in https://example.org/payouts.", field="return_url")
    return given


class PayoutOut(serializers.Serializer[Any]):
    """One release of what a stay earns, or of what was paid for damage. `amount` is the host's, in the home's currency (damage:
    in the guest's); `sent` is what went to their account, after `kept` was set against what they owed: null until it has."""

    code = serializers.CharField()
    booking = serializers.CharField(source="booking.code")
    number = serializers.IntegerField(help_text="1, unless the stay is paid in parts")
    status = serializers.ChoiceField(choices=PAYOUT.statuses)
    amount = MoneyOut(source="share")
    fee = MoneyOf("host_fee")
    due_at = serializers.DateTimeField()
    waits_for = serializers.CharField(
        help_text="why it is not sent though due, or has not arrived, in words; empty when nothing is in its way"
    )
    waits_until = serializers.DateTimeField(allow_null=True)
    sent = serializers.SerializerMethodField()
    kept = serializers.SerializerMethodField()
    taken_back = serializers.SerializerMethodField()
    released_at = serializers.DateTimeField(allow_null=True)
    transferred_at = serializers.DateTimeField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(MoneyOut(allow_null=True))
    def get_sent(self, payout: Any) -> Any:
        return money(payout.sent) if payout.sent is not None else None

    @extend_schema_field(MoneyOut(allow_null=True))
    def get_kept(self, payout: Any) -> Any:
        return self._of(payout, payout.netted)

    @extend_schema_field(MoneyOut(allow_null=True))
    def get_taken_back(self, payout: Any) -> Any:
        return self._of(payout, payout.reversed_amount)

    def _of(self, payout: Any, amount: int) -> Any:
        return money(Money(amount, payout.transfer_currency)) if payout.transfer_currency else None


class StepOut(serializers.Serializer[Any]):
    """One step towards the amount, above zero in the host's favour; `reference` names a charge, a refund or a payout."""

    label = serializers.CharField()  # type: ignore[assignment]  # the answer's name for it; DRF has a text of that name
    amount = MoneyOut()
    reference = serializers.CharField()


@extend_schema_field({"type": ["object", "null"], "additionalProperties": {"type": "string"}})
class RateUsedOut(serializers.JSONField):
    """The exchange rate of the day of the release, where one was needed."""


class PayoutExplainedOut(serializers.Serializer[Any]):
    """Why a payout is what it is: `lines` add up to `share`, which less `kept` (for what one owed) is `amount`; where it had
    to be converted, `settled` is the share in the currency that is sent. Null is what only the release day's rate can tell.

    `waits_for` says in words why nothing is sent now, or not all of it, and `waits_until` until when that is known."""

    code = serializers.CharField(source="payout")
    booking = serializers.CharField()
    status = serializers.ChoiceField(choices=PAYOUT.statuses)
    due_at = serializers.DateTimeField()
    waits_for = serializers.SerializerMethodField()
    waits_until = serializers.SerializerMethodField()
    lines = StepOut(many=True)
    share = MoneyOut()
    rate = RateUsedOut(allow_null=True)
    settled = MoneyOut(allow_null=True)
    kept = MoneyOut(source="netted", allow_null=True)
    amount = MoneyOut(allow_null=True)
    taken_back = MoneyOut(source="reversed", allow_null=True)

    def get_waits_for(self, explained: Any) -> str:
        return explained.waits.sentence if explained.waits is not None else ""

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_waits_until(self, explained: Any) -> str | None:
        until = explained.waits.until if explained.waits is not None else None
        return serializers.DateTimeField().to_representation(until) if until is not None else None


PayoutsPage = page_of(PayoutOut, "PayoutsPage")


class PayoutsIn(Input):
    status = serializers.ChoiceField(choices=PAYOUT.statuses, required=False, help_text="only these")
    booking = serializers.CharField(max_length=24, required=False, help_text="only of this booking (BK-…)")
    cursor = serializers.CharField(max_length=500, required=False)
    limit = serializers.CharField(max_length=10, required=False)


class Payouts(HostEndpoint):
    @documented(
        "list_payouts",
        "List one's payouts, newest first",
        tag=TAG,
        answers={200: PayoutsPage},
        parameters=[PayoutsIn(), CURSOR, LIMIT],
    )
    def get(self, request: Request) -> Response:
        rows = queries.payouts_of(host_id=self.own())
        asked = PayoutsIn.read(request.query_params.dict())
        if "status" in asked:
            rows = rows.filter(status=asked["status"])
        if "booking" in asked:
            rows = rows.filter(booking__code=asked["booking"])
        pages = CursorPages()
        return pages.get_paginated_response(PayoutOut(pages.paginate_queryset(rows, request), many=True).data)


class OnePayout(HostEndpoint):
    @documented(
        "read_payout",
        "One payout to the cent: what it is made of, why it waits and until when",
        tag=TAG,
        answers={200: PayoutExplainedOut},
        errors=(404,),
    )
    def get(self, request: Request, code: str) -> Response:
        self.own()
        return Response(PayoutExplainedOut(queries.explain(code=code, now=self.now, actor=self.actor)).data)
