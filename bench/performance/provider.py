"""The mock provider: OpenAI's chat completions from prepared bytes, cheap enough not to count, and every call counted.

A base path says how it behaves: ``/instant/v1`` answers at once, ``/slow/v1`` after 50 ms, ``/broken/v1`` stops its streams in
the middle and cuts them 50 ms later. ``GET /calls`` tells how many calls each has had.
"""

import argparse
import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import uvloop

from backend.stack.ports import HOST

INSTANT, SLOW, BROKEN = "instant", "slow", "broken"
SLOW_SECONDS = 0.05
STREAM_CHUNKS = 32
CONTENT = " ".join(f"word{number}" for number in range(1, STREAM_CHUNKS))
USAGE = {"prompt_tokens": 20, "completion_tokens": 32, "total_tokens": 52}
_WAITING_CONNECTIONS = 1024
_HEAD_END = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_ASKS_FOR_STREAM = re.compile(rb'"stream"\s*:\s*true')


def _response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _completion() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": CONTENT}, "finish_reason": "stop"}
    return _json(_named("chat.completion") | {"choices": [choice], "usage": USAGE})


def _stream() -> list[bytes]:
    """Return what is written one after the other: the head and the first chunk, the other chunks, usage, the end."""
    words = CONTENT.split(" ")
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": words[0]}]
    deltas += [{"content": f" {word}"} for word in words[1:]]
    choices: list[list[dict[str, Any]]] = [
        [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
    ]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    events = [_event({"choices": choice}) for choice in choices]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    end = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [head + events[0], *events[1:], _event({"choices": [], "usage": USAGE}), end]


def _event(fields: dict[str, Any]) -> bytes:
    return _chunk(b"data: " + _json(_named("chat.completion.chunk") | fields) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _named(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-bench", "object": kind, "created": 1_700_000_000, "model": "bench"}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


_COMPLETION = _response(_completion())
_STREAM = _stream()
_NO_LENGTH = _response(b'{"error":{"message":"Content-Length is missing"}}', b"411 Length Required")


class _Connection(asyncio.Protocol):
    """One kept-alive connection, with one request at a time."""

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once a whole request is there."""
        self._received += data
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        head = self._received[:end]
        if head.startswith(b"GET "):
            self._received = b""
            self._transport.write(_response(json.dumps(self._calls).encode()))
            return
        length = _CONTENT_LENGTH.search(head)
        if length is None:
            self._received = b""
            self._transport.write(_NO_LENGTH)
        elif len(self._received) >= (whole := end + len(_HEAD_END) + int(length[1])):
            body, self._received = self._received[end:whole], self._received[whole:]
            self._answer(head.split(b"/", 2)[1].decode(), is_stream=bool(_ASKS_FOR_STREAM.search(body)))

    def _answer(self, behaviour: str, *, is_stream: bool) -> None:
        self._calls[behaviour] += 1
        if behaviour == SLOW:
            self._loop.call_later(SLOW_SECONDS, self._write, is_stream)
        elif behaviour == BROKEN:
            self._write_on(_STREAM[: STREAM_CHUNKS // 2], 0, is_cut=True)
        else:
            self._write(is_stream)

    def _write(self, is_stream: bool) -> None:  # noqa: FBT001 # call_later passes no names
        if is_stream:
            self._write_on(_STREAM, 0)
        else:
            self._transport.write(_COMPLETION)

    def _write_on(self, parts: Sequence[bytes], at: int, *, is_cut: bool = False) -> None:
        """Write one part a turn of the loop: in one turn they would leave as one."""
        if self._transport.is_closing():
            return
        if at < len(parts):
            self._transport.write(parts[at])
            self._loop.call_soon(lambda: self._write_on(parts, at + 1, is_cut=is_cut))
        elif is_cut:
            self._loop.call_later(SLOW_SECONDS, self._transport.abort)


async def _serve(port: int) -> None:
    calls = Counter({INSTANT: 0, SLOW: 0, BROKEN: 0})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(calls), HOST, port, backlog=_WAITING_CONNECTIONS)
    await server.serve_forever()


def main() -> None:
    """Serve on a loopback port until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m bench.performance.provider")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
