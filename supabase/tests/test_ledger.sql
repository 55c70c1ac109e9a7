-- What an operator does to a wallet: top-ups, refunds, corrections. Each once, each with who and why.
begin;
select plan(31);

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

-- Completes a decision at a charge, nano-USD; returns its outcome.
create function pg_temp.complete(name text, charge bigint) returns text language sql as $$
    select public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'attempt', pg_temp.result(name || ' attempt 1', jsonb_build_object('status', 'succeeded', 'input_tokens', charge))
    ))) -> 0 ->> 'outcome_status'
$$;


do $$
begin
    perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000, 'invoice 1', 'ann');
    perform public.set_spend_cap(pg_temp.id('day'), pg_temp.id('acme'), null, 'day', 500);
    perform public.set_spend_cap(pg_temp.id('life'), pg_temp.id('acme'), pg_temp.id('acme agent'), 'lifetime', 500);
end
$$;
set local role service_role;
create function pg_temp.charged() returns text language sql as $$
    select string_agg(charged_nano_usd::text, ' ') from public.spend_counters where organization_id = pg_temp.id('acme')
$$;
create function pg_temp.refund(name text, amount bigint, decision text default 'call', organization text default 'acme')
returns bigint language sql as $$
    select public.refund_decision(
        pg_temp.id(name), pg_temp.id(organization), pg_temp.id(decision), amount, 'did not answer the question', 'ann'
    )
$$;

select is(pg_temp.open(pg_temp.opening('call')), array[null], 'a decision is open');
select throws_ok(
    $$select pg_temp.refund('early', 1)$$, '22023',
    format('Decision %s was charged 0 nano-USD, of which 0 are refunded; nothing was changed.', pg_temp.id('call')),
    'what is not settled cannot be refunded'
);
select is(pg_temp.complete('call', 80), 'succeeded', 'it is charged 80');
select is(pg_temp.charged(), '80 80', 'its caps count that');
select is(pg_temp.refund('refund', 30), 950::bigint, 'a part is refunded');
select is(pg_temp.refund('refund', 30), 950::bigint, 'a refund that is sent twice is one');
select is(pg_temp.charged(), '50 50', 'the caps of its windows count it no longer');
select throws_ok(
    $$select pg_temp.refund('refund', 31)$$, '23505',
    format('The entry id %s is taken by another refund; nothing was changed.', pg_temp.id('refund')),
    'the id of one refund cannot stand for another'
);
select throws_ok(
    $$select pg_temp.refund('too much', 51)$$, '22023',
    format('Decision %s was charged 80 nano-USD, of which 30 are refunded; nothing was changed.', pg_temp.id('call')),
    'no more is refunded than was charged'
);
select throws_ok(
    $$select pg_temp.refund('foreign', 1, organization => 'zenith')$$, '22023', null,
    'another organization''s decision is not refunded'
);
select is(pg_temp.refund('rest', 50), 1000::bigint, 'the rest is refunded');
select is(pg_temp.refund('rest', 50), 1000::bigint, 'sent again, it is weighed as it was the first time');
select is(pg_temp.charged(), '0 0', 'nothing is counted any more');
select throws_ok(
    format('select pg_temp.refund(''bad'', %s)', amount), '22023',
    format('The amount is %s nano-USD; nothing was changed.', amount), format('a refund of %s is refused', amount)
)
from unnest(array[0, -5]) as amount;
select results_eq(
    $$
        select kind, debit_account, credit_account, amount_nano_usd, actor, note, routing_outcome_id = pg_temp.id('call')
        from public.ledger_entries where id = pg_temp.id('refund')
    $$,
    $$values ('refund', 'usage', 'wallet', 30::bigint, 'ann', 'did not answer the question', true)$$,
    'the ledger says who refunded what, and why'
);

select is(
    public.correct_wallet(pg_temp.id('gain'), pg_temp.id('acme'), 5, 'goodwill', 'ann'), 1005::bigint,
    'a correction gives'
);
select is(
    public.correct_wallet(pg_temp.id('taken'), pg_temp.id('acme'), -105, 'paid twice', 'ann'), 900::bigint,
    'a correction takes'
);
select is(
    public.correct_wallet(pg_temp.id('taken'), pg_temp.id('acme'), -105, 'paid twice', 'ann'), 900::bigint,
    'a correction that is sent twice is one'
);
select throws_ok(
    $$select public.correct_wallet(pg_temp.id('taken'), pg_temp.id('acme'), 105, 'paid twice', 'ann')$$, '23505', null,
    'the id of what was taken cannot stand for what is given'
);
select is(pg_temp.charged(), '0 0', 'no cap counts a correction');
select is(pg_temp.open(pg_temp.opening('held')), array[null], 'a decision holds 100');
select throws_ok(
    $$select public.correct_wallet(pg_temp.id('all'), pg_temp.id('acme'), -801, 'closing', 'ann')$$, '22023',
    'The wallet has 800 nano-USD that nothing holds; nothing was changed.', 'what is held cannot be taken'
);
select is(
    public.correct_wallet(pg_temp.id('all'), pg_temp.id('acme'), -800, 'closing', 'ann'), 100::bigint,
    'what is not held can'
);
select throws_ok(
    format('select public.correct_wallet(pg_temp.id(''why''), pg_temp.id(''acme''), 1, %L, %L)', note, actor), '23514',
    null, format('a correction by `%s` because of `%s` is refused', actor, note)
)
from (values ('', 'ann'), ('goodwill', '')) as correction (note, actor);
select throws_ok(
    $$select public.correct_wallet(pg_temp.id('lost'), pg_temp.id('nobody'), 1, 'why', 'ann')$$, '22023',
    format('There is no organization %s; nothing was changed.', pg_temp.id('nobody')), 'nobody''s wallet is not corrected'
);
select throws_ok(
    format('%s public.ledger_entries', verb), '42501', null, format('the backend itself may not %s', verb)
)
from unnest(array['insert into public.ledger_entries select * from', 'delete from', 'truncate']) as verb;
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
