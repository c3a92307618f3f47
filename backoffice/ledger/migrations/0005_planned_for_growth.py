"""A post finds its rows by index from the first day on.

PostgreSQL plans the statements of `ledger_post`, and of the triggers and foreign keys that it fires, once per connection.
Planned while the statistics said that a table is empty, they would scan it from end to end until the next ANALYZE, however
many rows arrive before.
"""

from django.db import migrations

POST = (
    "ledger_post(text, text, text, text, text, text, timestamptz, timestamptz, bigint, text[], text[], bigint[], text[])"
)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_unclaimed_by_refund")]

    operations = [
        migrations.RunSQL(
            f"ALTER FUNCTION {POST} SET enable_seqscan = off", f"ALTER FUNCTION {POST} RESET enable_seqscan"
        )
    ]
