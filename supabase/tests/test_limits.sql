-- Limits that say how much they would let through: clamped reservations, and requests and tokens a minute.
begin;
select plan(56);

-- Ids are hashes of names: the same in every run, and nobody else's.
create function pg_temp.id(name text) returns uuid language sql immutable return md5('clearfloor pgtap ' || name)::uuid;

insert into public.organizations (id, name) select pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.agents (id, organization_id, name)
select pg_temp.id(name || ' agent'), pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash)
select pg_temp.id(name || ' key'), pg_temp.id(name), pg_temp.id(name || ' agent'), name, 'cf_', sha256(name::bytea)
from unnest(array['acme', 'zenith']) as name;
insert into public.providers (name, base_url) values ('pgtap', 'http://pgtap.example/v1');
insert into public.models (name) values ('pgtap');
insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens)
values (pg_temp.id('candidate'), 'pgtap', 'pgtap', 'pgtap', 1000, 1000);
-- Nano-USD a token: input 1, cache read 0.1, cache write 2, output 3, reasoning 5.
insert into public.prices values
(pg_temp.id('price'), pg_temp.id('candidate'), now(), array[(0, 1000000, 100000, 2000000, 4000000, 3000000, 5000000)::public.price_tier], 'pgtap');
insert into public.catalogue_snapshots (version, digest, content) overriding system value values (-1, 'pgtap', '[]');

-- What the backend sends to open a decision: acme's own, reserving 100, unless `changes` says otherwise.
create function pg_temp.opening(name text, changes jsonb default '{}') returns jsonb language sql as $$
    select jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'agent_id', pg_temp.id('acme agent'),
        'api_key_id', pg_temp.id('acme key'), 'requested_model', 'auto', 'requested_rule', 'cheapest_clearing_floor',
        'floor', 0.7, 'task', 'general', 'stream', false, 'catalogue_version', -1, 'routing_request', '{}'::jsonb,
        'candidates', '[]'::jsonb, 'lease_seconds', 60, 'inference_id', pg_temp.id(name || ' attempt 1'),
        'candidate_id', pg_temp.id('candidate'), 'price_id', pg_temp.id('price'), 'bound_nano_usd', 100
    ) || changes
$$;

-- Opens decisions in one call; returns how each was answered: null is open.
create function pg_temp.open(variadic items jsonb []) returns text [] language sql as $$
    select array_agg(coalesce(answer ->> 'error', answer ->> 'outcome_status') order by place)
    from jsonb_array_elements(public.insert_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- What the backend says of an attempt: it failed with a 500 after 10 input tokens, unless `changes` says otherwise.
create function pg_temp.result(name text, changes jsonb default '{}') returns jsonb language sql as $$
    select jsonb_build_object(
        'inference_id', pg_temp.id(name), 'status', 'failed', 'http_calls', 1, 'http_status', 500,
        'error_class', 'server_error', 'input_tokens', 10, 'usage_source', 'provider',
        'usage_convention', 'openai', 'reported_usage', '{"prompt_tokens": 10}'::jsonb
    ) || changes
$$;

-- Reads back one value of a decision, an attempt or a wallet as text.
create function pg_temp.decision(name text, field text) returns text language sql as $$
    select to_jsonb(decision) ->> field from public.routing_outcomes as decision where decision.id = pg_temp.id(name)
$$;
create function pg_temp.attempt(name text, field text) returns text language sql as $$
    select to_jsonb(attempt) ->> field from public.inferences as attempt where attempt.id = pg_temp.id(name)
$$;
create function pg_temp.wallet(name text) returns text language sql as $$
    select format('%s of which %s held', balance_nano_usd, held_nano_usd)
    from public.wallets where organization_id = pg_temp.id(name)
$$;


create function pg_temp.wrong_books() returns setof text language sql as $$
    select concat_ws(' ', invariant, subject_id, detail) from public.gateway_invariants()
    where organization_id in (pg_temp.id('acme'), pg_temp.id('zenith'))
$$;

insert into public.agents (id, organization_id, name) values (pg_temp.id('second agent'), pg_temp.id('acme'), 'second');
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash)
values (pg_temp.id('second key'), pg_temp.id('acme'), pg_temp.id('second agent'), 'second', 'cf_', sha256('second'));

create function pg_temp.of_second(bound bigint) returns jsonb language sql as $$
    select jsonb_build_object(
        'agent_id', pg_temp.id('second agent'), 'api_key_id', pg_temp.id('second key'), 'bound_nano_usd', bound
    )
$$;

-- Completes a decision at a charge, nano-USD; returns its outcome.
create function pg_temp.complete(name text, charge bigint) returns text language sql as $$
    select public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'attempt', pg_temp.result(name || ' attempt 1', jsonb_build_object('status', 'succeeded', 'input_tokens', charge))
    ))) -> 0 ->> 'outcome_status'
$$;


do $$ begin perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000); end $$;
set local role service_role;

-- A reservation that makes do with less takes what there is, down to its least.
create function pg_temp.bound(item jsonb) returns text language sql as $$
    select coalesce(answer ->> 'outcome_status', answer ->> 'error', answer ->> 'bound_nano_usd')
    from jsonb_array_elements(public.insert_decisions(jsonb_build_array(item))) as answer
$$;
select is(
    pg_temp.bound(pg_temp.opening('roomy', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), '700',
    'where there is room the bound is the whole one'
);
select is(
    pg_temp.bound(pg_temp.opening('clamped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), '300',
    'where the wallet has less, it is what the wallet has'
);
select is(
    pg_temp.bound(pg_temp.opening('clamped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), '300',
    'a clamped decision that is sent twice is answered in the same way'
);
select is(
    concat_ws(' ', pg_temp.decision('clamped', 'reserved_nano_usd'), pg_temp.attempt('clamped attempt 1', 'bound_nano_usd')),
    '300 300', 'decision and attempt both have it'
);
select is(pg_temp.wallet('acme'), '1000 of which 1000 held', 'all of the wallet is held');
select is(
    pg_temp.bound(pg_temp.opening('nothing', '{"bound_nano_usd": 700, "least_bound_nano_usd": 10}')), 'rejected_funds',
    'where there is less than the least, it is refused'
);
select is(
    (pg_temp.decision('nothing', 'refusal')::jsonb) ->> 'needed_nano_usd', '10', 'the refusal says what the least is'
);
select is(pg_temp.complete('roomy', 500), 'succeeded', 'one is completed');
select is(
    public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), pg_temp.id('acme agent'), 'day', 850), pg_temp.id('cap'),
    'a cap is set of which 50 are left'
);
select is(
    pg_temp.bound(pg_temp.opening('capped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 50}')), '50',
    'the tightest limit counts'
);
select is(
    pg_temp.bound(pg_temp.opening('capped too', '{"bound_nano_usd": 700, "least_bound_nano_usd": 1}')), 'rejected_cap',
    'a cap of which nothing is left refuses it'
);
select is(
    public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), pg_temp.id('acme agent'), 'day', 900), pg_temp.id('cap'),
    'the cap is raised by 50'
);
create function pg_temp.next_attempt(name text, changes jsonb) returns jsonb language sql as $$
    select public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id(name || ' attempt 2'), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'previous', pg_temp.result(name || ' attempt 1')
    ) || changes)) -> 0
$$;
select is(
    pg_temp.next_attempt('capped', '{"bound_nano_usd": 700, "least_bound_nano_usd": 60}') ->> 'bound_nano_usd', '100',
    'a failover takes what is reserved and what is left on top'
);
select is(pg_temp.decision('capped', 'reserved_nano_usd'), '100', 'the reservation is raised by as much');
select is(
    pg_temp.next_attempt('clamped', '{"bound_nano_usd": 200, "least_bound_nano_usd": 60}') ->> 'bound_nano_usd', '200',
    'a failover that fits what is reserved raises nothing'
);
select is_empty('select pg_temp.wrong_books()', 'after clamps the books are right');

-- Requests a minute: a bucket of two, for the agent.
do $$ begin perform public.top_up_wallet(pg_temp.id('more funds'), pg_temp.id('acme'), 100000); end $$;
create function pg_temp.second(name text, changes jsonb default '{}') returns jsonb language sql as $$
    select pg_temp.opening(name, pg_temp.of_second(10) || changes)
$$;
select is(
    public.set_rate_limit(pg_temp.id('rate'), pg_temp.id('acme'), pg_temp.id('second agent'), 2, null), pg_temp.id('rate'),
    'a limit of two requests a minute is set'
);
select is(
    pg_temp.open(pg_temp.second('one'), pg_temp.second('two'), pg_temp.second('three')),
    (select array_agg(case when rank = 3 then 'rejected_rate' end order by place)
     from (select place, rank() over (order by pg_temp.id(name)) as rank
           from unnest(array['one', 'two', 'three']) with ordinality as item (name, place)) as ranked),
    'of three requests in one batch two are let through, the older ones'
);
select is(pg_temp.open(pg_temp.second('four')), array['rejected_rate'], 'the next one is refused');
select is(
    (pg_temp.decision('four', 'refusal')::jsonb) - '{rate_limit_id,resets_at}'::text[],
    '{"scope": "agent", "unit": "requests", "limit_per_minute": 2, "left": 0, "needed": 1}',
    'a refusal says what the limit is, what is left and what is needed'
);
select cmp_ok(
    ((pg_temp.decision('four', 'refusal')::jsonb) ->> 'resets_at')::timestamptz, '<=', now() + interval '61 seconds',
    'and when to come back'
);
select is(pg_temp.open(pg_temp.opening('other agent')), array['rejected_cap'], 'another agent has its own limits');
reset role;
update public.rate_limits set requests_full_at = requests_full_at - interval '31 seconds' where id = pg_temp.id('rate');
set local role service_role;
select is(
    pg_temp.open(pg_temp.second('five')), array[null], 'half a minute fills up one of two requests'
);
select is(pg_temp.open(pg_temp.second('six')), array['rejected_rate'], 'and no more');

-- Tokens a minute: taken by what is expected, given back what was not used.
select is(
    public.set_rate_limit(pg_temp.id('other id'), pg_temp.id('acme'), pg_temp.id('second agent'), null, 1000),
    pg_temp.id('rate'), 'a limit that is changed keeps its id'
);
select is(
    pg_temp.open(pg_temp.second('tokens', '{"metered_tokens": 900}'), pg_temp.second('free', '{
        "metered_tokens": 50, "bound_nano_usd": 0
    }')),
    array[null, null], 'tokens are taken, for a free model, too'
);
-- Buckets fill up while this runs; when one will be full does not depend on that.
select cmp_ok(
    (select tokens_full_at from public.rate_limits where id = pg_temp.id('rate')), '>=', now() + interval '57 seconds',
    'both have taken theirs'
);
create temp table before as select tokens_full_at from public.rate_limits where id = pg_temp.id('rate');
create function pg_temp.taken_since() returns numeric language sql as $$
    select round(extract(epoch from bucket.tokens_full_at - before.tokens_full_at) * 1000 / 60)
    from public.rate_limits as bucket, before where bucket.id = pg_temp.id('rate')
$$;
select is(
    pg_temp.open(pg_temp.second('too many', '{"metered_tokens": 100}')), array['rejected_rate'], 'tokens run out'
);
select is(pg_temp.taken_since(), 0::numeric, 'who is refused takes none');
select is(
    pg_temp.open(pg_temp.second('never', '{"metered_tokens": 1001}')), array['rejected_rate'],
    'more than a minute''s worth is refused'
);
select is(
    (pg_temp.decision('never', 'refusal')::jsonb) ->> 'resets_at', null, 'of what never fits nobody says when to come back'
);
-- Opened in the future: no time passes for it while this runs.
reset role;
update public.routing_outcomes set opened_at = opened_at + interval '1 hour' where id = pg_temp.id('tokens');
set local role service_role;
select is(pg_temp.complete('tokens', 8), 'succeeded', 'a call used 8 tokens of its 900');
select is(pg_temp.taken_since(), -892::numeric, 'the others are given back');
select is(
    public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id('free'), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'cancelled',
        'attempt', pg_temp.result('free attempt 1', '{"status": "cancelled", "input_tokens": 300}')
    ))) -> 0 ->> 'outcome_status',
    'cancelled', 'a call used 300 tokens where 50 were expected'
);
select is(pg_temp.taken_since(), -642::numeric, 'what was used beyond is taken, too');
select is(
    pg_temp.open(pg_temp.second('poor', '{"metered_tokens": 10, "bound_nano_usd": 200000}')), array['rejected_funds'],
    'a request that the wallet cannot take'
);
select is(pg_temp.taken_since(), -642::numeric, 'takes nothing from the rate limits: all or nothing');

select is(pg_temp.open(pg_temp.second('long', '{"metered_tokens": 100}')), array[null], 'a call is opened');
select is(pg_temp.taken_since(), -542::numeric, 'and takes its tokens');
reset role;
update public.routing_outcomes set opened_at = opened_at - interval '7 seconds' where id = pg_temp.id('long');
set local role service_role;
select is(pg_temp.complete('long', 0), 'succeeded', 'it ends seven seconds later without having used any');
select is(pg_temp.taken_since(), -542::numeric, 'time has filled up as many by then: none is given back a second time');
select is(
    pg_temp.open(pg_temp.second('lost', '{"metered_tokens": 100, "lease_seconds": -1}')), array[null], 'a call is opened'
);
select cmp_ok(public.sweep_decisions(10), '>=', 1, 'and swept');
select is(pg_temp.taken_since(), -442::numeric, 'nobody knows what it used: its tokens stay taken');
select is(pg_temp.open(pg_temp.second('before', '{"metered_tokens": 0}')), array[null], 'a call is opened');
reset role;
update public.routing_outcomes set metered_tokens = 500, opened_at = opened_at - interval '1 second'
where id = pg_temp.id('before');
update public.rate_limits set created_at = clock_timestamp() where id = pg_temp.id('rate');
set local role service_role;
select is(pg_temp.complete('before', 0), 'succeeded', 'it took its tokens before this limit was set');
select is(pg_temp.taken_since(), -442::numeric, 'and gives this limit none that it did not take');
reset role;
update public.rate_limits set tokens_full_at = now() - interval '1 hour' where id = pg_temp.id('rate');
set local role service_role;
select is(
    (
        select array_agg(status order by status) from unnest(pg_temp.open(
            pg_temp.second('full', '{"metered_tokens": 1000}'), pg_temp.second('fuller', '{"metered_tokens": 1000}')
        )) as status
    ),
    array['rejected_rate', null], 'an idle hour saves up no more than a minute''s worth'
);

-- The organization's own limit is beside its agents'.
select is(
    public.set_rate_limit(pg_temp.id('all'), pg_temp.id('acme'), null, 1, null), pg_temp.id('all'),
    'a limit of one request is set for the organization'
);
select is(pg_temp.open(pg_temp.second('seven')), array[null], 'one request goes through');
select is(
    pg_temp.open(pg_temp.second('eight')) || ((pg_temp.decision('eight', 'refusal')::jsonb) ->> 'scope'),
    array['rejected_rate', 'organization'], 'the next one is refused by the organization''s limit'
);
select is(
    public.set_rate_limit(null, pg_temp.id('acme'), null, null, null), pg_temp.id('all'), 'a limit is removed'
);
select is(pg_temp.open(pg_temp.second('nine')), array[null], 'and limits nothing any more');
select throws_ok(
    $$select public.set_rate_limit(pg_temp.id('none'), pg_temp.id('zenith'), null, 0, null)$$, '23514', null,
    'a limit of no request at all is no limit: the agent can be switched off'
);
select throws_ok(
    $$select public.set_rate_limit(pg_temp.id('none'), pg_temp.id('nobody'), null, 1, null)$$, '22023', null,
    'an unknown organization has no limits'
);
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
