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

-- Repairs up to `batch_size` orphans, keeps each as it was in the repair table, and returns how many. Whether an outcome
-- is linked depends neither on the size of the batches nor on their order.
--
-- Each orphan's inferences are looked up by index: as a join of the two tables a call took 80 s with 400,000 outcomes.
create function private.repair_orphans(batch_size integer) returns integer
language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
    with orphan as (
        select *, outcome_status = 'succeeded' as is_success
        from public.routing_outcomes
        where outcome_status is not null and decision_rule = 'cheapest_clearing_floor' and inference_id is null
        order by id
        limit batch_size
        for no key update
    ),
    finding as (
        select orphan.id as outcome_id, count(match.inference_id) as matches,
            (array_agg(match.inference_id))[1] as inference_id, min(match.likeness) as likeness,
            min(match.created_at) as created_at
        from orphan
        left join lateral (
            select inference.id as inference_id, 'names it' as likeness, inference.created_at
            from public.inferences as inference
            where inference.routing_outcome_id = orphan.id and inference.organization_id = orphan.organization_id
                and (inference.status = 'succeeded') = orphan.is_success
            union all
            -- What names nobody, of the same model and shortly after. Likeness is not asked where something names it.
            select inference.id, 'looks like its own', inference.created_at
            from public.inferences as inference
            where inference.organization_id = orphan.organization_id
                and inference.created_at between orphan.created_at and orphan.created_at + interval '2 minutes'
                and inference.model = orphan.selected_model and inference.routing_outcome_id is null
                and (inference.status = 'succeeded') = orphan.is_success
                and not exists (
                    select from public.inferences as named
                    where named.routing_outcome_id = orphan.id and named.organization_id = orphan.organization_id
                )
        ) as match on true
        group by orphan.id
    ),
    verdict as (
        select finding.outcome_id, finding.inference_id, finding.matches, finding.likeness, finding.matches = 1
            and not exists (select from public.routing_outcomes where inference_id = finding.inference_id)
            and (finding.likeness = 'names it' or not exists (
                -- A rival: another outcome without an inference that the same one looks like. Not only orphans are: an
                -- open one, or one whose rule was overridden before, has as good a claim.
                select from public.routing_outcomes as rival
                where rival.organization_id = orphan.organization_id and rival.id <> orphan.id
                    and rival.created_at between finding.created_at - interval '2 minutes' and finding.created_at
                    and rival.selected_model = orphan.selected_model and rival.inference_id is null
                    and coalesce((rival.outcome_status = 'succeeded') = orphan.is_success, true)
                    and not exists (
                        select from public.inferences as named
                        where named.routing_outcome_id = rival.id and named.organization_id = rival.organization_id
                    )
            )) as is_linked
        from finding inner join orphan on finding.outcome_id = orphan.id
    ),
    kept as (
        insert into public._repair_20260528_save_error (outcome_id, original, note)
        select orphan.id, to_jsonb(orphan) - 'is_success', case
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

revoke execute on function private.repair_orphans(integer) from public, anon, authenticated, service_role;
