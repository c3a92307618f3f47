"""What search stands on: words without accents, and an index for each way to narrow down.

`words` is a column that the database fills and the models do not know: nothing writes it, only search reads it, and the
rest of the house does not carry it along with every home. Its index holds amenities too: a common word and a common
amenity together are rare, and one index intersects them before a row is read."""

from django.contrib.postgres.operations import UnaccentExtension
from django.db import migrations, models

CONFIGURATION = """
CREATE TEXT SEARCH CONFIGURATION staydesk (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION staydesk ALTER MAPPING FOR hword, hword_part, word WITH unaccent, simple;
"""

WORDS = """
ALTER TABLE listings_listing ADD COLUMN words tsvector GENERATED ALWAYS AS (
    to_tsvector('staydesk', title || ' ' || neighbourhood || ' ' || city)
) STORED;
CREATE INDEX listing_words ON listings_listing USING gin (words, amenities) WHERE status = 'published';
"""


class Migration(migrations.Migration):
    dependencies = [("listings", "0001_initial")]

    operations = [
        UnaccentExtension(),
        migrations.RunSQL(CONFIGURATION, "DROP TEXT SEARCH CONFIGURATION staydesk"),
        migrations.RunSQL(WORDS, "ALTER TABLE listings_listing DROP COLUMN words"),
        migrations.RemoveIndex(model_name="listing", name="listing_amenities"),
        migrations.RemoveIndex(model_name="listing", name="listing_by_price"),
        migrations.AddIndex(
            model_name="listing",
            index=models.Index(
                fields=["currency", "nightly_price", "id"],
                name="listing_by_price",
                condition=models.Q(status="published"),
            ),
        ),
        migrations.AddIndex(
            model_name="listing",
            index=models.Index(
                fields=["latitude", "longitude"], name="listing_by_place", condition=models.Q(status="published")
            ),
        ),
        migrations.AddIndex(
            model_name="listing",
            index=models.Index(
                (models.F("rating_sum") * 1000 / models.functions.Greatest("rating_count", 1)).desc(),
                models.F("id").desc(),
                name="listing_by_rating",
                condition=models.Q(status="published"),
            ),
        ),
    ]
