"""A run's figures become tables, and targets are met or not."""

import pytest

from bench.performance.conditions import Conditions
from bench.performance.figures import Figures
from bench.performance.report import text
from bench.performance.targets import TARGETS, Target


def figures_of(**rates: float) -> Figures:
    """Return figures of the throughput scenario, by gateway."""
    figures = Figures()
    for gateway, rate in rates.items():
        figures.add("throughput", gateway, {"rate": rate})
    return figures


def verdict(what: str, figures: Figures) -> str:
    """Return what became of the target with this name."""
    (target,) = (target for target in TARGETS if target.what == what)
    return target.verdict(figures)


@pytest.mark.parametrize(
    ("relation", "measured", "expected"),
    [
        ("≥", 2000.0, "met"),
        ("≥", 1999.9, "not met"),
        ("≤", 2000.0, "met"),
        ("<", 2000.0, "not met"),
        ("≥", None, "not measured"),
    ],
)
def test_a_bound_is_kept_or_not(relation: str, measured: float | None, expected: str) -> None:
    """As it is, without rounding."""
    target = Target("rate", relation, 2000, "", lambda _: measured)
    assert target.verdict(Figures()) == expected


def test_a_peer_is_compared_with_if_it_was_measured() -> None:
    """A missing peer is no victory."""
    what = "64 connections: times LiteLLM's rate"
    assert verdict(what, figures_of(Clearfloor=2400.0, LiteLLM=200.0)) == "met"
    assert verdict(what, figures_of(Clearfloor=2400.0, LiteLLM=201.0)) == "not met"
    assert verdict(what, figures_of(Clearfloor=2400.0)) == "not measured"


def test_memory_counts_only_after_all_the_requests() -> None:
    """A gateway too slow to serve them in time has not shown it."""
    what = "memory after 100,000 requests and 1,000 broken streams"
    figures = Figures()
    figures.add("resources", "Clearfloor", {"after_all_requests": 99_999, "after_broken": 120.0})
    assert verdict(what, figures) == "not measured"
    figures = Figures()
    figures.add("resources", "Clearfloor", {"after_all_requests": 100_000, "after_broken": 120.0})
    assert verdict(what, figures) == "met"


def test_the_report_has_what_was_measured_and_what_is_missing() -> None:
    """A column a gateway, its failures, the conditions, and why a peer is not there."""
    figures = figures_of(Clearfloor=2100.0, LiteLLM=150.0)
    figures.add("throughput", "LiteLLM", {"failures": 3})
    conditions = Conditions("a machine", {"Python": "3.11.7"}, "abc1234", "2026-11-24", 3, 4.0)
    conditions.missing["Portkey"] = "npm is missing"
    report = text(figures, conditions)
    assert "| 64 connections | Clearfloor | LiteLLM |" in report
    assert "| requests a second | 2,100 | 150 |" in report
    assert "| failures | - | 3 |" in report
    assert "| 64 connections: requests a second | ≥ 2,000 | 2,100 | met |" in report
    assert "commit `abc1234`" in report
    assert "- Portkey is missing: npm is missing" in report
    assert "16 streams at once" not in report
