"""Decisions about bookings: what a stay costs, what comes back when it is cancelled, what a host who cancels owes."""

from backoffice.bookings.policies.cancellation import (
    OVERRIDES,
    CancellationDecision,
    CancellationFacts,
    Deadline,
    LineOutcome,
    Override,
    cancellation_deadlines,
    decide_cancellation,
    no_show_window,
)
from backoffice.bookings.policies.penalty import HostPenalty, HostPenaltyFacts, decide_host_penalty
from backoffice.bookings.policies.pricing import (
    NightPrice,
    PriceBreakdown,
    PriceLine,
    PricingFacts,
    TaxLine,
    gross_up,
    percent_of,
    price_stay,
)
from backoffice.bookings.policies.totals import HomeTerms, StayTotals

__all__ = [
    "OVERRIDES",
    "CancellationDecision",
    "CancellationFacts",
    "Deadline",
    "HomeTerms",
    "HostPenalty",
    "HostPenaltyFacts",
    "LineOutcome",
    "NightPrice",
    "Override",
    "PriceBreakdown",
    "PriceLine",
    "PricingFacts",
    "StayTotals",
    "TaxLine",
    "cancellation_deadlines",
    "decide_cancellation",
    "decide_host_penalty",
    "gross_up",
    "no_show_window",
    "percent_of",
    "price_stay",
]
