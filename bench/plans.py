"""Which statements of the hot path read a table from end to end."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple

from bench.hot_path import batch_of
from bench.retention import BATCH_ROWS, KEPT_DAYS, keep
from bench.tables import show
from bench.tenant_queries import PAGE_ROWS, QUERIES
from bench.world import (
    Connection,
    Tenant,
    World,
    call,
    completion,
    failed_result,
    to_json,
)

GROWING = frozenset({"routing_outcomes", "inferences", "ledger_entries", "usage_hours"})
_BATCH = 8
_WARM_UPS = 7
_EXPLAIN = (
    "load 'auto_explain'",
    "set auto_explain.log_min_duration = 0",
    "set auto_explain.log_analyze = on",
    "set auto_explain.log_buffers = on",
    "set auto_explain.log_nested_statements = on",
    "set client_min_messages = log",
)
_DECISIONS_OF = "select count(*) from public.routing_outcomes where organization_id = %s"
_HOURS_OF = "select count(*) from public.usage_hours where organization_id = %s and hour >= now() - interval '30 days'"
_SCAN = re.compile(r"Seq Scan on (\w+)")
_BUFFERS = re.compile(
    r"^[^ ].*\n(?:[^\n]*\n)?\s*Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", re.MULTILINE
)


class Watch:
    """A superuser's connection that tells the plan of every statement, those inside functions too, as text or JSON."""

    def __init__(self, world: World, role: LiteralString, plan_format: LiteralString = "text") -> None:
        self._plans: list[str] = []
        self.connection: Connection = world.superuser()
        self.connection.add_notice_handler(lambda notice: self._plans.append(notice.message_primary or ""))
        for statement in _EXPLAIN:
            self.connection.execute(statement.encode())
        self.connection.execute(b"set auto_explain.log_format = " + plan_format.encode())
        self.connection.execute(b"set role " + role.encode())

    def plans(self) -> list[str]:
        """Return the plans since the last call."""
        plans, self._plans[:] = list(self._plans), []
        return [plan for plan in plans if "Query Text" in plan]


def scans(plans: list[str]) -> Counter[str]:
    """Count the tables that plans read from end to end."""
    return Counter(name for plan in plans for name in _SCAN.findall(plan))


def buffers(plans: list[str]) -> int:
    """Return the pages that the outermost statement touched, those of the functions in it included."""
    counts = (
        [sum(int(count or 0) for count in match) for match in _BUFFERS.findall(plans[-1])] if plans else []
    )
    return max(counts, default=0)


def _scan_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan in JSON that read a table."""
    if "Relation Name" in node and node["Node Type"].endswith("Scan"):
        yield node
    for part in node.get("Plans", []):
        yield from _scan_nodes(part)


def _rows_read(node: dict[str, Any]) -> int:
    """Return how many rows a node read, those included that a filter threw away."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


class Read(NamedTuple):
    """What a tenant's query read of each table, in rows, with the most that it may; what from end to end; and its time."""

    query: str
    rows: Counter[str]
    most: int
    scans: set[str]
    milliseconds: float


def tenant_reads(world: World, tenant: Tenant) -> list[Read]:
    """Run a tenant's queries as its member, and look at what they read. A page may read a page, the rest its own rows."""
    with world.superuser() as owner:
        decisions = _number(owner, _DECISIONS_OF, tenant.organization_id)
        hours = _number(owner, _HOURS_OF, tenant.organization_id)
    claims = {"app_metadata": {"organization_id": str(tenant.organization_id)}}
    watch = Watch(world, "authenticated", "json")
    queries = {**QUERIES, "usage_by": "select * from public.usage_by('day', now() - interval '30 days')"}
    parameters = {"agent": tenant.agent_id, "page": PAGE_ROWS}
    reads = []
    with watch.connection:
        watch.connection.execute("select set_config('request.jwt.claims', %s, false)", (json.dumps(claims),))
        for label, query in queries.items():
            watch.plans()
            watch.connection.execute(query.replace("{mine}", "true"), parameters).fetchall()
            # One more than a page, to see where rows of the same moment end.
            most = decisions if "count" in label else hours if "usage" in label else PAGE_ROWS + 1
            reads.append(_read(label, watch.plans(), most))
    return reads


def _read(label: str, plans: list[str], most: int) -> Read:
    roots = [json.loads(plan.partition("plan:")[2])["Plan"] for plan in plans]
    nodes = [node for root in roots for node in _scan_nodes(root)]
    rows: Counter[str] = Counter()
    for node in nodes:
        rows[node["Relation Name"]] += _rows_read(node)
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    return Read(label, rows, most, scanned, roots[-1]["Actual Total Time"])


def measure_tenant_reads(world: World) -> None:
    """Print what the queries of a large and of a small tenant read."""
    show(
        "(e) Rows that a tenant's queries read, and what they took with the counting, ms",
        ("tenant", "query", "rows", "from end to end", "ms"),
        [
            (label, read.query, _names(read.rows), ", ".join(read.scans), read.milliseconds)
            for label, tenant in (("half of all", world.free[0]), ("one in 128", world.free[1]))
            for read in tenant_reads(world, tenant)
        ],
    )


def _number(connection: Connection, query: LiteralString, *parameters: object) -> int:
    row = connection.execute(query, parameters).fetchone()
    return int(row[0]) if row else 0


class Look(NamedTuple):
    """What the plans of one step say: statements, pages touched, and tables read from end to end, with how often."""

    step: str
    statements: int
    pages: int
    scans: Counter[str]

    @property
    def growing(self) -> Counter[str]:
        """Of the tables read from end to end those that grow."""
        return Counter({name: count for name, count in self.scans.items() if name in GROWING})


def look(world: World) -> list[Look]:
    """Look at the plans of everything that the backend does, and of what a tenant reads."""
    watch, reader = Watch(world, "service_role"), Watch(world, "authenticated")
    claims = {"app_metadata": {"organization_id": str(world.free[0].organization_id)}}
    with watch.connection, reader.connection:
        reader.connection.execute("select set_config('request.jwt.claims', %s, false)", (json.dumps(claims),))
        return [
            *(_look(label, watch, run) for label, run in _steps(world, watch.connection)),
            *(_look(label, reader, run) for label, run in _reads(reader.connection)),
        ]


def measure_plans(world: World) -> bool:
    """Print (e): pages and sequential scans of each step; tell whether a growing table was read from end to end."""
    looks = look(world)
    show(
        "(e) Pages touched and sequential scans, by step",
        ("step", "statements", "pages", "scans of growing tables", "scans of small tables"),
        [(*found[:3], _names(found.growing), _names(found.scans - found.growing)) for found in looks],
        f"Batches of {_BATCH}; the plans after {_WARM_UPS} calls, when prepared statements are generic.",
    )
    return any(found.growing for found in looks)


def _look(label: str, watch: Watch, run: Any) -> Look:  # noqa: ANN401
    for _ in range(_WARM_UPS):
        run()
    watch.plans()
    run()
    plans = watch.plans()
    return Look(label, len(plans), buffers(plans), scans(plans))


def _names(found: Counter[str]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in found.items())


def _steps(world: World, connection: Connection) -> list[tuple[str, Any]]:
    """Return what the backend does, as named functions without arguments."""
    opened: list[dict[str, Any]] = []

    def open_batch(tenants: list[Tenant], *, near_limit: bool = False) -> None:
        opened[:] = batch_of(world, tenants, _BATCH, near_limit=near_limit)
        call(connection, "insert_decisions", to_json(opened))

    def fail_over() -> None:
        call(connection, "insert_attempts", to_json([_next_attempt(world, item) for item in opened]))

    def complete() -> None:
        open_batch(world.free)
        call(connection, "complete_decisions", to_json([completion(item) for item in opened]))

    def sweep() -> None:
        connection.execute("select public.sweep_decisions(100)", prepare=True)

    return [
        ("open", lambda: open_batch(world.free)),
        ("open, 4 caps", lambda: open_batch(world.capped)),
        ("open, near a limit", lambda: open_batch(world.capped[:1], near_limit=True)),
        ("fail over", fail_over),
        ("open and complete", complete),
        ("sweep, nothing to do", sweep),
    ]


def _next_attempt(world: World, opening: dict[str, Any]) -> dict[str, Any]:
    """Return the item that fails an opening's attempt and goes on to another; changes the opening's attempt."""
    previous = failed_result(opening["inference_id"])
    opening["inference_id"] = world.opening(world.free[0])["inference_id"]
    same = ("organization_id", "lease_seconds", "bound_nano_usd", "inference_id", "candidate_id", "price_id")
    return {"decision_id": opening["id"], "previous": previous, **{name: opening[name] for name in same}}


def _reads(connection: Connection) -> list[tuple[str, Any]]:
    """Return what a tenant reads of its rows."""
    queries: dict[str, LiteralString] = {
        "tenant: newest decisions by id": "select * from public.routing_outcomes order by id desc limit 50",
        "tenant: newest decisions by opened_at": "select * from public.routing_outcomes order by opened_at desc limit 50",
        "tenant: attempts of its decisions": (
            "select * from public.inferences as inference inner join ("
            "select id from public.routing_outcomes order by id desc limit 50"
            ") as decision on inference.routing_outcome_id = decision.id"
        ),
        "tenant: newest ledger entries": "select * from public.ledger_entries order by created_at desc limit 50",
    }
    return [(label, _execute(connection, query)) for label, query in queries.items()]


def _execute(connection: Connection, query: LiteralString) -> Any:  # noqa: ANN401
    return lambda: connection.execute(query, prepare=True).fetchall()


def measure_retention_plan(world: World) -> None:
    """Print whether a batch of retention scans, in a transaction that is rolled back."""
    watch = Watch(world, "supabase_admin")
    with watch.connection, watch.connection.transaction(force_rollback=True):
        keep(watch.connection, KEPT_DAYS)
        watch.plans()
        watch.connection.execute("select public.delete_old_decisions(%s)", (BATCH_ROWS,))
    plans = watch.plans()
    show(
        "(e) A batch of retention",
        ("rows", "pages", "sequential scans"),
        [(BATCH_ROWS, buffers(plans), _names(scans(plans)))],
    )
