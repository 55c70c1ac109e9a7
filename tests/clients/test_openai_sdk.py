"""OpenAI's own Python client, unchanged but for its base URL and key."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.support.scene import Scene, facts

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the answer?"}]
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
]
TOOL_CALLS = [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
SERVER_ERROR: dict[str, object] = {"kind": "status", "status": 500}
RULE = "cheapest_clearing_floor"


class Sdk:
    """The asynchronous client with its default retries, and how many HTTP requests it has made."""

    def __init__(self, scene: Scene, key: str | None = None) -> None:
        self.requests = 0
        self._scene = scene
        http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [self._count]})
        self.client = openai.AsyncOpenAI(
            base_url=f"{scene.backends[0].url}/v1", api_key=key or scene.tenant.api_key, http_client=http
        )

    async def _count(self, _: object) -> None:
        self.requests += 1

    async def create(self, **arguments: Any) -> Any:
        """Ask for a completion among the scene's models."""
        extra = {"clearfloor": {"models": self._scene.models}}
        whole: dict[str, Any] = {"model": "auto", "messages": MESSAGES, "extra_body": extra} | arguments
        async with self.client:
            answer = await self.client.chat.completions.create(**whole)
            return [chunk async for chunk in answer] if whole.get("stream") else answer


@contextmanager
def synchronous(scene: Scene) -> Iterator[openai.OpenAI]:
    """Give the synchronous client."""
    with openai.OpenAI(base_url=f"{scene.backends[0].url}/v1", api_key=scene.tenant.api_key) as client:
        yield client


async def test_a_plain_completion(scene: Scene) -> None:
    """Answer and usage are the SDK's own types."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "content": "42"})
    sdk = Sdk(scene)
    answer = await sdk.create()
    assert answer.choices[0].message.content == "42"
    assert answer.usage.completion_tokens == 1
    assert sdk.requests == 1


async def test_a_streamed_completion(scene: Scene) -> None:
    """Chunks add up, usage comes as asked, and the last event has what it cost."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "chunks": ["4", "2"]})
    chunks = await Sdk(scene).create(stream=True, stream_options={"include_usage": True})
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "42"
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [1]
    assert chunks[-1].clearfloor["decision_id"] == str(scene.decision()["id"])


async def test_the_synchronous_client_works_as_well(scene: Scene) -> None:
    """Plain, streamed, and the list of models."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "content": "42"})
    with synchronous(scene) as client:
        answer = client.chat.completions.create(model=candidate.model, messages=MESSAGES)
        stream = client.chat.completions.create(model=candidate.model, messages=MESSAGES, stream=True)
        assert answer.choices[0].message.content == "42"
        assert "".join(c.delta.content or "" for chunk in stream for c in chunk.choices) == "42"
        assert candidate.model in {model.id for model in client.models.list()}


async def test_the_raw_response_has_our_headers(scene: Scene) -> None:
    """An application reads what a call cost without another request."""
    (candidate,) = await scene.offer()
    with synchronous(scene) as client:
        raw = client.chat.completions.with_raw_response.create(model=candidate.model, messages=MESSAGES)
    assert raw.headers["x-clearfloor-model"] == candidate.model
    assert float(raw.headers["x-clearfloor-cost-usd"]) > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_pass_through_both_ways(scene: Scene, *, stream: bool) -> None:
    """The provider gets the tools, the caller the calls."""
    (candidate,) = await scene.offer(capabilities=["tools"])
    await scene.script(candidate, default={"kind": "answer", "content": "", "tool_calls": TOOL_CALLS})
    answer = await Sdk(scene).create(tools=TOOLS, tool_choice="auto", stream=stream)
    if stream:
        calls = [
            call for chunk in answer for choice in chunk.choices for call in choice.delta.tool_calls or ()
        ]
    else:
        calls = answer.choices[0].message.tool_calls
    assert calls[0].function.name == "add"
    assert "".join(call.function.arguments or "" for call in calls) == '{"a": 1}'
    (call,) = await scene.calls(candidate)
    assert (call["body"]["tools"], call["body"]["tool_choice"]) == (TOOLS, "auto")


async def test_a_candidate_that_lacks_tools_is_not_asked(scene: Scene) -> None:
    """422 as the SDK's own error."""
    await scene.offer()
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await Sdk(scene).create(tools=TOOLS)
    assert caught.value.code == "no_candidate_fits"
    assert await scene.called() == [0]


def spend_cap(scene: Scene) -> None:
    """Leave next to nothing of a cap."""
    scene.rows.cap(scene.tenant.organization_id, None, 1)


def no_funds(scene: Scene) -> None:
    """Take the tenant's place by one whose wallet is empty."""
    scene.tenant = scene.make_tenant(balance_nano_usd=0)


def switched_off(scene: Scene) -> None:
    """Switch the agent off."""
    scene.rows.query("update public.agents set active = false where id = %(id)s", id=scene.tenant.agent_id)


def nothing(_: Scene) -> None:
    """Leave everything as it is."""


@pytest.mark.parametrize(
    ("spoil", "arguments", "error", "code"),
    [
        (spend_cap, {}, openai.RateLimitError, "spend_cap_reached"),
        (no_funds, {}, openai.APIStatusError, "insufficient_funds"),
        (switched_off, {}, openai.PermissionDeniedError, "access_denied"),
        (nothing, {"model": "auto:1"}, openai.UnprocessableEntityError, "no_candidate_clears_floor"),
        (nothing, {"model": "auto:7"}, openai.BadRequestError, "invalid_request"),
        (nothing, {"model": "unknown-model"}, openai.NotFoundError, "model_not_found"),
    ],
)
async def test_refusals_are_the_sdks_own_errors_and_are_not_repeated(
    scene: Scene,
    spoil: Callable[[Scene], None],
    arguments: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
) -> None:
    """The code tells what it is; x-should-retry stops even the retries of a 429."""
    await scene.offer()
    spoil(scene)
    sdk = Sdk(scene)
    with pytest.raises(error) as caught:
        await sdk.create(**arguments)
    assert caught.value.code == code
    assert sdk.requests == 1
    assert await scene.called() == [0]


async def test_an_unknown_key_is_an_authentication_error(scene: Scene) -> None:
    """One request."""
    sdk = Sdk(scene, key="cf_unknown")
    with pytest.raises(openai.AuthenticationError) as caught:
        await sdk.create()
    assert (caught.value.code, sdk.requests) == ("invalid_api_key", 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_whole_failover_is_not_repeated_by_the_sdk(scene: Scene, *, stream: bool) -> None:
    """A 503 would be tried three times by default: here one request, one decision, each candidate called once."""
    for candidate in await scene.offer(2):
        await scene.script(candidate, default=SERVER_ERROR)
    sdk = Sdk(scene)
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.create(stream=stream)
    assert (caught.value.status_code, caught.value.code) == (503, "all_candidates_failed")
    assert sdk.requests == 1
    assert facts(scene.decision()) == ("failed_provider_error", RULE, 2, ["failed", "failed"])
    assert await scene.called() == [1, 1]


async def test_a_terminal_status_of_the_provider_is_not_repeated(scene: Scene) -> None:
    """409 is a status that the SDK would retry."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "status", "status": 409, "message": "In conflict."})
    sdk = Sdk(scene)
    with pytest.raises(openai.ConflictError, match=r"In conflict\."):
        await sdk.create()
    assert sdk.requests == 1
    assert await scene.called() == [1]


async def test_a_stream_that_breaks_is_raised_in_mid_iteration(scene: Scene) -> None:
    """Not taken for a whole answer."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "cut", "after_chunks": 2})
    with pytest.raises(openai.APIError, match="The stream broke"):
        await Sdk(scene).create(stream=True)
    assert facts(scene.decision())[3] == ["cut"]
