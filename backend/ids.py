"""Identifiers: UUID version 7, ordered by time, made before anything is written."""

import secrets
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT_RFC_9562 = 0b10 << 62


def uuid7() -> UUID:
    """Make a UUIDv7: 48 bits of milliseconds since 1970 UTC, 74 random bits (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random_a = secrets.randbits(12) << 64
    random_b = secrets.randbits(62)
    return UUID(int=(milliseconds << 80) | _VERSION_7 | random_a | _VARIANT_RFC_9562 | random_b)
