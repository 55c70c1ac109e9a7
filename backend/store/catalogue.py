"""Reads the catalogue: a snapshot with its version, the rates that were learned, and which candidates are cooling down."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from backend.routing.catalogue import Catalogue
from backend.routing.rate_snapshot import NO_RATES, RateSnapshot
from backend.store.client import DataApi


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """What a look at the catalogue found: ``catalogue`` and ``rates`` are None if they are still the known ones.

    ``cooldowns_seconds`` maps candidates to how long from now they are to be left alone.
    """

    catalogue: Catalogue | None
    rates: RateSnapshot | None
    cooldowns_seconds: Mapping[UUID, float]


async def read_catalogue(api: DataApi, known_version: int | None, known_rates: int | None) -> CatalogueState:
    """Read the catalogue, once. What is known is not read again. There are no rates before any were published.

    Raises:
        StoreUnavailableError: it cannot be reached now.
    """
    state = await api.call("read_catalogue", {"known_version": known_version, "known_rates": known_rates})
    records, learned = state["candidates"], state["rates"]
    rates = None if learned is None else RateSnapshot.from_record(state["rate_snapshot"], learned)
    return CatalogueState(
        None
        if records is None
        else await asyncio.to_thread(Catalogue.from_record, state["version"], records, rates or NO_RATES),
        rates,
        {UUID(candidate): float(seconds) for candidate, seconds in state["cooldowns"].items()},
    )
