"""`clearfloor replay`."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from backend.doctor import moment
from backend.operator_database import open_transaction, reason
from backend.replay.comparison import Compared, changed_decisions, replay
from backend.replay.database import (
    STATEMENT_TIMEOUT_MILLISECONDS,
    Snapshots,
    read_current_catalogue,
    read_decision,
    read_decisions,
)
from backend.replay.decision import Decision, NotRecomputableError
from backend.replay.report import change_lines, limit_lines, replay_lines

MOST_DECISIONS = 10_000
RECENT = timedelta(days=1)

_ALL_EQUAL = 0
_SOME_DIFFER = 1
_CANNOT_TELL = 2


def main(arguments: Sequence[str]) -> int:
    """Print which decisions come out otherwise; return 0 for none, 1 for some, 2 when it cannot tell."""
    given = _parser().parse_args(arguments)
    try:
        with open_transaction(
            given.database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=True
        ) as connection:
            compared, lines = _compare(connection, given)
    except psycopg.Error as error:
        told = reason(
            error,
            wrong_database="this is no database of a gateway",
            wrong_role="this role cannot read every decision",
        )
        return _cannot_tell(told)
    except NotRecomputableError as error:
        return _cannot_tell(str(error))
    if given.decision and not compared.asked:
        return _cannot_tell(f"there is no decision {given.decision}.")
    report = (*lines, *limit_lines(compared, given.most))
    sys.stdout.write("".join(f"{line}\n" for line in report))
    return _exit_code(compared)


def recent() -> datetime:
    """Return the time since which decisions are asked where none is given."""
    return datetime.now(UTC) - RECENT


def add_range(parser: argparse.ArgumentParser, since: str) -> None:
    """Let a command take which decisions to ask, with ``since`` as the option's name."""
    parser.add_argument(
        since,
        type=moment,
        metavar="TIME",
        help="only decisions made since then, such as 2026-11-24 or 2026-11-24T12:00 (UTC); default: since a day ago",
    )
    parser.add_argument(
        "--most",
        type=_number,
        default=MOST_DECISIONS,
        metavar="NUMBER",
        help=f"no more than so many decisions, the newest ones; default: {MOST_DECISIONS}",
    )


def _number(text: str) -> int:
    """Return a number of decisions, 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor replay",
        description="Compute recorded decisions again and compare them with the record. Nothing is changed.",
        epilog="exit code: 0 all are equal, 1 some differ, 2 the database cannot be asked, or some cannot be computed",
    )
    parser.add_argument(
        "database_url", metavar="DATABASE_URL", help="postgresql://… of a role that sees every row"
    )
    add_range(parser, "--since")
    parser.add_argument(
        "--decision", type=UUID, metavar="ID", help="only this decision, whenever it was made"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--with-rates",
        dest="rates",
        type=int,
        metavar="ID",
        help="tell which decisions another snapshot of the learned rates would make otherwise, and at what expected cost",
    )
    other.add_argument(
        "--with",
        dest="catalogue",
        choices=("current",),
        help="tell which decisions the current catalogue would make otherwise, and at what expected cost",
    )
    return parser


def _compare(
    connection: psycopg.Connection, given: argparse.Namespace
) -> tuple[Compared[Any], Iterable[str]]:
    """Return what was found, and the lines that tell it."""
    decisions = _decisions(connection, given)
    snapshots = Snapshots(connection)
    if given.rates is not None:
        changed = changed_decisions(decisions, snapshots.of, snapshots.with_rates(given.rates))
        return changed, change_lines(changed)
    if given.catalogue == "current":
        changed = changed_decisions(decisions, snapshots.of, read_current_catalogue(connection))
        return changed, change_lines(changed)
    replayed = replay(decisions, snapshots.of)
    return replayed, replay_lines(replayed)


def _decisions(connection: psycopg.Connection, given: argparse.Namespace) -> Iterable[Decision]:
    if given.decision is None:
        return read_decisions(connection, given.since or recent(), given.most)
    return read_decision(connection, given.decision)


def _exit_code(compared: Compared[Any]) -> int:
    if compared.differing:
        return _SOME_DIFFER
    return _CANNOT_TELL if compared.not_recomputable else _ALL_EQUAL


def _cannot_tell(told: str) -> int:
    sys.stderr.write(f"clearfloor replay: {told}\n")
    return _CANNOT_TELL
