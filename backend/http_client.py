"""The HTTP client of the hot path: calls to providers, and the two calls to the record that every request makes.

aiohttp, because a call costs 0.15 ms of CPU with it and 1 to 4 ms with httpx: docs/decisions/0012. No redirects, which would
carry a key to an address that no operator has entered; no cookies, which would carry something from one tenant's answer to
another one's request.
"""

import asyncio
import io
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import httpx

# aiohttp asks for larger ones as a file, which it sends piece by piece.
_MOST_BYTES_AT_ONCE = 1024 * 1024
_USER_AGENT = "clearfloor"
SUCCESS = range(200, 300)


class HttpError(Exception):
    """The exchange failed below HTTP."""


class HttpTimeoutError(HttpError):
    """No connection was made in time."""


class NoFreeConnectionError(HttpError):
    """Every connection was in use for too long; nothing was sent."""


class HttpAnswer(Protocol):
    """An answer whose head has arrived. To be closed by whoever asked."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names in any case."""

    def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, decompressed.

        Raises:
            HttpError: it broke off.
        """

    def close(self) -> None:
        """Hang up, unless the body has been read to its end. Safe to call more than once."""


class HttpClient(Protocol):
    """Posts bodies."""

    async def post(self, url: str, headers: Mapping[str, str], content: bytes) -> HttpAnswer:
        """Send a body and wait, for as long as it takes, for the head of the answer.

        Raises:
            HttpError: the exchange failed.
        """


class AiohttpClient:
    """An HttpClient on aiohttp, with so many connections at the most. To be made within the running loop, and closed."""

    def __init__(self, connections: int, connect_timeout_seconds: float) -> None:
        self._connect_timeout_seconds = connect_timeout_seconds
        # aiohttp's own limit does not tell a wait for a connection from a wait for the other side.
        self._free = asyncio.Semaphore(connections)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=httpx.create_ssl_context()),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_seconds),
            headers={"user-agent": _USER_AGENT, "accept-encoding": "identity"},
        )
        # The environment's, as httpx reads them. aiohttp's own way would also send what a .netrc has for a host.
        self._proxies = urllib.request.getproxies()

    async def post(self, url: str, headers: Mapping[str, str], content: bytes) -> "_AiohttpAnswer":
        """Send a body; see :class:`HttpClient`."""
        await self._wait_for_connection()
        body = content if len(content) < _MOST_BYTES_AT_ONCE else io.BytesIO(content)
        try:
            with _translated():
                response = await self._session.post(
                    url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy(url)
                )
        except BaseException:
            # Also where the call is cancelled: there is no answer that would give the connection back.
            self._free.release()
            raise
        return _AiohttpAnswer(response, self._free)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _proxy(self, url: str) -> str | None:
        if not self._proxies:
            return None
        address = urlsplit(url)
        if urllib.request.proxy_bypass(address.hostname or ""):
            return None
        return self._proxies.get(address.scheme) or self._proxies.get("all")

    async def _wait_for_connection(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise NoFreeConnectionError("every connection is in use") from error


class _AiohttpAnswer:
    """An answer of aiohttp's."""

    def __init__(self, response: aiohttp.ClientResponse, free: asyncio.Semaphore) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._free = free
        self._is_open = True

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        with _translated():
            async for block in self._response.content.iter_any():
                yield block

    def close(self) -> None:
        """Hang up, or give the connection back."""
        if self._is_open:
            self._is_open = False
            self._response.close()
            self._free.release()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except aiohttp.ServerTimeoutError as error:
        raise HttpTimeoutError(type(error).__name__) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # ValueError: a URL or a header that is none.
        raise HttpError(type(error).__name__) from error
