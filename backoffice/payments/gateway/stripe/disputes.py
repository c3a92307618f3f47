"""Chargebacks: the card network's disputes of payments, and the evidence against them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, cast

from backoffice.core.money import Money
from backoffice.payments.gateway.stripe.calls import Calls, call, id_of, instant, read
from backoffice.payments.policies.chargebacks import SeenDispute, SeenFraudWarning, kind_of


class Disputes(Calls):
    def dispute(self, *, dispute_id: str) -> SeenDispute:
        return _dispute(read(lambda: self._client.v1.disputes.retrieve(dispute_id)).to_dict())

    def disputes(self, *, since: datetime) -> Iterator[SeenDispute]:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self.pages(self._client.v1.disputes.list, params):
            yield _dispute(row)

    def stage_evidence(self, *, dispute_id: str, evidence: Mapping[str, str], key: str) -> SeenDispute:
        # Without `submit` the provider would submit it at once, and irrevocably.
        return self._update(dispute_id, evidence, submit=False, key=key)

    def submit_evidence(self, *, dispute_id: str, evidence: Mapping[str, str], key: str) -> SeenDispute:
        return self._update(dispute_id, evidence, submit=True, key=key)

    def accept_dispute(self, *, dispute_id: str, key: str) -> SeenDispute:
        closed = call(lambda: self._client.v1.disputes.close(dispute_id, {}, {"idempotency_key": key}))
        return _dispute(closed.to_dict())

    def upload_evidence(self, *, name: str, content: bytes, key: str) -> str:
        file = io.BytesIO(content)
        file.name = name  # the SDK sends it as the file's name
        made = call(
            lambda: self._client.v1.files.create(
                {"file": cast(Any, file), "purpose": "dispute_evidence"}, {"idempotency_key": key}
            )
        )
        return str(made.id)

    def fraud_warning(self, *, warning_id: str) -> SeenFraudWarning:
        row = read(lambda: self._client.v1.radar.early_fraud_warnings.retrieve(warning_id)).to_dict()
        return SeenFraudWarning(
            id=row["id"],
            charge_id=id_of(row["charge"]),
            payment_id=id_of(row.get("payment_intent")),
            kind=row["fraud_type"],
            actionable=bool(row["actionable"]),
        )

    def _update(self, dispute_id: str, evidence: Mapping[str, str], *, submit: bool, key: str) -> SeenDispute:
        params: Any = {"submit": submit}
        if evidence:
            params["evidence"] = dict(evidence)
        changed = call(lambda: self._client.v1.disputes.update(dispute_id, params, {"idempotency_key": key}))
        return _dispute(changed.to_dict())


def _dispute(row: Mapping[str, Any]) -> SeenDispute:
    card = (row.get("payment_method_details") or {}).get("card") or {}
    details = row.get("evidence_details") or {}
    due_by = details.get("due_by")
    return SeenDispute(
        id=row["id"],
        status=row["status"],
        kind=kind_of(status=row["status"], case_type=card.get("case_type") or ""),
        amount=Money(row["amount"], row["currency"].upper()),
        charge_id=id_of(row["charge"]),
        payment_id=id_of(row.get("payment_intent")),
        opened=instant(row["created"]),
        reason=row.get("reason") or "",
        network_reason=card.get("network_reason_code") or "",
        network=card.get("network") or card.get("brand") or "",
        due_by=instant(due_by) if due_by else None,
        submissions=details.get("submission_count") or 0,
        evidence={name: value for name, value in (row.get("evidence") or {}).items() if isinstance(value, str)},
        page=f"https://dashboard.stripe.com/{'' if row['livemode'] else 'test/'}disputes/{row['id']}",
    )
