"""Reads a candidate's list price from the library genai-prices, as tiers of ours: exactly, or not at all.

The data is what the installed version of the library holds; nothing is fetched.

Tiers mean the same on both sides (``calc_unit_price`` in ``genai_prices.types``): the input tokens of the call, cached ones
included, are compared with the tier's start by strictly greater than, and all tokens of the call cost what the highest tier
that they pass says. So a tier's start is our ``above_input_tokens`` as it is.

A class of tokens for which the library has no rate costs there what the class that contains it costs, and so it does here:
cache reads and writes cost what input does, writes for an hour what writes do, reasoning what output does. The one
exception are writes for an hour to a provider that counts as Anthropic does: 2 times the input rate, by
https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from genai_prices import __version__
from genai_prices.data import providers as _bundled_providers
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

from backend.prices.candidate import Candidate
from backend.routing.catalogue import PriceTier

SOURCE = f"genai-prices {__version__}"
PROVIDERS: Sequence[Provider] = _bundled_providers

Rate = Decimal | TieredPrices

_NANO_USD_PER_USD = 1_000_000_000
# What the table takes; see `private.are_price_tiers`.
_MOST_USD_PER_MTOK = 10_000
_HOUR_WRITE_TIMES_INPUT = 2

_TOKEN_RATES = frozenset(
    {
        "input_mtok",
        "cache_read_mtok",
        "cache_write_mtok",
        "cache_write_1h_mtok",
        "output_mtok",
        "output_reasoning_mtok",
    }
)
_DIMENSIONS: Mapping[str, Mapping[str, str]] = {
    unit["price_key"]: unit["dimensions"] for unit in unit_data.values()
}
# What lets a candidate be sent, or asked for, tokens of a kind. A file may hold any of them.
_CAPABILITIES = {
    ("input", "audio"): frozenset({"audio", "files"}),
    ("input", "image"): frozenset({"vision", "files"}),
    ("input", "video"): frozenset({"files"}),
    ("output", "audio"): frozenset({"audio"}),
}
# The field of a body that asks for a search of the provider's, which costs extra.
_SEARCH_FIELD = "web_search_options"
# By which field of a body a request chooses a variant of the price, where the library calls it otherwise.
_VARIANT_FIELDS = {"search_type": _SEARCH_FIELD}
# Batches: they go to routes of a provider that no request is sent to.
_ELSEWHERE = "processing"


class NotKnownError(Exception):
    """The library has no such provider or model. The message says which."""


class NotRepresentableError(Exception):
    """The library has a price that our tiers cannot say exactly. The message says why."""


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What the library says a candidate costs, and by which of its models (``provider/model``)."""

    listed_as: str
    tiers: tuple[PriceTier, ...]


def list_price(
    candidate: Candidate, moment: datetime, providers: Sequence[Provider] = PROVIDERS
) -> ListPrice:
    """Return what a candidate costs at a moment.

    Raises:
        NotKnownError: the library does not have it.
        NotRepresentableError: its price is not one for each class of tokens, in whole nano-USD per million.
    """
    provider = _find_provider(candidate, providers)
    model = provider.find_model(candidate.upstream_model, all_providers=list(providers))
    if model is None:
        raise NotKnownError(f"{provider.id} has no model {candidate.upstream_model} there")
    _require_one_variant(model, candidate)
    rates = _rates(_standard_price(model, moment))
    _require_tokens_alone(rates, candidate)
    return ListPrice(f"{provider.id}/{model.id}", convert(rates, candidate.usage_convention))


def convert(rates: Mapping[str, Rate], usage_convention: str) -> tuple[PriceTier, ...]:
    """Return the library's rates, in USD per million tokens by its own names, as tiers of ours.

    Raises:
        NotRepresentableError: a rate is missing, too large, or no whole number of nano-USD.
    """
    for name in ("input_mtok", "output_mtok"):
        if name not in rates:
            raise NotRepresentableError(f"the library has no {name} for it")
    relevant = {name: rate for name, rate in rates.items() if name in _TOKEN_RATES}
    starts = {
        tier.start for rate in relevant.values() if isinstance(rate, TieredPrices) for tier in rate.tiers
    }
    if any(start <= 0 for start in starts):
        raise NotRepresentableError("a tier begins at 0, where the base rate does")
    return tuple(_tier(relevant, start, usage_convention) for start in sorted({0, *starts}))


def _find_provider(candidate: Candidate, providers: Sequence[Provider]) -> Provider:
    """Return the provider that has the candidate's name there, or else its base URL."""
    named = next((provider for provider in providers if provider.id == candidate.provider), None)
    reached = [provider for provider in providers if re.match(provider.api_pattern, candidate.base_url)]
    if named is None and not reached:
        raise NotKnownError(f"neither the name {candidate.provider} nor its base URL is a provider's there")
    if named is None:
        return reached[0]
    # A proxy in front of the named provider is nobody's URL; somebody else's URL means somebody else's prices.
    if reached and named not in reached:
        raise NotKnownError(f"the name is that of {named.id} there, and the base URL that of {reached[0].id}")
    return named


def _require_one_variant(model: ModelInfo, candidate: Candidate) -> None:
    """Refuse a price that a request may choose another variant of, by a field that its provider is sent."""
    for variant in model.price_variants or ():
        if not _rates(variant.prices) or _ELSEWHERE in variant.when:
            continue
        fields = {_VARIANT_FIELDS.get(name, name) for name in variant.when}
        if fields.isdisjoint(candidate.refused_fields):
            raise NotRepresentableError(
                f"the price changes with `{', '.join(sorted(fields))}` of a request, which"
                " providers.refused_fields does not refuse"
            )


def _standard_price(model: ModelInfo, moment: datetime) -> ModelPrice:
    """Return the price that applies: as the library finds it, the last whose condition holds, or else the first."""
    if isinstance(model.prices, ModelPrice):
        return model.prices
    for conditional in reversed(model.prices):
        if isinstance(conditional.constraint, TimeOfDateConstraint):
            raise NotRepresentableError("the price changes with the time of day")
        if conditional.constraint is None or conditional.constraint.active(moment):
            return conditional.prices
    return model.prices[0].prices if model.prices else ModelPrice()


def _rates(price: ModelPrice) -> dict[str, Rate]:
    return {name: rate for name, rate in vars(price).items() if rate is not None}


def _require_tokens_alone(rates: Mapping[str, Rate], candidate: Candidate) -> None:
    """Refuse a price with a rate for something else than our classes of tokens, if the candidate can be asked for it."""
    for name in sorted(rates.keys() - _TOKEN_RATES):
        dimensions = _DIMENSIONS.get(name, {})
        if dimensions.get("family") == "tool_calls" and _SEARCH_FIELD in candidate.refused_fields:
            continue
        kind = dimensions.get("direction", ""), dimensions.get("modality", "")
        capabilities = _CAPABILITIES.get(kind)
        if capabilities is None:
            raise NotRepresentableError(f"the library has a rate {name} for it")
        if capabilities & candidate.capabilities:
            able = ", ".join(sorted(capabilities & candidate.capabilities))
            raise NotRepresentableError(
                f"the library has a rate {name} for it, and its capabilities have {able}"
            )


def _tier(rates: Mapping[str, Rate], start: int, usage_convention: str) -> PriceTier:
    def nano_usd(name: str, otherwise: int) -> int:
        return _nano_usd(name, _rate_above(rates[name], start)) if name in rates else otherwise

    into = nano_usd("input_mtok", 0)
    out = nano_usd("output_mtok", 0)
    cache_write = nano_usd("cache_write_mtok", into)
    cache_write_1h = into * _HOUR_WRITE_TIMES_INPUT if usage_convention == "anthropic" else cache_write
    tier = PriceTier(
        above_input_tokens=start,
        input=into,
        cache_read=nano_usd("cache_read_mtok", into),
        cache_write=cache_write,
        cache_write_1h=nano_usd("cache_write_1h_mtok", cache_write_1h),
        output=out,
        reasoning=nano_usd("output_reasoning_mtok", out),
    )
    if max(tier.dearest_input, tier.dearest_output) > _MOST_USD_PER_MTOK * _NANO_USD_PER_USD:
        raise NotRepresentableError(f"a rate is above {_MOST_USD_PER_MTOK} USD per million tokens")
    return tier


def _rate_above(rate: Rate, tokens: int) -> Decimal:
    """Return the rate of a call with more than so many input tokens, and no more than the next tier's start."""
    if isinstance(rate, Decimal):
        return rate
    return next((tier.price for tier in reversed(rate.tiers) if tokens >= tier.start), rate.base)


def _nano_usd(name: str, usd: Decimal) -> int:
    if not usd.is_finite() or usd < 0:
        raise NotRepresentableError(f"{name} is {usd}")
    # A fraction, because a product of decimals is rounded to the digits of their context.
    nano_usd = Fraction(usd) * _NANO_USD_PER_USD
    if nano_usd.denominator != 1:
        raise NotRepresentableError(f"{name} is {usd} USD, no whole number of nano-USD")
    return nano_usd.numerator
