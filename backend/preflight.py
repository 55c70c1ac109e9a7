"""`clearfloor preflight`: how many rows stand in the way of `outcome_requires_inference_when_model_chosen`."""

import argparse
import sys
from collections.abc import Sequence

import psycopg

from backend.operator_database import open_transaction, reason

# One sequential read of the largest table; as long as the migration that validates the constraint may take.
STATEMENT_TIMEOUT_MILLISECONDS = 30 * 60 * 1000

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
        told = reason(
            error,
            wrong_database="this is no database to adopt",
            wrong_role="this role cannot count every row",
        )
        sys.stderr.write(f"clearfloor preflight: {told}\n")
        return _CANNOT_TELL
    sys.stdout.write(_report(violations))
    return _SOME_VIOLATE if violations else _NONE_VIOLATE


def count_violations(database_url: str) -> dict[str, int]:
    """Return how many rows violate the constraint, by outcome status; a status without any is left out.

    Raises:
        psycopg.Error: the database cannot be reached, has no such table, or hides rows from this role.
    """
    with open_transaction(
        database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=True
    ) as connection:
        return {str(status): int(count) for status, count in connection.execute(_VIOLATIONS)}


def _report(violations: dict[str, int]) -> str:
    total = sum(violations.values())
    lines = [f"Rows that violate outcome_requires_inference_when_model_chosen: {total}"]
    lines += [f"  {status}: {count}" for status, count in violations.items()]
    if violations:
        lines.append("Repair them before the constraint is validated: docs/adoption.md says how.")
    return "".join(f"{line}\n" for line in lines)
