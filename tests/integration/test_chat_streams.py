"""Streams: what a caller sees, what a break after content leaves, and what a caller who goes away leaves."""

import pytest

from tests.support.scene import (
    DECISION_HEADER,
    Behaviour,
    Decision,
    Scene,
    contents,
    error_code,
    events,
    facts,
)
from tests.support.tenant import NANO_USD_PER_USD

RULE = "cheapest_clearing_floor"
CHUNKS = ["one ", "two ", "three ", "four"]
CHUNK_BYTES = 40
LONG_CHUNKS = ["x" * CHUNK_BYTES] * 6


async def stream_of(scene: Scene, **body: object) -> str:
    """Stream one answer of one new candidate to its end."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "chunks": CHUNKS})
    response = await scene.chat(stream=True, **body)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return response.text


async def test_a_stream_arrives_whole_and_ends_with_its_cost_and_the_end_marker(scene: Scene) -> None:
    """The last event has the decision and what it cost; the row agrees."""
    text = await stream_of(scene)
    assert contents(text) == "".join(CHUNKS)
    assert text.endswith("data: [DONE]\n\n")
    decision = scene.decision()
    last = events(text)[-1]["clearfloor"]
    assert last["decision_id"] == str(decision["id"])
    assert round(float(last["cost_usd"]) * NANO_USD_PER_USD) == decision["charge_nano_usd"] > 0
    assert [event for event in events(text)[:-1] if "clearfloor" in event] == []
    assert facts(decision) == ("succeeded", RULE, 1, ["succeeded"])


async def test_usage_is_always_asked_for_and_stripped_for_those_who_did_not(scene: Scene) -> None:
    """The provider's body asks for it; the caller's stream has none; the row has the provider's figures."""
    text = await stream_of(scene)
    (call,) = await scene.calls(scene.candidates[0])
    assert call["body"]["stream_options"] == {"include_usage": True}
    assert [event for event in events(text) if event.get("usage") or not event["choices"]] == []
    assert scene.decision()["attempts"][0]["usage_source"] == "provider"


async def test_usage_is_passed_on_to_those_who_asked_for_it(scene: Scene) -> None:
    """In an event without choices, before the end; other stream options go to the provider too."""
    text = await stream_of(scene, stream_options={"include_usage": True, "include_obfuscation": False})
    (report,) = [event for event in events(text) if event.get("usage")]
    assert (report["choices"], report["usage"]["completion_tokens"]) == ([], 5)
    (call,) = await scene.calls(scene.candidates[0])
    assert call["body"]["stream_options"] == {"include_usage": True, "include_obfuscation": False}


async def test_several_choices_are_streamed_to_the_end_of_each(scene: Scene) -> None:
    """The reservation covers all of them."""
    text = await stream_of(scene, n=3)
    finished = {
        choice["index"]
        for event in events(text)
        for choice in event.get("choices", ())
        if choice["finish_reason"]
    }
    assert finished == {0, 1, 2}
    assert contents(text).count("three") == 3
    assert scene.decision()["routing_request"]["choices"] == 3


@pytest.mark.parametrize("after_chunks", [1, 3])
@pytest.mark.parametrize("kind", ["cut", "malformed", "error_frame"])
async def test_a_stream_that_breaks_after_content_ends_with_an_error_and_no_end_marker(
    scene: Scene, kind: str, after_chunks: int
) -> None:
    """No other candidate is asked, the attempt is `cut`, and what came so far is settled."""
    first, second = await scene.offer(2)
    await scene.script(
        first, {"kind": kind, "after_chunks": after_chunks}, default={"kind": "answer", "chunks": LONG_CHUNKS}
    )
    response = await scene.chat(stream=True)
    assert contents(response.text) == "x" * CHUNK_BYTES * after_chunks
    last = events(response.text)[-1]["error"]
    assert (last["code"], last["decision_id"]) == ("stream_broken", response.headers[DECISION_HEADER])
    assert "[DONE]" not in response.text
    decision = scene.decision()
    assert facts(decision) == ("failed_provider_error", RULE, 1, ["cut"])
    assert_estimated(decision, after_chunks)
    assert await scene.called(first, second) == [1, 0]


def assert_estimated(decision: Decision, chunks: int) -> None:
    """Check that a decision was charged for what came: input, and so many chunks of output at 4 bytes a token."""
    (attempt,) = decision["attempts"]
    assert (attempt["usage_source"], attempt["output_tokens"]) == ("estimate", chunks * CHUNK_BYTES // 4)
    assert attempt["input_tokens"] > 0
    assert decision["charge_nano_usd"] == attempt["cost_nano_usd"] > 0


@pytest.mark.parametrize("stalls_after", [1, 2, 5])
async def test_a_caller_who_goes_away_in_mid_stream_is_charged_for_what_came(
    scene: Scene, stalls_after: int
) -> None:
    """The decision is cancelled and settled, nothing stays held, and the provider is hung up on."""
    (candidate,) = await scene.offer()
    stall: Behaviour = {"kind": "stall", "after_chunks": stalls_after}
    await scene.script(candidate, stall, default={"kind": "answer", "chunks": LONG_CHUNKS})
    response = await scene.open_stream()
    text = ""
    async for piece in response.aiter_text():
        text += piece
        if len(contents(text)) == stalls_after * CHUNK_BYTES:
            break
    await response.aclose()
    decision = await scene.completed()
    assert facts(decision) == ("cancelled", RULE, 1, ["cancelled"])
    assert_estimated(decision, stalls_after)
    assert scene.wallet()[1] == 0
    await scene.until_called(candidate, state="client_gone")


@pytest.mark.parametrize("chunks_read", range(len(CHUNKS) + 3))
async def test_a_caller_who_goes_away_at_any_moment_leaves_a_settled_decision(
    scene: Scene, chunks_read: int
) -> None:
    """Whether the end or the caller's leaving is noticed first, there is one outcome and the money adds up."""
    (candidate,) = await scene.offer()
    answer: Behaviour = {"kind": "answer", "chunks": CHUNKS, "chunk_delay_seconds": 0.005}
    await scene.script(candidate, default=answer)
    response = await scene.open_stream()
    lines = (line async for line in response.aiter_lines() if line)
    for _ in range(chunks_read):
        await anext(lines)
    await lines.aclose()
    await response.aclose()
    decision = await scene.completed()
    outcome, rule, linked, statuses = facts(decision)
    assert (rule, linked) == (RULE, 1)
    assert (outcome, statuses) in (("cancelled", ["cancelled"]), ("succeeded", ["succeeded"]))
    assert decision["charge_nano_usd"] > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_goes_away_before_the_answer_ends_the_call(scene: Scene, *, stream: bool) -> None:
    """The provider is hung up on; what it was sent by then is paid for, by estimate."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall"})
    call = scene.start(scene.chat(stream=stream))
    await scene.until_called(candidate)
    call.cancel()
    decision = await scene.completed()
    assert facts(decision) == ("cancelled", RULE, 1, ["cancelled"])
    assert_estimated(decision, chunks=0)
    await scene.until_called(candidate, state="client_gone")


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_else_is_called_for_a_caller_who_has_left(scene: Scene, *, stream: bool) -> None:
    """An SDK that gave up and tries again must not leave a failover running behind it."""
    first, second = await scene.offer(2)
    await scene.script(first, default={"kind": "status", "status": 500, "latency_seconds": 1})
    call = scene.start(scene.chat(stream=stream))
    await scene.until_called(first)
    call.cancel()
    assert facts(await scene.completed()) == ("cancelled", RULE, 1, ["cancelled"])
    assert await scene.called(first, second) == [1, 0]


async def test_a_stream_of_tool_calls_counts_as_content(scene: Scene) -> None:
    """Nothing but tool calls comes: the candidate is committed to all the same, and the calls arrive."""
    (candidate,) = await scene.offer(capabilities=["tools"])
    tool_calls = [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}]
    await scene.script(candidate, default={"kind": "answer", "content": "", "tool_calls": tool_calls})
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    response = await scene.chat(stream=True, tools=tools)
    assert '"call_1"' in response.text
    assert facts(scene.decision()) == ("succeeded", RULE, 1, ["succeeded"])
    assert scene.decision()["task"] == "tool_use"


async def test_a_refused_stream_is_a_plain_error(scene: Scene) -> None:
    """Before the first content nothing has been sent: the status tells, not an event under 200."""
    await scene.offer(quality=0.2)
    response = await scene.chat(stream=True)
    assert (response.status_code, error_code(response)) == (422, "no_candidate_clears_floor")
    assert response.headers["content-type"] == "application/json"
