"""A relayed stream as a response. Its decision is completed even when the caller goes away."""

import asyncio
import logging
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from backend.dispatch.relay import Relay
from backend.store.record import OutcomeStatus

_LOGGER = logging.getLogger(__name__)


class RelayResponse(StreamingResponse):
    """Sends a relay's events and, whatever happens, closes it.

    A caller that stops reading is hung up on ``grace_seconds`` after the request's deadline: so long the end may take.
    """

    def __init__(self, relay: Relay, headers: Mapping[str, str], *, grace_seconds: float) -> None:
        # Buffering proxies (nginx) would hold the events back.
        super().__init__(
            relay,
            media_type="text/event-stream",
            headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self._relay = relay
        self._grace_seconds = grace_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end, the caller goes away or the time is up."""
        outcome: OutcomeStatus = "failed_other"
        seconds = max(0.0, self._relay.deadline - time.monotonic()) + self._grace_seconds
        try:
            async with asyncio.timeout(seconds):
                await super().__call__(scope, receive, send)
            outcome = "cancelled"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except (ClientDisconnect, TimeoutError):
            outcome = "cancelled"
            _LOGGER.info("The caller of decision %s went away", self._relay.order.decision.id)
        finally:
            await self._relay.aclose(outcome)
