"""The simulated provider as a separate process, over real HTTP."""

import asyncio
import hashlib
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import orjson
import pytest

DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.01
HOURS = 3600.0
HELLO: dict[str, object] = {"kind": "answer", "content": "one two three"}


@contextmanager
def simulator_process(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a simulator; give the process and its URL."""
    command = [sys.executable, "-m", "backend.stack.simulator", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    """Start one simulator for all tests: they use model names of their own."""
    with simulator_process() as (_, url):
        yield url


@dataclass(frozen=True)
class Model:
    """A model name of its own, and the calls that a test makes with it."""

    name: str
    http: httpx.AsyncClient

    async def script(self, *script: dict[str, object], default: dict[str, object] = HELLO) -> None:
        """Set the plan."""
        plan = {"script": script, "default": default}
        (await self.http.put(f"/_control/models/{self.name}", json=plan)).raise_for_status()

    def request(self, *, stream: bool = False, **extra: object) -> httpx.Request:
        """Build a chat completion."""
        messages = [{"role": "user", "content": "Hello?"}]
        body = {"model": self.name, "messages": messages, "stream": stream} | extra
        headers = {"authorization": "Bearer sk-test"}
        return self.http.build_request("POST", "/v1/chat/completions", json=body, headers=headers)

    async def call(self, *, stream: bool = False) -> httpx.Response:
        """Make a call and read all of the response."""
        return await self.http.send(self.request(stream=stream))

    async def lines_until_broken(self) -> list[str]:
        """Stream until the connection breaks; give the data lines that came before."""
        lines: list[str] = []
        response = await self.http.send(self.request(stream=True), stream=True)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await collect(response.aiter_lines(), lines)
        return [line for line in lines if line]

    async def journal(self) -> list[dict[str, Any]]:
        """Give the recorded calls."""
        response = await self.http.get("/_control/journal", params={"model": self.name})
        calls: list[dict[str, Any]] = response.json()["calls"]
        return calls

    async def reaches(self, *states: str) -> None:
        """Wait until the states of the recorded calls are these; another process has no event to wait for."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while [call["state"] for call in await self.journal()] != list(states):
                await asyncio.sleep(POLL_SECONDS)

    async def release(self) -> None:
        """Let stalled calls answer."""
        (await self.http.post(f"/_control/models/{self.name}/release")).raise_for_status()


@pytest.fixture
async def model(simulator_url: str) -> AsyncIterator[Model]:
    """Name a model that no other test uses."""
    async with httpx.AsyncClient(base_url=simulator_url, timeout=DEADLINE_SECONDS) as http:
        yield Model(f"vendor/model-{uuid.uuid4()}", http)


@pytest.fixture
async def sdk(simulator_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Give OpenAI's own client, which would retry by itself if it were let."""
    async with openai.AsyncOpenAI(base_url=f"{simulator_url}/v1", api_key="sk-test", max_retries=0) as sdk:
        yield sdk


async def collect(source: AsyncIterator[str], into: list[str]) -> None:
    """Collect item by item, so that what came before a failure is kept."""
    async for item in source:
        into.append(item)  # noqa: PERF401


def contents(lines: list[str]) -> list[str]:
    """Give the non-empty pieces of content in the data lines that are JSON."""
    frames = [orjson.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"]
    pieces = [choice["delta"].get("content") for frame in frames for choice in frame["choices"]]
    return [piece for piece in pieces if piece]


def data_lines(response: httpx.Response) -> list[str]:
    """Give the data lines of a whole stream."""
    return [line for line in response.text.split("\n\n") if line]


async def test_an_unscripted_model_answers_plainly(model: Model, sdk: openai.AsyncOpenAI) -> None:
    """OpenAI's client understands the answer."""
    answer = await sdk.chat.completions.create(
        model=model.name, messages=[{"role": "user", "content": "Hello?"}], n=2
    )
    assert [choice.message.content for choice in answer.choices] == [f"Hello from {model.name}."] * 2
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2


async def test_a_stream_is_understood_by_the_sdk(model: Model, sdk: openai.AsyncOpenAI) -> None:
    """Role first, then content, finish reason, and the usage that was asked for."""
    await model.script()
    stream = await sdk.chat.completions.create(
        model=model.name,
        messages=[{"role": "user", "content": "Hello?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[:-2]] == ["", "one", " two", " three"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


async def test_a_stream_ends_with_the_end_marker(model: Model) -> None:
    """Nothing follows [DONE]; without include_usage there is no usage."""
    response = await model.call(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert data_lines(response)[-1] == "data: [DONE]"
    assert "usage" not in response.text


async def test_each_call_consumes_the_script(model: Model) -> None:
    """Then the default answers; other models are not concerned."""
    await model.script({"kind": "status", "status": 500}, {"kind": "status", "status": 503})
    assert [(await model.call()).status_code for _ in range(4)] == [500, 503, 200, 200]
    calls = await model.journal()
    assert [call["number"] for call in calls] == [1, 2, 3, 4]
    assert [call["behaviour"] for call in calls] == ["status", "status", "answer", "answer"]


async def test_a_refusal_carries_its_retry_after_as_it_is(model: Model, sdk: openai.AsyncOpenAI) -> None:
    """OpenAI's client sees a rate limit, with the message and the header of the script."""
    await model.script(
        {"kind": "status", "status": 429, "retry_after": "soon, 1.5", "message": "Slow.", "code": "rpm"}
    )
    with pytest.raises(openai.RateLimitError, match=r"Slow\.") as caught:
        await sdk.chat.completions.create(model=model.name, messages=[{"role": "user", "content": "?"}])
    assert caught.value.response.headers["retry-after"] == "soon, 1.5"
    assert caught.value.code == "rpm"


async def test_a_refusal_without_retry_after_has_no_such_header(model: Model) -> None:
    """Absent is not empty."""
    await model.script({"kind": "status", "status": 401})
    assert "retry-after" not in (await model.call()).headers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_disconnect_sends_nothing(model: Model, *, stream: bool) -> None:
    """Not even a status line, also on a connection that has been used before."""
    await model.script({"kind": "answer"}, {"kind": "disconnect"})
    await model.call()
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await model.call(stream=stream)
    await model.reaches("answered", "answered")


@pytest.mark.parametrize("after_chunks", [0, 2, 50])
async def test_a_cut_stream_breaks_after_its_chunks(model: Model, after_chunks: int) -> None:
    """All chunks before the cut arrive, and no end of any kind."""
    await model.script({"kind": "cut", "after_chunks": after_chunks})
    lines = await model.lines_until_broken()
    assert len(lines) == 1 + after_chunks
    assert contents(lines) == (["one", " two", " three"] + ["one", " two", " three"] * 16)[:after_chunks]
    await model.reaches("answered")


async def test_a_chunk_larger_than_any_socket_buffer_arrives_before_the_cut(model: Model) -> None:
    """How much the client sees is what the script says, not what was flushed by chance."""
    large = "x" * 16_000_000
    await model.script({"kind": "cut", "after_chunks": 1}, default={"kind": "answer", "chunks": [large]})
    assert contents(await model.lines_until_broken()) == [large]


async def test_a_cut_plain_answer_breaks_half_way(model: Model) -> None:
    """The length announced is that of the whole body."""
    await model.script({"kind": "cut"})
    response = await model.http.send(model.request(), stream=True)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await response.aread()
    assert response.num_bytes_downloaded == int(response.headers["content-length"]) // 2


async def test_a_malformed_plain_answer_is_not_json(model: Model) -> None:
    """It says 200 and application/json all the same."""
    await model.script({"kind": "malformed"}, {"kind": "malformed", "body": "<html>"})
    first, second = await model.call(), await model.call()
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting value"):
        first.json()
    assert second.text == "<html>"


async def test_a_malformed_line_stands_in_the_middle_of_a_whole_stream(model: Model) -> None:
    """The stream goes on to its end marker: overlooking the line must not be rewarded by a cut."""
    await model.script({"kind": "malformed", "after_chunks": 1, "body": "{oops"})
    lines = data_lines(await model.call(stream=True))
    assert lines[2] == "data: {oops"
    assert contents(lines[:2] + lines[3:]) == ["one", " two", " three"]
    assert lines[-1] == "data: [DONE]"


async def test_an_error_frame_ends_the_stream(model: Model, sdk: openai.AsyncOpenAI) -> None:
    """OpenAI's client raises it; no content follows."""
    await model.script(default={"kind": "error_frame", "after_chunks": 2, "message": "Broke.", "code": "x"})
    lines = data_lines(await model.call(stream=True))
    assert orjson.loads(lines[3].removeprefix("data: "))["error"]["code"] == "x"
    assert lines[4:] == ["data: [DONE]"]
    stream = await sdk.chat.completions.create(
        model=model.name, messages=[{"role": "user", "content": "?"}], stream=True
    )
    with pytest.raises(openai.APIError, match=r"Broke\."):
        _ = [chunk async for chunk in stream]


async def test_an_error_under_status_200_is_a_plain_body_too(model: Model) -> None:
    """Some aggregators answer so."""
    await model.script({"kind": "error_frame", "message": "Broke."})
    response = await model.call()
    assert (response.status_code, response.json()["error"]["message"]) == (200, "Broke.")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stalled_call_answers_when_released(model: Model, *, stream: bool) -> None:
    """It says what the default says."""
    await model.script({"kind": "stall"})
    task = asyncio.create_task(model.call(stream=stream))
    await model.reaches("received")
    assert not task.done()
    await model.release()
    assert "three" in (await task).text
    await model.reaches("answered")


async def test_a_stalled_call_notices_that_its_client_went_away(model: Model) -> None:
    """The journal tells it from an answered one."""
    await model.script({"kind": "stall"})
    task = asyncio.create_task(model.call())
    await model.reaches("received")
    task.cancel()
    await model.reaches("client_gone")


async def test_a_stall_after_the_headers_sends_them_and_the_role(model: Model) -> None:
    """The rest comes with the release."""
    await model.script({"kind": "stall", "after_headers": True})
    response = await model.http.send(model.request(stream=True), stream=True)
    assert response.status_code == 200
    lines = response.aiter_lines()
    assert '"role":"assistant"' in await anext(lines)
    await model.release()
    assert contents([line async for line in lines if line]) == ["one", " two", " three"]


async def test_a_plain_stall_after_the_headers_withholds_the_body(model: Model) -> None:
    """The headers are there while the call is still open."""
    await model.script({"kind": "stall", "after_headers": True})
    response = await model.http.send(model.request(), stream=True)
    await model.reaches("received")
    await model.release()
    assert orjson.loads(await response.aread())["choices"][0]["message"]["content"] == "one two three"


async def test_a_stall_in_mid_stream_goes_on_where_it_stopped(model: Model) -> None:
    """Every piece comes once."""
    await model.script({"kind": "stall", "after_chunks": 2})
    response = await model.http.send(model.request(stream=True), stream=True)
    lines = (line async for line in response.aiter_lines() if line)
    before = [await anext(lines) for _ in range(3)]
    await model.reaches("received")
    await model.release()
    after = [line async for line in lines]
    assert contents(before) == ["one", " two"]
    assert contents(after) == [" three"]
    assert after[-1] == "data: [DONE]"


async def test_latency_comes_before_everything_and_ends_with_the_client(model: Model) -> None:
    """A call that waits holds nothing once nobody listens."""
    await model.script({"kind": "answer", "latency_seconds": HOURS})
    task = asyncio.create_task(model.call())
    await model.reaches("received")
    assert not task.done()
    task.cancel()
    await model.reaches("client_gone")


async def test_a_short_latency_ends_in_the_answer(model: Model) -> None:
    """Waiting does not use up the connection."""
    await model.script({"kind": "answer", "latency_seconds": 0.02, "chunk_delay_seconds": 0.001})
    assert data_lines(await model.call(stream=True))[-1] == "data: [DONE]"
    await model.reaches("answered")


async def test_chunks_are_delayed_each_and_a_closed_stream_is_noticed(model: Model) -> None:
    """The role frame comes at once, the first piece does not."""
    await model.script({"kind": "answer", "chunk_delay_seconds": HOURS})
    response = await model.http.send(model.request(stream=True), stream=True)
    assert '"role":"assistant"' in await anext(response.aiter_lines())
    await response.aclose()
    await model.reaches("client_gone")


async def test_the_journal_shows_the_request_without_its_credential(model: Model) -> None:
    """Headers in lower case, the body as sent, the digest of the authorization header."""
    await model.http.send(model.request(temperature=0.5, user="u1"))
    (call,) = await model.journal()
    assert call["model"] == call["body"]["model"] == model.name
    assert (call["body"]["temperature"], call["body"]["user"]) == (0.5, "u1")
    assert call["headers"]["authorization_sha256"] == hashlib.sha256(b"Bearer sk-test").hexdigest()
    assert call["headers"]["content-type"] == "application/json"
    assert "authorization" not in call["headers"]
    assert call["state"] == "answered"


async def test_a_cleared_journal_is_empty_for_that_model(model: Model) -> None:
    """Calls of other models stay."""
    other = Model(f"{model.name}-other", model.http)
    await model.call()
    await other.call()
    await model.http.delete("/_control/journal", params={"model": model.name})
    assert await model.journal() == []
    assert len(await other.journal()) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"default": {"kind": "stal"}}', "default: Input tag 'stal' found"),
        (b'{"script": [{"kind": "status"}]}', "script.0.status.status: Field required"),
        (b"{", "body: Invalid JSON"),
    ],
)
async def test_a_wrong_script_is_refused_and_changes_nothing(model: Model, body: bytes, message: str) -> None:
    """The message says which field is wrong."""
    response = await model.http.put(f"/_control/models/{model.name}", content=body)
    assert response.status_code == 422
    assert message in response.json()["error"]["message"]
    assert (await model.call()).status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}', b'{"model": "m", "messages": []}'])
async def test_a_wrong_request_is_refused_as_openai_refuses_it(model: Model, body: bytes) -> None:
    """400 with an error envelope."""
    response = await model.http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_releasing_an_unknown_model_says_so(model: Model) -> None:
    """A misspelt name in a test must not pass unnoticed."""
    response = await model.http.post(f"/_control/models/{model.name}/release")
    assert response.status_code == 404
    assert model.name in response.json()["error"]["message"]


async def test_health_answers(model: Model) -> None:
    """For whoever starts the process."""
    assert (await model.http.get("/_control/health")).json() == {"status": "ok"}


def test_a_port_in_use_is_a_one_line_error(simulator_url: str) -> None:
    """It names the port and the way out."""
    port = simulator_url.rpartition(":")[2]
    command = [sys.executable, "-m", "backend.stack.simulator", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_a_stalled_call_does_not_keep_the_process_alive() -> None:
    """SIGTERM ends it at once."""
    with simulator_process() as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http:
            model = Model("m", http)
            await model.script({"kind": "stall"})
            task = asyncio.create_task(model.call())
            await model.reaches("received")
            process.terminate()
            process.wait(DEADLINE_SECONDS)
            with pytest.raises(httpx.TransportError):
                await task
