"""The power is cut before and after every commit of what a second person decides and what a bank says: a debt is written off,
money that came back is repaid another way, proposed matches are confirmed, a host's bank sends a payout back. They try again,
or the news comes again, and it ends as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.core.actor import system
from backoffice.core.errors import IllegalTransition, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.models import Refund
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import BankPayout, HostAccount, Payout, WriteOff
from backoffice.people.models import User
from backoffice.reconciliation import operations as reconciliation
from backoffice.reconciliation.policies import SeenStatementLine
from backoffice.workflows import follow_bank_payouts, import_balance_transactions
from tests import factories
from tests.faults import two_of_three_are_long
from tests.faults.test_crash_points import cut_everywhere
from tests.payments.test_repayments import came_back, repay
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import owes, sent
from tests.workflows.steps import ROOMS, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
DAY = 86_400
RECONCILES = system("reconciliation")


def _second() -> Any:
    """The same colleague however often they try."""
    name = "Fatima"
    return factories.acting(User.objects.filter(name=name).first() or factories.staff("finance", name=name, now=now()))


def _debt(sandbox: RunningSandbox) -> WriteOff:
    host = factories.person("Bob", is_host=True, now=now())
    owes(host, Money(8_000, "EUR"), at=now())
    return payouts.propose_write_off(
        host_code=host.code,
        amount=Money(8_000, "EUR"),
        reason="They left the platform",
        actor=factories.acting(factories.staff("finance", now=now())),
        now=now(),
    )


def _write_off(row: WriteOff) -> None:
    with suppress(IllegalTransition, StaleVersion):  # it was decided before the power went
        payouts.decide_write_off(
            code=row.code, approve=True, reason="Checked", version=row.version, actor=_second(), now=now()
        )


def _refuse_write_off(row: WriteOff) -> None:
    with suppress(IllegalTransition, StaleVersion):
        payouts.decide_write_off(
            code=row.code, approve=False, reason="She will pay", version=row.version, actor=_second(), now=now()
        )


def _written_off(row: WriteOff, sandbox: RunningSandbox) -> dict[str, Any]:
    row.refresh_from_db()
    return {
        "status": row.status,
        "owed": payout_queries.owed(host_code=row.host.code, currency="EUR").amount,
        "lost": ledger.balance(account="5220", key=row.host.code, currency="EUR"),
        "log": AuditEntry.objects.filter(object_id=row.code).count(),
    }


def _asked_again(sandbox: RunningSandbox) -> Refund:
    farid = User.objects.filter(name="Farid").first() or factories.staff("finance", name="Farid", now=now())
    (back,) = came_back(sandbox, paid(payment_method="pm_card_refundFail"), farid, 4_000)
    import_balance_transactions.run(now=now())
    return repay(back, farid)


def _pay_another_way(refund: Refund) -> None:
    with suppress(IllegalTransition, StaleVersion):
        payments.approve_refund(refund_code=refund.code, version=refund.version, actor=_second(), now=now())


def _agreed_on(sandbox: RunningSandbox) -> Refund:
    refund = _asked_again(sandbox)
    _pay_another_way(refund)
    refund.refresh_from_db()
    return refund


def _carry_to_bank(refund: Refund) -> None:
    """Finance notes that it was sent, and the bank's statement shows it."""
    with suppress(IllegalTransition, StaleVersion):
        payments.note_repayment(
            refund_code=refund.code, reference=f"E2E-{refund.pk}", version=refund.version, actor=_second(), now=now()
        )
    _statement(refund, -4_000)


def _left_our_bank(sandbox: RunningSandbox) -> Refund:
    refund = _agreed_on(sandbox)
    _carry_to_bank(refund)
    refund.refresh_from_db()
    return refund


def _take_back(refund: Refund) -> None:
    """Finance records that the bank sent it back, and its statement shows it."""
    with suppress(IllegalTransition, StaleVersion):
        payments.return_repayment(
            refund_code=refund.code, reason="Account closed", version=refund.version, actor=_second(), now=now()
        )
    _statement(refund, 4_000)


def _statement(refund: Refund, amount: int) -> None:
    day = refund.requested_at.date()
    line = SeenStatementLine(
        account="BE68",
        reference=f"B-{refund.pk} {amount}",
        amount=Money(amount, "EUR"),
        booked_on=day,
        value_on=day,
        text=f"SEPA E2E-{refund.pk}",
        returned=amount > 0,
    )
    reconciliation.import_lines(lines=[line], actor=RECONCILES, now=now())
    reconciliation.match_lines(actor=RECONCILES, now=now())


def _repaid(refund: Refund, sandbox: RunningSandbox) -> dict[str, Any]:
    refund.refresh_from_db()
    assert refund.repays is not None
    return {
        "status": refund.status,
        "aside": ledger.balance(account="2410", key=refund.repays.code, currency="EUR"),
        "on its way": ledger.balance(account="2400", key=refund.code, currency="EUR"),
        "bank": Journal.objects.filter(subject=refund.payment.booking.code, lines__account__code="1010").count(),
        "told": OutboxMessage.objects.filter(recipient_id=refund.payment.booking.guest_id).count(),
    }


def _on_its_way(sandbox: RunningSandbox) -> Payout:
    payout = sent(sandbox, factories.person("Bob", is_host=True, now=now()))
    sandbox.advance(8 * DAY)
    # Those of earlier tellings have their turn after this one.
    HostAccount.objects.exclude(host=payout.host).update(looked_at=now())
    return payout


def _arrived(sandbox: RunningSandbox) -> Payout:
    payout = _on_its_way(sandbox)
    follow_bank_payouts.run(now=now())
    HostAccount.objects.filter(host=payout.host).update(looked_at=None)
    there = BankPayout.objects.latest("id")
    sandbox.control("POST", f"/_sim/payouts/{there.provider_id}/fail", {"failure_code": "account_closed"})
    return payout


def _hear_of_it(payout: Payout) -> None:
    follow_bank_payouts.run(now=now())


def _at_the_bank(payout: Payout, sandbox: RunningSandbox) -> dict[str, Any]:
    payout.refresh_from_db()
    account = payout_queries.account_of(host_id=payout.host_id)
    assert account is not None
    rows = BankPayout.objects.filter(account=account.provider_id)
    return {
        "payout": (payout.status, payout.paid_at is None, payout.bank_payout_id is None),
        "there": [(row.status, row.amount, row.lines.count()) for row in rows],
        "with the provider": ledger.balance(account="1800", key=account.provider_id or "", currency="EUR"),
        "told": Counter(OutboxMessage.objects.filter(recipient_id=payout.host_id).values_list("topic", flat=True)),
    }


Story = tuple[Callable[[RunningSandbox], Any], Callable[[Any], None], Callable[[Any, RunningSandbox], dict[str, Any]]]
STORIES: dict[str, Story] = {
    "a debt is written off": (_debt, _write_off, _written_off),
    "what came back is paid another way": (_asked_again, _pay_another_way, _repaid),
    "what is paid another way leaves our bank": (_agreed_on, _carry_to_bank, _repaid),
    "a debt is not written off": (_debt, _refuse_write_off, _written_off),
    "our bank sends it back": (_left_our_bank, _take_back, _repaid),
    "a payout reaches the bank of its host": (_on_its_way, _hear_of_it, _at_the_bank),
    "a host's bank sends a payout back": (_arrived, _hear_of_it, _at_the_bank),
}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(sandbox: RunningSandbox, story: str) -> None:
    _second()  # somebody to decide
    begin, act, end = STORIES[story]
    moments = cut_everywhere(
        begin=lambda: begin(sandbox),
        act=act,
        recover=lambda: None,  # no job picks these up: the person tries again, or the news comes again
        end=lambda subject: end(subject, sandbox),
    )
    assert len(moments) >= 2, moments
    # What clears with the bank's statement stands open: months pass in these stories, and no statement comes.
    assert [finding for finding in ledger.check(now=now()) if not finding.ok and finding.check != "clearing"] == []
