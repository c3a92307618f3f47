"""The confusion matrix: every class of break seeded alone and all together; each is found once, and nothing else is."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from django.db import connection

from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments.models import Chargeback, ExtraCharge, Payment, Refund
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.payouts.models import BankPayout
from backoffice.people.models import User
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import Break, Run
from backoffice.reconciliation.queries import legs
from backoffice.reconciliation.states import CLASSES
from backoffice.rulebook import queries as rulebook
from ops_cli.main import ops
from tests import factories
from tests.factories import NOW
from tests.falsified import as_superuser
from tests.reconciliation.steps import (
    DAY,
    arrived,
    balance_of,
    bank,
    compared,
    imported,
    moved,
    post,
    swept,
)

pytestmark = pytest.mark.django_db(transaction=True)
AGO = NOW - 20 * DAY


@dataclass
class Books:
    """What the provider shows, beside what we have; everything agrees until a seed spoils it."""

    theirs: list[SeenBalanceTransaction] = field(default_factory=list)
    states: list[tuple[Any, ...]] = field(default_factory=list)
    extra: dict[str, Money] = field(default_factory=dict)
    host: User | None = None
    number: Any = field(default_factory=lambda: itertools.count(1))

    def charge(self, name: str, amount: int = 10_000, *, at: datetime = AGO, **facts: Any) -> SeenBalanceTransaction:
        """A charge that both sides know: captured, settled, cleared."""
        fee = facts.pop("fee", 175)
        row = moved(f"txn_{name}", source=f"ch_{name}", net=amount - fee, fee=fee, created=at, **facts)
        post(f"capture:{name}", "capture", [("1150", f"ch_{name}", amount), ("2100", f"BK-{name}", -amount)], at=at)
        self.theirs += imported(row, at=at)
        return row

    def show(self, row: SeenBalanceTransaction, **otherwise: Any) -> None:
        """The provider shows a movement otherwise than it was imported."""
        self.theirs[self.theirs.index(row)] = replace(row, **otherwise)

    def sweep(self, name: str, amount: int = 3_000, *, banked: bool = True, **facts: Any) -> BankPayout:
        payout, rows = swept(f"po_{name}", amount, trace=f"TRACE-{name}", at=AGO, **facts)
        self.theirs += rows
        self.states.append(("bank_payout", f"po_{name}", "", payout.status, amount, "EUR", AGO))
        if banked:
            arrived(bank(amount, on=(AGO + 2 * DAY).date(), trace=f"TRACE-{name}"), now=AGO + 3 * DAY)
        return payout

    def payment(self, amount: int = 10_000, **fields: Any) -> Payment:
        """A captured payment as its row; its money is posted apart."""
        number = next(self.number)
        booking = factories.booking(check_in=(NOW + (30 + 5 * number) * DAY).date())
        facts = {
            "status": "captured",
            "amount": amount,
            "currency": "EUR",
            "held": amount,
            "host_fee": 0,
            "guest_fee": 0,
            "vat": 0,
            "occupancy_tax": 0,
            "provider_id": f"pi_{number}",
            "charge_id": f"ch_row{number}",
            "created_at": AGO,
            "captured_at": AGO,
            **fields,
        }
        return Payment.objects.create(booking=booking, **facts)

    def refund(self, payment: Payment, amount: int, *, status: str = "succeeded") -> Refund:
        number = next(self.number)
        parts = dict.fromkeys(("held", "host_fee", "guest_fee", "vat", "occupancy_tax"), 0)
        return Refund.objects.create(
            payment=payment,
            status=status,
            amount=amount,
            currency=payment.currency,
            **parts,
            cause="goodwill",
            idempotency_key=f"key {number}",
            request_hash="",
            provider_id=f"re_{number}",
            requested_at=AGO,
            approved_at=AGO,
            submitted_at=AGO,
        )

    def transferred(self, name: str, released: int, sent: int) -> None:
        """A stay of one host: so much became theirs, so much was sent, as both sides know."""
        at, host, subject = AGO, "PN-HOST", f"BK-{name}"
        post(f"in:{name}", "capture", [("1010", "x", released), ("2100", subject, -released)], subject=subject, at=at)
        post(
            f"release:{name}",
            "release",
            [("2100", subject, released), ("2200", host, -released)],
            subject=subject,
            at=at,
        )
        self._send(name, sent, subject, host)

    def _send(self, name: str, sent: int, subject: str, host: str) -> None:
        lines = [("2200", host, sent), ("2210", f"PO-{name}", -sent)]
        post(f"transfer:{name}", "transfer", lines, subject=subject, at=AGO + DAY)
        row = moved(f"txn_tr_{name}", source=f"PO-{name}", category="transfer", net=-sent, created=AGO + DAY)
        self.theirs += imported(row, at=AGO + DAY)
        # The import knows a payout by its row; here the journal says which stay it is about.
        as_superuser(f"UPDATE ledger_journal SET subject = '{subject}' WHERE idempotency_key = 'bt:txn_tr_{name}'")

    def run(self, scope: str = "all", now: datetime = NOW) -> Any:
        balances = balance_of(self.theirs)
        for currency, money in self.extra.items():
            balances[currency] = balances.get(currency, Money.zero(currency)) + money
        return compared(scope, rows=self.theirs, states=self.states, balances=balances, now=now)


def clean() -> Books:
    """Charges in two currencies, a sweep at the bank, a host who was paid, a refund, an unfinished payment."""
    books = Books()
    for number in range(3):
        books.charge(f"clean{number}", at=AGO + number * DAY)
    books.charge("yen", 5_000, currency="EUR", at=AGO)
    books.sweep("clean")
    books.transferred("clean", 9_000, 9_000)
    books.refund(books.payment(), 4_000)
    books.states.append(("payment", "pi_open", "", "processing", 1_000, "EUR", None))
    return books


Seed = Callable[[Books], tuple[str, str]]


def unexplained(books: Books) -> tuple[str, str]:
    books.extra["GBP"] = Money(777, "GBP")
    return ("balance", "GBP")


def other_currency(books: Books) -> tuple[str, str]:
    row = books.charge("cur")
    dollars = {name: Money(getattr(row, name).amount, "USD") for name in ("amount", "fee", "net")}
    books.show(row, **dollars)
    return ("line", "txn_cur")


def posted_twice(books: Books) -> tuple[str, str]:
    books.charge("twice")
    lines = [("1100", "stripe", 9_825), ("5100", "", 175), ("1150", "ch_twice", -10_000)]
    post("bt:txn_twice again", "bt.charge", lines, reference="txn_twice", at=AGO)
    return ("line", "txn_twice")


def charged_twice(books: Books) -> tuple[str, str]:
    row = books.charge("double")
    books.theirs += imported(replace(row, id="txn_double2", created=AGO + timedelta(hours=1)), at=AGO)
    return ("line", "txn_double2")


def not_imported(books: Books) -> tuple[str, str]:
    books.theirs.append(moved("txn_new", source="ch_new", created=AGO))
    return ("line", "txn_new")


def gone(books: Books) -> tuple[str, str]:
    books.theirs.remove(books.charge("gone"))
    return ("line", "txn_gone")


def other_amount(books: Books) -> tuple[str, str]:
    row = books.charge("off")
    books.show(row, amount=row.amount + Money(5, "EUR"), net=row.net + Money(5, "EUR"))
    return ("line", "txn_off")


def refunded_too_much(books: Books) -> tuple[str, str]:
    payment = books.payment(10_000)
    books.refund(payment, 9_000)
    books.refund(payment, 2_000)
    return ("booking", payment.booking.code)


def paid_too_much(books: Books) -> tuple[str, str]:
    books.transferred("less", 10_000, 8_000)
    books.transferred("more", 10_000, 12_000)
    return ("host", "BK-more")


def lines_short(books: Books) -> tuple[str, str]:
    books.sweep("sum", 3_000, lines=[1_000, 1_999])
    return ("payout", "po_sum")


def never_arrived(books: Books) -> tuple[str, str]:
    books.sweep("lost", banked=False)
    return ("bank", "1160 po_lost")


def arrived_short(books: Books) -> tuple[str, str]:
    books.sweep("short", 3_000, banked=False)
    arrived(bank(2_990, on=(AGO + 2 * DAY).date(), trace="TRACE-short"), now=AGO + 3 * DAY)
    return ("bank", "1160 po_short")


def whose_is_it(books: Books) -> tuple[str, str]:
    arrived(bank(4_242, on=AGO.date(), text="Aunt Agatha"), now=NOW - DAY)
    from backoffice.reconciliation.models import StatementLine

    return ("bank", f"9900 bank:{StatementLine.objects.get(amount=4_242).code}")


def sent_back(books: Books) -> tuple[str, str]:
    books.sweep("back", failed=True, banked=False)
    return ("payout", "po_back")


def still_pending_here(books: Books) -> tuple[str, str]:
    refund = books.refund(books.payment(), 100, status="submitted")
    books.states.append(("refund", refund.provider_id, "", "succeeded", 100, "EUR", None))
    return ("status", refund.code)


def other_fee(books: Books) -> tuple[str, str]:
    row = books.charge("fee")
    books.show(row, fee=row.fee + Money(3, "EUR"), net=row.net - Money(3, "EUR"))
    return ("line", "txn_fee")


def other_rate(books: Books) -> tuple[str, str]:
    payment = books.payment(11_000, currency="USD", held=10_000, charge_id="ch_rate")
    lines = [("1150", "ch_rate", 9_000), ("2100", payment.booking.code, -9_000)]
    post("capture:rate", "capture", lines, at=AGO)
    row = moved("txn_rate", source="ch_rate", net=9_000, created=AGO, exchange_rate="0.81")
    books.theirs += imported(row, at=AGO)
    return ("line", "txn_rate")


def never_closed(books: Books) -> tuple[str, str]:
    at = NOW - 130 * DAY
    row = moved("txn_dispute", source="dp_1", category="dispute", net=-5_000, created=at)
    books.theirs += imported(row, at=at)
    return ("clearing", "1320 dp_1")


def unheard_of(books: Books) -> tuple[str, str]:
    row = moved("txn_odd", source="xx_1", category="levy_of_tomorrow", net=-12, created=NOW - DAY)
    books.theirs += imported(row, at=NOW)
    return ("clearing", "9900 txn_odd")


def just_now(books: Books) -> tuple[str, str]:
    books.theirs.append(moved("txn_young", source="ch_young", created=NOW - timedelta(minutes=5)))
    return ("line", "txn_young")


SEEDS: dict[str, Seed] = {
    "unexplained_difference": unexplained,
    "currency_mismatch": other_currency,
    "duplicate_internal": posted_twice,
    "duplicate_external": charged_twice,
    "missing_internal": not_imported,
    "missing_external": gone,
    "amount_mismatch": other_amount,
    "over_refund": refunded_too_much,
    "host_overpaid": paid_too_much,
    "payout_sum_mismatch": lines_short,
    "bank_missing": never_arrived,
    "bank_amount_mismatch": arrived_short,
    "bank_unidentified": whose_is_it,
    "payout_returned": sent_back,
    "status_mismatch": still_pending_here,
    "fee_mismatch": other_fee,
    "fx_mismatch": other_rate,
    "uncleared_balance": never_closed,
    "unknown_type": unheard_of,
    "late": just_now,
}


# What each is told to be: the provider's side less ours, what may be lost, the currency, and how long ago it came about.
TOLD: dict[str, tuple[int, int, str, timedelta]] = {
    "unexplained_difference": (777, 777, "GBP", timedelta(0)),
    "currency_mismatch": (0, 9_825, "USD", 20 * DAY),
    "duplicate_internal": (-9_825, 10_000, "EUR", 20 * DAY),
    "duplicate_external": (0, 10_000, "EUR", 20 * DAY - timedelta(hours=1)),
    "missing_internal": (1_000, 1_000, "EUR", 20 * DAY),
    "missing_external": (-9_825, 9_825, "EUR", 20 * DAY),
    "amount_mismatch": (5, 5, "EUR", 20 * DAY),
    "over_refund": (-1_000, 1_000, "EUR", 20 * DAY),
    "host_overpaid": (-2_000, 2_000, "EUR", 19 * DAY),
    "payout_sum_mismatch": (-1, 1, "EUR", 20 * DAY),
    "bank_missing": (-3_000, 3_000, "EUR", 20 * DAY),
    "bank_amount_mismatch": (-10, 10, "EUR", 20 * DAY),
    "bank_unidentified": (4_242, 4_242, "EUR", 20 * DAY + timedelta(hours=12)),
    "payout_returned": (0, 3_000, "EUR", 20 * DAY),
    "status_mismatch": (0, 100, "EUR", 20 * DAY),
    "fee_mismatch": (-3, 3, "EUR", 20 * DAY),
    "fx_mismatch": (0, 1_000, "EUR", 20 * DAY),
    "uncleared_balance": (-5_000, 5_000, "EUR", 130 * DAY),
    "unknown_type": (-12, 12, "EUR", 1 * DAY),
    "late": (1_000, 1_000, "EUR", timedelta(minutes=5)),
}


def found() -> dict[tuple[str, str], str]:
    return {(row.leg, row.key): row.cls for row in Break.objects.exclude(status="self_healed")}


def test_every_class_has_a_seed_and_advice() -> None:
    assert list(SEEDS) == list(TOLD) == list(CLASSES) == list(policies.ADVICE)


def test_clean_books_have_no_break() -> None:
    run = clean().run()
    assert found() == {}
    assert (run.found, run.matched) == (0, run.lines) and run.lines > 0
    assert all(figures["unexplained"] == 0 for figures in run.explained.values())


def test_what_a_bank_sent_back_counts_once_however_it_is_repaid() -> None:
    books = clean()
    repaid, twice = books.payment(10_000), books.payment(10_000)
    for payment, amount in ((repaid, 8_000), (twice, 6_000)):
        back = books.refund(payment, amount, status="failed")
        Refund.objects.filter(pk=back.pk).update(unclaimed=True)
        other = books.refund(payment, 11_000 if payment is repaid else 6_000, status="approved")
        if payment is repaid:  # in our currency, which is another
            Refund.objects.filter(pk=other.pk).update(repays=back, method="other", currency="USD", provider_id=None)
    books.run()
    assert [key for leg, key in found() if leg == "booking"] == [twice.booking.code]


def test_what_came_back_is_given_once_where_a_card_network_took_the_very_charge() -> None:
    books = clean()
    by_network, another_way, elsewhere, over = (books.payment(10_000) for _ in range(4))
    for payment in (by_network, another_way, elsewhere, over):
        back = books.refund(payment, 4_000, status="failed")
        Refund.objects.filter(pk=back.pk).update(unclaimed=True)
        if payment is another_way:  # as well
            other = books.refund(payment, 4_000, status="approved")
            Refund.objects.filter(pk=other.pk).update(repays=back, method="other", provider_id=None)
        if payment is over:
            books.refund(payment, 500)
        charge = "ch_of_another_month" if payment is elsewhere else payment.charge_id
        Chargeback.objects.create(
            payment=payment, provider_id=f"du_{payment.pk}", charge_id=charge, kind="chargeback", status="lost",
            amount=10_000, currency="EUR", withdrawn=10_000, opened_at=AGO, seen_at=AGO,
        )  # fmt: skip
    books.run()
    assert {key for leg, key in found() if leg == "booking"} == {
        row.booking.code for row in (another_way, elsewhere, over)
    }
    assert Break.objects.get(leg="booking", key=over.booking.code).at_risk == 500


def understood(command: str) -> None:
    """That `ops` takes a command as it is written: its name, its arguments and its options; nothing is carried out."""
    name, *rest = shlex.split(command)[1:]
    found = ops.get_command(click.Context(ops), name)
    while isinstance(found, click.Group):
        name, *rest = rest
        found = found.get_command(click.Context(found), name)
    assert found is not None, command
    given = found.make_context(name, list(rest)).params  # raises UsageError
    if command.startswith("ops payouts explain"):
        assert given["code"].startswith(("PO-", "BK-")), command
    if command.startswith("ops webhooks replay"):
        assert not given["event_ids"] and given["kind"].endswith(".") and given["since"] <= NOW, command


@pytest.mark.parametrize(
    ("cls", "leg"),
    [
        *((cls, "line") for cls in CLASSES),
        *((cls, "clearing") for cls in CLASSES if cls != "fee_mismatch"),  # of a movement alone
    ],
)
def test_what_is_advised_is_an_act_that_the_desk_has(
    cls: str, leg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "statement.xml").touch()
    monkeypatch.chdir(tmp_path)
    facts: dict[str, Any] = {"key": "BK-7QF3K2", "fact": "ch_1", "subject": "BK-7QF3K2", "occurred_at": AGO}
    helps = policies.command(cls=cls, leg=leg, code="BR-7QF3K2", **facts)
    understood(helps)
    assert ("post-anew" in helps) == policies.may_be_posted_anew(leg=leg, cls=cls, flags=[]), helps
    said = policies.advice(cls=cls, leg=leg).action.lower()
    assert not any(words in said for words in ("reverse the", "correcting journal", "book the", "fix the mapping")), (
        said
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_alone_is_found_once_with_its_amount_age_and_advice(
    cls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = clean()
    books.run()
    where = SEEDS[cls](books)
    run = books.run()
    assert found() == {where: cls}
    row = Break.objects.get()
    assert (row.difference, row.at_risk, row.currency, NOW - row.occurred_at) == TOLD[cls]
    euro = rulebook.rate(base=row.currency, quote="EUR", on=NOW.date()).convert(Money(row.at_risk, row.currency))
    assert row.at_risk_eur == euro.amount
    assert row.status == ("expected" if cls == "late" else "open")
    helps = policies.command(
        cls=cls,
        leg=row.leg,
        code=row.code,
        key=row.key,
        fact=row.fact,
        subject=row.subject,
        occurred_at=row.occurred_at,
    )
    assert policies.advice(cls=cls, leg=row.leg).action and helps.startswith("ops ")
    assert "breaks show" not in helps, "whoever reads it is looking at the break"
    if helps.startswith("ops ledger trace") and cls != "over_refund":  # whose refunds are rows alone here
        assert ledger.concerning(shlex.split(helps)[-1], limit=1), helps
    (tmp_path / "statement.xml").touch()  # the bank's, which is asked for
    monkeypatch.chdir(tmp_path)
    understood(helps)
    assert run.counts == {cls: 1}
    assert books.run().output_digest == run.output_digest and Break.objects.count() == 1


@pytest.mark.parametrize("few", [legs._FEW, 0])
def test_all_classes_together_are_found_once_each_and_explain_the_balance(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the book is small, or as large as to be gone through in passes."""
    monkeypatch.setattr(legs, "_FEW", few)
    books = clean()
    expected = {SEEDS[cls](books): cls for cls in CLASSES}
    run = books.run()
    assert found() == expected
    assert run.counts == dict.fromkeys(sorted(CLASSES), 1)
    assert {name: sums["unexplained"] for name, sums in run.explained.items() if sums["unexplained"]} == {"GBP": 777}
    again = books.run()
    assert (again.output_digest, again.input_digest) == (run.output_digest, run.input_digest)
    assert Break.objects.count() == len(CLASSES)
    events = Break.objects.values_list("events__what", flat=True)
    assert set(events) == {"found"} and len(events) == len(CLASSES)  # seeing it again is nothing new


@pytest.mark.parametrize("scope", ["all", "stripe", "payouts", "bank", "state"])
def test_a_run_again_writes_nothing_new_anywhere(scope: str) -> None:
    """Whatever there was to find: the second run leaves a row of its own, and that it has seen the breaks."""
    books = clean()
    for seed in SEEDS.values():
        seed(books)
    first = books.run(scope)
    assert first.found
    before = everything_kept()
    again = books.run(scope)
    assert (again.output_digest, again.input_digest) == (first.output_digest, first.input_digest)
    assert differing(before) == {"reconciliation_run", "audit_entry"}
    assert Run.objects.count() == 2 and set(Break.objects.values_list("last_seen", flat=True)) == {again.pk}


def everything_kept() -> dict[str, str]:
    """Table -> the digest of all that it holds, but for which run has last seen a break."""
    kept = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            name = connection.ops.quote_name(table)
            cursor.execute(
                "SELECT md5(coalesce(string_agg(row, '' ORDER BY row), '')) "
                f"FROM (SELECT (to_jsonb(kept) - 'last_seen_id')::text AS row FROM {name} kept) each"
            )
            kept[table] = cursor.fetchone()[0]
    return kept


def differing(before: dict[str, str]) -> set[str]:
    """The tables that hold something else now."""
    now = everything_kept()
    return {table for table in {*before, *now} if before.get(table) != now.get(table)}


def test_scopes_run_apart_find_what_a_run_of_everything_finds() -> None:
    books = clean()
    expected = {SEEDS[cls](books): cls for cls in CLASSES}
    for scope in ("stripe", "payouts", "bank", "state"):
        books.run(scope)
    assert found() == expected
    digest = queries.books_digest()
    books.run()
    assert queries.books_digest() == digest and found() == expected


# Less plain cases of a class -------------------------------------------------------------------------------------------


def test_a_payout_without_any_line_is_not_the_sum_of_its_lines() -> None:
    books = Books()
    books.sweep("bare", lines=())
    for name, automatic, paid_at in (
        ("counted", True, AGO),
        ("just_paid", True, NOW),  # its lines come with the next look
        ("by_hand", False, AGO),  # the provider itemises automatic ones only
    ):
        host = factories.person(name, is_host=True)
        facts = {"account": "acct_1", "host": host, "automatic": automatic, "status": "paid", "paid_at": paid_at}
        BankPayout.objects.create(provider_id=f"po_{name}", amount=900, currency="EUR", created_at=AGO, **facts)
    books.run("payouts")
    assert found() == {("payout", "po_bare"): "payout_sum_mismatch", ("payout", "po_counted"): "payout_sum_mismatch"}
    assert set(Break.objects.values_list("difference", flat=True)) == {-3_000, -900}


def test_a_kept_balance_that_no_line_accounts_for_is_a_break_and_not_the_end_of_the_run() -> None:
    books = clean()
    account = "SELECT id FROM ledger_account WHERE code = '1150' AND key = 'ch_clean0'"
    as_superuser(f"UPDATE ledger_balance SET balance = balance + 7 WHERE account_id IN ({account})")
    books.run("state")
    assert found() == {("clearing", "1150 ch_clean0"): "amount_mismatch"}


@pytest.mark.parametrize("is_one", [False, True])
def test_a_charge_that_settles_in_a_third_currency_is_compared_by_the_reference_rate(is_one: bool) -> None:
    """100.00 GBP were promised for what was charged in dollars and settled in Swiss francs, or as an instalment."""
    books = Books()
    payment = books.payment(12_500, currency="USD", held=10_000, charge_id="ch_third")
    booking = payment.booking
    type(booking).objects.filter(pk=booking.pk).update(currency="GBP")
    worth = rulebook.rate(base="GBP", quote="CHF", on=AGO.date()).convert(Money(10_000, "GBP"))
    amount = worth.amount if not is_one else worth.amount * 9 // 10
    ExtraCharge.objects.create(
        booking=booking,
        kind="instalment",
        status="captured",
        amount=12_500,
        currency="USD",
        held=10_000,
        charge_id="ch_extra",
        provider_id="pi_extra",
        due_at=AGO,
        created_at=AGO,
        captured_at=AGO,
    )
    rows = [
        moved(f"txn_{name}", source=f"ch_{name}", net=amount, currency="CHF", created=AGO, exchange_rate="0.9")
        for name in ("third", "extra")
    ]
    books.theirs += imported(*rows, at=AGO)
    books.run("stripe")
    # Nobody captured them here, which is the worse of the two.
    mismatched = {row.key for row in Break.objects.filter(leg="line") if "fx_mismatch" in row.flags}
    assert mismatched == ({"txn_third", "txn_extra"} if is_one else set())


def test_what_was_converted_is_found_without_a_pass_over_everything() -> None:
    as_superuser(
        """
        INSERT INTO payments_balancetransaction (provider_id, type, reporting_category, source_id, amount, fee, net, currency,
            exchange_rate, fee_details, created, available_on, payout_id, network, imported_at)
        SELECT 'txn_' || n, 'charge', 'charge', 'ch_' || n, 5, 0, 5, 'EUR', '', '[]', now(), now(), '', '', now()
        FROM generate_series(1, 5000) n
        """,
        "ANALYZE payments_balancetransaction",
    )
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {legs.CONVERTED}", {"since": AGO, "until": NOW, "asked": NOW})
        plan = " ".join(line for (line,) in cursor.fetchall())
    assert "bt_converted" in plan, plan


def test_a_charge_beside_the_payment_whose_end_the_provider_knows_and_we_do_not() -> None:
    books = Books()
    booking = books.payment().booking
    extra = ExtraCharge.objects.create(
        booking=booking,
        kind="damage",
        status="submitted",
        amount=5_000,
        currency="EUR",
        provider_id="pi_damage",
        due_at=AGO,
        created_at=AGO,
        submitted_at=AGO,
    )
    assert "pi_damage" in queries.payments_under_way()
    books.states.append(("payment", "pi_damage", "", "captured", 5_000, "EUR", None))
    books.run("state")
    assert found() == {("status", extra.code): "status_mismatch"}
