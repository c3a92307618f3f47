"""What the log's bytes are, what is hashed, and what may never enter it.

**Canonical bytes** of an entry: the UTF-8 text of a JSON array, in this order:

    [seq, at, actor_kind, actor_id, actor_name, verb, object_kind, object_id, before, after,
     reason, request_id, address, case_ref, approval_ref, created_xid]

`at` is UTC as "2026-10-30T09:15:00.000000Z"; `created_xid` is the writing transaction, as text. The bytes are stored as
hashed: the text form of jsonb is no contract between versions of PostgreSQL, so what verification compares with the
columns is the JSON *value* of the stored bytes.

**Leaf** = SHA-256(0x00 ‖ canonical). **Header** of a block = SHA-256(0x02 ‖ JSON array of its index, count, xids and
sealing instant). **Root** = SHA-256(0x01 ‖ previous root ‖ leaves in order of seq ‖ header). The first bytes keep the
three kinds apart, as in RFC 6962: no block can be passed off as an entry.

**Anchor** of a block = one line of text outside the database: index, root in hex, sealing instant, first and last
sequence number, count, separated by spaces.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from backoffice.core.errors import Invalid

LEAF_SIZE: Final = 32
GENESIS: Final = bytes(LEAF_SIZE)  # the root before the first block
BLOCK_SIZE: Final = 10_000
ANCHORS_PER_FILE: Final = 100_000

# Names under which rooms keep what identifies or locates a person. The log outlives an erasure, so it keeps of these
# at most that they changed, with a keyed digest.
PERSONAL_FIELDS: Final = frozenset(
    {
        *("name", "first_name", "last_name", "full_name", "legal_name", "display_name", "surname"),
        *("email", "e_mail", "email_address", "phone", "phone_number", "mobile", "password"),
        *("address", "street", "street_address", "postcode", "postal_code", "ip", "ip_address"),
        *("birthday", "birth_date", "date_of_birth", "passport", "passport_number", "document_number", "tax_id"),
        *("iban", "card_number"),
    }
)


def leaf(canonical: bytes) -> bytes:
    """The hash that a block seals for one entry."""
    return hashlib.sha256(b"\x00" + canonical).digest()


def header(*, index: int, count: int, xmin: str, xmax: str, sealed_at: datetime) -> bytes:
    """The hash of what a block says of itself, so that its own columns cannot be altered either."""
    facts = json.dumps([index, count, xmin, xmax, instant(sealed_at)], separators=(",", ":"))
    return hashlib.sha256(b"\x02" + facts.encode()).digest()


def root(*, previous: bytes, leaves: bytes, header: bytes) -> bytes:
    """The hash of a block over everything before it. `leaves` is their concatenation."""
    return hashlib.sha256(b"\x01" + previous + leaves + header).digest()


def instant(at: datetime) -> str:
    """An instant as the canonical bytes and the anchors write it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is known outside the database about a block."""

    index: int
    root: str
    sealed_at: str
    first: int
    last: int
    count: int

    def line(self) -> str:
        return f"{self.index} {self.root} {self.sealed_at} {self.first} {self.last} {self.count}\n"

    @classmethod
    def read(cls, line: str) -> Anchor:
        """The anchor of a whole line. Raises ValueError when it is not one."""
        index, root, sealed_at, first, last, count = line.split(" ")
        return cls(int(index), root, sealed_at, int(first), int(last), int(count))


def anchor_file(*, database: str, index: int) -> str:
    """The name of the file that holds block `index` of a database; new files begin at fixed indexes."""
    return f"{database}-{index // ANCHORS_PER_FILE:06d}.txt"


def digest(value: str, *, key: str) -> str:
    """A keyed digest: equal values can be seen to be equal, and nothing else can be learned without the key."""
    return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()[:32]


def check_facts(facts: Mapping[str, Any], *, field: str) -> None:
    """Refuse a raw personal field at any depth. Raises Invalid naming the path: an error of the caller's code, not of a
    user's input."""
    for name, value in facts.items():
        path = f"{field}.{name}"
        if name.lower() in PERSONAL_FIELDS and not _says_nothing(value):
            raise Invalid(f"{path} is personal: record audit.personal(value), not the value.", field=path)
        _check_within(value, path)


def _check_within(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        check_facts(value, field=path)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_within(item, path)


def _says_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return set(value) == {"changed", "digest"}
    return value is None or isinstance(value, bool) or value == ""
