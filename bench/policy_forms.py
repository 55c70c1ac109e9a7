"""Measures what forms of a policy cost a tenant's queries: `python -m bench.policy_forms [--rows N] [--write]`.

Starts a stack of its own and fills it. Each form is the policy of a role of its own, on the same tables; the first one is
no policy at all, but a filter in the query. They take turns, so that what the machine does meanwhile strikes all.
Exit code 1 if the hoisted form costs more than 1.3 times no policy.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, LiteralString

from backend.stack.parts import PROJECT_ROOT
from bench.fill import fill
from bench.performance import document
from bench.performance.report import markdown
from bench.tables import Spread
from bench.tenant_queries import PAGE_ROWS, QUERIES
from bench.world import Connection, Tenant, World, running_world

ROWS = 1_000_000
TENANTS = 64
ROUNDS = 15
# A query of a fraction of a millisecond is timed so many times a round.
QUICK_REPEATS = 20
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
_MILLISECONDS = 1000.0

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
    return int(any(_times(forms, HOISTED) > GOAL_TIMES for forms in times.values()))


def measure(world: World, tenant: Tenant, rounds: int) -> Times:
    """Return the milliseconds of a tenant's queries by query and form, one value a round."""
    with world.superuser() as owner:
        _add_forms(owner)
    times: Times = {query: {form: [] for form in _ROLES} for query in (*QUERIES, _SCANNED)}
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
        found = [_rows(connection, form, query, tenant) for form, connection in connections.items()]
        if any(rows != found[0] for rows in found) or not found[0]:
            raise ValueError(f"{query}: the forms do not find the same rows, or none")


def table(times: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Return a Markdown table: a line a query, medians with quartiles, and how many times no policy that is."""
    rows = [[query, *(_cell(forms, form) for form in forms)] for query, forms in times.items()]
    return markdown(["ms: median (quartiles)", *_ROLES], rows)


def _cell(forms: Mapping[str, list[float]], form: str) -> str:
    spread = Spread.of(forms[form])
    told = f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"
    return told if form == NONE else f"{told}, {_times(forms, form):.2f}x"


def _times(forms: Mapping[str, list[float]], form: str) -> float:
    return Spread.of(forms[form]).median / Spread.of(forms[NONE]).median


def _timed(connection: Connection, form: str, tenant: Tenant) -> Iterator[tuple[str, float]]:
    """Yield each query and what it took, in milliseconds; the last one with index scans switched off."""
    for query in QUERIES:
        started = time.perf_counter()
        for _ in range(QUICK_REPEATS):
            _rows(connection, form, query, tenant)
        yield query, (time.perf_counter() - started) * _MILLISECONDS / QUICK_REPEATS
    with _without_indexes(connection):
        started = time.perf_counter()
        _rows(connection, form, "count of all decisions", tenant, prepare=False)
        yield _SCANNED, (time.perf_counter() - started) * _MILLISECONDS


def _rows(
    connection: Connection, form: str, query: str, tenant: Tenant, *, prepare: bool = True
) -> list[tuple[Any, ...]]:
    mine: LiteralString = "organization_id = %(organization)s" if form == NONE else "true"
    parameters = {"agent": tenant.agent_id, "organization": tenant.organization_id, "page": PAGE_ROWS}
    return connection.execute(QUERIES[query].replace("{mine}", mine), parameters, prepare=prepare).fetchall()


@contextmanager
def _without_indexes(connection: Connection) -> Iterator[None]:
    with connection.transaction():
        for name in (b"indexscan", b"indexonlyscan", b"bitmapscan"):
            connection.execute(b"set local enable_" + name + b" = off")
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
