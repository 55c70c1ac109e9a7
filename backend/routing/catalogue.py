"""The catalogue as routing sees it: an immutable snapshot with a version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

GENERAL_TASK = "general"
_TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """A price version, in nano-USD per million tokens of each class."""

    id: UUID
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Return what uncached input and plain output cost, in nano-USD, rounded up."""
        return _price(input_tokens * self.input + output_tokens * self.output)

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens can cost, in nano-USD: each at the dearest class it may fall in."""
        dearest_input = max(self.input, self.cache_read, self.cache_write)
        dearest_output = max(self.output, self.reasoning)
        return _price(input_tokens * dearest_input + output_tokens * dearest_output)


def _price(tokens_times_price: int) -> int:
    return -(-tokens_times_price // _TOKENS_PER_PRICE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A (provider, model) pair with its limits, price and its model's quality by task class."""

    id: UUID
    provider: str
    model: str
    upstream_model: str
    wire_format: str
    base_url: str
    api_key_variable: str | None
    output_limit_field: str
    refused_fields: frozenset[str]
    context_window_tokens: int
    max_output_tokens: int
    input_overhead_tokens: int
    capabilities: frozenset[str]
    price: Price
    qualities: Mapping[str, float]

    def quality(self, task: str) -> float | None:
        """Return the expected quality for a task class, 0 to 1: its own, else the general one, else None."""
        return self.qualities.get(task, self.qualities.get(GENERAL_TASK))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Build a candidate from its entry in a catalogue snapshot."""
        price = record["price"]
        return cls(
            id=UUID(record["id"]),
            provider=record["provider"],
            model=record["model"],
            upstream_model=record["upstream_model"],
            wire_format=record["wire_format"],
            base_url=record["base_url"],
            api_key_variable=record["api_key_variable"],
            output_limit_field=record["output_limit_field"],
            refused_fields=frozenset(record["refused_fields"]),
            context_window_tokens=record["context_window_tokens"],
            max_output_tokens=record["max_output_tokens"],
            input_overhead_tokens=record["input_overhead_tokens"],
            capabilities=frozenset(record["capabilities"]),
            price=Price(
                id=UUID(price["id"]),
                input=price["input_nano_usd_per_mtok"],
                cache_read=price["cache_read_nano_usd_per_mtok"],
                cache_write=price["cache_write_nano_usd_per_mtok"],
                output=price["output_nano_usd_per_mtok"],
                reasoning=price["reasoning_nano_usd_per_mtok"],
            ),
            qualities={task: float(quality) for task, quality in record["qualities"].items()},
        )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All candidates that have a current price, and the version of the snapshot they are from."""

    version: int
    candidates: tuple[Candidate, ...]

    @classmethod
    def from_record(cls, version: int, records: Sequence[Mapping[str, Any]]) -> Self:
        """Build a catalogue from a snapshot's content."""
        return cls(version, tuple(Candidate.from_record(record) for record in records))

    @property
    def tasks(self) -> frozenset[str]:
        """The task classes that some model has a quality for."""
        return frozenset(task for candidate in self.candidates for task in candidate.qualities)

    @property
    def models(self) -> list[str]:
        """The names of the models that somebody runs at a price."""
        return sorted({candidate.model for candidate in self.candidates})
