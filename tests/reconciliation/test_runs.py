"""A run ends the same however it came there: shuffled, split, in other chunks, twice, cut off anywhere and gone on with."""

from __future__ import annotations

import itertools
import random
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from threading import Event
from typing import Any

import pytest
from django.db import connection, connections, transaction

from backoffice.core.actor import system
from backoffice.core.errors import Conflict, Invalid, Locked, NotAllowed, ProviderError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.jobs.models import JobRun
from backoffice.ledger.models import Journal
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import BalanceTransaction
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import operations, provider, queries, tasks
from backoffice.reconciliation.models import (
    Break,
    BreakEvent,
    Match,
    ProviderLine,
    Run,
    StagedDifference,
    StatementLine,
)
from backoffice.reconciliation.operations import runs
from backoffice.reconciliation.parsers import provider_report
from backoffice.reconciliation.provider import Report, reconcile, resume
from backoffice.reconciliation.queries import legs
from backoffice.workflows import import_balance_transactions
from tests import factories
from tests.factories import NOW
from tests.falsified import as_superuser
from tests.reconciliation.steps import (
    ACTOR,
    DAY,
    balance_of,
    bank,
    compared,
    imported,
    moved,
    post,
    swept,
    until_somebody_waits,
)
from tests.reconciliation.test_classes import Books
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now, paid

pytestmark = pytest.mark.django_db(transaction=True)
FEW = 40


def books() -> list[SeenBalanceTransaction]:
    """Forty movements over twenty days; every fourth differs in one of four ways. What the provider shows of them."""
    rows = imported(
        *(moved(f"txn_{n:03}", net=1_000 + n, fee=10, created=NOW - (20 - n // 2) * DAY) for n in range(FEW))
    )
    shown = []
    for number, row in enumerate(rows):
        cent = Money(1, "EUR")
        match number % 16:
            case 0:
                continue
            case 4:
                shown.append(replace(row, amount=row.amount + cent, net=row.net + cent))
            case 8:
                shown.append(replace(row, fee=row.fee + cent, net=row.net - cent))
            case 12:
                shown += [row, replace(row, id=f"{row.id}_new", source_id="ch_new")]
            case _:
                shown.append(row)
    return shown


def outcome() -> tuple[str, str]:
    run = Run.objects.latest("id")
    return run.output_digest, queries.books_digest()


def test_neither_order_nor_the_size_of_chunks_changes_the_outcome() -> None:
    rows = books()
    first = compared("stripe", rows=rows)
    assert Break.objects.filter(leg="line").count() == 3 + 3 + 2 + 2
    expected = outcome()
    for chunk in (1, 3, 7, 1_000):
        shuffled = random.Random(chunk).sample(rows, len(rows))
        again = compared("stripe", rows=shuffled, chunk=chunk)
        assert outcome() == expected
        assert again.input_digest == first.input_digest
    assert compared("stripe", rows=rows[1:]).input_digest != first.input_digest


def test_windows_that_are_split_find_what_one_window_finds() -> None:
    rows = books()
    whole = compared("stripe", rows=rows, since=NOW - 30 * DAY)
    in_window = queries.books_digest(since=NOW - 30 * DAY, until=NOW + DAY)
    Break.objects.all().delete()
    Match.objects.all().delete()
    cuts = [NOW - 30 * DAY, NOW - 17 * DAY, NOW - 11 * DAY - timedelta(hours=3), NOW - 2 * DAY, NOW + DAY]
    balances = balance_of(rows)
    for since, until in itertools.pairwise(cuts):
        part = [row for row in rows if since <= row.created < until]
        compared("stripe", rows=part, balances=balances, since=since, until=until)
    assert queries.books_digest(since=NOW - 30 * DAY, until=NOW + DAY) == in_window
    assert not Break.objects.filter(cls="unexplained_difference").exclude(status="self_healed").exists()
    assert Match.objects.count() == whole.matched


def test_a_second_run_writes_nothing_new_and_keeps_the_matches() -> None:
    rows = books()
    first = compared("stripe", rows=rows)
    counts = (Break.objects.count(), BreakEvent.objects.count(), Match.objects.count())
    versions = dict(Break.objects.values_list("id", "version"))
    second = compared("stripe", rows=rows)
    assert (Break.objects.count(), BreakEvent.objects.count(), Match.objects.count()) == counts
    assert dict(Break.objects.values_list("id", "version")) == versions  # nobody's open page grows stale by it
    assert set(Match.objects.values_list("run_id", flat=True)) == {first.pk}
    assert second.watermarks == first.watermarks and second.rules == first.rules
    assert (ProviderLine.objects.count(), StagedDifference.objects.count()) == (0, 0)


def test_a_match_that_no_longer_agrees_is_none_and_comes_back_when_it_does() -> None:
    rows = imported(moved("txn_a"), moved("txn_b"))
    compared("stripe", rows=rows)
    assert Match.objects.count() == 2
    cent = Money(1, "EUR")
    compared("stripe", rows=[replace(rows[0], amount=rows[0].amount + cent, net=rows[0].net + cent), rows[1]])
    assert Match.objects.count() == 1
    compared("stripe", rows=rows)
    assert Match.objects.count() == 2


@pytest.mark.parametrize("few", [legs._FEW, 0])
def test_a_movement_whose_journal_moves_the_mirror_twice_is_what_both_lines_sum_to(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legs, "_FEW", few)
    row = imported(moved("txn_a", net=700), moved("txn_b", net=1_000))[1]
    journal = Journal.objects.get(reference="txn_b").pk
    mirror = "SELECT id FROM ledger_account WHERE code = '1100'"
    as_superuser(
        f"UPDATE ledger_line SET amount = 600 WHERE journal_id = {journal} AND account_id IN ({mirror})",
        f"INSERT INTO ledger_line (journal_id, account_id, amount, currency) SELECT {journal}, id, 400, 'EUR' FROM ({mirror})",
    )
    assert compared("stripe", rows=[moved("txn_a", net=700), row]).matched == 2
    as_superuser(f"UPDATE ledger_line SET amount = 1000 WHERE journal_id = {journal} AND amount = 600")
    compared("stripe", rows=[moved("txn_a", net=700), row])
    assert Match.objects.count() == 1
    assert list(Break.objects.filter(leg="line").values_list("key", "difference")) == [("txn_b", -400)]


def test_a_window_of_a_large_book_goes_by_the_kept_balances(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = books()
    monkeypatch.setattr(legs, "_FEW", FEW // 2)
    window = {"since": NOW - 4 * DAY, "until": NOW + DAY}
    part = [row for row in rows if row.created >= window["since"]]
    compared("stripe", rows=rows)
    expected = queries.books_digest()
    run = compared("stripe", rows=part, balances=balance_of(rows), **window)
    assert queries.books_digest() == expected and run.explained["EUR"]["unexplained"] == 0
    # It takes the ledger's word for its balance, whose own check adds up the lines; a run over the whole does not.
    as_superuser("UPDATE ledger_balance SET balance = balance + 3 WHERE account_id IN (SELECT id FROM ledger_account"
                 " WHERE code = '1100')")  # fmt: skip
    assert compared("stripe", rows=part, balances=balance_of(rows), **window).explained["EUR"]["unexplained"] == -3
    assert compared("stripe", rows=rows).explained["EUR"]["unexplained"] == 0


class Cut(BaseException):
    """The process is gone: no `except Exception` of ours sees it."""


@pytest.mark.parametrize("at", range(14))
def test_a_run_that_is_killed_anywhere_goes_on_and_ends_as_if_it_had_not_been(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after each commit of a run: in staging, classification, every chunk, and the end."""
    rows = books()
    expected = compared("stripe", rows=rows, chunk=9)
    digest = outcome()
    Break.objects.all().delete()
    Match.objects.all().delete()
    run = operations.begin(scope="stripe", since=NOW - 400 * DAY, until=NOW + DAY, actor=ACTOR, now=NOW)
    commits = Commits(monkeypatch, cut_at=at)
    with commits:
        try:
            operations.stage(run=run, rows=rows, balances=balance_of(rows), asked=NOW)
            finish(run)
        except Cut:
            pass
    if not commits.cut:
        pytest.skip(f"a run has {commits.seen} moments")
    run = Run.objects.get(pk=run.pk)
    if run.status != "succeeded":
        if not operations.is_staged(run=run):
            operations.stage(run=run, rows=rows, balances=balance_of(rows), asked=NOW)
        finish(run)
    assert outcome() == digest
    assert Run.objects.get(pk=run.pk).matched == expected.matched == Match.objects.count()


def finish(run: Run) -> None:
    if run.checkpoint.get("step") == "staged":
        operations.classify(run=run, now=NOW)
    operations.write(run=run, now=NOW, chunk=9)
    operations.finish(run=run, now=NOW)


class Commits:
    """Cuts the power before or after one of this connection's commits."""

    def __init__(self, patch: pytest.MonkeyPatch, *, cut_at: int) -> None:
        self.patch, self.cut_at, self.seen, self.cut = patch, cut_at, 0, False

    def __enter__(self) -> None:
        from django.db.backends.postgresql.base import DatabaseWrapper

        commit, rollback = DatabaseWrapper._commit, DatabaseWrapper._rollback

        def committing(wrapper: Any) -> None:
            self._moment(lambda: rollback(wrapper))
            commit(wrapper)
            self._moment(lambda: None)

        self.patch.setattr(DatabaseWrapper, "_commit", committing)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def _moment(self, lost: Callable[[], None]) -> None:
        if self.seen == self.cut_at and not self.cut:
            self.cut = True
            lost()
            connection.run_on_commit = []
            raise Cut
        self.seen += 1


def test_the_provider_is_asked_for_its_pages_outside_any_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million movements are ten thousand calls: no lock is held meanwhile, and what came is kept as it comes."""
    monkeypatch.setattr(runs, "_PAGE", 2)
    run = operations.begin(scope="stripe", since=NOW - DAY, until=NOW + DAY, actor=ACTOR, now=NOW)
    kept = []

    def pages() -> Iterator[SeenBalanceTransaction]:
        for number in range(5):
            assert not connection.in_atomic_block
            kept.append(ProviderLine.objects.count())
            yield moved(f"txn_{number}")

    operations.stage(run=run, rows=pages(), asked=NOW)
    assert kept == [0, 0, 2, 2, 4] and run.lines == ProviderLine.objects.count() == 5


@pytest.mark.parametrize("worth_truncating", [-1, runs._WORTH_TRUNCATING])
def test_what_a_run_laid_down_goes_with_it_and_not_with_another(
    worth_truncating: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_WORTH_TRUNCATING", worth_truncating)
    window: Any = {"scope": "stripe", "since": NOW - DAY, "until": NOW + DAY, "actor": ACTOR, "now": NOW}
    cut_off, dry = operations.begin(**window), operations.begin(**window, dry_run=True)
    operations.stage(run=cut_off, rows=[moved("txn_a"), moved("txn_b")], asked=NOW)
    operations.stage(run=dry, rows=[moved("txn_a")], asked=NOW)
    operations.discard(run=dry)
    assert operations.is_staged(run=Run.objects.get()) and ProviderLine.objects.count() == 2
    operations.fail(run=cut_off, error="no answer", now=NOW)
    assert not ProviderLine.objects.exists()


# With the provider -----------------------------------------------------------------------------------------------------


def test_a_run_that_is_broken_off_is_gone_on_with(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    paid()
    sandbox.advance(60)
    reconcile(scope="stripe", since=None, until=None, actor=ACTOR, now=now())
    sandbox.drift(amount_delta=-1)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_chunk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconcile(scope="stripe", since=None, until=None, actor=ACTOR, now=now())
    left = Run.objects.latest("id")
    assert (left.status, left.checkpoint["step"]) == ("interrupted", "classified") and not Break.objects.exists()
    done = resume(scope="stripe", actor=ACTOR, now=now())
    assert done.run.pk == left.pk and [found.difference for found in done.findings] == [-1]
    assert (
        done.run.output_digest
        == reconcile(scope="stripe", since=None, until=None, actor=ACTOR, now=now()).run.output_digest
    )
    with pytest.raises(Conflict, match="begin one"):
        resume(scope="stripe", actor=ACTOR, now=now())


def interrupted(**_: Any) -> None:
    raise KeyboardInterrupt


def test_what_a_statement_said_outlives_a_run_that_is_broken_off(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [bank(4_242, on=now().date(), text="Aunt Agatha")]
    with monkeypatch.context() as patch:
        patch.setattr(operations, "match_lines", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now(), statement=said)
    assert [found.cls for found in resume(scope="bank", actor=ACTOR, now=now()).differences] == ["bank_unidentified"]


def test_a_dry_run_that_is_broken_off_is_never_gone_on_with(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(operations, "classify", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now())
        with pytest.raises(KeyboardInterrupt):
            reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now(), dry_run=True)
    cut = Run.objects.get()  # the dry run left nothing, and took nothing from the other
    killed = operations.begin(scope="bank", since=NOW, until=NOW + DAY, actor=ACTOR, now=NOW, dry_run=True)
    operations.stage(run=killed, asked=NOW)
    assert resume(scope="bank", actor=ACTOR, now=now()).run == cut


# Beside a dry run, which keeps one snapshot to its end, the desk goes on --------------------------------------------------


@pytest.mark.parametrize(
    "what", ["a match is confirmed", "a line is written off", "a note is written", "the same statement arrives"]
)
def test_nobody_waits_for_a_dry_run_that_compares(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What it took to see what the bank's lines come to is let go before it compares; then it goes on from its snapshot."""
    at = now()
    swept("po_1", 10_000, at=at)
    said = [bank(4_242, on=at.date(), text="Aunt Agatha")]
    here = [bank(10_000, on=(at + 2 * DAY).date()), bank(50, on=at.date(), text="who knows")]
    reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=at, statement=here)
    match, found = queries.proposals().get(), Break.objects.get(key="1160 po_1")
    mia, chad = (factories.acting(factories.staff("finance", name=name, now=at)) for name in ("Mia", "Chad"))
    lost = Break.objects.get(cls="bank_unidentified", at_risk=50)
    if what == "a line is written off":
        lost = operations.propose_write_off(code=lost.code, reason="Nobody's", actor=mia, now=at)
    meanwhile: dict[str, Callable[[], Any]] = {
        "a match is confirmed": lambda: operations.decide_matches(
            code=found.code, match_ids=[match.pk], confirm=True, reason="The bank says so", actor=mia, now=at
        ),
        "a line is written off": lambda: operations.decide_write_off(
            code=lost.code, approve=True, reason="Agreed", version=lost.version, actor=chad, now=at
        ),
        "a note is written": lambda: operations.note(code=found.code, text="asked the bank", actor=mia, now=at),
        "the same statement arrives": lambda: (
            operations.import_lines(lines=said, actor=ACTOR, now=at),
            operations.match_lines(actor=ACTOR, now=at),
        ),
    }

    def look() -> list[tuple[str, int]]:
        seen = reconcile(scope="all", since=None, until=None, actor=ACTOR, now=at, dry_run=True, statement=said)
        return sorted((each.cls, each.difference) for each in seen.differences)

    alone = look()
    compared_now = []
    digest = queries.input_digest

    def comparing(*, run: Run, bank: queries.BankFacts) -> Any:
        compared_now.append(run.pk)
        elsewhere(meanwhile[what], patience="3s")
        return digest(run=run, bank=bank)

    monkeypatch.setattr(queries, "input_digest", comparing)
    assert look() == alone and len(compared_now) == 1, "it has looked once"
    assert ("bank_unidentified", 4_242) in alone and Run.objects.count() == 1


def test_what_the_bank_says_is_an_input_in_a_dry_run_too(sandbox: RunningSandbox) -> None:
    def run(*said: int, dry_run: bool = False) -> Run:
        lines = [bank(amount, on=now().date()) for amount in said]
        return reconcile(
            scope="bank", since=None, until=None, actor=ACTOR, now=now(), statement=lines, dry_run=dry_run
        ).run

    nothing = run()
    assert (nothing.lines, nothing.matched) == (0, 0)
    tried, told = run(4_242, dry_run=True), run(4_242)
    assert (told.lines, told.matched) == (tried.lines, tried.matched) == (1, 0)
    assert told.input_digest == tried.input_digest != nothing.input_digest
    assert told.output_digest != nothing.output_digest
    again = run(4_242)  # the file once more
    assert (again.input_digest, again.output_digest) == (told.input_digest, told.output_digest)
    assert run(1_111).input_digest != told.input_digest


@pytest.mark.parametrize("what", ["a movement is imported", "the line is posted"])
def test_what_changes_beside_a_dry_run_is_looked_at_anew(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    swept("po_1", 10_000, trace="TRACE123ABC", at=now())
    reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now())
    line = bank(10_000, on=now().date(), trace="TRACE123ABC")
    at = now()
    meanwhile: dict[str, tuple[str, Callable[[], Any]]] = {
        "a movement is imported": (
            "match_lines",
            lambda: imported(moved("txn_back", source="po_1", category="payout_reversal", net=4_000), at=at),
        ),
        "the line is posted": (
            "import_lines",
            lambda: post("bank:other", "bank.line", [("1010", line.account, 5), ("1160", "po_1", -5)], at=at),
        ),
    }
    step, act = meanwhile[what]
    happened = beside(monkeypatch, step, act, times=1)
    dry = reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now(), dry_run=True, statement=iter([line]))
    assert len(happened) == 2, "it has looked twice"
    assert not StatementLine.objects.exists() and Run.objects.count() == 1 and not ProviderLine.objects.exists()
    real = reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now(), statement=[line])
    assert [(each.cls, each.difference) for each in dry.differences] == [
        (each.cls, each.difference) for each in real.differences
    ]
    assert dry.run.output_digest == real.run.output_digest


def beside(patch: pytest.MonkeyPatch, step: str, act: Callable[[], Any], *, times: int) -> list[str]:
    """Before a run takes `step`, somebody else acts over a connection of their own and commits, the first so many times;
    returns the list of the times the step was taken, which grows."""
    taken: list[str] = []
    real = getattr(operations, step)

    def stepping(**given: Any) -> Any:
        taken.append(step)
        if len(taken) <= times:
            elsewhere(act)
        return real(**given)

    patch.setattr(operations, step, stepping)
    return taken


def elsewhere(act: Callable[[], Any], *, patience: str = "60s") -> None:
    """Act over another connection, which waits for a lock no longer than its `patience`."""

    def acting() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [patience])
            act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(acting).result(timeout=60)


def test_a_dry_run_that_waits_for_somebody_looks_anew_at_what_they_have_done(sandbox: RunningSandbox) -> None:
    payout, _ = swept("po_1", 10_000, trace="TRACE123ABC", at=now())
    line = bank(10_000, on=now().date(), trace="TRACE456DEF")

    named = Event()

    def name_it() -> None:
        try:
            with transaction.atomic():
                type(payout).objects.filter(pk=payout.pk).update(trace="TRACE456DEF")
                named.set()
                until_somebody_waits()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=1) as pool:
        naming = pool.submit(name_it)
        assert named.wait(timeout=60)
        dry = reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=now(), dry_run=True, statement=[line])
        naming.result(timeout=60)
    assert dry.differences == [] and not Run.objects.exists()


def test_a_dry_run_that_never_has_a_quiet_moment_says_so_and_leaves_nothing(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    swept("po_1", 10_000, trace="TRACE123ABC", at=at)
    said = [bank(10_000, on=at.date(), trace="TRACE123ABC")]
    ids = itertools.count()

    def takes_some_back() -> None:
        imported(moved(f"txn_{next(ids)}", source="po_1", category="payout_reversal", net=1), at=at)

    tries = beside(monkeypatch, "match_lines", takes_some_back, times=provider.LOOKS)
    with pytest.raises(UpstreamUnavailable, match=r"changed each of the 5 times .* Run it again in a moment"):
        reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=at, dry_run=True, statement=said)
    assert len(tries) == provider.LOOKS
    assert not Run.objects.exists() and not StagedDifference.objects.exists() and not StatementLine.objects.exists()
    assert JobRun.objects.filter(name="reconcile.bank").latest("id").status == "failed"


def test_beat_goes_on_with_what_was_cut_off_and_then_compares_anew(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.everything()
    sandbox.drift(kind="extra", amount_delta=500)
    sandbox.advance(3_600)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_chunk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconcile(scope="all", since=None, until=None, actor=ACTOR, now=now())
    tasks.everything()
    assert list(Run.objects.order_by("id").values_list("status", flat=True)) == ["succeeded"] * 3
    assert JobRun.objects.get(name="reconciliation.all").counts == {"findings": Break.objects.count()}
    with provider._alone("bank", system("night run"), now()):
        tasks.state()  # says nothing, and leaves it to the other
    assert Run.objects.count() == 3 and not JobRun.objects.filter(name="reconciliation.state").exists()


# What a run did not look at does not heal -----------------------------------------------------------------------------


def test_what_a_report_leaves_out_is_not_healed_by_it() -> None:
    row = imported(moved("txn_p", source="po_x", category="payout", net=-500))[0]
    compared("stripe", rows=[])
    assert status_of("txn_p") == "open"
    compared("stripe", rows=[], left_out=["payout"])
    assert status_of("txn_p") == "open"
    compared("stripe", rows=[row])
    assert status_of("txn_p") == "self_healed"


def status_of(key: str) -> str:
    return Break.objects.get(key=key).status


def test_an_object_that_the_provider_was_not_asked_about_is_not_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books()
    refund = books.refund(books.payment(), 100, status="submitted")
    compared("state", states=[("refund", refund.provider_id, "", "succeeded", 100, "EUR", None)])
    books.refund(books.payment(), 100, status="submitted")
    monkeypatch.setattr(import_module("backoffice.reconciliation.queries.breaks"), "_MOST_ASKED", 1)
    assert queries.refunds_under_way() == [refund.provider_id]  # not the newest: what has a break is asked first
    compared("state", states=[])
    assert status_of(refund.code) == "open"
    compared("state", states=[("refund", refund.provider_id, "", "pending", 100, "EUR", None)])
    assert status_of(refund.code) == "self_healed"


def test_a_break_whose_fact_another_leg_takes_over_hands_on_its_owner_and_notes() -> None:
    staff = factories.staff("finance")
    acting = factories.acting(staff)
    for name in ("a", "b"):
        lines = [("1150", f"ch_{name}", 10_000), ("2100", f"BK-{name}", -10_000)]
        post(f"capture:{name}", "capture", lines, at=NOW - 30 * DAY)
    compared("stripe")
    worked, proposed = Break.objects.order_by("key")
    assert {worked.cls, proposed.cls} == {"missing_external"}
    operations.take(code=worked.code, owner_id=staff.pk, actor=acting, now=NOW)
    operations.note(code=worked.code, text="asked the bank", actor=acting, now=NOW)
    Break.objects.filter(pk=proposed.pk).update(status="proposed")
    theirs = [moved(f"txn_{name}", source=f"ch_{name}", net=9_000, created=NOW - DAY) for name in ("a", "b")]
    for _ in range(2):
        compared("stripe", rows=theirs)
    heir = Break.objects.get(key="txn_a")
    assert (heir.status, heir.owner_id, heir.at_risk) == ("investigating", staff.pk, 10_000)
    assert heir.notes.count("asked the bank") == 1 and heir.flags == ["missing_external"]
    # What a second person decides over stays before them.
    assert (status_of("1150 ch_a"), status_of("1150 ch_b")) == ("self_healed", "proposed")


# What may be late, and what may not -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_not_imported_yet_is_no_unexplained_difference(sandbox: RunningSandbox, dry_run: bool) -> None:
    paid()
    sandbox.advance(60)
    assert not BalanceTransaction.objects.exists()
    found = reconcile(scope="state", since=None, until=None, actor=ACTOR, now=now(), dry_run=dry_run)
    assert found.run.explained["EUR"]["unexplained"] == 0 and found.findings == []
    assert BalanceTransaction.objects.exists() is not dry_run
    sandbox.drift(kind="extra", amount_delta=5)
    file = reconcile(
        scope="stripe", since=None, until=None, actor=ACTOR, now=now(), report=Report(rows=shown_by(sandbox))
    )
    assert file.run.explained["EUR"]["unexplained"] == 0


def shown_by(sandbox: RunningSandbox) -> list[SeenBalanceTransaction]:
    return list(gateway().balance_transactions(since=NOW - 400 * DAY))


def test_a_balance_that_moves_whenever_it_is_asked_is_not_compared(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    cents = itertools.count(1)
    monkeypatch.setattr(type(gateway()), "balance", lambda _: {"EUR": Money(next(cents), "EUR")})
    for scope in ("stripe", "state"):
        found = reconcile(scope=scope, since=None, until=None, actor=ACTOR, now=now())
        assert (found.differences, found.run.explained) == ([], {}) and "moved each" in found.run.note


def test_a_provider_that_refuses_to_be_asked_has_not_been_asked(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that lost its rights is not an object that is unknown: the run fails and heals nothing."""
    Books().payment(status="processing", captured_at=None)
    reconcile(scope="state", since=None, until=None, actor=ACTOR, now=now())

    def refused(*_: Any, **__: Any) -> None:
        raise ProviderError(message="Invalid API Key", provider_code=None)

    monkeypatch.setattr(type(gateway()), "payment", refused)
    with pytest.raises(ProviderError, match="Invalid API Key"):
        reconcile(scope="state", since=None, until=None, actor=ACTOR, now=now())
    assert Run.objects.latest("id").status == "failed"


def test_of_very_many_differences_the_findings_are_shown_and_all_are_counted(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "SHOWN", 2)
    sandbox.drift(kind="extra", amount_delta=500)
    sandbox.drift(kind="extra", amount_delta=600)
    sandbox.advance(3_600)
    sandbox.drift(kind="extra", amount_delta=700)
    monkeypatch.setattr(import_balance_transactions, "run", lambda **_: 0)
    found = reconcile(scope="stripe", since=None, until=None, actor=ACTOR, now=now())
    assert sorted(each.difference for each in found.differences) == [500, 600]
    assert (found.found, found.young, Break.objects.count()) == (2, 1, 3)


def test_a_run_that_died_is_not_gone_on_with_once_another_has_begun() -> None:
    run = operations.begin(scope="state", since=NOW - DAY, until=NOW, actor=ACTOR, now=NOW)
    operations.stage(run=run, rows=[], balances={}, asked=NOW)
    compared("state")
    run.refresh_from_db()
    assert (run.status, run.checkpoint) == ("interrupted", {}) and "began anew" in run.error


@pytest.mark.parametrize(
    ("holding", "asking", "refused"),
    [
        ("stripe", "stripe", True),
        ("all", "state", True),
        ("bank", "all", True),
        ("bank", "state", True),  # both look at what is on its way to the bank
        ("state", "stripe", True),
        ("payouts", "state", False),
    ],
)
def test_two_runs_of_a_leg_at_once_are_one(sandbox: RunningSandbox, holding: str, asking: str, refused: bool) -> None:
    with provider._alone(holding, system("night run"), now()):
        if refused:
            with pytest.raises(Locked, match="already running"):
                reconcile(scope=asking, since=None, until=None, actor=ACTOR, now=now())
            assert not Run.objects.exists()
        else:
            assert reconcile(scope=asking, since=None, until=None, actor=ACTOR, now=now()).findings == []


def test_the_providers_report_and_its_api_find_the_same(sandbox: RunningSandbox, tmp_path: Any) -> None:
    for _ in range(3):
        paid()
    sandbox.advance(60)
    reconcile(scope="stripe", since=None, until=None, actor=ACTOR, now=now())
    sandbox.drift(amount_delta=-3)
    sandbox.advance(2 * 86_400)
    path = tmp_path / "activity.csv"
    path.write_bytes(report(sandbox))
    reports = provider_report.movements([path])
    window = reports.window()
    by_file = reconcile(
        scope="stripe",
        since=window.since,
        until=window.until,
        actor=ACTOR,
        now=now(),
        report=Report(rows=reports.rows(), left_out=reports.left_out),
    )
    by_api = reconcile(scope="stripe", since=window.since, until=window.until, actor=ACTOR, now=now())
    assert [found.difference for found in by_file.findings] == [-3]
    assert by_file.run.lines == by_api.run.lines == 3
    assert by_file.run.output_digest == by_api.run.output_digest
    assert by_file.run.input_digest == by_api.run.input_digest
    assert (by_file.run.source, by_api.run.source) == ("file", "api")


def report(sandbox: RunningSandbox) -> bytes:
    """The itemised activity of the last days, as the provider makes it."""
    client = sandbox.client()
    kind = "balance_change_from_activity.itemized.3"
    end = client.v1.reporting.report_types.retrieve(kind).data_available_end
    columns = [
        "balance_transaction_id",
        "created_utc",
        "currency",
        "gross",
        "fee",
        "net",
        "reporting_category",
        "source_id",
    ]
    made = client.v1.reporting.report_runs.create(
        {
            "report_type": kind,
            "parameters": {"interval_start": end - 5 * 86_400, "interval_end": end, "columns": columns},
        }
    )
    sandbox.advance(600)
    done = client.v1.reporting.report_runs.retrieve(made.id)
    assert done.status == "succeeded" and done.result is not None
    request = urllib.request.Request(
        f"{sandbox.base_url}/v1/files/{done.result.id}/contents", headers={"Authorization": f"Bearer {sandbox.api_key}"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        content: bytes = response.read()
    return content


def test_a_window_a_scope_and_a_person_that_may_not_are_refused() -> None:
    with pytest.raises(Invalid, match="scope"):
        operations.begin(scope="moon", since=NOW, until=NOW + DAY, actor=ACTOR, now=NOW)
    with pytest.raises(Invalid, match="until"):
        operations.begin(scope="state", since=NOW, until=NOW, actor=ACTOR, now=NOW)
    support = factories.acting(factories.staff("support_l1"))
    with pytest.raises(NotAllowed):
        operations.begin(scope="state", since=NOW, until=NOW + DAY, actor=support, now=NOW)
