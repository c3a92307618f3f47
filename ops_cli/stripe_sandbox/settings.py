"""What a sandbox is started with."""

from __future__ import annotations

from dataclasses import dataclass, field

from .money import Tariff

# Days from charge to available funds by the account's country: (days, counted in business days only).
PAYOUT_SPEED = {
    "US": (2, True), "AU": (2, True), "GB": (3, True), "DE": (3, True), "FR": (3, True), "NL": (3, True),
    "IE": (3, True), "ES": (3, True), "IT": (3, True), "SG": (4, True), "CA": (3, True), "CH": (3, True),
}  # fmt: skip
SLOWEST = (7, False)


@dataclass(frozen=True)
class Settings:
    """Options of one sandbox; durations in seconds of the virtual clock unless said otherwise."""

    base_url: str
    seed: int = 1
    country: str = "DE"
    platform: str = "acct_1StaydeskSandbox"
    tariff: Tariff = field(default_factory=Tariff)
    # How long a charge stays without balance transaction under capture_method=automatic_async.
    async_seconds: float = 1.0
    # How long an asynchronous refund stays pending, or stays succeeded before it fails.
    refund_seconds: float = 3600.0
    authorisation_days: float = 7.0
    # How long a dispute can be answered; networks give 7 to 21 days.
    dispute_days: float = 14.0
    report_seconds: float = 60.0
    # Requests per wall-clock second that are answered; 0 for any number. Stripe allows 25 with a test key.
    rate_limit: int = 0
    webhook_timeout: float = 10.0  # wall-clock seconds that one delivery may take
    webhook_workers: int = 4
