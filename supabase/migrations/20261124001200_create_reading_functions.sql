-- What tenants read in sums: usage by hour, day or month, from the hours' counters. It runs with the rights of who asks, so
-- that row level security decides whose rows it sums: a member its organization's, service_role all.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema public to clearfloor_writer;
set role clearfloor_writer;

-- In PL/pgSQL, which refuses a wrong bucket. The organization comes from the policy and the range from here: together they
-- are the head of the primary key, so that the cost is that of the range, however long the history.
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
            date_trunc(usage_by.bucket, used.hour, 'UTC'), used.agent_id, nullif(used.model, ''), nullif(used.provider, ''),
            used.outcome_status, sum(used.decisions)::bigint, sum(used.attempts)::bigint, sum(used.input_tokens)::bigint,
            sum(used.cache_read_tokens)::bigint, sum(used.cache_write_tokens)::bigint,
            sum(used.cache_write_1h_tokens)::bigint, sum(used.output_tokens)::bigint, sum(used.reasoning_tokens)::bigint,
            sum(used.charge_nano_usd)::bigint,
            sum(used.dearest_cost_nano_usd) filter (where used.dearest_decisions > 0)::bigint,
            sum(used.baseline_cost_nano_usd) filter (where used.baseline_decisions > 0)::bigint,
            sum(used.saved_nano_usd) filter (where used.baseline_decisions > 0)::bigint
        from public.usage_hours as used
        where used.hour >= usage_by.since and used.hour < usage_by.until and used.decisions > 0
        group by 1, 2, 3, 4, 5
        order by 1, 2, 3, 4, 5;
end
$$;

comment on function public.usage_by is
'Usage of what was opened in the UTC hours that begin from `since` until just before `until`, and is completed, by UTC hour, '
'day or month, agent, and the model that answered, for whoever may see the rows. Tokens are those that the charge is for, of '
'the attempt that a decision names; attempts are all that were made. What the dearest and the baseline model would have cost, '
'and what was saved against the baseline, is summed where it is known; null where nothing is.';

grant execute on function public.usage_by(text, timestamptz, timestamptz) to authenticated, service_role;

reset role;
revoke create on schema public from clearfloor_writer;
