-- The record: decisions (routing_outcomes), their attempts (inferences), the cooldowns that attempts leave behind, and what
-- makes a repeated request one: idempotency keys and the answers stored for them.
--
-- Written by the functions of clearfloor_writer only; members read their organization's rows.
-- Plain tables with retention in bounded batches: docs/decisions/0001 has the figures.
--
-- Postgres parses every CHECK of a table anew at each statement that writes to it, a fifth of what a decision alone costs. So a
-- closed set is one array literal, and ranges without a name of their own in the design stand together: 6 % less.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.routing_outcomes (
    id uuid primary key,
    organization_id uuid not null,
    agent_id uuid not null,
    api_key_id uuid,
    user_id uuid,
    opened_at timestamptz not null default now(),
    completed_at timestamptz,
    lease_expires_at timestamptz not null,
    requested_model text not null,
    requested_rule text not null
    constraint routing_outcomes_requested_rule_check
    check (requested_rule = any('{cheapest_clearing_floor,best_effort,exploration,pinned_model}')),
    decision_rule text not null
    constraint routing_outcomes_decision_rule_check
    check (
        decision_rule
        = any(
            '{cheapest_clearing_floor,best_effort,exploration,pinned_model,failed_pre_dispatch,no_candidate_cleared_floor}'
        )
    ),
    outcome_status text
    constraint routing_outcomes_outcome_status_check
    check (
        outcome_status = any(
            '{succeeded,failed_provider_error,failed_other,cancelled,abandoned,rejected_cap,rejected_funds,rejected_rate,'
            'rejected_inactive,rejected_key,rejected_no_candidate}'
        )
    ),
    inference_id uuid,
    floor double precision constraint routing_outcomes_floor_check check (floor between 0 and 1),
    task text not null,
    stream boolean not null,
    catalogue_version bigint not null references public.catalogue_snapshots (version),
    routing_request jsonb not null,
    candidates jsonb not null,
    passed_over jsonb not null default '[]',
    refusal jsonb,
    reserved_nano_usd bigint not null default 0,
    charge_nano_usd bigint,
    operator_loss_nano_usd bigint not null default 0,
    metered_tokens bigint not null default 0,
    dearest_price_id uuid,
    dearest_cost_nano_usd bigint,
    baseline_price_id uuid,
    baseline_cost_nano_usd bigint,
    swept_at timestamptz,
    constraint routing_outcomes_organization_id_id_key unique (organization_id, id),
    constraint routing_outcomes_one_caller_check check (num_nonnulls(api_key_id, user_id) <= 1),
    constraint routing_outcomes_agent_fkey
    foreign key (organization_id, agent_id) references public.agents (organization_id, id),
    constraint routing_outcomes_amounts_check
    check (least(reserved_nano_usd, operator_loss_nano_usd, metered_tokens) >= 0),
    constraint routing_outcomes_charge_check check (charge_nano_usd between 0 and reserved_nano_usd),
    constraint routing_outcomes_completed_together_check
    check (
        (outcome_status is null) = (completed_at is null) and (outcome_status is null) = (charge_nano_usd is null)
    ),
    -- What outcome_requires_inference_when_model_chosen leaves open: the rules other than its own.
    constraint routing_outcomes_inference_matches_rule_check
    check (
        outcome_status is null
        or (inference_id is null) = (decision_rule = any('{failed_pre_dispatch,no_candidate_cleared_floor}'))
    ),
    constraint routing_outcomes_succeeded_has_inference_check
    check (outcome_status is distinct from 'succeeded' or inference_id is not null)
);

create index routing_outcomes_opened_at_idx on public.routing_outcomes (organization_id, opened_at);
create index routing_outcomes_agent_idx on public.routing_outcomes (organization_id, agent_id, id);
create index routing_outcomes_open_idx on public.routing_outcomes (lease_expires_at) where outcome_status is null;

comment on table public.routing_outcomes is
'Decisions: one caller request each, and what routing made of it. Open while outcome_status is null.';
comment on column public.routing_outcomes.api_key_id is
'The key that called, or null for a user''s token. No foreign key, as for user_id: the record outlives both.';
comment on column public.routing_outcomes.requested_rule is 'The rule at the opening. Never changed.';
comment on column public.routing_outcomes.decision_rule is
'Starts as requested_rule; an override says that no attempt was made, and why.';
comment on column public.routing_outcomes.inference_id is 'The attempt that carried the decision out: the last one really made.';
comment on column public.routing_outcomes.routing_request is
'What routing was asked, as it was asked; with catalogue_version enough to compute the ranking again.';
comment on column public.routing_outcomes.candidates is
'The ranking: every candidate with quality, expected cost and bound, or the reason why it was rejected.';
comment on column public.routing_outcomes.passed_over is
'Candidates that might have been called and were not, in the order of their turn, each with the reason: cooling down, no '
'credentials. Says why a dearer one answered.';
comment on column public.routing_outcomes.refusal is
'Why the decision was refused: for a cap or funds the limit, what is spent, held and needed, and when it resets.';
comment on column public.routing_outcomes.reserved_nano_usd is
'What was set aside: the most the tenant can be charged. Held in the wallet while the decision is open.';

comment on column public.routing_outcomes.operator_loss_nano_usd is
'What the tenant owed and had no more when the completion came, after the sweep had released the reservation.';
comment on column public.routing_outcomes.metered_tokens is
'Tokens taken from the rate limits at the opening. What was not used of them is given back at the completion.';
comment on column public.routing_outcomes.dearest_cost_nano_usd is
'What the tokens of the linked attempt would have cost at dearest_price_id, the price of the dearest candidate that cleared. '
'Likewise baseline_cost_nano_usd, at that of the agent''s baseline model. No foreign keys: price versions are never deleted.';
comment on column public.routing_outcomes.swept_at is
'When the sweep found its lease run out. A completion that comes later still says what became of it.';

create table public.inferences (
    id uuid primary key,
    organization_id uuid not null,
    routing_outcome_id uuid not null,
    attempt_number bigint not null,
    candidate_id uuid not null,
    provider text not null,
    model text not null,
    price_id uuid not null,
    bound_nano_usd bigint not null,
    status text not null default 'open'
    constraint inferences_status_check
    check (status = any('{open,succeeded,failed,cut,cancelled,not_sent,abandoned}')),
    opened_at timestamptz not null default now(),
    finished_at timestamptz,
    output_limit_tokens bigint,
    http_calls bigint not null default 0,
    http_status bigint,
    error_class text,
    error_message text,
    retry_after_seconds double precision,
    provider_request_id text,
    first_content_milliseconds bigint,
    duration_milliseconds bigint,
    input_tokens bigint not null default 0,
    cache_read_tokens bigint not null default 0,
    cache_write_tokens bigint not null default 0,
    cache_write_1h_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    reasoning_tokens bigint not null default 0,
    usage_source text not null default 'none'
    constraint inferences_usage_source_check check (usage_source = any('{provider,estimate,none}')),
    usage_convention text,
    reported_usage jsonb,
    cost_nano_usd bigint not null default 0,
    overrun_nano_usd bigint not null generated always as (greatest(cost_nano_usd - bound_nano_usd, 0)) stored,
    constraint inferences_routing_outcome_id_id_key unique (routing_outcome_id, id),
    constraint inferences_attempt_key unique (organization_id, routing_outcome_id, attempt_number),
    constraint inferences_routing_outcome_fkey
    foreign key (organization_id, routing_outcome_id) references public.routing_outcomes (organization_id, id),
    constraint inferences_amounts_check
    check (
        attempt_number > 0 and least(bound_nano_usd, http_calls, cost_nano_usd) >= 0 and bound_nano_usd <= 10000000000000000
    ),
    -- At most 10^9, which is more than any call can use, so that no cost overflows.
    constraint inferences_tokens_check
    check (
        least(
            input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens
        ) >= 0
        and greatest(
            input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens
        ) <= 1000000000
    ),
    constraint inferences_finished_together_check check ((status = 'open') = (finished_at is null)),
    constraint inferences_succeeded_has_usage_check check (status <> 'succeeded' or usage_source <> 'none'),
    constraint inferences_reported_usage_check
    check (
        (usage_source = 'provider') = (reported_usage is not null)
        and (usage_source = 'provider') = (usage_convention is not null)
    )
)
-- Room on the page for the completion, which then writes no index.
with (fillfactor = 50);

comment on table public.inferences is
'Attempts: one call to one candidate under a decision, written before the call under an id made beforehand.';
comment on column public.inferences.price_id is
'No foreign key, nor for candidate_id: both are looked up when the attempt is opened, a price is never deleted, and a candidate '
'that has one cannot be. Two keys took 20 us an attempt, and an index each.';
comment on column public.inferences.provider is 'As it was named at the time; the candidate may be renamed later.';
comment on column public.inferences.status is
'cut: broke after content had reached the caller. not_sent: opened, but no call was made. '
'abandoned: its process went away; the provider may still bill it.';
comment on column public.inferences.output_limit_tokens is
'The output limit that the provider was sent: less than what was asked for where the caller lets it be clamped.';
comment on column public.inferences.http_calls is 'HTTP calls made: more than one where a 429 was retried.';
comment on column public.inferences.input_tokens is
'Token classes are disjoint: input without cache reads and writes, output without reasoning.';
comment on column public.inferences.reported_usage is
'What the provider reported, as it did; usage_convention is how that was read.';
comment on column public.inferences.first_content_milliseconds is
'To the first content of a stream; null for a plain answer, which comes as a whole.';
comment on column public.inferences.cost_nano_usd is
'What the provider charges for the tokens at this attempt''s price version, rounded up once.';
comment on column public.inferences.overrun_nano_usd is 'What the provider charged beyond the bound: the operator bears it.';

-- The way back: a decision names one of its own attempts, or none.
alter table public.routing_outcomes add constraint routing_outcomes_inference_fkey
foreign key (id, inference_id) references public.inferences (routing_outcome_id, id);

create table public.candidate_cooldowns (
    candidate_id uuid primary key references public.candidates (id),
    until timestamptz not null,
    reason text not null
);

comment on table public.candidate_cooldowns is
'Until when a candidate is left alone after a failure: written with the attempt that failed, never shortened. '
'Shared by all backends. Backend only.';

create table public.idempotency_keys (
    agent_id uuid not null,
    key text not null constraint idempotency_keys_key_check check (length(key) between 1 and 255),
    organization_id uuid not null,
    body_hash bytea not null constraint idempotency_keys_body_hash_check check (octet_length(body_hash) = 32),
    routing_outcome_id uuid not null,
    expires_at timestamptz not null,
    primary key (agent_id, key),
    constraint idempotency_keys_agent_fkey
    foreign key (organization_id, agent_id) references public.agents (organization_id, id) on delete cascade
);

create index idempotency_keys_agent_idx on public.idempotency_keys (organization_id, agent_id);
create index idempotency_keys_expires_at_idx on public.idempotency_keys (expires_at);

comment on table public.idempotency_keys is
'Idempotency-Keys of agents'' requests, each with the decision that claimed it and the SHA-256 of the body. Backend only.';
comment on column public.idempotency_keys.routing_outcome_id is 'No foreign key, as below: both go by their own time.';

create table public.stored_answers (
    routing_outcome_id uuid primary key,
    organization_id uuid not null references public.organizations (id),
    content text not null,
    expires_at timestamptz not null
);

create index stored_answers_organization_id_idx on public.stored_answers (organization_id);
create index stored_answers_expires_at_idx on public.stored_answers (expires_at);

comment on table public.stored_answers is
'Answers to requests with an Idempotency-Key, of organizations that ask for it. Encrypted by the backend, whose key is not '
'in the database. Backend only.';

revoke all on public.routing_outcomes, public.inferences, public.candidate_cooldowns, public.idempotency_keys,
public.stored_answers
from anon, authenticated, service_role;

grant select on public.routing_outcomes, public.inferences to authenticated, service_role;
grant select on public.candidate_cooldowns to service_role;
grant select, insert, update on public.routing_outcomes, public.inferences, public.candidate_cooldowns
to clearfloor_writer;
grant select, insert, update, delete on public.idempotency_keys, public.stored_answers to clearfloor_writer;

alter table public.idempotency_keys enable row level security;
alter table public.stored_answers enable row level security;
alter table public.routing_outcomes enable row level security;
alter table public.inferences enable row level security;
alter table public.candidate_cooldowns enable row level security;

create policy routing_outcomes_select_member on public.routing_outcomes for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy inferences_select_member on public.inferences for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));
