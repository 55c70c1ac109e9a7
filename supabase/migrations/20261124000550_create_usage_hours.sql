-- What each hour used: counters beside the record, so that usage is read without reading decisions, and is still known when
-- retention has deleted them.
--
-- Written by the functions that complete decisions, in their transactions and under the wallet's lock that they hold anyway:
-- exact at every moment, and no job computes anything: docs/decisions/0017.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.usage_hours (
    organization_id uuid not null references public.organizations (id),
    hour timestamptz not null,
    agent_id uuid not null,
    outcome_status text not null,
    model text not null default '',
    provider text not null default '',
    task text not null,
    decisions bigint not null,
    attempts bigint not null default 0,
    input_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    cache_write_1h_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    reasoning_tokens bigint not null default 0,
    charge_nano_usd bigint not null default 0,
    dearest_decisions bigint not null default 0,
    dearest_cost_nano_usd bigint not null default 0,
    baseline_decisions bigint not null default 0,
    baseline_cost_nano_usd bigint not null default 0,
    saved_nano_usd bigint not null default 0,
    primary key (organization_id, hour, agent_id, outcome_status, model, provider, task)
)
-- Room on the page for the next versions of its rows, which write no index then. No CHECK, which every batch would parse:
-- gateway_invariants() holds the counters against the record.
with (fillfactor = 50);

comment on table public.usage_hours is
'What the completed decisions that were opened in a UTC hour used, by agent, outcome, task class and the model that answered.';
comment on column public.usage_hours.agent_id is 'No foreign key: usage outlives the record, and the agent may be deleted then.';
comment on column public.usage_hours.model is 'Of the attempt that the decision names; empty, as the provider, where none was made.';
comment on column public.usage_hours.task is 'The most probable task class.';
comment on column public.usage_hours.attempts is 'All that were made, also those that failed before another answered.';
comment on column public.usage_hours.input_tokens is 'Of the attempts that decisions name: the tokens that the charge is for.';
comment on column public.usage_hours.dearest_decisions is
'Of how many of the decisions dearest_cost_nano_usd is known, and summed. Likewise baseline_decisions.';
comment on column public.usage_hours.saved_nano_usd is 'Baseline less charge, of the decisions whose baseline is known.';

revoke all on public.usage_hours from anon, authenticated, service_role;

grant select on public.usage_hours to authenticated, service_role;
grant select, insert, update on public.usage_hours to clearfloor_writer;

alter table public.usage_hours enable row level security;

create policy usage_hours_select_member on public.usage_hours for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));
