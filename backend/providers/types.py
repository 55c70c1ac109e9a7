"""What every provider takes and gives."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

UsageSource = Literal["provider", "estimate"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call in disjoint classes: input without cache, output without reasoning.

    Attributes:
        cache_write_tokens: written to a cache for its usual lifetime; ``cache_write_1h_tokens`` for an hour.
        source: whose figures these are.
        convention: by which row of :data:`backend.providers.usage.CONVENTIONS` the provider's report was read.
        reported: that report, as it came; like ``convention``, None where the figures are an estimate.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = "estimate"
    convention: str | None = None
    reported: Mapping[str, Any] | None = None

    def tokens(self) -> dict[str, int]:
        """Return the tokens of each class, by its name here."""
        return {name: getattr(self, name) for name in _TOKEN_CLASSES}


_TOKEN_CLASSES = tuple(name for name in Usage.__slots__ if name.endswith("_tokens"))


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call: where, with which key, with which body (already in the provider's terms), within which limits.

    Attributes:
        body: values are anything that msgspec makes JSON of, :class:`msgspec.Raw` included.
        choices: how many answers are asked for.
        usage_convention: how this provider counts tokens.
        deadline: for all of it, a stream's end included, in terms of ``time.monotonic``.
        first_content_timeout_seconds: to the whole of a plain answer, or to the first content of a stream.
        idle_timeout_seconds: between two events of a stream.
        tail_timeout_seconds: the same once every choice has finished, for what may follow: usage, the end marker.
        most_answer_bytes: of a plain answer, or of one event of a stream.
    """

    base_url: str
    api_key: str | None
    body: Mapping[str, Any]
    choices: int
    usage_convention: str
    deadline: float
    first_content_timeout_seconds: float
    idle_timeout_seconds: float
    tail_timeout_seconds: float
    most_answer_bytes: int


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer: the body as the provider sent it, and what it says it used (None: it does not say)."""

    body: bytes
    usage: Usage | None
    output_bytes: int
    request_id: str | None


class ChatEvent(Struct, frozen=True):
    """One event of a stream: its JSON object as sent, and the facts that matter.

    Attributes:
        output_bytes: size of the content in it.
        is_usage_report: it only reports usage, which is of no interest to a caller who did not ask for it.
        is_end: with it, or before it, every choice seen so far has finished.
    """

    data: bytes
    usage: Usage | None
    output_bytes: int
    is_usage_report: bool
    is_end: bool


class ChatStream(Protocol):
    """A stream whose first content has arrived: from here on the answer is this provider's."""

    request_id: str | None

    def __aiter__(self) -> AsyncIterator[Sequence[ChatEvent]]:
        """Yield every event from the first on, those together that came together.

        What goes wrong after the last choice has finished only ends the stream.

        Raises:
            ProviderError: the stream broke, stalled or made no sense before.
        """

    async def aclose(self) -> None:
        """Hang up. Safe to call more than once."""


class Provider(Protocol):
    """A wire format. Both raise ModelUnavailableError where no connection was free, so that no call was made."""

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
