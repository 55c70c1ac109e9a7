"""What goes on beside the requests: reading the catalogue, leases, sweeping what crashes left, retention, publishing rates."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from backend.api.parts import Parts
from backend.dispatch.dispatcher import Dispatcher
from backend.errors import StoreUnavailableError
from backend.routing.catalogue import Catalogue
from backend.routing.rate_snapshot import NO_RATES
from backend.store import feedback, leases, retention
from backend.store.catalogue import read_catalogue
from backend.store.client import RecordError

_LOGGER = logging.getLogger(__name__)
_AWAY = "the record cannot be reached"
_UNREADABLE = "the catalogue cannot be read: the backend's log says why"


async def refresh_catalogue(parts: Parts) -> None:
    """Read the catalogue and the learned rates once. While it cannot be read the last one serves, and readiness says so.

    Raises:
        StoreUnavailableError: the record cannot be reached.
        RecordError: it refuses the backend.
    """
    live = parts.live_catalogue
    known_version = live.current.version if live.current else None
    known_rates = live.current.rates.id if live.current else None
    try:
        state = await read_catalogue(parts.background_api, known_version, known_rates)
    except Exception as error:
        # Whatever it is, readiness tells of it; it is raised on.
        is_away = isinstance(error, StoreUnavailableError)
        live.problem = _AWAY if is_away else _UNREADABLE
        live.failed_at = time.monotonic()
        raise
    live.problem = None
    parts.dispatcher.cooldowns.learn(state.cooldowns_seconds)
    catalogue = state.catalogue or live.current
    if catalogue:
        rates = state.rates or (live.current.rates if live.current else NO_RATES)
        if catalogue.rates is not rates:
            # Hundreds of quantiles: a tenth of a second in which no request should wait.
            catalogue = await asyncio.to_thread(catalogue.with_rates, rates)
        live.current = catalogue
    if state.catalogue:
        _warn_of_uncallable(parts.dispatcher, state.catalogue)


def _warn_of_uncallable(dispatcher: Dispatcher, catalogue: Catalogue) -> None:
    for candidate in catalogue.candidates:
        if reason := dispatcher.uncallable(candidate):
            _LOGGER.warning("%s at %s cannot be called: %s", candidate.model, candidate.provider, reason)


async def renew_leases(parts: Parts) -> None:
    """Renew the leases of everything that is open here, so that nobody takes it for what a crash left.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    if decisions := parts.dispatcher.completions.open_decisions:
        await leases.renew_leases(parts.background_api, decisions, parts.settings.lease_seconds)


async def sweep(parts: Parts) -> None:
    """Close what crashes left open past its lease, but not within one lease after the start or after the record was away.

    Whoever runs meanwhile could not renew its leases; it must not be taken for a crash.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    if time.monotonic() - parts.live_catalogue.failed_at < parts.settings.lease_seconds:
        return
    # After a pause its own leases have run out as well.
    await renew_leases(parts)
    batch_size = parts.settings.sweep_batch_size
    while await leases.sweep_decisions(parts.background_api, batch_size) == batch_size:
        continue


async def delete_old_decisions(parts: Parts) -> None:
    """Delete the decisions that are too old, in batches with pauses, so that requests have the database to themselves between.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    settings = parts.settings
    while await retention.delete_old_decisions(parts.background_api, settings.retention_batch_size) > 0:  # noqa: ASYNC110 # work
        await asyncio.sleep(settings.retention_pause_seconds)


async def publish_rates(parts: Parts) -> None:
    """Publish what was learned, unless another backend has within the interval.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    await feedback.publish_rates(parts.background_api, parts.settings.rate_publish_seconds)


async def repeat(work: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    """Do work again and again until cancelled. One that fails is logged and tried again at the next turn."""
    while True:
        try:
            await work()
        except (StoreUnavailableError, RecordError) as error:
            _LOGGER.warning("%s", error)
        except Exception:
            # The edge of a background task: ending it silently would stop the backend from ever recovering.
            _LOGGER.exception("A background task failed; it goes on")
        await asyncio.sleep(every_seconds)
