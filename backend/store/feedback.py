"""Feedback on answers, and publishing what was learned from it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from backend.store.callers import Caller
from backend.store.client import DataApi
from backend.store.refusals import call_for_caller


@dataclass(frozen=True, slots=True)
class Feedback:
    """How good a decision's answer was: ``score`` 0 to 1, by the caller, or by the ``checker`` that has its key."""

    decision_id: UUID
    score: float
    checker: str | None


async def record_feedback(
    api: DataApi, caller: Caller, feedback: Feedback, *, retry_seconds: float
) -> dict[str, Any]:
    """Keep feedback, and return its row. What a source has said already it may say again.

    Raises:
        NotFoundError: the caller has no such decision; no feedback was kept. Likewise
        ConflictError: the decision is open or did not succeed, the source has given another score, or enough sources have.
        StoreUnavailableError: the record was not reached in time; it may or may not have been kept.
    """
    given = {
        "decision_id": str(feedback.decision_id),
        "organization_id": str(caller.organization_id),
        # A member rates what it reads: the answers to all agents of its organization.
        "agent_id": None if caller.user_id else str(caller.agent_id),
        "api_key_id": caller.api_key_id and str(caller.api_key_id),
        "user_id": caller.user_id and str(caller.user_id),
        "checker": feedback.checker,
        "score": feedback.score,
    }
    row: dict[str, Any] = await call_for_caller(api, "record_feedback", given, retry_seconds=retry_seconds)
    return row


async def publish_rates(api: DataApi, least_age_seconds: float) -> int:
    """Publish what was learned, unless the newest snapshot is younger or says the same; return the newest's id. Tried once.

    Raises:
        StoreUnavailableError: the record cannot be reached.
    """
    newest = await api.call("publish_rates", {"least_age_seconds": least_age_seconds})
    return int(newest)
