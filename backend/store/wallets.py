"""What an operator does to a wallet: top-ups, refunds and corrections, each an entry of the ledger, each once."""

import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from backend.errors import EntryIdTakenError, InvalidRequestError
from backend.retries import record_with_retry
from backend.store.client import DataApi, RecordError

Kind = Literal["top_up", "refund", "correction"]

_FUNCTIONS: dict[Kind, str] = {
    "top_up": "top_up_wallet",
    "refund": "refund_decision",
    "correction": "correct_wallet",
}
_ID_TAKEN = "23505"
# A value that the database will not take (class 22), and an entry without its who or why (a CHECK).
_REFUSED = re.compile(r"22[0-9A-Z]{3}|23514")


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """An entry to be made. Sent again under its id it is the same one.

    Attributes:
        kind: what it is.
        id: made beforehand; it stands for this entry.
        organization_id: whose wallet.
        amount_nano_usd: more than nothing; a correction may also take, with less than nothing.
        note: why; only a top-up may go without.
        actor: who does it.
        decision_id: the decision that is refunded, for a refund alone.
    """

    kind: Kind
    id: UUID
    organization_id: UUID
    amount_nano_usd: int
    note: str
    actor: str
    decision_id: UUID | None = None


async def make_entry(api: DataApi, entry: WalletEntry, *, retry_seconds: float) -> int:
    """Make an entry, once, and return the wallet's balance, nano-USD.

    Raises:
        InvalidRequestError: the database refuses the amount, the organization or the decision; nothing was changed.
        EntryIdTakenError: the id stands for another entry; nothing was changed.
        StoreUnavailableError: the record was not reached in time; the entry may or may not have been made.
    """
    parameters = {
        "entry_id": str(entry.id),
        "organization_id": str(entry.organization_id),
        "amount_nano_usd": entry.amount_nano_usd,
        "note": entry.note,
        "actor": entry.actor,
    }
    if entry.kind == "refund":
        parameters["routing_outcome_id"] = str(entry.decision_id)
    try:
        balance = await record_with_retry(
            lambda: api.call(_FUNCTIONS[entry.kind], parameters), seconds=retry_seconds
        )
    except RecordError as error:
        if error.code == _ID_TAKEN:
            raise EntryIdTakenError(
                f"The id {entry.id} stands for another entry; nothing was changed. Use a new one.", param="id"
            ) from error
        if _REFUSED.fullmatch(error.code):
            raise InvalidRequestError(" ".join(filter(None, (error.told, error.hint)))) from error
        raise
    return int(balance)
