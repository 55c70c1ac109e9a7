"""What every wire format over HTTP needs: bounded bodies, server-sent events, errors of the connection, Retry-After."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from backend.errors import ModelUnavailableError, ProviderError
from backend.http_client import HttpAnswer, HttpError, HttpTimeoutError, NoFreeConnectionError

_LONGEST_RETRY_AFTER_SECONDS = 86_400.0
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the HTTP client and time-outs raise into errors of dispatch."""
    try:
        yield
    except NoFreeConnectionError as error:
        raise ModelUnavailableError("no_free_connection", "every connection is in use") from error
    except (TimeoutError, HttpTimeoutError) as error:
        raise ProviderError(
            "timeout", f"the provider did not answer in time ({type(error).__name__})"
        ) from error
    except HttpError as error:
        raise ProviderError("connection", f"no sound connection to the provider ({error})") from error


async def whole_body(answer: HttpAnswer, most_bytes: int) -> bytes:
    """Read a body to its end.

    Raises:
        ProviderError: it is longer than ``most_bytes``.
    """
    content = bytearray()
    async for block in answer.blocks():
        content += block
        _require_at_most(most_bytes, len(content))
    return bytes(content)


class ServerSentEvent(NamedTuple):
    """One event of a stream: its name (empty: none was given) and its data."""

    name: str
    data: bytes


async def server_sent_events(answer: HttpAnswer, most_bytes: int) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Lines end with a line feed, as everybody sends them: other readers also cut at U+2028 and its like, which JSON may
    hold. An event that the stream ends within counts, too.

    Raises:
        ProviderError: an event is longer than ``most_bytes``.
    """
    name, data = "", bytearray()
    async for line in _lines(answer, most_bytes):
        field, _, value = line.partition(b":")
        if not line:
            if data:
                yield ServerSentEvent(name, bytes(data))
            name, data = "", bytearray()
        elif field == b"data":
            data += (b"\n" if data else b"") + value.removeprefix(b" ")
            _require_at_most(most_bytes, len(data))
        elif field == b"event":
            name = value.decode(errors="replace").strip()
    if data:
        yield ServerSentEvent(name, bytes(data))


async def _lines(answer: HttpAnswer, most_bytes: int) -> AsyncIterator[bytes]:
    rest = bytearray()
    is_first = True
    async for block in answer.blocks():
        rest += block
        if b"\n" in block:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield bytes(line.removeprefix(_BYTE_ORDER_MARK) if is_first else line).removesuffix(b"\r")
                is_first = False
        _require_at_most(most_bytes, len(rest))
    if rest:
        yield bytes(rest).removesuffix(b"\r")


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
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def _seconds_until(date: str, now: datetime) -> float:
    return (parsedate_to_datetime(date) - now).total_seconds()
