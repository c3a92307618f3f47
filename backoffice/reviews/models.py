"""What guests wrote about homes."""

from __future__ import annotations

from django.db import models

from backoffice.listings.models import Listing


class Review(models.Model):
    """One review as imported history: who wrote it is a pseudonym, not an account here.

    A review that a newer snapshot no longer holds is retired, never deleted. Imports carry no rating per review; the
    export's own average is on the listing."""

    listing = models.ForeignKey(Listing, on_delete=models.PROTECT, related_name="reviews")
    author = models.CharField(max_length=120, blank=True, default="", help_text="a pseudonym unless asked otherwise")
    written_on = models.DateField()
    text = models.TextField(blank=True, default="")
    rating = models.PositiveSmallIntegerField(null=True, help_text="1 to 5")
    source = models.CharField(max_length=160, null=True, unique=True, help_text="import and id there")
    retired_on = models.DateField(null=True, help_text="the snapshot that no longer held it")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="review_rating", condition=models.Q(rating__gte=1, rating__lte=5)),
        ]
        indexes = [
            models.Index(
                name="review_of_listing", fields=["listing", "-written_on", "-id"], condition=models.Q(retired_on=None)
            ),
        ]

    def __str__(self) -> str:
        return f"review {self.id} of {self.listing_id}"
