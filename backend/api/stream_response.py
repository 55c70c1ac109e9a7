"""A relayed stream as a response. Its decision is completed even when the caller goes away."""

from collections.abc import Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from backend.dispatch.relay import Relay


class RelayResponse(StreamingResponse):
    """Sends a relay's events and, whatever happens, closes it."""

    def __init__(self, relay: Relay, headers: Mapping[str, str]) -> None:
        # Buffering proxies (nginx) would hold the events back.
        super().__init__(
            relay,
            media_type="text/event-stream",
            headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the caller goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._relay.aclose()
