"""Where a host is paid: their account at the provider, set up and looked at."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Input, Text
from api.schema import documented
from api.v1.earnings import TAG, HostEndpoint
from backoffice.core.errors import Invalid, NotFound
from backoffice.payouts import queries
from backoffice.payouts.states import ACCOUNT
from backoffice.workflows import onboard_host


class OnboardIn(Input):
    country = serializers.RegexField(
        r"\A[A-Z]{2}\Z", required=False, default="", help_text="where one lives; that of one's first home when absent"
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
        fields = OnboardIn.read(request.data)
        url = onboard_host.begin(
            actor=self.actor, now=self.now, return_url=_back(fields["return_url"]), country=fields["country"]
        )
        return Response({"url": url})


def _back(given: str) -> str:
    """Where a host comes back to. Raises Invalid for what is no web address."""
    if not given:
        return str(settings.SITE_URL)
    parts = urlsplit(given)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None:
        raise Invalid("return_url: write a web address, as in https://example.org/payouts.", field="return_url")
    return given
