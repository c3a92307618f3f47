"""A run ends the same however it came there: shuffled, split, in other chunks, twice, cut off anywhere and gone on with."""

from __future__ import annotations

import itertools
import random
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from backoffice.core.actor import system
from backoffice.core.errors import Conflict, Invalid, Locked, NotAllowed
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import operations, provider, queries
from backoffice.reconciliation.models import Break, BreakEvent, Match, ProviderLine, Run, StagedDifference
from backoffice.reconciliation.operations import runs
from backoffice.reconciliation.parsers import provider_report
from backoffice.reconciliation.provider import Report, reconcile, resume
from backoffice.reconciliation.queries import legs
from tests import factories
from tests.factories import NOW
from tests.reconciliation.steps import ACTOR, DAY, as_superuser, balance_of, compared, imported, moved
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
