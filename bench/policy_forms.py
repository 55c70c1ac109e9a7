"""Measures what forms of a policy cost a tenant's queries: `python -m bench.policy_forms [--rows N] [--write]`.

Starts a stack of its own and fills it. Each form is the policy of a role of its own, on the same tables; the first one is
no policy at all, but a filter in the query. They take turns, and what counts is what the server's process computes (on
Linux), so that what the machine does meanwhile matters little.
Exit code 1 if the hoisted form costs more than 1.3 times no policy, plans being kept.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, LiteralString

from backend.stack.parts import PROJECT_ROOT
from bench.fill import fill
from bench.hot_path import cpu_milliseconds
from bench.performance import document
from bench.performance.report import markdown
from bench.tables import Spread
from bench.tenant_queries import PAGE_ROWS, QUERIES
from bench.world import Connection, Tenant, World, running_world

ROWS = 1_000_000
TENANTS = 64
ROUNDS = 15
# A query of a fraction of a millisecond is timed so many times a round.
QUICK_REPEATS = 50
GOAL_TIMES = 1.3
DOCUMENT = PROJECT_ROOT / "docs" / "row-level-security.md"
PART = "policy-forms"
NONE, HOISTED = "no policy, a filter", "hoisted"

_CLAIM: LiteralString = "-> 'app_metadata' ->> 'organization_id'"
# By role. That of `authenticated` is the migrations'.
_FORMS: dict[LiteralString, LiteralString] = {
    "bench_wrapped": f"organization_id = nullif((select auth.jwt()) {_CLAIM}, '')::uuid",
    "bench_bare": f"organization_id = nullif(auth.jwt() {_CLAIM}, '')::uuid",
}
_ROLES: dict[str, LiteralString] = {
    NONE: "service_role",
    HOISTED: "authenticated",
    "wrapped": "bench_wrapped",
    "bare": "bench_bare",
}
_TABLES: tuple[LiteralString, ...] = ("routing_outcomes", "inferences", "usage_hours")
_SCANNED = "count of all decisions, by a scan"
_PLANNED = "newest decisions, planned each time"

Times = dict[str, dict[str, list[float]]]


def main() -> int:
    """Measure, print, write if asked to, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.policy_forms", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="decisions to fill the tables with")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each form takes its turn")
    parser.add_argument(
        "--write", action="store_true", help="write the table into docs/row-level-security.md"
    )
    given = parser.parse_args()
    with running_world(tenants=TENANTS, durable=False) as world:
        fill(world, world.free, given.rows)
        times = measure(world, world.free[1], given.rounds)
        text = f"{_conditions(world, given.rows, given.rounds)}\n\n{table(times)}"
    sys.stdout.write(f"{text}\n")
    if given.write:
        document.replace(PART, text, DOCUMENT)
    return int(
        any(_times(forms, HOISTED) > GOAL_TIMES for query, forms in times.items() if query != _PLANNED)
    )


def measure(world: World, tenant: Tenant, rounds: int) -> Times:
    """Return the server's milliseconds for a tenant's queries by query and form, one value a round."""
    with world.superuser() as owner:
        _add_forms(owner)
    times: Times = {query: {form: [] for form in _ROLES} for query in (*QUERIES, _SCANNED, _PLANNED)}
    with ExitStack() as stack:
        connections = {
            form: stack.enter_context(_member(world, role, tenant)) for form, role in _ROLES.items()
        }
        _require_the_same(connections, tenant)
        forms = list(connections)
        for number in range(rounds):
            turn = number % len(forms)
            for form in forms[turn:] + forms[:turn]:
                for query, milliseconds in _timed(connections[form], form, tenant):
                    times[query][form].append(milliseconds)
    return times


def _require_the_same(connections: Mapping[str, Connection], tenant: Tenant) -> None:
    """Run everything once, which warms it up.

    Raises:
        ValueError: the forms do not find the same rows.
    """
    for query in QUERIES:
        found = [_rows(connection, form, tenant, query) for form, connection in connections.items()]
        if any(rows != found[0] for rows in found) or not found[0]:
            raise ValueError(f"{query}: the forms do not find the same rows, or none")


def table(times: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Return a Markdown table: a line a query, medians with quartiles, and how many times no policy that is."""
    rows = [[query, *(_cell(forms, form) for form in forms)] for query, forms in times.items()]
    return markdown(["CPU ms: median (quartiles)", *_ROLES], rows)


def _cell(forms: Mapping[str, list[float]], form: str) -> str:
    spread = Spread.of(forms[form])
    told = f"{spread.median:.3f} ({spread.low:.3f}-{spread.high:.3f})"
    return told if form == NONE else f"{told}, {_times(forms, form):.2f}x"


def _times(forms: Mapping[str, list[float]], form: str) -> float:
    return Spread.of(forms[form]).median / Spread.of(forms[NONE]).median


def _timed(connection: Connection, form: str, tenant: Tenant) -> Iterator[tuple[str, float]]:
    """Yield each query and what the server computed, in milliseconds: with its plan kept, and some in other ways."""
    ask = partial(_rows, connection, form, tenant)
    for query in QUERIES:
        yield query, _cpu(connection, partial(ask, query), QUICK_REPEATS)
    with _setting(connection, enable_indexscan="off", enable_indexonlyscan="off", enable_bitmapscan="off"):
        yield _SCANNED, _cpu(connection, partial(ask, "count of all decisions", prepare=False), 1)
    with _setting(connection, plan_cache_mode="force_custom_plan"):
        yield _PLANNED, _cpu(connection, partial(ask, "newest decisions"), QUICK_REPEATS)


def _cpu(connection: Connection, ask: Callable[[], object], repeats: int) -> float:
    before = cpu_milliseconds(connection)
    for _ in range(repeats):
        ask()
    return (cpu_milliseconds(connection) - before) / repeats


def _rows(
    connection: Connection, form: str, tenant: Tenant, query: str, *, prepare: bool = True
) -> list[tuple[Any, ...]]:
    mine: LiteralString = "organization_id = %(organization)s" if form == NONE else "true"
    parameters = {"agent": tenant.agent_id, "organization": tenant.organization_id, "page": PAGE_ROWS}
    return connection.execute(QUERIES[query].replace("{mine}", mine), parameters, prepare=prepare).fetchall()


@contextmanager
def _setting(connection: Connection, **settings: str) -> Iterator[None]:
    """Have settings of Postgres for a while."""
    with connection.transaction():
        for name, value in settings.items():
            connection.execute("select set_config(%s, %s, true)", (name, value))
        yield


def _add_forms(owner: Connection) -> None:
    for role, expression in _FORMS.items():
        # No member of `authenticated`, whose policies would be its own as well.
        owner.execute(b"create role " + role.encode())
        owner.execute(b"grant usage on schema public, auth to " + role.encode())
        for name in _TABLES:
            owner.execute(f"grant select on public.{name} to {role}".encode())
            owner.execute(
                f"create policy {role} on public.{name} for select to {role} using ({expression})".encode()
            )


@contextmanager
def _member(world: World, role: LiteralString, tenant: Tenant) -> Iterator[Connection]:
    """Open a connection that reads as a tenant's member, under a role's policies."""
    claims = {"app_metadata": {"organization_id": str(tenant.organization_id)}}
    with world.superuser() as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.execute(b"set role " + role.encode())
        connection.execute("select set_config('request.jwt.claims', %s, false)", (json.dumps(claims),))
        yield connection


def _conditions(world: World, rows: int, rounds: int) -> str:
    with world.superuser() as owner:
        row = owner.execute("show server_version").fetchone()
    return (
        f"{rows:,} decisions, of which the tenant has one in 128; {rounds} rounds; Postgres {row[0] if row else '?'} without "
        f"parallel workers, {os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}."
    )


if __name__ == "__main__":
    sys.exit(main())
