"""How the API describes itself: one decorator per operation, problem documents included, OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

F = TypeVar("F", bound=Callable[..., Any])

MEANING: Final[Mapping[int, str]] = {
    400: "The request cannot be read.",
    401: "Not signed in, or the token has expired.",
    402: "The payment was declined.",
    403: "Signed in, but not allowed.",
    404: "No such thing, or not yours.",
    409: "Not possible in the present state.",
    412: "Changed since you read it.",
    413: "The body is larger than 1 MB.",
    415: "The body is not application/json.",
    422: "An input is not valid; `errors` names the fields.",
    429: "Too many requests; see Retry-After.",
    502: "The payment provider refused the request.",
    503: "A part we depend on does not answer; repeat the request.",
}


class FieldProblem(serializers.Serializer[Any]):
    """One input that was refused."""

    field = serializers.CharField(help_text="dotted path of the input")
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """An RFC 9457 problem document. `code` is stable; docs/errors.md lists them all."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="fit for a person to read")
    code = serializers.CharField()
    instance = serializers.CharField()
    request_id = serializers.CharField()
    field = serializers.CharField(required=False)
    errors = FieldProblem(many=True, required=False)  # type: ignore[assignment]
    facts = serializers.DictField(required=False)


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # spectacular registers it untyped
    """The access token in the Authorization header."""

    target_class = "api.auth.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class DeskSchema(AutoSchema):
    """Pages of ours carry no page numbers, and a list is a list only where it says so."""

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False


IDEMPOTENCY_KEY: Final = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="Unique for this request, 1 to 255 visible ASCII characters. A repeat with the same key and body gets the "
    "first answer again, for 24 hours.",
)
IF_MATCH: Final = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag that was read; or send `version` in the body."
)
CURSOR: Final = OpenApiParameter("cursor", str, description="From `next` of the page before.")
LIMIT: Final = OpenApiParameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, description="Rows of a page."
)


def documented(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    answers: Mapping[int | tuple[int, str], Any],
    request: Any = None,
    errors: Sequence[int] = (),
    parameters: Sequence[Any] = (),
    public: bool = False,
) -> Callable[[F], F]:
    """Describe one operation. Adds the errors that every operation of its kind can give."""
    given = {*errors, 429}
    if not public:
        given |= {401, 403}
    if request is not None:
        given |= {400, 413, 415, 422}
    if parameters:
        given.add(422)
    responses: dict[Any, Any] = {
        status: answer or OpenApiResponse(description="Done.") for status, answer in answers.items()
    }
    for status in sorted(given):
        responses[status, "application/problem+json"] = OpenApiResponse(Problem, description=MEANING[status])
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description="",
        tags=[tag],
        request=request,
        responses=responses,
        parameters=list(parameters),
    )


def page_of(serializer: type[serializers.Serializer[Any]], name: str) -> type[serializers.Serializer[Any]]:
    """The schema of one page of `serializer`."""
    return type(
        name,
        (serializers.Serializer,),
        {
            "__doc__": "One page; `next` is the address of the following one, or null.",
            "results": serializer(many=True),
            "next": serializers.URLField(allow_null=True),
        },
    )
