"""Finds out for whom a key or a user speaks."""

from dataclasses import dataclass
from uuid import UUID

from backend.store.client import DataApi


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: an agent of an organization, by a key or by a member's token, and the agent's defaults."""

    organization_id: UUID
    agent_id: UUID
    api_key_id: UUID | None
    user_id: UUID | None
    default_floor: float
    default_max_output_tokens: int
    baseline_model: str | None


async def find_caller_by_key(api: DataApi, key_hash: bytes) -> Caller | None:
    """Return the agent that an API key (its SHA-256) speaks for, or None if there is no such valid key.

    Raises:
        StoreUnavailableError: nobody can tell now.
    """
    return _caller(await api.call("find_caller_by_key", {"key_hash": key_hash.hex()}))


async def find_caller_by_user(
    api: DataApi, user_id: UUID, organization_id: UUID, agent: str | None
) -> Caller | None:
    """Return the agent a member acts as: the one named by id or name, else the membership's default; None if none.

    Raises:
        StoreUnavailableError: nobody can tell now.
    """
    parameters = {"user_id": str(user_id), "organization_id": str(organization_id), "agent": agent}
    return _caller(await api.call("find_caller_by_user", parameters))


def _caller(rows: list[dict[str, str | float | None]]) -> Caller | None:
    if not rows:
        return None
    row = rows[0]
    return Caller(
        organization_id=UUID(str(row["organization_id"])),
        agent_id=UUID(str(row["agent_id"])),
        api_key_id=UUID(str(row["api_key_id"])) if row["api_key_id"] else None,
        user_id=UUID(str(row["user_id"])) if row["user_id"] else None,
        default_floor=float(row["default_floor"] or 0),
        default_max_output_tokens=int(row["default_max_output_tokens"] or 0),
        baseline_model=str(row["baseline_model"]) if row["baseline_model"] else None,
    )
