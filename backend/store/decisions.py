"""Reads decisions back: as a member under row level security, or with an agent's key, its own."""

from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient

from backend.store.client import execute

_DECISION = (
    "id,agent_id,opened_at,completed_at,requested_model,requested_rule,decision_rule,outcome_status,inference_id,"
    "floor,task,stream,catalogue_version,passed_over,refusal,reserved_nano_usd,charge_nano_usd,operator_loss_nano_usd,"
    "dearest_cost_nano_usd,baseline_cost_nano_usd,swept_at"
)
_ATTEMPTS = (
    "attempts:inferences!inferences_routing_outcome_fkey(id,attempt_number,candidate_id,provider,model,price_id,status,"
    "opened_at,finished_at,provider_request_id,output_limit_tokens,"
    "http_calls,http_status,error_class,error_message,retry_after_seconds,first_content_milliseconds,duration_milliseconds,"
    "input_tokens,cache_read_tokens,cache_write_tokens,cache_write_1h_tokens,output_tokens,reasoning_tokens,usage_source,"
    "usage_convention,reported_usage,bound_nano_usd,"
    "cost_nano_usd,overrun_nano_usd)"
)


async def list_decisions(
    client: AsyncPostgrestClient,
    organization_id: UUID,
    agent_id: UUID | None,
    *,
    limit: int,
    before: UUID | None,
) -> list[dict[str, Any]]:
    """Return up to ``limit`` decisions, newest first, those before the id ``before`` if one is given.

    Raises:
        StoreUnavailableError: the record cannot be reached now.
    """
    query = client.from_("routing_outcomes").select(_DECISION).eq("organization_id", str(organization_id))
    if agent_id:
        query = query.eq("agent_id", str(agent_id))
    if before:
        query = query.lt("id", str(before))
    rows: list[dict[str, Any]] = await execute(query.order("id", desc=True).limit(limit))
    return rows


async def find_decision(
    client: AsyncPostgrestClient, organization_id: UUID, agent_id: UUID | None, decision_id: UUID
) -> dict[str, Any] | None:
    """Return a decision with its attempts in order and its candidates, or None.

    Raises:
        StoreUnavailableError: the record cannot be reached now.
    """
    query = (
        client.from_("routing_outcomes")
        .select(f"{_DECISION},routing_request,candidates,{_ATTEMPTS}")
        .eq("organization_id", str(organization_id))
        .eq("id", str(decision_id))
    )
    if agent_id:
        query = query.eq("agent_id", str(agent_id))
    rows: list[dict[str, Any]] = await execute(query.order("attempt_number", foreign_table="attempts"))
    return rows[0] if rows else None
