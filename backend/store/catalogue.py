"""Reads the catalogue: a snapshot with its version, and which candidates are cooling down."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from backend.routing.catalogue import Catalogue
from backend.store.client import DataApi


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """What a look at the catalogue found: ``catalogue`` is None if it is still the known one.

    ``cooldowns_seconds`` maps candidates to how long from now they are to be left alone.
    """

    catalogue: Catalogue | None
    cooldowns_seconds: Mapping[UUID, float]


async def read_catalogue(api: DataApi, known_version: int | None) -> CatalogueState:
    """Read the catalogue, once.

    Raises:
        StoreUnavailableError: it cannot be reached now.
    """
    state = await api.call("read_catalogue", {"known_version": known_version})
    records = state["candidates"]
    return CatalogueState(
        None if records is None else Catalogue.from_record(state["version"], records),
        {UUID(candidate): float(seconds) for candidate, seconds in state["cooldowns"].items()},
    )
