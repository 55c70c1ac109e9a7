-- Adoption of an earlier database: how its orphans are repaired.
--
-- An orphan is a finished outcome that chose a model (`cheapest_clearing_floor`) and names no inference. It is linked
-- if exactly one inference matches it, else its rule is overridden: `legacy_unlinked` if it succeeded,
-- `failed_pre_dispatch` if not. No inference is made or changed. docs/adoption.md has the rule of matching in full.
--
-- Locks nothing that exists. The function stays after the adoption: it does nothing where there is no orphan.
set lock_timeout = '4s';
set statement_timeout = '60s';

create schema if not exists private;

revoke all on schema private from public;

-- Which inference could belong to which outcome without one. The outcomes are not only the orphans: an open one, or one
-- whose rule was overridden before, has as good a claim to an inference that looks like its own.
create view private.legacy_matches with (security_invoker = true) as
select
    outcome.id as outcome_id,
    inference.id as inference_id,
    'names it' as likeness
from public.routing_outcomes as outcome
inner join public.inferences as inference
    on outcome.id = inference.routing_outcome_id and outcome.organization_id = inference.organization_id
where outcome.inference_id is null
union all
select
    outcome.id,
    inference.id,
    'looks like its own'
from public.routing_outcomes as outcome
inner join public.inferences as inference
    on outcome.organization_id = inference.organization_id
    and outcome.selected_model = inference.model
    and inference.created_at between outcome.created_at and outcome.created_at + interval '2 minutes'
    and coalesce((outcome.outcome_status = 'succeeded') = (inference.status = 'succeeded'), true)
where outcome.inference_id is null
    and inference.routing_outcome_id is null
    and not exists (
        select from public.inferences as named
        where named.routing_outcome_id = outcome.id and named.organization_id = outcome.organization_id
    );

comment on view private.legacy_matches is
'Inferences that could belong to outcomes that name none: those that name the outcome, or else look like its own.';

-- Repairs up to `batch_size` orphans, keeps each as it was in the repair table, and returns how many. Whether an outcome
-- is linked depends neither on the size of the batches nor on their order.
create function private.repair_orphans(batch_size integer) returns integer
language sql volatile security invoker set search_path = '' as $$
    with orphan as (
        select * from public.routing_outcomes
        where outcome_status is not null and decision_rule = 'cheapest_clearing_floor' and inference_id is null
        order by id
        limit batch_size
        for no key update
    ),
    finding as (
        select orphan.id as outcome_id, count(match.inference_id) as matches,
            (array_agg(match.inference_id))[1] as inference_id, min(match.likeness) as likeness
        from orphan left join private.legacy_matches as match on orphan.id = match.outcome_id
        group by orphan.id
    ),
    verdict as (
        select finding.*, finding.matches = 1
            and not exists (select from public.routing_outcomes where inference_id = finding.inference_id)
            and not exists (
                select from private.legacy_matches as rival
                where rival.inference_id = finding.inference_id and rival.outcome_id <> finding.outcome_id
            ) as is_linked
        from finding
    ),
    kept as (
        insert into public._repair_20260528_save_error (outcome_id, original, note)
        select orphan.id, to_jsonb(orphan), case
            when verdict.is_linked then 'linked: one inference ' || verdict.likeness
            when verdict.matches = 0 then 'not linked: no inference matches'
            when verdict.matches = 1 then 'not linked: the inference that matches may be another outcome''s'
            else format('not linked: %s inferences match', verdict.matches)
        end
        from orphan inner join verdict on orphan.id = verdict.outcome_id
    ),
    repaired as (
        update public.routing_outcomes as outcome
        set
            inference_id = case when verdict.is_linked then verdict.inference_id end,
            decision_rule = case
                when verdict.is_linked then outcome.decision_rule
                when outcome.outcome_status = 'succeeded' then 'legacy_unlinked'
                else 'failed_pre_dispatch'
            end
        from verdict
        where outcome.id = verdict.outcome_id
        returning 1
    )
    select count(*)::integer from repaired
$$;

comment on function private.repair_orphans is
'Links or overrides up to batch_size orphans of the time before the adoption.';

revoke all on private.legacy_matches from public, anon, authenticated, service_role;
revoke execute on function private.repair_orphans(integer) from public, anon, authenticated, service_role;
