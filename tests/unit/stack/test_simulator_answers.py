"""The bodies and frames of the simulated provider, without a socket."""

from typing import Any

import orjson

from backend.stack.simulator.answers import DONE, ChatRequest, Writer
from backend.stack.simulator.behaviours import Answer

TOOL_CALL: dict[str, object] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": "{}"},
}


def writer(answer: Answer, **extra: object) -> Writer:
    """Make a writer for a request of model `m`, with a prompt of five characters."""
    request = {"model": "m", "messages": [{"role": "user", "content": "12345"}]} | extra
    return Writer(ChatRequest.model_validate(request), answer, 7)


def completion(answer: Answer, **extra: object) -> dict[str, Any]:
    """Parse the plain body."""
    body: dict[str, Any] = orjson.loads(writer(answer, **extra).completion())
    return body


def frames(raw: bytes) -> list[dict[str, Any]]:
    """Parse server-sent events, the end marker left out."""
    lines = raw.replace(DONE, b"").split(b"\n\n")
    return [orjson.loads(line.removeprefix(b"data: ")) for line in lines if line]


def test_the_plain_answer_greets_and_counts_a_token_for_four_characters() -> None:
    """Both counts are rounded up."""
    body = completion(Answer())
    assert body["id"] == "chatcmpl-sim-7"
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Hello from m."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_the_text_of_content_parts_is_counted() -> None:
    """Only text counts, wherever it stands."""
    parts = [{"type": "text", "text": "12345678"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    messages = [{"role": "system", "content": "1234"}, {"role": "user", "content": parts}]
    assert completion(Answer(), messages=messages)["usage"]["prompt_tokens"] == 3


def test_a_null_usage_is_left_out_and_a_given_one_passed_on() -> None:
    """Providers differ in what they count; the script decides."""
    given = {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}
    assert "usage" not in completion(Answer(usage=None))
    assert completion(Answer(usage=given))["usage"] == given


def test_n_choices_are_answered_and_billed() -> None:
    """OpenAI bills every choice."""
    body = completion(Answer(content="12345678"), n=3)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 6


def test_tool_calls_replace_the_text_and_set_the_finish_reason() -> None:
    """As OpenAI does, unless the script says otherwise."""
    choice = completion(Answer(tool_calls=[TOOL_CALL]))["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [TOOL_CALL]
    assert choice["finish_reason"] == "tool_calls"
    assert writer(Answer(tool_calls=[TOOL_CALL])).pieces(0) == []


def test_tool_calls_of_a_stream_carry_their_index() -> None:
    """Clients put the deltas together by index."""
    first, last = frames(writer(Answer(tool_calls=[TOOL_CALL])).closing())
    assert first["choices"][0]["delta"]["tool_calls"] == [{"index": 0} | TOOL_CALL]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_content_is_cut_by_words_and_nothing_is_lost() -> None:
    """The pieces join up to the content, white space included."""
    content = "  Hello from\n a model. "
    pieces = writer(Answer(content=content)).pieces(0)
    assert pieces == ["  Hello", " from", "\n a", " model.", " "]
    assert "".join(pieces) == content


def test_chunks_given_are_the_pieces_and_the_plain_content() -> None:
    """One script serves both forms."""
    answer = Answer(chunks=["Hel", "lo"])
    assert writer(answer).pieces(0) == ["Hel", "lo"]
    assert completion(answer)["choices"][0]["message"]["content"] == "Hello"


def test_content_starts_over_when_a_fault_comes_after_its_end() -> None:
    """A cut after five chunks is one, however short the content."""
    assert writer(Answer(content="a b")).pieces(5) == ["a", " b", "a", " b", "a"]
    assert writer(Answer(content="")).pieces(5) == []


def test_frames_hold_one_choice_each() -> None:
    """OpenAI never puts two choices into one chunk."""
    opening = frames(writer(Answer(), n=2).opening())
    assert [len(frame["choices"]) for frame in opening] == [1, 1]
    assert [frame["choices"][0]["index"] for frame in opening] == [0, 1]
    assert opening[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_usage_comes_last_and_only_when_asked_for() -> None:
    """The chunk with the usage has no choices; the others have a null usage."""
    asked = writer(Answer(), stream_options={"include_usage": True})
    finish, usage = frames(asked.closing())
    assert finish["usage"] is None
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 6)
    (finish,) = frames(writer(Answer()).closing())
    assert "usage" not in finish


def test_a_null_usage_is_left_out_of_a_stream_that_asked_for_it() -> None:
    """Some providers ignore include_usage."""
    asked = writer(Answer(usage=None), stream_options={"include_usage": True})
    assert len(frames(asked.closing())) == 1
    assert asked.closing().endswith(DONE)
