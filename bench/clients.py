"""What a call costs with each HTTP client that the backend could use, in CPU of the calling process.

Against the mock provider, plain calls, alone and 64 at once; clients in turn, so that a machine that gets slower or faster
meanwhile favours none. Prints a table: docs/decisions/0012.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop
from httpx_aiohttp import HttpxAiohttpClient
from postgrest import AsyncPostgrestClient

from backend.http_client import AiohttpClient
from backend.stack.ports import free_port
from bench.performance.servers import running_module
from bench.tables import Spread, show

CONCURRENCY = (1, 64)
CALLS = 1920
REPEATS = 5
_CONNECTIONS = 1000
_CONNECT_TIMEOUT_SECONDS = 5.0
_MILLISECONDS = 1000.0
_BODY = b'{"model":"bench","messages":[{"role":"user","content":"What is the answer?"}],"max_tokens":256}'
_HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-bench"}

Call = Callable[[], Awaitable[object]]
Client = Callable[[str], AbstractAsyncContextManager[Call]]


def _httpx_call(client: httpx.AsyncClient, url: str) -> Call:
    async def call() -> bytes:
        request = client.build_request("POST", url, content=_BODY, headers=_HEADERS)
        response = await client.send(request, stream=True)
        try:
            return b"".join([block async for block in response.aiter_bytes()])
        finally:
            await response.aclose()

    return call


def _limits() -> httpx.Limits:
    return httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)


@asynccontextmanager
async def _httpx(url: str) -> Any:  # noqa: ANN401 # an async generator
    async with httpx.AsyncClient(limits=_limits()) as client:
        yield _httpx_call(client, url)


@asynccontextmanager
async def _httpx_on_aiohttp(url: str) -> Any:  # noqa: ANN401 # an async generator
    async with HttpxAiohttpClient(limits=_limits()) as client:
        yield _httpx_call(client, url)


@asynccontextmanager
async def _aiohttp(url: str) -> Any:  # noqa: ANN401 # an async generator
    client = AiohttpClient(_CONNECTIONS, _CONNECT_TIMEOUT_SECONDS)

    async def call() -> bytes:
        answer = await client.post(url, _HEADERS, _BODY)
        try:
            return b"".join([block async for block in answer.blocks()])
        finally:
            answer.close()

    try:
        yield call
    finally:
        await client.close()


def _postgrest_on(http: Callable[[], httpx.AsyncClient]) -> Client:
    @asynccontextmanager
    async def client(url: str) -> Any:  # noqa: ANN401 # an async generator
        async with http() as own:
            # To the provider, which answers JSON to whatever is posted: only the client's share counts here.
            postgrest = AsyncPostgrestClient(url, headers=_HEADERS, http_client=own, retry_enabled=False)
            yield lambda: postgrest.rpc("insert_decisions", {"items": "bench"}).execute()

    return client


CLIENTS: dict[str, Client] = {
    "httpx": _httpx,
    "httpx on aiohttp's transport": _httpx_on_aiohttp,
    "aiohttp (backend.http_client)": _aiohttp,
    "postgrest-py on httpx": _postgrest_on(lambda: httpx.AsyncClient(limits=_limits())),
    "postgrest-py on aiohttp's transport": _postgrest_on(lambda: HttpxAiohttpClient(limits=_limits())),
}


async def _milliseconds_a_call(client: Client, url: str, concurrency: int) -> float:
    async with client(url) as call:
        await _calls(call, concurrency, concurrency)
        started = time.process_time()
        await _calls(call, concurrency, CALLS)
        return (time.process_time() - started) / CALLS * _MILLISECONDS


async def _calls(call: Call, concurrency: int, count: int) -> None:
    async def some() -> None:
        for _ in range(count // concurrency):
            await call()

    await asyncio.gather(*(some() for _ in range(concurrency)))


def main() -> None:
    """Measure and print."""
    found: dict[tuple[str, int], list[float]] = {}
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as home,
        running_module("provider", "bench.performance.provider", Path(home), port, "/calls") as provider,
    ):
        url = f"{provider.url}/instant/v1/chat/completions"
        for _ in range(REPEATS):
            for name, client in CLIENTS.items():
                for concurrency in CONCURRENCY:
                    cost = uvloop.run(_milliseconds_a_call(client, url, concurrency))
                    found.setdefault((name, concurrency), []).append(cost)
    show(
        "A call by each client, ms of CPU: median (quartiles)",
        ("client", *(f"{concurrency} at once" for concurrency in CONCURRENCY)),
        [(name, *(Spread.of(found[name, at]) for at in CONCURRENCY)) for name in CLIENTS],
        f"{REPEATS} repeats of {CALLS} calls.",
    )


if __name__ == "__main__":
    main()
