"""What the database itself refuses, whoever writes. I1 to I10 are the invariants of docs/decisions/0001-sign-convention.md.

Refusals carry the name of the guard as their constraint, so that operations can translate them.
"""

from django.db import migrations

# Names in these functions are looked up here and nowhere else: a temporary table called ledger_line deceives nobody.
FIX_SEARCH_PATH = "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"

FOREIGN_KEYS = """
ALTER TABLE ledger_line
    ADD CONSTRAINT ledger_line_journal_fk FOREIGN KEY (journal_id) REFERENCES ledger_journal (id),
    -- I4: a line is in the currency of its account
    ADD CONSTRAINT ledger_line_account_fk
        FOREIGN KEY (account_id, currency) REFERENCES ledger_account (id, currency);
ALTER TABLE ledger_journal
    ADD CONSTRAINT ledger_journal_reverses_fk FOREIGN KEY (reverses_id) REFERENCES ledger_journal (id);
ALTER TABLE ledger_balance
    ADD CONSTRAINT ledger_balance_account_fk FOREIGN KEY (account_id) REFERENCES ledger_account (id);
-- A balance is updated with every line: leave room in the page for the new version beside the old one.
ALTER TABLE ledger_balance SET (fillfactor = 70);
"""
NO_FOREIGN_KEYS = """
ALTER TABLE ledger_balance RESET (fillfactor);
ALTER TABLE ledger_balance DROP CONSTRAINT ledger_balance_account_fk;
ALTER TABLE ledger_journal DROP CONSTRAINT ledger_journal_reverses_fk;
ALTER TABLE ledger_line DROP CONSTRAINT ledger_line_account_fk, DROP CONSTRAINT ledger_line_journal_fk;
"""

# The chart as a view of constants: read like a table, but changed only by a migration. Filled in 0003.
CHART = """
CREATE VIEW ledger_chart (code, name, kind, dimension, clears_within, bounded, slots) AS
    SELECT NULL::text, NULL::text, NULL::text, NULL::text, NULL::interval, NULL::boolean, NULL::int WHERE false;
"""

ACCOUNTS = """
CREATE FUNCTION ledger_account_of_chart() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger_chart WHERE code = NEW.code) THEN
        RAISE EXCEPTION 'account % is not in the chart of accounts', NEW.code
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_account_of_chart';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_account_of_chart BEFORE INSERT ON ledger_account
    FOR EACH ROW EXECUTE FUNCTION ledger_account_of_chart();
COMMENT ON TRIGGER ledger_account_of_chart ON ledger_account IS 'no account outside the chart';
"""
NO_ACCOUNTS = """
DROP TRIGGER ledger_account_of_chart ON ledger_account;
DROP FUNCTION ledger_account_of_chart();
"""

JOURNALS = """
CREATE FUNCTION ledger_is_negative(reversal bigint, original bigint) RETURNS boolean
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT NOT EXISTS (
        (SELECT account_id, amount FROM ledger_line WHERE journal_id = reversal
         EXCEPT ALL
         SELECT account_id, -amount FROM ledger_line WHERE journal_id = original)
        UNION ALL
        (SELECT account_id, -amount FROM ledger_line WHERE journal_id = original
         EXCEPT ALL
         SELECT account_id, amount FROM ledger_line WHERE journal_id = reversal)
    )
$$;

CREATE FUNCTION ledger_journal_balanced() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    lines bigint;
    difference text;
BEGIN
    SELECT coalesce(sum(count), 0), string_agg(sum || ' ' || currency, ', ' ORDER BY currency) FILTER (WHERE sum <> 0)
        INTO lines, difference
        FROM (SELECT currency, count(*), sum(amount) FROM ledger_line WHERE journal_id = NEW.id GROUP BY currency) each;
    IF lines < 2 THEN
        RAISE EXCEPTION 'journal % (%) has % lines; a fact needs two or more', NEW.id, NEW.idempotency_key, lines
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_journal_balanced';
    END IF;
    IF difference IS NOT NULL THEN
        RAISE EXCEPTION 'journal % (%) does not sum to zero: % in minor units', NEW.id, NEW.idempotency_key, difference
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_journal_balanced';
    END IF;
    IF NEW.reverses_id IS NOT NULL AND NOT ledger_is_negative(NEW.id, NEW.reverses_id) THEN
        RAISE EXCEPTION 'journal % (%) is not the exact negative of journal %',
                NEW.id, NEW.idempotency_key, NEW.reverses_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_journal_balanced';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ledger_journal_balanced AFTER INSERT ON ledger_journal
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_journal_balanced();
COMMENT ON TRIGGER ledger_journal_balanced ON ledger_journal IS
    'I1: zero per currency. I2: two lines or more. I7: a reversal is the exact negative';
"""
NO_JOURNALS = """
DROP TRIGGER ledger_journal_balanced ON ledger_journal;
DROP FUNCTION ledger_journal_balanced();
DROP FUNCTION ledger_is_negative(bigint, bigint);
"""

LINES = """
CREATE FUNCTION ledger_line_sealed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    written record;
BEGIN
    FOR written IN SELECT journal_id, count(*) AS lines FROM new_lines GROUP BY journal_id LOOP
        IF (SELECT created_xid FROM ledger_journal WHERE id = written.journal_id) <> pg_current_xact_id() THEN
            RAISE EXCEPTION 'no line is added to journal % after its transaction', written.journal_id
                USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
        END IF;
        -- It may have been found balanced already in this very transaction; so its lines come in one statement.
        IF (SELECT count(*) FROM ledger_line WHERE journal_id = written.journal_id) <> written.lines THEN
            RAISE EXCEPTION 'the lines of journal % are written in one statement', written.journal_id
                USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_line_sealed AFTER INSERT ON ledger_line
    REFERENCING NEW TABLE AS new_lines FOR EACH STATEMENT EXECUTE FUNCTION ledger_line_sealed();
COMMENT ON TRIGGER ledger_line_sealed ON ledger_line IS 'I3: a journal is sealed once its lines are written';

CREATE FUNCTION ledger_line_moves_balance() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    moved record;
    account record;
    kept bigint;
BEGIN
    -- In order of account id: two journals over the same accounts wait for one another instead of deadlocking.
    FOR moved IN
        SELECT account_id, sum(amount)::bigint AS amount, count(*) AS lines, max(journal_id) AS journal_id
        FROM new_lines GROUP BY account_id ORDER BY account_id
    LOOP
        -- The outer join keeps an account whose code left the chart: without a slot it is refused, not forgotten.
        SELECT a.code, a.key, a.currency, chart.bounded, pg_backend_pid() % chart.slots AS slot INTO account
            FROM ledger_account a LEFT JOIN ledger_chart chart ON chart.code = a.code WHERE a.id = moved.account_id;
        INSERT INTO ledger_balance AS held (account_id, slot, balance, version, journal_id)
            VALUES (moved.account_id, account.slot, moved.amount, moved.lines, moved.journal_id)
            ON CONFLICT (account_id, slot) DO UPDATE
            SET balance = held.balance + excluded.balance,
                version = held.version + excluded.version,
                journal_id = excluded.journal_id
            RETURNING held.balance INTO kept;
        IF account.bounded AND kept > 0 THEN
            RAISE EXCEPTION 'account % % would be overdrawn by % % in minor units',
                    account.code, account.key, kept, account.currency
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_balance_bounded',
                      DETAIL = json_build_object('code', account.code, 'key', account.key,
                          'currency', account.currency, 'asked', moved.amount, 'held', moved.amount - kept);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_line_moves_balance AFTER INSERT ON ledger_line
    REFERENCING NEW TABLE AS new_lines FOR EACH STATEMENT EXECUTE FUNCTION ledger_line_moves_balance();
COMMENT ON TRIGGER ledger_line_moves_balance ON ledger_line IS
    'I10: the kept balance is the sum of the lines. I9: a bounded account gives what it was given';
"""
NO_LINES = """
DROP TRIGGER ledger_line_moves_balance ON ledger_line;
DROP TRIGGER ledger_line_sealed ON ledger_line;
DROP FUNCTION ledger_line_moves_balance();
DROP FUNCTION ledger_line_sealed();
"""

APPEND_ONLY = """
CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: the ledger only grows; correct it with a reversal', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
END $$;
CREATE TRIGGER ledger_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_journal
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
COMMENT ON TRIGGER ledger_journal_append_only ON ledger_journal IS 'I5: journals are never changed or removed';
CREATE TRIGGER ledger_line_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_line
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
COMMENT ON TRIGGER ledger_line_append_only ON ledger_line IS 'I5: lines are never changed or removed';
CREATE TRIGGER ledger_account_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
COMMENT ON TRIGGER ledger_account_append_only ON ledger_account IS 'I5: an account never becomes another';

CREATE FUNCTION ledger_balance_kept() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- A write from inside another trigger (lines moved it) is at depth 2; a direct one at 1.
    IF TG_OP IN ('DELETE', 'TRUNCATE') OR pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION '% of ledger_balance is refused: balances move only with lines', TG_OP
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'ledger_balance_kept';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_balance_kept BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger_balance
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_balance_kept();
COMMENT ON TRIGGER ledger_balance_kept ON ledger_balance IS 'I10: nobody writes a balance but the lines';
"""
NO_APPEND_ONLY = """
DROP TRIGGER ledger_balance_kept ON ledger_balance;
DROP TRIGGER ledger_account_append_only ON ledger_account;
DROP TRIGGER ledger_line_append_only ON ledger_line;
DROP TRIGGER ledger_journal_append_only ON ledger_journal;
DROP FUNCTION ledger_balance_kept();
DROP FUNCTION ledger_append_only();
"""

POST = """
CREATE FUNCTION ledger_content_hash(
    kind text, subject text, reference text, reverses bigint,
    codes text[], keys text[], amounts bigint[], currencies text[]
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
    SELECT encode(sha256(convert_to(json_build_array(kind, subject, reference, reverses, (
        SELECT json_agg(json_build_array(code, key, amount, currency)
                        ORDER BY code COLLATE "C", key COLLATE "C", currency COLLATE "C", amount)
        FROM unnest(codes, keys, amounts, currencies) AS line (code, key, amount, currency)
    ))::text, 'UTF8')), 'hex')
$$;
COMMENT ON FUNCTION ledger_content_hash IS
    'I6: what makes two requests with one key the same: the fact and its lines in any order, not when it was told';

CREATE FUNCTION ledger_post(
    p_key text, p_kind text, p_subject text, p_reference text, p_memo text, p_actor text,
    p_effective_at timestamptz, p_recorded_at timestamptz, p_reverses bigint,
    p_codes text[], p_keys text[], p_amounts bigint[], p_currencies text[],
    OUT journal_id bigint, OUT created boolean, OUT same boolean
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    content text := ledger_content_hash(
        p_kind, p_subject, p_reference, p_reverses, p_codes, p_keys, p_amounts, p_currencies);
    posted bigint;
BEGIN
    -- Two who post one fact at once meet here: the second waits for the first to commit, then finds its journal.
    INSERT INTO ledger_journal (idempotency_key, request_hash, kind, subject, reference, memo, actor,
                                effective_at, recorded_at, reverses_id)
        VALUES (p_key, content, p_kind, p_subject, p_reference, p_memo, p_actor,
                p_effective_at, p_recorded_at, p_reverses)
        ON CONFLICT (idempotency_key) DO NOTHING
        RETURNING id INTO posted;
    IF posted IS NULL THEN
        SELECT id, false, request_hash = content INTO journal_id, created, same
            FROM ledger_journal WHERE idempotency_key = p_key;
        RETURN;
    END IF;
    -- In one order, so that two who open the same accounts wait instead of deadlocking.
    -- The look-ups are scalar on purpose: as a join, a plan cached while the table was small would scan it when large.
    INSERT INTO ledger_account (code, key, currency)
        SELECT DISTINCT code, key, currency FROM unnest(p_codes, p_keys, p_currencies) AS line (code, key, currency)
        WHERE (SELECT id FROM ledger_account a
               WHERE a.code = line.code AND a.key = line.key AND a.currency = line.currency) IS NULL
        ORDER BY code, key, currency
        ON CONFLICT DO NOTHING;
    INSERT INTO ledger_line (journal_id, account_id, amount, currency)
        SELECT posted,
               (SELECT id FROM ledger_account a
                WHERE a.code = line.code AND a.key = line.key AND a.currency = line.currency),
               amount, currency
        FROM unnest(p_codes, p_keys, p_amounts, p_currencies)
             WITH ORDINALITY AS line (code, key, amount, currency, position)
        ORDER BY position;
    -- Refuse here and now rather than at commit: the error then names the caller who is wrong.
    SET CONSTRAINTS ledger_journal_balanced IMMEDIATE;
    SET CONSTRAINTS ledger_journal_balanced DEFERRED;
    journal_id := posted;
    created := true;
    same := true;
END $$;
COMMENT ON FUNCTION ledger_post IS 'The one way into the ledger: a journal and its lines, once per key';
"""
NO_POST = """
DROP FUNCTION ledger_post(
    text, text, text, text, text, text, timestamptz, timestamptz, bigint, text[], text[], bigint[], text[]);
DROP FUNCTION ledger_content_hash(text, text, text, bigint, text[], text[], bigint[], text[]);
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]

    operations = [
        migrations.RunSQL(FIX_SEARCH_PATH, migrations.RunSQL.noop),
        migrations.RunSQL(FOREIGN_KEYS, NO_FOREIGN_KEYS),
        migrations.RunSQL(CHART, "DROP VIEW ledger_chart"),
        migrations.RunSQL(ACCOUNTS, NO_ACCOUNTS),
        migrations.RunSQL(JOURNALS, NO_JOURNALS),
        migrations.RunSQL(LINES, NO_LINES),
        migrations.RunSQL(APPEND_ONLY, NO_APPEND_ONLY),
        migrations.RunSQL(POST, NO_POST),
    ]
