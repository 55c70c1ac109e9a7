"""Identifiers: UUID version 7, ordered by time, made before anything is written."""

import os
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT_RFC_9562 = 0b10 << 62
_RANDOM = (0xFFF << 64) | (2**62 - 1)


def uuid7() -> UUID:
    """Make a UUIDv7: 48 bits of milliseconds since 1970 UTC, 74 random bits (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT_RFC_9562 | (random & _RANDOM))
