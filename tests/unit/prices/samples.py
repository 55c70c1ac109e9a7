"""Made-up parts of a price library, and a candidate to look up there."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    Tier,
    TieredPrices,
)

from backend.ids import uuid7
from backend.prices.candidate import Candidate
from backend.prices.library import Rate

MOMENT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def rates(**usd: str | Rate) -> ModelPrice:
    """Return a price: 2 USD for a million tokens of input and 8 for output, unless said otherwise."""
    fields = {"input_mtok": "2", "output_mtok": "8"} | usd
    return ModelPrice(
        **{name: Decimal(rate) if isinstance(rate, str) else rate for name, rate in fields.items()}
    )


def stepped(base: str, **above: str) -> TieredPrices:
    """Return a rate with tiers, as in ``stepped("2", above_200="3")``."""
    tiers = [Tier(int(name.removeprefix("above_")), Decimal(usd)) for name, usd in above.items()]
    return TieredPrices(Decimal(base), tiers)


def model(prices: ModelPrice | list[ConditionalPrice], identity: str = "large", **fields: Any) -> ModelInfo:
    """Return a model that goes by its id alone."""
    return ModelInfo(id=identity, match=ClauseEquals(identity), prices=prices, **fields)


def library(*models: ModelInfo, identity: str = "acme", url: str = r"https://api\.acme\.test") -> Provider:
    """Return a provider of the library."""
    return Provider(id=identity, name=identity, api_pattern=url, models=list(models))


def candidate(**changes: Any) -> Candidate:  # fields are of many types
    """Return a candidate without a price: acme's large model, of which nothing but text is asked."""
    fields: dict[str, Any] = {
        "id": uuid7(),
        "provider": "acme",
        "model": "my-model",
        "upstream_model": "large",
        "base_url": "https://api.acme.test/v1",
        "usage_convention": "openai",
        "refused_fields": frozenset({"service_tier", "web_search_options"}),
        "capabilities": frozenset(),
        "current": None,
    }
    return Candidate(**fields | changes)
