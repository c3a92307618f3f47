"""A guest's receipt and refunds: what was charged, line by line, and where what went back has got to."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api import documents
from api.endpoint import Endpoint
from api.fields import MoneyOut
from api.schema import documented
from backoffice.reporting import queries

TAG = "Booking"
REFUND_STATES = ("waiting", "on_its_way", "sent", "returned", "failed")


class ReceiptLineOut(serializers.Serializer[Any]):
    kind = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # the answer's name for it; DRF has a text of that name
    quantity = serializers.IntegerField()
    unit = MoneyOut()
    amount = MoneyOut()
    charged = MoneyOut(help_text="the same in the currency that was charged")
    taxable = serializers.BooleanField()


class ReceiptRateOut(serializers.Serializer[Any]):
    """The exchange rate that was frozen: one `base` buys `value` (an exact fraction) of `quote`, as of `on`."""

    base = serializers.CharField()
    quote = serializers.CharField()
    value = serializers.CharField()
    on = serializers.DateField()
    source = serializers.CharField()  # type: ignore[assignment]  # where a rate comes from; DRF has a text of that name


class ReceiptChargeOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    what = serializers.ChoiceField(choices=tuple(documents.CHARGED))
    at = serializers.DateTimeField()
    amount = MoneyOut()


class RefundOut(serializers.Serializer[Any]):
    """Money back. `state` says where it is, `message` the same in words; once it was sent, it is expected on the card
    between two days."""

    code = serializers.CharField()
    cause = serializers.CharField()
    amount = MoneyOut()
    asked_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    state = serializers.ChoiceField(choices=REFUND_STATES, source="story.state")
    message = serializers.CharField(source="story.sentence")
    arrives_from = serializers.DateField(source="story.arrives_from", allow_null=True)
    arrives_by = serializers.DateField(source="story.arrives_by", allow_null=True)
    repays = serializers.CharField(
        help_text="the refund that did not reach the guest and this one pays another way, or empty"
    )


class ReceiptOut(serializers.Serializer[Any]):
    """What a booking's guest was charged. The lines add up to `total` (the home's currency) and, in `charged` of each, to
    `charge_total`; `charged` less `refunded` is `paid`."""

    number = serializers.CharField()
    booking = serializers.CharField()
    issued_at = serializers.DateTimeField()
    guest = serializers.CharField()
    host = serializers.CharField()
    listing = serializers.CharField()
    place = serializers.CharField()
    check_in = serializers.DateField()
    check_out = serializers.DateField()
    nights = serializers.IntegerField()
    guests = serializers.IntegerField()
    lines = ReceiptLineOut(many=True)
    rate = ReceiptRateOut()
    total = MoneyOut()
    charge_total = MoneyOut()
    charges = ReceiptChargeOut(many=True)
    refunds = RefundOut(many=True)
    charged = MoneyOut()
    refunded = MoneyOut()
    refunds_pending = MoneyOut()
    paid = MoneyOut()


class RefundsOut(serializers.Serializer[Any]):
    results = RefundOut(many=True)


class Receipt(Endpoint):
    @documented(
        "read_receipt",
        "What the guest was charged, line by line, and what went back",
        tag=TAG,
        answers={200: ReceiptOut},
        errors=(404, 409),
    )
    def get(self, request: Request, code: str) -> Response:
        return Response(ReceiptOut(queries.receipt(booking_code=code, actor=self.actor, now=self.now)).data)


class ReceiptPdf(Endpoint):
    renderer_classes = [documents.Pdf, documents.Problem]

    @documented(
        "print_receipt",
        "The receipt as a PDF",
        tag=TAG,
        answers={(200, "application/pdf"): OpenApiTypes.BINARY},
        errors=(404, 409),
    )
    def get(self, request: Request, code: str) -> Response:
        receipt = queries.receipt(booking_code=code, actor=self.actor, now=self.now)
        return documents.attached(documents.receipt_pdf(receipt), f"receipt-{receipt.number}.pdf", "application/pdf")


class BookingRefunds(Endpoint):
    @documented(
        "list_booking_refunds",
        "What went back of a booking: where it is, and when to expect it",
        tag=TAG,
        answers={200: RefundsOut},
        errors=(404,),
    )
    def get(self, request: Request, code: str) -> Response:
        return Response(RefundsOut({"results": queries.refunds_of(booking_code=code, actor=self.actor)}).data)
