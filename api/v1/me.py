"""The signed-in person."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.endpoint import Endpoint
from api.fields import Currency, Input, Text
from api.pagination import CursorPages
from api.schema import CURSOR, LIMIT, documented, page_of
from backoffice.core.errors import Invalid
from backoffice.notifications import operations as notifications
from backoffice.notifications import queries as told
from backoffice.people import operations as people

TAG = "Me"


class MeIn(Input):
    name = Text(max_length=120, required=False)
    currency = Currency(required=False, help_text="the currency one likes to see")


class MeOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    email = serializers.EmailField()
    name = serializers.CharField()
    is_host = serializers.BooleanField()
    currency = serializers.CharField()
    created_at = serializers.DateTimeField()
    version = serializers.IntegerField()


class Me(Endpoint):
    @documented("me", "Read one's own profile", tag=TAG, answers={200: MeOut})
    def get(self, request: Request) -> Response:
        return Response(MeOut(request.user).data)

    @documented("edit_me", "Change one's name or preferred currency", tag=TAG, request=MeIn, answers={200: MeOut})
    def patch(self, request: Request) -> Response:
        fields = MeIn.read(request.data)
        if not fields:
            raise Invalid("name: send name, currency or both.", field="name")
        person = people.edit_profile(person_id=self.person_id, actor=self.actor, now=self.now, **fields)
        return Response(MeOut(person).data)


class ReadIn(Input):
    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        max_length=1000,
        required=False,
        help_text="all of them when absent",
    )


class ReadOut(serializers.Serializer[Any]):
    read = serializers.IntegerField(help_text="how many were not read before")


class NoticeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    topic = serializers.CharField()
    title = serializers.CharField()
    body = serializers.CharField()
    link = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)


NoticesPage = page_of(NoticeOut, "NoticesPage")


class BecomeHost(Endpoint):
    @documented("become_host", "List homes, too; repeating it changes nothing", tag=TAG, answers={200: MeOut})
    def post(self, request: Request) -> Response:
        return Response(MeOut(people.become_host(person_id=self.person_id, actor=self.actor, now=self.now)).data)


class Notices(Endpoint):
    @documented(
        "my_notifications",
        "List what one was told, newest first",
        tag=TAG,
        answers={200: NoticesPage},
        parameters=[
            OpenApiParameter("unread", bool, default=False, description="Only what was not read yet."),
            CURSOR,
            LIMIT,
        ],
    )
    def get(self, request: Request) -> Response:
        only = request.query_params.get("unread", "false")
        if only not in {"true", "false"}:
            raise Invalid("unread: write true or false.", field="unread")
        pages = CursorPages()
        rows = told.notices(recipient_id=self.person_id, unread_only=only == "true").order_by("-id")
        return pages.get_paginated_response(NoticeOut(pages.paginate_queryset(rows, request), many=True).data)


class NoticesRead(Endpoint):
    @documented("read_notifications", "Mark what one was told as read", tag=TAG, request=ReadIn, answers={200: ReadOut})
    def post(self, request: Request) -> Response:
        ids = ReadIn.read(request.data).get("ids")
        return Response({"read": notifications.mark_read(recipient_id=self.person_id, ids=ids, now=self.now)})
