"""Questions about chargebacks: which are open, until when, what they took and where that stands, how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Final

from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Sum, Value, When

from backoffice.bookings.models import Booking
from backoffice.core.errors import Conflict, NotFound
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.payments import policies
from backoffice.payments.models import BalanceTransaction, Chargeback, ExtraCharge, FraudWarning, Payment, Refund
from backoffice.payments.policies import chargebacks as rules
from backoffice.payments.queries.held import BY_BOOKING, held_parts
from backoffice.payments.queries.money import blocking_chargebacks, captured_left, charge_left, charge_of
from backoffice.payments.queries.waits import later_left, was_refused
from backoffice.people import queries as people
from backoffice.people.policies import STAFF_VERBS
from backoffice.rulebook import queries as rulebook

# What a dispute's movements are called; fees of the network come as `fee` of the same source.
WITHDRAWN: Final = "dispute"
REINSTATED: Final = "dispute_reversal"
# The kind of the journal that posts a loss.
LOSS: Final = "dispute-lost"
# A row that was made while its movement was imported is found by the sweep within minutes, not days.
UNNOTICED: Final = timedelta(days=3)


def chargebacks() -> QuerySet[Chargeback]:
    """Every chargeback and inquiry with its payment and booking, newest first."""
    return Chargeback.objects.select_related(
        "payment__booking__guest", "payment__booking__host", "payment__booking__listing", "owner", "submitted_by"
    ).order_by("-id")


def chargeback(*, code: str) -> Chargeback:
    """One chargeback by our code or the provider's id. Raises NotFound."""
    found = chargebacks().filter(Q(code=code) | Q(provider_id=code)).first()
    if found is None:
        raise NotFound(kind="chargeback")
    return found


def by_deadline(*, rows: QuerySet[Chargeback] | None = None) -> QuerySet[Chargeback]:
    """What can be answered first, by our own deadline; then what is with the network; then what is over, latest first."""
    found = chargebacks() if rows is None else rows
    group = Case(
        When(status__in=[*rules.ANSWERABLE, *rules.APPEALABLE], then=Value(0)),
        When(status__in=rules.CLOSED, then=Value(2)),
        default=Value(1),
        output_field=IntegerField(),
    )
    return found.annotate(turn=group).order_by("turn", F("internal_due_at").asc(nulls_last=True), "-id")


def open_only(*, rows: QuerySet[Chargeback]) -> QuerySet[Chargeback]:
    """Those whose outcome is still to come; a status nobody knows is taken for open."""
    return rows.exclude(status__in=rules.CLOSED)


def open_chargebacks(*, payment_id: int) -> list[Chargeback]:
    """Chargebacks and inquiries of a payment whose outcome is still to come, oldest first: its payouts wait for them."""
    rows = Chargeback.objects.filter(payment_id=payment_id).exclude(status__in=rules.CLOSED)
    return list(rows.order_by("id"))


def why_payout_waits(*, payment_id: int) -> tuple[str, datetime | None] | None:
    """A sentence that a host may read, and until when, while a chargeback or inquiry of the payment is open; else None."""
    found = open_chargebacks(payment_id=payment_id)
    if not found:
        return None
    until = max((row.due_by for row in found if row.due_by is not None), default=None)
    return "The guest’s bank is questioning this payment; we answer it and pay you when it is settled.", until


def payment_of_charge(*, charge_id: str, provider_id: str) -> Payment | None:
    """The payment that a charge belongs to: its own, that of its intent, or that of the booking it was asked besides."""
    rows = Payment.objects.select_related("booking__host")
    wanted = Q(charge_id=charge_id) | Q(provider_id=provider_id) if provider_id else Q(charge_id=charge_id)
    found = rows.filter(wanted).first()
    if found is None:
        extra = ExtraCharge.objects.filter(wanted).select_related("booking").first()
        found = rows.filter(booking=extra.booking).first() if extra is not None else None
    return found


def assert_refundable(*, payment: Payment, charge_id: str = "") -> None:
    """Raises Conflict, saying why and until when, while the card network holds the money of a payment or has given that of
    this charge (the payment's own unless said) to the guest: a refund would pay it twice."""
    found = blocking_chargebacks(payment=payment, charge_id=charge_id).first()
    if found is None:
        return
    if found.status == "lost":
        raise Conflict(
            f"The guest has this money already: chargeback {found.code} was lost, and the card network gave it back. "
            "Nothing of that charge can be refunded.",
            chargeback=found.code,
        )
    answer = f"; we answer it by {found.due_by:%d %b %Y %H:%M} UTC" if found.due_by is not None else ""
    raise Conflict(
        f"The card network holds this money because of chargeback {found.code} "
        f"({found.status.replace('_', ' ')}){answer}. Nothing can be refunded until it is decided; "
        "if it is won, refund then.",
        chargeback=found.code,
    )


# Money ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Movements:
    """What the provider's movements of a dispute add up to, minor units of `currency`; nothing has moved without one."""

    withdrawn: int
    reinstated: int
    fee: int
    currency: str


def movements(*, provider_id: str) -> QuerySet[BalanceTransaction]:
    """The provider's movements of a dispute as imported, oldest first: withdrawn, reinstated, fees."""
    return BalanceTransaction.objects.filter(source_id=provider_id).order_by("created", "id")


def money_moved(*, provider_id: str) -> Movements:
    """The sums of a dispute's movements, told apart by (source, reporting category); fees are the provider's own."""
    found = movements(provider_id=provider_id).order_by().values("reporting_category", "currency")
    sums = {WITHDRAWN: 0, REINSTATED: 0}
    fee, currency = 0, ""
    for row in found.annotate(amount=Sum("amount"), fees=Sum("fee")):
        currency, category = row["currency"], row["reporting_category"]
        fee += row["fees"]
        if category in sums:
            sums[category] += row["amount"]
        else:  # a fee that is a movement of its own
            fee -= row["amount"]
    return Movements(withdrawn=-sums[WITHDRAWN], reinstated=sums[REINSTATED], fee=fee, currency=currency)


def standing_of(
    *,
    chargeback: Chargeback,
    lost: Money,
    back: policies.Parts | None = None,
    aside_back: Mapping[str, Money] | None = None,
) -> rules.Standing:
    """Where the money of a chargeback of one of our payments stands, `lost` being what 1320 holds for it; `back` is what
    would be held again if a loss that was posted were reversed, and `aside_back` what would stand aside again, by refund.

    Earlier losses of the same charge are counted first, in the order in which they were posted."""
    payment = chargeback.payment
    assert payment is not None  # the caller asks for those of ours
    booking = payment.booking
    limits = _of_charge(chargeback, payment)
    earlier = Chargeback.objects.filter(charge_id=chargeback.charge_id, loss_posted_at__isnull=False)
    for row in earlier.exclude(pk=chargeback.pk).order_by("loss_posted_at", "id"):
        limits = _less(limits, Money(row.amount, row.currency) - _aside_of_loss(row))
    return rules.Standing(
        lost=lost,
        disputed=Money(chargeback.amount, chargeback.currency),
        remaining=limits,
        in_hand=_in_hand(chargeback, booking, back or policies.Parts.none(booking.currency)),
        aside=_aside(chargeback, lost.currency, aside_back or {}),
    )


def shares_if_lost(*, chargeback: Chargeback) -> rules.LossShares | None:
    """Who a loss would come from as things stand, by the rule that posts it; None for a charge that is none of ours, and
    once it is decided. Before the network has taken anything, the disputed amount stands for what it would take."""
    if chargeback.payment is None or not rules.is_open(chargeback.status):
        return None
    taken = ledger.standing(account="1320", key=chargeback.provider_id)
    lost = next(iter(taken), Money(chargeback.amount, chargeback.currency))
    return rules.loss_shares(standing=standing_of(chargeback=chargeback, lost=lost))


def shares_of_loss(*, chargeback: Chargeback) -> rules.LossShares | None:
    """Who a loss that was posted comes from, drawn anew as it would be if somebody else were to bear it; None where none
    is posted, and for a charge that is none of ours."""
    posted = _posted_loss(chargeback)
    if chargeback.payment is None or posted is None:
        return None
    booking = chargeback.payment.booking
    lost = [-line.money for line in posted.lines.all() if line.account.code == "1320"]
    back = {
        part: sum(
            line.amount
            for line in posted.lines.all()
            if (line.account.code, line.account.key, line.currency) == (code, booking.code, booking.currency)
        )
        for code, part in BY_BOOKING.items()
    }
    whole = policies.Parts.of(currency=booking.currency, amounts={**dict.fromkeys(policies.PART_NAMES, 0), **back})
    return rules.loss_shares(
        standing=standing_of(
            chargeback=chargeback,
            lost=Money.sum(lost, lost[0].currency),
            back=whole,
            aside_back=_aside_lines(posted),
        )
    )


def is_to_be_drawn_anew(*, chargeback: Chargeback) -> bool:
    """Whether something stands aside for the guest by now of which a loss that was posted would take another amount: a refund
    came back since, or what was to be paid another way."""
    posted = _posted_loss(chargeback)
    shares = shares_of_loss(chargeback=chargeback) if chargeback.status == "lost" else None
    if posted is None or shares is None:
        return False
    return {each.refund: each.standing for each in shares.aside} != _aside_lines(posted)


def losses_to_draw_anew() -> list[str]:
    """Provider ids of the lost chargebacks that are (`is_to_be_drawn_anew`), or of whose charge stands aside again what the
    provider had refused to send."""
    aside = Refund.objects.filter(status="failed", unclaimed=True, payment__chargebacks__status="lost", repays=None)
    found: dict[str, None] = {}
    for refund in aside.select_related("payment", "charge").distinct().order_by("id"):
        if ledger.standing(account="2410", key=refund.code):
            rows = Chargeback.objects.filter(charge_id=charge_of(refund=refund), loss_posted_at__isnull=False)
            for row in rows.select_related("payment__booking").order_by("id"):
                if was_refused(refund=refund) or is_to_be_drawn_anew(chargeback=row):
                    found[row.provider_id] = None
    return list(found)


def assert_repayable(*, refund: Refund) -> None:
    """Raises Conflict, saying why and until when, while a card network holds the charge of a refund that stands aside, or has
    given the guest what stood aside of it. What a lost chargeback of less left standing is still theirs."""
    charge_id = charge_of(refund=refund)
    keeping = list(blocking_chargebacks(payment=refund.payment, charge_id=charge_id))
    drawn = all(row.loss_posted_at is not None and not is_to_be_drawn_anew(chargeback=row) for row in keeping)
    ended = all(row.status == "lost" for row in keeping)
    if ended and drawn and not was_refused(refund=refund) and ledger.standing(account="2410", key=refund.code):
        return
    assert_refundable(payment=refund.payment, charge_id=charge_id)


def _posted_loss(chargeback: Chargeback) -> Journal | None:
    if chargeback.loss_posted_at is None:
        return None
    return ledger.journals().filter(reference=chargeback.provider_id, kind=LOSS).first()


def _aside_lines(loss: Journal) -> dict[str, Money]:
    """What a loss took of what stood aside, by refund."""
    return {line.account.key: line.money for line in loss.lines.all() if line.account.code == "2410"}


def _aside_of_loss(chargeback: Chargeback) -> Money:
    """What of the disputed amount a loss that was posted took of what stood aside, in the currency of the charge."""
    posted, none = _posted_loss(chargeback), Money.zero(chargeback.currency)
    taken = _aside_lines(posted) if posted is not None else {}
    rows = Refund.objects.filter(code__in=taken)
    return Money.sum((_in_charge(row, taken[row.code]) for row in rows), none.currency)


def _aside(chargeback: Chargeback, currency: str, back: Mapping[str, Money]) -> tuple[rules.Aside, ...]:
    """What stands aside of refunds of this very charge that came back, in the currency of the settlement, the oldest first."""
    rows = Refund.objects.filter(payment=chargeback.payment, status="failed", unclaimed=True, repays=None)
    found = []
    for row in rows.exclude(provider_id=None).select_related("payment", "charge").order_by("id"):
        came = _came_back(row)
        if came is None or came.currency != currency or charge_of(refund=row) != chargeback.charge_id:
            continue
        amounts = [-each for each in ledger.standing(account="2410", key=row.code) if each.currency == currency]
        standing = Money.sum(amounts, currency) + back.get(row.code, Money.zero(currency))
        if standing.amount > 0:
            found.append(
                rules.Aside(
                    refund=row.code,
                    standing=standing,
                    charged=_in_charge(row, standing),
                    before=came.created <= chargeback.opened_at,
                )
            )
    return tuple(found)


def _came_back(refund: Refund) -> BalanceTransaction | None:
    return BalanceTransaction.objects.filter(
        source_id=refund.provider_id or "-", reporting_category="refund_failure"
    ).first()


def _in_charge(refund: Refund, standing: Money) -> Money:
    """What an amount of those that came back of a refund is of that refund, in the currency of its charge."""
    came, amount = _came_back(refund), Money(refund.amount, refund.currency)
    return amount.share(Fraction(standing.amount, came.amount)) if came is not None else Money.zero(amount.currency)


def _of_charge(chargeback: Chargeback, payment: Payment) -> policies.RefundLimits:
    """What refunds have left of the charge that is disputed: the payment's own, or one that was asked besides."""
    extra = ExtraCharge.objects.filter(charge_id=chargeback.charge_id).select_related("booking").first()
    if extra is None:
        return captured_left(payment=payment)
    if extra.kind == "instalment" or extra.held:  # damage that came too late stands under the booking, for its guest
        return charge_left(charge=extra, payment=payment)
    # Other damage has no parts of a stay: what is lost of it was passed on to the host, or is ours to bear.
    return policies.RefundLimits(
        parts=policies.Parts.none(extra.booking.currency),
        charged=Money(extra.amount, extra.currency),
        of_parts=Money.zero(extra.currency),
    )


def _less(limits: policies.RefundLimits, disputed: Money) -> policies.RefundLimits:
    covered = min(disputed, limits.of_parts)
    taken = policies.pro_rata(remaining=limits.parts, amount=limits.from_charge(amount=covered))
    left = limits.of_parts - covered
    return policies.RefundLimits(parts=limits.parts.minus(taken), charged=left, of_parts=left)


def _in_hand(chargeback: Chargeback, booking: Booking, back: policies.Parts) -> policies.Parts:
    """What of the disputed charge has not been released, as the ledger has it. Stays are released first to last: what later
    instalments brought is still there for what they were paid for, and bears nothing of an earlier charge."""
    this = ExtraCharge.objects.filter(charge_id=chargeback.charge_id).first()
    later = later_left(booking=booking, number=this.number if this is not None else 0)
    return (held_parts(booking=booking) + back).minus(later)


# Work ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What is to be done, as a sentence, and the page of the provider's where; "" where it is done here."""

    sentence: str
    link: str


def deadlines(*, limit: int = 100) -> list[Chargeback]:
    """Chargebacks and inquiries that wait for an answer, the most pressing first."""
    return list(to_answer(rows=chargebacks()).order_by(F("internal_due_at").asc(nulls_last=True), "id")[:limit])


def chargebacks_waiting(*, now: datetime) -> tuple[int, int]:
    """How many wait for an answer, and how many of them are past our own deadline, the provider's included."""
    late = Count("id", filter=Q(internal_due_at__lte=now))
    found = to_answer(rows=Chargeback.objects.all()).aggregate(all=Count("id"), late=late)
    return found["all"], found["late"]


def to_answer(*, rows: QuerySet[Chargeback]) -> QuerySet[Chargeback]:
    """Those that somebody has to answer now, appeals too (`policies.chargebacks.awaits_answer`)."""
    unclaimed = Q(status__in=rules.ANSWERABLE, submitted_at=None, accepted_at=None)
    return rows.filter(unclaimed | Q(status__in=rules.APPEALABLE), closed_at__isnull=True)


def remedy_of(*, chargeback: Chargeback) -> Remedy | None:
    """What is to be done about one that has to be answered, and where where that is not here; None for any other."""
    if not rules.awaits_answer(status=chargeback.status, claimed=_is_claimed(chargeback)):
        return None
    if chargeback.status not in rules.APPEALABLE:
        return Remedy(sentence="Submit the evidence, or accept it.", link="")
    return Remedy(
        sentence="This is an appeal: answer it on the provider’s own pages, which alone take one.", link=chargeback.page
    )


def _is_claimed(chargeback: Chargeback) -> bool:
    return chargeback.submitted_at is not None or chargeback.accepted_at is not None


def chargeback_workers() -> list[tuple[int, str]]:
    """Who may work on chargebacks, id and name, by name."""
    roles = STAFF_VERBS["chargebacks.work"]
    rows = people.staff().filter(roles__role__in=roles, status="active").order_by("name", "id").distinct()
    return [(person.pk, person.name) for person in rows]


def urgency_of(*, chargeback: Chargeback, now: datetime) -> rules.Urgency:
    """How pressing an answer is; one that has been handed in presses no more, an appeal until the provider has it."""
    if not rules.awaits_answer(status=chargeback.status, claimed=_is_claimed(chargeback)):
        return "none"
    return rules.urgency(
        status=chargeback.status, due_by=chargeback.due_by, internal_due_at=chargeback.internal_due_at, now=now
    )


def chargebacks_to_remind(*, now: datetime, limit: int = 100) -> list[Chargeback]:
    """Those whose internal deadline has passed without an answer, and of which nobody was told; not when the provider's has
    too, except for an appeal, which can be answered for as long as the provider says so."""
    in_time = Q(due_by__gt=now) | Q(status__in=rules.APPEALABLE)
    rows = to_answer(rows=chargebacks()).filter(in_time, reminded_at=None, internal_due_at__lte=now)
    return list(rows.order_by("internal_due_at", "id")[:limit])


def chargebacks_to_ask_about(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Provider ids of the open ones that were last asked about before then, the longest ago first."""
    rows = Chargeback.objects.filter(closed_at__isnull=True, seen_at__lt=older_than)
    return jobs.next_of(rows=rows.order_by("seen_at", "id"), key="provider_id", after=after, limit=limit)


def is_news(*, dispute_id: str, status: str) -> bool:
    """Whether we know nothing of a dispute, or know it in another state."""
    return not Chargeback.objects.filter(provider_id=dispute_id, status=status).exists()


def unanswered_claims(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of those that a person submitted or accepted and the provider has not been heard to have: the answer was lost,
    or the process died before or after the call."""
    claimed = Q(submitted_at__lt=older_than) | Q(accepted_at__lt=older_than)
    rows = Chargeback.objects.filter(claimed, closed_at__isnull=True, status__in=rules.ANSWERABLE)
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def unsettled_chargebacks(*, after: str | None = None, limit: int = 100) -> list[str]:
    """Provider ids of chargebacks whose loss is not posted or not reversed."""
    # Lost: whatever was withdrawn and not given back is a loss. Won: no loss stands.
    wanted = Q(status="lost", loss_posted_at__isnull=True, withdrawn__gt=F("reinstated"))
    wanted |= Q(status="won", loss_posted_at__isnull=False)
    rows = Chargeback.objects.filter(wanted).order_by("id")
    return jobs.next_of(rows=rows, key="provider_id", after=after, limit=limit)


def chargebacks_moved_unnoticed(*, now: datetime) -> list[str]:
    """Provider ids of chargebacks whose row does not say yet what the movements of the last days do, these having been
    imported at the very moment at which the row was made, so that neither saw the other. By when they were imported: after an
    outage they are older than that by the provider's clock."""
    moves = [WITHDRAWN, REINSTATED]
    recent = BalanceTransaction.objects.filter(reporting_category__in=moves, imported_at__gte=now - UNNOTICED)
    moved = (
        BalanceTransaction.objects.filter(source_id__in=recent.values("source_id"), reporting_category__in=moves)
        .order_by()
        .values("source_id")
        .annotate(
            withdrawn=Sum("amount", filter=Q(reporting_category=WITHDRAWN), default=0),
            reinstated=Sum("amount", filter=Q(reporting_category=REINSTATED), default=0),
        )
    )
    sums = {row["source_id"]: (-row["withdrawn"], row["reinstated"]) for row in moved}
    rows = Chargeback.objects.filter(provider_id__in=sums).values_list("provider_id", "withdrawn", "reinstated")
    return [name for name, *kept in rows.order_by("id") if tuple(kept) != sums[name]]


# Early fraud warnings ------------------------------------------------------------------------------------------------


def fraud_warnings(*, payment_id: int | None = None) -> QuerySet[FraudWarning]:
    """Issuers' early warnings, of one payment if given, newest first."""
    rows = FraudWarning.objects.select_related("payment__booking").order_by("-id")
    return rows if payment_id is None else rows.filter(payment_id=payment_id)


# The ratio -----------------------------------------------------------------------------------------------------------


def chargeback_ratios(*, month: date) -> list[rules.NetworkRatio]:
    """Chargebacks opened in the calendar month (UTC) that `month` lies in against charges made in it, by card network.

    Inquiries do not count: they are no chargebacks yet. The threshold is the rulebook's of that month."""
    first = datetime(month.year, month.month, 1, tzinfo=UTC)
    following = datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)
    opened = Chargeback.objects.filter(kind="chargeback", opened_at__gte=first, opened_at__lt=following)
    charged = BalanceTransaction.objects.filter(reporting_category="charge", created__gte=first, created__lt=following)
    return rules.network_ratios(
        chargebacks=_by_network(opened),
        charges=_by_network(charged),
        rules=rulebook.chargebacks(on=month).rules,
    )


def _by_network(rows: QuerySet[Chargeback] | QuerySet[BalanceTransaction]) -> dict[str, int]:
    counted = rows.order_by().values("network").annotate(n=Count("id"))
    return {row["network"] or "unknown": row["n"] for row in counted}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargebackFigures:
    """How chargebacks stand, for the first page and the doctor: how many wait for an answer, how many of those are past
    our own deadline, which is the next, and the ratio of this month and the last."""

    waiting: int
    late: int
    next_due: datetime | None
    next_code: str
    open_amounts: tuple[Money, ...]
    ratios: tuple[rules.NetworkRatio, ...]
    standing: str

    @property
    def words(self) -> str:
        """The worst ratio as a sentence; empty while no network warns."""
        worst = next((ratio for ratio in self.ratios if ratio.standing == self.standing), None)
        if worst is None or self.standing == "fine":
            return ""
        count = f"{worst.chargebacks} {'chargeback' if worst.chargebacks == 1 else 'chargebacks'}"
        return (
            f"{worst.network.capitalize()}: {count} of {worst.charges} charges, {worst.percent} % "
            f"against the network’s {worst.threshold_percent} %"
        )


def chargeback_figures(*, now: datetime) -> ChargebackFigures:
    """See ChargebackFigures; a handful of statements over what is open and what two months brought, each on an index."""
    in_all, late = chargebacks_waiting(now=now)
    following = deadlines(limit=1)
    rows = Chargeback.objects.filter(kind="chargeback", closed_at__isnull=True)
    sums = rows.order_by().values("currency").annotate(total=Sum("amount")).order_by("currency")
    this_month = now.date().replace(day=1)
    found = [*chargeback_ratios(month=this_month), *chargeback_ratios(month=this_month - timedelta(days=1))]
    return ChargebackFigures(
        waiting=in_all,
        late=late,
        next_due=following[0].internal_due_at if following else None,
        next_code=following[0].code if following else "",
        open_amounts=tuple(Money(row["total"], row["currency"]) for row in sums),
        ratios=tuple(found),
        standing=rules.worst(found),
    )
