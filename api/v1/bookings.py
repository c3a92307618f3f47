"""Bookings: from a quote to a paid stay, and out of it again, each step said before it is taken."""

from __future__ import annotations

import threading
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from api.endpoint import Endpoint
from api.fields import Input, MoneyOf, MoneyOut, Text
from api.idempotency import once
from api.pagination import CursorPages
from api.schema import CURSOR, IDEMPOTENCY_KEY, LIMIT, documented, page_of
from api.v1.priced import LineOut, PersonRefOut, PricedOut, RateOut
from backoffice.bookings import operations as bookings
from backoffice.bookings import queries
from backoffice.bookings.states import BOOKING, PENDING
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.payments import queries as payments
from backoffice.payments.states import PAYMENT
from backoffice.workflows import cancel_booking, decide_request, pay_booking

TAG = "Booking"
STATUSES = ("pending", *(status for status in BOOKING.statuses if status not in PENDING))
SIDES = ("guest", "host")


class BookIn(Input):
    quote = serializers.RegexField(r"\A[A-Z]{2}-[0-9A-Z]{4,24}\Z")


class PayIn(Input):
    payment_method = Text(
        max_length=120,
        required=False,
        allow_blank=True,
        default="",
        help_text="the provider's token for a card, pm_…; without it the card that was saved",
    )


class CancelIn(Input):
    token = Text(max_length=4000, help_text="from the cancellation quote")
    reason = Text(max_length=2000, required=False, allow_blank=True, default="")


class DeclineIn(Input):
    reason = Text(max_length=2000, help_text="what the guest is told")


class BookingOut(PricedOut):
    """A booking in a list. `pending` says in `pending_reason` for what."""

    status = serializers.SerializerMethodField()
    pending_reason = serializers.SerializerMethodField()
    available_actions = serializers.SerializerMethodField(help_text="what you may do with it now")
    guest = PersonRefOut()
    host = PersonRefOut()
    created_at = serializers.DateTimeField()
    confirmed_at = serializers.DateTimeField(allow_null=True)
    cancelled_at = serializers.DateTimeField(allow_null=True)
    cancelled_by = serializers.CharField()
    version = serializers.IntegerField()

    def get_status(self, booking: Any) -> str:
        return "pending" if booking.status in PENDING else str(booking.status)

    def get_pending_reason(self, booking: Any) -> str | None:
        return queries.pending_reason(booking=booking) or None

    def get_available_actions(self, booking: Any) -> list[str]:
        return list(payments.available_actions(booking=booking, actor=self.context["actor"], now=self.context["now"]))


class BookingMoneyOut(serializers.Serializer[Any]):
    """What was charged, what went back, what is on its way back: in the currency that was charged."""

    charged = MoneyOut()
    refunded = MoneyOut()
    refunds_pending = MoneyOut()


class HostMoneyOut(serializers.Serializer[Any]):
    """For the host only: what the stay earns, before cancellations."""

    price = MoneyOut()
    fee = MoneyOut()
    earns = MoneyOut()


@extend_schema_field({"type": ["object", "null"], "additionalProperties": True})
class DecisionOut(serializers.JSONField):
    """A decision as it was made: rules, inputs, outcome per line; without our books' own parts of it."""

    def to_representation(self, value: Any) -> Any:
        shown = super().to_representation(value)
        return {key: what for key, what in shown.items() if key != "due"} if isinstance(shown, dict) else shown


class BookingDetailOut(BookingOut):
    lines = LineOut(many=True, source="price.lines")
    rate = RateOut()
    pay_until = serializers.SerializerMethodField(help_text="until then the nights are held for an unpaid booking")
    money = serializers.SerializerMethodField()
    host_money = serializers.SerializerMethodField()
    cancellation = DecisionOut(help_text="the decision with its rules, once cancelled", allow_null=True)

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_pay_until(self, booking: Any) -> str | None:
        waiting = booking.status in PENDING and booking.hold.expires_at is not None
        return serializers.DateTimeField().to_representation(booking.hold.expires_at) if waiting else None

    @extend_schema_field(BookingMoneyOut)
    def get_money(self, booking: Any) -> Any:
        return BookingMoneyOut(payments.money_of(booking=booking)).data

    @extend_schema_field(HostMoneyOut(allow_null=True))
    def get_host_money(self, booking: Any) -> Any:
        if self.context["actor"].id == booking.guest_id:
            return None
        return HostMoneyOut(
            {
                "price": Money(booking.host_price, booking.currency),
                "fee": Money(booking.host_fee, booking.currency),
                "earns": Money(booking.host_price - booking.host_fee, booking.currency),
            }
        ).data


class PaymentOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    status = serializers.ChoiceField(choices=PAYMENT.statuses)
    amount = MoneyOf("amount")
    next_action_url = serializers.CharField(help_text="send the guest there when the status is requires_action")
    charge_at = serializers.DateTimeField(
        allow_null=True, help_text="nothing is charged before: the stay is far ahead and the card was saved"
    )
    pay_by = serializers.DateTimeField(
        allow_null=True, help_text="the saved card was declined: unpaid then, the booking is cancelled"
    )


class PaidOut(serializers.Serializer[Any]):
    payment = PaymentOut()
    booking = BookingDetailOut()


class CancellationQuoteOut(serializers.Serializer[Any]):
    """What cancelling now would mean; `token` confirms exactly this until `expires_at`."""

    booking = serializers.CharField()
    by = serializers.ChoiceField(choices=SIDES)
    refund = MoneyOut(help_text="to the guest, in the currency that was charged")
    refund_later = MoneyOut(help_text="goes back by itself once no card network holds it")
    refund_asked = MoneyOut(
        help_text="covered by refunds that staff asked for before; goes back by itself where they come to nothing"
    )
    host_keeps = MoneyOut(help_text="in the home's currency, before the host fee")
    penalty = MoneyOut(allow_null=True, help_text="for a host who cancels")
    decision = DecisionOut(help_text="lines, rules and inputs of the decision")
    token = serializers.CharField()
    expires_at = serializers.DateTimeField()


BookingsPage = page_of(BookingOut, "BookingsPage")


class Bookings(Endpoint):
    @documented(
        "list_bookings",
        "List one's own bookings, as a guest or as a host, newest first",
        tag=TAG,
        answers={200: BookingsPage},
        parameters=[
            OpenApiParameter("as", str, enum=SIDES, default="guest", description="Whose side one is on."),
            CURSOR,
            LIMIT,
        ],
    )
    def get(self, request: Request) -> Response:
        side = request.query_params.get("as", "guest")
        if side not in SIDES:
            raise Invalid("as: write guest or host.", field="as")
        own = (
            queries.bookings_for(host_id=self.person_id)
            if side == "host"
            else queries.bookings_of(guest_id=self.person_id)
        )
        pages = CursorPages()
        rows = pages.paginate_queryset(payments.with_payments(own), request)
        return pages.get_paginated_response(BookingOut(rows, many=True, context=_context(self)).data)

    @documented(
        "create_booking",
        "Book a quote: the nights are held while the guest pays",
        tag=TAG,
        request=BookIn,
        answers={201: BookingDetailOut},
        errors=(404, 409),
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        quote = BookIn.read(request.data)["quote"]

        def work() -> Response:
            booking = bookings.create(quote_code=quote, actor=self.actor, now=self.now)
            return Response(_detail(self, booking), status=status.HTTP_201_CREATED)

        return once(self, request, work, one_transaction=True)


class OneBooking(Endpoint):
    @documented(
        "read_booking", "Read a booking with its money", tag=TAG, answers={200: BookingDetailOut}, errors=(404,)
    )
    def get(self, request: Request, code: str) -> Response:
        booking = queries.booking(code=code, actor=self.actor)
        return Response(_detail(self, booking), headers={"ETag": f'"{booking.version}"'})


class Pay(Endpoint):
    @documented(
        "pay_booking",
        "Pay with a card, reserve for a request, or save it for a stay far ahead; 202 when the bank asks the guest",
        tag=TAG,
        request=PayIn,
        answers={200: PaidOut, 202: PaidOut},
        errors=(402, 404, 409, 502, 503),
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, code: str) -> Response:
        method = PayIn.read(request.data)["payment_method"]

        def work() -> Response:
            payment = pay_booking.pay(booking_code=code, payment_method=method, actor=self.actor, now=self.now)
            booking = queries.booking(code=code, actor=self.actor)
            answer = {"payment": PaymentOut(payment).data, "booking": _detail(self, booking)}
            waits = payment.status in {"requires_action", "processing"}
            return Response(answer, status=status.HTTP_202_ACCEPTED if waits else status.HTTP_200_OK)

        return once(self, request, work, one_transaction=False)


class Accept(Endpoint):
    @documented(
        "accept_booking",
        "A host says yes to a request: what the guest reserved is taken",
        tag=TAG,
        answers={200: BookingDetailOut, 202: BookingDetailOut},
        errors=(404, 409, 502, 503),
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, code: str) -> Response:
        def work() -> Response:
            booking = decide_request.accept(booking_code=code, actor=self.actor, now=self.now)
            done = booking.status == "confirmed"
            return Response(_detail(self, booking), status=status.HTTP_200_OK if done else status.HTTP_202_ACCEPTED)

        return once(self, request, work, one_transaction=False)


class Decline(Endpoint):
    @documented(
        "decline_booking",
        "A host says no to a request, and why: nothing is charged",
        tag=TAG,
        request=DeclineIn,
        answers={200: BookingDetailOut},
        errors=(404, 409),
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, code: str) -> Response:
        reason = DeclineIn.read(request.data)["reason"]

        def work() -> Response:
            decide_request.decline(booking_code=code, reason=reason, actor=self.actor, now=self.now)
            return Response(_detail(self, queries.booking(code=code, actor=self.actor)))

        return once(self, request, work, one_transaction=True)


class CancellationQuote(Endpoint):
    @documented(
        "quote_cancellation",
        "What cancelling now would mean, to the cent and with its rules",
        tag=TAG,
        answers={200: CancellationQuoteOut},
        errors=(404, 409),
    )
    def post(self, request: Request, code: str) -> Response:
        preview = cancel_booking.preview(booking_code=code, actor=self.actor, now=self.now)
        return Response({**CancellationQuoteOut(preview_fields(preview)).data})


class Cancel(Endpoint):
    @documented(
        "cancel_booking",
        "Cancel on the terms of a cancellation quote",
        tag=TAG,
        request=CancelIn,
        answers={200: BookingDetailOut},
        errors=(404, 409),
        parameters=[],
    )
    def post(self, request: Request, code: str) -> Response:
        fields = CancelIn.read(request.data)
        cancel_booking.confirm(booking_code=code, actor=self.actor, now=self.now, **fields)
        return Response(_detail(self, queries.booking(code=code, actor=self.actor)))


def preview_fields(preview: Any) -> dict[str, Any]:
    """A preview under the names of its schema; the stored decision is what the booking would keep."""
    names = ("booking", "by", "refund", "refund_later", "refund_asked", "host_keeps", "penalty", "token", "expires_at")
    return {**{name: getattr(preview, name) for name in names}, "decision": preview.stored}


def _context(view: Endpoint) -> dict[str, Any]:
    return {"actor": view.actor, "now": view.now}


_shown = threading.local()


def _detail(view: Endpoint, booking: Any) -> Any:
    """One serializer a thread, used again: making its fields anew costs more than reading the booking through them."""
    if not hasattr(_shown, "detail"):
        _shown.detail = BookingDetailOut()
    _shown.detail._context = _context(view)
    return _shown.detail.to_representation(booking)
