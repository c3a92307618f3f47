"""What is asked for beside the payment of a booking: instalments of long stays, and damage."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from api.endpoint import Endpoint
from api.fields import Input, MoneyOf, Text
from api.idempotency import once
from api.schema import IDEMPOTENCY_KEY, documented
from backoffice.payments import queries
from backoffice.payments.states import CHARGE, CHARGE_KINDS
from backoffice.workflows import collect_charges

TAG = "Booking"


class PayChargeIn(Input):
    payment_method = Text(
        max_length=120,
        required=False,
        allow_blank=True,
        default="",
        help_text="the provider's token for a card, pm_…; without it the card that was saved",
    )


class ChargeOut(serializers.Serializer[Any]):
    """One charge. The saved card is charged at `due_at` by itself; after a decline it can be paid here until `pay_by`."""

    code = serializers.CharField()
    kind = serializers.ChoiceField(choices=CHARGE_KINDS)
    status = serializers.ChoiceField(choices=CHARGE.statuses)
    amount = MoneyOf("amount")
    reason = serializers.CharField()
    due_at = serializers.DateTimeField()
    next_try_at = serializers.DateTimeField(allow_null=True, help_text="when the saved card is charged")
    pay_by = serializers.DateTimeField(allow_null=True)
    captured_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.SerializerMethodField(help_text="why a card was refused; only whose card it is sees it")
    next_action_url = serializers.SerializerMethodField(
        help_text="send the guest there when the status is requires_action; only the guest sees it"
    )

    def get_last_error(self, charge: Any) -> str:
        return str(charge.last_error) if self._is_theirs(charge) else ""

    def get_next_action_url(self, charge: Any) -> str:
        return str(charge.next_action_url) if self._is_theirs(charge) else ""

    def _is_theirs(self, charge: Any) -> bool:
        """A host sees what a stay earns, not what goes on between the guest and their bank."""
        actor = self.context["actor"]
        return actor.kind not in {"guest", "host"} or actor.id == charge.booking.guest_id


class ChargesOut(serializers.Serializer[Any]):
    charges = ChargeOut(many=True)


class _OfCharges(Endpoint):
    @property
    def seen(self) -> dict[str, Any]:
        """Who reads, by which the serializer tells what is the guest's alone."""
        return {"actor": self.actor}


class Charges(_OfCharges):
    @documented(
        "list_charges",
        "What is or was due besides the payment of a booking, in the order it is due",
        tag=TAG,
        answers={200: ChargesOut},
        errors=(404,),
    )
    def get(self, request: Request, code: str) -> Response:
        rows = queries.charges_of(booking_code=code, actor=self.actor)
        return Response(ChargesOut({"charges": rows}, context=self.seen).data)


class PayCharge(_OfCharges):
    @documented(
        "pay_charge",
        "Pay a charge with any card, before its day or after it was declined; 202 when the bank asks the guest",
        tag=TAG,
        request=PayChargeIn,
        answers={200: ChargeOut, 202: ChargeOut},
        errors=(402, 404, 409, 502, 503),
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, code: str) -> Response:
        method = PayChargeIn.read(request.data)["payment_method"]

        def work() -> Response:
            charge = collect_charges.pay(charge_code=code, payment_method=method, actor=self.actor, now=self.now)
            done = charge.status == "captured"
            return Response(
                ChargeOut(charge, context=self.seen).data,
                status=status.HTTP_200_OK if done else status.HTTP_202_ACCEPTED,
            )

        return once(self, request, work, one_transaction=False)
