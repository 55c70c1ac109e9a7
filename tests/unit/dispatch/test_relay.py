"""A relayed stream: its decision is completed exactly once, whatever happens to either end."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from backend.dispatch.order import Order
from backend.dispatch.relay import Relay
from tests.unit.boundary import (
    DONE,
    ROLE,
    USAGE_REPORT,
    Blocks,
    Gateway,
    Reply,
    delta,
    frame,
    streamed,
    streamed_answer,
)
from tests.unit.samples import Json, candidate, order

HELLO, WORLD, STOP = delta(content="Hello "), delta(content="world"), delta("stop")
SMALL = candidate("small")


async def relayed(gateway: Gateway, reply: Reply, **changes: Any) -> tuple[Order, Relay]:
    """Dispatch a streamed request to the one candidate."""
    gateway.script(SMALL, reply)
    asked = order([SMALL], stream=True, **changes)
    relay = await gateway.dispatcher.dispatch(asked)
    assert isinstance(relay, Relay)
    return asked, relay


async def sent(relay: Relay) -> list[bytes]:
    """Return all of the caller's events, and close as the response does."""
    try:
        return [event async for block in relay for event in events_in(block)]
    finally:
        await relay.aclose()


def events_in(block: bytes) -> list[bytes]:
    """Return the events that were sent together."""
    return [event + b"\n\n" for event in block.split(b"\n\n") if event]


async def completions_sent(gateway: Gateway, relay: Relay) -> list[int]:
    """Return how many completions had been sent when each event came."""
    sent = gateway.postgrest.sent
    return [len(sent("complete_decisions")) async for block in relay for _ in events_in(block)]


def chunk(event: bytes) -> Json:
    """Return the JSON of an event."""
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    return dict(orjson.loads(event[6:]))


async def test_the_last_event_has_the_decision_and_its_cost(gateway: Gateway) -> None:
    """The rest is as the provider sent it; the usage report goes only to who asked for it."""
    asked, relay = await relayed(gateway, streamed_answer("Hello ", "world"))
    events = await sent(relay)
    assert [chunk(event) for event in events[:-2]] == [ROLE, HELLO, WORLD]
    assert chunk(events[-2]) == {
        **STOP,
        "clearfloor": {"decision_id": str(asked.decision.id), "cost_usd": "0.0000028"},
    }
    assert events[-1] == DONE


async def test_the_usage_report_is_relayed_to_who_asked_for_it(gateway: Gateway) -> None:
    """As the last event, where OpenAI's is; the cost is in it."""
    _, relay = await relayed(gateway, streamed_answer("Hello "), wants_usage=True)
    events = [chunk(event) for event in (await sent(relay))[:-1]]
    assert events[:-1] == [ROLE, HELLO, STOP]
    assert {**events[-1], "clearfloor": None} == {**USAGE_REPORT, "clearfloor": None}
    assert events[-1]["clearfloor"]["cost_usd"] == "0.0000028"


async def test_the_cost_goes_into_whatever_object_comes_last(gateway: Gateway) -> None:
    """Even into an empty one, or one that no writer of JSON would write again."""
    deep = b'{"deep":' + b"[" * 300 + b"]" * 300 + b"}"
    for last, field in ((b"{}", None), (b"{ }", None), (deep, "deep")):
        _, relay = await relayed(
            gateway, streamed(frame(HELLO), frame(STOP), b"data: " + last + b"\n\n", DONE)
        )
        event = chunk((await sent(relay))[-2])
        assert event.pop("clearfloor")["cost_usd"] == "0.0000028"
        assert set(event) == {field} - {None}


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_provider_is_always_asked_for_usage(gateway: Gateway, *, wants_usage: bool) -> None:
    """Without it a stream's cost could only be guessed. What else the caller asked of the stream stays."""
    body = {"model": "auto", "messages": [], "stream": True, "stream_options": {"other": 1}}
    _, relay = await relayed(gateway, streamed_answer(), wants_usage=wants_usage, body=body)
    await sent(relay)
    assert gateway.providers.bodies[0]["stream_options"] == {"other": 1, "include_usage": True}


async def test_a_stream_is_completed_with_the_usage_that_was_reported(gateway: Gateway) -> None:
    """Once, as succeeded, with the attempt's own id."""
    _, relay = await relayed(gateway, streamed_answer("Hello "))
    await sent(relay)
    (completion,) = gateway.postgrest.sent("complete_decisions")
    (opening,) = gateway.postgrest.sent("insert_decisions")
    attempt = completion["attempt"]
    assert (completion["outcome_status"], attempt["status"]) == ("succeeded", "succeeded")
    assert attempt["inference_id"] == opening["inference_id"]
    assert (attempt["input_tokens"], attempt["output_tokens"], attempt["usage_source"]) == (10, 5, "provider")
    assert attempt["http_status"] == 200


async def test_usage_is_estimated_where_none_is_reported(gateway: Gateway) -> None:
    """By a token for four bytes, in and out, and labelled so."""
    _, relay = await relayed(gateway, streamed(frame(HELLO), frame(WORLD), frame(STOP), DONE))
    await sent(relay)
    attempt = gateway.postgrest.sent("complete_decisions")[0]["attempt"]
    assert (attempt["input_tokens"], attempt["output_tokens"], attempt["usage_source"]) == (
        100,
        3,
        "estimate",
    )


async def test_the_end_is_held_back_until_the_completion_is_there(gateway: Gateway) -> None:
    """Whoever has seen the end of an answer finds its decision completed."""
    _, relay = await relayed(gateway, streamed_answer("Hello "))
    assert await completions_sent(gateway, relay) == [0, 0, 1, 1]


async def test_the_end_comes_without_its_cost_when_the_record_is_away_for_too_long(
    waits: list[float],
) -> None:
    """The answer is paid for; its completion is tried on and on, and arrives."""
    gateway = Gateway(completion_wait_seconds=1e-9)
    gateway.postgrest.scripts["complete_decisions"] = [httpx.ConnectError("away")] * 5
    asked, relay = await relayed(gateway, streamed_answer("Hello "))
    events = await sent(relay)
    assert chunk(events[-2])["clearfloor"] == {"decision_id": str(asked.decision.id)}
    assert events[-1] == DONE
    while not waits or len(waits) < 5:
        await asyncio.sleep(0)
    await gateway.completions.drain()
    assert {c["outcome_status"] for c in gateway.postgrest.sent("complete_decisions")} == {"succeeded"}


async def test_the_end_of_many_choices_is_that_of_the_last(gateway: Gateway) -> None:
    """Two answers were asked for: the first one's end is not the stream's."""
    first, second = delta("stop", index=0), delta("stop", index=1)
    tail = delta(content="more", index=1)
    reply = streamed(*map(frame, (HELLO, first, tail, second, USAGE_REPORT)), DONE)
    _, relay = await relayed(gateway, reply, choices=2)
    assert await completions_sent(gateway, relay) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.ReadError("reset"), "no sound connection"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (None, "ended in the middle"),
    ],
)
async def test_a_broken_stream_ends_with_an_error_and_no_done(
    gateway: Gateway, error: Exception | None, told: str
) -> None:
    """What came is delivered and settled as a cut attempt; nobody takes half an answer for a whole one."""
    asked, relay = await relayed(gateway, streamed(frame(ROLE), frame(HELLO), error=error))
    events = await sent(relay)
    assert [chunk(event) for event in events[:-1]] == [ROLE, HELLO]
    failure = chunk(events[-1])["error"]
    assert (failure["code"], failure["decision_id"]) == ("stream_broken", str(asked.decision.id))
    assert told in failure["message"]
    (completion,) = gateway.postgrest.sent("complete_decisions")
    assert (completion["outcome_status"], completion["attempt"]["status"]) == ("failed_provider_error", "cut")
    assert (completion["attempt"]["output_tokens"], completion["attempt"]["usage_source"]) == (2, "estimate")
    assert len(gateway.providers.requests) == 1


@pytest.mark.parametrize(
    "after", [httpx.ReadError("reset"), b"data: {oops\n\n", b'data: {"error": "late"}\n\n']
)
async def test_what_goes_wrong_after_the_answer_has_ended_loses_nothing_of_it(
    gateway: Gateway, after: bytes | Exception
) -> None:
    """Its last words may stand in the event that says that it ended."""
    last = delta("stop", content="world")
    reply = (
        streamed(frame(HELLO), frame(last), error=after)
        if isinstance(after, Exception)
        else streamed(frame(HELLO), frame(last), after)
    )
    _, relay = await relayed(gateway, reply)
    events = await sent(relay)
    assert [chunk(event)["choices"] for event in events[:-1]] == [HELLO["choices"], last["choices"]]
    assert events[-1] == DONE
    (completion,) = gateway.postgrest.sent("complete_decisions")
    assert (completion["outcome_status"], completion["attempt"]["status"]) == ("succeeded", "succeeded")


async def test_of_what_follows_the_end_only_the_last_event_waits(gateway: Gateway) -> None:
    """For the commit; the rest is the caller's at once."""
    late = delta(content="!", index=1)
    reply = streamed(*map(frame, (HELLO, STOP, late, delta("stop", index=1), USAGE_REPORT)), DONE)
    _, relay = await relayed(gateway, reply, wants_usage=True)
    assert await completions_sent(gateway, relay) == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("usage_first", [True, False])
async def test_a_report_that_came_before_the_last_content_counts_for_nothing(
    gateway: Gateway, *, usage_first: bool
) -> None:
    """A first chunk may say that nothing was used yet; one that comes with each content counts it."""
    early = {**ROLE, "usage": {"prompt_tokens": 10, "completion_tokens": 0}}
    running = {**WORLD, "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    chunks = (early, HELLO, WORLD) if usage_first else (HELLO, running)
    _, relay = await relayed(gateway, streamed(*map(frame, chunks), error=httpx.ReadError("reset")))
    await sent(relay)
    attempt = gateway.postgrest.sent("complete_decisions")[0]["attempt"]
    expected = (3, "estimate") if usage_first else (2, "provider")
    assert (attempt["output_tokens"], attempt["usage_source"]) == expected


async def test_a_cut_stream_keeps_what_a_dispute_needs(gateway: Gateway) -> None:
    """The provider's id of the answer, and that it had begun well."""

    def reply() -> httpx.Response:
        body = Blocks([frame(HELLO)], httpx.ReadError("reset"))
        return httpx.Response(200, stream=body, headers={"x-request-id": "req-1"})

    _, relay = await relayed(gateway, reply)
    await sent(relay)
    attempt = gateway.postgrest.sent("complete_decisions")[0]["attempt"]
    assert (attempt["provider_request_id"], attempt["http_status"]) == ("req-1", 200)
    assert attempt["first_content_milliseconds"] is not None


async def test_a_stream_past_the_deadline_of_its_request_is_cut() -> None:
    """However long it may be silent between two events."""
    gateway = Gateway(request_deadline_seconds=0.2, provider_idle_timeout_seconds=60)

    class Silent(Blocks):
        async def __aiter__(self) -> Any:  # an async generator
            yield frame(HELLO)
            await asyncio.Event().wait()

    _, relay = await relayed(gateway, lambda: httpx.Response(200, stream=Silent([])))
    first, event = await sent(relay)
    assert chunk(first) == HELLO
    assert "in time" in chunk(event)["error"]["message"]
    assert [c["attempt"]["status"] for c in gateway.postgrest.sent("complete_decisions")] == ["cut"]


async def test_a_stream_that_fails_by_a_fault_of_ours_is_recorded_as_such(gateway: Gateway) -> None:
    """Not as if its caller had left; the record charges nothing for it."""
    _, relay = await relayed(gateway, streamed_answer("Hello "))
    await relay.aclose("failed_other")
    await gateway.completions.drain()
    assert [c["outcome_status"] for c in gateway.postgrest.sent("complete_decisions")] == ["failed_other"]


@pytest.mark.parametrize("events", [0, 1, 2])
async def test_a_caller_that_goes_away_is_settled_as_cancelled_exactly_once(
    gateway: Gateway, events: int
) -> None:
    """With the usage of what it was sent, which was held back up to the first content; the provider is hung up on."""
    body = Blocks([frame(ROLE), frame(HELLO), frame(WORLD), frame(STOP), DONE])
    _, relay = await relayed(gateway, lambda: httpx.Response(200, stream=body))
    reading = aiter(relay)
    for _ in range(events):
        await anext(reading)
    await relay.aclose()
    await relay.aclose()
    await gateway.completions.drain()
    (completion,) = gateway.postgrest.sent("complete_decisions")
    attempt = completion["attempt"]
    assert (completion["outcome_status"], attempt["status"]) == ("cancelled", "cancelled")
    assert (attempt["input_tokens"], attempt["usage_source"]) == (100, "estimate")
    assert attempt["output_tokens"] == [0, 2, 3][events]
    assert body.closed


async def test_a_caller_that_goes_away_at_the_end_has_its_whole_answer_settled(gateway: Gateway) -> None:
    """The completion had begun: cancelled is not added to it."""
    _, relay = await relayed(gateway, streamed_answer("Hello "))
    reading = asyncio.create_task(sent(relay))
    while not gateway.postgrest.sent("complete_decisions"):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await gateway.completions.drain()
    assert [c["outcome_status"] for c in gateway.postgrest.sent("complete_decisions")] == ["succeeded"]


async def test_a_relay_that_nobody_reads_is_settled_when_it_is_closed(gateway: Gateway) -> None:
    """The caller may be gone before the first byte."""
    _, relay = await relayed(gateway, streamed_answer("Hello "))
    await relay.aclose()
    await gateway.completions.drain()
    assert [c["outcome_status"] for c in gateway.postgrest.sent("complete_decisions")] == ["cancelled"]


async def test_what_comes_together_goes_out_together(gateway: Gateway) -> None:
    """One write for all of it; what comes by itself goes by itself, at once."""
    together = frame(WORLD) + frame(WORLD) + frame(WORLD)
    _, relay = await relayed(gateway, streamed(frame(HELLO), together, frame(WORLD), frame(STOP), DONE))
    assert [len(events_in(block)) async for block in relay] == [1, 3, 1, 2]
