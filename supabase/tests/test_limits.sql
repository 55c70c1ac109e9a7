-- Limits that say how much they would let through: clamped reservations, and requests and tokens a minute.
begin;
select plan(56);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

do $$ begin perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000); end $$;
set local role service_role;

-- A reservation that makes do with less takes what there is, down to its least.
create function pg_temp.bound(item jsonb) returns text language sql as $$
    select coalesce(answer ->> 'outcome_status', answer ->> 'error', answer ->> 'bound_nano_usd')
    from jsonb_array_elements(public.insert_decisions(jsonb_build_array(item))) as answer
$$;
select is(
    pg_temp.bound(clearfloor_tests.opening('roomy', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), '700',
    'where there is room the bound is the whole one'
);
select is(
    pg_temp.bound(clearfloor_tests.opening('clamped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), '300',
    'where the wallet has less, it is what the wallet has'
);
select is(
    pg_temp.bound(clearfloor_tests.opening('clamped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), '300',
    'a clamped decision that is sent twice is answered in the same way'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.decision('clamped', 'reserved_nano_usd'),
        clearfloor_tests.attempt('clamped attempt 1', 'bound_nano_usd')
    ),
    '300 300', 'decision and attempt both have it'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 1000 held', 'all of the wallet is held');
select is(
    pg_temp.bound(clearfloor_tests.opening('nothing', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), 'rejected_funds',
    'where there is less than the least, it is refused'
);
select is(
    (clearfloor_tests.decision('nothing', 'refusal')::jsonb) ->> 'needed_nano_usd', '10', 'the refusal says what the least is'
);
select is(clearfloor_tests.complete_at('roomy', 500), 'succeeded', 'one is completed');
select is(
    public.set_spend_cap(
        clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), 'day', 850
    ),
    clearfloor_tests.id('cap'),
    'a cap is set of which 50 are left'
);
select is(
    pg_temp.bound(clearfloor_tests.opening('capped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 50}')), '50',
    'the tightest limit counts'
);
select is(
    pg_temp.bound(clearfloor_tests.opening('capped too', '{"bound_nano_usd": 700, "least_bound_nano_usd": 1}')), 'rejected_cap',
    'a cap of which nothing is left refuses it'
);
select is(
    public.set_spend_cap(
        clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), 'day', 900
    ),
    clearfloor_tests.id('cap'),
    'the cap is raised by 50'
);
select is(
    public.insert_attempts(jsonb_build_array(
        clearfloor_tests.next_attempt('capped', 2, 700, changes => '{"least_bound_nano_usd": 60}')
    )) -> 0 ->> 'bound_nano_usd', '100',
    'a failover takes what is reserved and what is left on top'
);
select is(clearfloor_tests.decision('capped', 'reserved_nano_usd'), '100', 'the reservation is raised by as much');
select is(
    public.insert_attempts(jsonb_build_array(
        clearfloor_tests.next_attempt('clamped', 2, 200, changes => '{"least_bound_nano_usd": 60}')
    )) -> 0 ->> 'bound_nano_usd', '200',
    'a failover that fits what is reserved raises nothing'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after clamps the books are right');

-- Requests a minute: a bucket of two, for the agent.
do $$ begin perform public.top_up_wallet(clearfloor_tests.id('more funds'), clearfloor_tests.id('acme'), 100000); end $$;
create function pg_temp.second(name text, changes jsonb default '{}') returns jsonb language sql as $$
    select clearfloor_tests.opening(name, '{"bound_nano_usd": 10}'::jsonb || changes, 'second')
$$;
select is(
    public.set_rate_limit(
        clearfloor_tests.id('rate'), clearfloor_tests.id('acme'), clearfloor_tests.id('second agent'), 2, null
    ),
    clearfloor_tests.id('rate'),
    'a limit of two requests a minute is set'
);
select is(
    clearfloor_tests.open(pg_temp.second('one'), pg_temp.second('two'), pg_temp.second('three')),
    (select array_agg(case when rank = 3 then 'rejected_rate' end order by place)
     from (select place, rank() over (order by clearfloor_tests.id(name)) as rank
           from unnest(array['one', 'two', 'three']) with ordinality as item (name, place)) as ranked),
    'of three requests in one batch two are let through, the older ones'
);
select is(clearfloor_tests.open(pg_temp.second('four')), array['rejected_rate'], 'the next one is refused');
select is(
    (clearfloor_tests.decision('four', 'refusal')::jsonb) - '{rate_limit_id,resets_at}'::text[],
    '{"scope": "agent", "unit": "requests", "limit_per_minute": 2, "left": 0, "needed": 1}',
    'a refusal says what the limit is, what is left and what is needed'
);
select cmp_ok(
    ((clearfloor_tests.decision('four', 'refusal')::jsonb) ->> 'resets_at')::timestamptz, '<=', now() + interval '61 seconds',
    'and when to come back'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('other agent')), array['rejected_cap'], 'another agent has its own limits'
);
reset role;
update public.rate_limits set requests_full_at = requests_full_at - interval '31 seconds' where id = clearfloor_tests.id('rate');
set local role service_role;
select is(
    clearfloor_tests.open(pg_temp.second('five')), array[null], 'half a minute fills up one of two requests'
);
select is(clearfloor_tests.open(pg_temp.second('six')), array['rejected_rate'], 'and no more');

-- Tokens a minute: taken by what is expected, given back what was not used.
select is(
    public.set_rate_limit(
        clearfloor_tests.id('other id'), clearfloor_tests.id('acme'), clearfloor_tests.id('second agent'), null, 1000
    ),
    clearfloor_tests.id('rate'), 'a limit that is changed keeps its id'
);
select is(
    clearfloor_tests.open(pg_temp.second('tokens', '{"metered_tokens": 900}'), pg_temp.second('free', '{
        "metered_tokens": 50, "bound_nano_usd": 0
    }')),
    array[null, null], 'tokens are taken, for a free model, too'
);
-- Buckets fill up while this runs; when one will be full does not depend on that.
select cmp_ok(
    (select tokens_full_at from public.rate_limits where id = clearfloor_tests.id('rate')), '>=', now() + interval '57 seconds',
    'both have taken theirs'
);
create temp table before as select tokens_full_at from public.rate_limits where id = clearfloor_tests.id('rate');
create function pg_temp.taken_since() returns numeric language sql as $$
    select round(extract(epoch from bucket.tokens_full_at - before.tokens_full_at) * 1000 / 60)
    from public.rate_limits as bucket, before where bucket.id = clearfloor_tests.id('rate')
$$;
select is(
    clearfloor_tests.open(pg_temp.second('too many', '{"metered_tokens": 100}')), array['rejected_rate'], 'tokens run out'
);
select is(pg_temp.taken_since(), 0::numeric, 'who is refused takes none');
select is(
    clearfloor_tests.open(pg_temp.second('never', '{"metered_tokens": 1001}')), array['rejected_rate'],
    'more than a minute''s worth is refused'
);
select is(
    (clearfloor_tests.decision('never', 'refusal')::jsonb) ->> 'resets_at', null,
    'of what never fits nobody says when to come back'
);
-- Opened in the future: no time passes for it while this runs.
reset role;
update public.routing_outcomes set opened_at = opened_at + interval '1 hour' where id = clearfloor_tests.id('tokens');
set local role service_role;
select is(clearfloor_tests.complete_at('tokens', 8), 'succeeded', 'a call used 8 tokens of its 900');
select is(pg_temp.taken_since(), -892::numeric, 'the others are given back');
select is(
    clearfloor_tests.complete(clearfloor_tests.completion(
        'free', '{"outcome_status": "cancelled"}', '{"status": "cancelled", "input_tokens": 300, "output_tokens": 0}'
    )),
    array['cancelled by cheapest_clearing_floor for 0'], 'a call used 300 tokens where 50 were expected'
);
select is(pg_temp.taken_since(), -642::numeric, 'what was used beyond is taken, too');
select is(
    clearfloor_tests.open(pg_temp.second('poor', '{"metered_tokens": 10, "bound_nano_usd": 200000}')), array['rejected_funds'],
    'a request that the wallet cannot take'
);
select is(pg_temp.taken_since(), -642::numeric, 'takes nothing from the rate limits: all or nothing');

select is(clearfloor_tests.open(pg_temp.second('long', '{"metered_tokens": 100}')), array[null], 'a call is opened');
select is(pg_temp.taken_since(), -542::numeric, 'and takes its tokens');
reset role;
update public.routing_outcomes set opened_at = opened_at - interval '7 seconds' where id = clearfloor_tests.id('long');
set local role service_role;
select is(clearfloor_tests.complete_at('long', 0), 'succeeded', 'it ends seven seconds later without having used any');
select is(pg_temp.taken_since(), -542::numeric, 'time has filled up as many by then: none is given back a second time');
select is(
    clearfloor_tests.open(pg_temp.second('lost', '{"metered_tokens": 100, "lease_seconds": -60}')), array[null], 'a call is opened'
);
select cmp_ok(public.sweep_decisions(10), '>=', 1, 'and swept');
select is(pg_temp.taken_since(), -442::numeric, 'nobody knows what it used: its tokens stay taken');
select is(clearfloor_tests.open(pg_temp.second('before', '{"metered_tokens": 0}')), array[null], 'a call is opened');
reset role;
update public.routing_outcomes set metered_tokens = 500, opened_at = opened_at - interval '1 second'
where id = clearfloor_tests.id('before');
update public.rate_limits set created_at = clock_timestamp() where id = clearfloor_tests.id('rate');
set local role service_role;
select is(clearfloor_tests.complete_at('before', 0), 'succeeded', 'it took its tokens before this limit was set');
select is(pg_temp.taken_since(), -442::numeric, 'and gives this limit none that it did not take');
reset role;
update public.rate_limits set tokens_full_at = now() - interval '1 hour' where id = clearfloor_tests.id('rate');
set local role service_role;
select is(
    (
        select array_agg(status order by status) from unnest(clearfloor_tests.open(
            pg_temp.second('full', '{"metered_tokens": 1000}'), pg_temp.second('fuller', '{"metered_tokens": 1000}')
        )) as status
    ),
    array['rejected_rate', null], 'an idle hour saves up no more than a minute''s worth'
);

-- The organization's own limit is beside its agents'.
select is(
    public.set_rate_limit(clearfloor_tests.id('all'), clearfloor_tests.id('acme'), null, 1, null), clearfloor_tests.id('all'),
    'a limit of one request is set for the organization'
);
select is(clearfloor_tests.open(pg_temp.second('seven')), array[null], 'one request goes through');
select is(
    clearfloor_tests.open(pg_temp.second('eight')) || ((clearfloor_tests.decision('eight', 'refusal')::jsonb) ->> 'scope'),
    array['rejected_rate', 'organization'], 'the next one is refused by the organization''s limit'
);
select is(
    public.set_rate_limit(null, clearfloor_tests.id('acme'), null, null, null), clearfloor_tests.id('all'), 'a limit is removed'
);
select is(clearfloor_tests.open(pg_temp.second('nine')), array[null], 'and limits nothing any more');
select throws_ok(
    $$select public.set_rate_limit(clearfloor_tests.id('none'), clearfloor_tests.id('zenith'), null, 0, null)$$, '23514', null,
    'a limit of no request at all is no limit: the agent can be switched off'
);
select throws_ok(
    $$select public.set_rate_limit(clearfloor_tests.id('none'), clearfloor_tests.id('nobody'), null, 1, null)$$, '22023', null,
    'an unknown organization has no limits'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
