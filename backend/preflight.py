"""`clearfloor preflight`: how many rows stand in the way of `outcome_requires_inference_when_model_chosen`."""

import argparse
import sys
from collections.abc import Sequence

import psycopg

CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_MILLISECONDS = 4_000
# One sequential read of the largest table; as long as the migration that validates the constraint may take.
STATEMENT_TIMEOUT_MILLISECONDS = 30 * 60 * 1000

_SCHEMES = ("postgresql://", "postgres://")
_NONE_VIOLATE = 0
_SOME_VIOLATE = 1
_CANNOT_TELL = 2

_VIOLATIONS = """
    select outcome_status, count(*) from public.routing_outcomes
    where outcome_status is not null and decision_rule = 'cheapest_clearing_floor' and inference_id is null
    group by outcome_status order by outcome_status
"""


def main(arguments: Sequence[str]) -> int:
    """Print what would violate the constraint; return 0 for nothing, 1 for something, 2 when it cannot tell."""
    parser = argparse.ArgumentParser(
        prog="clearfloor preflight",
        description="Count the finished outcomes that chose a model and name no inference. Nothing is changed.",
        epilog="exit code: 0 none, 1 some, 2 the database cannot be asked",
    )
    parser.add_argument(
        "database_url", metavar="DATABASE_URL", help="postgresql://… of a role that sees every row"
    )
    given = parser.parse_args(arguments)
    try:
        violations = count_violations(given.database_url)
    except psycopg.Error as error:
        sys.stderr.write(f"clearfloor preflight: {_reason(error)}\n")
        return _CANNOT_TELL
    sys.stdout.write(_report(violations))
    return _SOME_VIOLATE if violations else _NONE_VIOLATE


def count_violations(database_url: str) -> dict[str, int]:
    """Return how many rows violate the constraint, by outcome status; a status without any is left out.

    Raises:
        psycopg.Error: the database cannot be reached, has no such table, or hides rows from this role.
    """
    # psycopg would take an empty or a plain text for settings, and ask some other database.
    if not database_url.startswith(_SCHEMES):
        raise psycopg.ProgrammingError
    with psycopg.connect(database_url, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
        connection.read_only = True
        # Off, it is an error if a policy would hide rows, and not a count that is too small.
        connection.execute("set local row_security = off")
        connection.execute(f"set local lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}")
        connection.execute(f"set local statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")
        return {str(status): int(count) for status, count in connection.execute(_VIOLATIONS)}


def _report(violations: dict[str, int]) -> str:
    total = sum(violations.values())
    lines = [f"Rows that violate outcome_requires_inference_when_model_chosen: {total}"]
    lines += [f"  {status}: {count}" for status, count in violations.items()]
    if violations:
        lines.append("Repair them before the constraint is validated: docs/adoption.md says how.")
    return "".join(f"{line}\n" for line in lines)


def _reason(error: psycopg.Error) -> str:
    """Return one line that never repeats the URL, which holds a password."""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return f"this is no database to adopt: {error.diag.message_primary}."
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"this role cannot count every row: {error.diag.message_primary}. Ask as the tables' owner."
    if type(error) is psycopg.ProgrammingError:
        return "DATABASE_URL is not a database's URL: it looks like postgresql://user:password@host:5432/postgres."
    return f"the database cannot be asked: {' '.join(str(error).split())}"
