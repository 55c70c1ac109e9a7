"""Measures Clearfloor with more and more decisions in the record: `python -m bench.performance.growth`.

The record only grows, so rounds cannot be interleaved: a small record is measured first and, on a new site, once more in
the end. What differs between these two is the machine's.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence

from backend.stack.errors import StackError
from bench.fill import fill
from bench.performance import document
from bench.performance.audit import AuditError
from bench.performance.figures import Figures
from bench.performance.gateways import CLEARFLOOR, direct
from bench.performance.programs import require_programs
from bench.performance.report import markdown
from bench.performance.scenarios import LATENCY, SCENARIOS, THROUGHPUT, Turn
from bench.performance.site import BENCH_HOME, FIRST_DECISIONS, Site, running_site

_ROWS = (1_000_000, 10_000_000)
_ROUNDS = 3
_SECONDS = 4.0
# A decision with its attempt, its ledger entry and their indexes, and what Postgres logs of them meanwhile.
_BYTES_PER_DECISION = 3_500
_BYTES_PER_GIGABYTE = 10**9
_LINES = (
    ("requests a second", THROUGHPUT, "rate", 0),
    ("99th percentile, ms", THROUGHPUT, "p99", 1),
    ("gateway CPU s per 1,000", THROUGHPUT, "gateway_cpu", 2),
    ("database CPU s per 1,000", THROUGHPUT, "database_cpu", 2),
    ("1 connection: median added, ms", LATENCY, "p50_added", 2),
    ("1 connection: 99th percentile added, ms", LATENCY, "p99_added", 2),
)

# What was measured, and with how many decisions in the record.
Series = list[tuple[str, Figures]]


def main() -> int:
    """Measure, print, write if asked to, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.performance.growth")
    parser.add_argument(
        "--rows", type=_numbers, default=_ROWS, help="decisions to fill up to, comma-separated"
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="how often each size is measured")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long each measure takes")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    given = parser.parse_args()
    try:
        require_programs()
        _require_space(max(given.rows))
        text = table(_measured(given.rows, given.rounds, given.seconds))
    except (StackError, AuditError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    if given.write:
        document.replace(document.GROWTH, text)
    return 0


def table(series: Series) -> str:
    """Return a Markdown table with a line for each size."""
    rows = []
    for name, figures in series:
        found = [figures.get(scenario, CLEARFLOOR, metric) for _, scenario, metric, _ in _LINES]
        cells = [
            figure.show(decimals) if figure else "-"
            for figure, (*_, decimals) in zip(found, _LINES, strict=True)
        ]
        rows.append([name, *cells])
    return markdown(["decisions", *(label for label, *_ in _LINES)], rows)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in text.split(",")))


def _require_space(rows: int) -> None:
    BENCH_HOME.mkdir(parents=True, exist_ok=True)
    needed, free = rows * _BYTES_PER_DECISION, shutil.disk_usage(BENCH_HOME).free
    if needed > free:
        told = f"{needed / _BYTES_PER_GIGABYTE:.0f} GB, {free / _BYTES_PER_GIGABYTE:.0f} are free"
        raise StackError(f"{rows:,} decisions need about {told}: fewer can be asked for with --rows.")


def _measured(sizes: Sequence[int], rounds: int, seconds: float) -> Series:
    series: Series = []
    with running_site() as site:
        series.append((f"{FIRST_DECISIONS:,}", _measured_once(site, rounds, seconds)))
        filled = 0
        for size in sizes:
            sys.stderr.write(f"filling up to {size:,} decisions\n")
            fill(site.world(), site.fill_tenants(), size - filled)
            site.records.settle_balances()
            filled = size
            series.append((f"{size:,}", _measured_once(site, rounds, seconds)))
    with running_site() as site:
        series.append((f"{FIRST_DECISIONS:,}, in the end", _measured_once(site, rounds, seconds)))
    return series


def _measured_once(site: Site, rounds: int, seconds: float) -> Figures:
    figures = Figures()
    with site.clearfloor() as gateway:
        for number in range(rounds):
            turn = Turn(number, seconds, figures)
            for name in (THROUGHPUT, LATENCY):
                for measured in (direct(site.provider.url), gateway):
                    sys.stderr.write(f"round {number + 1}: {name}, {measured.name}\n")
                    SCENARIOS[name].measure(site, measured, turn)
    return figures


if __name__ == "__main__":
    sys.exit(main())
