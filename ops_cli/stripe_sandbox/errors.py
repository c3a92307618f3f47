"""Errors in Stripe's shape: ``{"error": {"type", "code", "message", "param", ...}}`` with Stripe's status codes."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """A refusal with the status, type, code and sentence that Stripe would give.

    ``keep_writes`` is for refusals that leave something behind: a declined card leaves a failed charge and a
    PaymentIntent that asks for another method, although the answer is 402.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        keep_writes: bool = False,
        retry: bool | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.keep_writes = keep_writes
        self.retry = retry
        error: Json = {"type": type, "message": message}
        if code is not None:
            error["code"] = code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param is not None:
            error["param"] = param
        error.update({name: fact for name, fact in facts.items() if fact is not None})
        self.error = error

    def body(self) -> Json:
        """The response body."""
        return {"error": self.error}


def missing_resource(noun: str, id: str, *, param: str = "id") -> ApiError:
    """404 ``resource_missing``: there is no such object (``noun`` as Stripe spells it in the sentence)."""
    return ApiError(404, f"No such {noun}: '{id}'", code="resource_missing", param=param)


def not_implemented(what: str) -> ApiError:
    """501 in Stripe's shape: Stripe knows this, the sandbox does not simulate it. Never a silent success."""
    return ApiError(
        501, f"{what} is not simulated by this sandbox.", type="api_error", code="not_implemented", retry=False
    )
