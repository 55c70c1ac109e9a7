"""The hot path's HTTP client, against servers that do what servers do."""

import asyncio
import contextlib
import gzip
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backend.http_client import AiohttpClient, HttpError, HttpTimeoutError, NoFreeConnectionError
from backend.stack.ports import HOST, free_port

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT_SECONDS = 0.1


@asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[str]:
    """Serve requests, one after the other on each connection, by a handler that gets the head; give the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await handle(await reader.readuntil(b"\r\n\r\n"), reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, HOST, 0)
    async with running:
        yield f"http://{HOST}:{running.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def client(connections: int = 4, connect_timeout_seconds: float = 5.0) -> AsyncIterator[AiohttpClient]:
    """Give a client."""
    made = AiohttpClient(connections, connect_timeout_seconds)
    try:
        yield made
    finally:
        await made.close()


def answering(head: bytes, body: bytes = b"") -> Handler:
    """Return a handler that always gives one answer."""

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(length_of(request))
        writer.write(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)

    return handle


def length_of(request: bytes) -> int:
    """Return the length of a request's body."""
    (length,) = [line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(length.partition(b":")[2])


async def posted(http: AiohttpClient, url: str, content: bytes = b"{}") -> tuple[int, bytes]:
    """Post, and read the answer to its end."""
    answer = await http.post(url, {"x-own": "1"}, content)
    try:
        return answer.status, b"".join([block async for block in answer.blocks()])
    finally:
        answer.close()


async def test_an_answer_is_its_status_its_headers_and_its_bytes() -> None:
    """The connection is used again; nothing is sent that nobody asked for."""
    requests: list[bytes] = []
    peers: set[object] = set()

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        peers.add(writer.get_extra_info("peername"))
        await reader.readexactly(length_of(request))
        writer.write(b"HTTP/1.1 418 Teapot\r\nX-Request-Id: r\r\ncontent-length: 2\r\n\r\nab")

    async with server(handle) as url, client() as http:
        for _ in range(3):
            answer = await http.post(url, {"x-own": "1"}, b"{}")
            assert (answer.status, answer.headers["x-request-id"]) == (418, "r")
            assert b"".join([block async for block in answer.blocks()]) == b"ab"
            answer.close()
            answer.close()
    assert len(peers) == 1
    names = {line.partition(b":")[0].lower() for line in requests[0].split(b"\r\n")[1:] if line}
    assert names == {
        *(b"host", b"x-own", b"content-length", b"content-type", b"user-agent"),
        *(b"accept", b"accept-encoding"),
    }


async def test_no_cookie_is_kept_and_no_redirect_followed() -> None:
    """One tenant's answer must not reach into another one's request; a key goes where the operator says."""
    requests: list[bytes] = []

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        await reader.readexactly(length_of(request))
        writer.write(
            b"HTTP/1.1 307 There\r\nset-cookie: a=b\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n"
        )

    async with server(handle) as url, client() as http:
        for _ in range(2):
            assert await posted(http, url) == (307, b"")
    assert b"cookie" not in requests[1].lower()


async def test_a_large_body_goes_out_whole_and_without_a_warning() -> None:
    """An image in a message, say."""
    content = bytes(3 * 1024 * 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with server(answering(b"HTTP/1.1 200 OK\r\n", b"ok")) as url, client() as http:
            assert await posted(http, url, content) == (200, b"ok")


async def test_an_answer_that_comes_compressed_all_the_same_is_read() -> None:
    """It is asked for as it is, but some servers do not listen."""
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
    async with server(answering(head, gzip.compress(b"plain"))) as url, client() as http:
        assert await posted(http, url) == (200, b"plain")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nhalf",
        b"no HTTP\r\n\r\n",
    ],
)
async def test_an_answer_that_breaks_off_or_makes_no_sense_is_an_error(answer: bytes) -> None:
    """At its head or in its body."""

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(length_of(request))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with server(handle) as url, client() as http:
        with pytest.raises(HttpError):
            await posted(http, url)


@pytest.mark.parametrize("url", ["ftp://acme.test/v1", "nowhere", "", "http://"])
async def test_a_url_that_is_none_is_an_error_of_the_exchange(url: str) -> None:
    """Whatever stands in the catalogue."""
    async with client() as http:
        with pytest.raises(HttpError):
            await posted(http, url)


async def test_nobody_listening_is_an_error() -> None:
    """And it takes no connection away."""
    async with client(connections=1) as http:
        for _ in range(3):
            with pytest.raises(HttpError):
                await posted(http, f"http://{HOST}:{free_port()}/v1")


async def test_a_connection_that_is_not_made_in_time_is_a_time_out() -> None:
    """Its server's queue is full: connecting hangs."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 # its only argument
            waiting.connect_ex(listening.getsockname())
        async with client(connect_timeout_seconds=SHORT_SECONDS) as http:
            with pytest.raises(HttpTimeoutError):
                await posted(http, f"http://{HOST}:{listening.getsockname()[1]}/v1")


async def test_with_every_connection_in_use_a_call_is_not_made() -> None:
    """It is told from a provider that does not answer; a connection that was given back is free."""
    async with (
        server(answering(b"HTTP/1.1 200 OK\r\n", b"ok")) as url,
        client(connections=1, connect_timeout_seconds=SHORT_SECONDS) as http,
    ):
        held = await http.post(url, {}, b"{}")
        with pytest.raises(NoFreeConnectionError):
            await posted(http, url)
        waiting = asyncio.create_task(posted(http, url))
        await asyncio.sleep(0)
        held.close()
        assert await waiting == (200, b"ok")


async def test_a_call_that_is_cancelled_gives_its_connection_back() -> None:
    """Its caller has left."""

    async def stall(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        raise ConnectionResetError

    async with server(stall) as url, client(connections=1, connect_timeout_seconds=SHORT_SECONDS) as http:
        for _ in range(3):
            call = asyncio.create_task(http.post(url, {}, b"{}"))
            await asyncio.sleep(SHORT_SECONDS / 2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call


async def test_a_proxy_of_the_environment_is_used_and_a_netrc_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As httpx does: an egress proxy must not be passed by, nor a password sent that nobody configured."""
    requests: list[bytes] = []

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        await reader.readexactly(length_of(request))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for variable in (
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(variable, raising=False)
    async with server(handle) as proxy:
        monkeypatch.setenv("all_proxy", proxy.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", HOST)
        async with client() as http:
            assert await posted(http, "http://provider.test/v1") == (200, b"ok")
            assert await posted(http, proxy) == (200, b"ok")
    assert [request.split(b" ")[1] for request in requests] == [b"http://provider.test/v1", b"/v1"]
    assert not any(b"authorization" in request.lower() for request in requests)
