"""What goes on beside the requests: reading the catalogue, and sweeping what crashes left."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from backend.api.parts import Parts
from backend.errors import StoreUnavailableError
from backend.store.catalogue import read_catalogue
from backend.store.client import RecordError

_LOGGER = logging.getLogger(__name__)


async def refresh_catalogue(parts: Parts) -> None:
    """Read the catalogue once. While it cannot be read the last one serves, and readiness says so.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    live = parts.live_catalogue
    known_version = live.current.version if live.current else None
    try:
        state = await read_catalogue(parts.data_api, known_version)
    except (StoreUnavailableError, RecordError):
        live.fresh = False
        live.failed_at = time.monotonic()
        raise
    live.current = state.catalogue or live.current
    live.fresh = True
    parts.dispatcher.cooldowns.learn(state.cooldowns_seconds)


async def sweep(parts: Parts) -> None:
    """Close what crashes left open past its lease, but not within one lease after the record was away.

    A request that ran meanwhile completes late; it must not be taken for a crash.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    if time.monotonic() - parts.live_catalogue.failed_at < parts.settings.lease_seconds:
        return
    batch_size = parts.settings.sweep_batch_size
    while await parts.dispatcher.record.sweep_decisions(batch_size) == batch_size:
        continue


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
