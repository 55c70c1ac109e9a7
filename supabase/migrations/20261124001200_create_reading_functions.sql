-- What tenants read in sums: usage by hour, day or month. It runs with the rights of who asks, so that row level security
-- decides whose rows it sums: a member its organization's, service_role all.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema public to clearfloor_writer;
set role clearfloor_writer;

-- In PL/pgSQL, which refuses a wrong bucket. The organization comes from the policy and the range from here: together they
-- are the index (organization_id, opened_at). Attempts are looked up decision by decision, so that the cost is that of the
-- range, however long the history: what has a limit or an aggregate is never made a join of all the organization's attempts.
create function public.usage_by(bucket text, since timestamptz, until timestamptz default now())
returns table (
    bucket_start timestamptz, agent_id uuid, model text, provider text, outcome_status text, decisions bigint,
    attempts bigint, input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint,
    cache_write_1h_tokens bigint, output_tokens bigint, reasoning_tokens bigint, charge_nano_usd bigint,
    dearest_cost_nano_usd bigint, baseline_cost_nano_usd bigint, saved_nano_usd bigint
)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
    if usage_by.bucket is null or usage_by.bucket not in ('hour', 'day', 'month') then
        raise exception 'There is no bucket `%`.', usage_by.bucket
        using errcode = 'invalid_parameter_value', hint = 'hour, day or month.';
    end if;
    if usage_by.since is null or usage_by.until is null then
        raise exception 'The range is open.'
        using errcode = 'invalid_parameter_value', hint = 'since and until are moments.';
    end if;
    return query
        select
            date_trunc(usage_by.bucket, decision.opened_at, 'UTC'), decision.agent_id, linked.model, linked.provider,
            decision.outcome_status, count(*), sum(tried.attempts)::bigint, coalesce(sum(linked.input_tokens), 0)::bigint,
            coalesce(sum(linked.cache_read_tokens), 0)::bigint, coalesce(sum(linked.cache_write_tokens), 0)::bigint,
            coalesce(sum(linked.cache_write_1h_tokens), 0)::bigint, coalesce(sum(linked.output_tokens), 0)::bigint,
            coalesce(sum(linked.reasoning_tokens), 0)::bigint, coalesce(sum(decision.charge_nano_usd), 0)::bigint,
            sum(decision.dearest_cost_nano_usd)::bigint, sum(decision.baseline_cost_nano_usd)::bigint,
            sum(decision.baseline_cost_nano_usd - decision.charge_nano_usd)::bigint
        from public.routing_outcomes as decision
        left join lateral (
            select attempt.* from public.inferences as attempt
            where attempt.organization_id = decision.organization_id and attempt.routing_outcome_id = decision.id
                and attempt.id = decision.inference_id
            limit 1
        ) as linked on true
        cross join lateral (
            select count(*) as attempts from public.inferences as attempt
            where attempt.organization_id = decision.organization_id and attempt.routing_outcome_id = decision.id
                and attempt.status <> 'not_sent'
        ) as tried
        where decision.opened_at >= usage_by.since and decision.opened_at < usage_by.until
        group by 1, 2, 3, 4, 5
        order by 1, 2, 3, 4, 5;
end
$$;

comment on function public.usage_by is
'Usage of what was opened from `since` until just before `until`, by UTC hour, day or month, agent, and the model that '
'answered, for whoever may see the rows. Tokens are those that the charge is for, of the attempt that a decision names; '
'attempts are all that were made. What the dearest and the baseline model would have cost, and what was saved against the '
'baseline, is summed where it is known; null where nothing is.';

grant execute on function public.usage_by(text, timestamptz, timestamptz) to authenticated, service_role;

reset role;
revoke create on schema public from clearfloor_writer;
