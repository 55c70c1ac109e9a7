"""Clients of the Data API, and what its errors mean.

The privileged client never runs an auth call, which would rewrite its identity. A client that carries a user's token is
made per request; only the connections are shared. postgrest-py's own retry is off: backend.retries decides.
"""

from collections.abc import Mapping
from typing import Any

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from backend.errors import StoreUnavailableError
from backend.settings import Settings
from supabase import AsyncClient, AsyncClientOptions

# SQLSTATE classes (and PostgREST's own codes) after which the same call may succeed: connection, transaction rollback,
# insufficient resources, lock not available and other operator's business.
# https://docs.postgrest.org/en/v12/references/errors.html
_PASSING_CODE_PREFIXES = ("08", "40", "53", "55", "57", "PGRST0")
# What stands before the database says that it cannot reach it, or that it is asked too often.
_AWAY_STATUSES = frozenset({429, 502, 503, 504, 520, 521, 522, 523, 524})
RETRY_AFTER_SECONDS = 1.0


class RecordError(Exception):
    """The record refused a call of ours: a bug, or a schema that does not fit. Never the caller's doing."""


class DataApi:
    """The Data API with the secret key, and with users' tokens."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._http = http
        self._rest_url = f"{settings.supabase_url.rstrip('/')}/rest/v1"
        self._publishable_key = settings.supabase_publishable_key
        self.privileged = AsyncClient(
            settings.supabase_url,
            settings.supabase_secret_key.get_secret_value(),
            AsyncClientOptions(
                httpx_client=http,
                postgrest_client_retry=False,
                auto_refresh_token=False,
                persist_session=False,
            ),
        ).postgrest

    def as_user(self, access_token: str) -> AsyncPostgrestClient:
        """Return a client that reads as the token's user, under row level security."""
        return AsyncPostgrestClient(
            self._rest_url,
            headers={"apikey": self._publishable_key, "Authorization": f"Bearer {access_token}"},
            http_client=self._http,
            retry_enabled=False,
        )

    async def call(self, function: str, parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401 # JSON
        """Call a function of the database as service_role, once.

        Raises:
            StoreUnavailableError: it cannot be reached now; the call may or may not have been carried out.
            RecordError: it answered with an error that a retry does not mend.
        """
        return await execute(self.privileged.rpc(function, dict(parameters)))


async def execute(query: Any) -> Any:  # noqa: ANN401 # postgrest-py's builders share no public base
    """Send a query and return its data; see :meth:`DataApi.call` for what it raises."""
    try:
        return (await query.execute()).data
    except APIError as error:
        code = error.code or ""
        if code.startswith(_PASSING_CODE_PREFIXES):
            raise _unavailable(code) from error
        raise RecordError(f"the record refused the call: {code} {error.message}") from error
    except httpx.HTTPError as error:
        raise _unavailable(type(error).__name__) from error


def _unavailable(reason: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The record cannot be reached ({reason}). Nothing is charged; try again shortly.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


async def _require_reached(response: httpx.Response) -> None:
    """Tell a gateway's own error from the database's while there is a status to tell by: postgrest-py drops it."""
    if response.status_code in _AWAY_STATUSES:
        response.raise_for_status()


def http_client(settings: Settings) -> httpx.AsyncClient:
    """Make the connections to Supabase. 8 carry more than 64 (1,977 against 1,550 calls/s on two cores)."""
    return httpx.AsyncClient(
        timeout=settings.store_timeout_seconds,
        event_hooks={"response": [_require_reached]},
        limits=httpx.Limits(
            max_connections=settings.store_connections, max_keepalive_connections=settings.store_connections
        ),
    )
