"""POST /v1/agents/{agent_id}/keys, POST /v1/keys/{key_id}/rotate and DELETE /v1/keys/{key_id}.

A key is shown once, in the answer that makes it. What is kept is its SHA-256.
"""

import hashlib
import secrets
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Meta, Struct

from backend.api.identity import API_KEY_PREFIX
from backend.api.management.member import Acting, Name
from backend.errors import InvalidRequestError
from backend.ids import uuid7

router = APIRouter()

_RANDOM_BYTES = 32
_SHOWN_CHARACTERS = 9
_MOST_GRACE_SECONDS = 90 * 24 * 60 * 60


class _NewKey(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Name
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class _Rotation(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    grace_seconds: Annotated[int, Meta(ge=0, le=_MOST_GRACE_SECONDS)] | None = None


_NEW_KEY = msgspec.json.Decoder(_NewKey)
_ROTATION = msgspec.json.Decoder(_Rotation)


@router.post("/v1/agents/{agent_id}/keys", status_code=HTTPStatus.CREATED)
async def create_key(request: Request, response: Response, agent_id: UUID, member: Acting) -> dict[str, Any]:
    """Make a key of an agent; the answer alone shows it."""
    asked = await member.asked(request, _NEW_KEY.decode)
    ends = _end(asked.expires_at)
    key = _new_key()
    made = await member.do(
        "create_api_key",
        agent_id=str(agent_id),
        key_id=str(uuid7()),
        name=asked.name,
        expires_at=ends and ends.isoformat(),
        **_kept_of(key),
    )
    return _shown_once(response, made, key)


@router.post("/v1/keys/{key_id}/rotate", status_code=HTTPStatus.CREATED)
async def rotate_key(request: Request, response: Response, key_id: UUID, member: Acting) -> dict[str, Any]:
    """Make a key in the place of another, which goes on for a while beside it."""
    asked = await member.asked(request, lambda content: _ROTATION.decode(content or b"{}"))
    grace = asked.grace_seconds
    key = _new_key()
    made = await member.do(
        "rotate_api_key",
        key_id=str(key_id),
        new_key_id=str(uuid7()),
        grace_seconds=member.parts.settings.key_grace_seconds if grace is None else grace,
        **_kept_of(key),
    )
    return _shown_once(response, made, key)


@router.delete("/v1/keys/{key_id}")
async def revoke_key(key_id: UUID, member: Acting) -> dict[str, Any]:
    """End a key now. Its row stays, with when that was."""
    revoked: dict[str, Any] = await member.do("revoke_api_key", key_id=str(key_id))
    return revoked


def _end(asked: datetime | None) -> datetime | None:
    """Return when a key is to end, in UTC.

    Raises:
        InvalidRequestError: that is over, or beyond what a date can be.
    """
    if asked is None:
        return None
    try:
        ends = asked.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError(
            "`expires_at` is no date. Nothing was changed.", param="expires_at"
        ) from error
    if ends <= datetime.now(UTC):
        raise InvalidRequestError("`expires_at` is over. Nothing was changed.", param="expires_at")
    return ends


def _new_key() -> str:
    return API_KEY_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def _kept_of(key: str) -> dict[str, str]:
    return {
        "display_prefix": key[:_SHOWN_CHARACTERS],
        "key_hash": hashlib.sha256(key.encode()).hexdigest(),
    }


def _shown_once(response: Response, made: dict[str, Any], key: str) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return made | {"key": key}
