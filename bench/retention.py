"""Deleting the oldest decisions while others are opened, and the same with partitions."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from bench.fill import DAYS
from bench.hot_path import batch_of
from bench.tables import percentile, show
from bench.world import Connection, World, call, completion, to_json

BATCH_ROWS = 5000
KEPT_DAYS = DAYS * 9 // 10
OPENING_BATCH = 8
_MILLISECONDS = 1000.0
_BASELINE_SECONDS = 5.0

# As public.delete_old_decisions does. Both deletes are one statement: the two keys between the tables are checked at its end,
# when both rows are gone.
DELETE_BATCH = """
with old as (
    select id from public.routing_outcomes
    where id < %(before)s and outcome_status is not null
    order by id
    limit %(limit)s
),
gone as (
    delete from public.inferences as inference using old where inference.routing_outcome_id = old.id
)
delete from public.routing_outcomes as decision using old where decision.id = old.id
"""

_OTHER_ORDERS = {
    "both deletes in one statement": DELETE_BATCH,
    "inferences first, then routing_outcomes": "delete from public.inferences where routing_outcome_id < %(before)s",
    "routing_outcomes first, then inferences": "delete from public.routing_outcomes where id < %(before)s",
    "clear the link, then delete": "update public.routing_outcomes set inference_id = null where id < %(before)s",
}


@dataclass
class Opener:
    """Opens and completes small batches until told to stop; keeps how long each opening took."""

    world: World
    waits_milliseconds: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Work until :meth:`stop`."""
        with self.world.connect() as connection:
            while not self._stop.is_set():
                items = batch_of(self.world, self.world.free, OPENING_BATCH, near_limit=False)
                text = to_json(items)
                started = time.perf_counter()
                call(connection, "insert_decisions", text)
                self.waits_milliseconds.append((time.perf_counter() - started) * _MILLISECONDS)
                call(connection, "complete_decisions", to_json([completion(item) for item in items]))

    def stop(self) -> None:
        """Let the batch in flight end, and no other begin."""
        self._stop.set()


@contextmanager
def openings(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Have something opened in a thread meanwhile."""
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()


def keep(connection: Connection, days: int) -> None:
    """Have decisions kept for so many days."""
    connection.execute("update public.retention set keep_days = %s", (days,))


def show_orders(world: World) -> None:
    """Print which way of deleting the constraints allow."""
    rows = []
    with world.superuser() as connection:
        before = connection.execute(
            "select id from public.routing_outcomes order by id offset 50 limit 1"
        ).fetchone()
        for label, statement in _OTHER_ORDERS.items():
            rows.append((label, _tried(connection, statement, before[0] if before else None)))
    show("(d) Which order the constraints allow", ("order", "result"), rows)


def _tried(connection: Connection, statement: str, before: UUID | None) -> str:
    with connection.transaction(force_rollback=True):
        try:
            with connection.transaction():
                connection.execute(statement.encode(), {"before": before, "limit": BATCH_ROWS})
        except psycopg.IntegrityError as error:
            return f"refused: {error.diag.constraint_name}"
        return "works"


def measure_batches(world: World) -> None:
    """Print what deleting the oldest tenth in batches costs, and how long openings wait for it."""
    alone = Opener(world)
    with openings(alone.run, alone.stop):
        time.sleep(_BASELINE_SECONDS)
    beside = Opener(world)
    with openings(beside.run, beside.stop):
        deleted, batches, vacuum_seconds = _delete_oldest(world)
    rows = [
        _line("nothing beside", alone.waits_milliseconds, "", ""),
        _line("retention beside", beside.waits_milliseconds, f"{deleted:,}", f"{sum(batches):.1f}"),
    ]
    per_batch = [seconds * _MILLISECONDS for seconds in batches]
    show(
        f"(d) Deleting the oldest tenth in batches of {BATCH_ROWS}, openings of {OPENING_BATCH} going on",
        ("", "openings", "ms p50", "p99", "max", "deleted", "seconds"),
        rows,
        f"A batch takes {percentile(per_batch, 50):.0f} ms (max {max(per_batch):.0f}); the vacuum afterwards, with "
        f"openings going on, {vacuum_seconds:.1f} s.",
    )


def _delete_oldest(world: World) -> tuple[int, list[float], float]:
    deleted, seconds = 0, []
    with world.superuser() as connection:
        keep(connection, KEPT_DAYS)
        while True:
            started = time.perf_counter()
            row = connection.execute("select public.delete_old_decisions(%s)", (BATCH_ROWS,)).fetchone()
            done = row[0] if row else 0
            if not done:
                break
            seconds.append(time.perf_counter() - started)
            deleted += done
        started = time.perf_counter()
        connection.execute("vacuum public.routing_outcomes, public.inferences")
        return deleted, seconds, time.perf_counter() - started


def _line(label: str, waits: list[float], deleted: str, seconds: str) -> tuple[object, ...]:
    return (label, len(waits), percentile(waits, 50), percentile(waits, 99), max(waits), deleted, seconds)
