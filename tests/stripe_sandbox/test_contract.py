"""The judge itself, and what the sandbox must cover: operations, parameters, keys of the objects."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe
from werkzeug.exceptions import MethodNotAllowed, NotFound

from ops_cli.stripe_sandbox import resources
from ops_cli.stripe_sandbox.app import _routes
from ops_cli.stripe_sandbox.expand import EXPANDABLE
from ops_cli.stripe_sandbox.params import Field, Group, ListOf, NotSimulated
from ops_cli.stripe_sandbox.registry import NOT_SIMULATED, OPERATIONS
from tests.provider import DeskClient
from tests.stripe_sandbox import contract
from tests.stripe_sandbox.conftest import Host, Pay
from tests.stripe_sandbox.receiver import Receiver
from tests.stripe_sandbox.server import Json, RunningSandbox

pytestmark = pytest.mark.skipif(
    not contract.PRESENT, reason="Stripe's schema is not beside the repository (../shared/stripe)"
)
assert resources.__all__
NO_LONGER_IN_SCHEMA = {"payment_method_types"}
# Stripe's examples of what the sandbox never answers: what 501 is for, cards without a PaymentMethod, and names of a choice
# between two of the others.
NO_OBJECTS_OF_OURS = set(
    "application balance_settings card deleted_card deleted_external_account external_account file_link person review "
    "topup".split()
)


def published() -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in contract.spec()["paths"].items()
        for method, operation in methods.items()
    }


# Not in the part of the schema at hand: judged by the SDK's own parameters instead.
SETUP_INTENTS = sorted(key for key in OPERATIONS if key[1].startswith("/v1/setup_intents"))


def test_every_operation_is_answered_or_said_not_to_be() -> None:
    assert (set(OPERATIONS) - set(SETUP_INTENTS)) | NOT_SIMULATED == set(published())
    assert not set(OPERATIONS) & NOT_SIMULATED


def asked_by_the_sdk() -> set[tuple[str, str]]:
    """Every operation that the SDK can ask for, by the text of its services."""
    asked = re.compile(r'_request\(\s*"(get|post|delete)",\s*"(/v[12]/[^"]+)"')
    files = Path(stripe.__file__).parent.rglob("_*_service.py")
    return {(method.upper(), path) for file in files for method, path in asked.findall(file.read_text())}


def test_whatever_else_the_sdk_can_ask_answers_501(sandbox: RunningSandbox) -> None:
    routes = _routes().bind("sandbox")
    known = {(method, re.sub(r"{\w+}", "{}", path)) for method, path in OPERATIONS}
    others = {
        (method, path) for method, path in asked_by_the_sdk() if (method, re.sub(r"{\w+}", "{}", path)) not in known
    }
    assert len(others) > 500
    for method, path in others:
        with contextlib.suppress(NotFound, MethodNotAllowed):  # answered as one that is not simulated
            assert routes.match(path.replace("{", "").replace("}", ""), method=method)[0] not in OPERATIONS, path
    for method, path in (
        ("POST", "/v1/charges"),
        ("GET", "/v1/charges/search"),
        ("DELETE", "/v1/balance"),
        ("GET", "/v2/core/accounts"),
    ):
        answer = requests.request(method, sandbox.base_url + path, auth=(sandbox.api_key, ""), timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_implemented")
        assert sandbox.not_simulated()[0].startswith(f"{method} {path}: ")
    with pytest.raises(AssertionError, match="does not simulate get"):
        sandbox.client(DeskClient(timeout=20)).v1.topups.list()


@pytest.mark.parametrize("key", sorted(set(OPERATIONS) - set(SETUP_INTENTS)), ids=" ".join)
def test_parameter_table_has_exactly_the_published_names(key: tuple[str, str]) -> None:
    operation = published()[key]
    ours = OPERATIONS[key].fields
    form = next(iter(operation.get("requestBody", {}).get("content", {}).values()), None)
    if key[0] == "POST":
        schema = form["schema"] if form else {"properties": {}}
        assert set(ours) - NO_LONGER_IN_SCHEMA == set(schema["properties"])
        assert {name for name, field in ours.items() if field.required} == set(schema.get("required", []))
        for name in set(ours) - NO_LONGER_IN_SCHEMA:
            same_fields(ours[name], schema["properties"][name], name)
    else:
        query = {item["name"] for item in operation.get("parameters", []) if item["in"] == "query"}
        assert set(ours) == query


@pytest.mark.parametrize("key", SETUP_INTENTS, ids=" ".join)
def test_setup_intents_take_exactly_what_the_sdk_sends(key: tuple[str, str]) -> None:
    method, path = key
    verb = path.rpartition("/")[2] if "}/" in path else {"GET": "list", "POST": "create"}[method]
    if path.endswith("}"):
        verb = {"GET": "retrieve", "POST": "update"}[method]
    params = getattr(stripe.params, f"SetupIntent{verb.title()}Params")
    inherited = set(stripe.RequestOptions.__annotations__)
    assert set(OPERATIONS[key].fields) == (set(params.__annotations__) - inherited) | {"expand"}


def same_fields(field: Field, schema: Json, path: str) -> None:
    """Groups have the published fields, choices the published words, clearable is what may be empty."""
    if isinstance(field, NotSimulated):
        return
    options = schema.get("anyOf", [schema])
    if isinstance(field, Group):
        known = next(option for option in options if option.get("type") == "object")["properties"]
        if path == "card" and "number" in known:  # card by number or by token: two shapes in one
            known = {**known, "token": {}}
        assert set(field.fields) == set(known), path
        for name, inner in field.fields.items():
            same_fields(inner, known[name], f"{path}[{name}]")
    words = [option["enum"] for option in options if "enum" in option]
    if hasattr(field, "of") and words:
        assert set(field.of) == {word for some in words for word in some} - {"", None}, path
    if isinstance(field, ListOf):
        assert any(option.get("type") == "array" for option in options), path
    if any("" in some for some in words) and path != "tax_exempt":
        assert field.clearable, path


def test_objects_have_the_keys_of_stripes_own_examples(
    sandbox: RunningSandbox, client: Any, pay: Pay, host: Host
) -> None:
    customer = client.v1.customers.create({"email": "guest@example.com"})
    intent = pay(customer=customer.id)
    sandbox.advance(2)
    account = client.v1.accounts.retrieve(host(settings={"payouts": {"schedule": {"interval": "manual"}}}))
    source = {"currency": "eur", "destination": account.id, "source_transaction": intent.latest_charge}
    transfer = client.v1.transfers.create({"amount": 10_000, **source})
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 1_000})
    disputed = pay(card="pm_card_createDispute").latest_charge
    suspected = pay(card="pm_card_createIssuerFraudRecord").latest_charge
    sandbox.advance(7 * 86_400)
    report = client.v1.reporting.report_types.list().data[0]
    span = {"interval_start": report.data_available_start, "interval_end": report.data_available_end}
    links = {"refresh_url": "http://127.0.0.1/", "return_url": "http://127.0.0.1/"}
    picture = io.BytesIO(b"\x89PNG\r\n")
    picture.name = "stay.png"
    bank = {"account_number": "000999999992", "country": "DE", "currency": "eur"}
    spare = client.v1.accounts.external_accounts.create(account.id, {"bank_account": bank})
    endpoint = client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["payout.paid"]})
    ours = {
        "payment_intent": intent,
        "charge": client.v1.charges.retrieve(intent.latest_charge),
        "refund": refund,
        "balance_transaction": client.v1.balance_transactions.list().data[0],
        "payment_method": client.v1.payment_methods.retrieve(intent.payment_method),
        "customer": customer,
        "event": client.v1.events.list().data[0],
        "balance": client.v1.balance.retrieve(),
        "account": account,
        "capability": client.v1.accounts.capabilities.retrieve(account.id, "transfers"),
        "bank_account": account.external_accounts.data[0],
        "account_link": client.v1.account_links.create({"account": account.id, "type": "account_onboarding", **links}),
        "login_link": client.v1.accounts.login_links.create(account.id),
        "transfer": transfer,
        "transfer_reversal": client.v1.transfers.reversals.create(transfer.id, {"amount": 100}),
        "payout": client.v1.payouts.create({"amount": 100, "currency": "eur"}),
        "dispute": client.v1.disputes.list({"charge": disputed}).data[0],
        "radar.early_fraud_warning": client.v1.radar.early_fraud_warnings.list({"charge": suspected}).data[0],
        "file": client.v1.files.create({"purpose": "dispute_evidence", "file": picture}),
        "reporting.report_type": report,
        "reporting.report_run": client.v1.reporting.report_runs.create({"report_type": report.id, "parameters": span}),
        "webhook_endpoint": client.v1.webhook_endpoints.list().data[0],
        "deleted_bank_account": client.v1.accounts.external_accounts.delete(account.id, spare.id),
        "deleted_customer": client.v1.customers.delete(customer.id),
        "deleted_webhook_endpoint": client.v1.webhook_endpoints.delete(endpoint.id),
        "deleted_account": client.v1.accounts.delete(host()),
    }
    assert set(contract.fixtures()) - set(ours) == NO_OBJECTS_OF_OURS
    # Shown by Stripe only on request, or only for what this example happens to be.
    optional = {"charge": {"refunds"}, "bank_account": {"customer"}}
    for kind, shown in ours.items():
        known = set(contract.spec()["components"]["schemas"][kind]["properties"])
        example = set(contract.fixtures()[kind]) & known
        assert example - set(shown.to_dict()) == optional.get(kind, set()), kind


def test_expandable_fields_are_the_published_ones() -> None:
    for kind, fields in EXPANDABLE.items():
        if kind == "setup_intent":
            continue
        schema = contract.spec()["components"]["schemas"][kind]
        published = set()
        for name, field in schema["properties"].items():
            options = field.get("anyOf", [])
            if any(option.get("type") == "string" for option in options) or name == "refunds":
                published.add(name)
        assert set(fields) == published, kind


def test_the_judge_finds_what_is_wrong() -> None:
    """Negative controls: a judge that lets these through judges nothing."""
    charge = {key: value for key, value in contract.fixtures()["charge"].items() if key != "source"}
    contract.check_object(charge)

    def spoiled(**changes: Any) -> Json:
        return {**copy.deepcopy(charge), **changes}

    bad = {
        "type": spoiled(amount="100"),
        "enum": spoiled(status="paid"),
        "unknown key": spoiled(surprise=1),
        "nested unknown key": spoiled(billing_details={**charge["billing_details"], "surprise": 1}),
        "null": spoiled(paid=None),
        "missing": {key: value for key, value in charge.items() if key != "currency"},
    }
    for value in bad.values():
        with pytest.raises(AssertionError):
            contract.check_object(value)
    operation = published()["POST", "/v1/refunds"]
    contract.check_request(operation, [("amount", "5"), ("metadata[a]", "b"), ("expand[0]", "charge")])
    for pairs in ([("surprise", "1")], [("amount", "five")], [("reason", "whim")]):
        with pytest.raises(AssertionError):
            contract.check_request(operation, pairs)
    with pytest.raises(AssertionError):
        contract.check_event({"data": {"object": bad["unknown key"]}})
    refund, url = json.dumps(contract.fixtures()["refund"]), "http://127.0.0.1:1/v1/refunds"
    contract.check_exchange("POST", url, "amount=5", 200, refund)
    for sent, answered in (("surprise=1", refund), ("amount=5", refund.replace('"amount"', '"amounts"'))):
        with pytest.raises(AssertionError):
            contract.check_exchange("POST", url, sent, 200, answered)
    contract.check_setup_request("POST", "/v1/setup_intents/seti_1/confirm", [("payment_method", "pm_1")])
    for path in ("/v1/setup_intents", "/v1/setup_intents/seti_1/confirm"):
        with pytest.raises(AssertionError):
            contract.check_setup_request("POST", path, [("surprise", "1")])
    upload = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\nContent-Type: text/plain\r\n\r\n%%PDF\r\n'
    files = published()["POST", "/v1/files"]
    contract.check_upload(files, upload % (b"purpose", b"dispute_evidence") + file)
    for parts in (file, upload % (b"purpose", b"whim") + file, upload % (b"surprise", b"1") + file):
        with pytest.raises(AssertionError):
            contract.check_upload(files, parts)


def test_the_sdk_finds_what_is_not_as_it_has_it(client: Any, pay: Pay) -> None:
    """The second judge: fields that it does not know, that it wants, and types, at every depth; also of what the schema at
    hand does not have, and of a version later than the schema's own text."""
    params = {"payment_method": "pm_card_visa", "confirm": True, "return_url": "http://127.0.0.1/"}
    saved = client.v1.setup_intents.create(params).to_dict()
    dispute = copy.deepcopy(contract.fixtures()["dispute"])
    dispute["evidence_details"]["submission_method"] = "not_submitted"
    dispute["payment_method_details"]["card"]["network"] = "visa"
    charge = pay().to_dict()
    for good in (saved, dispute, charge):
        contract.check_by_sdk(good, "as it came")
    options = saved["payment_method_options"]
    bad = (
        {**saved, "surprise": 1},
        {**saved, "created": "today"},
        {**saved, "livemode": None},
        {**saved, "status": 1},
        {**saved, "payment_method_options": {**options, "card": {**(options.get("card") or {}), "surprise": 1}}},
        {name: value for name, value in saved.items() if name != "usage"},
        {**dispute, "evidence_details": contract.fixtures()["dispute"]["evidence_details"]},
        {"object": "list", "url": "/v1/charges", "has_more": False, "data": [{**charge, "surprise": 1}]},
        {"object": "event", "data": {"object": {**charge, "surprise": 1}}},
    )
    for value in bad:
        with pytest.raises(AssertionError, match="not as the SDK has it"):
            contract.check_by_sdk(value, "spoiled")
    event = {"data": {"object": {**saved, "surprise": 1}}}
    with pytest.raises(AssertionError, match="surprise"):
        contract.check_event(event)


def test_events_are_judged_whoever_they_were_sent_to_and_however_old(
    sandbox: RunningSandbox, receiver: Receiver, client: Any, host: Host, pay: Pay
) -> None:
    account = host()
    dispute = sandbox.control("POST", "/_sim/disputes", {"charge": pay().latest_charge})["id"]
    contract.judge_events(sandbox)
    told = {(event.get("account"), event["type"]) for event in sandbox.events()}
    assert {(account, "account.updated"), (None, "charge.dispute.created")} <= told
    sandbox.control("POST", f"/_sim/disputes/{dispute}", {"status": "arbitration_2031"})
    sandbox.advance(31 * 86_400)
    assert "charge.dispute.updated" not in {event.type for event in client.v1.events.list({"limit": 100}).data}
    with pytest.raises(AssertionError, match="arbitration_2031"):
        contract.judge_events(sandbox)
    sandbox.flush()
    receiver.clear()
    sandbox.control("POST", "/_sim/reset")  # nor would the judge at the end of this test accept it


def test_nothing_of_the_desk_is_imported_nor_django() -> None:
    package = contract.ROOT / "ops_cli" / "stripe_sandbox"
    for file in package.rglob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) ([\w.]+)", file.read_text(), re.MULTILINE)
        foreign = [name for name in imported if name.partition(".")[0] in ("backoffice", "api", "django", "stripe")]
        foreign += [name for name in imported if name.startswith("ops_cli") and ".stripe_sandbox" not in name]
        assert not foreign, f"{file.name}: {foreign}"
