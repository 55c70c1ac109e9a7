-- What feedback says of the predictions: for tenants their own, for the operator which predictions are no longer true.
--
-- They run with the rights of who asks, so that row level security decides whose feedback it is: a member's its organization's,
-- service_role's all. What several sources say of one answer is one sample: their mean. Traffic and money are those of `usage_hours`.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema public to clearfloor_writer;
set role clearfloor_writer;

-- The interval is Wilson's at 90 %, as if every score were 0 or 1: those between vary less, and would let it be narrower.
-- https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval
create function public.quality_by(since timestamptz, until timestamptz default now())
returns table (
    model text, task text, decisions bigint, share double precision, saved_nano_usd bigint, samples bigint,
    realised double precision, realised_low double precision, realised_high double precision, predicted double precision
)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
    -- The square of the normal distribution's 95 % quantile.
    z_squared constant double precision := 2.705543454095404;
begin
    if quality_by.since is null or quality_by.until is null then
        raise exception 'The range is open.'
        using errcode = 'invalid_parameter_value', hint = 'since and until are moments.';
    end if;
    return query
        select
            coalesce(used.model, rated.model), coalesce(used.task, rated.task), coalesce(used.decisions, 0),
            coalesce(used.decisions / sum(used.decisions) over (), 0)::double precision, used.saved_nano_usd,
            coalesce(rated.samples, 0), rated.mean, wilson.low, wilson.high, rated.predicted
        from (
            select
                given.model, given.task, count(*) as samples, avg(given.score) as mean, avg(given.predicted) as predicted
            from (
                select kept.model, kept.task, avg(kept.score) as score, avg(kept.predicted) as predicted
                from public.feedback as kept
                where kept.created_at >= quality_by.since and kept.created_at < quality_by.until
                group by kept.routing_outcome_id, kept.model, kept.task
            ) as given
            group by given.model, given.task
        ) as rated
        full join (
            select
                counted.model, counted.task, sum(counted.decisions)::bigint as decisions,
                sum(counted.saved_nano_usd) filter (where counted.baseline_decisions > 0)::bigint as saved_nano_usd
            from public.usage_hours as counted
            where counted.hour >= quality_by.since and counted.hour < quality_by.until and counted.model <> ''
                and counted.decisions > 0
            group by counted.model, counted.task
        ) as used on used.model = rated.model and used.task = rated.task
        left join lateral (
            -- An end that is 0 or 1 may come out on either side of it.
            select
                greatest(least(middle - half_width, rated.mean), 0) as low, least(greatest(middle + half_width, rated.mean), 1) as high
            from (
                select
                    (rated.mean + z_squared / (2 * rated.samples)) / (1 + z_squared / rated.samples) as middle,
                    sqrt(z_squared * (rated.mean * (1 - rated.mean) + z_squared / (4 * rated.samples)) / rated.samples)
                    / (1 + z_squared / rated.samples) as half_width
            ) as unbounded
        ) as wilson on rated.samples > 0
        order by 1, 2;
end
$$;

comment on function public.quality_by is
'By model and task class, for whoever may see it. What was opened in the UTC hours that begin from `since` until just before `until`: how '
'many decisions a model carried out, their share, and what was saved against the baseline, null where none is known. Feedback given in '
'that time: of how many answers, their mean with its 90 % interval, and the mean of what was predicted where something was.';

create function public.quality_by_floor(since timestamptz, until timestamptz default now())
returns table (floor_from numeric, samples bigint, predicted double precision, realised double precision)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
    if quality_by_floor.since is null or quality_by_floor.until is null then
        raise exception 'The range is open.'
        using errcode = 'invalid_parameter_value', hint = 'since and until are moments.';
    end if;
    return query
        select least(trunc(given.floor::numeric, 1), 0.9), count(*), avg(given.predicted), avg(given.score)
        from (
            select kept.floor, avg(kept.score) as score, avg(kept.predicted) as predicted
            from public.feedback as kept
            where kept.created_at >= quality_by_floor.since and kept.created_at < quality_by_floor.until
                -- Not the best there was, where nothing cleared the floor, nor what was tried though it was not expected to.
                and kept.floor_cleared
            group by kept.routing_outcome_id, kept.floor
        ) as given
        group by 1
        order by 1;
end
$$;

comment on function public.quality_by_floor is
'Feedback given from `since` until just before `until` on answers whose candidate was expected to clear the floor, by the floor, in '
'steps of 0.1, for whoever may see it: how many, and the means of what was predicted and what was said.';

create function public.quality_drift(
    margin double precision default 0.05, least_samples bigint default 30,
    since timestamptz default now() - interval '7 days'
) returns table (model text, task text, samples bigint, predicted double precision, realised double precision)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select given.model, given.task, count(*), avg(given.predicted), avg(given.score)
        from (
            select kept.model, kept.task, avg(kept.score) as score, avg(kept.predicted) as predicted
            from public.feedback as kept
            where kept.created_at >= quality_drift.since and kept.predicted is not null
            group by kept.routing_outcome_id, kept.model, kept.task
        ) as given
        group by given.model, given.task
        having count(*) >= quality_drift.least_samples
            and avg(given.predicted - given.score) > greatest(
                quality_drift.margin, 2 * coalesce(stddev_samp(given.predicted - given.score), 0) / sqrt(count(*))
            )
        order by avg(given.predicted - given.score) desc, given.model, given.task;
end
$$;

comment on function public.quality_drift is
'Models whose answers in a task class were rated worse than predicted since then: by more than the margin, and by more than '
'two standard errors of the difference. The worst first.';

grant execute on function public.quality_by(timestamptz, timestamptz) to authenticated, service_role;
grant execute on function public.quality_by_floor(timestamptz, timestamptz) to authenticated, service_role;
grant execute on function public.quality_drift(double precision, bigint, timestamptz) to service_role;

reset role;
revoke create on schema public from clearfloor_writer;
