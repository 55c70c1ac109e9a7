-- What tenants read in sums: usage by hour, day or month, of their own rows, at the cost of the range that they ask for.
begin;
select plan(25);

-- Ids are hashes of names: the same in every run, and nobody else's.
create function pg_temp.id(name text) returns uuid language sql immutable return md5('clearfloor pgtap ' || name)::uuid;

insert into public.organizations (id, name) select pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.agents (id, organization_id, name)
select pg_temp.id(name || ' agent'), pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.providers (name, base_url) values ('pgtap', 'http://pgtap.example/v1');
insert into public.models (name) values ('pgtap'), ('other');
insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens)
select pg_temp.id(name), 'pgtap', name, name, 1000, 1000 from unnest(array['pgtap', 'other']) as name;
insert into public.prices (id, candidate_id, valid_from, tiers, source)
select pg_temp.id(name || ' price'), pg_temp.id(name), now(), array[(0, 0, 0, 0, 0, 0, 0)::public.price_tier], 'pgtap'
from unnest(array['pgtap', 'other']) as name;
insert into public.catalogue_snapshots (version, digest, content) overriding system value values (-1, 'pgtap', '[]');

-- A decision of an organization's agent, charged 10, that its last attempt carried out with 1 to 6 tokens of each class.
-- Of attempts before it there is one by another model that failed, and one that was not sent.
create function pg_temp.decide(
    name text, moment timestamptz, organization text default 'acme', baseline bigint default null,
    is_retried boolean default false
) returns void language plpgsql as $$
begin
    insert into public.routing_outcomes (
        id, organization_id, agent_id, opened_at, lease_expires_at, requested_model, requested_rule, decision_rule, task,
        stream, catalogue_version, routing_request, candidates, reserved_nano_usd
    ) values (
        pg_temp.id(name), pg_temp.id(organization), pg_temp.id(organization || ' agent'), moment, moment, 'auto',
        'pinned_model', 'pinned_model', 'general', false, -1, '{}', '[]', 100
    );
    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd,
        status, finished_at, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
        reasoning_tokens, usage_source
    )
    select
        pg_temp.id(name || ' ' || attempt.number), pg_temp.id(organization), pg_temp.id(name), attempt.number,
        pg_temp.id(attempt.model), 'pgtap', attempt.model, pg_temp.id(attempt.model || ' price'), 100, attempt.status,
        moment, 1, 2, 3, 4, 5, 6, 'estimate'
    from (values (1, 'other', 'failed'), (2, 'other', 'not_sent'), (3, 'pgtap', 'succeeded')) as attempt (number, model, status)
    where is_retried or attempt.number = 3;
    update public.routing_outcomes set
        outcome_status = 'succeeded', completed_at = moment, charge_nano_usd = 10, inference_id = pg_temp.id(name || ' 3'),
        baseline_cost_nano_usd = baseline, dearest_cost_nano_usd = baseline * 2
    where id = pg_temp.id(name);
end
$$;

do $$
begin
    perform pg_temp.decide('first', '2026-03-01 00:00+00', baseline => 30);
    perform pg_temp.decide('retried', '2026-03-01 00:59:59+00', is_retried => true);
    perform pg_temp.decide('next hour', '2026-03-01 01:00+00');
    perform pg_temp.decide('last', '2026-03-31 23:59:59.999999+00', baseline => 4);
    perform pg_temp.decide('foreign', '2026-03-01 00:00+00', 'zenith');
end
$$;
insert into public.routing_outcomes (
    id, organization_id, agent_id, opened_at, completed_at, lease_expires_at, requested_model, requested_rule, decision_rule,
    outcome_status, charge_nano_usd, task, stream, catalogue_version, routing_request, candidates
) values (
    pg_temp.id('refused'), pg_temp.id('acme'), pg_temp.id('acme agent'), '2026-03-01', '2026-03-01', '2026-03-01', 'auto',
    'pinned_model', 'failed_pre_dispatch', 'rejected_cap', 0, 'general', false, -1, '{}', '[]'
);

create function pg_temp.sign_in(organization text) returns void language sql as $$
    select set_config('request.jwt.claims', jsonb_build_object(
        'sub', pg_temp.id(organization || ' user'), 'role', 'authenticated', 'aud', 'authenticated', 'is_anonymous', false,
        'app_metadata', jsonb_build_object('organization_id', pg_temp.id(organization)), 'user_metadata', '{}'::jsonb
    )::text, true)
$$;

-- March, in buckets: start, model, outcome, decisions, attempts, charge.
create function pg_temp.march(bucket text, until timestamptz default '2026-04-01 00:00+00') returns setof text language sql as $$
    select concat_ws(
        ' ', to_char(bucket_start at time zone 'UTC', 'DD HH24:MI'), coalesce(model, 'none'), outcome_status, decisions,
        attempts, charge_nano_usd
    )
    from public.usage_by(bucket, '2026-03-01 00:00+00', until)
    where agent_id in (pg_temp.id('acme agent'), pg_temp.id('zenith agent'))
$$;

select is(
    (select prosecdef from pg_proc where oid = 'public.usage_by(text, timestamptz, timestamptz)'::regprocedure), false,
    'usage is summed with the rights of who asks'
);

set local role authenticated;
-- A bucket is one of UTC, whatever the session's time zone is.
set local time zone 'Asia/Kathmandu';
do $$ begin perform pg_temp.sign_in('acme'); end $$;
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
do $$ begin perform pg_temp.sign_in('zenith'); end $$;
select results_eq(
    'select pg_temp.march(''month'')', array['01 00:00 pgtap succeeded 1 1 10'],
    'a member of another organization reads its own, and nothing else'
);
do $$ begin perform pg_temp.sign_in('nobody'); end $$;
select is_empty('select pg_temp.march(''month'')', 'whoever is of neither reads nothing');
do $$ begin perform set_config('request.jwt.claims', '', true); end $$;
select is_empty('select pg_temp.march(''month'')', 'a user without a token reads nothing');
set local role service_role;
select results_eq(
    'select pg_temp.march(''month'')',
    array['01 00:00 pgtap succeeded 4 5 40', '01 00:00 none rejected_cap 1 0 0', '01 00:00 pgtap succeeded 1 1 10'],
    'the backend reads that of all organizations, agent by agent'
);

set local role authenticated;
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

-- The plan of its query, as a member's: of the function's own text, with a day (or more) in place of its parameters, of a
-- history of more than a year. Estimates are as good as the statistics, which therefore come first.
reset role;
do $$
begin
    perform pg_temp.decide(
        format('number %s of %s', number, organization),
        '2025-01-01 00:00+00'::timestamptz + number * interval '4 hours', organization
    )
    from generate_series(1, 3000) as number
    cross join unnest(array['acme', 'zenith']) as organization;
end
$$;
analyze public.routing_outcomes, public.inferences;
set local role authenticated;
create function pg_temp.plan_of_usage(since timestamptz default '2026-03-01') returns setof text language plpgsql as $$
declare
    query constant text := (
        select substring(prosrc from 'return query\s*(select.*);\s*end') from pg_proc
        where oid = 'public.usage_by(text, timestamptz, timestamptz)'::regprocedure
    );
begin
    return query execute 'explain (costs off, verbose) ' || replace(replace(replace(
        query, 'usage_by.bucket', quote_literal('day')), 'usage_by.since', quote_literal(since) || '::timestamptz'
    ), 'usage_by.until', '''2026-03-02''::timestamptz');
end
$$;
do $$ begin perform pg_temp.sign_in('acme'); end $$;
select isnt_empty(
    $$select line from pg_temp.plan_of_usage() as line where line ~ 'Index Scan (using|on) routing_outcomes_opened_at_idx'$$,
    'decisions are found by the index on organization and time'
);
select isnt_empty(
    $$
        select line from pg_temp.plan_of_usage() as line
        where line ~ 'Index Cond: .*organization_id = (\(InitPlan \d+\)\.col1|\$\d+).*opened_at >=.*opened_at <'
    $$,
    'within it by the claim, worked out beforehand, and the range'
);
select is_empty(
    $$
        select line from pg_temp.plan_of_usage() as line
        where line ~ '^\s*(Filter|Index Cond|Recheck Cond|Join Filter|Hash Cond|One-Time Filter):'
            and line ~ '(current_setting|auth\.\w+)\('
    $$,
    'no row reads the claims anew'
);
select isnt_empty(
    $$
        select line from pg_temp.plan_of_usage() as line
        where line ~ 'Index Cond: .*routing_outcome_id = decision\.id'
    $$,
    'attempts are looked up decision by decision'
);
select is_empty(
    $$select line from pg_temp.plan_of_usage() as line where line ~ '(Hash|Merge) .*Join|Seq Scan'$$,
    'and never read as a whole'
);
select is_empty(
    $$select line from pg_temp.plan_of_usage('2025-02-01') as line where line ~ '(Hash|Merge) .*Join'$$,
    'not even for a year, where a join of all attempts would be taken for cheaper'
);

select * from finish();
rollback;
