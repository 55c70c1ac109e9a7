"""The connection of one call: it can be broken, and it notices when the client goes away."""

import asyncio
import contextlib

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class ClientGoneError(Exception):
    """The client closed the connection before its answer was complete."""


class BreakableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, handing its transport to the app: ASGI itself cannot close a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the transport into the state of every request of this connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Wire:
    """Writes one HTTP response. What writes or waits raises `ClientGoneError` once nobody listens."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._transport: asyncio.Transport = scope["state"]["transport"]
        self._receive = receive
        self._send = send

    async def body(self) -> bytes:
        """Read the whole request."""
        parts, more = [], True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message["body"])
            more = message["more_body"]
        return b"".join(parts)

    async def start(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and the headers."""
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, body: bytes, *, last: bool = False) -> None:
        """Send a part of the body."""
        await self._put({"type": "http.response.body", "body": body, "more_body": not last})

    async def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole JSON response."""
        await self.start(status, json_headers(body) | (headers or {}))
        await self.write(body, last=True)

    async def hang_up(self) -> None:
        """Flush what was written and close the connection, with the response as incomplete as it is.

        Not `abort()`: that drops what the socket has not taken yet, and makes it a matter of luck how much of
        the answer the client sees.
        """
        self._transport.close()
        with contextlib.suppress(ClientGoneError):
            await self._gone()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._gone()

    async def until(self, event: asyncio.Event) -> None:
        """Wait for an event."""
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._gone())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()

    async def _put(self, message: dict[str, object]) -> None:
        # uvicorn drops silently what is sent to a client that has gone.
        if self._transport.is_closing():
            raise ClientGoneError
        await self._send(message)

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientGoneError


def json_headers(body: bytes) -> dict[str, str]:
    """Give the headers of a JSON body."""
    return {"content-type": "application/json", "content-length": str(len(body))}
