"""GET /v1/models and /v1/models/{model}."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from backend.api.chat_request import AUTO
from backend.api.parts import parts_of
from backend.errors import ModelNotFoundError
from backend.routing.catalogue import Candidate

router = APIRouter()

_DECIMALS = 6


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List what ``model`` may be: ``auto``, and every model that somebody runs at a price and that can be called."""
    return {"object": "list", "data": list((await _models(request)).values())}


@router.get("/v1/models/{name:path}")
async def retrieve_model(request: Request, name: str) -> dict[str, Any]:
    """Return one of them."""
    models = await _models(request)
    if name not in models:
        raise ModelNotFoundError(
            f"Nobody runs a model `{name}` here; GET /v1/models lists what there is.", param="model"
        )
    return models[name]


async def _models(request: Request) -> dict[str, dict[str, Any]]:
    parts = parts_of(request)
    await parts.identities.identify(request)
    candidates: dict[str, list[Candidate]] = {AUTO: []}
    for candidate in parts.catalogue().candidates:
        if parts.dispatcher.uncallable(candidate) is None:
            candidates.setdefault(candidate.model, []).append(candidate)
    return {
        name: _model(name, candidates[name])
        for name in sorted(candidates, key=lambda name: (name != AUTO, name))
    }


def _model(name: str, candidates: list[Candidate]) -> dict[str, Any]:
    model: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "clearfloor"}
    if candidates:
        estimates = candidates[0].estimates
        qualities = {task: round(estimate.quality, _DECIMALS) for task, estimate in estimates.items()}
        model["clearfloor"] = {"qualities": qualities, "candidates": list(_described(candidates))}
    return model


def _described(candidates: list[Candidate]) -> Iterator[dict[str, Any]]:
    for candidate in candidates:
        yield {
            "provider": candidate.provider,
            "context_window_tokens": candidate.context_window_tokens,
            "max_output_tokens": candidate.max_output_tokens,
            "capabilities": sorted(candidate.capabilities),
            "nano_usd_per_million_tokens": [asdict(tier) for tier in candidate.price.tiers],
        }
