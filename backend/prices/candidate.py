"""A candidate as far as its price goes."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from backend.routing.catalogue import PriceTier


@dataclass(frozen=True, slots=True)
class CurrentPrice:
    """The newest price version that is valid."""

    valid_from: datetime
    tiers: tuple[PriceTier, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who runs which model, what may be asked of it, and what it costs by the catalogue; ``current``: None without a price."""

    id: UUID
    provider: str
    model: str
    upstream_model: str
    base_url: str
    usage_convention: str
    refused_fields: frozenset[str]
    capabilities: frozenset[str]
    current: CurrentPrice | None
