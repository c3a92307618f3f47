"""Quotes: the price of a stay, promised for some minutes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from api.endpoint import Endpoint
from api.fields import Currency, Day, Input
from api.schema import documented
from api.v1.priced import LineOut, PricedOut, RateOut
from backoffice.bookings import operations as bookings
from backoffice.bookings import queries

TAG = "Booking"


class QuoteIn(Input):
    """Who asks says where, when and for how many; the price is ours to say."""

    listing = serializers.RegexField(r"\A[A-Z]{2}-[0-9A-Z]{4,24}\Z")
    check_in = Day()
    check_out = Day()
    guests = serializers.IntegerField(min_value=1, max_value=1000)
    currency = Currency(required=False, help_text="to be charged in; the home's own when absent")


class QuoteOut(PricedOut):
    lines = LineOut(many=True, source="price.lines")
    rate = RateOut()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class Quotes(Endpoint):
    @documented(
        "make_quote",
        "Price a stay; nothing is held yet",
        tag=TAG,
        request=QuoteIn,
        answers={201: QuoteOut},
        errors=(404, 409),
    )
    def post(self, request: Request) -> Response:
        fields = QuoteIn.read(request.data)
        quote = bookings.make_quote(
            listing_code=fields["listing"],
            check_in=fields["check_in"],
            check_out=fields["check_out"],
            guests=fields["guests"],
            currency=fields.get("currency"),
            actor=self.actor,
            now=self.now,
        )
        return Response(_shown(quote), status=status.HTTP_201_CREATED)


class OneQuote(Endpoint):
    @documented("read_quote", "Read one's own quote again", tag=TAG, answers={200: QuoteOut}, errors=(404,))
    def get(self, request: Request, code: str) -> Response:
        return Response(_shown(queries.quote(code=code, actor=self.actor)))


def _shown(quote: Any) -> Any:
    return QuoteOut(quote).data
