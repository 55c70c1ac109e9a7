"""Entries of an operator's: what is sent, and what the database's refusals mean."""

from typing import Any

import httpx
import pytest

from backend.errors import ClearfloorError, EntryIdTakenError, InvalidRequestError, StoreUnavailableError
from backend.ids import uuid7
from backend.store.client import DataApi, RecordError
from backend.store.wallets import Kind, WalletEntry, make_entry
from tests.unit.boundary import Postgrest, record_http
from tests.unit.samples import ORGANIZATION, settings

ENTRY_ID = uuid7()
DECISION_ID = uuid7()
COMMON = {
    "entry_id": str(ENTRY_ID),
    "organization_id": str(ORGANIZATION),
    "amount_nano_usd": 5,
    "note": "why",
    "actor": "ann",
}


def entry(kind: Kind = "top_up") -> WalletEntry:
    """Return an entry of 5 nano-USD."""
    decision_id = DECISION_ID if kind == "refund" else None
    return WalletEntry(kind, ENTRY_ID, ORGANIZATION, 5, "why", "ann", decision_id)


async def make(postgrest: Postgrest, made: WalletEntry) -> int:
    """Make an entry with a scripted record."""
    return await make_entry(DataApi(settings(), record_http(postgrest)), made, retry_seconds=1.0)


def refusal(status: int, code: str, hint: str | None = None) -> httpx.Response:
    """Return a refusal as PostgREST sends it."""
    return httpx.Response(status, json={"code": code, "message": "Told.", "details": None, "hint": hint})


@pytest.mark.parametrize(
    ("kind", "function", "more"),
    [
        ("top_up", "top_up_wallet", {}),
        ("refund", "refund_decision", {"routing_outcome_id": str(DECISION_ID)}),
        ("correction", "correct_wallet", {}),
    ],
)
async def test_each_kind_of_entry_has_its_function(kind: Kind, function: str, more: dict[str, Any]) -> None:
    """And returns the balance."""
    postgrest = Postgrest({function: [1005]})
    assert await make(postgrest, entry(kind)) == 1005
    assert postgrest.calls == [(function, COMMON | more)]


async def test_an_entry_is_sent_again_under_its_id_until_it_is_answered() -> None:
    """The database makes it once."""
    postgrest = Postgrest({"top_up_wallet": [httpx.ReadTimeout("slow"), refusal(500, "55P03"), 7]})
    assert await make(postgrest, entry()) == 7
    assert {parameters["entry_id"] for _, parameters in postgrest.calls} == {str(ENTRY_ID)}
    assert len(postgrest.calls) == 3


@pytest.mark.parametrize(
    ("answer", "expected", "told"),
    [
        (refusal(400, "22023", "Hinted."), InvalidRequestError, "Told. Hinted."),
        (refusal(400, "22003"), InvalidRequestError, "Told."),
        (refusal(400, "23514"), InvalidRequestError, "Told."),
        (refusal(409, "23505", "Hinted."), EntryIdTakenError, f"The id {ENTRY_ID} stands for another entry"),
    ],
)
async def test_a_refusal_is_told_in_the_database_s_words(
    answer: httpx.Response, expected: type[ClearfloorError], told: str
) -> None:
    """But for an id that is taken, which has an error of its own."""
    with pytest.raises(expected) as raised:
        await make(Postgrest({"top_up_wallet": [answer]}), entry())
    assert type(raised.value) is expected
    assert raised.value.message.startswith(told)


@pytest.mark.parametrize(
    ("status", "code"), [(403, "42501"), (404, "PGRST202"), (500, "XX000"), (409, "23503")]
)
async def test_what_is_no_refusal_of_the_entry_is_not_told_as_one(status: int, code: str) -> None:
    """A bug, or a schema that does not fit."""
    with pytest.raises(RecordError):
        await make(Postgrest({"top_up_wallet": [refusal(status, code, "Hinted.")]}), entry())


async def test_a_record_that_is_away_is_told_as_that() -> None:
    """Not as a refusal."""
    with pytest.raises(StoreUnavailableError):
        await make(Postgrest(is_away=True), entry())
