-- Feedback on answers, and what it adds up to: of each model and task class two sums, from which rates are published.
--
-- A score, 0 to 1, counts for every class that the request may have been of, by its probability. Sums fade: what is known of
-- a model halves with every half-life. Availability is never quality: only answers that succeeded are rated, so that a 500, a
-- time-out, or a stream that broke or was left moves nothing. docs/decisions/0020 says more.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.learning (
    id boolean primary key default true constraint learning_one_row_check check (id),
    half_life_days double precision not null default 28
    constraint learning_half_life_days_check check (half_life_days between 1 and 3650),
    prior_strength double precision not null default 12
    constraint learning_prior_strength_check check (prior_strength between 0.1 and 10000),
    most_sources bigint not null default 3 constraint learning_most_sources_check check (most_sources between 1 and 1000),
    sampled_attempts bigint not null default 20000
    constraint learning_sampled_attempts_check check (sampled_attempts between 0 and 1000000)
);

comment on table public.learning is
'How rates are learned, in one row, so that every backend and job does it alike. Backend only; changed by the tables'' owner.';
comment on column public.learning.half_life_days is 'After so many days feedback counts half.';
comment on column public.learning.prior_strength is
'How many feedbacks the expected quality of the catalogue is worth, beside what was learned.';
comment on column public.learning.most_sources is 'How many sources may rate one decision.';
comment on column public.learning.sampled_attempts is 'The newest so many attempts say how long answers are.';

insert into public.learning default values;

create table public.feedback (
    routing_outcome_id uuid not null,
    source text not null
    constraint feedback_source_check check (source ~ '^(agent|user:[0-9a-f-]{36}|checker:[a-z0-9_.-]{1,40})$'),
    organization_id uuid not null references public.organizations (id),
    agent_id uuid not null,
    model text not null,
    task text not null,
    floor double precision,
    predicted double precision,
    floor_cleared boolean,
    score double precision not null constraint feedback_score_check check (score between 0 and 1),
    api_key_id uuid,
    user_id uuid,
    created_at timestamptz not null default clock_timestamp(),
    primary key (routing_outcome_id, source),
    constraint feedback_one_giver_check check (num_nonnulls(api_key_id, user_id) = 1)
);

create index feedback_organization_id_created_at_idx on public.feedback (organization_id, created_at);
create index feedback_created_at_idx on public.feedback (created_at);

comment on table public.feedback is 'How good answers were, once by each source. Never changed.';
comment on column public.feedback.routing_outcome_id is
'The decision whose answer is rated. No foreign key, nor for agents, keys and users: feedback outlives the record.';
comment on column public.feedback.source is
'agent; user:<id> for a member; checker:<name> for a program that checks answers and has the agent''s key.';
comment on column public.feedback.model is 'Who answered. As task (the most probable class) and floor as the decision has it.';
comment on column public.feedback.predicted is 'The quality that was expected of this candidate at the time. Null: none was known.';
comment on column public.feedback.floor_cleared is
'Whether this candidate was expected to clear the floor: by its quality, or by what that is at least where the caller was strict. '
'False: it was the best there was, or explored. Null: there was no floor.';
comment on column public.feedback.score is '0: useless, 1: as good as can be.';
comment on column public.feedback.api_key_id is 'The key that gave it, else user_id the member.';

create table public.quality_sums (
    model text not null,
    task text not null,
    successes double precision not null,
    trials double precision not null,
    decayed_to timestamptz not null,
    primary key (model, task),
    constraint quality_sums_range_check check (successes >= 0 and trials >= 0)
);

comment on table public.quality_sums is 'What feedback adds up to, by model and task class. Backend only.';
comment on column public.quality_sums.successes is 'The sum of score times probability of the class, as it counted at decayed_to.';
comment on column public.quality_sums.trials is 'The sum of the probabilities of the class. Likewise.';

revoke all on public.learning, public.feedback, public.quality_sums from anon, authenticated, service_role;

grant select on public.feedback to authenticated;
grant select on public.learning, public.feedback, public.quality_sums to service_role;
grant select on public.learning to clearfloor_writer;
grant select, insert on public.feedback to clearfloor_writer;
grant select, insert, update on public.quality_sums to clearfloor_writer;

alter table public.learning enable row level security;
alter table public.feedback enable row level security;
alter table public.quality_sums enable row level security;

create policy feedback_select_member on public.feedback for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create trigger feedback_refuse_change before update or delete on public.feedback
for each row execute function private.refuse_change('What was learned from it is not unlearned; it fades with time.');

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- What an amount of one moment counts at a later one. At an earlier one it counts whole. What no longer matters is nothing,
-- before floating point refuses to tell it from nothing.
create function private.decayed(
    amount double precision, counted_at timestamptz, moment timestamptz, half_life_days double precision
) returns double precision
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    half_lives constant double precision :=
        greatest(extract(epoch from moment - counted_at), 0) / (half_life_days * 86400);
begin
    return case when amount < 1e-9 or half_lives > 64 then 0 else amount * power(2, -half_lives) end;
end
$$;

-- The classes that a decision's request may have been of; one that knows no probabilities was of its task's.
create function private.posterior_of(decision public.routing_outcomes)
returns table (task text, probability double precision)
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select likely.pair ->> 0, (likely.pair ->> 1)::double precision
        from jsonb_array_elements(coalesce(
            nullif(decision.routing_request -> 'posterior', '[]'), jsonb_build_array(jsonb_build_array(decision.task, 1))
        )) as likely (pair);
end
$$;

-- Adds a score of a moment to the sums of the model. Rows are locked in the order of the classes, so that feedbacks that meet
-- wait for each other and nothing worse. One that was given first may come second: whichever is older fades.
create function private.learn(decision public.routing_outcomes, model text, score double precision, moment timestamptz)
returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    half_life constant double precision := (select half_life_days from public.learning);
begin
    insert into public.quality_sums as kept (model, task, successes, trials, decayed_to)
    select learn.model, likely.task, likely.probability * learn.score, likely.probability, learn.moment
    from private.posterior_of(decision) as likely
    where likely.probability > 0
    order by likely.task
    on conflict on constraint quality_sums_pkey do update
    set
        successes = private.decayed(kept.successes, kept.decayed_to, excluded.decayed_to, half_life)
            + private.decayed(excluded.successes, excluded.decayed_to, kept.decayed_to, half_life),
        trials = private.decayed(kept.trials, kept.decayed_to, excluded.decayed_to, half_life)
            + private.decayed(excluded.trials, excluded.decayed_to, kept.decayed_to, half_life),
        decayed_to = greatest(kept.decayed_to, excluded.decayed_to);
end
$$;

-- The decision that is to be rated, locked, so that its sources come one after the other. A null agent is any of the organization's.
create function private.rated_decision(decision_id uuid, organization_id uuid, agent_id uuid) returns public.routing_outcomes
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    decision public.routing_outcomes;
begin
    select * into decision from public.routing_outcomes as kept
    where kept.id = rated_decision.decision_id
        and kept.organization_id is not distinct from rated_decision.organization_id
        and (rated_decision.agent_id is null or kept.agent_id = rated_decision.agent_id)
    for no key update;
    if decision.id is null then
        raise exception 'There is no decision % of yours; no feedback was kept.', decision_id using errcode = 'PT404';
    elsif decision.completed_at is null then
        raise exception 'The decision % is still open; no feedback was kept.', decision_id
        using errcode = 'PT409', hint = 'Come back when it is completed.';
    elsif decision.outcome_status <> 'succeeded' then
        raise exception 'The decision % ended as `%`, which says nothing of quality; no feedback was kept.', decision_id,
        decision.outcome_status
        using errcode = 'PT409', hint = 'Rate answers that succeeded.';
    end if;
    return decision;
end
$$;

create function private.source_of(user_id uuid, checker text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return case
        when user_id is not null then 'user:' || user_id
        when checker is not null then 'checker:' || checker
        else 'agent'
    end;
end
$$;

create function public.record_feedback(
    decision_id uuid, organization_id uuid, agent_id uuid, api_key_id uuid, user_id uuid, checker text,
    score double precision
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    decision constant public.routing_outcomes := private.rated_decision(decision_id, organization_id, agent_id);
    given_by constant text := private.source_of(user_id, checker);
    rated public.inferences;
    expected jsonb;
    given public.feedback;
begin
    select * into given from public.feedback as kept where kept.routing_outcome_id = decision.id and kept.source = given_by;
    if given.score <> record_feedback.score then
        raise exception 'The source `%` has rated the decision % with %; no other feedback was kept.', given_by, decision_id,
        given.score
        using errcode = 'PT409', hint = 'A source rates a decision once.';
    elsif given.score is not null then
        return to_jsonb(given);
    elsif
        (select count(*) from public.feedback as kept where kept.routing_outcome_id = decision.id)
        >= (select most_sources from public.learning)
    then
        raise exception 'The decision % has been rated by as many sources as may; no feedback was kept.', decision_id
        using errcode = 'PT409', hint = 'Their number is the operator''s to set.';
    end if;
    select * into rated from public.inferences as attempt where attempt.id = decision.inference_id;
    select candidate into expected from jsonb_array_elements(decision.candidates) as candidate
    where candidate ->> 'candidate_id' = rated.candidate_id::text
    limit 1;
    insert into public.feedback (
        routing_outcome_id, source, organization_id, agent_id, model, task, floor, predicted, floor_cleared, score,
        api_key_id, user_id
    ) values (
        decision.id, given_by, decision.organization_id, decision.agent_id, rated.model, decision.task, decision.floor,
        (expected ->> 'quality')::double precision,
        case when decision.floor is not null then expected -> 'rejected' = 'null' end,
        record_feedback.score, record_feedback.api_key_id, record_feedback.user_id
    ) returning * into given;
    perform private.learn(decision, given.model, given.score, given.created_at);
    return to_jsonb(given);
end
$$;

comment on function public.record_feedback is
'Keeps what a source says of a decision''s answer, and learns from it; returns the row. Again with the same score it is the '
'same. By a key of the agent, a member (any agent of its organization: agent_id null), or a checker with the agent''s key.';

grant execute on function public.record_feedback(uuid, uuid, uuid, uuid, uuid, text, double precision) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
