"""``/_sim``: what a test, a demo or an operator does to the sandbox itself. JSON in, JSON out; no key needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from . import API_VERSION, acts, drift, faults, intents, pages, setups
from .context import Context, run_due
from .errors import ApiError, Json, missing_resource
from .money import CURRENCIES
from .resources import webhook_endpoints
from .store import Record
from .world import World

MOST_REDELIVERIES = 200
ROLLED_SECONDS = 86_400


class Control:
    """The control endpoints and the operator's pages of one sandbox."""

    def __init__(self, world: World) -> None:
        self._world = world
        json_routes: list[tuple[str, str, Callable[..., Json]]] = [
            ("GET", "/_sim/health", self.health),
            ("GET", "/_sim/state", self.state),
            ("POST", "/_sim/reset", self.reset),
            ("GET", "/_sim/clock", self.show_clock),
            ("POST", "/_sim/clock", self.move_clock),
            ("GET", "/_sim/faults", self.list_faults),
            ("POST", "/_sim/faults", self.add_fault),
            ("DELETE", "/_sim/faults", self.clear_faults),
            ("DELETE", "/_sim/faults/<int:id>", self.clear_faults),
            ("POST", "/_sim/drift", self.make_drift),
            ("POST", "/_sim/rates", self.add_rate),
            ("GET", "/_sim/deliveries", self.list_deliveries),
            ("POST", "/_sim/webhooks/redeliver", self.redeliver),
            ("POST", "/_sim/webhooks/flush", self.flush),
            ("POST", "/_sim/webhook_endpoints/<endpoint>/roll", self.roll_secret),
            ("POST", "/_sim/3ds/<intent>/complete", self.complete_challenge),
        ]
        page_routes: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/", lambda request: redirect("/_sim/")),
            ("GET", "/_sim/", self.overview),
            ("GET", "/_sim/objects/<id>", self.show_object),
            ("GET", "/_sim/3ds/<intent>", self.show_challenge),
            ("POST", "/_sim/3ds/<intent>", self.answer_challenge),
            ("GET", "/_sim/onboarding/<link>", self.show_onboarding),
            ("POST", "/_sim/onboarding/<link>", self.finish_onboarding),
        ]
        self._routes = Map([
            *(Rule(path, methods=[method], endpoint=(act, True)) for method, path, act in json_routes),
            *(Rule(path, methods=[method], endpoint=(act, False)) for method, path, act in page_routes),
            *(Rule(path, methods=["POST"], endpoint=(self._acting(act), True)) for path, act in acts.ACTS.items()),
        ])  # fmt: skip

    def __call__(self, request: Request) -> Response | HTTPException:
        """Answer one request."""
        try:
            (act, is_json), parts = self._routes.bind_to_environ(request.environ).match()
            if not is_json:
                response: Response = act(request, **parts)
                return response
            given = _given(request)
            return _json(act(given, **parts))
        except HTTPException as error:
            return error
        except ApiError as error:
            return _json(error.body(), error.status)

    def health(self, given: Json) -> Json:
        """That it answers, and what it speaks."""
        with self._world.store.transaction() as tx:
            tx.value("SELECT 1")
            return {"status": "ok", "api_version": API_VERSION, "clock": self._world.clock.shown(tx)}

    def state(self, given: Json) -> Json:
        """How many of what there are."""
        with self._world.store.transaction() as tx:
            kinds = tx.rows("SELECT kind, count(*) FROM objects WHERE NOT deleted GROUP BY kind ORDER BY kind")
            states = tx.rows("SELECT state, count(*) FROM deliveries GROUP BY state ORDER BY state")
            return {
                "clock": self._world.clock.shown(tx),
                "objects": {row[0]: row[1] for row in kinds},
                "balance_transactions": tx.value("SELECT count(*) FROM balance_transactions"),
                "events": tx.value("SELECT count(*) FROM events"),
                "deliveries": {row[0]: row[1] for row in states},
                "deferred": tx.value("SELECT count(*) FROM deferred"),
                "idempotency_keys": tx.value("SELECT count(*) FROM idempotency"),
                "faults": tx.value("SELECT count(*) FROM faults"),
            }

    def reset(self, given: Json) -> Json:
        """Forget everything but the endpoint given at the start, and the time unless ``{"clock": true}``."""
        acts.only(given, "clock")
        with self._world.store.transaction() as tx:
            kept = tx.rows(
                "SELECT id, doc, private FROM objects WHERE kind = 'webhook_endpoint' AND NOT deleted "
                "AND private ->> '$.from_start'"
            )
            tx.wipe()
            if given.get("clock"):  # only for whoever has no other clock that went along with this one
                self._world.clock.restart(tx)
            for row in kept:
                tx.run(
                    "INSERT INTO objects (id, kind, account, created, doc, private) VALUES "
                    "(?, 'webhook_endpoint', ?, ?, ?, ?)",
                    row["id"],
                    self._world.settings.platform,
                    json.loads(row["doc"])["created"],
                    row["doc"],
                    row["private"],
                )
                tx.new_id("we_")  # so that the next endpoint does not get the kept one's id
        return {"reset": True}

    def show_clock(self, given: Json) -> Json:
        """The virtual time."""
        with self._world.store.transaction() as tx:
            return self._world.clock.shown(tx)

    def move_clock(self, given: Json) -> Json:
        """``{"advance": seconds}`` or ``{"set": epoch seconds or ISO instant}``; does what falls due on the way."""
        acts.only(given, "advance", "set")
        with self._world.store.transaction() as tx:
            now = self._world.clock.now(tx)
            seconds = _instant(given["set"]) - now if "set" in given else _number(given, "advance")
            self._world.clock.advance(tx, seconds)
            tx.run("UPDATE deliveries SET state = 'pending' WHERE state = 'held'")
            done = run_due(self._world.context(tx))
            shown = self._world.clock.shown(tx)
        self._world.deliveries.wake()
        return {**shown, "done": done}

    def list_faults(self, given: Json) -> Json:
        """All fault rules."""
        with self._world.store.transaction() as tx:
            return {"data": faults.listed(tx)}

    def add_fault(self, given: Json) -> Json:
        """Add a rule (see ``faults.Rule``)."""
        rule = faults.read_rule(given)
        with self._world.store.transaction() as tx:
            return faults.add(tx, rule)

    def clear_faults(self, given: Json, id: int | None = None) -> Json:
        """Remove one rule or all of them."""
        with self._world.store.transaction() as tx:
            return {"cleared": faults.clear(tx, id)}

    def make_drift(self, given: Json) -> Json:
        """Falsify one balance transaction: ``{"kind": "altered" | "missing" | "extra", …}``; what was changed."""
        acts.only(given, "kind", "balance_transaction", "amount_delta")
        with self._world.store.transaction() as tx:
            return drift.make(
                self._world.context(tx),
                kind=given.get("kind", "altered"),
                id=given.get("balance_transaction"),
                delta=given.get("amount_delta", 1),
            )

    def add_rate(self, given: Json) -> Json:
        """``{"currency": "usd", "date": "2026-11-01", "per_eur": "1.10"}``: a rate from that day on."""
        acts.only(given, "currency", "date", "per_eur")
        currency = str(given.get("currency", "")).lower()
        try:
            day = date.fromisoformat(given["date"]).isoformat()
            per_eur = str(given["per_eur"])
            if Fraction(per_eur) <= 0 or currency not in CURRENCIES - {"eur"}:
                raise ValueError("out of range")
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ApiError(
                400, "A rate needs a currency other than eur, an ISO date and per_eur, a positive decimal as text."
            ) from error
        with self._world.store.transaction() as tx:
            entries = json.loads(tx.meta("rates") or "[]")
            tx.set_meta("rates", json.dumps([*entries, [currency, day, per_eur]]))
        self._world.rates.add(currency, day, per_eur)
        return {"currency": currency, "date": day, "per_eur": per_eur}

    def list_deliveries(self, given: Json) -> Json:
        """The newest 200 deliveries."""
        with self._world.store.transaction() as tx:
            rows = tx.rows(
                "SELECT d.*, e.type FROM deliveries d JOIN events e ON e.id = d.event ORDER BY d.id DESC LIMIT 200"
            )
            return {"data": [dict(row) for row in rows]}

    def redeliver(self, given: Json) -> Json:
        """``{"event": id, "times": n, "endpoint": id}``: send it again, all at once."""
        acts.only(given, "event", "times", "endpoint")
        times = given.get("times", 1)
        if not isinstance(times, int) or not 1 <= times <= MOST_REDELIVERIES:
            raise ApiError(400, f"times must be a number from 1 to {MOST_REDELIVERIES}.", param="times")
        event = str(given.get("event", ""))
        sent = self._world.deliveries.redeliver(event, times=times, endpoint=given.get("endpoint"))
        return {"event": event, "deliveries": sent}

    def flush(self, given: Json) -> Json:
        """Wait until everything due has been attempted (``{"timeout": seconds}``, 30 by default)."""
        acts.only(given, "timeout")
        return {"flushed": self._world.deliveries.flush(_number({"timeout": 30, **given}, "timeout"))}

    def roll_secret(self, given: Json, endpoint: str) -> Json:
        """``{"expires_in": seconds}``: a new signing secret, beside which the old one still signs for so long (a day)."""
        acts.only(given, "expires_in")
        seconds = _number({"expires_in": ROLLED_SECONDS, **given}, "expires_in")
        with self._world.store.transaction() as tx:
            ctx = self._world.context(tx)
            return {"id": endpoint, "secret": webhook_endpoints.roll(ctx, endpoint, until=ctx.now + seconds)}

    def complete_challenge(self, given: Json, intent: str) -> Json:
        """``{"outcome": "succeed" | "fail"}``: answer a 3-D Secure challenge; the PaymentIntent afterwards."""
        acts.only(given, "outcome")
        return self._authenticate(intent, success=_outcome(given.get("outcome", "succeed")))

    def overview(self, request: Request) -> Response:
        """The operator's page."""
        with self._world.store.transaction() as tx:
            return _html(pages.overview(self._world.context(tx), self._world.clock.shown(tx)))

    def show_object(self, request: Request, id: str) -> Response:
        """One object, event or balance transaction as JSON, readable."""
        with self._world.store.transaction() as tx:
            doc = pages.find(self._world.context(tx), id)
        if doc is None:
            return _html(pages.message("Nothing here", f"There is no object {id}."), 404)
        return _html(pages.document(id, doc))

    def show_challenge(self, request: Request, intent: str) -> Response:
        """The bank's page: complete or fail."""
        with self._world.store.transaction() as tx:
            doc = _challenged(self._world.context(tx), intent, request.args.get("client_secret"))
        return _html(
            pages.challenge(doc)
            if doc["status"] == "requires_action"
            else pages.message("Nothing to confirm", f"This payment is {doc['status']}.")
        )

    def answer_challenge(self, request: Request, intent: str) -> Response:
        """What the guest pressed; then back to where the merchant wanted them."""
        with self._world.store.transaction() as tx:
            doc = _challenged(self._world.context(tx), intent, request.form.get("client_secret"))
        after = self._authenticate(intent, success=_outcome(request.form.get("outcome")))
        target = ((doc["next_action"] or {}).get("redirect_to_url") or {}).get("return_url")
        if target is None:
            return _html(pages.message("Thank you", f"This payment is {after['status']}. You may close this page."))
        status = "succeeded" if after["status"] in ("succeeded", "requires_capture") else "failed"
        kind = after["object"]
        proof = {kind: intent, "redirect_status": status, f"{kind}_client_secret": after["client_secret"]}
        return redirect(_with_query(target, **proof))

    def show_onboarding(self, request: Request, link: str) -> Response:
        """The provider's form for a new host; a link that was used or has expired leads back to ask for another."""
        with self._world.store.transaction() as tx:
            found = acts.account_link(self._world.context(tx), link)
        if found is None:
            return _html(pages.message("Nothing here", "There is no such onboarding link."), 404)
        return _html(pages.onboarding(found)) if found["usable"] else redirect(found["refresh_url"])

    def finish_onboarding(self, request: Request, link: str) -> Response:
        """The host has filled in the form (with the account number given, if any); back to the platform."""
        with self._world.store.transaction() as tx:
            ctx = self._world.context(tx)
            found = acts.account_link(ctx, link)
            if found is not None and found["usable"]:
                acts.finish_onboarding(ctx, link, request.form.get("account_number"))
        if found is None:
            return _html(pages.message("Nothing here", "There is no such onboarding link."), 404)
        self._world.deliveries.wake()
        return redirect(found["return_url"] if found["usable"] else found["refresh_url"])

    def _acting(self, act: acts.Act) -> Callable[..., Json]:
        """An act of the world outside as a control endpoint: one transaction, after all that is due."""

        def run(given: Json, **parts: str) -> Json:
            with self._world.store.transaction() as tx:
                run_due(self._world.context(tx))
                done = act(self._world.context(tx), given, **parts)
            self._world.deliveries.wake()
            return done

        return run

    def _authenticate(self, intent: str, *, success: bool) -> Json:
        with self._world.store.transaction() as tx:
            run_due(self._world.context(tx))
            ctx, record = _intent(self._world.context(tx), intent)
            try:
                (setups if record.kind == "setup_intent" else intents).authenticate(ctx, record, success=success)
            except ApiError as error:
                if not error.keep_writes:
                    raise
        self._world.deliveries.wake()
        return record.doc


def _intent(ctx: Context, id: str) -> tuple[Context, Record]:
    """A PaymentIntent or a SetupIntent, and the context of the account whose it is."""
    owner = ctx.tx.value("SELECT account FROM objects WHERE id = ?", id) or ctx.account
    kind = "setup_intent" if id.startswith("seti_") else "payment_intent"
    return ctx.within(owner), ctx.within(owner).load(kind, id, param="intent")


def _challenged(ctx: Context, intent: str, secret: str | None) -> Json:
    doc = _intent(ctx, intent)[1].doc
    if secret != doc["client_secret"]:
        raise missing_resource("payment_intent", intent)
    return doc


def _given(request: Request) -> Json:
    body = request.get_data()
    try:
        given: Any = json.loads(body) if body else {}
    except ValueError as error:
        raise ApiError(400, "The body must be JSON.") from error
    if not isinstance(given, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return given


def _number(given: Json, name: str) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ApiError(400, f"{name} must be a number of seconds.", param=name)
    return float(value)


def _instant(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        instant = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ApiError(400, "set must be epoch seconds or an ISO instant.", param="set") from error
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _outcome(word: Any) -> bool:
    if word not in ("succeed", "fail"):
        raise ApiError(400, "outcome must be succeed or fail.", param="outcome")
    return bool(word == "succeed")


def _with_query(url: str, **values: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), *values.items()])))


def _json(body: Json, status: int = 200) -> Response:
    return Response(json.dumps(body, indent=2) + "\n", status=status, content_type="application/json")


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status=status, content_type="text/html; charset=utf-8")
