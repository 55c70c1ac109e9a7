"""What the simulated provider received, and how each call ended."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import orjson

JOURNAL_CALLS_MAX = 10_000
JOURNAL_BODY_BYTES_MAX = 64 * 1024 * 1024


@dataclass(slots=True)
class Call:
    """One received request; `body` is its JSON as it came."""

    number: int
    model: str
    headers: dict[str, str]
    body: bytes
    behaviour: str
    state: Literal["received", "answered", "client_gone"] = "received"
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def view(self) -> dict[str, object]:
        """Give the call in the form that the control interface shows."""
        return {
            "number": self.number,
            "model": self.model,
            "received_at": self.received_at,
            "headers": self.headers,
            "body": orjson.Fragment(self.body),
            "behaviour": self.behaviour,
            "state": self.state,
        }


class Journal:
    """The latest calls, bounded by count and by the bytes of their bodies: the oldest go first."""

    def __init__(
        self, *, calls_max: int = JOURNAL_CALLS_MAX, body_bytes_max: int = JOURNAL_BODY_BYTES_MAX
    ) -> None:
        self._calls: deque[Call] = deque()
        self._numbers: Counter[str] = Counter()
        self._body_bytes = 0
        self._calls_max = calls_max
        self._body_bytes_max = body_bytes_max

    def record(self, model: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, kind: str) -> Call:
        """Add a call. Numbers count from 1 per model, so that parallel tests do not see each other."""
        self._numbers[model] += 1
        call = Call(self._numbers[model], model, _readable(headers), body, kind)
        self._calls.append(call)
        self._body_bytes += len(body)
        while len(self._calls) > self._calls_max or self._body_bytes > self._body_bytes_max:
            self._body_bytes -= len(self._calls.popleft().body)
        return call

    def calls(self, model: str | None) -> list[Call]:
        """Give the calls of one model, or of all, oldest first."""
        return [call for call in self._calls if model in (None, call.model)]

    def forget(self, model: str | None) -> None:
        """Drop the calls of one model, or of all; its numbers start again."""
        kept = [] if model is None else [call for call in self._calls if call.model != model]
        self._calls = deque(kept)
        self._body_bytes = sum(len(call.body) for call in kept)
        for name in [model] if model is not None else list(self._numbers):
            del self._numbers[name]


def _readable(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Decode the headers; of the credential only a digest is kept."""
    readable = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    credential = readable.pop("authorization", None)
    if credential is not None:
        readable["authorization_sha256"] = hashlib.sha256(credential.encode("latin-1")).hexdigest()
    return readable
