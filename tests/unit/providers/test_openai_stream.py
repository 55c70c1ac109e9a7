"""Streams in OpenAI's format: the same events however the bytes arrive, and no end that is not one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import ProviderError
from backend.providers.openai import OpenAIProvider, OpenAIStream
from backend.providers.types import ChatEvent
from tests.unit.boundary import (
    CANARY,
    DONE,
    ROLE,
    USAGE,
    USAGE_REPORT,
    Blocks,
    Body,
    Reply,
    ScriptedHttp,
    delta,
    frame,
    provider_call,
    refused,
    streamed,
    tokens_of,
)

HELLO = delta(content="Hello")
STOP = delta("stop")
# What JSON does not escape, and what line readers other than ours take for the end of a line.
ODD = delta(content="a\u2028b\u2029c\u0085d\x1ce\x0bf\U0001f600g\u20ac")


async def opened(reply: Reply, **limits: Any) -> OpenAIStream:  # limits are of many types
    """Open a stream whose provider answers so."""
    provider = OpenAIProvider(ScriptedHttp(lambda _: reply()))
    return await provider.chat_stream(provider_call(**limits))


async def events_of(stream: OpenAIStream) -> list[ChatEvent]:
    """Return the events of a stream that ends well."""
    return [event async for events in stream for event in events]


async def chunks(*blocks: bytes) -> list[Any]:
    """Return the chunks of a stream that ends well."""
    return [orjson.loads(event.data) for event in await events_of(await opened(streamed(*blocks)))]


async def not_opened(reply: Reply) -> ProviderError:
    """Return why a stream was not opened."""
    with pytest.raises(ProviderError) as raised:
        await opened(reply)
    return raised.value


async def read_into(got: list[Any], stream: OpenAIStream) -> None:
    """Collect a stream's chunks: what came before it breaks is kept."""
    async for events in stream:
        got += [orjson.loads(event.data) for event in events]


async def broken_after(reply: Reply, expected: Iterable[Any]) -> ProviderError:
    """Return what a stream breaks with, once the expected chunks have come."""
    got: list[Any] = []
    with pytest.raises(ProviderError) as raised:
        await read_into(got, await opened(reply))
    assert got == list(expected)
    return raised.value


async def test_a_stream_is_every_event_from_the_role_to_the_usage() -> None:
    """Held back until the first content is there, then all of them in order, with the facts that matter."""
    blocks = [frame(chunk) for chunk in (ROLE, HELLO, STOP, USAGE_REPORT)]
    events = await events_of(await opened(streamed(*blocks, DONE)))
    assert [orjson.loads(event.data) for event in events] == [ROLE, HELLO, STOP, USAGE_REPORT]
    assert [event.data for event in events] == [
        orjson.dumps(chunk) for chunk in (ROLE, HELLO, STOP, USAGE_REPORT)
    ]
    assert [event.output_bytes for event in events] == [0, 5, 0, 0]
    assert [event.is_end for event in events] == [False, False, True, True]
    assert [event.is_usage_report for event in events] == [False, False, False, True]
    assert [tokens_of(event.usage) for event in events] == [
        None,
        None,
        None,
        {"input_tokens": 10, "output_tokens": 5},
    ]


WHOLE = (
    b": keep-alive\n\n" + frame(ROLE) + frame(ODD) + frame(HELLO) + frame(STOP) + frame(USAGE_REPORT) + DONE
)


@given(cuts=st.lists(st.integers(0, len(WHOLE))), crlf=st.booleans())
async def test_a_stream_cut_anywhere_into_blocks_has_the_same_events(cuts: list[int], *, crlf: bool) -> None:
    """In the middle of a character, of an escape, of a line's end: blocks mean nothing."""
    sent = WHOLE.replace(b"\n", b"\r\n") if crlf else WHOLE
    edges = [0, *sorted(cuts), len(sent)]
    blocks = [sent[start:end] for start, end in pairwise(edges)]
    assert await chunks(*blocks) == [ROLE, ODD, HELLO, STOP, USAGE_REPORT]


async def test_a_stream_byte_by_byte_has_the_same_events() -> None:
    """The worst of all cuts."""
    assert await chunks(*(WHOLE[i : i + 1] for i in range(len(WHOLE)))) == [
        ROLE,
        ODD,
        HELLO,
        STOP,
        USAGE_REPORT,
    ]


@pytest.mark.parametrize("name", [b"data:", b"data: ", b"data:  "])
async def test_the_space_after_data_is_optional(name: bytes) -> None:
    """As the standard says."""
    assert await chunks(frame(HELLO).replace(b"data: ", name), frame(STOP), DONE) == [HELLO, STOP]


async def test_comments_and_other_fields_are_no_events() -> None:
    """Keep-alive lines, names and ids of events come between them."""
    noise = b": OPENROUTER PROCESSING\n\nevent: message\nid: 7\nretry: 10\n\n"
    assert await chunks(noise, frame(HELLO), noise, frame(STOP), noise, DONE) == [HELLO, STOP]


async def test_a_stream_without_done_is_whole_if_it_says_why_it_ended() -> None:
    """Some servers leave the marker out; the reason for the end is what counts."""
    assert await chunks(frame(HELLO), frame(STOP)) == [HELLO, STOP]
    assert await chunks(frame(HELLO), frame(STOP).rstrip(b"\n")) == [HELLO, STOP]


async def test_nothing_after_done_is_read() -> None:
    """Whatever a server leaves behind it."""
    assert await chunks(frame(HELLO), frame(STOP), DONE, b"data: nonsense\n\n") == [HELLO, STOP]


async def test_a_stream_that_just_stops_is_broken() -> None:
    """Neither a reason for the end nor a marker: half an answer is not passed for a whole one."""
    error = await broken_after(streamed(frame(ROLE), frame(HELLO)), [ROLE, HELLO])
    assert (error.error_class, error.fails_over) == ("connection", True)


@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("incomplete chunked read")]
)
async def test_a_connection_lost_after_content_breaks_the_stream(error: Exception) -> None:
    """With what had come before."""
    raised = await broken_after(streamed(frame(ROLE), frame(HELLO), error=error), [ROLE, HELLO])
    assert raised.error_class == "connection"


async def test_a_line_that_is_not_json_breaks_the_stream() -> None:
    """As malformed."""
    assert (
        await broken_after(streamed(frame(HELLO), b"data: {oops\n\n"), [HELLO])
    ).error_class == "malformed"


async def test_an_event_without_end_breaks_the_stream_before_it_fills_the_memory() -> None:
    """The limit is of one event: a stream of many small ones may be as long as it likes."""
    limit = len(frame(HELLO))
    many = [frame(HELLO)] * 20
    whole = await opened(streamed(*many, frame(STOP), DONE), most_answer_bytes=limit)
    assert len(await events_of(whole)) == len(many) + 1
    endless = await opened(streamed(frame(HELLO), *[b"data: " + b"x" * limit] * 2), most_answer_bytes=limit)
    with pytest.raises(ProviderError, match=f"longer than {limit} bytes") as raised:
        await read_into([], endless)
    assert raised.value.error_class == "malformed"


async def test_an_error_frame_after_content_breaks_the_stream_with_its_message() -> None:
    """And without the key, should the provider repeat it."""
    failure = frame({"error": {"message": f"overloaded {CANARY}"}})
    error = await broken_after(streamed(frame(HELLO), failure, DONE), [HELLO])
    assert (error.error_class, error.message) == ("server_error", "overloaded [key]")


@pytest.mark.parametrize(
    "failure",
    [
        frame({"object": "error", "message": "overloaded", "code": 503}),
        b'event: error\ndata: {"message": "overloaded"}\n\n',
        b'event: error\r\ndata: {"type": "error", "error": {"message": "overloaded"}}\r\n\r\n',
    ],
)
async def test_an_error_in_any_of_its_shapes_breaks_the_stream(failure: bytes) -> None:
    """vLLM's, and the named events of others: none is passed on as if it were part of the answer."""
    error = await broken_after(streamed(frame(HELLO), failure, DONE), [HELLO])
    assert (error.error_class, error.message) == ("server_error", "overloaded")


async def test_one_of_two_choices_left_unfinished_breaks_the_stream() -> None:
    """The other one's end is not the stream's."""
    other = delta(content="b", index=1)
    stream = await opened(streamed(*map(frame, (HELLO, other, STOP))), choices=2)
    with pytest.raises(ProviderError) as raised:
        await read_into([], stream)
    assert raised.value.error_class == "connection"


async def test_an_event_of_several_lines_is_one_object() -> None:
    """As the standard has it. It goes on in one line."""
    spread = b'data: {"choices":\ndata: [{"index": 0, "delta": {"content": "Hello"}}]}\n\n'
    events = await events_of(await opened(streamed(spread, frame(STOP), DONE)))
    assert orjson.loads(events[0].data)["choices"] == [{"index": 0, "delta": {"content": "Hello"}}]
    assert b"\n" not in events[0].data


async def test_a_byte_order_mark_is_no_part_of_the_first_event() -> None:
    """It must not cost the answer its first words."""
    assert await chunks(b"\xef\xbb\xbf" + frame(HELLO), frame(STOP), DONE) == [HELLO, STOP]


async def test_after_its_end_a_stream_is_waited_for_no_longer_than_for_its_tail() -> None:
    """A provider may keep the connection open without an end marker."""
    body = Stalling(frame(HELLO), frame(STOP))
    stream = await opened(
        lambda: httpx.Response(200, stream=body), idle_timeout_seconds=3600.0, tail_timeout_seconds=0.0
    )
    got: list[Any] = []
    await read_into(got, stream)
    assert got == [HELLO, STOP]


async def test_a_choice_that_has_not_begun_is_waited_for() -> None:
    """Two answers were asked for: the end of the first is not the tail."""
    late = [delta(content="b", index=1), delta("stop", index=1)]
    stream = await opened(streamed(*map(frame, (HELLO, STOP, *late))), choices=2, tail_timeout_seconds=0.0)
    got: list[Any] = []
    await read_into(got, stream)
    assert got == [HELLO, STOP, *late]


async def test_a_failure_says_which_answer_it_is_of() -> None:
    """By the provider's own id."""
    body = Blocks([frame(HELLO)], httpx.ReadError("reset"))
    stream = await opened(lambda: httpx.Response(200, stream=body, headers={"x-request-id": "req-1"}))
    with pytest.raises(ProviderError) as raised:
        await read_into([], stream)
    assert (raised.value.request_id, raised.value.status) == ("req-1", 200)


@pytest.mark.parametrize(
    ("reply", "error_class"),
    [
        (streamed(), "malformed"),
        (lambda: httpx.Response(200, json={"choices": []}), "malformed"),
        (lambda: httpx.Response(204), "malformed"),
        (streamed(DONE), "malformed"),
        (streamed(frame(ROLE), DONE), "malformed"),
        (streamed(frame(USAGE_REPORT), DONE), "malformed"),
        (streamed(frame(ROLE)), "connection"),
        (streamed(frame(ROLE), error=httpx.ReadError("reset")), "connection"),
        (streamed(frame(ROLE), error=httpx.ReadTimeout("slow")), "timeout"),
        (streamed(frame({"error": {"message": "overloaded"}})), "server_error"),
        (streamed(frame(ROLE), frame({"error": "overloaded"})), "server_error"),
        (streamed(frame(ROLE), b"data: {oops\n\n"), "malformed"),
        (streamed(frame(ROLE), b"data: []\n\n"), "malformed"),
        (refused(429, retry_after="1"), "rate_limited"),
        (refused(500), "server_error"),
        (refused(401), "credentials"),
    ],
)
async def test_a_stream_that_fails_before_content_is_not_opened(reply: Reply, error_class: str) -> None:
    """Role-only events are held back for it: nobody has seen anything, so another candidate may still answer."""
    error = await not_opened(reply)
    assert (error.error_class, error.fails_over) == (error_class, True)


async def test_a_stream_that_is_refused_is_not_opened() -> None:
    """The caller's mistake is told as in a plain call."""
    error = await not_opened(refused(400, "too long"))
    assert (error.error_class, error.fails_over, error.message) == ("rejected", False, "too long")


@pytest.mark.parametrize(
    "first",
    [
        delta(content="x"),
        delta(reasoning_content="hm"),
        delta(reasoning="hm"),
        delta(refusal="no"),
        delta(tool_calls=[{"index": 0, "id": "call-1"}]),
        delta("stop"),
        delta("content_filter", content=""),
    ],
)
async def test_a_stream_is_open_from_the_first_event_that_shows_something(first: object) -> None:
    """Or that says why there is nothing to show: then it is this provider's answer."""
    assert await chunks(frame(ROLE), frame(first), frame(STOP), DONE) == [ROLE, first, STOP]


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": None},
        {"choices": 7},
        {"choices": ["text", {"delta": None}, {"delta": "text"}, {}]},
        {"choices": [{"delta": {"content": 7}}], "usage": "none"},
        {"error": None, "choices": []},
        {},
    ],
)
async def test_odd_chunks_are_passed_on(odd: object) -> None:
    """What a caller's own client makes of them is its business; nothing here trips over them."""
    assert await chunks(frame(HELLO), frame(odd), frame(STOP), DONE) == [HELLO, odd, STOP]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "usage", "error", "message", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=4))
async def test_no_stream_is_too_odd_to_be_told_from_a_failure(sent: list[object]) -> None:
    """It is read, or it is the provider's failure: never a fault of ours."""
    with contextlib.suppress(ProviderError):
        await chunks(*map(frame, sent), frame(STOP), DONE)


class Stalling(Body):
    """Some blocks, and then nothing."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks = blocks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the blocks, then stall."""
        for block in self._blocks:
            yield block
        await asyncio.Event().wait()


async def test_a_stream_that_stalls_after_content_times_out() -> None:
    """No longer than the idle time between two events."""
    body = Stalling(frame(HELLO))
    stream = await opened(lambda: httpx.Response(200, stream=body), idle_timeout_seconds=0.0)
    got: list[Any] = []
    with pytest.raises(ProviderError) as raised:
        await read_into(got, stream)
    assert (got, raised.value.error_class) == ([HELLO], "timeout")


@pytest.mark.parametrize(
    "body",
    [Blocks([frame(ROLE)]), Blocks([b"data: {oops\n\n"]), Blocks([frame(ROLE)], httpx.ReadError("reset"))],
)
async def test_a_stream_that_is_not_opened_is_hung_up_on(body: Blocks) -> None:
    """Its connection is not left to the garbage collector."""
    await not_opened(lambda: httpx.Response(200, stream=body))
    assert body.closed


async def test_a_caller_that_goes_away_while_a_stream_opens_leaves_no_connection() -> None:
    """Cancellation is no excuse."""
    body = Stalling(frame(ROLE))
    opening = asyncio.create_task(opened(lambda: httpx.Response(200, stream=body)))
    for _ in range(20):
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert body.closed


async def test_hanging_up_twice_is_hanging_up() -> None:
    """The relay does it whatever happened before."""
    body = Blocks([frame(HELLO), frame(STOP)])
    stream = await opened(lambda: httpx.Response(200, stream=body, headers={"x-request-id": "req-1"}))
    assert stream.request_id == "req-1"
    await stream.aclose()
    await stream.aclose()
    assert body.closed


async def test_usage_of_any_event_is_read() -> None:
    """Some providers send it with the last choice, some with every chunk."""
    last = {**STOP, "usage": USAGE}
    events = await events_of(await opened(streamed(frame(HELLO), frame(last), DONE)))
    assert [tokens_of(event.usage) for event in events] == [None, {"input_tokens": 10, "output_tokens": 5}]
    assert [event.is_usage_report for event in events] == [False, False]
