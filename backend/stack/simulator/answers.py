"""The bodies of OpenAI's chat completions: plain, and frame by frame."""

import itertools
import math
import re
import time
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field

from backend.stack.simulator.behaviours import Answer

DONE = b"data: [DONE]\n\n"
CHOICES_MAX = 128
CHARACTERS_PER_TOKEN = 4
_WORD = re.compile(r"\s*\S+|\s+")
_SERVER_ERROR_STATUS = 500


class StreamOptions(BaseModel):
    """The part of `stream_options` that changes the stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The part of a request that changes the answer; the journal keeps all of it."""

    model_config = ConfigDict(strict=True)

    model: str
    messages: Annotated[list[dict[str, object]], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MAX)] | None = None


def error_body(status: int, message: str, code: str | None) -> bytes:
    """Build OpenAI's error envelope."""
    types = {401: "authentication_error", 429: "rate_limit_error"}
    fallback = "server_error" if status >= _SERVER_ERROR_STATUS else "invalid_request_error"
    fault = {"message": message, "type": types.get(status, fallback), "param": None, "code": code}
    return orjson.dumps({"error": fault})


def data_line(payload: bytes) -> bytes:
    """Build one server-sent event."""
    return b"data: %b\n\n" % payload


class Writer:
    """One answer to one request, in the forms that the wire needs. `number` makes its id."""

    def __init__(self, request: ChatRequest, answer: Answer, number: int) -> None:
        self._request = request
        self._answer = answer
        self._head = {"id": f"chatcmpl-sim-{number}", "created": int(time.time()), "model": request.model}
        self._choices = range(request.n or 1)
        self._content = _content(answer, request.model)
        self._finish_reason = answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)

    def completion(self) -> bytes:
        """Build the body of a plain answer."""
        message: dict[str, object] = {"role": "assistant", "content": self._content, "refusal": None}
        if self._answer.tool_calls:
            message["tool_calls"] = self._answer.tool_calls
        choices = [
            {"index": i, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
            for i in self._choices
        ]
        usage = self._usage()
        body = self._head | {"object": "chat.completion", "choices": choices}
        return orjson.dumps(body if usage is None else body | {"usage": usage})

    def pieces(self, at_least: int) -> list[str]:
        """Cut the content into chunks; it starts over if `at_least` asks for more than it has."""
        pieces = self._answer.chunks or _WORD.findall(self._content or "")
        return pieces + list(itertools.islice(itertools.cycle(pieces), max(0, at_least - len(pieces))))

    def opening(self) -> bytes:
        """Build the role-only frames, one a choice."""
        return self._frames({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """Build the frames of one chunk of content."""
        return self._frames({"content": text})

    def closing(self) -> bytes:
        """Build what follows the content: tool calls, finish reason, usage if asked for, the end marker."""
        frames = []
        if self._answer.tool_calls:
            calls = [{"index": i} | call for i, call in enumerate(self._answer.tool_calls)]
            frames.append(self._frames({"tool_calls": calls}))
        frames.append(self._frames({}, self._finish_reason))
        usage = self._usage()
        if self._with_usage and usage is not None:
            frames.append(self._chunk([], usage))
        return b"".join([*frames, DONE])

    def _frames(self, delta: dict[str, object], finish_reason: str | None = None) -> bytes:
        """Build one frame a choice: OpenAI never puts two choices into one."""
        choice = {"delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"".join([self._chunk([choice | {"index": i}], None) for i in self._choices])

    def _chunk(self, choices: list[dict[str, object]], usage: dict[str, object] | None) -> bytes:
        """Build one chunk; with include_usage every chunk but the last has a null usage, as OpenAI's have."""
        chunk = self._head | {"object": "chat.completion.chunk", "choices": choices}
        return data_line(orjson.dumps(chunk | {"usage": usage} if self._with_usage else chunk))

    def _usage(self) -> dict[str, object] | None:
        if self._answer.usage != "computed":
            return self._answer.usage
        prompt = math.ceil(_characters(self._request.messages) / CHARACTERS_PER_TOKEN)
        completion = math.ceil(len(self._content or "") / CHARACTERS_PER_TOKEN) * len(self._choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


def _content(answer: Answer, model: str) -> str | None:
    if answer.content is not None:
        return answer.content
    if answer.chunks is not None:
        return "".join(answer.chunks)
    return None if answer.tool_calls else f"Hello from {model}."


def _characters(messages: list[dict[str, object]]) -> int:
    """Count the text of the messages, in both forms that `content` has."""
    contents = [message.get("content") for message in messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts = contents + [part.get("text") for part in parts if isinstance(part, dict)]
    return sum(len(text) for text in texts if isinstance(text, str))
