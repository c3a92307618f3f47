"""The comparison itself: what is laid against what, one statement per leg, each yielding differences as rows.

Every statement selects leg, key, fact, hits, difference, at_risk, currency, subject, detail, occurred_at. `fact` is what a
difference is about, in the words our own postings use (a refund's or payout's code, else the provider's id), so that two
legs that see one fact make one break."""

from __future__ import annotations

from typing import Final

# Whatever the provider calls it, what we call it: refunds, transfers and reversals are posted under our own codes.
_OURS: Final = """
coalesce((SELECT code FROM payments_refund WHERE provider_id = {id}),
         (SELECT code FROM payouts_payout WHERE transfer_id = {id}),
         (SELECT code FROM payouts_clawback WHERE provider_id = {id}), {id})
"""

# A run's movements: those that we had imported when the provider was asked.
_MINE: Final = """
bt.created >= %(since)s AND bt.created < %(until)s AND bt.imported_at <= %(asked)s
AND NOT bt.reporting_category = ANY(%(left_out)s)
"""

# Both sides of every movement in the window. Our side is the ledger: what the mirror account (1100) moved by in the movement's
# journal. The imported row only says which journal that is, and carries amount and fee apart. Kept narrow: a million rows pass
# through here.
_SIDES: Final = f"""
WITH theirs AS (
    SELECT id, provider_id, amount, fee, net, currency FROM reconciliation_providerline WHERE run_id = %(run)s
), mine AS (
    SELECT bt.id, bt.provider_id, bt.amount, bt.fee, bt.net, bt.currency, bt.journal_id
    FROM payments_balancetransaction bt WHERE {_MINE}
), ours AS (
    SELECT mine.id, mine.provider_id, mine.amount, mine.fee, mine.journal_id,
           CASE WHEN mirror.net IS NOT NULL THEN mirror.net WHEN mine.net = 0 THEN 0 END AS net,
           coalesce(mirror.currency, mine.currency) AS currency
    FROM mine LEFT JOIN {{mirror}}
)
"""  # noqa: S608  # constants of this file
_AGREE: Final = """
theirs.amount = ours.amount AND theirs.fee = ours.fee AND theirs.net = ours.net AND theirs.currency = ours.currency
"""
# The mirror's side of a movement: the one line that its journal has there, the sum of them, or their sum looked up one by one.
_MIRROR_LINES: Final = """(
    SELECT line.journal_id, line.amount AS net, line.currency FROM ledger_line line WHERE line.account_id = ANY(%(mirrors)s)
) mirror ON mirror.journal_id = mine.journal_id"""
_MIRROR_SUMS: Final = """(
    SELECT line.journal_id, sum(line.amount)::bigint AS net, min(line.currency) AS currency
    FROM ledger_line line WHERE line.account_id = ANY(%(mirrors)s) GROUP BY line.journal_id
) mirror ON mirror.journal_id = mine.journal_id"""
_MIRROR_LOOKED_UP: Final = """LATERAL (
    SELECT sum(line.amount)::bigint AS net, min(line.currency) AS currency
    FROM ledger_line line WHERE line.journal_id = mine.journal_id AND line.account_id = ANY(%(mirrors)s)
) mirror ON true"""
_FEW: Final = 60_000


def few(*, lines: int) -> bool:
    """Whether so many lines are sooner looked up one by one than found in a pass over everything."""
    return lines <= _FEW


# Those that do not agree, each looked up.
UNEQUAL_OF_FEW: Final = f"""
CREATE TEMPORARY TABLE reconciliation_unequal ON COMMIT DROP AS
{_SIDES.format(mirror=_MIRROR_LOOKED_UP)}
SELECT theirs.id AS line_id, ours.id AS movement_id, ours.journal_id, ours.net AS our_net, ours.currency AS our_currency
FROM theirs FULL JOIN ours USING (provider_id) WHERE ({_AGREE}) IS NOT TRUE
"""  # noqa: S608  # constants of this file
# Of a whole book in one pass, only read and brought down to one row, so that the database may use more than one process: how
# many pairs have a movement of ours, and those that do not agree. A journal has one line on the mirror; where one has two there
# are more pairs than movements, and they are summed.
_PAIRS: Final = f"""
CREATE TEMPORARY TABLE reconciliation_pairs ON COMMIT DROP AS
{_SIDES}
SELECT count(ours.id) AS movements,
       array_agg(jsonb_build_array(theirs.id, ours.id, ours.journal_id, ours.net, ours.currency))
           FILTER (WHERE ({_AGREE}) IS NOT TRUE) AS unequal
FROM theirs FULL JOIN ours USING (provider_id)
"""  # noqa: S608  # constants of this file
UNEQUAL_OF_ALL: Final = """
CREATE TEMPORARY TABLE reconciliation_unequal ON COMMIT DROP AS
SELECT (pair ->> 0)::bigint AS line_id, (pair ->> 1)::bigint AS movement_id, (pair ->> 2)::bigint AS journal_id,
       (pair ->> 3)::bigint AS our_net, pair ->> 4 AS our_currency
FROM reconciliation_pairs, unnest(unequal) pair
"""


def pairs(*, summed: bool) -> str:
    """The statement that pairs a run's lines with our movements, by the line on the mirror or by the sum of its lines."""
    return _PAIRS.format(mirror=_MIRROR_SUMS if summed else _MIRROR_LINES)


# The others do agree. One that no longer does is no match any more.
MATCHES: Final = f"""
INSERT INTO reconciliation_match (movement_id, journal_id, run_id)
SELECT bt.id, bt.journal_id, %(run)s FROM payments_balancetransaction bt
WHERE {_MINE} AND bt.id NOT IN (SELECT movement_id FROM reconciliation_unequal WHERE movement_id IS NOT NULL)
  AND NOT EXISTS (SELECT FROM reconciliation_match known WHERE known.movement_id = bt.id)
"""  # noqa: S608  # constants of this file
NO_MATCH_ANY_MORE: Final = """
DELETE FROM reconciliation_match known USING reconciliation_unequal unequal WHERE known.movement_id = unequal.movement_id
"""

# What differs, looked at closely: few rows.
LINES: Final = f"""
SELECT 'line', key, {_OURS.format(id="source_id")},
       to_jsonb(array_remove(ARRAY[
           CASE WHEN t_net IS NOT NULL AND our_net IS NOT NULL AND t_currency <> our_currency THEN 'currency_mismatch' END,
           CASE WHEN t_net IS NOT NULL AND our_net IS NULL AND NOT young THEN 'missing_internal' END,
           CASE WHEN t_net IS NULL THEN 'missing_external' END,
           CASE WHEN t_net IS NOT NULL AND our_net IS NOT NULL AND t_currency = our_currency
                     AND (t_amount <> o_amount OR (t_fee = o_fee AND t_net <> our_net)) THEN 'amount_mismatch' END,
           CASE WHEN t_net IS NOT NULL AND our_net IS NOT NULL AND t_fee <> o_fee THEN 'fee_mismatch' END,
           CASE WHEN t_net IS NOT NULL AND our_net IS NULL AND young THEN 'late' END
       ]::text[], NULL)),
       coalesce(t_net, 0) - coalesce(our_net, 0),
       CASE WHEN t_currency <> our_currency THEN abs(t_net)
            ELSE greatest(abs(coalesce(t_net, 0) - coalesce(our_net, 0)), abs(t_amount - o_amount), abs(t_fee - o_fee)) END,
       coalesce(t_currency, our_currency),
       coalesce((SELECT subject FROM ledger_journal WHERE id = journal_id), ''),
       created,
       jsonb_build_object(
           'provider', CASE WHEN t_net IS NOT NULL THEN jsonb_build_object(
               'amount', t_amount, 'fee', t_fee, 'net', t_net, 'currency', t_currency) END,
           'ledger', CASE WHEN movement_id IS NOT NULL THEN jsonb_build_object(
               'amount', o_amount, 'fee', o_fee, 'net', our_net, 'currency', our_currency) END,
           'category', category, 'source', source_id, 'journal', journal_id)
FROM (
    SELECT pairs.*, coalesce(theirs.provider_id, bt.provider_id) AS key,
           coalesce(theirs.source_id, bt.source_id) AS source_id, coalesce(theirs.created, bt.created) AS created,
           coalesce(theirs.reporting_category, bt.reporting_category) AS category,
           theirs.amount AS t_amount, theirs.fee AS t_fee, theirs.net AS t_net, theirs.currency AS t_currency,
           bt.amount AS o_amount, bt.fee AS o_fee,
           movement_id IS NULL AND theirs.created > %(young)s AS young
    FROM reconciliation_unequal pairs
    LEFT JOIN reconciliation_providerline theirs ON theirs.id = pairs.line_id
    LEFT JOIN payments_balancetransaction bt ON bt.id = pairs.movement_id
) close
"""  # noqa: S608  # constants of this file

# A second movement of one fact: the same object, the same category, later. A chargeback that was given back may be taken
# again, so each return allows another.
_DUPLICATES: Final = f"""
SELECT 'line', theirs.provider_id, {_OURS.format(id="theirs.source_id")}, '["duplicate_external"]'::jsonb, 0,
       abs(theirs.net), theirs.currency,
       coalesce((SELECT journal.subject FROM payments_balancetransaction bt JOIN ledger_journal journal
                 ON journal.id = bt.journal_id WHERE bt.provider_id = theirs.provider_id), ''),
       theirs.created,
       jsonb_build_object('category', theirs.reporting_category, 'source', theirs.source_id,
           'first', min(bt.provider_id),
           'provider', jsonb_build_object('amount', theirs.amount, 'fee', theirs.fee, 'net', theirs.net,
                                          'currency', theirs.currency))
FROM (
    {{suspects}}
) theirs
JOIN payments_balancetransaction bt
  ON bt.source_id = theirs.source_id AND bt.reporting_category = theirs.reporting_category
 AND (bt.created, bt.provider_id) < (theirs.created, theirs.provider_id)
WHERE theirs.source_id <> ''
  AND theirs.reporting_category IN ('charge', 'refund', 'transfer', 'transfer_reversal', 'payout', 'dispute')
GROUP BY theirs.id, theirs.provider_id, theirs.reporting_category, theirs.source_id, theirs.amount, theirs.fee, theirs.net,
         theirs.currency, theirs.created
HAVING theirs.reporting_category <> 'dispute' OR count(*) > (
    SELECT count(*) FROM payments_balancetransaction back WHERE back.source_id = theirs.source_id
      AND back.reporting_category = 'dispute_reversal' AND back.created <= theirs.created)
"""  # noqa: S608  # constants of this file
# Of a whole book those that one pass over the index of sources finds twice, in its order, and those that we do not have at
# all; of a window each line.
_SUSPECTS: Final = {
    "pass": """
    WITH twice AS MATERIALIZED (
        SELECT source_id, reporting_category FROM payments_balancetransaction
        GROUP BY source_id, reporting_category HAVING count(*) > 1
    )
    SELECT theirs.* FROM twice
    JOIN reconciliation_providerline theirs USING (source_id, reporting_category)
    WHERE theirs.run_id = %(run)s
    UNION
    SELECT theirs.* FROM reconciliation_unequal pairs
    JOIN reconciliation_providerline theirs ON theirs.id = pairs.line_id WHERE pairs.movement_id IS NULL
    """,
    "lookup": "SELECT * FROM reconciliation_providerline WHERE run_id = %(run)s",
}


def duplicates(*, lines: int) -> str:
    """The statement that finds second movements of one fact."""
    return _DUPLICATES.format(suspects=_SUSPECTS["lookup" if few(lines=lines) else "pass"])


# Journals on the mirror that are no movement's: the same movement posted twice, or one that was reversed and not posted
# anew. Looked for only when the sums differ.
STRAYS: Final = f"""
SELECT 'line', key, coalesce({_OURS.format(id="source")}, ''),
       to_jsonb(ARRAY[CASE WHEN twice THEN 'duplicate_internal' WHEN whole THEN 'missing_internal'
                           ELSE 'amount_mismatch' END]),
       -amount, abs(amount), currency, subject, at,
       jsonb_build_object('journals', journals, 'source', source, 'ledger', jsonb_build_object(
           'net', amount, 'currency', currency))
FROM (
    SELECT coalesce(nullif(journal.reference, ''), 'journal ' || min(journal.id)) AS key, bt.source_id AS source,
           bool_or(journal.kind LIKE 'bt.%%') AND bt.source_id IS NOT NULL AS twice,
           bt.source_id IS NULL AND bool_or(journal.kind LIKE 'bt.%%') OR sum(line.amount) = -max(bt.net) AS whole,
           sum(line.amount)::bigint AS amount, line.currency, max(journal.subject) AS subject,
           coalesce(max(bt.created), min(journal.effective_at)) AS at, jsonb_agg(journal.id ORDER BY journal.id) AS journals
    FROM ledger_line line
    JOIN ledger_journal journal ON journal.id = line.journal_id
    LEFT JOIN payments_balancetransaction bt ON bt.provider_id = journal.reference
    WHERE line.account_id = ANY(%(mirrors)s)
      AND NOT EXISTS (SELECT FROM payments_balancetransaction own WHERE own.journal_id = line.journal_id)
    GROUP BY journal.reference, bt.source_id, line.currency
    HAVING sum(line.amount) <> 0
) stray
WHERE at >= %(since)s AND at < %(until)s
"""  # noqa: S608  # constants of this file

# A charge that was converted, far from what was promised: a payment's and an instalment's parts are in the listing's currency,
# damage is in its own. Where it settled in another one, the promise is converted at the reference rate of its day.
_CONVERTED_CHARGES: Final = """
bt.reporting_category = 'charge' AND bt.exchange_rate <> '' AND bt.created >= %(since)s AND bt.created < %(until)s
AND bt.imported_at <= %(asked)s
"""
IS_ANY_CONVERTED: Final = f"SELECT EXISTS (SELECT FROM payments_balancetransaction bt WHERE {_CONVERTED_CHARGES})"  # noqa: S608  # a constant of this file
CONVERTED: Final = f"""
CREATE TEMPORARY TABLE reconciliation_converted ON COMMIT DROP AS
SELECT bt.provider_id, bt.source_id, bt.amount, bt.currency, bt.exchange_rate, bt.created, asked.booking, asked.promised,
       asked.base, (bt.created AT TIME ZONE 'UTC')::date AS day
FROM payments_balancetransaction bt
CROSS JOIN LATERAL (
    SELECT booking.code AS booking, booking.currency AS base, payment.currency AS charged,
           payment.held + payment.host_fee + payment.guest_fee + payment.vat + payment.occupancy_tax AS promised
    FROM payments_payment payment JOIN bookings_booking booking ON booking.id = payment.booking_id
    WHERE payment.charge_id = bt.source_id
    UNION ALL
    SELECT booking.code, CASE WHEN extra.kind = 'damage' THEN extra.currency ELSE booking.currency END, extra.currency,
           CASE WHEN extra.kind = 'damage' THEN extra.amount
                ELSE extra.held + extra.host_fee + extra.guest_fee + extra.vat + extra.occupancy_tax END
    FROM payments_extracharge extra JOIN bookings_booking booking ON booking.id = extra.booking_id
    WHERE extra.charge_id = bt.source_id
) asked
WHERE {_CONVERTED_CHARGES} AND asked.charged <> bt.currency
"""  # noqa: S608  # constants of this file
SETTLED_ELSEWHERE: Final = "SELECT DISTINCT day, base, currency FROM reconciliation_converted WHERE base <> currency"
RATES: Final = """
WITH rated AS (
    SELECT converted.*, CASE WHEN base = currency THEN promised ELSE round(promised * rate.factor)::bigint END AS expected
    FROM reconciliation_converted converted
    LEFT JOIN unnest(%(days)s::date[], %(bases)s::text[], %(quotes)s::text[], %(factors)s::numeric[])
              rate (day, base, currency, factor) USING (day, base, currency)
)
SELECT 'line', provider_id, source_id, '["fx_mismatch"]'::jsonb, 0, abs(amount - expected), currency, booking, created,
       jsonb_build_object('source', source_id, 'promised', expected, 'settled', amount, 'rate', exchange_rate,
                          'promise', jsonb_build_object('amount', promised, 'currency', base))
FROM rated WHERE abs(amount - expected) * 10000 > %(band)s * expected
"""

# A clearing key that is not zero: only our side is there (late, then missing at the provider), only theirs, or both differ.
# A charge's exchange position (3900) and a chargeback (1320) stand between two facts for a while whenever they move, so
# they are judged by age alone. A balance that no line accounts for is overdue at once: the kept one is wrong. A movement's
# posting that was reversed counts for neither side, nor does its reversal. 1160 and 9900 of
# bank lines are the bank's leg: money that left the provider and is not at the bank, or is at the bank and nobody knows
# whose. Five weekdays and a week-end make the bank's three business days. What is left of a payout that came back is another
# matter than that it did: a fee of a bank is given up, whatever becomes of the payout.
CLEARING: Final = f"""
WITH standing AS (
    SELECT account.id, account.code, account.key, account.currency, sum(held.balance)::bigint AS balance
    FROM ledger_balance held
    JOIN ledger_account account ON account.id = held.account_id
    WHERE account.code IN (SELECT code FROM ledger_chart WHERE clears_within IS NOT NULL)
      AND account.id IN (SELECT account_id FROM ledger_balance WHERE balance <> 0)
    GROUP BY account.id HAVING sum(held.balance) <> 0
), told AS (
    SELECT standing.*, sides.*, payout.status AS payout_status,
           coalesce(payout.status = 'failed', false) AND theirs > 1 AS undone,
           CASE WHEN standing.code = '1160' AND payout.arrival_on IS NOT NULL
                THEN (payout.arrival_on + (%(bank_days)s::int[])[extract(isodow FROM payout.arrival_on)::int] + 1)
                     ::timestamp AT TIME ZONE 'UTC'
                ELSE coalesce(sides.first + (SELECT clears_within FROM ledger_chart WHERE code = standing.code), %(now)s)
           END AS due
    FROM standing
    LEFT JOIN payouts_bankpayout payout ON standing.code = '1160' AND payout.provider_id = standing.key
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE line.kind LIKE 'bt.%%') AS theirs,
               count(*) FILTER (WHERE line.kind LIKE 'bank%%') AS banked,
               count(*) FILTER (WHERE line.kind LIKE 'bank%%' AND line.amount > 0) AS taken_back,
               count(*) FILTER (WHERE line.kind NOT LIKE 'bt.%%' AND line.kind NOT LIKE 'bank%%') AS mine,
               coalesce(sum(line.amount) FILTER (WHERE line.kind LIKE 'bt.%%'), 0)::bigint AS their_sum,
               coalesce(sum(line.amount) FILTER (WHERE line.kind LIKE 'bank%%'), 0)::bigint AS bank_sum,
               coalesce(sum(line.amount) FILTER (
                   WHERE line.kind NOT LIKE 'bt.%%' AND line.kind NOT LIKE 'bank%%'), 0)::bigint AS my_sum,
               count(*) FILTER (WHERE line.kind LIKE 'bt.%%' AND line.amount = standing.balance) > 1 AS twice_theirs,
               count(*) FILTER (WHERE line.kind NOT LIKE 'bt.%%' AND line.amount = standing.balance) > 1 AS twice_mine,
               min(line.effective_at) FILTER (WHERE line.id > coalesce(cleared, 0)) AS first,
               max(line.subject) AS subject
        FROM (
            SELECT ran.*, max(id) FILTER (WHERE running = 0) OVER () AS cleared
            FROM (
                SELECT line.id, line.amount, journal.kind, journal.effective_at, journal.subject,
                       sum(line.amount) OVER (ORDER BY line.id) AS running
                FROM ledger_line line JOIN ledger_journal journal ON journal.id = line.journal_id
                LEFT JOIN ledger_journal undone ON undone.id = journal.reverses_id
                LEFT JOIN ledger_journal reversal ON reversal.reverses_id = journal.id
                WHERE line.account_id = standing.id
                  AND NOT coalesce(undone.kind LIKE 'bt.%%', false)
                  AND NOT (reversal.id IS NOT NULL AND journal.kind LIKE 'bt.%%')
            ) ran
        ) line
    ) sides
)
SELECT CASE WHEN code = '1160' OR (code = '9900' AND key LIKE 'bank:%%') THEN 'bank' ELSE 'clearing' END,
       code || ' ' || key,
       CASE WHEN code = '9900' AND key LIKE 'bank:%%' THEN key
            WHEN code = '1160' AND (payout_status = 'failed' AND taken_back > 0 OR undone AND balance > 0) THEN code || ' ' || key
            ELSE {_OURS.format(id="key")} END,
       to_jsonb(coalesce(nullif(array_remove(CASE
           WHEN code = '9900' THEN ARRAY[
               CASE WHEN key LIKE 'bank:%%' THEN 'bank_unidentified' ELSE 'unknown_type' END,
               CASE WHEN due <= %(now)s THEN 'uncleared_balance' END]
           WHEN code = '1160' THEN ARRAY[
               CASE WHEN balance > 0 AND banked = 0 AND NOT undone AND due <= %(now)s THEN 'bank_missing' END,
               CASE WHEN balance < 0 AND payout_status = 'failed' AND taken_back = 0 THEN 'payout_returned'
                    WHEN balance < 0 AND theirs = 0 AND due <= %(now)s THEN 'missing_internal'
                    WHEN theirs > 0 AND (banked > 0 OR undone) THEN 'bank_amount_mismatch' END,
               CASE WHEN (theirs = 0 OR banked = 0) AND due > %(now)s THEN 'late' END]
           WHEN code IN ('1320', '3900') THEN ARRAY[
               CASE WHEN code = '1320' AND theirs > 0 AND mine > 0 THEN 'amount_mismatch'
                    WHEN due > %(now)s THEN 'late'
                    WHEN code = '3900' THEN 'fx_mismatch' ELSE 'uncleared_balance' END]
           ELSE ARRAY[
               CASE WHEN twice_mine THEN 'duplicate_internal' END,
               CASE WHEN twice_theirs THEN 'duplicate_external' END,
               CASE WHEN theirs > 0 AND mine > 0 THEN 'amount_mismatch'
                    WHEN due > %(now)s THEN 'late'
                    WHEN theirs = 0 THEN 'missing_external'
                    ELSE 'missing_internal' END]
       END::text[], NULL), ARRAY[]::text[]), ARRAY['uncleared_balance'])),
       -balance, abs(balance), currency, coalesce(subject, ''), coalesce(first, %(now)s),
       jsonb_build_object('account', code, 'key', key, 'standing', balance, 'provider_sum', their_sum,
                          'ledger_sum', my_sum, 'bank_sum', bank_sum, 'proposals', proposals)
FROM told
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('line', line.code, 'payout', payout.provider_id, 'amount', match.amount,
                                        'method', match.method, 'confidence', match.confidence) ORDER BY match.id) AS proposals
    FROM reconciliation_bankmatch match
    JOIN reconciliation_statementline line ON line.id = match.line_id
    JOIN payouts_bankpayout payout ON payout.id = match.bank_payout_id
    WHERE match.status = 'proposed' AND (told.code = '1160' AND payout.provider_id = told.key
                                         OR told.code = '9900' AND told.key = 'bank:' || line.code)
) proposed
"""  # noqa: S608  # constants of this file

# The provider's payouts to banks against ours, each against its lines, and those that came back. One without lines carries
# nothing: ours, whose lines we write ourselves, and a host's once the provider has counted it, which it has when it is paid.
PAYOUTS: Final = """
SELECT 'payout', key, key,
       to_jsonb(array_remove(ARRAY[
           CASE WHEN theirs IS NOT NULL AND ours IS NOT NULL AND t_currency <> currency THEN 'currency_mismatch' END,
           CASE WHEN ours IS NULL AND created <= %(young)s THEN 'missing_internal' END,
           CASE WHEN theirs IS NULL AND listed THEN 'missing_external' END,
           CASE WHEN theirs IS NOT NULL AND ours IS NOT NULL AND t_currency = currency AND t_amount <> amount
                THEN 'amount_mismatch' END,
           CASE WHEN carried IS NOT NULL AND carried <> amount OR moved IS NOT NULL AND moved <> amount
                THEN 'payout_sum_mismatch' END,
           CASE WHEN status = 'failed' AND paid_at IS NOT NULL AND NOT again THEN 'payout_returned' END,
           CASE WHEN t_status <> status AND t_status IN ('paid', 'failed', 'canceled') AND settled THEN 'status_mismatch' END,
           CASE WHEN ours IS NULL AND created > %(young)s THEN 'late' END
       ]::text[], NULL)),
       CASE WHEN carried <> amount THEN carried - amount WHEN moved <> amount THEN moved - amount
            ELSE coalesce(t_amount, 0) - coalesce(amount, 0) END,
       greatest(abs(carried - amount), abs(moved - amount), abs(t_amount - amount),
                CASE WHEN ours IS NULL OR theirs IS NULL OR status = 'failed' THEN coalesce(amount, t_amount) END, 0),
       coalesce(currency, t_currency), '', created,
       jsonb_build_object(
           'provider', CASE WHEN theirs IS NOT NULL THEN jsonb_build_object(
               'amount', t_amount, 'currency', t_currency, 'status', t_status) END,
           'ledger', CASE WHEN ours IS NOT NULL THEN jsonb_build_object(
               'amount', amount, 'currency', currency, 'status', status) END,
           'lines', carried, 'movement', moved, 'account', account, 'payout', code)
FROM (
    SELECT coalesce(ours.provider_id, theirs.provider_id) AS key, ours.id AS ours, theirs.id AS theirs, ours.code,
           coalesce(ours.account, theirs.account) AS account, ours.status, ours.amount, ours.currency, ours.paid_at,
           theirs.status AS t_status, theirs.amount AS t_amount, theirs.currency AS t_currency,
           coalesce(ours.created_at, theirs.created) AS created,
           ours.account = '' AND ours.created_at >= %(since)s AND ours.created_at < %(until)s
               AND ours.created_at <= %(young)s AND %(listed)s AS listed,
           %(now)s::date > coalesce(ours.arrival_on, ours.created_at::date) AS settled,
           coalesce((SELECT sum(net) FROM payouts_bankpayoutline line WHERE line.bank_payout_id = ours.id)::bigint,
                    CASE WHEN ours.account = '' OR ours.automatic AND ours.status = 'paid' AND ours.paid_at <= %(young)s
                         THEN 0 END) AS carried,
           (SELECT -sum(net) FROM payments_balancetransaction bt WHERE bt.source_id = ours.provider_id
              AND bt.reporting_category = 'payout')::bigint AS moved,
           EXISTS (SELECT FROM payouts_bankpayout later WHERE later.account = ours.account
                     AND later.currency = ours.currency AND later.status = 'paid'
                     AND later.created_at > ours.failed_at) AS again
    FROM (SELECT * FROM payouts_bankpayout WHERE provider_id IS NOT NULL) ours
    FULL JOIN (SELECT * FROM reconciliation_providerstate WHERE run_id = %(run)s AND kind = 'bank_payout') theirs
           ON theirs.provider_id = ours.provider_id
) each
WHERE theirs IS NULL AND listed OR ours IS NULL OR t_currency <> currency OR t_amount <> amount OR carried <> amount
   OR moved <> amount OR status = 'failed' AND paid_at IS NOT NULL AND NOT again
   OR t_status <> status AND t_status IN ('paid', 'failed', 'canceled') AND settled
"""

# More went back to the guest, by refund or chargeback, than was ever taken; in the currency of the charge. A refund that
# their bank sent back stands aside for them and counts; what pays it another way (in our currency) is the same money. What
# nobody pays another way is not given beside a chargeback of the very charge: it waits for its end, and lost it is taken.
BOOKINGS: Final = """
SELECT 'booking', booking, booking, '["over_refund"]'::jsonb, taken - refunded + once.amount - disputed,
       refunded - once.amount + disputed - taken, currency, booking, at,
       jsonb_build_object('captured', taken, 'refunded', refunded - once.amount, 'disputed', disputed)
FROM (
    SELECT payment.id AS payment_id, payment.charge_id, booking.code AS booking, payment.currency, payment.captured_at AS at,
           (CASE WHEN payment.status = 'captured' THEN payment.amount ELSE 0 END + coalesce((
               SELECT sum(amount) FROM payments_extracharge extra WHERE extra.booking_id = booking.id
                 AND extra.status = 'captured' AND extra.currency = payment.currency), 0))::bigint AS taken,
           coalesce((SELECT sum(amount) FROM payments_refund refund WHERE refund.payment_id = payment.id
                       AND refund.repays_id IS NULL
                       AND (refund.status IN ('approved', 'submitted', 'indeterminate', 'succeeded')
                            OR refund.status = 'failed' AND refund.unclaimed)), 0)::bigint AS refunded,
           coalesce((SELECT sum(amount) FROM payments_chargeback dispute WHERE dispute.payment_id = payment.id
                       AND dispute.kind = 'chargeback' AND dispute.withdrawn > dispute.reinstated), 0)::bigint AS disputed
    FROM payments_payment payment JOIN bookings_booking booking ON booking.id = payment.booking_id
    WHERE payment.captured_at IS NOT NULL
) each
CROSS JOIN LATERAL (
    SELECT coalesce(sum(least(aside, by_network)), 0)::bigint AS amount FROM (
        SELECT sum(refund.amount) AS aside,
               coalesce((SELECT sum(amount) FROM payments_chargeback dispute
                         WHERE dispute.charge_id = coalesce(extra.charge_id, each.charge_id)
                           AND dispute.kind = 'chargeback' AND dispute.withdrawn > dispute.reinstated), 0) AS by_network
        FROM payments_refund refund LEFT JOIN payments_extracharge extra ON extra.id = refund.charge_id
        WHERE refund.payment_id = each.payment_id AND refund.repays_id IS NULL
          AND refund.status = 'failed' AND refund.unclaimed
          AND NOT EXISTS (SELECT FROM payments_refund repayment WHERE repayment.repays_id = refund.id
                            AND repayment.status IN ('approved', 'submitted', 'succeeded'))
        GROUP BY extra.charge_id
    ) of_charge
) once
WHERE refunded + disputed > taken AND refunded - once.amount + disputed > taken
"""

# More was transferred to a host for a booking, less what was taken back, than had become theirs: what releases put on 2200
# for it, less what was kept for what they owed.
HOSTS: Final = """
WITH movement AS (
    SELECT coalesce(booking.code, reversed.code, journal.subject) AS booking, bt.currency, bt.created, -bt.amount AS amount
    FROM payments_balancetransaction bt
    LEFT JOIN payouts_payout payout ON payout.transfer_id = bt.source_id
    LEFT JOIN bookings_booking booking ON booking.id = payout.booking_id
    LEFT JOIN payouts_clawback clawback ON clawback.provider_id = bt.source_id
    LEFT JOIN payouts_payout back ON back.id = clawback.payout_id
    LEFT JOIN bookings_booking reversed ON reversed.id = back.booking_id
    LEFT JOIN ledger_journal journal ON journal.id = bt.journal_id
    WHERE bt.reporting_category IN ('transfer', 'transfer_reversal')
), sent AS (
    SELECT booking, currency, sum(amount)::bigint AS amount, max(created) AS at FROM movement
    WHERE booking <> '' GROUP BY booking, currency HAVING sum(amount) > 0
), entitled AS (
    SELECT journal.subject AS booking, line.currency, -sum(line.amount)::bigint AS amount
    FROM ledger_account account
    JOIN ledger_line line ON line.account_id = account.id
    JOIN ledger_journal journal ON journal.id = line.journal_id
    WHERE account.code = '2200' AND journal.kind NOT LIKE 'bt.%%' AND journal.subject <> ''
      AND NOT EXISTS (SELECT FROM ledger_line other JOIN ledger_account clearing ON clearing.id = other.account_id
                      WHERE other.journal_id = journal.id AND clearing.code = '2210')
    GROUP BY journal.subject, line.currency
)
SELECT 'host', sent.booking, 'host of ' || sent.booking, '["host_overpaid"]'::jsonb,
       coalesce(entitled.amount, 0) - sent.amount, sent.amount - coalesce(entitled.amount, 0), sent.currency, sent.booking,
       sent.at, jsonb_build_object('transferred', sent.amount, 'entitled', coalesce(entitled.amount, 0))
FROM sent LEFT JOIN entitled USING (booking, currency)
WHERE sent.amount > coalesce(entitled.amount, 0)
"""

# Ours is under way, theirs has ended, and the news is overdue.
STATUSES: Final = """
SELECT 'status', code, fact, '["status_mismatch"]'::jsonb, 0, amount, currency, booking, at,
       jsonb_build_object('provider', jsonb_build_object('status', t_status, 'amount', t_amount, 'currency', t_currency),
                          'ledger', jsonb_build_object('status', status, 'amount', amount, 'currency', currency))
FROM (
    SELECT payment.code, coalesce(payment.charge_id, payment.code) AS fact, payment.status, payment.amount,
           payment.currency, booking.code AS booking, payment.created_at AS at, theirs.status AS t_status,
           theirs.amount AS t_amount, theirs.currency AS t_currency
    FROM reconciliation_providerstate theirs
    JOIN payments_payment payment ON payment.provider_id = theirs.provider_id
    JOIN bookings_booking booking ON booking.id = payment.booking_id
    WHERE theirs.run_id = %(run)s AND theirs.kind = 'payment' AND theirs.status IN ('captured', 'cancelled')
      AND payment.status NOT IN ('captured', 'failed', 'cancelled') AND payment.created_at <= %(overdue)s
    UNION ALL
    SELECT refund.code, refund.code, refund.status, refund.amount, refund.currency, booking.code,
           coalesce(refund.submitted_at, refund.requested_at), theirs.status, theirs.amount, theirs.currency
    FROM reconciliation_providerstate theirs
    JOIN payments_refund refund ON refund.provider_id = theirs.provider_id
    JOIN payments_payment payment ON payment.id = refund.payment_id
    JOIN bookings_booking booking ON booking.id = payment.booking_id
    WHERE theirs.run_id = %(run)s AND theirs.kind = 'refund' AND theirs.status IN ('succeeded', 'failed', 'cancelled')
      AND refund.status IN ('approved', 'submitted', 'indeterminate')
      AND coalesce(refund.submitted_at, refund.requested_at) <= %(overdue)s
    UNION ALL
    SELECT extra.code, coalesce(extra.charge_id, extra.code), extra.status, extra.amount, extra.currency, booking.code,
           coalesce(extra.submitted_at, extra.created_at), theirs.status, theirs.amount, theirs.currency
    FROM reconciliation_providerstate theirs
    JOIN payments_extracharge extra ON extra.provider_id = theirs.provider_id
    JOIN bookings_booking booking ON booking.id = extra.booking_id
    WHERE theirs.run_id = %(run)s AND theirs.kind = 'payment' AND theirs.status IN ('captured', 'cancelled')
      AND extra.status IN ('submitted', 'indeterminate', 'requires_action')
      AND coalesce(extra.submitted_at, extra.created_at) <= %(overdue)s
) each
"""
