"""Fills the record with completed decisions, in the database, as old ones would lie there."""

import json
import time

from bench.world import BOUND_NANO_USD, Tenant, World, routing_request, scored

DAYS = 100
_CHUNK_ROWS = 100_000

# A UUIDv7 of a moment: rows lie in the order of time, as the backend makes them.
_ID_AT = """
create schema if not exists bench;
create or replace function bench.id_at(moment timestamptz) returns uuid language sql volatile as $$
    select (
        lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0')
        || '7' || substr(random_hex, 1, 3) || '8' || substr(random_hex, 4, 15)
    )::uuid
    from (select replace(gen_random_uuid()::text, '-', '') as random_hex) as chance
$$;
grant usage on schema bench to service_role;
"""

# Keys are not checked again for rows made to fit, which halves the time.
_FILL = """
with tenant as (
    select organization_id::uuid, agent_id::uuid, ordinality - 1 as number
    from unnest(%(organizations)s::text[], %(agents)s::text[]) with ordinality as t (organization_id, agent_id)
),
moment as (
    select
        bench.id_at(opened_at) as id, bench.id_at(opened_at) as inference_id, opened_at,
        -- One tenant has half of everything.
        case when number %% 2 = 0 then 0 else number / 2 %% %(tenants)s end as tenant_number
    from (
        select number, now() - interval '1 hour'
            - %(days)s * interval '1 day' * (1 - number::double precision / %(rows)s) as opened_at
        from generate_series(%(first)s::bigint, %(last)s) as number
    ) as numbered
),
decision as (
    select moment.id, inference_id, opened_at, organization_id, agent_id
    from moment inner join tenant on tenant.number = moment.tenant_number
),
attempt as (
    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id,
        bound_nano_usd, status, opened_at, finished_at, http_calls, http_status, provider_request_id,
        first_content_milliseconds, duration_milliseconds, input_tokens, output_tokens, usage_source, usage_convention,
        reported_usage, cost_nano_usd
    )
    select
        inference_id, organization_id, id, 1, %(candidate)s, 'simulated', 'sim-medium', %(price)s, %(bound)s,
        'succeeded', opened_at, opened_at + interval '1 second', 1, 200, 'req_0123456789ab', 200, 900, 500, 120,
        'provider', 'openai', '{"prompt_tokens": 900, "completion_tokens": 120}', 98000
    from decision
),
outcome as (
    insert into public.routing_outcomes (
        id, organization_id, agent_id, opened_at, completed_at, lease_expires_at, requested_model, requested_rule,
        decision_rule, outcome_status, inference_id, floor, task, stream, catalogue_version, routing_request,
        candidates, reserved_nano_usd, charge_nano_usd
    )
    select
        id, organization_id, agent_id, opened_at, opened_at + interval '1 second', opened_at + interval '10 minutes',
        'auto', 'cheapest_clearing_floor', 'cheapest_clearing_floor', 'succeeded', inference_id, 0.7, 'general',
        false, %(version)s, %(request)s::jsonb, %(scored)s::jsonb, %(bound)s, 98000
    from decision
),
used as (
    insert into public.usage_hours as usage (
        organization_id, hour, agent_id, outcome_status, model, provider, task, decisions, attempts, input_tokens,
        output_tokens, charge_nano_usd
    )
    select
        organization_id, date_trunc('hour', opened_at, 'UTC'), agent_id, 'succeeded', 'sim-medium', 'simulated',
        'general', count(*), count(*), 500 * count(*), 120 * count(*), 98000 * count(*)
    from decision
    group by 1, 2, 3
    on conflict (organization_id, hour, agent_id, outcome_status, model, provider, task) do update set
        decisions = usage.decisions + excluded.decisions,
        attempts = usage.attempts + excluded.attempts,
        input_tokens = usage.input_tokens + excluded.input_tokens,
        output_tokens = usage.output_tokens + excluded.output_tokens,
        charge_nano_usd = usage.charge_nano_usd + excluded.charge_nano_usd
)
insert into public.ledger_entries (
    id, organization_id, kind, debit_account, credit_account, amount_nano_usd, routing_outcome_id, agent_id, opened_at,
    created_at
)
select id, organization_id, 'settlement', 'wallet', 'usage', 98000, id, agent_id, opened_at, opened_at from decision
"""


def fill(world: World, tenants: list[Tenant], rows: int) -> float:
    """Insert ``rows`` completed decisions over the last :data:`DAYS` days; return the seconds it took."""
    candidate_id, price_id = world.candidates[0]
    started = time.perf_counter()
    with world.superuser() as connection:
        connection.execute(_ID_AT)
        connection.execute("set session_replication_role = replica")
        for first in range(1, rows + 1, _CHUNK_ROWS):
            parameters = {
                "organizations": [str(tenant.organization_id) for tenant in tenants],
                "agents": [str(tenant.agent_id) for tenant in tenants],
                "tenants": len(tenants),
                "days": DAYS,
                "rows": rows,
                "first": first,
                "last": min(rows, first + _CHUNK_ROWS - 1),
                "candidate": candidate_id,
                "price": price_id,
                "bound": BOUND_NANO_USD,
                "version": world.catalogue_version,
                "request": json.dumps(routing_request()),
                "scored": json.dumps([scored(*pair) for pair in world.candidates]),
            }
            connection.execute(_FILL, parameters)
        connection.execute("vacuum (analyze)")
    return time.perf_counter() - started
