"""What every wire format over HTTP needs: errors of the connection, server-sent events, Retry-After."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from backend.errors import ProviderError

_LONGEST_RETRY_AFTER_SECONDS = 86_400.0


@contextmanager
def translated() -> Iterator[None]:
    """Turn what httpx and time-outs raise into ProviderErrors."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ProviderError(
            "timeout", f"the provider did not answer in time ({type(error).__name__})"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ProviderError(
            "connection", f"no sound connection to the provider ({type(error).__name__})"
        ) from error


async def whole_body(response: httpx.Response, most_bytes: int) -> bytes:
    """Read a body to its end.

    Raises:
        ProviderError: it is longer than ``most_bytes``.
    """
    content = bytearray()
    async for block in response.aiter_bytes():
        content += block
        _require_at_most(most_bytes, len(content))
    return bytes(content)


async def server_sent_data(response: httpx.Response, most_bytes: int) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event of one line.

    Raises:
        ProviderError: a line is longer than ``most_bytes``.
    """
    # Split on line feeds only: text in JSON may hold U+2028 and its like, at which httpx's line reader would cut.
    rest = bytearray()
    async for block in response.aiter_bytes():
        rest += block
        if b"\n" in block:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield bytes(line[5:]).strip()
        _require_at_most(most_bytes, len(rest))
    if rest.startswith(b"data:"):
        yield bytes(rest[5:]).strip()


def _require_at_most(most_bytes: int, size: int) -> None:
    if size > most_bytes:
        raise ProviderError("malformed", f"the answer is longer than {most_bytes} bytes")


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3). What is neither counts as absent.

    At the most a day: a longer time is not believed.
    """
    if value is None:
        return None
    try:
        seconds = float(value) if value.replace(".", "", 1).isdecimal() else _seconds_until(value, now)
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def _seconds_until(date: str, now: datetime) -> float:
    return (parsedate_to_datetime(date) - now).total_seconds()
