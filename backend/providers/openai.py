"""OpenAI's chat completions, as OpenAI, Mistral, Groq, Together, DeepSeek, OpenRouter, vLLM and Ollama speak it.

Usage: ``prompt_tokens`` includes cache reads (``prompt_tokens_details.cached_tokens``), ``completion_tokens`` includes
reasoning (``completion_tokens_details.reasoning_tokens``). https://platform.openai.com/docs/api-reference/chat/object
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from backend.errors import ProviderError
from backend.providers.transport import retry_after_seconds, server_sent_data, translated, whole_body
from backend.providers.types import ChatAnswer, ChatEvent, ProviderCall, Usage

_DONE = b"[DONE]"
# No call uses more. A provider that reports more must not keep the call from being settled.
_MOST_TOKENS = 10**12
_LONGEST_ERROR_MESSAGE_CHARACTERS = 500
_CREDENTIALS_STATUSES = frozenset({401, 402, 403, 404})
_RATE_LIMITED_STATUS = 429
_TIMEOUT_STATUS = 408
_SERVER_ERROR_STATUS = 500
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

    def __init__(self, client: httpx.AsyncClient, connect_timeout_seconds: float) -> None:
        self._client = client
        self._connect_timeout_seconds = connect_timeout_seconds

    async def chat(self, call: ProviderCall) -> ChatAnswer:
        """Make a plain call; see :class:`backend.providers.types.Provider`."""
        with translated():
            async with asyncio.timeout(call.timeout_seconds):
                response = await self._client.send(self._request(call), stream=True)
                try:
                    content = await whole_body(response, call.most_answer_bytes)
                finally:
                    await response.aclose()
        if not response.is_success:
            raise _refusal(response, content, call.api_key)
        body = _object(content)
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            raise ProviderError("malformed", "the answer has no choices", status=response.status_code)
        return ChatAnswer(
            body=content,
            usage=_usage(body.get("usage")),
            output_bytes=sum(_content_bytes(choice.get("message")) for choice in _objects(choices)),
            request_id=_request_id(response.headers),
        )

    async def chat_stream(self, call: ProviderCall) -> "OpenAIStream":
        """Make a streamed call; see :class:`backend.providers.types.Provider`."""
        with translated():
            async with asyncio.timeout(call.timeout_seconds):
                response = await self._client.send(self._request(call), stream=True)
                try:
                    return await _opened_stream(response, call)
                except BaseException:
                    await response.aclose()
                    raise

    def _request(self, call: ProviderCall) -> httpx.Request:
        headers = {"content-type": "application/json"}
        if call.api_key:
            headers["authorization"] = f"Bearer {call.api_key}"
        return self._client.build_request(
            "POST",
            f"{call.base_url.rstrip('/')}/chat/completions",
            content=orjson.dumps(call.body),
            headers=headers,
            # The time for the answer is asyncio.timeout's: httpx would start anew at every byte.
            timeout=httpx.Timeout(
                None, connect=self._connect_timeout_seconds, pool=self._connect_timeout_seconds
            ),
        )


async def _opened_stream(response: httpx.Response, call: ProviderCall) -> "OpenAIStream":
    if not response.is_success:
        raise _refusal(response, await whole_body(response, call.most_answer_bytes), call.api_key)
    stream = OpenAIStream(response, call)
    await stream.wait_for_content()
    return stream


class OpenAIStream:
    """A streamed answer. Events that came before the first content are kept until somebody iterates."""

    def __init__(self, response: httpx.Response, call: ProviderCall) -> None:
        self._call = call
        self.request_id = _request_id(response.headers)
        self._response = response
        self._events = self._read()
        self._held_back: list[ChatEvent] = []

    async def wait_for_content(self) -> None:
        """Read up to the first event with content.

        Raises:
            ProviderError: the stream ended, broke or made no sense before.
        """
        async for event in self._events:
            self._held_back.append(event)
            if event.output_bytes or event.finished_choices:
                return
        raise ProviderError(
            "malformed", "the stream ended before any content", status=self._response.status_code
        )

    async def __aiter__(self) -> AsyncIterator[ChatEvent]:
        """Yield every event from the first on."""
        for event in self._held_back:
            yield event
        while (following := await self._next()) is not None:
            yield following

    async def _next(self) -> ChatEvent | None:
        with translated():
            async with asyncio.timeout(self._call.idle_timeout_seconds):
                return await anext(self._events, None)

    async def aclose(self) -> None:
        """Hang up."""
        await self._response.aclose()

    async def _read(self) -> AsyncIterator[ChatEvent]:
        finished = False
        async for data in server_sent_data(self._response, self._call.most_answer_bytes):
            if data == _DONE:
                return
            event = _event(data, self._call.api_key)
            finished = finished or event.finished_choices > 0
            yield event
        if not finished:
            raise ProviderError("connection", "the stream ended in the middle of the answer")


def _event(data: bytes, api_key: str | None) -> ChatEvent:
    chunk = _object(data)
    if chunk.get("error"):
        message = _message_of(chunk, api_key) or "the provider reported an error in the stream"
        raise ProviderError("server_error", message)
    choices = _objects(chunk.get("choices"))
    return ChatEvent(
        data=data,
        usage=_usage(chunk.get("usage")),
        finished_choices=sum(1 for choice in choices if choice.get("finish_reason")),
        output_bytes=sum(_content_bytes(choice.get("delta")) for choice in choices),
        is_usage_report=not choices and "usage" in chunk,
    )


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


def _content_bytes(message: Any) -> int:  # noqa: ANN401 # whatever the provider sent
    if not isinstance(message, dict):
        return 0
    total = 0
    for field in _CONTENT_FIELDS:
        value = message.get(field)
        if isinstance(value, str):
            total += len(value.encode())
        elif value:
            total += len(str(value))
    return total


def _usage(reported: Any) -> Usage | None:  # noqa: ANN401 # whatever the provider sent
    # Unknown is not zero: where the totals make no sense, usage is estimated instead.
    if not (isinstance(reported, dict) and _is_count(reported, "prompt_tokens", "completion_tokens")):
        return None
    prompt = _count(reported["prompt_tokens"])
    completion = _count(reported["completion_tokens"])
    cached = min(_count(_details(reported, "prompt_tokens_details").get("cached_tokens")), prompt)
    reasoning = min(
        _count(_details(reported, "completion_tokens_details").get("reasoning_tokens")), completion
    )
    return Usage(
        input_tokens=prompt - cached,
        cache_read_tokens=cached,
        output_tokens=completion - reasoning,
        reasoning_tokens=reasoning,
    )


def _details(reported: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = reported.get(name)
    return details if isinstance(details, dict) else {}


def _is_count(reported: Mapping[str, Any], *names: str) -> bool:
    return all(type(reported.get(name)) is int and reported[name] >= 0 for name in names)


def _count(value: Any) -> int:  # noqa: ANN401 # whatever the provider sent
    return min(value, _MOST_TOKENS) if isinstance(value, int) and value > 0 else 0


def _request_id(headers: httpx.Headers) -> str | None:
    request_id: str | None = headers.get("x-request-id", headers.get("request-id"))
    return request_id


def _refusal(response: httpx.Response, content: bytes, api_key: str | None) -> ProviderError:
    status = response.status_code
    message = _error_message(content, api_key) or f"the provider answered {status}"
    retry_after = retry_after_seconds(response.headers.get("retry-after"), datetime.now(UTC))
    return ProviderError(_error_class(status), message, status=status, retry_after_seconds=retry_after)


def _error_class(status: int) -> str:
    if status == _RATE_LIMITED_STATUS:
        return "rate_limited"
    if status in _CREDENTIALS_STATUSES:
        return "credentials"
    if status >= _SERVER_ERROR_STATUS or status == _TIMEOUT_STATUS:
        return "server_error"
    return "rejected" if status >= 400 else "malformed"  # noqa: PLR2004 # where client errors begin


def _error_message(content: bytes, api_key: str | None) -> str | None:
    try:
        return _message_of(orjson.loads(content), api_key)
    except orjson.JSONDecodeError:
        return None


def _message_of(body: Any, api_key: str | None) -> str | None:  # noqa: ANN401 # whatever the provider sent
    error = body.get("error", body) if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        return None
    # Some providers repeat the key that they refuse; the message goes into a row that tenants read.
    if api_key:
        message = message.replace(api_key, "[key]")
    return message[:_LONGEST_ERROR_MESSAGE_CHARACTERS]
