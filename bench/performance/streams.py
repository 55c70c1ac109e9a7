"""Streams: so many at once over raw connections, with the time to the first event of each."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.performance.load import Request
from bench.performance.provider import STREAM_CHUNKS
from bench.tables import percentile

_EVENT = b"data: "
_DONE = b"data: [DONE]"
_LAST_CHUNK = b"0\r\n\r\n"
_MEDIAN = 50
_MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Stream:
    """How one stream went. ``first_milliseconds`` is None where no event came."""

    first_milliseconds: float | None
    is_whole: bool


@dataclass(frozen=True)
class Streams:
    """What came of many."""

    whole: int
    broken: int
    first_milliseconds: float
    cpu_seconds: float


def run_streams(request: Request, connections: int, seconds: float) -> Streams:
    """Stream over so many connections, one stream after the other on each, for some seconds; none is cut short."""
    deadline = time.perf_counter() + seconds
    return _run(request, connections, lambda: time.perf_counter() < deadline)


def run_broken_streams(request: Request, connections: int, count: int, *, hang_up: bool) -> Streams:
    """Begin ``count`` streams that do not end well: with ``hang_up`` the caller leaves at the first event."""
    numbers = iter(range(count))
    return _run(request, connections, lambda: next(numbers, None) is not None, hang_up=hang_up)


def _run(
    request: Request, connections: int, goes_on: Callable[[], bool], *, hang_up: bool = False
) -> Streams:
    used_before = time.process_time()
    streams = uvloop.run(_all(request, connections, goes_on, hang_up=hang_up))
    return summarise(streams, time.process_time() - used_before)


def summarise(streams: list[Stream], cpu_seconds: float) -> Streams:
    """Count the streams; the time to the first event is the median of those that had one."""
    whole = sum(stream.is_whole for stream in streams)
    firsts = [stream.first_milliseconds for stream in streams if stream.first_milliseconds is not None]
    first = percentile(firsts, _MEDIAN) if firsts else float("nan")
    return Streams(whole, len(streams) - whole, first, cpu_seconds)


async def _all(
    request: Request, connections: int, goes_on: Callable[[], bool], *, hang_up: bool
) -> list[Stream]:
    callers = (_caller(request, goes_on, hang_up=hang_up) for _ in range(connections))
    return [stream for streams in await asyncio.gather(*callers) for stream in streams]


async def _caller(request: Request, goes_on: Callable[[], bool], *, hang_up: bool) -> list[Stream]:
    host, _, port = urlsplit(request.url).netloc.partition(":")
    sent = request.to_bytes()
    loop = asyncio.get_running_loop()
    connection: _Connection | None = None
    streams = []
    while goes_on():
        if connection is None or connection.is_closed:
            _, connection = await loop.create_connection(
                lambda: _Connection(hang_up=hang_up), host, int(port)
            )
        streams.append(await connection.stream(sent))
    if connection is not None:
        connection.close()
    return streams


class _Connection(asyncio.Protocol):
    """One connection, with one stream at a time."""

    def __init__(self, *, hang_up: bool) -> None:
        self.is_closed = False
        self._hang_up = hang_up

    async def stream(self, request: bytes) -> Stream:
        """Send a request and wait until its stream ends, or is cut off."""
        self._begin()
        self._transport.write(request)
        await self._ended
        # One that ends with an error has no end marker.
        is_whole = _DONE in self._received and self._received.count(_EVENT) > STREAM_CHUNKS
        return Stream(self._first_milliseconds, is_whole)

    def _begin(self) -> None:
        self._received = bytearray()
        self._first_milliseconds: float | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = time.perf_counter()

    def close(self) -> None:
        """Hang up, after the last stream."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Note the first event and the end."""
        self._received += data
        if self._first_milliseconds is None and _EVENT in self._received:
            self._first_milliseconds = (time.perf_counter() - self._started) * _MILLISECONDS
            if self._hang_up:
                self._transport.abort()
        if self._received.endswith(_LAST_CHUNK):
            self._end()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 # as asyncio calls it
        """End the stream that is under way, if there is one."""
        self.is_closed = True
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
