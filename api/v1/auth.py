"""Accounts and sessions: register, sign in, refresh, sign out."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from api import auth
from api.endpoint import Endpoint
from api.fields import Currency, Input, Text
from api.schema import documented
from api.throttling import AccountThrottle, AddressThrottle, LoginThrottle
from api.v1.me import MeOut
from backoffice.people import operations as people
from backoffice.people import queries

TAG = "Accounts"


class RegisterIn(Input):
    email = Text(max_length=254)
    password = Text(max_length=128, trim_whitespace=False, write_only=True)
    name = Text(max_length=120)
    is_host = serializers.BooleanField(default=False, help_text="lists homes, too")
    currency = Currency(default="EUR")


class LoginIn(Input):
    email = Text(max_length=254)
    password = Text(max_length=128, trim_whitespace=False, write_only=True)


class RefreshIn(Input):
    refresh = Text(max_length=2000)


class TokensOut(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="for `Authorization: Bearer …`")
    refresh = serializers.CharField(help_text="good for one use at /auth/refresh")
    expires_in = serializers.IntegerField(help_text="seconds the access token lives")


class RegisteredOut(TokensOut):
    person = MeOut()


class Register(Endpoint):
    permission_classes = [AllowAny]
    authentication_classes = []
    throttle_classes = [AddressThrottle, LoginThrottle]

    @documented(
        "register",
        "Make an account, as a guest or as a host",
        tag=TAG,
        request=RegisterIn,
        answers={201: RegisteredOut},
        errors=(409, 503),
        public=True,
    )
    def post(self, request: Request) -> Response:
        fields = RegisterIn.read(request.data)
        person = people.register(**fields, actor=self.actor, now=self.now)
        tokens = auth.issue(person_id=person.id)
        return Response({**TokensOut(tokens).data, "person": MeOut(person).data}, status=status.HTTP_201_CREATED)


class Login(Endpoint):
    permission_classes = [AllowAny]
    authentication_classes = []
    throttle_classes = [AddressThrottle, LoginThrottle, AccountThrottle]

    @documented(
        "login",
        "Sign in with e-mail and password",
        tag=TAG,
        request=LoginIn,
        answers={200: TokensOut},
        errors=(401, 403, 503),
        public=True,
    )
    def post(self, request: Request) -> Response:
        fields = LoginIn.read(request.data)
        person = auth.person_by_password(email=fields["email"], password=fields["password"])
        queries.actor_for(user=person, now=self.now)  # a suspended person is told so, once the password was right
        return Response(TokensOut(auth.issue(person_id=person.id)).data)


class Refresh(Endpoint):
    permission_classes = [AllowAny]
    authentication_classes = []

    @documented(
        "refresh",
        "Exchange a refresh token for a new pair",
        tag=TAG,
        request=RefreshIn,
        answers={200: TokensOut},
        errors=(401, 403),
        public=True,
    )
    def post(self, request: Request) -> Response:
        return Response(TokensOut(auth.rotate(raw=RefreshIn.read(request.data)["refresh"])).data)


class Logout(Endpoint):
    permission_classes = [AllowAny]
    authentication_classes = []

    @documented(
        "logout",
        "End one session: its refresh token is no longer accepted",
        tag=TAG,
        request=RefreshIn,
        answers={204: None},
        errors=(401,),
        public=True,
    )
    def post(self, request: Request) -> Response:
        auth.revoke(raw=RefreshIn.read(request.data)["refresh"])
        return Response(status=status.HTTP_204_NO_CONTENT)


class Revoke(Endpoint):
    @documented("revoke_sessions", "End all of one's sessions", tag=TAG, answers={204: None})
    def post(self, request: Request) -> Response:
        auth.revoke_all(person_id=self.person_id)
        return Response(status=status.HTTP_204_NO_CONTENT)
