"""`clearfloor policies check`."""

import argparse
import sys
from collections.abc import Sequence

import psycopg

from backend.operator_database import open_transaction, reason
from backend.policies.catalogue import STATEMENT_TIMEOUT_MILLISECONDS, read_policies
from backend.policies.report import examine

_NOTHING_FOUND = 0
_SOMETHING_FOUND = 1
_CANNOT_TELL = 2


def main(arguments: Sequence[str]) -> int:
    """Print the calls that policies may make for each row; return 0 for none, 1 for some, 2 when it cannot tell."""
    given = _parser().parse_args(arguments)
    try:
        with open_transaction(
            given.database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=True
        ) as connection:
            policies = read_policies(connection, given.schema)
    except psycopg.Error as error:
        told = reason(
            error,
            wrong_database="this database's catalogue has no policies",
            wrong_role="this role cannot read the catalogue",
        )
        sys.stderr.write(f"clearfloor policies: {told}\n")
        return _CANNOT_TELL
    if given.schema and not policies:
        sys.stderr.write(f"clearfloor policies: no table of the schema {given.schema} has a policy.\n")
        return _CANNOT_TELL
    report = examine(policies)
    sys.stdout.write(report.text())
    if report.unreadable:
        return _CANNOT_TELL
    return _SOMETHING_FOUND if report.findings else _NOTHING_FOUND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor policies",
        description="Find the row level security policies of a Supabase database that call auth.*, current_setting or"
        " another function that is not immutable for each row, where once a query would do. Nothing is changed.",
        epilog="exit code: 0 none does, 1 some do, 2 cannot tell",
    )
    parser.add_argument("action", choices=("check",), help="list such calls, with what to write instead")
    parser.add_argument("database_url", metavar="DATABASE_URL", help="postgresql://… of any role")
    parser.add_argument("--schema", metavar="NAME", help="only this schema; otherwise all but Supabase's own")
    return parser
