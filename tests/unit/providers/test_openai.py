"""Plain calls in OpenAI's format: what is sent, what is read from the answer, and what becomes of everything else."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import ModelUnavailableError, ProviderError
from backend.providers.openai import OpenAIProvider
from backend.providers.transport import retry_after_seconds
from backend.providers.types import ChatAnswer
from tests.unit.boundary import CANARY, Reply, ScriptedHttp, answered, breaks, provider_call, raw, refused
from tests.unit.samples import Json

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def provider(reply: Reply, requests: list[httpx.Request] | None = None) -> OpenAIProvider:
    """Return a provider at whose base URL somebody answers so."""

    def respond(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(request)
        return reply()

    return OpenAIProvider(ScriptedHttp(respond))


async def answer(reply: Reply) -> ChatAnswer:
    """Return what a call brings."""
    return await provider(reply).chat(provider_call())


async def failure(reply: Reply) -> ProviderError:
    """Return what a call fails with."""
    with pytest.raises(ProviderError) as raised:
        await answer(reply)
    return raised.value


@pytest.mark.parametrize("base_url", ["http://acme.test/v1", "http://acme.test/v1/"])
async def test_a_call_is_the_body_and_the_key_and_nothing_of_ours(base_url: str) -> None:
    """One POST below the base URL; the key in a header, never in the URL."""
    requests: list[httpx.Request] = []
    await provider(answered(), requests).chat(provider_call(base_url=base_url))
    (request,) = requests
    assert (request.method, str(request.url)) == ("POST", "http://acme.test/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert orjson.loads(request.content) == provider_call().body
    assert not [name for name in request.headers if "clearfloor" in name]


async def test_a_provider_without_a_key_is_sent_none() -> None:
    """An empty bearer would be refused by some."""
    requests: list[httpx.Request] = []
    await provider(answered(), requests).chat(provider_call(api_key=None))
    assert "authorization" not in requests[0].headers


async def test_an_answer_is_handed_on_byte_by_byte() -> None:
    """Fields that nobody here knows included, with the provider's id of the request."""
    content = b'{ "choices": [{"message": {"content": "\xe2\x82\xac"}}], "brand_new": 1 }'
    got = await answer(lambda: httpx.Response(200, content=content, headers={"x-request-id": "req-1"}))
    assert (got.body, got.request_id, got.usage, got.output_bytes) == (content, "req-1", None, 3)


async def test_usage_is_read_by_the_provider_s_own_convention() -> None:
    """Which is in the catalogue: from one format, several vendors count in several ways."""
    reported = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    for convention, output_tokens in (("openai", 1), ("xai", 5)):
        got = await provider(answered(usage=reported)).chat(provider_call(usage_convention=convention))
        assert got.usage is not None
        assert (got.usage.output_tokens, got.usage.reasoning_tokens) == (output_tokens, 4)
        assert (got.usage.convention, got.usage.reported) == (convention, reported)


async def test_usage_that_makes_no_sense_is_unknown_and_not_zero() -> None:
    """Unknown is estimated, and labelled so; a zero would be an answer for nothing."""
    body = {"choices": [{"message": {"content": "Hi"}}], "usage": "12"}
    assert (await answer(raw(orjson.dumps(body)))).usage is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "four"}, 4),
        ({"content": None, "refusal": "no"}, 2),
        ({"content": None, "tool_calls": [{"id": "x"}]}, len("[{'id': 'x'}]")),
        ({"content": "", "reasoning_content": "hm"}, 2),
    ],
)
async def test_everything_a_caller_would_read_counts_as_output(message: object, expected: int) -> None:
    """Where usage is missing, it is estimated by it."""
    assert (await answer(raw(orjson.dumps({"choices": [{"message": message}]})))).output_bytes == expected


@pytest.mark.parametrize(
    ("status", "error_class", "fails_over"),
    [
        (400, "rejected", False),
        (409, "rejected", False),
        (413, "rejected", False),
        (422, "rejected", False),
        (401, "credentials", True),
        (402, "credentials", True),
        (403, "not_here", True),
        (404, "not_here", True),
        (408, "server_error", True),
        (429, "rate_limited", True),
        (500, "server_error", True),
        (502, "server_error", True),
        (503, "server_error", True),
        (529, "server_error", True),
        (302, "malformed", True),
        (304, "malformed", True),
    ],
)
async def test_a_status_is_of_the_class_that_says_what_to_do(
    status: int, error_class: str, *, fails_over: bool
) -> None:
    """Only a request that is wrong in itself goes back to the caller."""
    error = await failure(refused(status, "because"))
    assert (error.error_class, error.status, error.fails_over) == (error_class, status, fails_over)
    assert error.message == "because"


@pytest.mark.parametrize(
    ("reply", "error_class"),
    [
        (raw(b""), "malformed"),
        (raw(b"<html>"), "malformed"),
        (raw(b"[]"), "malformed"),
        (raw(b"{}"), "malformed"),
        (raw(b'{"choices": []}'), "malformed"),
        (raw(b'{"choices": "none"}'), "malformed"),
        (raw(b"\xff"), "malformed"),
        (breaks(httpx.ConnectError("down")), "connection"),
        (breaks(httpx.ReadError("reset")), "connection"),
        (breaks(httpx.RemoteProtocolError("half")), "connection"),
        (breaks(httpx.ConnectTimeout("slow")), "timeout"),
        (breaks(httpx.ReadTimeout("slow")), "timeout"),
        (breaks(TimeoutError()), "timeout"),
        (breaks(httpx.UnsupportedProtocol("ftp")), "connection"),
    ],
)
async def test_an_answer_that_is_none_fails_over(reply: Reply, error_class: str) -> None:
    """Whatever went wrong below or inside HTTP, it is the provider's failure."""
    error = await failure(reply)
    assert (error.error_class, error.fails_over) == (error_class, True)


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        ({"choices": [None]}, "malformed"),
        ({"choices": [{}]}, "malformed"),
        ({"choices": [{"message": None}]}, "malformed"),
        ({"choices": [{"message": {}}, {"text": "x"}]}, "malformed"),
        ({"choices": [{"message": {"content": "Hi"}, "finish_reason": "error"}]}, "server_error"),
        ({"choices": [{"message": {"content": "Hi"}}], "error": {"message": "m"}}, "server_error"),
        ({"object": "error", "message": "m", "choices": [{"message": {}}]}, "server_error"),
    ],
)
async def test_a_broken_answer_is_not_passed_on_for_a_whole_one(body: Json, error_class: str) -> None:
    """Whatever its status says: somebody else may answer properly."""
    error = await failure(raw(orjson.dumps(body)))
    assert (error.error_class, error.fails_over) == (error_class, True)


async def test_a_failed_answer_keeps_the_provider_s_id_of_it() -> None:
    """For a dispute about what it cost."""
    error = await failure(refused(500, x_request_id="req-1"))
    assert (error.request_id, error.status) == ("req-1", 500)


async def test_no_free_connection_is_no_call() -> None:
    """The provider has done nothing wrong."""
    with pytest.raises(ModelUnavailableError):
        await answer(breaks(httpx.PoolTimeout("full")))


async def test_an_answer_longer_than_the_limit_is_malformed() -> None:
    """It is not read to its end, whatever its status."""
    for status in (200, 500):
        with pytest.raises(ProviderError, match="longer than 10 bytes") as raised:
            await provider(raw(b"x" * 11, status)).chat(provider_call(most_answer_bytes=10))
        assert raised.value.error_class == "malformed"


async def test_a_call_past_its_deadline_is_a_timeout() -> None:
    """Whoever stalls is not waited for."""

    async def stall(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")

    stalling = OpenAIProvider(ScriptedHttp(stall))
    with pytest.raises(ProviderError) as raised:
        await stalling.chat(provider_call(first_content_timeout_seconds=0.0))
    assert raised.value.error_class == "timeout"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"error": {"message": "m"}}', "m"),
        (b'{"error": "m"}', "m"),
        (b'{"message": "m"}', "m"),
        (b'{"error": {"message": 7}}', "the provider answered 500"),
        (b'{"error": null}', "the provider answered 500"),
        (b"<html>", "the provider answered 500"),
        (b"[1]", "the provider answered 500"),
        (b"", "the provider answered 500"),
        (b'{"error": {"message": "' + b"x" * 10_000 + b'"}}', "x" * 500),
    ],
)
async def test_an_error_s_message_is_found_wherever_providers_put_it(content: bytes, expected: str) -> None:
    """And cut to a length that a row can bear."""
    assert (await failure(raw(content, status=500))).message == expected


@pytest.mark.parametrize(
    "reply",
    [
        refused(401),
        refused(500),
        raw(b"<html>"),
        breaks(httpx.ConnectError(f"Bearer {CANARY}")),
        raw(b"", status=429),
    ],
)
async def test_the_key_is_in_no_error(reply: Reply) -> None:
    """Neither in its text nor in what its row gets."""
    error = await failure(reply)
    assert CANARY not in f"{error} {error!r} {error.message} {error.error_class}"


@pytest.mark.parametrize(
    "told", [f"Incorrect API key provided: {CANARY}", f"bad header Authorization: Bearer {CANARY}"]
)
async def test_a_key_that_the_provider_repeats_is_cut_out_of_its_message(told: str) -> None:
    """Messages go into rows that tenants read."""
    assert CANARY not in (await failure(refused(401, told))).message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("1", 1.0),
        ("1.5", 1.5),
        ("60", 60.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("9" * 400, 86_400.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tuesday, 24-Nov-26 12:00:30 GMT", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    """What is neither counts as absent; more than a day is not believed."""
    assert retry_after_seconds(value, NOW) == expected


@given(
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [A-Z+-]\w{0,4}")
)
def test_no_retry_after_is_too_odd_to_be_read(value: str) -> None:
    """It comes from outside: at the worst it is ignored."""
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or 0.0 <= seconds <= 86_400.0


async def test_a_429_says_how_long_to_wait_also_by_a_date() -> None:
    """By the clock of this machine."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    seconds = (await failure(refused(429, retry_after=date))).retry_after_seconds
    assert seconds is not None
    assert 3500 < seconds <= 3600
