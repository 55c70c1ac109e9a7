"""What every wire format over HTTP needs: bounded bodies, server-sent events, errors of the connection, Retry-After."""

from collections.abc import Iterator
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


class EventReader:
    """Takes a stream of events apart (https://html.spec.whatwg.org/multipage/server-sent-events.html), block by block.

    Lines end with a line feed, as everybody sends them: other readers also cut at U+2028 and its like, which JSON may
    hold. No event may be longer than ``most_bytes``.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._line = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._is_at_start = True

    def read(self, block: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that a block completes.

        Raises:
            ProviderError: one is too long.
        """
        first, *others = block.split(b"\n")
        self._line += first
        for following in others:
            yield from self._read_line(bytes(self._line).removesuffix(b"\r"))
            self._line = bytearray(following)
        _require_at_most(self._most_bytes, len(self._line))

    def end(self) -> Iterator[ServerSentEvent]:
        """Yield the event that the stream ends within, which counts, too."""
        yield from self.read(b"\n\n")

    def _read_line(self, line: bytes) -> Iterator[ServerSentEvent]:
        if self._is_at_start:
            self._is_at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        field, _, value = line.partition(b":")
        if not line:
            name, data = self._name, b"\n".join(self._data)
            self._name, self._data, self._data_bytes = "", [], 0
            if data:
                yield ServerSentEvent(name, data)
        elif field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value) + 1
            _require_at_most(self._most_bytes, self._data_bytes)
        elif field == b"event":
            self._name = value.decode(errors="replace").strip()


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
