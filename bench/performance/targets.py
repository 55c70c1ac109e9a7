"""What the project promises itself, and whether it was met."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

from bench.performance.figures import Figure, Figures
from bench.performance.gateways import CLEARFLOOR
from bench.performance.peers import LITELLM, PORTKEY
from bench.performance.resources import ALL_REQUESTS, RESOURCES
from bench.performance.scenarios import (
    LATENCY,
    MANY_AGENTS,
    MANY_WALLETS,
    ONE_WALLET,
    STREAMS,
    THROUGHPUT,
    WALLETS,
)

_RELATIONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Target:
    """A bound on something that can be found in the figures; None where it was not measured."""

    what: str
    relation: str
    bound: float
    unit: str
    find: Callable[[Figures], float | None]
    decimals: int = 1

    def verdict(self, figures: Figures) -> str:
        """Return ``met``, ``not met`` or ``not measured``."""
        found = self.find(figures)
        if found is None:
            return "not measured"
        return "met" if _RELATIONS[self.relation](found, self.bound) else "not met"

    def row(self, figures: Figures) -> list[str]:
        """Return it as a line of a table: what, the bound, what was measured, the verdict."""
        found = self.find(figures)
        measured = "-" if found is None else f"{found:,.{self.decimals}f}{self.unit}"
        return [
            self.what,
            f"{self.relation} {self.bound:,.{self.decimals}f}{self.unit}",
            measured,
            self.verdict(figures),
        ]


def _median(scenario: str, metric: str, gateway: str = CLEARFLOOR) -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        figure = figures.get(scenario, gateway, metric)
        return figure.median if figure else None

    return find


def _rate_against(peer: str) -> Callable[[Figures], float | None]:
    def find(figures: Figures) -> float | None:
        ours, theirs = _median(THROUGHPUT, "rate")(figures), _median(THROUGHPUT, "rate", peer)(figures)
        return ours / theirs if ours and theirs else None

    return find


def _spread_of_wallets(figures: Figures) -> float | None:
    """Return by how many percent the slowest of the three is slower than the fastest."""
    found = [
        figures.get(WALLETS, CLEARFLOOR, f"{name}_rate") for name in (ONE_WALLET, MANY_WALLETS, MANY_AGENTS)
    ]
    rates = [figure.median for figure in found if isinstance(figure, Figure)]
    return (1 - min(rates) / max(rates)) * 100 if len(rates) == len(found) else None


def _after_all(metric: str) -> Callable[[Figures], float | None]:
    """Return the finder of a memory figure that counts only if all the requests were served in time."""

    def find(figures: Figures) -> float | None:
        served = _median(RESOURCES, "after_all_requests")(figures) or 0
        return _median(RESOURCES, metric)(figures) if served >= ALL_REQUESTS else None

    return find


def _growth_of_memory(figures: Figures) -> float | None:
    """Return by how many percent the memory grew between the first requests and the last."""
    first, last = _median(RESOURCES, "after_first")(figures), _after_all("after_all")(figures)
    return (last / first - 1) * 100 if first and last else None


TARGETS = (
    Target("64 connections: requests a second", "≥", 2000, "", _median(THROUGHPUT, "rate"), 0),
    Target("64 connections: 99th percentile", "≤", 100, " ms", _median(THROUGHPUT, "p99"), 0),
    Target("64 connections: times LiteLLM's rate", "≥", 12, "", _rate_against(LITELLM)),
    Target("64 connections: times Portkey's rate", "≥", 2, "", _rate_against(PORTKEY)),
    Target("CPU per 1,000 requests: gateway", "≤", 0.5, " s", _median(THROUGHPUT, "gateway_cpu"), decimals=2),
    Target(
        "CPU per 1,000 requests: database", "≤", 0.3, " s", _median(THROUGHPUT, "database_cpu"), decimals=2
    ),
    Target("1 connection: median added", "≤", 3.5, " ms", _median(LATENCY, "p50_added")),
    Target("1 connection: 99th percentile added", "≤", 10, " ms", _median(LATENCY, "p99_added")),
    Target("CPU per 1,000 streams: gateway", "≤", 1.0, " s", _median(STREAMS, "gateway_cpu"), decimals=2),
    Target("16 streams: first byte added", "≤", 5, " ms", _median(STREAMS, "first_added")),
    Target("512 callers: one wallet, many, many agents differ by", "≤", 25, " %", _spread_of_wallets, 0),
    Target("start to ready", "<", 1.5, " s", _median(RESOURCES, "ready"), decimals=2),
    Target("memory of the worker, idle", "<", 110, " MB", _median(RESOURCES, "idle"), 0),
    Target(
        "memory after 100,000 requests and 1,000 broken streams",
        *("<", 180, " MB", _after_all("after_broken"), 0),
    ),
    Target("memory after 100,000 requests against after 10,000: more by", "≤", 5, " %", _growth_of_memory, 0),
)
