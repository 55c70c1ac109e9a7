"""The HTTP boundary of a unit test: providers and PostgREST as scripts, told in httpx's terms whichever client asks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from cryptography.fernet import Fernet

from backend.app import make_record
from backend.dispatch.answers import Vault
from backend.dispatch.completions import Completions
from backend.dispatch.cooldowns import Cooldowns
from backend.dispatch.dispatcher import Dispatcher
from backend.http_client import HttpError, HttpTimeoutError, NoFreeConnectionError
from backend.providers.openai import OpenAIProvider
from backend.providers.types import ProviderCall, Usage
from backend.store.client import DataApi, http_client
from backend.store.record import AttemptResult
from tests.unit.samples import Json, settings

Reply = Callable[[], httpx.Response]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
CHARGE_NANO_USD = 2800
# What an attempt's result says by saying nothing.
_NOT_SENT = dict(
    zip(
        AttemptResult.__struct_fields__[-len(AttemptResult.__struct_defaults__) :],
        AttemptResult.__struct_defaults__,
        strict=True,
    )
)


def answered(content: str = "Hello.", usage: object = USAGE, **headers: str) -> Reply:
    """Script a sound answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    body = {"object": "chat.completion", "choices": [choice]} | ({"usage": usage} if usage else {})
    return lambda: httpx.Response(200, json=body, headers=headers)


def refused(status: int, message: str = "no", **headers: str) -> Reply:
    """Script an error, in OpenAI's envelope. A header's name is written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: httpx.Response(status, json={"error": {"message": message}}, headers=named)


def raw(content: bytes, status: int = 200) -> Reply:
    """Script a body."""
    return lambda: httpx.Response(status, content=content)


def breaks(error: Exception) -> Reply:
    """Script a failure below HTTP."""

    def fail() -> httpx.Response:
        raise error

    return fail


def frame(chunk: object) -> bytes:
    """Return a chunk as a server-sent event."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def delta(finish_reason: str | None = None, index: int = 0, **content: object) -> Json:
    """Return a chunk with one choice."""
    choice = {"index": index, "delta": content, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice]}


ROLE = delta(role="assistant", content="")
USAGE_REPORT: Json = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
DONE = b"data: [DONE]\n\n"


class Body(httpx.AsyncByteStream):
    """A body that knows whether somebody hung up on it."""

    closed = False


class Blocks(Body):
    """A body that arrives in given blocks, and may break after them."""

    def __init__(self, blocks: Iterable[bytes], error: Exception | None = None) -> None:
        self._blocks = list(blocks)
        self._error = error

    async def __aiter__(self) -> Any:  # an async generator
        """Yield the blocks, then break if so scripted."""
        for block in self._blocks:
            yield block
        if self._error:
            raise self._error


CANARY = "sk-canary-of-the-provider"


def provider_call(**changes: Any) -> ProviderCall:  # fields are of many types
    """Return a call with a key that must not come to light, and with time to spare."""
    fields = {
        "base_url": "http://acme.test/v1",
        "api_key": CANARY,
        "body": {"model": "small", "messages": [{"role": "user", "content": "\u2028"}]},
        "choices": 1,
        "usage_convention": "openai",
        "deadline": float("inf"),
        "first_content_timeout_seconds": 5.0,
        "idle_timeout_seconds": 5.0,
        "tail_timeout_seconds": 5.0,
        "most_answer_bytes": 1_000_000,
    }
    return ProviderCall(**{**fields, **changes})


def tokens_of(usage: Usage | None) -> dict[str, int] | None:
    """Return the classes of which there are tokens; None if usage is unknown."""
    if usage is None:
        return None
    counts = {name: getattr(usage, name) for name in usage.__slots__ if name.endswith("_tokens")}
    return {name: count for name, count in counts.items() if count}


class Hanging(httpx.AsyncByteStream):
    """A body that never comes."""

    async def __aiter__(self) -> Any:  # an async generator
        """Wait for ever."""
        await asyncio.Event().wait()
        yield b""


def streamed(*blocks: bytes, error: Exception | None = None) -> Reply:
    """Script a stream that arrives in these blocks."""
    return lambda: httpx.Response(200, stream=Blocks(blocks, error))


def streamed_answer(*words: str) -> Reply:
    """Script a whole streamed answer with a usage report."""
    chunks = [ROLE, *(delta(content=word) for word in words or ("Hello.",)), delta("stop"), USAGE_REPORT]
    return streamed(*map(frame, chunks), DONE)


@dataclass
class Providers:
    """Providers that answer by script, one for each upstream model; where it is over, its last entry repeats."""

    scripts: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a call."""
        self.requests.append(request)
        script = self.scripts[orjson.loads(request.content)["model"]]
        reply = script.pop(0) if len(script) > 1 else script[0]
        return reply()

    @property
    def bodies(self) -> list[Json]:
        """What was asked, call by call."""
        return [orjson.loads(request.content) for request in self.requests]

    @property
    def called(self) -> list[str]:
        """The upstream models that were called, call by call."""
        return [body["model"] for body in self.bodies]


VAULT = Vault([Fernet.generate_key().decode()])


@dataclass
class Postgrest:
    """PostgREST as the record sees it: answers like the database's functions do and keeps what it was sent.

    ``scripts`` has answers to be given first: a JSON value, a response or an exception. ``before`` is told of every
    call as it arrives.
    """

    scripts: dict[str, list[object]] = field(default_factory=dict)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    is_away: bool = False
    before: Callable[[str], None] = lambda _function: None

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a call."""
        if self.is_away:
            raise httpx.ConnectError("away")
        self.requests.append(request)
        function = request.url.path.rpartition("/")[2]
        parameters: Json = orjson.loads(request.content) if request.content else {}
        self.before(function)
        self.calls.append((function, parameters))
        scripted = self.scripts.get(function)
        answer = scripted.pop(0) if scripted else self._answer(function, parameters)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def sent(self, function: str) -> list[Json]:
        """Return the items of all calls of a function, results of attempts with the defaults that are not sent."""
        items = [item for name, parameters in self.calls if name == function for item in parameters["items"]]
        return [
            item | {name: _NOT_SENT | item[name] for name in ("attempt", "previous") if item.get(name)}
            for item in items
        ]

    def _answer(self, function: str, parameters: Json) -> Any:  # JSON
        if function == "insert_decisions":
            return [
                {
                    "id": i["id"],
                    "outcome_status": None,
                    "bound_nano_usd": i.get("bound_nano_usd"),
                    "refusal": None,
                    "error": None,
                }
                for i in parameters["items"]
            ]
        if function == "insert_attempts":
            return [
                {
                    "id": i["decision_id"],
                    "opened": True,
                    "bound_nano_usd": i["bound_nano_usd"],
                    "outcome_status": None,
                    "refusal": None,
                    "error": None,
                }
                for i in parameters["items"]
            ]
        return [self._completed(item) for item in parameters["items"]]

    def _completed(self, item: Json) -> Json:
        attempt = item["attempt"]
        made = attempt["inference_id"] if attempt and attempt["status"] != "not_sent" else None
        return {
            "id": item["id"],
            "error": None,
            "outcome_status": item["outcome_status"],
            "decision_rule": "cheapest_clearing_floor" if made else item["decision_rule_override"],
            "inference_id": made,
            "charge_nano_usd": CHARGE_NANO_USD if made else 0,
            "overrun_nano_usd": 0,
            "operator_loss_nano_usd": 0,
        }


def record_http(postgrest: Postgrest) -> httpx.AsyncClient:
    """Return the backend's own connections to Supabase, but for what is at their other end."""
    hooks = http_client(settings(), connections=1).event_hooks
    return httpx.AsyncClient(transport=httpx.MockTransport(postgrest.respond), event_hooks=hooks)


class ScriptedHttp:
    """The hot path's HTTP client, but for what is at its other end."""

    def __init__(
        self, respond: Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
    ) -> None:
        self._respond = respond

    async def post(self, url: str, headers: Mapping[str, str], content: bytes) -> "ScriptedAnswer":
        """Ask the script."""
        with translated_from_httpx():
            response = self._respond(httpx.Request("POST", url, headers=headers, content=content))
            return ScriptedAnswer(await response if isinstance(response, Awaitable) else response)


class ScriptedAnswer:
    """An answer from a script."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        with translated_from_httpx():
            async for block in self._response.aiter_bytes():
                yield block

    def close(self) -> None:
        """Hang up."""
        if isinstance(self._response.stream, Body):
            self._response.stream.closed = True


@contextmanager
def translated_from_httpx() -> Iterator[None]:
    """Raise what the hot path's client raises in the same case."""
    try:
        yield
    except httpx.PoolTimeout as error:
        raise NoFreeConnectionError("every connection is in use") from error
    except httpx.TimeoutException as error:
        raise HttpTimeoutError(type(error).__name__) from error
    except httpx.HTTPError as error:
        raise HttpError(type(error).__name__) from error


class Gateway:
    """A dispatcher with its parts, between scripted providers and a scripted record."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, **changes: object) -> None:
        self.providers = Providers()
        self.postgrest = Postgrest()
        self.settings = settings(**changes)
        self.record_http = record_http(self.postgrest)
        self.data_api = DataApi(self.settings, self.record_http)
        self.record = make_record(self.settings, self.data_api, ScriptedHttp(self.postgrest.respond))
        self.cooldowns = Cooldowns(clock)
        self.completions = Completions(
            wait_seconds=self.settings.completion_wait_seconds, most=self.settings.max_pending_completions
        )
        self.provider = OpenAIProvider(ScriptedHttp(self.providers.respond))
        self.dispatcher = Dispatcher(
            self.record, {"openai": self.provider}, self.cooldowns, self.completions, self.settings, VAULT
        )

    def script(self, candidate: Json, *replies: Reply) -> None:
        """Let a candidate answer so, call by call; the last reply repeats."""
        self.providers.scripts[candidate["upstream_model"]] = list(replies)

    def script_each(self, candidates: Sequence[Json], *replies: Reply) -> None:
        """Let each candidate answer by one of the replies, always."""
        for candidate, reply in zip(candidates, replies, strict=True):
            self.script(candidate, reply)
