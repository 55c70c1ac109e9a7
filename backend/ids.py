"""Identifiers: UUID version 7, ordered by time, made before anything is written."""

import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION_7 = 0x7 << 76
_VARIANT_RFC_9562 = 0b10 << 62
_RANDOM = (0xFFF << 64) | (2**62 - 1)


def uuid7() -> UUID:
    """Make a UUIDv7: 48 bits of milliseconds since 1970 UTC, 74 random bits (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT_RFC_9562 | (random & _RANDOM))


def earliest_uuid7(moment: datetime) -> UUID:
    """Return the UUIDv7 before which, by order, nothing was made at that time or later."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT_RFC_9562)
