"""Measures the schema in SQL alone: `python -m bench.schema [--rows N] [--parts abcde] [--durable]`.

Starts a stack of its own. Parts: (a) batches, (b) concurrency, (c) growth, (d) retention, (e) plans. The last three fill
the tables first. Exit code 1 if a statement of the hot path read a growing table from end to end.
"""

import argparse
import os
import platform
import sys

from bench import growth, hot_path, partitions, plans, retention
from bench.fill import fill
from bench.world import World, running_world

TENANTS = 64
ROWS = 1_000_000
PARTS = "abcde"


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.schema", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="decisions to fill the tables with")
    parser.add_argument("--parts", default=PARTS, help="what to measure, some of " + PARTS)
    parser.add_argument("--durable", action="store_true", help="let Postgres wait for the disk (fsync)")
    arguments = parser.parse_args()
    with running_world(tenants=TENANTS, durable=arguments.durable) as world:
        _say_where(world, durable=arguments.durable)
        return measure(world, arguments.parts, arguments.rows)


def measure(world: World, parts: str, rows: int) -> int:
    """Run the named parts in order; return 1 if a growing table was read from end to end."""
    if "a" in parts:
        hot_path.measure_batches(world)
    if "b" in parts:
        hot_path.measure_concurrency(world)
    if not set(parts) & set("cde"):
        return 0
    few = {}
    if "c" in parts:
        growth.measure_write_path_size(world)
        few = growth.time_cells(world)
    seconds = fill(world, world.free, rows)
    scanned = False
    if "c" in parts:
        growth.show_growth(few, growth.time_cells(world), rows, seconds)
        growth.show_sizes(world)
        growth.measure_new_cap(world)
    if "e" in parts:
        scanned = plans.measure_plans(world)
        plans.measure_tenant_reads(world)
        plans.measure_retention_plan(world)
    if "d" in parts:
        partitions.measure_partitions(world)
        retention.show_orders(world)
        retention.measure_batches(world)
    return int(scanned)


def _say_where(world: World, *, durable: bool) -> None:
    with world.superuser() as connection:
        row = connection.execute("show server_version").fetchone()
    machine = f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}"
    sys.stdout.write(
        f"Postgres {row[0] if row else '?'}, {machine}, {'fsync on' if durable else 'fsync off'}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
