"""What many decisions in the tables change: the cost of the next one, the disk, and a new cap."""

import time

from backend.ids import uuid7
from bench.hot_path import Timings, time_batches
from bench.tables import Spread, ratios, show
from bench.world import FUNDS_NANO_USD, World, call, completion, to_json

BATCHES = (1, 32)
_TABLES = ("routing_outcomes", "inferences", "ledger_entries")
_WRITTEN_ROWS = 10_000
_WRITTEN_BATCH = 50
_PERCENT = 100
_MILLISECONDS = 1000.0

Cells = dict[tuple[str, int], Timings]


def time_cells(world: World) -> Cells:
    """Time opening and completing for both kinds of tenants and some batch sizes, on a new connection."""
    kinds = {"no caps": world.free, "4 caps": world.capped}
    with world.connect() as connection:
        time_batches(connection, world, world.capped, max(BATCHES))
        return {
            (kind, size): time_batches(connection, world, tenants, size)
            for kind, tenants in kinds.items()
            for size in BATCHES
        }


def show_growth(few: Cells, many: Cells, rows: int, fill_seconds: float) -> None:
    """Print (c): the cost per row with few and with many decisions in the tables."""
    body = []
    for (kind, size), before in few.items():
        after = many[kind, size]
        for step, less, more in (
            ("open", before.opening, after.opening),
            ("complete", before.completing, after.completing),
        ):
            body.append((kind, size, step, Spread.of(less), Spread.of(more), ratios(more, less)))
    show(
        f"(c) With few and with {rows:,} decisions, ms per row: median (quartiles)",
        ("64 wallets", "batch", "step", "few", "many", "ratio"),
        body,
        f"Filled in {fill_seconds:.0f} s, over 100 days; one tenant has half of them.",
    )


def measure_write_path_size(world: World) -> None:
    """Print what the functions themselves leave on disk per decision, and how many updates stayed on their page."""
    before = _sizes(world)
    with world.connect() as connection:
        for _ in range(_WRITTEN_ROWS // _WRITTEN_BATCH):
            items = [world.opening(tenant) for tenant in world.free[:_WRITTEN_BATCH]]
            call(connection, "insert_decisions", to_json(items))
            call(connection, "complete_decisions", to_json([completion(item) for item in items]))
    after = _sizes(world)
    rows = []
    for name in _TABLES:
        heap, indexes, updated, hot = (
            now - then for now, then in zip(after[name], before[name], strict=True)
        )
        share = f"{hot * _PERCENT // updated} %" if updated else "no updates"
        rows.append((name, heap // _WRITTEN_ROWS, indexes // _WRITTEN_ROWS, share))
    show(
        f"(c) Disk per decision as the functions leave it ({_WRITTEN_ROWS:,} decisions, not yet vacuumed), bytes",
        ("table", "rows", "indexes", "updates within the page"),
        rows,
    )


def show_sizes(world: World) -> None:
    """Print the disk that each table and index takes per row once filled."""
    with world.superuser() as connection:
        body = connection.execute(
            "select relation.relname, round(pg_relation_size(relation.oid)::numeric / decisions) "
            "from (select count(*) as decisions from public.routing_outcomes) as counted "
            "cross join pg_catalog.pg_class as relation "
            "left join pg_catalog.pg_index as index on relation.oid = index.indexrelid "
            "where coalesce(index.indrelid, relation.oid) = any(array['public.routing_outcomes', "
            "'public.inferences', 'public.ledger_entries']::regclass[]) "
            "order by coalesce(index.indrelid, relation.oid), 2 desc"
        ).fetchall()
    total = sum(int(row[1]) for row in body)
    show(
        "(c) Disk per decision once filled and vacuumed, bytes",
        ("relation", "bytes"),
        [*body, ("all", total)],
    )


def measure_new_cap(world: World) -> None:
    """Print how long a new cap holds its organization's lock while it counts what the window has spent."""
    largest, small = world.free[0], world.free[1]
    rows = []
    with world.connect() as connection:
        for label, tenant in (("half of all decisions", largest), ("one in 128", small)):
            for window in ("hour", "month"):
                parameters = (uuid7(), tenant.organization_id, None, window, FUNDS_NANO_USD)
                started = time.perf_counter()
                connection.execute("select public.set_spend_cap(%s, %s, %s, %s, %s)", parameters)
                rows.append((label, window, (time.perf_counter() - started) * _MILLISECONDS))
    show("(c) Setting a new cap: how long the wallet is locked", ("organization with", "window", "ms"), rows)


def _sizes(world: World) -> dict[str, tuple[int, int, int, int]]:
    with world.superuser() as connection:
        connection.execute("select pg_stat_force_next_flush()")
        body = connection.execute(
            "select relname, pg_table_size(relid), pg_indexes_size(relid), n_tup_upd, n_tup_hot_upd "
            "from pg_catalog.pg_stat_user_tables where relname = any(%s) and schemaname = 'public'",
            (list(_TABLES),),
        ).fetchall()
    return {name: (heap, indexes, updated, hot) for name, heap, indexes, updated, hot in body}
