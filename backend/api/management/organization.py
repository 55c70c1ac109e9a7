"""PATCH /v1/organization: the organization that the token speaks for."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.api.management.member import Acting, Name

router = APIRouter()


class _Changes(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Name | UnsetType = UNSET
    stored_answer_hours: Annotated[int, Meta(ge=1, le=720)] | UnsetType | None = UNSET


_CHANGES = msgspec.json.Decoder(_Changes)


@router.patch("/v1/organization")
async def change_organization(request: Request, member: Acting) -> dict[str, Any]:
    """Rename the organization, or say how long answers are stored for it."""
    changes = await member.asked(request, _CHANGES.decode)
    changed: dict[str, Any] = await member.do("change_organization", changes=msgspec.to_builtins(changes))
    return changed
