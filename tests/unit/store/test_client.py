"""The Data API: who speaks to it as whom, and what its errors mean."""

import httpx
import orjson
import pytest

from backend.errors import StoreUnavailableError
from backend.store.client import DataApi, RecordError, execute
from tests.unit.boundary import Postgrest, record_http
from tests.unit.samples import PUBLISHABLE_KEY, SECRET_KEY, settings


def data_api(postgrest: Postgrest) -> DataApi:
    """Return a Data API that a script answers for."""
    return DataApi(settings(), record_http(postgrest))


def error(status: int, code: str | None) -> httpx.Response:
    """Return an error as PostgREST sends it."""
    return httpx.Response(status, json={"code": code, "message": "told", "details": None, "hint": None})


async def test_a_function_is_called_with_the_secret_key() -> None:
    """Once, with its parameters as JSON."""
    postgrest = Postgrest({"sweep_decisions": [3]})
    assert await data_api(postgrest).call("sweep_decisions", {"batch_size": 5}) == 3
    (request,) = postgrest.requests
    assert str(request.url) == "http://supabase.test/rest/v1/rpc/sweep_decisions"
    assert request.headers["apikey"] == SECRET_KEY
    assert orjson.loads(request.content) == {"batch_size": 5}


async def test_a_user_reads_with_its_own_token_and_the_publishable_key() -> None:
    """Under row level security, while the privileged client stays what it is."""
    postgrest = Postgrest({"routing_outcomes": [[], []], "sweep_decisions": [0]})
    api = data_api(postgrest)
    await execute(api.as_user("token-of-one").from_("routing_outcomes").select("id"))
    await execute(api.as_user("token-of-two").from_("routing_outcomes").select("id"))
    await api.call("sweep_decisions", {})
    one, two, privileged = (request.headers for request in postgrest.requests)
    assert [h["authorization"] for h in (one, two)] == ["Bearer token-of-one", "Bearer token-of-two"]
    assert {one["apikey"], two["apikey"]} == {PUBLISHABLE_KEY}
    assert (privileged["apikey"], privileged["authorization"]) == (SECRET_KEY, f"Bearer {SECRET_KEY}")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("down"),
        httpx.ReadTimeout("slow"),
        httpx.PoolTimeout("full"),
        httpx.RemoteProtocolError("half"),
        error(500, "40001"),
        error(500, "40P01"),
        error(500, "53300"),
        error(500, "55P03"),
        error(503, "57P01"),
        error(503, "08006"),
        error(503, "PGRST000"),
        error(503, "PGRST002"),
        error(504, "PGRST003"),
        httpx.Response(502, content=b"bad gateway"),
        httpx.Response(503, content=b"<html>"),
        httpx.Response(504),
        httpx.Response(503, json={"message": "no code"}),
        httpx.Response(522, json={"message": "no code"}),
        httpx.Response(500, json={"message": "no code"}),
        httpx.Response(530, content=b"<html>"),
        httpx.Response(408),
        httpx.Response(429, json={"message": "too many requests"}),
        httpx.Response(200, content=b"<html>"),
    ],
)
async def test_what_passes_by_itself_is_a_record_that_is_away(answer: object) -> None:
    """Serialization, deadlocks, locks, connections, a gateway's errors: asked once, told when to come back."""
    postgrest = Postgrest({"sweep_decisions": [answer]})
    with pytest.raises(StoreUnavailableError) as raised:
        await data_api(postgrest).call("sweep_decisions", {})
    assert raised.value.retry_after_seconds
    assert len(postgrest.requests) <= 1


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "22P02"),
        error(404, "PGRST202"),
        error(403, "42501"),
        error(409, "23505"),
        error(400, None),
        error(500, "XX000"),
        httpx.Response(401, json={"message": "Invalid API key"}),
        httpx.Response(401, content=b"<html>"),
        httpx.Response(404, content=b"<html>"),
    ],
)
async def test_what_a_retry_does_not_mend_is_a_refusal(answer: object) -> None:
    """A bug, or a schema that does not fit: never told as an outage."""
    with pytest.raises(RecordError, match="refused the call"):
        await data_api(Postgrest({"sweep_decisions": [answer]})).call("sweep_decisions", {})


async def test_a_refusal_keeps_the_database_s_own_words() -> None:
    """For those who may see them: its code, its sentence and its hint."""
    answer = httpx.Response(400, json={"code": "22023", "message": "told", "details": None, "hint": "hinted"})
    with pytest.raises(RecordError) as raised:
        await data_api(Postgrest({"top_up_wallet": [answer]})).call("top_up_wallet", {})
    assert (raised.value.code, raised.value.told, raised.value.hint) == ("22023", "told", "hinted")


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError(f"key {SECRET_KEY}"), httpx.Response(503, content=b"x")]
)
async def test_the_secret_key_is_in_no_message_that_a_caller_sees(answer: object) -> None:
    """Only the kind of the failure is told."""
    with pytest.raises(StoreUnavailableError) as raised:
        await data_api(Postgrest({"sweep_decisions": [answer]})).call("sweep_decisions", {})
    assert SECRET_KEY not in raised.value.message


async def test_the_client_retries_nothing_by_itself() -> None:
    """One place decides on retries: a read is not repeated behind its back."""
    postgrest = Postgrest({"routing_outcomes": [error(503, "PGRST001"), []]})
    with pytest.raises(StoreUnavailableError):
        await execute(data_api(postgrest).privileged.from_("routing_outcomes").select("id"))
    assert len(postgrest.requests) == 1
