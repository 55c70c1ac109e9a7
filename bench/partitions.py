"""The two tables partitioned, beside the same two tables plain: an experiment in a schema of its own."""

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import psycopg
from psycopg import sql

from backend.ids import uuid7
from bench.retention import DELETE_BATCH, openings
from bench.tables import Spread, percentile, ratios, show
from bench.world import BOUND_NANO_USD, LEASE_SECONDS, Connection, World

LEAVES = 10
MAX_ROWS = 200_000
BATCH_ROWS = 32
BATCHES = 100
RETENTION_BATCH_ROWS = 5000
_BASELINE_SECONDS = 3.0
# Around the dropping, which may take less than one opening.
_BESIDE_SECONDS = 0.5
_MILLISECONDS = 1000.0
_VARIANTS = ("plain", "split")

_MAKE = """
create schema if not exists bench;
create table bench.plain_outcomes (like public.routing_outcomes including all);
create table bench.plain_inferences (like public.inferences including all excluding generated);
create table bench.split_outcomes (like public.routing_outcomes including all) partition by range (id);
create table bench.split_inferences (
    like public.inferences including defaults including constraints
) partition by range (routing_outcome_id);
alter table bench.split_inferences add primary key (routing_outcome_id, id),
add unique (organization_id, routing_outcome_id, attempt_number);
-- An attempt is looked up by its id alone when it is finished. Unique across the leaves it cannot be.
create index on bench.split_inferences (id);
create index on bench.split_inferences (candidate_id);
create index on bench.split_inferences (price_id);
"""
_MAKE_LEAF = """
create table bench.{outcomes} partition of bench.split_outcomes for values from ({low}) to ({high});
create table bench.{inferences} partition of bench.split_inferences for values from ({low}) to ({high})
"""
_COPY = """
insert into bench.{outcomes} select * from public.routing_outcomes
where id < {end} and outcome_status is not null and inference_id is not null;
insert into bench.{inferences} select inference.* from public.inferences as inference
inner join bench.{outcomes} as decision on inference.routing_outcome_id = decision.id
"""
_KEY_THERE = """
alter table bench.{inferences} add foreign key (organization_id, routing_outcome_id)
references bench.{outcomes} (organization_id, id)
"""
_KEY_BACK = """
alter table bench.{outcomes} add constraint way_back foreign key (id, inference_id)
references bench.{inferences} (routing_outcome_id, id)
"""
_OPEN = """
with decision as (
    insert into bench.{outcomes} (
        id, organization_id, agent_id, lease_expires_at, requested_model, requested_rule, decision_rule, task, stream,
        catalogue_version, routing_request, candidates, reserved_nano_usd
    )
    select
        id, %(organization)s, %(agent)s, now() + %(lease)s * interval '1 second', 'auto', 'cheapest_clearing_floor',
        'cheapest_clearing_floor', 'general', false, 1, '{{}}', '[]', %(bound)s
    from unnest(%(ids)s::uuid[]) as id
)
insert into bench.{inferences} (
    id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd{extra}
)
select
    inference_id, %(organization)s, id, 1, %(candidate)s, 'simulated', 'sim-1', %(price)s, %(bound)s{extra_value}
from unnest(%(ids)s::uuid[], %(attempts)s::uuid[]) as pair (id, inference_id)
"""
_FINISH = """
update bench.{inferences} set status = 'succeeded', finished_at = now(), usage_source = 'estimate'
where id = any(%(attempts)s::uuid[])
"""
_COMPLETE = """
update bench.{outcomes} as decision
set outcome_status = 'succeeded', completed_at = now(), charge_nano_usd = 0, inference_id = pair.inference_id
from unnest(%(ids)s::uuid[], %(attempts)s::uuid[]) as pair (id, inference_id) where decision.id = pair.id
"""
# Opening writes one parent first and completing the other, so that no order of locks is right for both: the drop gives
# up before Postgres (deadlock_timeout, 1 s) makes an opening its victim, and tries again.
_DROP_OLDEST = """
set local lock_timeout = '200ms';
lock table bench.split_outcomes, bench.split_inferences in access exclusive mode;
alter table bench.split_outcomes_0 drop constraint way_back;
alter table bench.split_inferences detach partition bench.split_inferences_0;
drop table bench.split_inferences_0;
alter table bench.split_outcomes detach partition bench.split_outcomes_0;
drop table bench.split_outcomes_0
"""


def _named(statement: str, variant: str, suffix: str = "", **values: UUID | str) -> sql.Composed:
    """Fill in the table names of a variant, and values."""
    extra = {"extra": ", overrun_nano_usd", "extra_value": ", 0"}
    return sql.SQL(statement).format(
        outcomes=sql.Identifier(f"{variant}_outcomes{suffix}"),
        inferences=sql.Identifier(f"{variant}_inferences{suffix}"),
        **{name: sql.SQL(text) for name, text in extra.items()},
        **{
            name: sql.Literal(value) if value not in _BOUNDS else sql.SQL(str(value))
            for name, value in values.items()
        },
    )


_BOUNDS = ("minvalue", "maxvalue")


@dataclass
class Writer:
    """Writes batches as the functions do, but to the tables of one variant."""

    world: World
    variant: str
    opening: list[float] = field(default_factory=list)
    completing: list[float] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def write(self, connection: Connection) -> None:
        """Open and complete one batch and keep the milliseconds a row."""
        candidate_id, price_id = self.world.candidates[0]
        tenant = self.world.free[0]
        parameters = {
            "ids": [uuid7() for _ in range(BATCH_ROWS)],
            "attempts": [uuid7() for _ in range(BATCH_ROWS)],
            "organization": tenant.organization_id,
            "agent": tenant.agent_id,
            "candidate": candidate_id,
            "price": price_id,
            "bound": BOUND_NANO_USD,
            "lease": LEASE_SECONDS,
        }
        started = time.perf_counter()
        connection.execute(_named(_OPEN, self.variant), parameters, prepare=True)
        opened = time.perf_counter()
        with connection.transaction():
            connection.execute(_named(_FINISH, self.variant), parameters, prepare=True)
            connection.execute(_named(_COMPLETE, self.variant), parameters, prepare=True)
        self.opening.append((opened - started) * _MILLISECONDS / BATCH_ROWS)
        self.completing.append((time.perf_counter() - opened) * _MILLISECONDS / BATCH_ROWS)

    def run(self) -> None:
        """Write until :meth:`stop`."""
        with self.world.superuser() as connection:
            while not self.stopped.is_set():
                self.write(connection)

    def stop(self) -> None:
        """Let the batch in flight end, and no other begin."""
        self.stopped.set()


def measure_partitions(world: World) -> None:
    """Print what partitions cost each opening, and what they save retention."""
    with world.superuser() as connection:
        rows = _make(connection)
        writers = {variant: Writer(world, variant) for variant in _VARIANTS}
        # In turn, so that what the machine does meanwhile strikes both.
        for _ in range(BATCHES):
            for writer in writers.values():
                writer.write(connection)
    plain, split = writers["plain"], writers["split"]
    show(
        f"(d) Plain tables and {LEAVES} partitions of {rows:,} decisions, ms per row: median (quartiles)",
        ("step", "plain", "partitioned", "ratio"),
        [
            (
                "open",
                Spread.of(plain.opening),
                Spread.of(split.opening),
                ratios(split.opening, plain.opening),
            ),
            (
                "complete",
                Spread.of(plain.completing),
                Spread.of(split.completing),
                ratios(split.completing, plain.completing),
            ),
        ],
        f"{BATCHES} batches of {BATCH_ROWS} in turn, inserts and updates alone: no functions, no money.",
    )
    _show_retention(world)


def _make(connection: Connection) -> int:
    """Make both variants with the same rows and return how many."""
    cuts = [
        row[0]
        for row in connection.execute(
            "select id from (select id, row_number() over (order by id) as number from public.routing_outcomes "
            "order by id limit %(rows)s + 1) as numbered where (number - 1) %% (%(rows)s / %(leaves)s) = 0 order by id",
            {"rows": min(MAX_ROWS, _count(connection) - 1), "leaves": LEAVES},
        ).fetchall()
    ]
    connection.execute(_MAKE)
    bounds = ["minvalue", *cuts[1:LEAVES], "maxvalue"]
    for leaf in range(LEAVES):
        connection.execute(_named(_MAKE_LEAF, "split", f"_{leaf}", low=bounds[leaf], high=bounds[leaf + 1]))
    for variant in _VARIANTS:
        connection.execute(_named(_COPY, variant, end=cuts[LEAVES]))
        connection.execute(_named(_KEY_THERE, variant))
    connection.execute(_named(_KEY_BACK, "plain"))
    for leaf in range(LEAVES):
        connection.execute(_named(_KEY_BACK, "split", f"_{leaf}"))
    connection.execute("vacuum (analyze)")
    row = connection.execute("select count(*) from bench.plain_outcomes").fetchone()
    return int(row[0]) if row else 0


def _count(connection: Connection) -> int:
    row = connection.execute("select count(*) from public.routing_outcomes").fetchone()
    return int(row[0]) if row else 0


def _show_retention(world: World) -> None:
    rows = []
    for label, variant, delete in (
        (f"batches of {RETENTION_BATCH_ROWS}, then vacuum", "plain", _delete_in_batches),
        ("detach and drop the oldest", "split", _drop_oldest),
    ):
        alone, beside = Writer(world, variant), Writer(world, variant)
        with openings(alone.run, alone.stop):
            time.sleep(_BASELINE_SECONDS)
        with world.superuser() as connection:
            run = partial(delete, connection)
            with openings(beside.run, beside.stop):
                time.sleep(_BESIDE_SECONDS)
                seconds = run()
                time.sleep(_BESIDE_SECONDS)
        waits = [[wait * BATCH_ROWS for wait in writer.opening] for writer in (alone, beside)]
        rows.append((label, seconds, *(f(values) for values in waits for f in (_p99, max))))
    show(
        "(d) Retention of the oldest tenth, plain and partitioned, openings going on",
        ("how", "seconds", "opening ms p99 before", "max before", "p99 during", "max during"),
        rows,
    )


def _p99(values: list[float]) -> float:
    return percentile(values, 99)


def _delete_in_batches(connection: Connection) -> float:
    statement = DELETE_BATCH.replace("public.routing_outcomes", "bench.plain_outcomes").replace(
        "public.inferences", "bench.plain_inferences"
    )
    row = connection.execute(
        "select id from bench.plain_outcomes order by id offset (select count(*) / %s from bench.plain_outcomes) limit 1",
        (LEAVES,),
    ).fetchone()
    parameters = {"before": row[0] if row else None, "limit": RETENTION_BATCH_ROWS}
    started = time.perf_counter()
    while connection.execute(statement.encode(), parameters).rowcount:
        pass
    connection.execute("vacuum bench.plain_outcomes, bench.plain_inferences")
    return time.perf_counter() - started


def _drop_oldest(connection: Connection) -> float:
    started = time.perf_counter()
    while True:
        try:
            with connection.transaction():
                for statement in _DROP_OLDEST.split(";"):
                    connection.execute(statement.encode())
        except psycopg.errors.LockNotAvailable:
            continue
        return time.perf_counter() - started
