"""What happened to a thing, told from the log, the money and the messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import Q
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from backoffice.audit.models import AuditEntry
from backoffice.console import cells
from backoffice.console.door import Desk
from backoffice.console.page import Change, Happening, Timeline
from backoffice.core.money import Money
from backoffice.notifications.models import OutboxMessage
from backoffice.people.models import User

_ICONS: Final = {
    "bookings": "luggage",
    "payments": "credit_card",
    "refunds": "undo",
    "payouts": "outgoing_mail",
    "stops": "front_hand",
    "listings": "cottage",
    "people": "person",
    "webhooks": "inbox",
    "chargebacks": "gavel",
    "charges": "add_card",
}
_MOST: Final = 60


def audit_entries(things: Iterable[tuple[str, str]]) -> list[AuditEntry]:
    """The newest entries about any of `things`, each a kind with an id."""
    wanted = Q(pk__in=[])
    for kind, name in things:
        wanted |= Q(object_kind=kind, object_id=name)
    return list(AuditEntry.objects.filter(wanted).defer("canonical", "leaf").order_by("-seq")[:_MOST])


def audit_panel(things: Sequence[tuple[str, str]], desk: Desk, title: str = "What happened") -> Timeline:
    """The log of some things as a timeline; a person who may read the log is led to each entry."""
    return Timeline(title=title, happenings=happenings(audit_entries(things), desk))


def happenings(entries: Sequence[AuditEntry], desk: Desk) -> list[Happening]:
    """Audit entries as happenings. Guests and hosts are in the log by id only; their names are looked up here."""
    names = names_of(entry.actor_id for entry in entries if entry.actor_id is not None)
    leads = desk.actor.may("audit.view")
    return [
        Happening(
            at=entry.at,
            kind=entry.verb.partition(".")[0],
            what=sentence(entry),
            who=who(entry, names),
            why=entry.reason,
            icon=_ICONS.get(entry.verb.partition(".")[0], "history"),
            href=cells.address_of(entry) if leads else "",
        )
        for entry in entries
    ]


def names_of(ids: Iterable[int]) -> dict[int, str]:
    return dict(User.objects.filter(id__in=set(ids)).values_list("id", "name"))


def who(entry: AuditEntry, names: dict[int, str]) -> str:
    """Who acted: a person by name, a process by its own."""
    if entry.actor_id is not None:
        name = names.get(entry.actor_id, entry.actor_name or f"person {entry.actor_id}")
        return f"{name} ({entry.actor_kind})"
    return f"{entry.actor_name or entry.actor_kind} ({entry.actor_kind})" if entry.actor_name else entry.actor_kind


# How an act reads once it is done; a verb that is not here is shown as it is named.
_DONE: Final = {
    "bookings.quote": "Quote {} given",
    "bookings.create": "Booking {} made",
    "bookings.confirm": "Booking {} confirmed",
    "bookings.confirm_late": "Booking {} confirmed by a late payment",
    "bookings.expire": "Booking {} expired unpaid",
    "bookings.cancel": "Booking {} cancelled",
    "bookings.check_in": "Stay {} began",
    "bookings.complete": "Stay {} ended",
    "bookings.mark_no_show": "Booking {} marked as a no-show",
    "bookings.penalise_host": "Host’s penalty booked for {}",
    "bookings.recoup": "What we had given the guest of {} came back to us",
    "payments.attempt": "Payment {} tried",
    "payments.capture": "Payment {} captured",
    "payments.decline": "Payment {} declined",
    "payments.ask_guest": "Payment {} asks the guest’s bank",
    "payments.cancel": "Payment {} cancelled",
    "refunds.request": "Refund {} asked for",
    "refunds.repay": "Refund {} asked for another way",
    "refunds.approve": "Refund {} approved",
    "refunds.reject": "Refund {} rejected",
    "refunds.cancel": "Refund {} taken back",
    "refunds.submit": "Refund {} sent",
    "refunds.succeed": "Refund {} reached the guest",
    "refunds.fail": "Refund {} failed",
    "refunds.bring_back": "Refund {} came back to our bank less a fee",
    "refunds.hold_again": "Refund {} waits for a card network",
    "charges.schedule": "Charge {} planned",
    "charges.request": "Charge {} asked for",
    "charges.approve": "Charge {} approved",
    "charges.reject": "Charge {} rejected",
    "charges.submit": "Charge {} tried",
    "charges.lose_sight": "Charge {} not answered",
    "charges.ask_guest": "Charge {} asks the guest’s bank",
    "charges.capture": "Charge {} paid",
    "charges.fail": "Charge {} declined",
    "charges.cover": "Charge {} borne by us",
    "charges.cancel": "Charge {} not asked for any more",
    "charges.lapse": "Charge {} lapsed",
    "breaks.accept": "Break {} accepted for a while",
    "breaks.propose": "Write-off of break {} proposed",
    "breaks.reject": "Write-off of break {} refused",
    "breaks.write_off": "Break {} written off",
    "breaks.propose_anew": "Posting anew of break {} proposed",
    "breaks.reject_anew": "Posting anew of break {} refused",
    "breaks.post_anew": "Movement of break {} posted anew",
    "breaks.confirm_match": "Matches of break {} confirmed",
    "breaks.reject_match": "Matches of break {} rejected",
    "breaks.decide_match": "Match {} with the bank decided",
    "reconciliation.import_statement": "Statement {} imported",
    "payouts.schedule": "Payout {} planned",
    "payouts.reschedule": "Payout {} given another date",
    "payouts.hold": "Payout {} held",
    "payouts.lift": "Payout {} no longer held",
    "payouts.ripen": "Payout {} ready",
    "payouts.set_aside": "Payout {} set aside by a hold",
    "payouts.send": "Transfer of {} asked for",
    "payouts.transfer": "Payout {} transferred",
    "payouts.pay": "Payout {} reached the bank",
    "payouts.return_from_bank": "Payout {} came back from the bank",
    "payouts.fail": "Transfer of {} refused",
    "payouts.reverse": "Payout {} taken back",
    "payouts.net": "Payout {} kept for what the host owes",
    "payouts.void": "Payout {} void: nothing is owed",
    "payouts.hold.place": "Hold {} placed",
    "payouts.hold.extend": "Hold {} extended",
    "payouts.hold.lift": "Hold {} lifted",
    "payouts.hold.expire": "Hold {} ended by itself",
    "payouts.account.begin": "Payouts of {} begun to be set up",
    "payouts.account.see": "The provider’s account of {} looked at",
    "payouts.account.approve_bank": "New bank details of {} approved",
    "payouts.clawback.request": "Clawback {} asked for",
    "payouts.clawback.submit": "Clawback {} sent",
    "payouts.clawback.lose_sight": "Answer to clawback {} lost",
    "payouts.clawback.succeed": "Clawback {} carried out",
    "payouts.clawback.fail": "Clawback {} refused",
    "payouts.write_off.propose": "Write-off {} proposed",
    "payouts.write_off.approve": "Write-off {} approved",
    "payouts.write_off.reject": "Write-off {} rejected",
    "payouts.sweep.request": "Sweep {} asked for",
    "payouts.bank_payout.see": "Bank payout {} looked at",
    "payouts.bank_payout.wait": "Bank payout {} waits at the provider",
    "payouts.bank_payout.travel": "Bank payout {} is on its way",
    "payouts.bank_payout.pay": "Bank payout {} paid",
    "payouts.bank_payout.fail": "Bank payout {} failed",
    "payouts.bank_payout.cancel": "Bank payout {} cancelled",
    "stops.stop": "All {} stopped",
    "stops.resume": "All {} let go on",
    "listings.create": "Home {} begun",
    "listings.edit": "Home {} edited",
    "listings.submit": "Home {} handed in for review",
    "listings.publish": "Home {} published",
    "listings.send_back": "Home {} sent back to its host",
    "listings.pause": "Home {} paused",
    "listings.resume": "Home {} resumed",
    "listings.remove": "Home {} removed",
    "people.register": "{} registered",
    "people.suspend": "{} suspended",
    "people.reinstate": "{} reinstated",
    "people.grant_role": "{} given a role",
    "webhooks.replay": "Webhook {} replayed",
    "chargebacks.open": "Dispute {} came from the card network",
    "chargebacks.escalate": "Inquiry {} became a chargeback",
    "chargebacks.move": "Chargeback {} moved on at the network",
    "chargebacks.close": "Chargeback {} was closed",
    "chargebacks.stage": "Evidence for {} written",
    "chargebacks.upload": "A file added to the evidence for {}",
    "chargebacks.submit": "Evidence for {} submitted",
    "chargebacks.submit_refused": "The provider refused the evidence for {}",
    "chargebacks.accept": "Chargeback {} given up",
    "chargebacks.accept_refused": "The provider refused to close {}",
    "chargebacks.own": "Chargeback {} given an owner",
    "chargebacks.note": "Chargeback {} noted on",
    "chargebacks.bear": "Who bears a loss of {} decided",
    "chargebacks.post_loss": "Loss of {} posted",
    "chargebacks.reverse_loss": "Loss of {} reversed",
    "breaks.take": "Break {} taken",
    "breaks.note": "Break {} noted on",
    "breaks.resolve": "Break {} resolved",
    "reconciliation.run": "Reconciliation run {} begun",
}


def sentence(entry: AuditEntry) -> str:
    """What was done, in words: "Booking BK-7QF3K2 confirmed, awaiting payment → confirmed"."""
    done = _DONE.get(entry.verb)
    if done is None:
        room, _, act = entry.verb.partition(".")
        done = f"{cells.words(room).capitalize()}: {cells.words(act)} {{}}"
    return done.format(entry.object_id) + _step(entry.before, entry.after)


def _step(before: Any, after: Any) -> str:
    old = before.get("status") if isinstance(before, dict) else None
    new = after.get("status") if isinstance(after, dict) else None
    if old and new and old != new:
        return f", {cells.words(old)} → {cells.words(new)}"
    if isinstance(after, dict) and isinstance(after.get("amount"), int) and isinstance(after.get("currency"), str):
        return f", {Money(after['amount'], after['currency'])}"
    return ""


# What the log calls a thing -> the admin whose page shows it.
_PLACES: Final = {
    "booking": "bookings_booking",
    "break": "reconciliation_break",
    "charge": "payments_extracharge",
    "chargeback": "payments_chargeback",
    "listing": "listings_listing",
    "payment": "payments_payment",
    "person": "people_user",
    "payout": "payouts_payout",
    "payout_hold": "payouts_payouthold",
    "host_account": "payouts_hostaccount",
    "clawback": "payouts_clawback",
    "write_off": "payouts_writeoff",
    "bank_payout": "payouts_bankpayout",
    "stop": "jobs_stop",
    "refund": "payments_refund",
    "webhook": "payments_webhookevent",
}


def about(entry: AuditEntry) -> SafeString:
    """What an entry is about, leading to its page where it has one."""
    place = _PLACES.get(entry.object_kind)
    if place is None:
        return format_html("{} {}", cells.words(entry.object_kind), entry.object_id)
    address = reverse(f"admin:{place}_change", args=[entry.object_id])
    kind = cells.words(entry.object_kind)
    return format_html('{} <a class="sd-link sd-nobreak" href="{}">{}</a>', kind, address, entry.object_id)


def changes(entry: AuditEntry) -> list[Change]:
    """The fields of an entry before and after, in order of name."""
    before = entry.before if isinstance(entry.before, dict) else {}
    after = entry.after if isinstance(entry.after, dict) else {}
    fields = sorted(before.keys() | after.keys())
    return [Change(cells.words(name), _value(before, name), _value(after, name)) for name in fields]


def _value(facts: dict[str, Any], name: str) -> Any:
    if name not in facts:
        return cells.NONE
    value = facts[name]
    if isinstance(value, dict) and value.get("changed") is True and "digest" in value:
        return cells.two("personal, not kept", f"digest {str(value['digest'])[:12]}…")
    if value is None or value == "":
        return cells.NONE
    if isinstance(value, bool):
        return cells.yes_no(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or cells.NONE
    return value


def latest(happenings: Iterable[Happening]) -> list[Happening]:
    """Newest first; what happened at the same instant keeps its order."""
    return sorted(happenings, key=_at, reverse=True)


def _at(happening: Happening) -> datetime:
    return happening.at


def messages(*, code: str, people: Sequence[int], since: datetime) -> list[Happening]:
    """The e-mails and notices to some people that speak of a booking: a message knows its recipient, not its subject."""
    rows = OutboxMessage.objects.filter(recipient_id__in=people, created_at__gte=since, body__contains=code)
    names = names_of(people)
    return [
        Happening(
            at=row.sent_at or row.created_at,
            kind="messages",
            what=row.subject or cells.words(row.topic),
            who=f"to {names.get(row.recipient_id or 0, 'somebody')}"
            + ("" if row.status == "sent" else f", {cells.words(row.status)}"),
            icon="mail",
            href=cells.address_of(row),
        )
        for row in rows.order_by("-id")[:_MOST]
    ]
