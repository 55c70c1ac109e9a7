"""POST /v1/operator/wallets/{organization_id}/top-ups, /refunds and /corrections: an operator's programs move money.

There are these routes only where CLEARFLOOR_OPERATOR_TOKENS is set.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec import Meta, Struct
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.api.body import decode_amount, decode_body, read_body
from backend.api.errors import error_response
from backend.api.parts import parts_of
from backend.errors import AccessDeniedError, AuthenticationError
from backend.store.wallets import Kind, WalletEntry, make_entry
from backend.units import usd

_PREFIX = "/v1/operator/"

router = APIRouter(prefix=f"{_PREFIX}wallets/{{organization_id}}")


class _Correction(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    kind: ClassVar[Kind] = "correction"
    decision_id: ClassVar[None] = None
    id: UUID
    amount_usd: str
    note: Annotated[str, Meta(pattern=r"\S")]


class _TopUp(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    kind: ClassVar[Kind] = "top_up"
    decision_id: ClassVar[None] = None
    id: UUID
    amount_usd: str
    note: str = ""


class _Refund(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    kind: ClassVar[Kind] = "refund"
    id: UUID
    amount_usd: str
    note: Annotated[str, Meta(pattern=r"\S")]
    decision_id: UUID


_Asked = _TopUp | _Refund | _Correction
_TOP_UP = msgspec.json.Decoder(_TopUp)
_REFUND = msgspec.json.Decoder(_Refund)
_CORRECTION = msgspec.json.Decoder(_Correction)


class NoBrowsers:
    """Refuses whatever names an origin, as browsers do, before it reaches these routes or is told that it may.

    It stands outside of CORS, whose allowed origins are callers'. An operator's token has no business in a browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX) and "origin" in Headers(scope=scope):
            answer = error_response(
                AccessDeniedError("Operators' routes are not for browsers. Nothing was changed.")
            )
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _actor(request: Request) -> str:
    """Return the name of the operator whose token it is.

    Raises:
        AuthenticationError: it is nobody's.
    """
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    given = _digest(credential) if scheme.lower() == "bearer" else b""
    # Compared with every token, each in the same time: how long it takes says nothing.
    names = [
        name
        for name, token in parts_of(request).settings.operators
        if hmac.compare_digest(_digest(token), given)
    ]
    if not names:
        raise AuthenticationError("No operator's token: send `Authorization: Bearer` with one.")
    return names[0]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# Known before anything else of the request is looked at.
_Actor = Annotated[str, Depends(_actor)]


@router.post("/top-ups")
async def top_up(request: Request, organization_id: UUID, actor: _Actor) -> dict[str, str]:
    """Add prepaid funds."""
    return await _make(request, _TOP_UP.decode, organization_id, actor)


@router.post("/refunds")
async def refund(request: Request, organization_id: UUID, actor: _Actor) -> dict[str, str]:
    """Give back what a decision was charged, or a part of it."""
    return await _make(request, _REFUND.decode, organization_id, actor)


@router.post("/corrections")
async def correct(request: Request, organization_id: UUID, actor: _Actor) -> dict[str, str]:
    """Give funds that nobody paid, or take some."""
    return await _make(request, _CORRECTION.decode, organization_id, actor)


async def _make(
    request: Request, decode: Callable[[bytes], _Asked], organization_id: UUID, actor: str
) -> dict[str, str]:
    parts = parts_of(request)
    asked = decode_body(decode, await read_body(request, parts.settings.max_request_bytes))
    entry = WalletEntry(
        kind=asked.kind,
        id=asked.id,
        organization_id=organization_id,
        amount_nano_usd=decode_amount(asked.amount_usd, "amount_usd"),
        note=asked.note,
        actor=actor,
        decision_id=asked.decision_id,
    )
    balance = await make_entry(parts.data_api, entry, retry_seconds=parts.settings.store_retry_seconds)
    return {"id": str(entry.id), "organization_id": str(organization_id), "balance_usd": usd(balance)}
