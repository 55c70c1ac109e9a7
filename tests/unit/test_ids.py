"""Identifiers are UUIDv7, in the order of time."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.ids import earliest_uuid7, uuid7

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_an_id_is_of_version_7_and_of_the_rfc_variant() -> None:
    """Postgres and every library then read its time."""
    made = uuid7()
    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_ids_of_one_moment_differ() -> None:
    """By 74 random bits."""
    assert len({uuid7() for _ in range(10_000)}) == 10_000


@given(
    earlier=st.integers(min_value=0, max_value=2**47),
    later_by=st.integers(min_value=1, max_value=2**40),
    nanoseconds=st.integers(min_value=0, max_value=999_999),
)
def test_an_id_of_a_later_millisecond_is_greater(earlier: int, later_by: int, nanoseconds: int) -> None:
    """Rows are so ordered by time, and their first 48 bits are it."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        for milliseconds in (earlier, earlier + later_by):
            patch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000 + nanoseconds)
            made.append(uuid7())
            assert made[-1].int >> 80 == milliseconds
    assert made[0] < made[1]


@given(st.integers(1, 2**47).map(lambda milliseconds: EPOCH + timedelta(milliseconds=milliseconds)))
def test_what_is_made_at_a_time_is_not_before_its_earliest_id(moment: datetime) -> None:
    """And what was made a millisecond before is."""
    milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
    made = []
    with pytest.MonkeyPatch.context() as patch:
        for made_at in (milliseconds, milliseconds - 1):
            patch.setattr(time, "time_ns", lambda now=made_at: now * 1_000_000)
            made.append(uuid7())
    assert made[1] < earliest_uuid7(moment) <= made[0]
