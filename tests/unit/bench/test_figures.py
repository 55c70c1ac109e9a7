"""Rounds become a median with its spread."""

import pytest

from bench.performance.figures import Figure, Figures


def test_a_figure_is_the_median_of_the_rounds_with_least_and_most() -> None:
    """One slow round does not move it."""
    figures = Figures()
    for rate in (1990.0, 2100.0, 400.0):
        figures.add("throughput", "Clearfloor", {"rate": rate, "p50": 30.0})
    assert figures.get("throughput", "Clearfloor", "rate") == Figure(1990.0, 400.0, 2100.0)


def test_what_was_not_measured_is_none() -> None:
    """A gateway that is missing has no zeros."""
    assert Figures().get("throughput", "Portkey", "rate") is None


@pytest.mark.parametrize(
    ("values", "decimals", "shown"),
    [
        ([1990.4, 2100.0, 400.0], 0, "1,990 (400-2,100)"),
        ([0.304, 0.296], 2, "0.30"),
        ([3.25], 2, "3.25"),
    ],
)
def test_a_figure_is_shown_with_the_spread_that_can_be_seen(
    values: list[float], decimals: int, shown: str
) -> None:
    """No more digits than the metric deserves."""
    assert Figure.of(values).show(decimals) == shown
