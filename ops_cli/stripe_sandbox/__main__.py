"""``python -m ops_cli.stripe_sandbox --port 12111 --db FILE``: run the sandbox until it is told to stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .money import CURRENCIES, SETTLED_NATIVELY, DisputeFee, Fee, Tariff
from .server import InUseError, serve
from .settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Parse, serve; 0 after a clean end, 1 when file or port is taken, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    if options.webhook_url and not options.webhook_secret:
        _parser().error("--webhook-url needs --webhook-secret")
    if options.connect_webhook_url and not options.connect_webhook_secret:
        _parser().error("--connect-webhook-url needs --connect-webhook-secret")
    settings = Settings(
        base_url="",
        seed=options.seed,
        country=options.country.upper(),
        tariff=Tariff(fees=dict(options.fee), native=options.settle, dispute_fees=dict(options.dispute_fee)),
        async_seconds=options.async_seconds,
        refund_seconds=options.refund_seconds,
        dispute_days=options.dispute_days,
        report_seconds=options.report_seconds,
        rate_limit=options.rate_limit,
        webhook_timeout=options.webhook_timeout,
    )
    try:
        serve(
            host=options.host,
            port=options.port,
            path=options.db,
            settings=settings,
            clock=options.clock,
            webhook=(options.webhook_url, options.webhook_secret) if options.webhook_url else None,
            connect_webhook=(options.connect_webhook_url, options.connect_webhook_secret)
            if options.connect_webhook_url
            else None,
        )
    except InUseError as error:
        print(f"stripe sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops_cli.stripe_sandbox",
        description="A local server that speaks Stripe's wire API. Point StripeClient's base_addresses at it.",
        epilog="example: python -m ops_cli.stripe_sandbox --port 12111 --db sandbox.sqlite3 "
        "--webhook-url http://127.0.0.1:8000/webhooks/stripe/ --webhook-secret whsec_dev",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one and prints it")
    add("--db", type=Path, required=True, help="the sandbox's own SQLite file; made when absent")
    add("--webhook-url", help="where every event of the platform's account is delivered")
    add("--webhook-secret", help="secret that signs those deliveries")
    add("--connect-webhook-url", help="where every event of the connected accounts is delivered")
    add("--connect-webhook-secret", help="secret that signs those deliveries")
    add("--seed", type=int, default=1, help="ids and chances follow from it (%(default)s)")
    add("--clock", choices=("real", "frozen"), default="real", help="run with the wall clock, or only when advanced")
    add("--country", default="DE", help="the account's country: how soon money becomes available (%(default)s)")
    add(
        "--settle",
        type=_currencies,
        default=SETTLED_NATIVELY,
        metavar="CUR,CUR",
        help="currencies kept without conversion; the first one is what all others become",
    )
    add(
        "--fee",
        type=_fee,
        action="append",
        default=[],
        metavar="CUR=BPS:FIXED",
        help="processing fee of a settlement currency, such as eur=150:25 for 1.5 %% + 0.25; may be repeated",
    )
    add(
        "--dispute-fee",
        type=_dispute_fee,
        action="append",
        default=[],
        metavar="CUR=RECEIVED:COUNTERED",
        help="fees of a chargeback, such as eur=2000:2000 for 20.00 when it comes and 20.00 when it is answered",
    )
    add("--dispute-days", type=float, default=14.0, help="how long a dispute can be answered (%(default)s)")
    add("--async-seconds", type=float, default=1.0, help="how long a charge has no balance transaction (%(default)s)")
    add("--refund-seconds", type=float, default=3600.0, help="how long an asynchronous refund takes (%(default)s)")
    add("--report-seconds", type=float, default=60.0, help="how long a report run takes (%(default)s)")
    add("--rate-limit", type=int, default=0, help="requests answered per second, then 429; 0 for any number")
    add("--webhook-timeout", type=float, default=10.0, help="seconds one delivery may take (%(default)s)")
    return parser


def _currencies(text: str) -> tuple[str, ...]:
    codes = tuple(code.strip().lower() for code in text.split(","))
    if not set(codes) <= CURRENCIES:
        raise argparse.ArgumentTypeError(f"{text!r} names a currency Stripe does not know")
    return codes


def _fee(text: str) -> tuple[str, Fee]:
    try:
        currency, _, price = text.partition("=")
        basis_points, _, fixed = price.partition(":")
        return currency.lower(), Fee(int(basis_points), int(fixed))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not CUR=BPS:FIXED, such as eur=150:25") from error


def _dispute_fee(text: str) -> tuple[str, DisputeFee]:
    try:
        currency, _, fees = text.partition("=")
        received, _, countered = fees.partition(":")
        return currency.lower(), DisputeFee(int(received), int(countered))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not CUR=RECEIVED:COUNTERED, such as eur=2000:2000") from error


if __name__ == "__main__":
    sys.exit(main())
