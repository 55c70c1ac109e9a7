"""A recorded decision as routing sees it, and its ranking by any catalogue. Pure: no database, no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import orjson

from backend.routing.catalogue import Catalogue
from backend.routing.rank import Ranking, rank
from backend.routing.rate_snapshot import NO_RATES, RateSnapshot
from backend.routing.request import RoutingRequest

Entry = Mapping[str, Any]


class NotRecomputableError(Exception):
    """A record that this version cannot compute again. The message says why."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the record has of a decision: what routing was asked and by which catalogue, and the ranking that it gave."""

    id: UUID
    catalogue_version: int
    request: dict[str, Any]
    ranking: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate that comes first, and what the request is expected to cost there, in nano-USD."""

    provider: str
    model: str
    expected_cost_nano_usd: int

    @classmethod
    def of(cls, ranking: Ranking) -> Self | None:
        """Return the first choice of a ranking; None where no candidate may be called."""
        if not ranking.eligible:
            return None
        first = ranking.eligible[0]
        return cls(first.candidate.provider, first.candidate.model, first.expected_cost_nano_usd)

    @property
    def candidate(self) -> str:
        """Who runs which model."""
        return f"{self.provider} {self.model}"


def read_catalogue(version: int, content: Sequence[Entry], rates: RateSnapshot = NO_RATES) -> Catalogue:
    """Return a snapshot's catalogue, with the rates that were learned.

    Raises:
        NotRecomputableError: it is not one that this version can read.
    """
    try:
        return Catalogue.from_record(version, content, rates)
    except _NOT_OF_THIS_VERSION as error:
        raise NotRecomputableError(f"catalogue {version} cannot be read: {_told(error)}") from error


def recompute(decision: Decision, catalogue: Catalogue) -> Ranking:
    """Return a decision's ranking by a catalogue.

    Raises:
        NotRecomputableError: its request is not one that this version can read.
    """
    try:
        return rank(RoutingRequest.from_record(decision.request), catalogue)
    except _NOT_OF_THIS_VERSION as error:
        raise NotRecomputableError(f"its request cannot be read: {_told(error)}") from error


def as_recorded(ranking: Ranking) -> Sequence[Entry]:
    """Return a ranking as the record has it."""
    recorded: Sequence[Entry] = orjson.loads(orjson.dumps(ranking.to_record()))
    return recorded


# A record of another version lacks a field, or has one of another type.
_NOT_OF_THIS_VERSION = (AttributeError, LookupError, TypeError, ValueError)


def _told(error: Exception) -> str:
    return f"{type(error).__name__} {error}"
