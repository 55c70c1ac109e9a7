"""The figures of a run as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.performance.conditions import Conditions
from bench.performance.figures import Figures
from bench.performance.gateways import CLEARFLOOR, DIRECT
from bench.performance.peers import FORWARDER, LITELLM, PORTKEY
from bench.performance.resources import RESOURCES
from bench.performance.scenarios import (
    LATENCY,
    MANY_AGENTS,
    MANY_WALLETS,
    ONE_WALLET,
    STREAMS,
    THROUGHPUT,
    WALLETS,
)
from bench.performance.targets import TARGETS

GATEWAYS = (CLEARFLOOR, LITELLM, PORTKEY, FORWARDER, DIRECT)
_NOTHING = "-"


@dataclass(frozen=True)
class Line:
    """One line of a table: a metric of every gateway."""

    label: str
    metric: str
    decimals: int = 1


@dataclass(frozen=True)
class Table:
    """What one scenario has measured."""

    title: str
    scenario: str
    lines: tuple[Line, ...]


_FAILURES = Line("failures", "failures", 0)
_CPU_OF_OTHERS = (
    Line("… Postgres and PostgREST", "database_cpu", 2),
    Line("… nginx before PostgREST", "front_cpu", 2),
    Line("… mock provider", "provider_cpu", 2),
    Line("… load generator", "load_cpu", 2),
)
_TABLES = (
    Table(
        "64 connections",
        THROUGHPUT,
        (
            Line("requests a second", "rate", 0),
            Line("median latency, ms", "p50"),
            Line("99th percentile, ms", "p99"),
            Line("CPU s per 1,000 requests: gateway", "gateway_cpu", 2),
            *_CPU_OF_OTHERS,
            _FAILURES,
        ),
    ),
    Table(
        "1 connection",
        LATENCY,
        (
            Line("median latency, ms", "p50", 2),
            Line("99th percentile, ms", "p99", 2),
            Line("median added to the direct call, ms", "p50_added", 2),
            Line("99th percentile added, ms", "p99_added", 2),
            _FAILURES,
        ),
    ),
    Table(
        "16 streams at once",
        STREAMS,
        (
            Line("first byte, ms", "first", 2),
            Line("first byte added to the direct call, ms", "first_added", 2),
            Line("CPU s per 1,000 streams: gateway", "gateway_cpu", 2),
            *_CPU_OF_OTHERS,
            _FAILURES,
        ),
    ),
    Table(
        "512 callers, 50 ms provider",
        WALLETS,
        (
            Line("one wallet, one agent: requests a second", f"{ONE_WALLET}_rate", 0),
            Line("256 wallets: requests a second", f"{MANY_WALLETS}_rate", 0),
            Line("one wallet, 256 agents: requests a second", f"{MANY_AGENTS}_rate", 0),
            Line("one wallet, one agent: 99th percentile, ms", f"{ONE_WALLET}_p99", 0),
            Line("256 wallets: 99th percentile, ms", f"{MANY_WALLETS}_p99", 0),
            Line("one wallet, 256 agents: 99th percentile, ms", f"{MANY_AGENTS}_p99", 0),
        ),
    ),
    Table(
        "start and memory of a worker",
        RESOURCES,
        (
            Line("start to ready, s", "ready", 2),
            Line("idle, MB", "idle", 0),
            Line("after the first requests, MB", "after_first", 0),
            Line("… so many", "after_first_requests", 0),
            Line("after all requests, MB", "after_all", 0),
            Line("… so many", "after_all_requests", 0),
            Line("after 1,000 broken streams, MB", "after_broken", 0),
        ),
    ),
)


def text(figures: Figures, conditions: Conditions) -> str:
    """Return everything that a run has to say."""
    found = (_table(table, figures) for table in _TABLES)
    return "\n\n".join([_targets(figures), *(table for table in found if table), _conditions(conditions)])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _targets(figures: Figures) -> str:
    return markdown(("target", "", "measured", ""), [target.row(figures) for target in TARGETS])


def _table(table: Table, figures: Figures) -> str:
    """Return a table with a column for each gateway that was measured; nothing if none was."""
    gateways = [
        gateway
        for gateway in GATEWAYS
        if any(figures.get(table.scenario, gateway, line.metric) for line in table.lines)
    ]
    if not gateways:
        return ""
    rows = [
        [line.label, *(_cell(table, line, gateway, figures) for gateway in gateways)] for line in table.lines
    ]
    return markdown([table.title, *gateways], rows)


def _cell(table: Table, line: Line, gateway: str, figures: Figures) -> str:
    figure = figures.get(table.scenario, gateway, line.metric)
    return _NOTHING if figure is None else figure.show(line.decimals)


def _conditions(conditions: Conditions) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in conditions.versions.items())
    return "\n".join(
        [
            f"- {conditions.date}, commit `{conditions.commit}`.",
            f"- Medians of {conditions.rounds} rounds (least-most), {conditions.seconds:g} s each.",
            f"- {conditions.machine}.",
            f"- {versions}.",
            f"- {conditions.decisions:,} decisions in the record at the end.",
            *(
                f"- {_told(gateway.name, gateway.version)}: {gateway.configuration}."
                for gateway in conditions.gateways
            ),
            *(f"- {name} is missing: {reason}" for name, reason in conditions.missing.items()),
        ]
    )


def _told(name: str, version: str) -> str:
    return f"{name} {version}" if version else name
