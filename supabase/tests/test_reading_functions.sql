-- What tenants read in sums: usage by hour, day or month, of their own rows, at the cost of the range that they ask for.
begin;
select plan(23);
call clearfloor_tests.create_organizations();

insert into clearfloor_tests.users (name, claims) values
('member of neither', clearfloor_tests.claims('member of neither', clearfloor_tests.speaks_for('another', 'member'))),
('no token', null);

-- What an hour counts: `decisions` of an organization's agent, each charged 10 for 1 to 6 tokens of each class, of which so many
-- know a baseline.
create function pg_temp.count(
    hour timestamptz, decisions bigint, attempts bigint, organization text default 'acme', status text default 'succeeded',
    known bigint default 0, baseline bigint default 0, task text default 'law'
) returns void language sql as $$
    insert into public.usage_hours values (
        clearfloor_tests.id(organization), hour, clearfloor_tests.id(organization || ' agent'), status,
        case when attempts > 0 then 'pgtap' else '' end, case when attempts > 0 then 'pgtap' else '' end, task, decisions, attempts,
        decisions * 1, decisions * 2, decisions * 3, decisions * 4, decisions * 5, decisions * 6,
        case when attempts > 0 then decisions * 10 else 0 end, known, baseline * 2, known, baseline, baseline - known * 10
    )
$$;

do $$
begin
    perform pg_temp.count('2026-03-01 00:00+00', 2, 3, known => 1, baseline => 30);
    perform pg_temp.count('2026-03-01 00:00+00', 1, 0, status => 'rejected_cap');
    perform pg_temp.count('2026-03-01 01:00+00', 1, 1);
    perform pg_temp.count('2026-03-31 23:00+00', 1, 1, known => 1, baseline => 4);
    -- Everything that it counted was taken off again.
    perform pg_temp.count('2026-03-31 23:00+00', 0, 0, status => 'abandoned');
    perform pg_temp.count('2026-03-01 00:00+00', 1, 1, 'zenith');
end
$$;

-- March, in buckets: start, model, outcome, decisions, attempts, charge.
create function pg_temp.march(bucket text, until timestamptz default '2026-04-01 00:00+00') returns setof text language sql as $$
    select concat_ws(
        ' ', to_char(bucket_start at time zone 'UTC', 'DD HH24:MI'), coalesce(model, 'none'), outcome_status, decisions,
        attempts, charge_nano_usd
    )
    from public.usage_by(bucket, '2026-03-01 00:00+00', until)
    where agent_id in (clearfloor_tests.id('acme agent'), clearfloor_tests.id('zenith agent'))
$$;

select is(
    (select prosecdef from pg_proc where oid = 'public.usage_by(text, timestamptz, timestamptz)'::regprocedure), false,
    'usage is summed with the rights of who asks'
);

-- A bucket is one of UTC, whatever the session's time zone is.
set local time zone 'Asia/Kathmandu';
call clearfloor_tests.authenticate_as('member of acme');
select results_eq(
    'select pg_temp.march(''hour'')',
    array[
        '01 00:00 pgtap succeeded 2 3 20', '01 00:00 none rejected_cap 1 0 0', '01 01:00 pgtap succeeded 1 1 10',
        '31 23:00 pgtap succeeded 1 1 10'
    ],
    'a member reads its organization''s usage by hour: what answered, and what was refused'
);
select results_eq(
    'select pg_temp.march(''day'')',
    array['01 00:00 pgtap succeeded 3 4 30', '01 00:00 none rejected_cap 1 0 0', '31 00:00 pgtap succeeded 1 1 10'],
    'by day'
);
select results_eq(
    'select pg_temp.march(''month'')',
    array['01 00:00 pgtap succeeded 4 5 40', '01 00:00 none rejected_cap 1 0 0'],
    'and by month'
);
select results_eq(
    'select pg_temp.march(''hour'', ''2026-03-01 01:00+00'')',
    array['01 00:00 pgtap succeeded 2 3 20', '01 00:00 none rejected_cap 1 0 0'],
    'a range ends just before its end'
);
select results_eq(
    $$select bucket_start from public.usage_by('hour', '2026-03-01 00:00:01+00', '2026-03-01 01:00:01+00')$$,
    array['2026-03-01 01:00+00'::timestamptz], 'and has the hours that begin in it'
);
select results_eq(
    $$
        select input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens
        from public.usage_by('hour', '2026-03-01 00:00+00', '2026-03-01 01:00+00') where outcome_status = 'succeeded'
    $$,
    'values (2::bigint, 4::bigint, 6::bigint, 8::bigint, 10::bigint, 12::bigint)',
    'tokens are those that are charged: none of an attempt that failed before'
);
select results_eq(
    $$
        select dearest_cost_nano_usd, baseline_cost_nano_usd, saved_nano_usd
        from public.usage_by('month', '2026-03-01 00:00+00', '2026-04-01 00:00+00') where outcome_status = 'succeeded'
    $$,
    'values (68::bigint, 34::bigint, 14::bigint)',
    'savings are summed where the baseline is known: 20 more than was charged, and once 6 less'
);
select results_eq(
    $$
        select dearest_cost_nano_usd, baseline_cost_nano_usd, saved_nano_usd
        from public.usage_by('hour', '2026-03-01 01:00+00', '2026-03-01 02:00+00')
    $$,
    'values (null::bigint, null::bigint, null::bigint)',
    'where it is not, they are not known, rather than nothing'
);
select is(
    (select count(*) from public.usage_by('day', now() - interval '1 day')), 0::bigint, 'a range ends now unless it says when'
);
call clearfloor_tests.authenticate_as('member of zenith');
select results_eq(
    'select pg_temp.march(''month'')', array['01 00:00 pgtap succeeded 1 1 10'],
    'a member of another organization reads its own, and nothing else'
);
call clearfloor_tests.authenticate_as('member of neither');
select is_empty('select pg_temp.march(''month'')', 'whoever is of neither reads nothing');
call clearfloor_tests.authenticate_as('no token');
select is_empty('select pg_temp.march(''month'')', 'a user without a token reads nothing');
call clearfloor_tests.authenticate_as('service_role');
select results_eq(
    'select pg_temp.march(''month'')',
    array['01 00:00 pgtap succeeded 4 5 40', '01 00:00 none rejected_cap 1 0 0', '01 00:00 pgtap succeeded 1 1 10'],
    'the backend reads that of all organizations, agent by agent'
);

call clearfloor_tests.authenticate_as('member of acme');
select throws_ok(
    format('select public.usage_by(%L, now())', bucket), '22023', format('There is no bucket `%s`.', bucket),
    format('a bucket `%s` is refused', bucket)
)
from unnest(array['week', '', 'DAY']) as bucket;
select throws_ok(
    'select public.usage_by(null, now())', '22023', 'There is no bucket `<NULL>`.', 'no bucket is refused'
);
select throws_ok(
    format('select public.usage_by(''day'', %s)', range), '22023', 'The range is open.', format('the range %s is refused', range)
)
from unnest(array['null', 'now(), null']) as range;

-- The plan of its query, as a member's: of the function's own text, with a day in place of its parameters, of a history of two
-- years. Estimates are as good as the statistics, which therefore come first.
reset role;
do $$
begin
    perform pg_temp.count('2024-01-01 00:00+00'::timestamptz + number * interval '4 hours', 1, 1, organization)
    from generate_series(1, 4000) as number
    cross join unnest(array['acme', 'zenith']) as organization;
end
$$;
analyze public.usage_hours;
create function pg_temp.plan_of_usage() returns setof text language plpgsql as $$
declare
    query constant text := (
        select substring(prosrc from 'return query\s*(select.*);\s*end') from pg_proc
        where oid = 'public.usage_by(text, timestamptz, timestamptz)'::regprocedure
    );
begin
    return query execute 'explain (costs off, verbose) ' || replace(replace(replace(
        query, 'usage_by.bucket', quote_literal('day')), 'usage_by.since', '''2025-03-01''::timestamptz'
    ), 'usage_by.until', '''2025-03-02''::timestamptz');
end
$$;
call clearfloor_tests.authenticate_as('member of acme');
select isnt_empty(
    $$
        select line from pg_temp.plan_of_usage() as line
        where line ~ 'Index Cond: .*organization_id = (\(InitPlan \d+\)\.col1|\$\d+).*hour >=.*hour <'
    $$,
    'hours are found through an index, by the claim, worked out beforehand, and the range'
);
select is_empty(
    $$
        select line from pg_temp.plan_of_usage() as line
        where line ~ '^\s*(Filter|Index Cond|Recheck Cond|One-Time Filter):' and line ~ '(current_setting|auth\.\w+)\('
    $$,
    'no row reads the claims anew'
);
select is_empty(
    $$select line from pg_temp.plan_of_usage() as line where line ~ '(routing_outcomes|inferences)|Seq Scan'$$,
    'and neither decisions nor attempts are read'
);

select * from finish();
rollback;
