"""`clearfloor prices diff` and `clearfloor prices apply`."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import psycopg

from backend.operator_database import open_transaction, reason
from backend.prices.comparison import Finding, Verdict, compare
from backend.prices.database import (
    STATEMENT_TIMEOUT_MILLISECONDS,
    read_candidates,
    read_moment,
    wait_for_other_writers,
    write_prices,
)
from backend.prices.library import SOURCE

_DONE = 0
_SOMETHING_WOULD_CHANGE = 1
_CANNOT_TELL = 2


def main(arguments: Sequence[str]) -> int:
    """Print how prices differ from the library's, and write them if asked to; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        findings = compare_all(given.database_url, given.provider, apply=given.action == "apply")
    except psycopg.Error as error:
        told = reason(
            error,
            wrong_database="this database has no catalogue",
            wrong_role="this role cannot read the catalogue and write prices",
        )
        sys.stderr.write(f"clearfloor prices: {told}\n")
        return _CANNOT_TELL
    if given.provider and not findings:
        sys.stderr.write(f"clearfloor prices: the provider {given.provider} has no enabled candidate.\n")
        return _CANNOT_TELL
    sys.stdout.write(_report(findings, written=given.action == "apply"))
    would_change = given.action == "diff" and any(finding.tiers for finding in findings)
    return _SOMETHING_WOULD_CHANGE if would_change else _DONE


def compare_all(database_url: str, provider: str | None = None, *, apply: bool) -> list[Finding]:
    """Compare the enabled candidates' prices, of one provider or of all, with the library's; write them if asked to.

    All in one transaction: every price is written, or none.

    Raises:
        psycopg.Error: the database cannot be reached, or refuses something.
    """
    with open_transaction(
        database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=not apply
    ) as connection:
        if apply:
            wait_for_other_writers(connection)
        moment = read_moment(connection)
        findings = [compare(candidate, moment) for candidate in read_candidates(connection, moment, provider)]
        if apply:
            changes = [(finding.candidate, finding.tiers) for finding in findings if finding.tiers]
            write_prices(connection, changes, moment, SOURCE)
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor prices",
        description="Compare the prices of the enabled candidates with those that the library genai-prices lists.",
        epilog="exit code: 0 nothing would change, or all was written; 1 something would change; 2 cannot tell, and"
        " nothing was written",
    )
    parser.add_argument("action", choices=("diff", "apply"), help="show the changes, or write them as well")
    parser.add_argument("database_url", metavar="DATABASE_URL", help="postgresql://… of the tables' owner")
    parser.add_argument("--provider", metavar="NAME", help="only this provider of the catalogue")
    return parser


def _report(findings: Sequence[Finding], *, written: bool) -> str:
    lines = [line for finding in findings for line in finding.lines()]
    changes = sum(finding.tiers is not None for finding in findings)
    verdicts = Counter(finding.verdict for finding in findings)
    counts = ", ".join(f"{verdict}: {verdicts[verdict]}" for verdict in Verdict)
    lines.append(f"{SOURCE}: {changes} price versions {'written' if written else 'to write'}; {counts}")
    return "".join(f"{line}\n" for line in lines)
