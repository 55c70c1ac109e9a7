"""The figures as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.performance.figures import Figures
from bench.performance.gateways import CLEARFLOOR, DIRECT
from bench.performance.scenarios import LATENCY, THROUGHPUT

_NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """One line of a table: a metric of every gateway."""

    scenario: str
    metric: str
    label: str
    decimals: int = 1


@dataclass(frozen=True)
class Table:
    """A table of a scenario."""

    title: str
    rows: tuple[Row, ...]


_TABLES = (
    Table(
        "64 connections",
        (
            Row(THROUGHPUT, "rate", "requests a second", 0),
            Row(THROUGHPUT, "p50", "median latency, ms"),
            Row(THROUGHPUT, "p99", "99th percentile, ms"),
            Row(THROUGHPUT, "gateway_cpu", "CPU seconds per 1,000 requests: gateway", 2),
            Row(THROUGHPUT, "database_cpu", "Postgres and PostgREST", 2),
            Row(THROUGHPUT, "front_cpu", "nginx before PostgREST", 2),
            Row(THROUGHPUT, "provider_cpu", "mock provider", 2),
            Row(THROUGHPUT, "load_cpu", "load generator", 2),
            Row(THROUGHPUT, "failures", "failed requests", 0),
        ),
    ),
    Table(
        "1 connection",
        (
            Row(LATENCY, "p50", "median latency, ms", 2),
            Row(LATENCY, "p99", "99th percentile, ms", 2),
            Row(LATENCY, "p50_added", "median added to the direct call, ms", 2),
            Row(LATENCY, "p99_added", "99th percentile added, ms", 2),
            Row(LATENCY, "failures", "failed requests", 0),
        ),
    ),
)
_GATEWAYS = (CLEARFLOOR, DIRECT)


def tables(figures: Figures) -> str:
    """Return every table of which something was measured."""
    return "\n\n".join(text for table in _TABLES if (text := _table(table, figures)))


def _table(table: Table, figures: Figures) -> str:
    rows = [[row.label, *(_cell(row, gateway, figures) for gateway in _GATEWAYS)] for row in table.rows]
    if all(cell == _NOTHING for row in rows for cell in row[1:]):
        return ""
    return markdown([table.title, *_GATEWAYS], rows)


def _cell(row: Row, gateway: str, figures: Figures) -> str:
    figure = figures.get(row.scenario, gateway, row.metric)
    return _NOTHING if figure is None else figure.show(row.decimals)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
