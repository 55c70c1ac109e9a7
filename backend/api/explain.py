"""POST /v1/route/explain: what would be decided about a chat completion, without writing or calling anything."""

from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from backend.api.body import read_body
from backend.api.decide import Decided, decide
from backend.api.parts import Parts, parts_of
from backend.routing.rank import Scored

router = APIRouter()


@router.post("/v1/route/explain")
async def explain(request: Request) -> Response:
    """Return the ranking of a body that could as well be sent to ``/v1/chat/completions``, and who would be called first."""
    parts = parts_of(request)
    identity = await parts.identities.identify(request)
    content = await read_body(request, parts.settings.max_request_bytes)
    # What is explored is left to chance, and an explanation is to be the same each time.
    judgement = replace(parts.judgement, exploration_share=0.0)
    decided = decide(content, identity.caller, parts.catalogue(), judgement)
    return Response(orjson.dumps(_explained(decided, parts)), media_type="application/json")


def _explained(decided: Decided, parts: Parts) -> dict[str, Any]:
    ranking = decided.ranking
    reasons = {scored.candidate.id: _unavailable(scored, parts) for scored in ranking.eligible}
    first = next((scored for scored in ranking.eligible if reasons[scored.candidate.id] is None), None)
    return {
        "rule": decided.rule if ranking.eligible else "no_candidate_cleared_floor",
        "floor_cleared": ranking.floor_cleared,
        "model": first and first.candidate.model,
        "provider": first and first.candidate.provider,
        "catalogue_version": decided.catalogue.version,
        "routing_request": decided.asked.to_record(),
        "candidates": [
            scored.to_record() | {"unavailable": reasons.get(scored.candidate.id)}
            for scored in (*ranking.eligible, *ranking.rejected)
        ],
    }


def _unavailable(scored: Scored, parts: Parts) -> str | None:
    reason = parts.dispatcher.unavailable(scored.candidate)
    return reason.error_class if reason else None
