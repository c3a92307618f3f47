"""The life of a listing."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

LISTING: Final = StateTable(
    kind="listing",
    statuses=("draft", "in_review", "published", "paused", "removed"),
    steps={
        "submit": {"draft": "in_review"},
        "publish": {"in_review": "published"},
        "send_back": {"in_review": "draft"},
        "review_again": {"published": "in_review", "paused": "in_review", "in_review": "in_review"},
        "pause": {"published": "paused"},
        "resume": {"paused": "published"},
        "remove": {"draft": "removed", "in_review": "removed", "published": "removed", "paused": "removed"},
        "restore": {"removed": "draft"},
    },
)

HOLD_KINDS: Final = ("booking", "block", "ical")
ROOM_TYPES: Final = ("entire_home", "private_room", "shared_room", "hotel_room")
CANCELLATION_TIERS: Final = ("flexible", "moderate", "limited", "firm", "strict", "non-refundable")
