"""The provider's webhooks: stored as they came, answered at once, applied by a worker."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from backoffice.core import clock
from backoffice.core.errors import Invalid
from backoffice.workflows import apply_provider_event


@csrf_exempt
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    """200 once the event is stored (again, or for the first time); 400 when its signature is not the provider's.

    Anything else is ours to answer with 5xx, so that the provider delivers again."""
    try:
        apply_provider_event.receive(
            payload=request.body, signature=request.headers.get("Stripe-Signature", ""), now=clock.now()
        )
    except Invalid as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"received": True})
