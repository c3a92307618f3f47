"""What the provider pays to banks is followed by its events and by asking: hosts' accounts, their payouts, our own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from backoffice.core.actor import Actor, system
from backoffice.core.errors import StaydeskError
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.policies.seen_accounts import SeenBankPayout, SeenBankPayoutLine
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import BankPayout

log = logging.getLogger(__name__)

ACTOR: Final = system("bank payouts")
FOLLOWED: Final = "provider.bank_payouts"
# Payouts that no event brought are looked for this far back from where the last look at their account ended, so that a desk
# that was down for a month finds that month's.
LOOK_BACK: Final = timedelta(days=10)
# So many accounts have their turn at a time; each keeps by itself until when its payouts are known.
AT_A_TIME: Final = 200
# An account that nothing was heard of is asked about once a day: what the provider wants of its host may have changed, and a
# bank may send back what arrived there weeks ago.
STATE_EVERY: Final = timedelta(hours=24)


def take_over(*, payout_id: str, account: str, actor: Actor, now: datetime) -> BankPayout:
    """Ask the provider how a payout to a bank is getting on, and what it is made of where that can be told."""
    return record(seen=gateway().bank_payout(payout_id=payout_id, account=account), actor=actor, now=now)


def record(*, seen: SeenBankPayout, actor: Actor, now: datetime) -> BankPayout:
    """Keep what was seen of a payout, with its lines once the provider has counted them."""
    if not (seen.account and seen.automatic and seen.itemised):
        return payouts.record_bank_payout(seen=seen, actor=actor, now=now)
    lines = list(gateway().bank_payout_lines(payout_id=seen.id, account=seen.account))
    carried = _carried(lines, seen.account)
    return payouts.record_bank_payout(seen=seen, lines=lines, carried=carried, actor=actor, now=now)


def run(*, now: datetime, limit: int = AT_A_TIME) -> int:
    """Ask about every payout to a bank that may have moved, of ours and of `limit` accounts in their turn, and about accounts
    nobody has looked at for a day; returns how many payouts were looked at. One that cannot be asked about now does not keep
    the others waiting, nor make the look at them any longer."""
    done = sum(jobs.each([FOLLOWED], lambda _: _follow_ours(now)))
    for row in payout_queries.accounts_to_follow(now=now, every=STATE_EVERY, limit=limit):
        known = jobs.each([row], lambda row: _follow(row.provider_id or "", row.followed_at or row.created_at, now))
        payouts.note_followed(account_id=row.pk, known=bool(known), now=now)
        done += sum(known)
    for account_id in jobs.turn(
        ask=partial(payout_queries.accounts_to_ask_about, now=now, older_than=STATE_EVERY), now=now
    ):
        provider_id = payout_queries.account(account_id=account_id).provider_id
        try:
            payouts.record_account(seen=gateway().account(account_id=provider_id or ""), actor=ACTOR, now=now)
        except StaydeskError as error:
            log.info("account %s is not looked at now: %s", provider_id, error)
    return done


def _follow_ours(now: datetime) -> int:
    followed = jobs_queries.cursor(name=FOLLOWED)
    done = _follow("", datetime.fromisoformat(followed["looked_at"]) if followed else now, now)
    jobs.set_cursor(name=FOLLOWED, value={"looked_at": now.isoformat()}, now=now)
    return done


def _follow(account: str, last: datetime, now: datetime) -> int:
    """The payouts of one account: those made since `last`, older ones that may still change, and whatever a bank has sent
    back of those we know, however long ago it was paid. What is known as it is shown is left alone."""
    seen = {row.id: row for row in gateway().bank_payouts(account=account, since=min(last, now) - LOOK_BACK)}
    for payout_id in payout_queries.payouts_to_ask_about(account=account, now=now):
        if payout_id not in seen:
            seen[payout_id] = gateway().bank_payout(payout_id=payout_id, account=account)
    back = {row.id: row for row in gateway().bank_payouts_sent_back(account=account)}
    seen |= {payout_id: back[payout_id] for payout_id in payout_queries.not_known_to_have_failed(ids=back)}
    for row in sorted(seen.values(), key=lambda one: (one.created, one.id)):  # one sent back comes before its successor
        if payout_queries.is_bank_payout_news(seen=row):
            record(seen=row, actor=ACTOR, now=now)
    return len(seen)


def _carried(lines: Sequence[SeenBankPayoutLine], account: str) -> list[Money]:
    """What a payout's lines come to in the currencies of our transfers; what a bank had sent back is made of its own."""
    totals: dict[str, Money] = {}
    for line in lines:
        if line.returned:
            parts = _carried(list(gateway().bank_payout_lines(payout_id=line.returned, account=account)), account)
        else:
            parts = [line.presented]
        for part in parts:
            totals[part.currency] = totals.get(part.currency, Money.zero(part.currency)) + part
    return [total for total in totals.values() if total]
