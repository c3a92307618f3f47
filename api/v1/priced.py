"""What quotes and bookings have in common: a stay and its price, line by line."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from api.fields import MoneyOf, StoredMoneyOut


class LineOut(serializers.Serializer[Any]):
    kind = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    quantity = serializers.IntegerField()
    unit = StoredMoneyOut()
    amount = StoredMoneyOut()
    charged = StoredMoneyOut(help_text="the same in the currency that is charged")


class RateOut(serializers.Serializer[Any]):
    """The exchange rate that was frozen: one `base` buys `value` (an exact fraction) of `quote`, as of `on`."""

    base = serializers.CharField()
    quote = serializers.CharField()
    value = serializers.CharField()
    on = serializers.DateField()
    source = serializers.CharField()  # type: ignore[assignment]


class ListingRefOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    title = serializers.CharField()
    city = serializers.CharField()
    country = serializers.CharField()


class PersonRefOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField(source="first_name")


class PricedOut(serializers.Serializer[Any]):
    """A stay and what it costs. `total` is in the home's currency, `charge_total` is what the guest pays."""

    code = serializers.CharField()
    listing = ListingRefOut()
    check_in = serializers.DateField()
    check_out = serializers.DateField()
    nights = serializers.IntegerField()
    guests = serializers.IntegerField()
    total = MoneyOf("total")
    charge_total = MoneyOf("charge_total", "charge_currency")
    cancellation_tier = serializers.CharField()
