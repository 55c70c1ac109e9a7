"""The edge of the process: an exception that nobody expected becomes an answer, and a line in the log."""

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.api.errors import error_response
from backend.errors import InternalError

_LOGGER = logging.getLogger(__name__)


class FaultBarrier:
    """Answers 500 in the envelope. Starlette's own handler would raise on, which costs the caller its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        has_started = False

        async def noted(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            return
        except Exception:
            # The edge of the application: whatever it is, its caller gets the envelope, if nothing was sent yet.
            if has_started or scope["type"] != "http":
                raise
            _LOGGER.exception("An internal fault")
            answer = error_response(InternalError("An internal fault. If it goes on, tell the operator."))
            await answer(scope, receive, send)
