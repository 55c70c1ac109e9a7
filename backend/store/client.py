"""Clients of the Data API, and what its errors mean.

The privileged client never runs an auth call, which would rewrite its identity. A client that carries a user's token is
made per request; only the connections are shared. postgrest-py's own retry is off: backend.retries decides.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from backend.cookies import no_cookies
from backend.errors import StoreUnavailableError
from backend.http_client import SUCCESS
from backend.settings import Settings
from supabase import AsyncClient, AsyncClientOptions

# SQLSTATE classes (and PostgREST's own codes) after which the same call may succeed: connection, transaction rollback,
# insufficient resources, lock not available and other operator's business.
# https://docs.postgrest.org/en/v12/references/errors.html
_PASSING_CODE = re.compile(r"(?:08|40|53|55|57)[0-9A-Z]{3}|PGRST0[0-9]{2}")
# A gateway's errors have no code in their JSON, or no JSON at all.
_HAS_CODE = re.compile(rb'"code"\s*:\s*"(?:[0-9A-Z]{5}|PGRST[0-9]{3})"')
# Data exceptions and violated constraints.
_CLASSES_OF_WRONG_VALUES = frozenset({"22", "23"})
_AWAY_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
RETRY_AFTER_SECONDS = 1.0
_LOCK_NOT_AVAILABLE = "55P03"
_AWAY = "The record cannot be reached ({}). Nothing is charged; try again shortly."


class RecordError(Exception):
    """The record refused a call of ours: a bug, or a schema that does not fit, but for what :mod:`backend.store.wallets` says.

    ``code`` is PostgREST's or Postgres', and so are the words ``told`` and ``hint``, which are for operators only.
    """

    def __init__(self, message: str, code: str = "", *, told: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.told = told
        self.hint = hint

    @property
    def is_final(self) -> bool:
        """Whether it is about what was sent: an answer of our functions, or a value that the database will not take.

        Anything else (a right taken away for a while, a standby, a key that was rotated) somebody mends.
        """
        return not self.code or self.code[:2] in _CLASSES_OF_WRONG_VALUES


class LockHeldError(StoreUnavailableError):
    """Somebody holds a row that the call has to lock."""


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
        raise refusal(error.code or "", error.message or "", error.hint or "") from error
    except httpx.HTTPError as error:
        raise unavailable(type(error).__name__) from error


def refusal(code: str, message: str, hint: str) -> StoreUnavailableError | RecordError:
    """Return what an error of PostgREST's or Postgres' means."""
    if code == _LOCK_NOT_AVAILABLE:
        return LockHeldError(_AWAY.format(code), retry_after_seconds=RETRY_AFTER_SECONDS)
    if _PASSING_CODE.fullmatch(code):
        return unavailable(code)
    return RecordError(f"the record refused the call: {code} {message}", code, told=message, hint=hint)


def unavailable(reason: str) -> StoreUnavailableError:
    """Return the error for a record that cannot be reached."""
    return StoreUnavailableError(_AWAY.format(reason), retry_after_seconds=RETRY_AFTER_SECONDS)


def is_away(status: int, content_type: str, content: bytes) -> bool:
    """Tell whether what stands before the record answered in its place: an error of its own, or no JSON at all."""
    if status in SUCCESS:
        return "json" not in content_type
    may_pass = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AWAY_STATUSES
    return may_pass and not _HAS_CODE.search(content)


async def _require_reached(response: httpx.Response) -> None:
    """Raise an answer that is not the Data API's while it can be told: postgrest-py drops it.

    Raises:
        httpx.HTTPError: what stands before the record answered in its place.
    """
    if is_away(response.status_code, response.headers.get("content-type", ""), await response.aread()):
        raise httpx.RemoteProtocolError("the answer is not the Data API's")


def http_client(settings: Settings, connections: int) -> httpx.AsyncClient:
    """Make so many connections to Supabase."""
    return httpx.AsyncClient(
        timeout=settings.store_timeout_seconds,
        cookies=no_cookies(),
        event_hooks={"response": [_require_reached]},
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )
