"""PUT /v1/spend-caps and PUT /v1/rate-limits: of an agent, or of the whole organization."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from msgspec import Meta, Struct

from backend.api.body import decode_amount
from backend.api.management.member import Acting
from backend.errors import InvalidRequestError
from backend.ids import uuid7
from backend.units import usd

router = APIRouter()

_PerMinute = Annotated[int, Meta(ge=1, le=10**12)]


class _SpendCap(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    agent_id: UUID | None = None
    window: Literal["hour", "day", "month", "lifetime"]
    limit_usd: str | None


class _RateLimit(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    agent_id: UUID | None = None
    requests_per_minute: _PerMinute | None
    tokens_per_minute: _PerMinute | None


_SPEND_CAP = msgspec.json.Decoder(_SpendCap)
_RATE_LIMIT = msgspec.json.Decoder(_RateLimit)


@router.put("/v1/spend-caps")
async def set_spend_cap(request: Request, member: Acting) -> dict[str, Any]:
    """Set the most that may be spent in a UTC window; a limit of null removes the cap."""
    asked = await member.asked(request, _SPEND_CAP.decode)
    limit = None if asked.limit_usd is None else decode_amount(asked.limit_usd, "limit_usd")
    if limit is not None and limit < 0:
        raise InvalidRequestError("`limit_usd` is below zero. Nothing was changed.", param="limit_usd")
    cap_id = await member.do(
        "set_spend_cap",
        cap_id=str(uuid7()),
        agent_id=asked.agent_id and str(asked.agent_id),
        window_kind=asked.window,
        limit_nano_usd=limit,
    )
    return {
        "id": cap_id,
        "agent_id": asked.agent_id,
        "window": asked.window,
        "limit_usd": None if limit is None else usd(limit),
    }


@router.put("/v1/rate-limits")
async def set_rate_limit(request: Request, member: Acting) -> dict[str, Any]:
    """Set the requests and tokens that may be taken a minute; null: no limit of that kind."""
    asked = await member.asked(request, _RATE_LIMIT.decode)
    limit_id = await member.do(
        "set_rate_limit",
        limit_id=str(uuid7()),
        agent_id=asked.agent_id and str(asked.agent_id),
        requests_per_minute=asked.requests_per_minute,
        tokens_per_minute=asked.tokens_per_minute,
    )
    return {"id": limit_id} | msgspec.structs.asdict(asked)
