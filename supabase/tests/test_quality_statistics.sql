-- What feedback says of the predictions: to tenants of their own, by model, class and floor; to the operator where it drifts.
begin;
select plan(36);
call clearfloor_tests.create_world();
-- Other feedback is out of the way: what is looked at is of a year of its own.
create function pg_temp.rate(
    score double precision, predicted double precision, moment timestamptz, floor double precision default 0.7,
    model text default 'pgtap', organization text default 'acme', copies integer default 1, cleared boolean default null,
    decision text default null, source text default 'agent'
) returns void language sql as $$
    insert into public.feedback (
        routing_outcome_id, source, organization_id, agent_id, model, task, floor, predicted, floor_cleared, score, api_key_id,
        created_at
    )
    select
        coalesce(clearfloor_tests.id(decision), gen_random_uuid()), source, clearfloor_tests.id(organization), clearfloor_tests.id(organization || ' agent'), model, 'code', floor, predicted,
        coalesce(cleared, predicted >= floor), score, clearfloor_tests.id(organization || ' key'), moment
    from generate_series(1, copies)
$$;
create function pg_temp.carry_out(
    hour timestamptz, decisions bigint, task text default 'code', saved bigint default 0, baselines bigint default 0,
    model text default 'pgtap', organization text default 'acme'
) returns void language sql as $$
    insert into public.usage_hours (
        organization_id, hour, agent_id, outcome_status, model, task, decisions, saved_nano_usd, baseline_decisions
    ) values (
        clearfloor_tests.id(organization), hour, clearfloor_tests.id(organization || ' agent'), 'succeeded', model, task, decisions,
        saved, baselines
    )
$$;
do $$
begin
    perform pg_temp.rate(1, 0.8, '2025-03-01 00:00+00', copies => 6);
    perform pg_temp.rate(0, 0.6, '2025-03-01 01:00+00', copies => 3);
    perform pg_temp.rate(0.5, null, '2025-03-01 23:59:59.999999+00');
    perform pg_temp.rate(0, 0.8, '2025-03-02 00:00+00');
    perform pg_temp.rate(1, 0.9, '2025-03-01 00:00+00', floor => null, model => 'pinned');
    perform pg_temp.rate(0, 0.9, '2025-03-01 00:00+00', organization => 'zenith');
    perform pg_temp.carry_out('2025-03-01 00:00+00', 5, saved => 70, baselines => 2);
    perform pg_temp.carry_out('2025-03-01 23:00+00', 1, saved => -10, baselines => 1);
    perform pg_temp.carry_out('2025-03-01 23:00+00', 2, task => 'law');
    perform pg_temp.carry_out('2025-03-01 23:00+00', 4, model => '');
    perform pg_temp.carry_out('2025-03-01 23:00+00', 0, model => 'taken off again');
    perform pg_temp.carry_out('2025-03-02 00:00+00', 8);
    perform pg_temp.carry_out('2025-03-01 00:00+00', 2, organization => 'zenith');
end
$$;

create function pg_temp.first_of_march() returns setof text language sql as $$
    select concat_ws(
        ' ', model, task, decisions, round(share::numeric, 4), coalesce(saved_nano_usd::text, '-'), samples, round(realised::numeric, 4), round(realised_low::numeric, 4), round(realised_high::numeric, 4),
        round(predicted::numeric, 4)
    )
    from public.quality_by('2025-03-01 00:00+00', '2025-03-02 00:00+00')
$$;
create function pg_temp.floors(until timestamptz default '2025-03-02 00:00+00') returns setof text language sql as $$
    select concat_ws(' ', floor_from, samples, round(predicted::numeric, 4), round(realised::numeric, 4))
    from public.quality_by_floor('2025-03-01 00:00+00', until)
$$;

select is(prosecdef, false, proname || ' reads with the rights of who asks')
from pg_proc where pronamespace = 'public'::regnamespace and proname ~ '^quality_' order by proname;

-- By model and class. The ends of the intervals are those p that are 1.6449 standard errors, sqrt(p (1 - p) / n), from the mean.
do $$ begin call clearfloor_tests.authenticate_as('member of acme'); end $$;
select results_eq(
    'select pg_temp.first_of_march()',
    array[
        'pgtap code 6 0.7500 60 10 0.6500 0.3957 0.8405 0.7333', 'pgtap law 2 0.2500 - 0',
        'pinned code 0 0.0000 - 1 1.0000 0.2699 1.0000 0.9000'
    ],
    'a member reads its organization''s: traffic, its share, what it saved, the mean, its interval, and what was predicted'
);
select results_eq(
    'select pg_temp.floors()', array['0.7 6 0.8000 1.0000'], 'and by floor, what was predicted to clear it'
);
do $$ begin call clearfloor_tests.authenticate_as('member of zenith'); end $$;
select results_eq(
    'select pg_temp.first_of_march()', array['pgtap code 2 1.0000 - 1 0.0000 0.0000 0.7301 0.9000'], 'another organization''s member its own'
);
select results_eq('select pg_temp.floors()', array['0.7 1 0.9000 0.0000'], 'likewise');
do $$ begin call clearfloor_tests.authenticate_as('user of no organization'); end $$;
select is_empty('select pg_temp.first_of_march()', 'whoever is of neither reads nothing');
do $$ begin call clearfloor_tests.authenticate_as('anonymous user of acme'); end $$;
select is_empty('select pg_temp.first_of_march()', 'nor does an anonymous user');
select is_empty('select pg_temp.floors()', 'by floor neither');
do $$ begin call clearfloor_tests.authenticate_as('service_role'); end $$;
select results_eq(
    'select pg_temp.first_of_march()',
    array[
        'pgtap code 8 0.8000 60 11 0.5909 0.3538 0.7921 0.7500', 'pgtap law 2 0.2000 - 0',
        'pinned code 0 0.0000 - 1 1.0000 0.2699 1.0000 0.9000'
    ],
    'the backend reads that of all'
);

-- Ranges.
do $$ begin call clearfloor_tests.authenticate_as('member of acme'); end $$;
select throws_ok(
    format('select public.%I(%s)', name, range), '22023', 'The range is open.', format('%s refuses the range %s', name, range)
)
from unnest(array['quality_by', 'quality_by_floor']) as name cross join unnest(array['null', 'now(), null']) as range;
reset role;
do $$
begin
    perform pg_temp.rate(1, 0.8, now() - interval '1 second');
    perform pg_temp.rate(1, 0.8, now());
end
$$;
do $$ begin call clearfloor_tests.authenticate_as('member of acme'); end $$;
select is((select sum(samples) from public.quality_by(now() - interval '1 day')), 1::numeric, 'a range ends now unless it says when');
select is(
    (select sum(samples) from public.quality_by_floor(now() - interval '1 day')), 1::numeric, 'of floors, too'
);

-- Floors, in steps.
reset role;
do $$
begin
    perform pg_temp.rate(1, 1, '2024-01-01', floor => step)
    from unnest(array[0, 0.05, 0.1, 0.3, 0.29, 0.6, 0.7, 0.8999, 0.9, 1]::double precision []) as step;
    perform pg_temp.rate(0, 1, '2024-01-01', floor => 0.5, cleared => false);
end
$$;
do $$ begin call clearfloor_tests.authenticate_as('member of acme'); end $$;
select results_eq(
    $$select floor_from, samples from public.quality_by_floor('2024-01-01', '2024-01-02')$$,
    'values (0.0, 2::bigint), (0.1, 1), (0.2, 1), (0.3, 1), (0.6, 1), (0.7, 1), (0.8, 1), (0.9, 2)',
    'a step has the floors from it on; the last one has 1, too; what did not clear counts in none, whatever was predicted'
);

-- Drift.
reset role;
create function pg_temp.drifting(
    since timestamptz, margin double precision default 0.05, least_samples bigint default 30
) returns setof text language sql as $$
    select concat_ws(' ', model, task, samples, round(predicted::numeric, 3), round(realised::numeric, 3))
    from public.quality_drift(margin, least_samples, since) where model not in ('pgtap', 'pinned')
$$;
do $$
begin
    -- 0.8 was predicted of all.
    perform pg_temp.rate(1, 0.8, '2023-02-01', model => 'worse', copies => 50);
    perform pg_temp.rate(0, 0.8, '2023-02-01', model => 'worse', copies => 50);
    perform pg_temp.rate(0.74, 0.8, '2023-02-01', model => 'a little worse', organization => 'zenith', copies => 30);
    perform pg_temp.rate(0.76, 0.8, '2023-02-01', model => 'within the margin', copies => 100);
    -- 0.1 less, at a standard error of 0.083.
    perform pg_temp.rate(1, 0.8, '2023-02-01', model => 'by chance', copies => 21);
    perform pg_temp.rate(0, 0.8, '2023-02-01', model => 'by chance', copies => 9);
    perform pg_temp.rate(0, 0.8, '2023-02-01', model => 'hardly rated', copies => 29);
    perform pg_temp.rate(0, null, '2023-02-01', model => 'not predicted', copies => 100);
    perform pg_temp.rate(1, 0.8, '2023-02-01', model => 'better', copies => 100);
    perform pg_temp.rate(0, 0.8, '2023-01-31', model => 'was worse', copies => 100);
end
$$;
do $$ begin call clearfloor_tests.authenticate_as('service_role'); end $$;
select results_eq(
    $$select pg_temp.drifting('2023-02-01')$$,
    array['worse code 100 0.800 0.500', 'a little worse code 30 0.800 0.740'],
    'of all organizations, what is worse by more than the margin and chance, the worst first'
);
select results_eq(
    $$select pg_temp.drifting('2023-02-01', margin => 0.1)$$, array['worse code 100 0.800 0.500'], 'by a margin that is asked for'
);
select results_eq(
    $$select pg_temp.drifting('2023-02-01', least_samples => 29)$$,
    array['hardly rated code 29 0.800 0.000', 'worse code 100 0.800 0.500', 'a little worse code 30 0.800 0.740'],
    'from so many samples on'
);
select results_eq(
    $$select pg_temp.drifting('2023-01-31')$$,
    array['was worse code 100 0.800 0.000', 'worse code 100 0.800 0.500', 'a little worse code 30 0.800 0.740'],
    'since a moment'
);
select is_empty('select * from public.quality_drift()', 'of the last week by default, in which nothing drifts');
reset role;
do $$ begin perform pg_temp.rate(0, 0.8, now() - interval '6 days', model => 'this week', copies => 30); end $$;
select results_eq('select model from public.quality_drift()', array['this week'], 'until something does');

-- Intervals end at 0 and 1.
do $$
begin
    perform pg_temp.rate(1, 0.8, '2021-01-01', model => 'always good', copies => 8);
    perform pg_temp.rate(0, 0.8, '2021-01-01', model => 'never good', copies => 53);
    perform pg_temp.rate(1, 0.8, '2021-01-01', model => 'good once', copies => 1);
    perform pg_temp.rate(0, 0.8, '2021-01-01', model => 'bad thirty times', copies => 30);
end
$$;
select results_eq(
    $$
        select model, realised_low = 0, realised_high = 1
        from public.quality_by('2021-01-01', '2021-01-02') order by model
    $$,
    $$values ('always good', false, true), ('bad thirty times', true, false), ('good once', false, true), ('never good', true, false)$$,
    'an interval ends at 0 and at 1, however it is rounded'
);

-- Several sources of one answer.
do $$
begin
    perform pg_temp.rate(0, 0.8, '2022-01-01', model => 'rated twice', decision => 'rated twice');
    perform pg_temp.rate(0.5, 0.8, '2022-01-01', model => 'rated twice', decision => 'rated twice', source => 'checker:a');
    perform pg_temp.rate(0.5, 0.8, '2022-01-01', model => 'rated twice');
end
$$;
select is(told, '2 0.8 0.375', format('in %s an answer counts once, with the mean of its sources', name))
from (
    select 'quality_by', concat_ws(' ', samples, predicted, realised) from public.quality_by('2022-01-01', '2022-01-02')
    union all
    select 'quality_by_floor', concat_ws(' ', samples, predicted, realised)
    from public.quality_by_floor('2022-01-01', '2022-01-02')
    union all
    select 'quality_drift', concat_ws(' ', samples, predicted, realised)
    from public.quality_drift(least_samples => 2, since => '2022-01-01') where model = 'rated twice'
) as statistics (name, told);

-- Plans, with the feedback of years: of the functions' own texts, with a day in place of their parameters.
do $$
begin
    perform pg_temp.rate(1, 0.8, '2020-01-01'::timestamptz + number * interval '1 hour', organization => organization)
    from generate_series(1, 5000) as number cross join unnest(array['acme', 'zenith']) as organization;
    perform pg_temp.carry_out('2020-01-01'::timestamptz + number * interval '1 hour', 1, organization => organization)
    from generate_series(1, 5000) as number cross join unnest(array['acme', 'zenith']) as organization;
end
$$;
analyze public.feedback;
analyze public.usage_hours;
create function pg_temp.plan_of(name text) returns setof text language plpgsql as $$
declare
    query text := (
        select substring(prosrc from 'return query\s*(select.*);\s*end') from pg_proc
        where pronamespace = 'public'::regnamespace and proname = name
    );
begin
    query := replace(replace(query, name || '.since', case name when 'quality_drift' then '''2025-01-01''' else '''2020-03-01''' end || '::timestamptz'), name || '.until', '''2020-03-02''::timestamptz');
    query := replace(replace(replace(query, 'z_squared', '2.7'), name || '.margin', '0.05'), name || '.least_samples', '30');
    return query execute 'explain (costs off, verbose) ' || query;
end
$$;
do $$ begin call clearfloor_tests.authenticate_as('member of acme'); end $$;
select isnt_empty(
    format(
        $$
            select line from pg_temp.plan_of(%L) as line
            where line ~ 'Index Cond: .*organization_id = (\(InitPlan \d+\)\.col1|\$\d+).*created_at >=.*created_at <'
        $$, name
    ),
    format('%s reads by the claim, worked out beforehand, and the range', name)
)
from unnest(array['quality_by', 'quality_by_floor']) as name;
select isnt_empty(
    $$
        select line from pg_temp.plan_of('quality_by') as line
        where line ~ 'Index Cond: .*organization_id = (\(InitPlan \d+\)\.col1|\$\d+).*hour >=.*hour <'
    $$,
    'the hours of usage as well'
);
select is_empty(
    format(
        $$
            select line from pg_temp.plan_of(%L) as line
            where line ~ '^\s*(Filter|Index Cond|Recheck Cond|One-Time Filter):' and line ~ '(current_setting|auth\.\w+)\(' or line ~ 'Seq Scan'
        $$, name
    ),
    format('in %s no row reads the claims anew, and nothing is read as a whole', name)
)
from unnest(array['quality_by', 'quality_by_floor']) as name;
do $$ begin call clearfloor_tests.authenticate_as('service_role'); end $$;
select is_empty(
    format($$select line from pg_temp.plan_of(%L) as line where line ~ 'Seq Scan'$$, name), format('nor is it in %s for the backend', name)
)
from unnest(array['quality_by', 'quality_by_floor', 'quality_drift']) as name;

select * from finish();
rollback;
