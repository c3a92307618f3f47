"""The desk's addresses and, beside them, the floor: an empty view."""

from __future__ import annotations

from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backoffice.urls import urlpatterns as of_the_desk


class Floor(APIView):
    """Twenty dicts, nothing asked of anybody."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_classes = []

    def get(self, request: Request) -> Response:
        return Response([{"id": number, "name": f"row {number}", "price": 100 + number} for number in range(20)])


urlpatterns = [path("bench/floor", Floor.as_view()), *of_the_desk]
