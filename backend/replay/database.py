"""Recorded decisions and catalogues, read from the database."""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import psycopg

from backend.ids import earliest_uuid7
from backend.replay.comparison import CatalogueOf
from backend.replay.decision import Decision, NotRecomputableError, read_catalogue
from backend.routing.catalogue import Catalogue
from backend.routing.rate_snapshot import NO_RATES, RateSnapshot

# Some hundred candidates a ranking: a page is a few megabytes.
PAGE_DECISIONS = 200
STATEMENT_TIMEOUT_MILLISECONDS = 60_000
# It has the number of a snapshot only once a backend has routed by it.
CURRENT_VERSION = 0

_PAGE = """
    select id, catalogue_version, routing_request, candidates
    from public.routing_outcomes
    where id >= %(earliest)s and (%(before)s::uuid is null or id < %(before)s)
    order by id desc
    limit %(most)s
"""
_ONE = "select id, catalogue_version, routing_request, candidates from public.routing_outcomes where id = %s"
_KEPT_CATALOGUES = 20
_SNAPSHOT = "select content from public.catalogue_snapshots where version = %s"
_CURRENT = "select private.current_catalogue()"
_RATES = "select id, prior_strength, content from public.rate_snapshots where id = %s"
_NEWEST_RATES = "select id, prior_strength, content from public.rate_snapshots order by id desc limit 1"


def read_decisions(connection: psycopg.Connection, since: datetime, most: int) -> Iterator[Decision]:
    """Yield the decisions made since then, the newest first, and no more than ``most`` of them."""
    before = None
    while most > 0:
        limits = {"earliest": earliest_uuid7(since), "before": before, "most": min(most, PAGE_DECISIONS)}
        page = [Decision(*row) for row in connection.execute(_PAGE, limits)]
        if not page:
            return
        yield from page
        most -= len(page)
        before = page[-1].id


def read_decision(connection: psycopg.Connection, decision_id: UUID) -> list[Decision]:
    """Return one decision, or none where there is no such one."""
    return [Decision(*row) for row in connection.execute(_ONE, [decision_id])]


def read_current_catalogue(connection: psycopg.Connection) -> Catalogue:
    """Return the catalogue by which a request would be routed now.

    Raises:
        NotRecomputableError: it is of another version than this one.
    """
    rates = _rates(connection.execute(_NEWEST_RATES))
    return read_catalogue(CURRENT_VERSION, _content(connection.execute(_CURRENT)), rates)


class Snapshots:
    """The catalogues of recorded decisions with the rates that each knew; the last so many are kept.

    Decisions are asked in the order of their making, and those next to each other mostly knew the same.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._read = lru_cache(_KEPT_CATALOGUES)(self._read_once)

    def with_rates(self, rates_id: int) -> CatalogueOf:
        """Return what gives a decision its own catalogue with another snapshot of the rates.

        Raises:
            NotRecomputableError: there is no such snapshot.
        """
        if _rates(self._connection.execute(_RATES, [rates_id])).id is None:
            newest = _rates(self._connection.execute(_NEWEST_RATES)).id
            raise NotRecomputableError(
                f"there are no rates {rates_id}; the newest are {newest or 'not there'}."
            )
        return lambda decision: self._read(decision.catalogue_version, rates_id)

    def of(self, decision: Decision) -> Catalogue:
        """Return the catalogue by which a decision was made.

        Raises:
            NotRecomputableError: it is of another version than this one.
        """
        return self._read(decision.catalogue_version, decision.request.get("rate_snapshot"))

    def _read_once(self, version: int, rates_id: int | None) -> Catalogue:
        rates = _rates(self._connection.execute(_RATES, [rates_id]))
        if rates.id != rates_id:
            raise NotRecomputableError(f"its rates, snapshot {rates_id}, are not there")
        return read_catalogue(version, _content(self._connection.execute(_SNAPSHOT, [version])), rates)


def _rates(rows: psycopg.Cursor[Any]) -> RateSnapshot:
    found = rows.fetchone()
    if found is None:
        return NO_RATES
    snapshot_id, prior_strength, content = found
    return RateSnapshot.from_record(snapshot_id, content | {"prior_strength": prior_strength})


def _content(rows: psycopg.Cursor[Any]) -> list[dict[str, Any]]:
    found = rows.fetchone()
    if found is None:
        raise NotRecomputableError("its catalogue is not there")
    content: list[dict[str, Any]] = found[0]
    return content
