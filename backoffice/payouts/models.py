"""Money out: hosts' accounts at the provider, what each stay owes them and when, what is kept back, taken back, given up,
and what leaves for a bank."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from backoffice.bookings.models import Booking
from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.core.money import Money
from backoffice.payouts.states import ACCOUNT, BANK_PAYOUT, CLAWBACK, HOLD, HOLD_CAUSES, PAYOUT, SENT, WRITE_OFF

_PERSON = settings.AUTH_USER_MODEL


def new_payout_code() -> str:
    return new_code("PO", 8)


def new_hold_code() -> str:
    return new_code("HD", 8)


def new_clawback_code() -> str:
    return new_code("CW", 8)


def new_write_off_code() -> str:
    return new_code("WO", 8)


def new_bank_payout_code() -> str:
    return new_code("BP", 8)


class HostAccount(models.Model):
    """A host's account at the provider: where transfers go, and whether it may receive and pay out yet."""

    host = models.OneToOneField(_PERSON, on_delete=models.PROTECT, related_name="payout_account")
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="acct_…; empty until it was made")
    status = models.CharField(max_length=12, choices=ACCOUNT.choices, default=ACCOUNT.initial)
    country = models.CharField(max_length=2)
    can_receive = models.BooleanField(default=False, help_text="transfers are possible")
    can_pay_out = models.BooleanField(default=False, help_text="the provider pays out to the host's bank")
    missing = models.JSONField(default=list, help_text="what the provider still asks of the host")
    disabled_reason = models.CharField(max_length=120, blank=True, default="")
    bank_hint = models.CharField(max_length=40, blank=True, default="", help_text="bank and last four digits")
    bank_fingerprint = models.CharField(max_length=80, blank=True, default="")
    bank_changed_at = models.DateTimeField(null=True, help_text="begins the cool-down")
    bank_approved_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()
    asked_at = models.DateTimeField(
        null=True,
        help_text="when the provider was last asked to make it: its country stays until that is answered or lost",
    )
    seen_at = models.DateTimeField(null=True, help_text="when the provider was last asked")
    followed_at = models.DateTimeField(null=True, help_text="its payouts to the bank are known until then")
    looked_at = models.DateTimeField(null=True, help_text="when they were last asked for, answered or not")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [status_check("host_account_status", ACCOUNT.statuses)]
        indexes = [models.Index(name="host_account_newest", fields=["-id", "status"])]

    def __str__(self) -> str:
        return f"account of {self.host_id}"


class Payout(models.Model):
    """What one stay, or one instalment of a long one, owes its host: one release, one transfer.

    The parts are in the booking's currency. Before the release they are what is expected; at the release they are what it
    moved: `weight` is its share of what the booking then still holds. `transfer_amount` of `transfer_currency` is what was
    sent, after `netted` (the same currency) was kept for what the host owed."""

    code = models.CharField(max_length=20, unique=True, default=new_payout_code)
    booking = models.ForeignKey(Booking, on_delete=models.PROTECT, related_name="payouts")
    host = models.ForeignKey(_PERSON, on_delete=models.PROTECT, related_name="payouts")
    number = models.PositiveSmallIntegerField(help_text="1 unless the stay is paid in instalments or was partly held")
    remainder_of = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="remainders")
    status = models.CharField(max_length=12, choices=PAYOUT.choices, default=PAYOUT.initial)
    weight = models.PositiveBigIntegerField(default=1, help_text="price of its nights, in minor units")
    held = minor_units(help_text="the host's share")
    host_fee = minor_units()
    guest_fee = minor_units()
    currency = currency_code()
    due_at = models.DateTimeField(help_text="the release; holds, onboarding and stops may make it later")
    waits_for = models.CharField(max_length=200, blank=True, default="", help_text="why it is not sent though due")
    waits_until = models.DateTimeField(null=True)
    policy = models.CharField(max_length=40, help_text="the label of the rules that set the date")
    netted = minor_units(default=0)
    transfer_amount = minor_units(default=0)
    transfer_currency = currency_code(blank=True, default="")
    rate = models.JSONField(null=True, help_text="the rate of a release that had to convert, with its date")
    source_charge = models.CharField(max_length=80, blank=True, default="", help_text="ch_… the transfer draws on")
    transfer_id = models.CharField(max_length=80, null=True, unique=True, help_text="tr_…")
    tries = models.PositiveSmallIntegerField(
        default=0, help_text="part of the transfer's key: a refused one gets a new"
    )
    failure = models.CharField(max_length=300, blank=True, default="")
    reversed_amount = minor_units(default=0)
    bank_payout = models.ForeignKey("BankPayout", on_delete=models.PROTECT, null=True, related_name="payouts")
    created_at = models.DateTimeField()
    released_at = models.DateTimeField(null=True)
    submitted_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True, help_text="the last refusal; it rests from then on")
    transferred_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("payout_status", PAYOUT.statuses),
            models.UniqueConstraint(name="payout_number_once", fields=["booking", "number"]),
            models.CheckConstraint(
                name="payout_not_negative",
                condition=Q(held__gte=0, host_fee__gte=0, guest_fee__gte=0, netted__gte=0, transfer_amount__gte=0),
            ),
            models.CheckConstraint(
                name="payout_reversed_within",
                condition=Q(reversed_amount__gte=0, reversed_amount__lte=models.F("transfer_amount")),
            ),
            models.CheckConstraint(
                name="payout_transferred_has_id",
                condition=~Q(status__in=["transferred", "paid", "reversed"]) | Q(transfer_id__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="payout_newest", fields=["-id", "status"]),
            models.Index(name="payout_of_host", fields=["host", "-id"]),
            models.Index(
                name="payout_due", fields=["due_at"], condition=Q(status__in=["scheduled", "held", "releasable"])
            ),
            models.Index(name="payout_refused", fields=["due_at"], condition=Q(status="failed")),
            models.Index(name="payout_under_way", fields=["submitted_at"], condition=Q(status="in_transfer")),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def share(self) -> Money:
        """What of it is the host's: of what their stay holds, or what is payable already (damage), in its own currency."""
        if self.weight:
            return Money(self.held, self.currency)
        return Money(self.transfer_amount + self.netted, self.transfer_currency)

    @property
    def sent(self) -> Money | None:
        """What went to the host's account, whatever came back of it later; None while nothing has, and where the provider
        refused it. Zero where all of it was kept for what they owed."""
        if self.status not in (*SENT, "reversed", "netted"):
            return None
        return Money(self.transfer_amount, self.transfer_currency)


class PayoutHold(models.Model):
    """An amount kept from release: why, by whom, until when. Without an amount, all of the booking's unreleased money."""

    code = models.CharField(max_length=20, unique=True, default=new_hold_code)
    booking = models.ForeignKey(Booking, on_delete=models.PROTECT, related_name="payout_holds")
    amount = models.BigIntegerField(null=True, help_text="minor units of the host's share; empty: all of it")
    currency = currency_code()
    cause = models.CharField(max_length=16, choices=[(cause, cause.replace("_", " ")) for cause in HOLD_CAUSES])
    reason = models.TextField()
    request_key = models.CharField(max_length=160, null=True, unique=True, help_text="one key, one hold")
    status = models.CharField(max_length=8, choices=HOLD.choices, default=HOLD.initial)
    owner = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    placed_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    placed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    ended_at = models.DateTimeField(null=True)
    ended_reason = models.CharField(max_length=300, blank=True, default="")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("payout_hold_status", HOLD.statuses),
            status_check("payout_hold_cause", HOLD_CAUSES, "cause"),
            models.CheckConstraint(name="payout_hold_positive", condition=Q(amount__isnull=True) | Q(amount__gt=0)),
            models.CheckConstraint(name="payout_hold_ends", condition=Q(expires_at__gt=models.F("placed_at"))),
        ]
        indexes = [
            models.Index(name="payout_hold_newest", fields=["-id", "status"]),
            models.Index(name="payout_hold_active", fields=["expires_at"], condition=Q(status="active")),
        ]

    def __str__(self) -> str:
        return self.code


class Clawback(models.Model):
    """Money asked back from a host's account at the provider: one reversal of one payout's transfer."""

    code = models.CharField(max_length=20, unique=True, default=new_clawback_code)
    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="clawbacks")
    host = models.ForeignKey(_PERSON, on_delete=models.PROTECT, related_name="+")
    amount = minor_units()
    currency = currency_code()
    status = models.CharField(max_length=16, choices=CLAWBACK.choices, default=CLAWBACK.initial)
    reason = models.TextField()
    tries = models.PositiveSmallIntegerField(default=0, help_text="part of the key: a refused one gets a new")
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="trr_…")
    failure = models.CharField(max_length=300, blank=True, default="")
    requested_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    requested_at = models.DateTimeField()
    submitted_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("clawback_status", CLAWBACK.statuses),
            models.CheckConstraint(name="clawback_positive", condition=Q(amount__gt=0)),
            models.UniqueConstraint(
                name="one_clawback_under_way",
                fields=["payout"],
                condition=Q(status__in=["requested", "submitted", "indeterminate"]),
            ),
        ]
        indexes = [models.Index(name="clawback_newest", fields=["-id", "status"])]

    def __str__(self) -> str:
        return self.code


class WriteOff(models.Model):
    """What a host owes and will not pay, given up by two people."""

    code = models.CharField(max_length=20, unique=True, default=new_write_off_code)
    host = models.ForeignKey(_PERSON, on_delete=models.PROTECT, related_name="+")
    amount = minor_units()
    currency = currency_code()
    status = models.CharField(max_length=10, choices=WRITE_OFF.choices, default=WRITE_OFF.initial)
    reason = models.TextField()
    proposed_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("write_off_status", WRITE_OFF.statuses),
            models.CheckConstraint(name="write_off_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="write_off_by_two",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=models.F("proposed_by")),
            ),
            models.UniqueConstraint(
                name="one_write_off_proposed", fields=["host", "currency"], condition=Q(status="proposed")
            ),
        ]
        indexes = [models.Index(name="write_off_newest", fields=["-id", "status"])]

    def __str__(self) -> str:
        return self.code


class BankPayout(models.Model):
    """The provider's payout to a bank: of a host's account (automatic, by the provider), or of what we earned (a sweep of
    ours, whose lines we keep: the provider itemises automatic ones only)."""

    code = models.CharField(max_length=20, unique=True, default=new_bank_payout_code)
    host = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="bank_payouts")
    account = models.CharField(max_length=80, blank=True, default="", help_text="acct_…; empty: our own")
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="po_…")
    status = models.CharField(max_length=14, choices=BANK_PAYOUT.choices, default=BANK_PAYOUT.initial)
    amount = minor_units()
    currency = currency_code()
    automatic = models.BooleanField(default=False)
    arrival_on = models.DateField(null=True)
    trace = models.CharField(max_length=120, blank=True, default="", help_text="what the bank's statement will name")
    failure = models.CharField(max_length=300, blank=True, default="")
    requested_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    paid_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("bank_payout_status", BANK_PAYOUT.statuses),
            models.UniqueConstraint(
                name="one_sweep_under_way",
                fields=["currency"],
                condition=Q(account="", status__in=["requested", "indeterminate"]),
            ),
        ]
        indexes = [
            models.Index(name="bank_payout_newest", fields=["-id", "status"]),
            models.Index(name="bank_payout_of_account", fields=["account", "-id"]),
        ]

    def __str__(self) -> str:
        return self.code


class BankPayoutLine(models.Model):
    """One movement that a bank payout carried; their sum is its amount, or the payout is a break."""

    bank_payout = models.ForeignKey(BankPayout, on_delete=models.PROTECT, related_name="lines")
    provider_id = models.CharField(max_length=80, help_text="txn_…")
    source_id = models.CharField(max_length=80, blank=True, default="")
    transfer_id = models.CharField(max_length=80, blank=True, default="", help_text="tr_… of ours that brought it")
    reporting_category = models.CharField(max_length=60)
    net = minor_units()
    currency = currency_code()
    created = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="bank_payout_line_once", fields=["bank_payout", "provider_id"]),
        ]
        # Which movements no sweep has carried yet is asked movement by movement.
        indexes = [models.Index(name="bank_payout_line_movement", fields=["provider_id"])]

    def __str__(self) -> str:
        return self.provider_id
