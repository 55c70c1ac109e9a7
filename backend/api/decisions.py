"""GET /v1/decisions and /v1/decisions/{id}: a member reads its organization's, an agent's key its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from postgrest import AsyncPostgrestClient

from backend.api.identity import Identity
from backend.api.parts import Parts, parts_of
from backend.errors import AuthenticationError, NotFoundError
from backend.store.client import RecordError
from backend.store.decisions import find_decision, list_decisions

router = APIRouter()

_MOST_DECISIONS = 100
# PGRST301 to 303: a token that PostgREST does not accept. https://docs.postgrest.org/en/v12/references/errors.html
_UNAUTHENTICATED_PREFIX = "PGRST30"


@router.get("/v1/decisions")
async def read_decisions(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=_MOST_DECISIONS)] = 20,
    before: UUID | None = None,
) -> dict[str, Any]:
    """List decisions, newest first; ``before`` is the id of the last one seen."""
    parts = parts_of(request)
    identity = await parts.identities.identify(request)
    with _tokens_are_the_callers(identity):
        rows = await list_decisions(*_scope(parts, identity), limit=limit + 1, before=before)
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit}


@router.get("/v1/decisions/{decision_id}")
async def read_decision(request: Request, decision_id: UUID) -> dict[str, Any]:
    """Return one decision with its attempts and its candidates, the rejected ones with their reasons."""
    parts = parts_of(request)
    identity = await parts.identities.identify(request)
    with _tokens_are_the_callers(identity):
        decision = await find_decision(*_scope(parts, identity), decision_id)
    if decision is None:
        raise NotFoundError(f"There is no decision {decision_id} of yours.")
    return decision


def _scope(parts: Parts, identity: Identity) -> tuple[AsyncPostgrestClient, UUID, UUID | None]:
    """Return the client to read with, and the organization and agent to read of."""
    caller = identity.caller
    if identity.user:
        return parts.data_api.as_user(identity.user.access_token), caller.organization_id, None
    return parts.data_api.privileged, caller.organization_id, caller.agent_id


@contextmanager
def _tokens_are_the_callers(identity: Identity) -> Iterator[None]:
    """Tell a caller whose token has just expired so: between its verification here and the Data API's own."""
    try:
        yield
    except RecordError as error:
        if identity.user and error.code.startswith(_UNAUTHENTICATED_PREFIX):
            raise AuthenticationError("The access token does not verify any more: refresh it.") from error
        raise
