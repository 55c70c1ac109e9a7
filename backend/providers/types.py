"""What every provider takes and gives."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

UsageSource = Literal["provider", "estimate"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call in disjoint classes: input without cache, output without reasoning."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = "provider"


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call: where, with which key, with which body (already in the provider's terms), within which limits.

    Attributes:
        timeout_seconds: to the whole of a plain answer, or to the first content of a stream.
        idle_timeout_seconds: between two events of a stream.
        most_answer_bytes: of a plain answer, or of one event of a stream.
    """

    base_url: str
    api_key: str | None
    body: Mapping[str, Any]
    timeout_seconds: float
    idle_timeout_seconds: float
    most_answer_bytes: int


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer: the body as the provider sent it, and what it says it used (None: it does not say)."""

    body: bytes
    usage: Usage | None
    output_bytes: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """One event of a stream: its JSON object as sent, and the facts that matter."""

    data: bytes
    usage: Usage | None
    finished_choices: int
    output_bytes: int
    # An event that only reports usage: of no interest to a caller who did not ask for it.
    is_usage_report: bool


class ChatStream(Protocol):
    """A stream whose first content has arrived: from here on the answer is this provider's."""

    request_id: str | None

    def __aiter__(self) -> AsyncIterator[ChatEvent]:
        """Yield every event from the first on.

        Raises:
            ProviderError: the stream broke, stalled or made no sense.
        """

    async def aclose(self) -> None:
        """Hang up. Safe to call more than once."""


class Provider(Protocol):
    """A wire format."""

    async def chat(self, call: ProviderCall) -> ChatAnswer:
        """Make a plain call.

        Raises:
            ProviderError: anything but a sound 2xx answer.
        """

    async def chat_stream(self, call: ProviderCall) -> ChatStream:
        """Make a streamed call and wait for its first content.

        Raises:
            ProviderError: anything that went wrong before the first content.
        """
