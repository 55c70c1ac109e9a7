-- Idempotency-Keys: one decision a key, claimed as it is opened; who comes later is told whose it is.
begin;
select plan(42);

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


do $$ begin perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000); end $$;
-- A request under a key, and how it was answered: opened, refused, or held by which decision.
create function pg_temp.keyed(name text, key text default 'key', body text default 'body', changes jsonb default '{}')
returns jsonb language sql as $$
    select pg_temp.opening(name, jsonb_build_object(
        'idempotency_key', key, 'body_hash', encode(sha256(body::bytea), 'hex'), 'key_seconds', 3600
    ) || changes)
$$;
create function pg_temp.ask(variadic items jsonb []) returns text [] language sql as $$
    select array_agg(coalesce(
        answer ->> 'error', answer ->> 'outcome_status',
        case when (answer ->> 'is_held')::boolean then 'held' end,
        'opened'
    ) order by place)
    from jsonb_array_elements(public.insert_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;
create function pg_temp.finish(name text, status text, attempt jsonb, changes jsonb default '{}') returns text
language sql as $$
    select public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', status,
        'attempt', pg_temp.result(name || ' attempt 1', attempt)
    ) || changes)) -> 0 ->> 'outcome_status'
$$;
set local role service_role;

select is(pg_temp.ask(pg_temp.keyed('first')), array['opened'], 'the first request under a key is opened');
select is(pg_temp.ask(pg_temp.keyed('first')), array['opened'], 'sent again by the same backend, it is the same decision');
select is(pg_temp.ask(pg_temp.keyed('second')), array['held'], 'a second one is told that another has the key');
select is(pg_temp.decision('second', 'id'), null, 'and opens nothing');
select is(pg_temp.wallet('acme'), '1000 of which 100 held', 'and holds nothing');
select is(
    pg_temp.ask(pg_temp.keyed('second', body => 'other')), array['held'], 'nor with another body: the hash tells them apart'
);
select is(
    pg_temp.ask(pg_temp.keyed('dead', changes => '{"api_key_id": null}')), array['rejected_key'],
    'who may not call any more is not told of another''s decision'
);
select is(
    pg_temp.ask(pg_temp.keyed('third', changes => pg_temp.of_second(10))), array['opened'], 'another agent has its own keys'
);
select is(pg_temp.finish('first', 'succeeded', '{"status": "succeeded"}'), 'succeeded', 'the first one is answered');
select is(pg_temp.ask(pg_temp.keyed('fourth')), array['held'], 'a decision keeps its key when it is over');
select is(
    public.read_idempotency_key(pg_temp.id('acme agent'), 'key'),
    jsonb_build_object(
        'decision_id', pg_temp.id('first'), 'body_hash', encode(sha256('body'), 'hex'), 'outcome_status', 'succeeded',
        'charge_nano_usd', 10, 'answer', null
    ),
    'it can be looked up what became of it'
);
select is(public.read_idempotency_key(pg_temp.id('acme agent'), 'unknown'), null, 'a key that nobody has is nobody''s');

-- A key that brought nothing is free again.
select is(
    pg_temp.ask(pg_temp.keyed('dear', 'poor', changes => '{"bound_nano_usd": 5000}'), pg_temp.keyed('fourth', 'poor')),
    array['rejected_funds', 'held'], 'of two requests under a key in one batch the second waits for the first'
);
select is(pg_temp.ask(pg_temp.keyed('fourth', 'poor')), array['opened'], 'a refused decision leaves its key to the next one');
select is(
    pg_temp.finish('fourth', 'failed_provider_error', '{"input_tokens": 0}'), 'failed_provider_error', 'which fails for free'
);
select is(pg_temp.ask(pg_temp.keyed('last', 'poor')), array['opened'], 'and leaves it to a third one');
select is(
    pg_temp.finish('last', 'failed_provider_error', '{"status": "cut", "input_tokens": 5}'), 'failed_provider_error',
    'which breaks in mid-stream and is charged'
);
select is(pg_temp.ask(pg_temp.keyed('second', 'poor')), array['held'], 'and keeps the key');
select is(
    pg_temp.ask(pg_temp.keyed('twin', 'sent', changes => '{"lease_seconds": -1}')), array['opened'], 'a decision is open'
);
select is(public.sweep_decisions(10), 1, 'its process goes away');
select is(
    pg_temp.ask(pg_temp.keyed('second', 'sent')), array['held'],
    'an abandoned decision keeps its key: the provider may have answered'
);

-- A failover that is refused frees the key; an answer that broke does not, though nobody could pay for it.
create function pg_temp.refused_failover(name text) returns text language sql as $$
    select public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id(name || ' attempt 2'), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'bound_nano_usd', 5000, 'previous', pg_temp.result(name || ' attempt 1', '{"input_tokens": 0}')
    ))) -> 0 ->> 'outcome_status'
$$;
select is(pg_temp.ask(pg_temp.keyed('poor failover', 'failover')), array['opened'], 'a decision is open');
select is(pg_temp.refused_failover('poor failover'), 'rejected_funds', 'its dearer attempt is refused');
select is(
    pg_temp.ask(pg_temp.keyed('richer', 'failover', changes => '{"lease_seconds": -1, "bound_nano_usd": 5}')), array['opened'],
    'the key is free'
);
select cmp_ok(public.sweep_decisions(10), '>=', 1, 'the next decision is swept');
do $$
begin
    perform public.correct_wallet(pg_temp.id('all'), pg_temp.id('acme'), held_nano_usd - balance_nano_usd, 'test', 'pgtap')
    from public.wallets where organization_id = pg_temp.id('acme');
end
$$;
select is(
    pg_temp.finish('richer', 'failed_provider_error', '{"status": "cut", "input_tokens": 5}'), 'failed_provider_error',
    'it breaks in mid-stream, and nobody can pay for it any more'
);
select is(pg_temp.decision('richer', 'charge_nano_usd'), '0', 'it is free');
select is(pg_temp.ask(pg_temp.keyed('again', 'failover')), array['held'], 'and keeps the key all the same');
do $$ begin perform public.top_up_wallet(pg_temp.id('more'), pg_temp.id('acme'), 1000); end $$;

-- Answers are stored where the organization asks for it.
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.keyed('second', 'stored'))) -> 0 -> 'keeps_answer', 'false',
    'without that the backend is not to send the answer'
);
select is(
    pg_temp.finish('second', 'succeeded', '{"status": "succeeded"}', '{"answer": "sealed"}'), 'succeeded',
    'if it does all the same'
);
select is(public.read_idempotency_key(pg_temp.id('acme agent'), 'stored') ->> 'answer', null, 'it is not stored');
reset role;
update public.organizations set stored_answer_hours = 2 where id = pg_temp.id('acme');
set local role service_role;
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.keyed('kept', 'kept'))) -> 0 -> 'keeps_answer', 'true',
    'with it, it is to send the answer'
);
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.opening('unkeyed'))) -> 0 -> 'keeps_answer', 'false',
    'of a request without a key it is not'
);
select is(
    pg_temp.finish('kept', 'succeeded', '{"status": "succeeded"}', '{"answer": "sealed"}'), 'succeeded', 'it does'
);
select is(public.read_idempotency_key(pg_temp.id('acme agent'), 'kept') ->> 'answer', 'sealed', 'and it is stored');
reset role;
select results_eq(
    $$
        select claim.expires_at > now() + interval '115 minutes', answer.expires_at > now() + interval '115 minutes'
        from public.idempotency_keys as claim
        inner join public.stored_answers as answer on claim.routing_outcome_id = answer.routing_outcome_id
        where claim.key = 'kept'
    $$,
    'values (true, true)', 'both are kept for as long as the organization asks'
);
update public.stored_answers set expires_at = now() - interval '1 second' where organization_id = pg_temp.id('acme');
select is(
    public.read_idempotency_key(pg_temp.id('acme agent'), 'kept') ->> 'answer', null,
    'an answer whose time is up is given no more, swept or not'
);
update public.idempotency_keys set expires_at = now() - interval '1 second' where key = 'kept';
update public.stored_answers set expires_at = now() - interval '1 second' where organization_id = pg_temp.id('acme');
set local role service_role;
select is(pg_temp.ask(pg_temp.keyed('kept again', 'kept')), array['opened'], 'a key whose time is up is free');
reset role;
update public.idempotency_keys set expires_at = now() - interval '1 second' where key = 'sent';
set local role service_role;
select cmp_ok(public.sweep_decisions(10), '>=', 1, 'a sweep');
reset role;
select is(
    array(select key from public.idempotency_keys where organization_id = pg_temp.id('acme') order by key),
    array['failover', 'kept', 'key', 'key', 'poor', 'stored'], 'deletes keys whose time is up'
);
select is_empty(
    $$select from public.stored_answers where organization_id = pg_temp.id('acme')$$, 'and stored answers'
);
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
