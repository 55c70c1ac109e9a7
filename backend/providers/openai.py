"""OpenAI's chat completions, as OpenAI, Mistral, Groq, Together, DeepSeek, OpenRouter, vLLM and Ollama speak it.

https://platform.openai.com/docs/api-reference/chat/object
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from backend.errors import ProviderError
from backend.http_client import SUCCESS, HttpAnswer, HttpClient
from backend.providers.transport import (
    EventReader,
    ServerSentEvent,
    retry_after_seconds,
    translated,
    whole_body,
)
from backend.providers.types import ChatAnswer, ChatEvent, ProviderCall
from backend.providers.usage import read_usage

_DONE = b"[DONE]"
_LONGEST_ERROR_MESSAGE_CHARACTERS = 500
# Our key or our account is wrong, for whatever request: the candidate is of no use until somebody mends it. 403 and 404
# may be about this one request (moderation, a preference that nothing meets), and are no reason to leave it alone.
_CREDENTIALS_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED})
_ELSEWHERE_STATUSES = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
# Where a delta carries what a caller would show: from the first of these on there is no way back to another provider.
_CONTENT_FIELDS = (
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
)


class OpenAIProvider:
    """Calls any base URL that speaks OpenAI's chat completions."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def chat(self, call: ProviderCall) -> ChatAnswer:
        """Make a plain call; see :class:`backend.providers.types.Provider`."""
        with translated():
            async with asyncio.timeout(_seconds_to_first_content(call)):
                response = await self._post(call)
                try:
                    with _named(response), translated():
                        content = await whole_body(response, call.most_answer_bytes)
                        return _answer(response, content, call)
                finally:
                    response.close()

    async def chat_stream(self, call: ProviderCall) -> "OpenAIStream":
        """Make a streamed call; see :class:`backend.providers.types.Provider`."""
        with translated():
            async with asyncio.timeout(_seconds_to_first_content(call)):
                response = await self._post(call)
                try:
                    with _named(response), translated():
                        return await _opened_stream(response, call)
                except BaseException:
                    # Also where the caller's leaving cancels it: nobody else would close the connection.
                    response.close()
                    raise

    async def _post(self, call: ProviderCall) -> HttpAnswer:
        headers = {"content-type": "application/json"}
        if call.api_key:
            headers["authorization"] = f"Bearer {call.api_key}"
        url = f"{call.base_url.rstrip('/')}/chat/completions"
        return await self._http.post(url, headers, msgspec.json.encode(call.body))


def _seconds_to_first_content(call: ProviderCall) -> float:
    return min(call.first_content_timeout_seconds, max(0.0, call.deadline - time.monotonic()))


@contextmanager
def _named(response: HttpAnswer) -> Iterator[None]:
    """Let errors tell which answer they are of: the id is what a dispute with the provider needs."""
    try:
        yield
    except ProviderError as error:
        error.status = error.status or response.status
        error.request_id = _request_id(response.headers)
        raise


def _answer(response: HttpAnswer, content: bytes, call: ProviderCall) -> ChatAnswer:
    if response.status not in SUCCESS:
        raise _refusal(response, content, call.api_key)
    body = _object(content)
    _require_no_error(body, call.api_key)
    choices = _objects(body.get("choices"))
    if not choices or not all(isinstance(choice.get("message"), dict) for choice in choices):
        raise ProviderError("malformed", "the answer has no choices with messages")
    if any(choice.get("finish_reason") == "error" for choice in choices):
        raise ProviderError("server_error", "the provider gave up in the middle of the answer")
    return ChatAnswer(
        body=content,
        usage=read_usage(body.get("usage"), call.usage_convention),
        output_bytes=sum(_content_bytes(choice["message"]) for choice in choices),
        request_id=_request_id(response.headers),
    )


async def _opened_stream(response: HttpAnswer, call: ProviderCall) -> "OpenAIStream":
    if response.status not in SUCCESS:
        raise _refusal(response, await whole_body(response, call.most_answer_bytes), call.api_key)
    if "json" in response.headers.get("content-type", ""):
        raise ProviderError("malformed", "the provider answered without a stream")
    stream = OpenAIStream(response, call)
    await stream.wait_for_content()
    return stream


class OpenAIStream:
    """A streamed answer. Events that came before the first content are kept until somebody iterates."""

    def __init__(self, response: HttpAnswer, call: ProviderCall) -> None:
        self._call = call
        self.request_id = _request_id(response.headers)
        self._response = response
        self._arrivals = self._read()
        self._held_back: list[ChatEvent] = []
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    async def wait_for_content(self) -> None:
        """Read up to the first event with content.

        Raises:
            ProviderError: the stream ended, broke or made no sense before.
        """
        async for events in self._arrivals:
            self._held_back += events
            if any(event.output_bytes or event.is_end for event in events):
                return
        raise ProviderError("malformed", "the stream ended before any content")

    async def __aiter__(self) -> AsyncIterator[Sequence[ChatEvent]]:
        """Yield every event from the first on, those together that came together."""
        yield self._held_back
        while (following := await self._next()) is not None:
            yield following

    async def aclose(self) -> None:
        """Hang up."""
        self._response.close()

    async def _next(self) -> Sequence[ChatEvent] | None:
        try:
            with _named(self._response), translated():
                async with asyncio.timeout(self._patience_seconds()):
                    return await anext(self._arrivals, None)
        except ProviderError:
            if self._is_answered:
                return None
            raise

    @property
    def _is_answered(self) -> bool:
        """Whether everything that was asked for is there: what follows is only usage and the end marker."""
        return len(self._finished) >= self._call.choices

    def _patience_seconds(self) -> float:
        patience = self._call.tail_timeout_seconds if self._is_answered else self._call.idle_timeout_seconds
        return max(0.0, min(patience, self._call.deadline - time.monotonic()))

    async def _read(self) -> AsyncIterator[Sequence[ChatEvent]]:
        reader = EventReader(self._call.most_answer_bytes)
        async for block in self._response.blocks():
            arrival = self._arrival(reader.read(block))
            if arrival.events:
                yield arrival.events
            if arrival.error:
                raise arrival.error
            if arrival.is_done:
                return
        arrival = self._arrival(reader.end())
        if arrival.events:
            yield arrival.events
        if arrival.error:
            raise arrival.error
        if not self._seen:
            raise ProviderError("malformed", "the answer is no stream of events")
        if self._finished != self._seen:
            raise ProviderError("connection", "the stream ended in the middle of the answer")

    def _arrival(self, sent: Iterable[ServerSentEvent]) -> "_Arrival":
        """Return what came at once: the events before the end marker, or before what makes no sense."""
        arrival = _Arrival()
        try:
            for event in sent:
                if event.data.strip() == _DONE:
                    arrival.is_done = True
                    break
                arrival.events.append(self._chat_event(event))
        except ProviderError as error:
            arrival.error = error
        return arrival

    def _chat_event(self, event: ServerSentEvent) -> ChatEvent:
        chunk = _object(event.data)
        if event.name == "error":
            chunk.setdefault("error", chunk)
        _require_no_error(chunk, self._call.api_key)
        choices = _objects(chunk.get("choices"))
        for choice in choices:
            self._seen.add(_index(choice))
            if choice.get("finish_reason"):
                self._finished.add(_index(choice))
        return ChatEvent(
            # On one line again: a line's end can only stand between two tokens of JSON.
            data=event.data.replace(b"\n", b" ").strip(),
            usage=read_usage(chunk.get("usage"), self._call.usage_convention),
            output_bytes=sum([_content_bytes(choice.get("delta")) for choice in choices]),
            is_usage_report=not choices and "usage" in chunk,
            is_end=bool(self._seen) and self._finished == self._seen,
        )


@dataclass(slots=True)
class _Arrival:
    """What came at once. ``error`` is of what came after the events."""

    events: list[ChatEvent] = field(default_factory=list)
    error: ProviderError | None = None
    is_done: bool = False


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ProviderError("malformed", "the provider's answer is not JSON") from error
    if not isinstance(value, dict):
        raise ProviderError("malformed", "the provider's answer is not a JSON object")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 # whatever the provider sent
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _require_no_error(body: Mapping[str, Any], api_key: str | None) -> None:
    if body.get("error") or body.get("object") == "error":
        message = _message_of(body, api_key) or "the provider reported an error in its answer"
        raise ProviderError("server_error", message)


def _content_bytes(message: Any) -> int:  # noqa: ANN401 # whatever the provider sent
    if not isinstance(message, dict):
        return 0
    total = 0
    for name in _CONTENT_FIELDS:
        value = message.get(name)
        if isinstance(value, str):
            total += len(value.encode())
        elif value:
            total += len(str(value))
    return total


def _request_id(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-request-id", headers.get("request-id"))


def _refusal(response: HttpAnswer, content: bytes, api_key: str | None) -> ProviderError:
    status = response.status
    message = _error_message(content, api_key) or f"the provider answered {status}"
    retry_after = retry_after_seconds(response.headers.get("retry-after"), datetime.now(UTC))
    return ProviderError(_error_class(status), message, status=status, retry_after_seconds=retry_after)


def _error_class(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limited"
    if status in _CREDENTIALS_STATUSES:
        return "credentials"
    if status in _ELSEWHERE_STATUSES:
        return "not_here"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return "server_error"
    return "rejected" if status >= HTTPStatus.BAD_REQUEST else "malformed"


def _error_message(content: bytes, api_key: str | None) -> str | None:
    try:
        return _message_of(orjson.loads(content), api_key)
    except orjson.JSONDecodeError:
        return None


def _message_of(body: Any, api_key: str | None) -> str | None:  # noqa: ANN401 # whatever the provider sent
    error = body.get("error") or body if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        return None
    # Some providers repeat the key that they refuse; the message goes into a row that tenants read.
    if api_key:
        message = message.replace(api_key, "[key]")
    return message[:_LONGEST_ERROR_MESSAGE_CHARACTERS]
