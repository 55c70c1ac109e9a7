"""POST /v1/members, PATCH and DELETE /v1/members/{user_id}."""

from http import HTTPStatus
from typing import Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET, Struct, UnsetType

from backend.api.management.member import Acting

router = APIRouter()

_Role = Literal["owner", "admin", "member"]


class _NewMember(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    user_id: UUID
    role: _Role = "member"
    default_agent_id: UUID | None = None


class _Changes(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    role: _Role | UnsetType = UNSET
    default_agent_id: UUID | UnsetType | None = UNSET


_NEW_MEMBER = msgspec.json.Decoder(_NewMember)
_CHANGES = msgspec.json.Decoder(_Changes)


@router.post("/v1/members", status_code=HTTPStatus.CREATED)
async def add_member(request: Request, member: Acting) -> dict[str, Any]:
    """Make a Supabase user, who has signed up before, a member."""
    asked = await member.asked(request, _NEW_MEMBER.decode)
    added: dict[str, Any] = await member.do("add_member", **msgspec.to_builtins(asked))
    return added


@router.patch("/v1/members/{user_id}")
async def change_member(request: Request, user_id: UUID, member: Acting) -> dict[str, Any]:
    """Give a member another role or another default agent."""
    changes = await member.asked(request, _CHANGES.decode)
    changed: dict[str, Any] = await member.do(
        "change_member", user_id=str(user_id), changes=msgspec.to_builtins(changes)
    )
    return changed


@router.delete("/v1/members/{user_id}")
async def remove_member(user_id: UUID, member: Acting) -> dict[str, Any]:
    """End a membership: another's, or one's own."""
    removed: dict[str, Any] = await member.do("remove_member", user_id=str(user_id))
    return removed
