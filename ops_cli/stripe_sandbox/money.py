"""Currencies, minimum charges, fees and conversion. Whole minor units throughout; rounding is half up.

The percentages are defaults for a demo, not Stripe's price list: give your contract's with ``--fee``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from .errors import ApiError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ZERO_DECIMAL = _words("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf")
THREE_DECIMAL = _words("bhd jod kwd omr tnd")
# Sent with two decimals for historical reasons, though the currency has none: the last two digits must be 0.
WHOLE_UNITS_ONLY = _words("isk ugx")
_TWO_DECIMAL = _words(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc "
    "cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr jmd kes kgs khr kyd "
    "kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php "
    "pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah usd uyu uzs "
    "wst xcd yer zar zmw"
)
CURRENCIES = ZERO_DECIMAL | THREE_DECIMAL | WHOLE_UNITS_ONLY | _TWO_DECIMAL
# Smallest charge by settlement currency, minor units (Stripe's documentation, currencies).
MINIMUM = {
    "eur": 50, "usd": 50, "gbp": 30, "sgd": 50, "cad": 50, "chf": 50, "aud": 50, "jpy": 50, "sek": 300, "dkk": 250,
    "nok": 300, "pln": 200, "czk": 1500, "huf": 17500, "hkd": 400, "mxn": 1000, "nzd": 50, "ron": 200, "bgn": 100,
    "aed": 200, "brl": 50, "inr": 50, "myr": 200, "thb": 1000,
}  # fmt: skip
SETTLED_NATIVELY = ("eur", "usd", "gbp", "sgd", "cad", "chf")

# Units of the currency for one euro, from a date on. Two dates each, so that a refund can meet another rate than its
# charge did. Near the market's, as a provider's are, or conversions would look wrong: add yours through /_sim/rates.
_PER_EUR = {
    "usd": ("1.0850", "1.1420"), "gbp": ("0.8460", "0.8655"), "sgd": ("1.4530", "1.5030"), "cad": ("1.4810", "1.5760"),
    "chf": ("0.9510", "0.9380"), "jpy": ("163.20", "171.05"), "aud": ("1.6480", "1.6060"), "nzd": ("1.8040", "1.9560"),
    "sek": ("11.380", "11.020"), "nok": ("11.720", "10.420"), "dkk": ("7.4590", "7.4680"), "pln": ("4.2850", "4.4420"),
    "czk": ("25.120", "24.430"), "huf": ("395.40", "370.10"), "ron": ("4.9750", "5.3120"), "bgn": ("1.9558", "1.9558"),
    "hkd": ("8.4510", "8.8730"), "krw": ("1482.0", "1505.0"), "inr": ("91.150", "105.30"), "thb": ("37.050", "37.420"),
    "myr": ("4.8120", "4.5710"), "idr": ("17240", "20150"), "php": ("62.310", "70.650"), "twd": ("34.980", "35.210"),
    "mxn": ("21.480", "21.290"), "brl": ("6.1230", "6.2180"), "zar": ("19.760", "18.830"), "try": ("38.470", "55.300"),
    "ils": ("3.9740", "3.5240"), "aed": ("3.9840", "4.1930"), "kwd": ("0.3335", "0.3498"), "bhd": ("0.4090", "0.4305"),
    "isk": ("150.10", "137.30"), "ugx": ("3980", "4105"), "clp": ("1022.0", "1104.0"), "vnd": ("27240", "30050"),
    "jod": ("0.7690", "0.8095"), "omr": ("0.4175", "0.4396"), "tnd": ("3.3580", "3.3910"), "cny": ("7.7920", "7.4970"),
}  # fmt: skip
_RATE_DATES = ("2020-01-01", "2026-07-01")


@dataclass(frozen=True)
class Fee:
    """A processing fee: basis points of the settled amount, and a fixed part in minor units of its currency."""

    basis_points: int
    fixed: int

    def on(self, amount: int) -> int:
        """The fee on ``amount`` minor units, half up."""
        return half_up(Fraction(amount * self.basis_points, 10_000)) + self.fixed


@dataclass(frozen=True)
class DisputeFee:
    """What a chargeback costs, minor units: for receiving it (never returned) and for answering it (returned if won)."""

    received: int
    countered: int


@dataclass(frozen=True)
class Tariff:
    """What processing costs and which currencies settle without conversion."""

    fees: dict[str, Fee] = field(default_factory=dict)
    standard: Fee = Fee(150, 25)
    native: tuple[str, ...] = SETTLED_NATIVELY
    dispute_fees: dict[str, DisputeFee] = field(default_factory=dict)
    standard_dispute: DisputeFee = DisputeFee(2000, 2000)

    def dispute_fee(self, currency: str) -> DisputeFee:
        """What a chargeback costs in a settlement currency."""
        return self.dispute_fees.get(currency, self.standard_dispute)

    def fee(self, amount: int, currency: str) -> int:
        """The processing fee on a settled amount."""
        return self.fees.get(currency, self.standard).on(amount)

    def settlement(self, currency: str) -> str:
        """The currency in which a charge made in ``currency`` reaches the balance."""
        return currency if currency in self.native else self.native[0]


class Rates:
    """Dated exchange rates: a rate holds from its date until the next one of that currency."""

    def __init__(self) -> None:
        self._table: dict[str, dict[str, Fraction]] = {
            currency: dict(zip(_RATE_DATES, map(Fraction, pair), strict=True)) for currency, pair in _PER_EUR.items()
        }

    def add(self, currency: str, date: str, per_eur: str) -> None:
        """Set how many units of ``currency`` one euro buys from ``date`` (ISO) on."""
        self._table.setdefault(currency, {})[date] = Fraction(per_eur)

    def between(self, source: str, target: str, at: float) -> Fraction:
        """Units of ``target`` for one unit of ``source``; ApiError 400 for a currency without a rate."""
        return self._per_eur(target, at) / self._per_eur(source, at)

    def _per_eur(self, currency: str, at: float) -> Fraction:
        if currency == "eur":
            return Fraction(1)
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        known = [date for date in self._table.get(currency, {}) if date <= day]
        if not known:
            raise ApiError(
                400,
                f"The sandbox has no exchange rate for {currency} on {day}; add one at /_sim/rates.",
                code="currency_not_supported",
                param="currency",
            )
        return self._table[currency][max(known)]


def half_up(value: Fraction) -> int:
    """The nearest whole number; a half goes away from zero."""
    size = abs(value)
    whole = (2 * size.numerator + size.denominator) // (2 * size.denominator)
    return whole if value >= 0 else -whole


def decimals(currency: str) -> int:
    """How many decimals the API's minor unit of ``currency`` has."""
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def convert(amount: int, source: str, target: str, rate: Fraction) -> int:
    """``amount`` minor units of ``source`` in minor units of ``target``; ``rate`` is between major units."""
    scale = Fraction(10 ** decimals(target), 10 ** decimals(source))
    return half_up(amount * rate * scale)


def shown(amount: int, currency: str) -> str:
    """An amount as Stripe's sentences spell it: ``€0.50``, ``¥50``, ``12.00 SEK``."""
    places = decimals(currency)
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole:,}.{part:0{places}d}" if places else f"{whole:,}"
    sign = "-" if amount < 0 else ""
    symbol = {"eur": "€", "usd": "$", "gbp": "£", "jpy": "¥"}.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency.upper()}"


def read_currency(code: str) -> str:
    """The lower-case currency code; ApiError 400 for one Stripe does not know."""
    currency = code.lower()
    if currency not in CURRENCIES:
        raise ApiError(
            400,
            f"Invalid currency: {code}. Stripe currently supports these currencies: {', '.join(sorted(CURRENCIES))}",
            param="currency",
        )
    return currency


def check_charge_amount(amount: int, currency: str, *, tariff: Tariff, rates: Rates, at: float) -> None:
    """Refuse an amount that could not be charged: too small, too large, or with digits the currency does not have."""
    if amount < 1:
        raise ApiError(
            400, "This value must be greater than or equal to 1.", code="parameter_invalid_integer", param="amount"
        )
    if len(str(amount)) > (12 if currency == "idr" else 8):
        raise ApiError(
            400, f"Amount must be no more than {shown(99999999, currency)}", code="amount_too_large", param="amount"
        )
    step = 100 if currency in WHOLE_UNITS_ONLY else 10 if currency in THREE_DECIMAL else 1
    if amount % step:
        raise ApiError(
            400, f"Invalid amount: amounts in {currency.upper()} must be divisible by {step}.", param="amount"
        )
    settled_in = tariff.settlement(currency)
    settled = convert(amount, currency, settled_in, rates.between(currency, settled_in, at))
    if settled < MINIMUM.get(settled_in, 50):
        least = shown(MINIMUM.get(settled_in, 50), settled_in)
        raise ApiError(
            400,
            f"Amount must be at least {least} {settled_in}"
            if settled_in == currency
            else f"Amount must convert to at least {least} {settled_in}.",
            code="amount_too_small",
            param="amount",
        )
