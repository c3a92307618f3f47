"""The power is cut before and after every commit of taking in a bank's statement and of a run, of a person's word on a proposed
match, of writing a break off and of posting a movement anew: the same file is given again, the run gone on with, the person
tries again, and it ends as if nothing had happened, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from itertools import count
from typing import Any

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import Conflict
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.payments.models import BalanceTransaction
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.people.models import User
from backoffice.reconciliation import operations, queries, tasks
from backoffice.reconciliation.models import BankMatch, Break, Match, Run, StatementLine
from backoffice.reconciliation.parsers import bank_csv, camt053
from backoffice.reconciliation.policies import SeenStatementLine
from backoffice.reconciliation.provider import reconcile, resume
from tests import factories
from tests.factories import NOW
from tests.faults import two_of_three_are_long
from tests.faults.test_crash_points import cut_everywhere
from tests.reconciliation.steps import ACTOR, DAY, arrived, bank, compared, imported, moved, post, swept
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)

_number = count(1)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one telling of a story is about: its own months, account and payouts, so that none sees another's."""

    number: int
    at: datetime

    @property
    def account(self) -> str:
        return f"BE{self.number:014}"

    @property
    def named(self) -> str:
        return f"po_{self.number}_named"

    @property
    def summed(self) -> str:
        return f"po_{self.number}_summed"

    @property
    def booked_on(self) -> date:
        return (self.at + 2 * DAY).date()

    @property
    def later(self) -> datetime:
        return self.at + 2 * DAY


def _case() -> Case:
    number = next(_number)
    return Case(number=number, at=NOW + 60 * number * DAY)


def _person(name: str) -> Any:
    """The same colleague however often they try."""
    return factories.acting(User.objects.filter(name=name).first() or factories.staff("finance", name=name))


def _standing(account: str, key: str) -> int:
    return ledger.balance(account=account, key=key, currency="EUR")


def _breaks(*keys: str) -> list[tuple[Any, ...]]:
    """What became of the breaks with these words in their keys, and how often each of it happened."""
    found = [one for one in Break.objects.order_by("leg", "cls", "difference") if any(key in one.key for key in keys)]
    happened = [Counter(one.events.values_list("what", flat=True)) for one in found]
    return [(one.leg, one.cls, one.status, one.difference, steps) for one, steps in zip(found, happened, strict=True)]


# A bank's statement: a payout it names, one that only adds up, money of nobody, two entries that are alike in everything ----


def _two_payouts() -> Case:
    case = _case()
    swept(case.named, 8_485, trace=f"TRACE{case.number}", at=case.at)
    swept(case.summed, 10_000, at=case.at)
    return case


def _entries(case: Case) -> list[tuple[str, str, str, str]]:
    """Reference, amount, trace and text of each."""
    return [
        ("R1", "84.85", f"TRACE{case.number}", "STRIPE PAYOUT"),
        ("R2", "100.00", "", "incoming"),
        ("R3", "-7.77", "", "who knows"),
        ("", "0.42", "", "card fee back"),
        ("", "0.42", "", "card fee back"),
    ]


def _camt(case: Case) -> list[SeenStatementLine]:
    entries = [
        f'<Ntry><Amt Ccy="EUR">{amount.lstrip("-")}</Amt><CdtDbtInd>{"DBIT" if amount[0] == "-" else "CRDT"}</CdtDbtInd>'
        f"<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>{case.booked_on}</Dt></BookgDt><AcctSvcrRef>{reference}</AcctSvcrRef>"
        f"<NtryDtls><TxDtls><Refs><EndToEndId>{trace or 'NOTPROVIDED'}</EndToEndId></Refs>"
        f"<RmtInf><Ustrd>{text}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
        for reference, amount, trace, text in _entries(case)
    ]
    return camt053.read(
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt>'
        f"<Acct><Id><IBAN>{case.account}</IBAN></Id><Ccy>EUR</Ccy></Acct>{''.join(entries)}"
        "</Stmt></BkToCstmrStmt></Document>".encode()
    )


def _csv(case: Case) -> list[SeenStatementLine]:
    rows = [
        f"{case.booked_on},{reference},{amount},{trace},{text}" for reference, amount, trace, text in _entries(case)
    ]
    columns = {"booked_on": "day", "reference": "ref", "amount": "amount", "trace": "trace", "text": "text"}
    layout = bank_csv.ColumnMap(columns=columns, account=case.account, currency="EUR")
    return bank_csv.read("\n".join(["day,ref,amount,trace,text", *rows]).encode(), layout=layout)


def _take_in(read: Callable[[Case], list[SeenStatementLine]]) -> Callable[[Case], None]:
    """What `ops reconcile bank --file` does."""

    def taken(case: Case) -> None:
        reconcile(scope="bank", since=None, until=None, actor=ACTOR, now=case.later, statement=read(case))

    return taken


def _keep_and_match(case: Case) -> None:
    """The half of it that posts."""
    arrived(*_camt(case), now=case.later)


def _taken_in(case: Case) -> dict[str, Any]:
    lines = StatementLine.objects.filter(account=case.account)
    codes = list(lines.values_list("code", flat=True))
    matches = BankMatch.objects.filter(line__in=lines)
    runs = Run.objects.filter(started_at__gte=case.later)
    return {
        "lines": sorted(lines.values_list("reference", "amount", "text")),
        "posted": Counter(Journal.objects.filter(reference__in=codes).values_list("kind", flat=True)),
        "matches": sorted(matches.values_list("method", "status", "amount")),
        "bank": _standing("1010", case.account),
        "in suspense": sorted(_standing("9900", f"bank:{code}") for code in codes),
        "on the way": [_standing("1160", key) for key in (case.named, case.summed)],
        "breaks": _breaks(case.named, case.summed, *codes),
        "under way": runs.filter(status="running").exists() or queries.unfinished(scope="bank") is not None,
    }


def _go_on() -> None:
    """Whoever comes in the morning goes on with what was cut off, where there is something to go on with."""
    last = Run.objects.filter(scope="bank").last()
    with suppress(Conflict):
        resume(scope="bank", actor=ACTOR, now=last.started_at if last is not None else NOW)


# A person's word ------------------------------------------------------------------------------------------------------


def _proposed() -> Case:
    case = _case()
    swept(case.summed, 10_000, at=case.at)
    parts = [bank(amount, on=case.booked_on, reference=f"{case.number}-{amount}") for amount in (6_000, 4_000)]
    assert arrived(*parts, now=case.later)["proposed"] == 2
    compared("bank", now=case.later)
    return case


def _confirm(case: Case) -> None:
    found = Break.objects.get(key=f"1160 {case.summed}")
    shown = [match.pk for match in queries.proposals_of(found=found)]
    if shown:  # else it was said before the power went
        operations.decide_matches(
            code=found.code,
            match_ids=shown,
            confirm=True,
            reason="The bank says so",
            version=found.version,
            actor=_person("Mia"),
            now=case.later,
        )
    compared("bank", now=case.later)


def _less_a_fee() -> Case:
    """A payout of which the bank has kept something, under no name."""
    case = _case()
    swept(case.summed, 10_000, at=case.at)
    arrived(bank(9_800, on=case.booked_on, reference=f"{case.number}-less", text="incoming"), now=case.later)
    compared("bank", now=case.later)
    return case


def _say(case: Case) -> None:
    """One says which line it is; what is left is written off by two."""
    found = Break.objects.get(key=f"1160 {case.summed}")
    line = StatementLine.objects.get(reference=f"{case.number}-less")
    if _standing("1160", case.summed) == 10_000:  # else it was said before the power went
        operations.say_line(
            code=found.code,
            line_code=line.code,
            reason="The bank kept 2.00",
            version=found.version,
            actor=_person("Mia"),
            now=case.later,
        )
    compared("bank", now=case.later)
    found.refresh_from_db()
    if found.status == "open":
        found = operations.propose_write_off(
            code=found.code, reason="Kept by the bank", actor=_person("Mia"), now=case.later
        )
    if found.status == "proposed":
        operations.decide_write_off(
            code=found.code,
            approve=True,
            reason="Agreed",
            version=found.version,
            actor=_person("Chad"),
            now=case.later,
        )
    compared("bank", now=case.later)


def _confirmed(case: Case) -> dict[str, Any]:
    lines = StatementLine.objects.filter(reference__startswith=f"{case.number}-")
    codes = list(lines.values_list("code", flat=True))
    found = Break.objects.get(key=f"1160 {case.summed}")
    return {
        "matches": sorted(BankMatch.objects.filter(line__in=lines).values_list("method", "status", "amount")),
        "posted": Counter(Journal.objects.filter(reference__in=codes).values_list("kind", flat=True)),
        "standing": [_standing("9900", f"bank:{code}") for code in codes] + [_standing("1160", case.summed)],
        "breaks": _breaks(case.summed, *codes),
        "log": Counter(AuditEntry.objects.filter(object_id=found.code).values_list("verb", flat=True)),
    }


def _lost() -> Case:
    """We captured and the provider never showed it."""
    case = _case()
    key = f"ch_{case.number}"
    post(f"capture:{key}", "capture", [("1150", key, 5_000), ("2100", case.account, -5_000)], at=case.at)
    compared("state", now=case.later)
    return case


def _of_lost(case: Case) -> Break:
    return Break.objects.get(key=f"1150 ch_{case.number}")


def _write_off(case: Case) -> None:
    """One proposes, another agrees; each does what is still to do."""
    found = _of_lost(case)
    if found.status == "open":
        operations.take(code=found.code, owner_id=_person("Mia").id, actor=_person("Mia"), now=case.later)
        found.refresh_from_db()
    if found.status == "investigating":
        found = operations.propose_write_off(
            code=found.code, reason="They lost it", actor=_person("Mia"), now=case.later
        )
    if found.status == "proposed":
        operations.decide_write_off(
            code=found.code,
            approve=True,
            reason="Agreed",
            version=found.version,
            actor=_person("Chad"),
            now=case.later,
        )
    compared("state", now=case.later)


def _put_right(case: Case) -> None:
    """The movement comes after all, and somebody says so; the next run finds nothing."""
    key = f"ch_{case.number}"
    if _standing("1150", key):
        post(f"bt:{key}", "bt.charge", [("1100", "stripe", 5_000), ("1150", key, -5_000)], at=case.later)
    with suppress(Conflict):
        operations.resolve(
            code=_of_lost(case).code, cause="timing", reason="It came", actor=_person("Mia"), now=case.later
        )
    compared("state", now=case.later)


def _accept(case: Case) -> None:
    with suppress(Conflict):
        operations.accept(
            code=_of_lost(case).code,
            until=case.later + DAY,
            reason="They look for it",
            actor=_person("Mia"),
            now=case.later,
        )


def _lived_with(case: Case) -> dict[str, Any]:
    """Until that day; then it is a finding again."""
    before = _written_off(case)
    compared("state", now=case.later + 2 * DAY)
    return {"before": before, **_written_off(case)}


def _posted_twice() -> Case:
    """A movement that was posted a second time by hand."""
    case = _case()
    (row,) = imported(_movement(case), at=case.at)
    post(
        f"capture:{row.source_id}",
        "capture",
        [("1150", row.source_id, 1_000), ("2100", case.account, -1_000)],
        at=case.at,
    )
    lines = [("1100", "stripe", 1_000), ("1150", row.source_id, -1_000)]
    post(f"bt:{row.id} again", "bt.charge", lines, reference=row.id, at=case.at)
    _look_at(case)
    return case


def _movement(case: Case) -> SeenBalanceTransaction:
    return moved(f"txn_{case.number}", source=f"ch_{case.number}", created=case.at)


def _look_at(case: Case) -> None:
    """A run over the days of one telling."""
    window = {"since": case.at - DAY, "until": case.at + DAY}
    compared("stripe", rows=[_movement(case)], now=case.later, **window)


def _post_anew(case: Case) -> None:
    """One proposes, another agrees; each does what is still to do."""
    found = Break.objects.get(leg="line", key=f"txn_{case.number}")
    told = {"code": found.code, "shown": _movement(case), "now": case.later}
    if found.status == "open":
        found = operations.propose_anew(reason="Posted twice", actor=_person("Mia"), **told)
    if found.status == "proposed":
        operations.decide_anew(approve=True, reason="Agreed", version=found.version, actor=_person("Chad"), **told)
    _look_at(case)


def _once(case: Case) -> dict[str, Any]:
    row = _movement(case)
    found = Break.objects.get(leg="line", key=row.id)
    kept = BalanceTransaction.objects.get(provider_id=row.id)
    return {
        "standing": _standing("1150", row.source_id),
        "posted": Counter(Journal.objects.filter(reference=row.id).values_list("kind", flat=True)),
        "kept": Journal.objects.get(pk=kept.journal_id).idempotency_key.removeprefix(f"bt:{row.id}"),
        "breaks": _breaks(row.id),
        "log": Counter(AuditEntry.objects.filter(object_id=found.code).values_list("verb", flat=True)),
    }


def _written_off(case: Case) -> dict[str, Any]:
    found = _of_lost(case)
    return {
        "standing": _standing("1150", f"ch_{case.number}"),
        "lost": Journal.objects.filter(pk=found.journal_id).count(),
        "posted": Journal.objects.filter(idempotency_key__startswith=f"break:{found.code}:").count(),
        "breaks": _breaks(f"ch_{case.number}"),
        "log": Counter(AuditEntry.objects.filter(object_id=found.code).values_list("verb", flat=True)),
    }


Story = tuple[Callable[[], Case], Callable[[Case], None], Callable[[], None], Callable[[Case], dict[str, Any]]]
STORIES: dict[str, Story] = {
    "a statement is kept and matched": (_two_payouts, _keep_and_match, lambda: None, _taken_in),
    "a break is written off": (_lost, _write_off, lambda: None, _written_off),
    "a statement is read, and the same file again": (_two_payouts, _take_in(_camt), lambda: None, _taken_in),
    "a person confirms what is proposed": (_proposed, _confirm, lambda: None, _confirmed),
    "a statement is read, and the run gone on with": (_two_payouts, _take_in(_csv), _go_on, _taken_in),
    "a break is put right": (_lost, _put_right, lambda: None, _written_off),
    "a break is lived with for a while": (_lost, _accept, lambda: None, _lived_with),
    "a person says which line a payout is, less a fee": (_less_a_fee, _say, lambda: None, _confirmed),
    "a movement is posted anew": (_posted_twice, _post_anew, lambda: None, _once),
}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(story: str) -> None:
    _person("Mia"), _person("Chad")
    begin, act, recover, end = STORIES[story]
    moments = cut_everywhere(begin=begin, act=act, recover=recover, end=end)
    assert len(moments) >= 2, moments
    # What nobody knows yet stands in suspense, and what no statement brought on its way.
    checks = ledger.check(now=NOW + 60 * next(_number) * DAY)
    assert [finding for finding in checks if not finding.ok and finding.check != "clearing"] == []


@pytest.mark.long
def test_a_run_of_everything_that_was_cut_off_is_gone_on_with_by_beat(sandbox: RunningSandbox) -> None:
    """A movement that the provider shows and cannot be ours is found once, whichever run finds it."""
    paid()
    tasks.everything()

    def shown() -> dict[str, Any]:
        sandbox.advance(3_600)
        return dict(sandbox.drift(kind="extra", amount_delta=500)["after"])

    def found(movement: dict[str, Any]) -> dict[str, Any]:
        imported = BalanceTransaction.objects.filter(provider_id=movement["id"]).values_list("id", flat=True)
        cut_off = Run.objects.exclude(status="succeeded").exclude(checkpoint={})
        return {
            "breaks": _breaks(movement["source"]),
            "matches": (len(imported), Match.objects.filter(movement_id__in=list(imported)).count()),
            "cut off": [cut_off.exists(), Run.objects.filter(status="running").exists()],
            "explained": Run.objects.latest("id").explained["EUR"]["unexplained"],
        }

    moments = cut_everywhere(begin=shown, act=lambda _: tasks.everything(), recover=lambda: None, end=found)
    assert len(moments) >= 20, moments
