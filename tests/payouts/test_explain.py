"""A payout says what it is made of, to the cent and by its postings, and why it waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import transaction

from backoffice.core.errors import Invalid, NotFound
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.ledger import operations as ledger
from backoffice.ledger.policies import Line
from backoffice.payments.policies.seen_accounts import SeenAccount
from backoffice.payouts import operations, queries
from backoffice.payouts.models import HostAccount, Payout
from backoffice.rulebook import queries as rulebook
from backoffice.workflows import release_payouts
from tests import factories
from tests.factories import NOW, SYSTEM
from tests.payouts.stays import host, paid_stay, refund, release_all
from tests.workflows.hosts import owes

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def lines(code: str, *, now=NOW) -> list[tuple[str, int]]:
    return [(line.label, line.amount.amount) for line in queries.explain(code=code, now=now).lines]


def test_before_its_day_it_says_what_is_expected_and_when() -> None:
    booking = paid_stay()
    payout = Payout.objects.get(booking=booking)
    said = queries.explain(code=payout.code, now=NOW)
    assert said.adds_up and said.share.amount == payout.held and said.amount == said.share
    assert said.waits is not None and said.waits.until == payout.due_at
    assert lines(payout.code) == [
        ("Price of the stay, paid by the guest", booking.host_price),
        ("Host fee", -booking.host_fee),
    ]
    assert all(line.journal_id for line in said.lines)


def test_refunds_debts_and_other_payouts_are_lines_of_it() -> None:
    bob = host()
    booking = paid_stay(home=factories.listing(bob, maximum_nights=120), nights=60)
    given = refund(booking, 30_000, now=NOW)
    owes(bob, Money(4_000, "EUR"), at=NOW)
    first, second = Payout.objects.filter(booking=booking).order_by("number")
    at = first.due_at
    assert queries.explain(code=second.code, now=at).netted == Money(0, "EUR"), "the first will have kept it"
    before = queries.explain(code=first.code, now=at)
    assert before.adds_up and before.netted == Money(4_000, "EUR") and before.waits is None
    assert ("Refunded to the guest", -given.amount) in lines(first.code, now=at)
    assert [row.status for row in release_all(now=at)] == ["transferred"]
    after = queries.explain(code=first.code, now=at)
    assert after.adds_up and (after.share, after.netted, after.amount) == (before.share, before.netted, before.amount)
    assert [posting.kind for posting in after.postings] == ["release", "netting", "transfer"]
    assert all(sum(leg.amount.amount for leg in posting.legs) == 0 for posting in after.postings)
    later = queries.explain(code=second.code, now=at)
    assert later.adds_up and ("Sent with another payout of this stay", -after.share.amount) in lines(
        second.code, now=at
    )
    assert after.share + later.share + given == Money(booking.host_price - booking.host_fee, "EUR")


def test_a_hold_is_a_line_until_it_ends() -> None:
    booking = paid_stay()
    payout = Payout.objects.get(booking=booking)
    hold = operations.place_hold(
        booking_code=booking.code,
        amount=Money(5_000, "EUR"),
        cause="dispute",
        reason="Broken window",
        hours=24 * 60,
        owner_id=None,
        actor=SYSTEM,
        now=NOW,
    )
    said = queries.explain(code=payout.code, now=payout.due_at)
    assert said.adds_up and said.lines[-1].label == "Held back for now" and said.lines[-1].amount.amount == -5_000
    assert said.waits is not None and said.waits.until == hold.expires_at
    (part,) = queries.plan(now=payout.due_at)
    assert part.sends and part.waits == said.waits, "the rest of it is sent"
    forecast = release_payouts.run(now=payout.due_at, actor=release_payouts.ACTOR, dry_run=True)
    assert (forecast["release"], forecast["waiting"]) == (1, 0)
    release_all(now=payout.due_at)
    rest = Payout.objects.get(remainder_of=payout)
    (planned,), waits = queries.plan(now=payout.due_at), queries.explain(code=rest.code, now=payout.due_at).waits
    assert waits is not None and rest.waits_for == waits.sentence == "It is held back while we look into something."
    assert (planned.amount, planned.waits, planned.sends) == (Money(5_000, "EUR"), waits, False)
    for code in (payout.code, rest.code):
        assert queries.explain(code=code, now=payout.due_at).adds_up


def test_what_a_lost_chargeback_took_is_told_in_a_hosts_words() -> None:
    booking = paid_stay()
    with transaction.atomic():
        ledger.post(
            key="lost", kind="dispute-lost", subject=booking.code, reference="dp_1", actor=SYSTEM, effective_at=NOW, now=NOW,
            lines=(Line.of("2100", booking.code, Money(1_000, "EUR")), Line.of("1320", "dp_1", Money(-1_000, "EUR"))),
        )  # fmt: skip
    assert ("Chargeback by the guest's bank", -1_000) in lines(Payout.objects.get(booking=booking).code)


def test_one_that_the_provider_has_not_answered_says_so_after_a_minute() -> None:
    booking = paid_stay()
    payout, at = Payout.objects.get(booking=booking), booking.check_in_at + 2 * DAY
    assert operations.release(payout_code=payout.code, actor=SYSTEM, now=at).claimed
    assert queries.explain(code=payout.code, now=at).waits is None
    waits = queries.explain(code=payout.code, now=at + timedelta(seconds=61)).waits
    assert waits is not None and "asked again by itself" in waits.sentence and waits.until is None


def test_a_host_reads_only_their_own() -> None:
    booking = paid_stay()
    payout = Payout.objects.get(booking=booking)
    assert queries.explain(code=payout.code, now=NOW, actor=factories.acting(booking.host)).adds_up
    with pytest.raises(NotFound):
        queries.explain(code=payout.code, now=NOW, actor=factories.acting(host()))


def test_the_plan_names_what_a_run_would_send_and_what_waits_for_what() -> None:
    ready, not_yet = paid_stay(), paid_stay(of=host(ready=False))
    at = ready.check_in_at + 2 * DAY
    planned = {one.booking: one for one in queries.plan(now=at)}
    assert planned[ready.code].waits is None and planned[ready.code].sends and not planned[not_yet.code].sends
    assert planned[ready.code].amount.amount == ready.host_price - ready.host_fee
    waits = planned[not_yet.code].waits
    assert waits is not None and "not set up" in waits.sentence
    assert queries.plan(now=NOW) == []


@pytest.mark.parametrize(
    ("currency", "nightly", "little"), [("JPY", 50, True), ("JPY", 100, False), ("EUR", 100, False)]
)
def test_what_is_too_little_is_so_in_the_currency_that_is_sent(currency: str, nightly: int, little: bool) -> None:
    """Yen are settled in euros, of which less than 1.00 waits: plan, page and release say the same."""
    home = factories.listing(
        host(), city="Nowhere", country="KW", currency=currency, nightly_price=nightly, cleaning_fee=0
    )
    booking = paid_stay(home=home, currency="EUR")
    payout, at = Payout.objects.get(booking=booking), booking.check_in_at + 2 * DAY
    (planned,) = queries.plan(now=at)
    explained = queries.explain(code=payout.code, now=at)
    released = operations.release(payout_code=payout.code, actor=SYSTEM, now=at)
    said = "below 1.00 EUR" if little else ""
    for waits in (planned.waits, explained.waits, released.waits):
        assert (waits is not None and said in waits.sentence) if little else waits is None
    assert released.claimed is not little


def test_what_cannot_be_converted_says_so_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    home = factories.listing(host(), city="Nowhere", country="KW", currency="JPY", nightly_price=5_000, cleaning_fee=0)
    booking = paid_stay(home=home, currency="EUR")

    def none(*, base: str, quote: str, on: object) -> None:
        raise Invalid(f"currency: {base} has no rate.", field="currency")

    monkeypatch.setattr(rulebook, "rate", none)
    (planned,) = queries.plan(now=booking.check_in_at + 2 * DAY)
    assert planned.waits is not None and "exchange rate for JPY" in planned.waits.sentence


def unready(payout: Payout, at: datetime) -> None:
    HostAccount.objects.filter(host=payout.host).delete()


def still_asked(payout: Payout, at: datetime) -> None:
    """Not set up when it was looked at, begun since."""
    unready(payout, at)
    release_all(now=at)
    operations.begin_account(host_id=payout.host_id, country="BE", actor=SYSTEM, now=at)
    seen = SeenAccount(
        id="acct_1", reference=payout.host.code, can_receive=False, can_pay_out=False, told_everything=False,
        missing=("tos_acceptance.date",),
    )  # fmt: skip
    operations.record_account(seen=seen, actor=SYSTEM, now=at)


def kept(payout: Payout, at: datetime) -> None:
    operations.place_hold(
        booking_code=payout.booking.code, amount=None, cause="dispute", reason="x", hours=9, owner_id=None, actor=SYSTEM,
        now=at,
    )  # fmt: skip


def stopped(payout: Payout, at: datetime) -> None:
    jobs.stop(scope="payouts", reason="transfers doubled", actor=SYSTEM, now=at)


def refused(payout: Payout, at: datetime) -> None:
    operations.release(payout_code=payout.code, actor=SYSTEM, now=at)
    operations.fail_transfer(payout_code=payout.code, failure="No such account.", tries=1, actor=SYSTEM, now=at)


def mostly_refunded(payout: Payout, at: datetime) -> None:
    refund(payout.booking, payout.booking.total - 100, now=at)


@pytest.mark.parametrize(
    ("becomes", "words", "hours"),
    [
        (unready, "not set up yet", None),
        (still_asked, "still asks for a yes to its terms", None),
        (kept, "held back", 9),
        (stopped, "transfers doubled", None),
        (refused, "refused it: No such account. We try again.", 24),
        (mostly_refunded, "sent once a month", 30 * 24 - 1),
    ],
)
def test_the_list_and_the_page_say_the_same_of_why_it_waits_and_until_when(
    becomes: Callable[[Payout, datetime], None], words: str, hours: int | None
) -> None:
    payout = Payout.objects.get(booking=paid_stay())
    at = payout.due_at + timedelta(hours=1)
    becomes(payout, at)
    release_all(now=at)
    payout.refresh_from_db()
    said = queries.explain(code=payout.code, now=at).waits
    assert said is not None and words in said.sentence
    assert said.until == (None if hours is None else at + timedelta(hours=hours))
    assert (payout.waits_for, payout.waits_until) == (said.sentence, said.until)
