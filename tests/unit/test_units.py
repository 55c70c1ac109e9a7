"""Money as people read it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.units import nano_usd, usd


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("12.50", 12_500_000_000),
        ("0.000000001", 1),
        ("-0.0000028", -2800),
        ("999999999.999999999", 10**18 - 1),
    ],
)
def test_an_amount_is_read_exactly(text: str, expected: int) -> None:
    """To the last nano-USD."""
    assert nano_usd(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.0000000000",
        "0.0000000001",
        "1000000000",
        "1e3",
        "NaN",
        "inf",
        "1,50",
        "1_000",
        " 1",
        "1\n",
        "+1",
        ".5",
        "5.",
        "٣",
    ],
)
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    """More decimals than a nano-USD has, more than a wallet holds, and what only looks like a number."""
    with pytest.raises(ValueError, match="no amount in USD"):
        nano_usd(text)


@given(st.integers(min_value=-(10**18) + 1, max_value=10**18 - 1))
def test_an_amount_comes_back_from_its_text(amount: int) -> None:
    """Reading is the reverse of writing."""
    assert nano_usd(usd(amount)) == amount
