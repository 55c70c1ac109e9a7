"""The catalogue as routing sees it: an immutable snapshot with a version."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from backend.routing.kinds import known_of
from backend.routing.quality import Estimate, Published, expected, model_estimates, weighted_mean
from backend.routing.rate_snapshot import NO_RATES, RateSnapshot
from backend.routing.request import Posterior

# The mean answer is far shorter than its limit: a guess for task classes of which no answers' lengths are known.
TYPICAL_OUTPUT_TOKENS = 512
MEDIA = ("image", "file", "audio")
_TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class PriceTier:
    """What tokens of each class cost in a call with more than so many input tokens, in nano-USD per million tokens.

    ``dearest_input`` and ``dearest_output`` are the most that a token of each can cost.
    """

    above_input_tokens: int
    input: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    output: int
    reasoning: int
    dearest_input: int = field(init=False)
    dearest_output: int = field(init=False)

    def __post_init__(self) -> None:
        """Find the dearest classes once: every request asks for those of every candidate."""
        dearest_input = max(self.input, self.cache_read, self.cache_write, self.cache_write_1h)
        object.__setattr__(self, "dearest_input", dearest_input)
        object.__setattr__(self, "dearest_output", max(self.output, self.reasoning))

    @classmethod
    def from_record(cls, record: Mapping[str, int]) -> Self:
        """Build a tier from its entry in a catalogue snapshot."""
        return cls(**{name.removesuffix("_nano_usd_per_mtok"): amount for name, amount in record.items()})


@dataclass(frozen=True, slots=True)
class Price:
    """A price version: its tiers, by the input tokens from which they apply, the first from 0."""

    id: UUID
    tiers: tuple[PriceTier, ...]

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Return what uncached input and plain output cost, in nano-USD, rounded up."""
        tier = self._reachable(input_tokens)[-1]
        return _price(input_tokens * tier.input + output_tokens * tier.output)

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that at most so many tokens can cost, in nano-USD.

        Each at the dearest class that it may fall in, in the dearest tier that so much input may reach.
        """
        return max(
            [
                _price(input_tokens * tier.dearest_input + output_tokens * tier.dearest_output)
                for tier in self._reachable(input_tokens)
            ]
        )

    def affordable_output(self, nano_usd: int, input_tokens: int) -> int | None:
        """Return the most output tokens whose bound, with so much input, is within an amount; None: any number of them."""
        return min(
            (
                (nano_usd * _TOKENS_PER_PRICE - input_tokens * tier.dearest_input) // tier.dearest_output
                for tier in self._reachable(input_tokens)
                if tier.dearest_output
            ),
            default=None,
        )

    def _reachable(self, input_tokens: int) -> tuple[PriceTier, ...]:
        # Most prices have one tier, which everything reaches.
        if len(self.tiers) == 1:
            return self.tiers
        return tuple(tier for tier in self.tiers if tier.above_input_tokens < max(input_tokens, 1))


def _price(tokens_times_price: int) -> int:
    return -(-tokens_times_price // _TOKENS_PER_PRICE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A (provider, model) pair with its limits, price and its model's quality by task class.

    ``media_tokens``: the most input tokens that one part of a kind (``image``, ``file``, ``audio``) can make; 0 where the
    candidate takes none.
    """

    id: UUID
    provider: str
    model: str
    upstream_model: str
    wire_format: str
    base_url: str
    api_key_variable: str | None
    output_limit_field: str
    usage_convention: str
    refused_fields: frozenset[str]
    context_window_tokens: int
    max_output_tokens: int
    input_overhead_tokens: int
    media_tokens: Mapping[str, int]
    capabilities: frozenset[str]
    price: Price
    published: Published
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    def estimate(self, classes: Posterior) -> Estimate | None:
        """Return the expected quality of a request that may be in these classes; None: nothing is known of the model."""
        return expected(self.estimates, classes)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Build a candidate from its entry in a catalogue snapshot; what is expected of its model is not in it."""
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
            usage_convention=record["usage_convention"],
            refused_fields=frozenset(record["refused_fields"]),
            context_window_tokens=record["context_window_tokens"],
            max_output_tokens=record["max_output_tokens"],
            input_overhead_tokens=record["input_overhead_tokens"],
            media_tokens={kind: record[f"max_{kind}_tokens"] or 0 for kind in MEDIA},
            capabilities=frozenset(record["capabilities"]),
            price=Price(UUID(price["id"]), tuple(PriceTier.from_record(tier) for tier in price["tiers"])),
            published=Published(
                {task: float(quality) for task, quality in record["qualities"].items()}, record.get("tier")
            ),
        )


@dataclass(frozen=True)
class Catalogue:
    """All candidates that have a current price, the version of the snapshot they are from, and what was learned of them."""

    version: int
    candidates: tuple[Candidate, ...]
    rates: RateSnapshot

    @classmethod
    def from_record(
        cls, version: int, records: Sequence[Mapping[str, Any]], rates: RateSnapshot = NO_RATES
    ) -> Self:
        """Build a catalogue from a snapshot's content and the rates that were learned."""
        return cls(version, tuple(Candidate.from_record(record) for record in records), rates).with_rates(
            rates
        )

    def with_rates(self, rates: RateSnapshot) -> Self:
        """Return this catalogue with other rates."""
        models = {candidate.model: candidate.published for candidate in self.candidates}
        estimates = model_estimates(models, rates)
        candidates = tuple(replace(c, estimates=estimates[c.model]) for c in self.candidates)
        return replace(self, candidates=candidates, rates=rates)

    def output_tokens(self, classes: Posterior) -> int:
        """Return how many tokens the mean answer has to a request that may be in these classes."""
        known = self.rates.output_tokens
        return math.ceil(
            weighted_mean([(known_of(known, task, TYPICAL_OUTPUT_TOKENS), p) for task, p in classes])
        )

    @cached_property
    def tasks(self) -> frozenset[str]:
        """The task classes that some model has a quality for."""
        return frozenset(task for candidate in self.candidates for task in candidate.estimates)

    @cached_property
    def models(self) -> list[str]:
        """The names of the models that somebody runs at a price."""
        return sorted({candidate.model for candidate in self.candidates})
