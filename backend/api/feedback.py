"""POST /v1/decisions/{decision_id}/feedback: how good an answer was, by the agent, a checker of its, or a member."""

from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.api.body import decode_body, read_body
from backend.api.identity import Identity
from backend.api.parts import parts_of
from backend.errors import InvalidRequestError
from backend.store.feedback import Feedback, record_feedback

router = APIRouter()

_THUMBS = {"up": 1.0, "down": 0.0}


class _Body(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    score: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    thumb: Literal["up", "down"] | UnsetType = UNSET
    checker: Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,40}\Z")] | None = None


_DECODER = msgspec.json.Decoder(_Body)


@router.post("/v1/decisions/{decision_id}/feedback", status_code=HTTPStatus.CREATED)
async def give_feedback(request: Request, decision_id: UUID) -> dict[str, Any]:
    """Keep how good a decision's answer was, once for each source."""
    parts = parts_of(request)
    identity = await parts.identities.identify(request)
    content = await read_body(request, parts.settings.max_request_bytes)
    given = decode_body(_DECODER.decode, content, known_fields=_Body.__struct_fields__)
    feedback = Feedback(decision_id, _score(given), _checker(given, identity))
    return await record_feedback(
        parts.data_api, identity.caller, feedback, retry_seconds=parts.settings.store_retry_seconds
    )


def _score(given: _Body) -> float:
    if given.score is not UNSET and given.thumb is UNSET:
        return given.score
    if given.thumb is not UNSET and given.score is UNSET:
        return _THUMBS[given.thumb]
    raise InvalidRequestError("Give `score` or `thumb`: one of the two. No feedback was kept.", param="score")


def _checker(given: _Body, identity: Identity) -> str | None:
    if given.checker is not None and identity.user:
        raise InvalidRequestError(
            "A checker has its agent's key: `checker` does not go with an access token. No feedback was kept.",
            param="checker",
        )
    return given.checker
