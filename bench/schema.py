"""Measures the schema in SQL alone: `python -m bench.schema [--rows N]`."""

import argparse

from bench import hot_path
from bench.world import running_world

TENANTS = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.schema", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--durable", action="store_true")
    arguments = parser.parse_args()
    with running_world(tenants=TENANTS, durable=arguments.durable) as world:
        hot_path.measure_batches(world)
        hot_path.measure_concurrency(world)


if __name__ == "__main__":
    main()
