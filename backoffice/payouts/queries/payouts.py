"""Questions about payouts and their holds: which are due, what each would release, and why it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet, Sum, Value
from django.db.models.functions import Concat

from backoffice.bookings.models import Booking
from backoffice.bookings.policies import PriceBreakdown
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid, NotFound, StaleVersion
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.ledger.models import Balance
from backoffice.payments import queries as payments
from backoffice.payments.models import BalanceTransaction, ExtraCharge
from backoffice.payments.policies import Parts
from backoffice.payouts.models import HostAccount, Payout, PayoutHold
from backoffice.payouts.policies.accounts import Waiting
from backoffice.payouts.policies.release import (
    FUNDS,
    Hold,
    Share,
    WaitFacts,
    all_held,
    hold_hours,
    nettable,
    share,
    too_little,
    why_waits,
)
from backoffice.payouts.policies.timing import StayFacts
from backoffice.payouts.queries.accounts import can_receive
from backoffice.payouts.queries.clawbacks import owed
from backoffice.payouts.states import UNRELEASED
from backoffice.people import policies as people_policies
from backoffice.people import queries as people
from backoffice.rulebook import queries as rulebook

# Stays whose money is owed to their host, or was before they were given up.
OWED_TO_HOSTS: Final = ("confirmed", "checked_in", "completed", "no_show", "cancelled")
HELD_CODES: Final = ("2100", "2110", "2111")
# A call to the provider takes at most its read time-out; what is older than this has been lost.
LOST_AFTER: Final = timedelta(seconds=60)
# A transfer fails within days or not at all: those of so many days are looked at in every run, all others now and then.
COMES_BACK_WITHIN: Final = timedelta(days=14)


def payouts() -> QuerySet[Payout]:
    """Every payout with its booking and host, newest first."""
    return Payout.objects.select_related("booking__listing", "host", "bank_payout", "remainder_of").order_by("-id")


def payouts_of(*, host_id: int) -> QuerySet[Payout]:
    """A host's payouts, newest first."""
    return payouts().filter(host_id=host_id)


def payouts_of_booking(*, booking_id: int) -> QuerySet[Payout]:
    """The payouts of a booking in their order."""
    return payouts().filter(booking_id=booking_id).order_by("number")


def payout(*, code: str, actor: Actor | None = None) -> Payout:
    """One payout; for a host only their own. Raises NotFound."""
    rows = payouts().filter(code=code)
    if actor is not None and actor.kind in {"guest", "host"}:
        rows = rows.filter(host_id=actor.id)
    elif actor is not None:
        actor.must("payouts.view")
    found = rows.first()
    if found is None:
        raise NotFound(kind="payout")
    return found


def holds() -> QuerySet[PayoutHold]:
    """Every hold with its booking and people, newest first."""
    return PayoutHold.objects.select_related("booking__host", "owner", "placed_by", "ended_by").order_by("-id")


def hold(*, code: str) -> PayoutHold:
    """One hold. Raises NotFound."""
    found = holds().filter(code=code).first()
    if found is None:
        raise NotFound(kind="payout hold")
    return found


def holds_expired(*, now: datetime, after: str | None = None, limit: int = 500) -> list[str]:
    """Codes of active holds whose time is up, the oldest first."""
    rows = PayoutHold.objects.filter(status="active", expires_at__lte=now).order_by("expires_at", "id")
    return jobs.next_of(rows=rows, key="code", after=after, limit=limit)


def due(*, now: datetime, limit: int | None = None) -> list[str]:
    """Codes of payouts to look at now, the longest due first: not released though due, or refused and resting."""
    waiting = Q(status__in=UNRELEASED, due_at__lte=now) | Q(status="failed")
    rows = Payout.objects.filter(waiting).order_by("due_at", "id").values_list("code", flat=True)
    return list(rows if limit is None else rows[:limit])


def to_release(*, now: datetime, limit: int | None = None) -> list[str]:
    """Of what is due, what may have stopped waiting since it was last looked at: a run every minute passes over payouts whose
    host still cannot receive, and over what a hold keeps until an instant that has not come."""
    ready = HostAccount.objects.filter(host=OuterRef("host"), provider_id__isnull=False, can_receive=True)
    kept = Q(status="held", waits_until__gt=now)
    waiting = Q(status__in=UNRELEASED, due_at__lte=now) & ~kept & (Q(waits_for="") | Exists(ready))
    rows = Payout.objects.filter(waiting | Q(status="failed")).order_by("due_at", "id")
    codes = rows.values_list("code", flat=True)
    return list(codes if limit is None else codes[:limit])


def unscheduled(*, after: str | None = None, limit: int = 500) -> list[str]:
    """Codes of bookings that hold money for which no payout is planned: confirmed before payouts were, or given back money
    by a refund that was refused after the release."""
    held = Balance.objects.filter(
        account__code__in=HELD_CODES,
        account__key=OuterRef("code"),
        balance__lt=0,
        account__currency=OuterRef("currency"),
    )
    planned = Payout.objects.filter(booking=OuterRef("pk"), status__in=UNRELEASED, weight__gt=0)
    back = payments.waiting_by_rule().filter(payment__booking=OuterRef("pk"))  # the guest's, once a chargeback is over
    asked = payments.asked_back().filter(payment__booking=OuterRef("pk"))
    rows = Booking.objects.filter(Exists(held), ~Exists(planned), ~Exists(back), status__in=OWED_TO_HOSTS)
    rows = rows.exclude(Exists(asked), status="cancelled")  # planned once that is decided
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def damage_label(*, charge_code: str) -> str:
    """What stands on the payout of damage money in place of the rules of a release date."""
    return f"damage {charge_code}"


def damages_to_pay(*, after: str | None = None, limit: int = 200) -> list[str]:
    """Codes of damage charges whose money became the host's and has no payout yet."""
    label = Concat(Value("damage "), OuterRef("code"))
    paid = Payout.objects.filter(booking=OuterRef("booking"), policy=label)
    rows = ExtraCharge.objects.filter(~Exists(paid), kind="damage", released_at__isnull=False).order_by("id")
    return jobs.next_of(rows=rows, key="code", after=after, limit=limit)


def transfers_lost(*, now: datetime, after: str | None = None, limit: int = 200) -> list[str]:
    """Codes of payouts that were claimed for sending a while ago and whose answer never came."""
    rows = Payout.objects.filter(status="in_transfer", submitted_at__lt=now - LOST_AFTER).order_by("submitted_at", "id")
    return jobs.next_of(rows=rows, key="code", after=after, limit=limit)


def transfers_come_back(*, now: datetime, ever: bool = False, limit: int = 200) -> list[tuple[str, str]]:
    """Payouts (code) whose transfer (`tr_…`) the provider has failed after all: the money is ours again. Of those that were
    sent within COMES_BACK_WITHIN, or `ever`, since the provider may take longer and a desk may be down; then of hosts alone to
    whom something is payable (2200), which what came back is."""
    failed = BalanceTransaction.objects.filter(
        source_id=OuterRef("transfer_id"),
        reporting_category="transfer_reversal",
        type__in=["transfer_failure", "transfer_cancel"],
    )
    payable = Balance.objects.filter(account__code="2200", balance__lt=0).values("account__key")
    near = Q(host__code__in=payable) if ever else Q(transferred_at__gt=now - COMES_BACK_WITHIN)
    rows = Payout.objects.filter(near, Exists(failed), status__in=["transferred", "paid"])
    return [(code, transfer or "") for code, transfer in rows.order_by("id").values_list("code", "transfer_id")[:limit]]


def transfer_key(*, payout: Payout) -> str:
    """What a transfer is asked for and posted under; a try after a refusal is another request."""
    return f"transfer:{payout.code}:{payout.tries}"


def host_since(*, booking: Booking) -> datetime:
    """When the first booking of its host was confirmed."""
    rows = Booking.objects.filter(host_id=booking.host_id, confirmed_at__isnull=False)
    first: datetime | None = rows.aggregate(first=Min("confirmed_at"))["first"]
    return first or booking.confirmed_at or booking.created_at


def stay_facts(*, booking: Booking) -> StayFacts:
    """What the dates of a booking's payouts depend on, as it was promised."""
    price = PriceBreakdown.from_dict(booking.price)
    return StayFacts(
        check_in_at=booking.check_in_at,
        nights=tuple(night.net for night in price.nights),
        host_since=host_since(booking=booking),
    )


def active_holds(*, booking_id: int) -> list[Hold]:
    """What keeps money of a booking back now, first placed first."""
    rows = PayoutHold.objects.filter(booking_id=booking_id, status="active").order_by("id")
    return [
        Hold(
            code=row.code,
            amount=None if row.amount is None else Money(row.amount, row.currency),
            until=row.expires_at,
        )
        for row in rows
    ]


def hold_limit(*, actor: Actor, now: datetime) -> int | None:
    """For how many hours the actor may hold money back; None: as long as they like, 0: not at all."""
    if actor.kind == "system":
        return None
    if not actor.may("payouts.hold") or actor.id is None:
        return 0
    limits = rulebook.role_limits(on=now.date()).rules
    roles = set(people.roles_of(person_id=actor.id)) & people_policies.STAFF_VERBS["payouts.hold"]
    return hold_hours(limits=[limits.of(role).payout_hold_hours for role in sorted(roles)])


def extension_limit(*, hold: PayoutHold, actor: Actor, now: datetime) -> int | None:
    """For how many hours from now the actor may extend a hold, the time it has stood already being part of what their role
    may; None: as long as they like, 0: not at all."""
    limit = hold_limit(actor=actor, now=now)
    if limit is None:
        return None
    return max(0, (hold.placed_at + timedelta(hours=limit) - now) // timedelta(hours=1))


def share_of(*, payout: Payout, now: datetime, unreleased: Sequence[Payout] | None = None) -> Share:
    """What of the booking's money this payout would release now, in the booking's currency, and what a hold keeps. What is
    payable already (damage money) is released whole, in its own currency. Raises StaleVersion where it was released."""
    if payout.weight == 0 and payout.status in UNRELEASED:
        due = Money(payout.transfer_amount, payout.transfer_currency)
        return Share(
            released=Parts.of(currency=due.currency, amounts={"held": due.amount}), kept=Parts.none(due.currency)
        )
    rows = list(unreleased) if unreleased is not None else _unreleased(payout)
    position = next((index for index, row in enumerate(rows) if row.pk == payout.pk), None)
    if position is None:
        raise StaleVersion(kind="payout")  # a run has released it since it was read
    return share(
        held=payments.releasable_parts(booking=payout.booking),
        to_come=payments.parts_to_come(booking=payout.booking),
        weights=[row.weight for row in rows],
        position=position,
        holds=active_holds(booking_id=payout.booking_id),
        overdue=payments.instalment_overdue(booking=payout.booking, now=now),
    )


def stop_of_payouts() -> str:
    """Why payouts are stopped; "" while they are not."""
    stop = jobs.stops().filter(scope="payouts").first()
    return stop.reason if stop is not None else ""


def draws_on_balance(*, payout: Payout) -> bool:
    """Whether what is payable already draws on no charge (money that is owed back), but on what the provider holds
    available for us."""
    return (payout.weight == 0 and not payout.source_charge) and payout.status in {*UNRELEASED, "failed"}


def waits(*, payout: Payout, now: datetime, available: Mapping[str, Money] | None = None) -> Waiting | None:
    """Why this payout is not sent now; None when it can be. Every release asks it, with what the provider holds `available`
    where the payout draws on that; without it, what the last run found of it holds.

    What is payable already (a refused transfer, damage money) is no part of what the booking holds: a hold of all of it is
    told here. What holds keep of the rest is a matter of its share (`share_of`)."""
    payment = payments.payment_of(booking=payout.booking)
    disputed = payments.why_payout_waits(payment_id=payment.pk) if payment is not None else None
    payable = payout.status == "failed" or payout.weight == 0
    facts = WaitFacts(
        due_at=payout.due_at,
        stopped=stop_of_payouts(),
        held=all_held(holds=active_holds(booking_id=payout.booking_id)) if payable else None,
        disputed=Waiting(sentence=disputed[0], until=disputed[1]) if disputed is not None else None,
        account=can_receive(host_id=payout.host_id, now=now),
        settled=_settled(payout),
        failed_at=payout.failed_at if payout.status == "failed" else None,
        failure=payout.failure,
        short=draws_on_balance(payout=payout) and _short(payout, available),
    )
    return why_waits(facts=facts, rules=rulebook.payouts(on=now.date()).rules, now=now)


def _short(payout: Payout, available: Mapping[str, Money] | None) -> bool:
    if available is None:
        return payout.waits_for == FUNDS
    amount = Money(payout.transfer_amount, payout.transfer_currency)
    left = amount - nettable(payable=amount, owed=owed(host_code=payout.host.code, currency=amount.currency))
    return left > available.get(amount.currency, Money.zero(amount.currency))


def why_not_all(*, payout: Payout, part: Share, now: datetime) -> Waiting | None:
    """Why a release would send nothing of this payout now, or not all of it (`part` is its share); None when all of it."""
    return _why_nothing(payout, part, now) or part.waits


def _why_nothing(payout: Payout, part: Share, now: datetime) -> Waiting | None:
    waiting = waits(payout=payout, now=now)
    if waiting is None and part.released.held and payout.weight:
        waiting = _too_little(payout, part.released.held, now)
    return waiting


def charges_left(*, booking: Booking) -> list[tuple[str, Money]]:
    """Of each charge of a booking, what no transfer has taken yet, in the currency it was settled in."""
    taken = Payout.objects.filter(booking=booking, status__in=["in_transfer", "transferred", "paid", "reversed"])
    sums = {
        charge: int(sent) - int(back)
        for charge, sent, back in taken.values_list("source_charge")
        .annotate(went=Sum("transfer_amount"), came_back=Sum("reversed_amount"))
        .order_by()
    }
    return [
        (source.charge, source.settled - Money(sums.get(source.charge, 0), source.settled.currency))
        for source in payments.sources(booking=booking)
        if source.settled is not None
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One line of the plan: what a run at this instant would do with a payout. `amount` is what it would release of the host's
    share (the booking's currency, before netting), or where a hold keeps all of it, what waits; `waits` says why nothing is
    sent, or why not all of it, and `sends` whether anything is."""

    payout: str
    booking: str
    host: str
    status: str
    amount: Money
    due_at: datetime
    waits: Waiting | None
    sends: bool


def plan(*, now: datetime, limit: int | None = None, codes: Sequence[str] | None = None) -> list[Planned]:
    """What a run would do now, the longest due first; nothing is changed. With `codes` what it would do with these, due or
    not, as far as anything of them is left to send."""
    found = []
    left = Payout.objects.filter(code__in=codes or (), status__in=[*UNRELEASED, "failed"]).order_by("due_at", "id")
    for code in due(now=now, limit=limit) if codes is None else left.values_list("code", flat=True):
        row = payout(code=code)
        if row.status == "failed" or row.weight == 0:
            amount, reason = Money(row.transfer_amount, row.transfer_currency), waits(payout=row, now=now)
            sends = reason is None
        else:
            try:
                part = share_of(payout=row, now=now)
            except StaleVersion:  # a run beside us has just released it
                continue
            amount = part.released.held or part.kept.held
            nothing = _why_nothing(row, part, now)
            reason, sends = nothing or part.waits, nothing is None and not (part.waits and not part.released.held)
        found.append(
            Planned(
                payout=row.code,
                booking=row.booking.code,
                host=row.host.code,
                status=row.status,
                amount=amount,
                due_at=row.due_at,
                waits=reason,
                sends=sends,
            )
        )
    return found


def counts(*, now: datetime) -> dict[str, int]:
    """How many payouts are due, wait although they are due, are under way, and were refused."""
    # Each by an index of its own that holds nothing else: nearly every payout was sent long ago.
    sums: dict[str, int] = Payout.objects.filter(status__in=UNRELEASED, due_at__lte=now).aggregate(
        due=Count("pk"), waiting=Count("pk", filter=~Q(waits_for=""))
    )
    return {**sums, **{status: Payout.objects.filter(status=status).count() for status in ("in_transfer", "failed")}}


def _too_little(payout: Payout, promised: Money, now: datetime) -> Waiting | None:
    """Why an amount waits that a release would find too small: in the currency that is sent, which is that of the charge's
    settlement, less what the host owes in it."""
    try:
        amount = _as_sent(payout, promised, now)
    except Invalid:
        return Waiting(sentence=f"There is no exchange rate for {promised.currency} to send it at.")
    left = amount - nettable(payable=amount, owed=owed(host_code=payout.host.code, currency=amount.currency))
    if not left:
        return None
    return too_little(amount=left, due_at=payout.due_at, rules=rulebook.payouts(on=now.date()).rules, now=now)


def _as_sent(payout: Payout, promised: Money, now: datetime) -> Money:
    """What a release at this instant would make of what was promised. Raises Invalid for a currency without a rate."""
    payment = payments.payment_of(booking=payout.booking)
    settled = payments.settlement_currency(payment=payment) if payment is not None else promised.currency
    return rulebook.rate(base=promised.currency, quote=settled, on=now.date()).convert(promised)


def _settled(payout: Payout) -> bool:
    """Whether the provider has settled all that the payout comes of; damage money comes of a charge of its own."""
    sources = payments.sources(booking=payout.booking)
    own = payout.source_charge if payout.weight == 0 else ""
    return (
        bool(sources)
        and all(source.settled is not None for source in sources)
        and (not own or payments.settled_of(charge=own) is not None)
    )


def _unreleased(payout: Payout) -> list[Payout]:
    return list(Payout.objects.filter(booking_id=payout.booking_id, status__in=UNRELEASED, weight__gt=0).order_by("id"))
