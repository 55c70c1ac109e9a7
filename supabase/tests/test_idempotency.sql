-- Idempotency-Keys: one decision a key, claimed as it is opened; who comes later is told whose it is.
begin;
select plan(42);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

do $$ begin perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000); end $$;

-- A request under a key, and how it was answered: opened, refused, or held by which decision.
create function pg_temp.keyed(
    name text, key text default 'key', body text default 'body', changes jsonb default '{}', agent text default 'acme'
) returns jsonb language sql as $$
    select clearfloor_tests.opening(name, jsonb_build_object(
        'idempotency_key', key, 'body_hash', encode(sha256(body::bytea), 'hex'), 'key_seconds', 3600
    ) || changes, agent)
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
        'id', clearfloor_tests.id(name), 'organization_id', clearfloor_tests.id('acme'), 'outcome_status', status,
        'attempt', clearfloor_tests.result(name || ' attempt 1', attempt)
    ) || changes)) -> 0 ->> 'outcome_status'
$$;

set local role service_role;

select is(pg_temp.ask(pg_temp.keyed('first')), array['opened'], 'the first request under a key is opened');
select is(pg_temp.ask(pg_temp.keyed('first')), array['opened'], 'sent again by the same backend, it is the same decision');
select is(pg_temp.ask(pg_temp.keyed('second')), array['held'], 'a second one is told that another has the key');
select is(clearfloor_tests.decision('second', 'id'), null, 'and opens nothing');
select is(clearfloor_tests.wallet('acme'), '1000 of which 100 held', 'and holds nothing');
select is(
    pg_temp.ask(pg_temp.keyed('second', body => 'other')), array['held'], 'nor with another body: the hash tells them apart'
);
select is(
    pg_temp.ask(pg_temp.keyed('dead', changes => '{"api_key_id": null}')), array['rejected_key'],
    'who may not call any more is not told of another''s decision'
);
select is(
    pg_temp.ask(pg_temp.keyed('third', changes => '{"bound_nano_usd": 10}', agent => 'second')), array['opened'],
    'another agent has its own keys'
);
select is(pg_temp.finish('first', 'succeeded', '{"status": "succeeded"}'), 'succeeded', 'the first one is answered');
select is(pg_temp.ask(pg_temp.keyed('fourth')), array['held'], 'a decision keeps its key when it is over');
select is(
    public.read_idempotency_key(clearfloor_tests.id('acme agent'), 'key'),
    jsonb_build_object(
        'decision_id', clearfloor_tests.id('first'), 'body_hash', encode(sha256('body'), 'hex'), 'outcome_status', 'succeeded',
        'charge_nano_usd', 10, 'answer', null
    ),
    'it can be looked up what became of it'
);
select is(public.read_idempotency_key(clearfloor_tests.id('acme agent'), 'unknown'), null, 'a key that nobody has is nobody''s');

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
    pg_temp.ask(pg_temp.keyed('twin', 'sent', changes => '{"lease_seconds": -60}')), array['opened'], 'a decision is open'
);
select is(public.sweep_decisions(10), 1, 'its process goes away');
select is(
    pg_temp.ask(pg_temp.keyed('second', 'sent')), array['held'],
    'an abandoned decision keeps its key: the provider may have answered'
);

-- A failover that is refused frees the key; an answer that broke does not, though nobody could pay for it.
select is(pg_temp.ask(pg_temp.keyed('poor failover', 'failover')), array['opened'], 'a decision is open');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('poor failover', 2, 5000, '{"input_tokens": 0}')),
    array['false rejected_funds'], 'its dearer attempt is refused'
);
select is(
    pg_temp.ask(pg_temp.keyed('richer', 'failover', changes => '{"lease_seconds": -60, "bound_nano_usd": 5}')), array['opened'],
    'the key is free'
);
select cmp_ok(public.sweep_decisions(10), '>=', 1, 'the next decision is swept');
do $$
begin
    perform public.correct_wallet(
        clearfloor_tests.id('all'), clearfloor_tests.id('acme'), held_nano_usd - balance_nano_usd, 'test', 'pgtap'
    )
    from public.wallets where organization_id = clearfloor_tests.id('acme');
end
$$;
select is(
    pg_temp.finish('richer', 'failed_provider_error', '{"status": "cut", "input_tokens": 5}'), 'failed_provider_error',
    'it breaks in mid-stream, and nobody can pay for it any more'
);
select is(clearfloor_tests.decision('richer', 'charge_nano_usd'), '0', 'it is free');
select is(pg_temp.ask(pg_temp.keyed('again', 'failover')), array['held'], 'and keeps the key all the same');
do $$ begin perform public.top_up_wallet(clearfloor_tests.id('more'), clearfloor_tests.id('acme'), 1000); end $$;

-- Answers are stored where the organization asks for it.
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.keyed('second', 'stored'))) -> 0 -> 'keeps_answer', 'false',
    'without that the backend is not to send the answer'
);
select is(
    pg_temp.finish('second', 'succeeded', '{"status": "succeeded"}', '{"answer": "sealed"}'), 'succeeded',
    'if it does all the same'
);
select is(public.read_idempotency_key(clearfloor_tests.id('acme agent'), 'stored') ->> 'answer', null, 'it is not stored');
reset role;
update public.organizations set stored_answer_hours = 2 where id = clearfloor_tests.id('acme');
set local role service_role;
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.keyed('kept', 'kept'))) -> 0 -> 'keeps_answer', 'true',
    'with it, it is to send the answer'
);
select is(
    public.insert_decisions(jsonb_build_array(clearfloor_tests.opening('unkeyed'))) -> 0 -> 'keeps_answer', 'false',
    'of a request without a key it is not'
);
select is(
    pg_temp.finish('kept', 'succeeded', '{"status": "succeeded"}', '{"answer": "sealed"}'), 'succeeded', 'it does'
);
select is(public.read_idempotency_key(clearfloor_tests.id('acme agent'), 'kept') ->> 'answer', 'sealed', 'and it is stored');
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
update public.stored_answers set expires_at = now() - interval '1 second' where organization_id = clearfloor_tests.id('acme');
select is(
    public.read_idempotency_key(clearfloor_tests.id('acme agent'), 'kept') ->> 'answer', null,
    'an answer whose time is up is given no more, swept or not'
);
update public.idempotency_keys set expires_at = now() - interval '1 second' where key = 'kept';
update public.stored_answers set expires_at = now() - interval '1 second' where organization_id = clearfloor_tests.id('acme');
set local role service_role;
select is(pg_temp.ask(pg_temp.keyed('kept again', 'kept')), array['opened'], 'a key whose time is up is free');
reset role;
update public.idempotency_keys set expires_at = now() - interval '1 second' where key = 'sent';
set local role service_role;
select cmp_ok(public.sweep_decisions(10), '>=', 1, 'a sweep');
reset role;
select is(
    array(select key from public.idempotency_keys where organization_id = clearfloor_tests.id('acme') order by key),
    array['failover', 'kept', 'key', 'key', 'poor', 'stored'], 'deletes keys whose time is up'
);
select is_empty(
    $$select from public.stored_answers where organization_id = clearfloor_tests.id('acme')$$, 'and stored answers'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
