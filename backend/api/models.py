"""GET /v1/models."""

from typing import Any

from fastapi import APIRouter, Request

from backend.api.chat_request import AUTO
from backend.api.parts import parts_of

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List what ``model`` may be: ``auto``, and every model that somebody runs at a price."""
    parts = parts_of(request)
    await parts.identities.identify(request)
    names = [AUTO, *parts.catalogue().models]
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "clearfloor"} for name in names],
    }
