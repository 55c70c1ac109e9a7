-- What was learned, published as snapshots (rate_snapshots): routing reads the newest, a decision names the one that it was made
-- by, and so it can be computed again.
--
-- A snapshot has the sums of feedback as they count at the beginning of the UTC day, or at the last feedback after it: time alone
-- makes a new snapshot once a day. Backends publish, pg_cron does where it is there, and `select public.publish_rates()` does at once.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- The sums as they count at a moment, {model: {task: [successes, trials]}}, without those of which too little is left.
create function private.learned_rates(moment timestamptz) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    least_trials constant double precision := 0.01;
    half_life constant double precision := (select half_life_days from public.learning);
begin
    return (
        select coalesce(jsonb_object_agg(learned.model, learned.by_task), '{}')
        from (
            select faded.model, jsonb_object_agg(faded.task, jsonb_build_array(
                trim_scale(round(faded.successes::numeric, 6)), trim_scale(round(faded.trials::numeric, 6))
            )) as by_task
            from (
                select
                    kept.model, kept.task, private.decayed(kept.successes, kept.decayed_to, moment, half_life) as successes,
                    private.decayed(kept.trials, kept.decayed_to, moment, half_life) as trials
                from public.quality_sums as kept
            ) as faded
            where faded.trials >= least_trials
            group by faded.model
        ) as learned
    );
end
$$;

-- How long an answer is on average, {task: tokens}, of the newest attempts: the cost is theirs, however many there are. Their
-- decisions are looked up one by one, whatever the statistics say: a limit is never made a join of the whole table.
create function private.mean_output_tokens(attempts bigint) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
    least_answers constant bigint := 20;
begin
    return (
        select coalesce(jsonb_object_agg(sampled.task, sampled.tokens), '{}')
        from (
            select decision.task, round(avg(newest.tokens / decision.answers)) as tokens
            from (
                select
                    attempt.routing_outcome_id, attempt.status,
                    (attempt.output_tokens + attempt.reasoning_tokens)::numeric as tokens
                from public.inferences as attempt
                order by attempt.id desc
                limit mean_output_tokens.attempts
            ) as newest
            cross join lateral (
                select asked.task, coalesce((asked.routing_request ->> 'choices')::numeric, 1) as answers
                from public.routing_outcomes as asked where asked.id = newest.routing_outcome_id
                limit 1
            ) as decision
            where newest.status = 'succeeded'
            group by decision.task
            having count(*) >= least_answers
        ) as sampled
    );
end
$$;

create function public.publish_rates(least_age_seconds double precision default 0) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    settings constant public.learning := (select learning from public.learning);
    newest public.rate_snapshots;
    content jsonb;
    content_digest bytea;
begin
    perform pg_advisory_xact_lock(hashtextextended('clearfloor.publish_rates', 0));
    select * into newest from public.rate_snapshots order by id desc limit 1;
    if newest.published_at > clock_timestamp() - make_interval(secs => least_age_seconds) then
        return newest.id;
    end if;
    content := jsonb_build_object(
        'learned', private.learned_rates(date_trunc('day', clock_timestamp(), 'UTC')),
        'output_tokens', private.mean_output_tokens(settings.sampled_attempts)
    );
    content_digest := sha256(convert_to(format('%s %s', settings.prior_strength, content), 'UTF8'));
    if newest.digest is distinct from content_digest then
        insert into public.rate_snapshots (digest, prior_strength, content)
        values (content_digest, settings.prior_strength, content)
        returning * into newest;
    end if;
    return newest.id;
end
$$;

comment on function public.publish_rates is
'Publishes what was learned, unless the newest snapshot says the same or is younger than so many seconds. Returns the newest.';

grant execute on function public.publish_rates(double precision) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
