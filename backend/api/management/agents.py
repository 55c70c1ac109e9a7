"""POST /v1/agents and PATCH /v1/agents/{agent_id}."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.api.chat_request import OutputLimit
from backend.api.management.member import Acting, Name
from backend.ids import uuid7

router = APIRouter()


class _Changes(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Name | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    default_floor: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    default_max_output_tokens: OutputLimit | UnsetType = UNSET
    baseline_model: Annotated[str, Meta(pattern=r"^[!-~]{1,200}$")] | UnsetType | None = UNSET


class _NewAgent(_Changes, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Name


_CHANGES = msgspec.json.Decoder(_Changes)
_NEW_AGENT = msgspec.json.Decoder(_NewAgent)


@router.post("/v1/agents", status_code=HTTPStatus.CREATED)
async def create_agent(request: Request, member: Acting) -> dict[str, Any]:
    """Make an agent; it has no key yet."""
    settings = await member.asked(request, _NEW_AGENT.decode)
    made: dict[str, Any] = await member.do(
        "create_agent", agent_id=str(uuid7()), settings=msgspec.to_builtins(settings)
    )
    return made


@router.patch("/v1/agents/{agent_id}")
async def change_agent(request: Request, agent_id: UUID, member: Acting) -> dict[str, Any]:
    """Rename an agent, switch it off or on, change its defaults."""
    changes = await member.asked(request, _CHANGES.decode)
    changed: dict[str, Any] = await member.do(
        "change_agent", agent_id=str(agent_id), changes=msgspec.to_builtins(changes)
    )
    return changed
