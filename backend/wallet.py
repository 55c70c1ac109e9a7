"""`clearfloor wallet top-up`, `refund` and `correct`."""

import argparse
import asyncio
import getpass
import sys
from collections.abc import Sequence
from uuid import UUID

from pydantic import ValidationError

from backend.errors import ClearfloorError, StoreUnavailableError
from backend.ids import uuid7
from backend.settings import Settings, faults
from backend.store.client import DataApi, RecordError, http_client
from backend.store.wallets import Kind, WalletEntry, make_entry
from backend.units import nano_usd, usd

_DONE = 0
_REFUSED = 1
_CANNOT_TELL = 2

_AMOUNT_HELP = "such as 12.50, with up to 9 decimals; `correct` takes with -12.50"
_KINDS: dict[str, Kind] = {"top-up": "top_up", "refund": "refund", "correct": "correction"}
# No member's rows are read here: an operator need not look the real one up.
_NO_PUBLISHABLE_KEY = "sb_publishable_not-used-here"


def main(arguments: Sequence[str]) -> int:
    """Make an entry and print the new balance; return 0 for done, 1 for refused, 2 when it cannot tell."""
    entry = _entry(_parser().parse_args(arguments))
    try:
        settings = Settings(SUPABASE_PUBLISHABLE_KEY=_NO_PUBLISHABLE_KEY)
    except ValidationError as error:
        return _fail(_CANNOT_TELL, *faults(error))
    # Before it is sent: whatever happens then, the same entry can be sent again.
    sys.stdout.write(f"{_described(entry)}\n")
    sys.stdout.flush()
    try:
        balance = asyncio.run(_make(entry, settings))
    except StoreUnavailableError as error:
        again = f"The entry may have been made: send it again with `--id {entry.id}`, and it is made once."
        return _fail(_CANNOT_TELL, f"{error.message} {again}")
    except ClearfloorError as error:
        return _fail(_REFUSED, error.message)
    except RecordError as error:
        return _fail(_CANNOT_TELL, " ".join(str(error).split()))
    sys.stdout.write(f"Balance: {usd(balance)} USD\n")
    return _DONE


async def _make(entry: WalletEntry, settings: Settings) -> int:
    async with http_client(settings, connections=1) as http:
        return await make_entry(DataApi(settings, http), entry, retry_seconds=settings.store_retry_seconds)


def _entry(given: argparse.Namespace) -> WalletEntry:
    return WalletEntry(
        kind=_KINDS[given.action],
        id=given.id or uuid7(),
        organization_id=given.organization_id,
        amount_nano_usd=given.amount_usd,
        note=given.note or "",
        actor=given.actor or _user_name(),
        decision_id=getattr(given, "decision", None),
    )


def _described(entry: WalletEntry) -> str:
    amount = usd(entry.amount_nano_usd)
    return f"Entry {entry.id}: {entry.kind} of {amount} USD for {entry.organization_id} by {entry.actor}"


def _fail(exit_code: int, *lines: str) -> int:
    sys.stderr.write("".join(f"clearfloor wallet: {line}\n" for line in lines))
    return exit_code


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have a number only.
        _parser().error("the user has no name here: say who you are with --actor")


def _amount(text: str) -> int:
    try:
        return nano_usd(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clearfloor wallet",
        description="Top up, refund or correct a wallet by the Data API (SUPABASE_URL, SUPABASE_SECRET_KEY).",
        epilog="exit code: 0 done; 1 refused, and nothing was changed; 2 cannot tell",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    top_up = actions.add_parser("top-up", help="add prepaid funds")
    refund = actions.add_parser("refund", help="give back what a decision was charged, or a part of it")
    correct = actions.add_parser("correct", help="give funds that nobody paid, or take some")
    for action in (top_up, refund, correct):
        action.add_argument("organization_id", type=UUID, metavar="ORGANIZATION_ID")
        action.add_argument("amount_usd", type=_amount, metavar="AMOUNT_USD", help=_AMOUNT_HELP)
        action.add_argument(
            "--note", type=_text, required=action is not top_up, help="why; the ledger keeps it"
        )
        action.add_argument("--actor", type=_text, help="who does it; by default the user of this machine")
        action.add_argument("--id", type=UUID, help="the entry's id; one that was sent already is made once")
    refund.add_argument(
        "--decision", type=UUID, required=True, metavar="ID", help="the decision that was charged"
    )
    return parser
