"""What opening and completing a decision costs, by batch, wallets, caps and path, and under concurrency."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.tables import Spread, percentile, show
from bench.world import (
    GIANT_BOUND_NANO_USD,
    Connection,
    Tenant,
    World,
    call,
    completion,
    failed_result,
    to_json,
)

BATCHES = (1, 8, 32, 128)
CONNECTIONS = (1, 2, 4)
REPEATS = 9
# Enough rows a cell to tell 10 % apart; fewer calls than rows for the large batches.
ROWS_PER_REPEAT = 128
CONCURRENT_SECONDS = 2.0
CONCURRENT_BATCH = 32
_FAILING_SHARE = 0.1
_MILLISECONDS = 1000.0
_NANOSECONDS_A_MILLISECOND = 1_000_000.0


@dataclass
class Timings:
    """Milliseconds per row of each repeat; ``cpu`` is the server process's own time for both."""

    opening: list[float] = field(default_factory=list)
    completing: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def batch_of(world: World, tenants: list[Tenant], size: int, *, near_limit: bool) -> list[dict[str, Any]]:
    """Make the items of one batch, tenants in turn from a random start; near a limit the last one cannot fit."""
    start = random.randrange(len(tenants))  # noqa: S311 - spreads load, guards nothing
    items = [world.opening(tenants[(start + at) % len(tenants)]) for at in range(size)]
    if near_limit:
        items[-1]["bound_nano_usd"] = GIANT_BOUND_NANO_USD
    return items


def time_batches(
    connection: Connection, world: World, tenants: list[Tenant], size: int, *, near_limit: bool = False
) -> Timings:
    """Open and complete :data:`REPEATS` times some batches of one size, and time each repeat."""
    timings = Timings()
    for _ in range(REPEATS):
        batches = [
            batch_of(world, tenants, size, near_limit=near_limit)
            for _ in range(max(1, ROWS_PER_REPEAT // size))
        ]
        rows = size * len(batches)
        cpu = cpu_milliseconds(connection)
        timings.opening.append(_time(connection, "insert_decisions", batches) / rows)
        completions = [[completion(item) for item in batch] for batch in batches]
        timings.completing.append(_time(connection, "complete_decisions", completions) / rows)
        timings.cpu.append((cpu_milliseconds(connection) - cpu) / rows)
    return timings


def _time(connection: Connection, function: Any, batches: list[list[dict[str, Any]]]) -> float:  # noqa: ANN401
    texts = [to_json(batch) for batch in batches]
    started = time.perf_counter()
    for text in texts:
        call(connection, function, text)
    return (time.perf_counter() - started) * _MILLISECONDS


def cpu_milliseconds(connection: Connection) -> float:
    """Return what the connection's server process has computed so far, where the system tells."""
    clock = Path(f"/proc/{connection.info.backend_pid}/schedstat")
    return int(clock.read_text().split()[0]) / _NANOSECONDS_A_MILLISECOND if clock.exists() else 0.0


def measure_batches(world: World) -> None:
    """Print (a): milliseconds per row of opening and completing."""
    rows = []
    with world.connect() as connection:
        time_batches(connection, world, world.capped, max(BATCHES))
        for wallets in (1, len(world.free)):
            for caps, tenants in ((0, world.free[:wallets]), (4, world.capped[:wallets])):
                for near_limit in (False, True):
                    for size in BATCHES:
                        timings = time_batches(connection, world, tenants, size, near_limit=near_limit)
                        path = "near a limit" if near_limit else "fits"
                        opening, completing = Spread.of(timings.opening), Spread.of(timings.completing)
                        batch_cost = f"{opening.median * size:.1f} + {completing.median * size:.1f}"
                        cpu = Spread.of(timings.cpu)
                        rows.append((wallets, caps, path, size, opening, completing, cpu, batch_cost))
    show(
        "(a) Opening and completing, ms per row: median (quartiles)",
        ("wallets", "caps", "path", "batch", "open", "complete", "CPU of both", "ms per batch"),
        rows,
        f"{REPEATS} repeats of {ROWS_PER_REPEAT} rows a cell. Near a limit: one item of each batch cannot fit.",
    )


@dataclass
class Worker:
    """What one connection did in the time it had."""

    decisions: int = 0
    waits_milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def _work(world: World, tenants: list[Tenant], deadline: float, worker: Worker) -> None:
    """Open, fail over a tenth, complete: in the order that chance gives the items."""
    with world.connect() as connection:
        while time.monotonic() < deadline:
            items = [world.opening(random.choice(tenants)) for _ in range(CONCURRENT_BATCH)]  # noqa: S311
            failing = random.sample(items, max(1, int(len(items) * _FAILING_SHARE)))
            steps: list[tuple[Any, list[dict[str, Any]]]] = [
                ("insert_decisions", items),
                ("insert_attempts", [_failover(world, item) for item in failing]),
                ("complete_decisions", [completion(item) for item in random.sample(items, len(items))]),
            ]
            for function, batch in steps:
                started = time.perf_counter()
                try:
                    call(connection, function, to_json(batch))
                except psycopg.OperationalError as error:
                    worker.errors.append(type(error).__name__)
                worker.waits_milliseconds.append((time.perf_counter() - started) * _MILLISECONDS)
            worker.decisions += len(items)


def _failover(world: World, opening: dict[str, Any]) -> dict[str, Any]:
    """Fail the attempt of an opening, cool its candidate down, and go on to another: changes the opening's attempt."""
    following = world.opening(world.free[0])
    previous = failed_result(
        opening["inference_id"], http_status=500, cooldown_seconds=0.01, error_class="server_error"
    )
    names = ("inference_id", "candidate_id", "price_id")
    opening.update({name: following[name] for name in names})
    same = ("organization_id", "lease_seconds", "bound_nano_usd", *names)
    return {"decision_id": opening["id"], "previous": previous, **{name: opening[name] for name in same}}


def measure_concurrency(world: World) -> None:
    """Print (b): decisions a second and waits by connections, and what went wrong."""
    rows = []
    for label, tenants in (
        ("1", world.free[:1]),
        (str(len(world.free)), world.free),
        (f"{len(world.capped)} with 4 caps", world.capped),
    ):
        for connections in CONNECTIONS:
            before = _deadlocks(world)
            workers = _run_workers(world, tenants, connections)
            waits = [wait for worker in workers for wait in worker.waits_milliseconds]
            decisions = sum(worker.decisions for worker in workers)
            errors = sum(len(worker.errors) for worker in workers)
            deadlocks = _deadlocks(world) - before
            spread = (percentile(waits, 50), percentile(waits, 99), max(waits))
            rows.append((label, connections, int(decisions / CONCURRENT_SECONDS), *spread, errors, deadlocks))
    show(
        "(b) Concurrency: batches opened, a tenth failed over, completed",
        ("wallets", "connections", "decisions/s", "call ms p50", "p99", "max", "errors", "deadlocks"),
        rows,
        f"Batches of {CONCURRENT_BATCH}, {CONCURRENT_SECONDS:.0f} s a line, items in random order.",
    )


def _run_workers(world: World, tenants: list[Tenant], connections: int) -> list[Worker]:
    workers = [Worker() for _ in range(connections)]
    deadline = time.monotonic() + CONCURRENT_SECONDS
    threads = [threading.Thread(target=_work, args=(world, tenants, deadline, worker)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return workers


def _deadlocks(world: World) -> int:
    with world.superuser() as connection:
        row = connection.execute("select sum(deadlocks) from pg_catalog.pg_stat_database").fetchone()
    return int(row[0]) if row else 0
