"""Money as people read it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.units import usd


@pytest.mark.parametrize(
    ("nano_usd", "expected"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (2800, "0.0000028"),
        (1_000_000_000, "1"),
        (1_500_000_000, "1.5"),
        (10_000_000_000, "10"),
        (-2800, "-0.0000028"),
    ],
)
def test_an_amount_is_written_exactly_and_without_trailing_zeros(nano_usd: int, expected: str) -> None:
    """Never in scientific notation."""
    assert usd(nano_usd) == expected


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_no_amount_is_rounded(nano_usd: int) -> None:
    """Any bigint comes back from its text."""
    text = usd(nano_usd)
    assert Decimal(text) * 10**9 == nano_usd
    assert "." not in text or text[-1] != "0"
