"""Calls of the functions that take and return arrays, on the client of the hot path: docs/decisions/0012 says why.

What errors mean is :mod:`backend.store.client`'s business, whichever way a call went.
"""

import asyncio
from collections.abc import Sequence

import orjson

from backend.http_client import SUCCESS, HttpAnswer, HttpClient, HttpError
from backend.settings import Settings
from backend.store.client import is_away, refusal, unavailable


class ArrayCalls:
    """Functions of the database that take one array, ``items``, called as service_role."""

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        key = settings.supabase_secret_key.get_secret_value()
        self._http = http
        self._timeout_seconds = settings.store_timeout_seconds
        self._rpc_url = f"{settings.supabase_url.rstrip('/')}/rest/v1/rpc"
        self._headers = {
            "apikey": key,
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
        }

    async def call(self, function: str, items: Sequence[bytes]) -> Sequence[dict[str, object]]:
        """Call a function once, with items that are JSON. Returns an answer an item.

        Raises:
            StoreUnavailableError: it cannot be reached now; the call may or may not have been carried out.
            RecordError: it answered with an error.
        """
        content = b'{"items":[' + b",".join(items) + b"]}"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._http.post(f"{self._rpc_url}/{function}", self._headers, content)
                try:
                    return _answers(answer, b"".join([block async for block in answer.blocks()]))
                finally:
                    answer.close()
        except (HttpError, TimeoutError) as error:
            raise unavailable(type(error).__name__) from error


def _answers(answer: HttpAnswer, content: bytes) -> Sequence[dict[str, object]]:
    if is_away(answer.status, answer.headers.get("content-type", ""), content):
        raise unavailable(f"HTTP {answer.status}")
    try:
        told = orjson.loads(content)
    except orjson.JSONDecodeError:
        told = {}
    if answer.status in SUCCESS and isinstance(told, list):
        return told
    # A gateway's own refusal has no code, or one that is none of Postgres'.
    code, message, hint = (_text(told, name) for name in ("code", "message", "hint"))
    raise refusal(code or str(answer.status), message, hint)


def _text(told: object, name: str) -> str:
    value = told.get(name) if isinstance(told, dict) else None
    return value if isinstance(value, str) else ""
