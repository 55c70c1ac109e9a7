-- Sweeping what a crash left open: released, free, and named as what it is.
begin;
select plan(39);

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

-- Wallets that are not the sum of their ledger or hold other than the open reservations, and cap windows that
-- hold or were charged other than their decisions. Always none.
create function pg_temp.wrong_books() returns setof text language sql as $$
    select concat_ws(' ', invariant, subject_id, detail) from public.gateway_invariants()
    where organization_id in (pg_temp.id('acme'), pg_temp.id('zenith'))
$$;

-- Expired decisions of other data are closed first, and other sweepers wait until the end of this file.
do $$
begin
    perform pg_advisory_xact_lock(hashtextextended('clearfloor.sweep_decisions', 0));
    perform public.sweep_decisions(1000000);
    perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000);
    perform public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), pg_temp.id('acme agent'), 'hour', 1000);
end
$$;
set local role service_role;

select is(
    pg_temp.open(
        pg_temp.opening('alive'),
        pg_temp.opening('late', '{"lease_seconds": -10}'),
        pg_temp.opening('later', '{"lease_seconds": -5, "requested_rule": "pinned_model"}'),
        pg_temp.opening('latest', '{
            "lease_seconds": -1, "inference_id": null, "candidate_id": null, "price_id": null, "bound_nano_usd": null
        }')
    ),
    array[null, null, null, null], 'one decision is alive, and a crash left three beyond their lease'
);
select is(pg_temp.wallet('acme'), '1000 of which 300 held', 'what a crash left is still held');
select is(public.sweep_decisions(1), 1, 'a sweep closes no more than it was asked to');
select is(
    concat_ws(' ', pg_temp.decision('late', 'outcome_status'), pg_temp.decision('later', 'outcome_status')), 'abandoned',
    'a sweep begins with the oldest lease'
);
select results_eq(
    $$
        select outcome_status, decision_rule, inference_id, charge_nano_usd, completed_at >= opened_at
        from public.routing_outcomes where id = pg_temp.id('late')
    $$,
    $$values ('abandoned', 'cheapest_clearing_floor', pg_temp.id('late attempt 1'), 0::bigint, true)$$,
    'a swept decision keeps its rule, names its attempt and is free'
);
select is(
    concat_ws(' ', pg_temp.attempt('late attempt 1', 'status'), pg_temp.attempt('late attempt 1', 'bound_nano_usd')),
    'abandoned 100', 'its attempt is abandoned, with the bound of what the provider may still bill'
);
select is(pg_temp.wallet('acme'), '1000 of which 200 held', 'a swept decision''s reservation is released');
select is(public.sweep_decisions(10), 2, 'the next sweep closes the rest');
select is(public.sweep_decisions(10), 0, 'a sweep that finds nothing does nothing');
select is(
    concat_ws(' ', pg_temp.decision('later', 'decision_rule'), pg_temp.decision('later', 'inference_id')),
    'pinned_model ' || pg_temp.id('later attempt 1'), 'a swept decision keeps the rule it was asked for by'
);
select is(
    concat_ws(
        ' ', pg_temp.decision('latest', 'outcome_status'), pg_temp.decision('latest', 'decision_rule'),
        pg_temp.decision('latest', 'inference_id')
    ),
    'abandoned failed_pre_dispatch', 'a swept decision without an attempt names none, and its rule says so'
);
select is(
    concat_ws(' ', pg_temp.decision('alive', 'outcome_status'), pg_temp.attempt('alive attempt 1', 'status')), 'open',
    'a decision within its lease is left alone'
);
select is(pg_temp.wallet('acme'), '1000 of which 100 held', 'only the decision that is alive still holds something');
select is_empty(
    $$select from public.ledger_entries where organization_id = pg_temp.id('acme') and kind <> 'top_up'$$,
    'a sweep charges nothing'
);
select is(pg_temp.decision('alive', 'swept_at'), null, 'only what was swept says when');

-- A process that was only held up completes what was swept, with the funds that are left: once, and in the window of the
-- opening.
create function pg_temp.complete_late(name text, result jsonb default '{}', status text default 'succeeded')
returns jsonb language sql as $$
    select (public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', status,
        'attempt', pg_temp.result(name || ' attempt 1') || '{"status": "succeeded", "error_class": null}' || result
    ))) -> 0) - '{id,inference_id,decision_rule,overrun_nano_usd}'::text[]
$$;
select is(
    pg_temp.complete_late('late'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 10, "operator_loss_nano_usd": 0, "error": null}',
    'a completion that comes after the sweep says what became of the decision, and is paid for'
);
select is(pg_temp.wallet('acme'), '990 of which 100 held', 'it is charged and holds nothing');
select is(
    pg_temp.complete_late('late', '{"input_tokens": 90}'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 10, "operator_loss_nano_usd": 0, "error": null}',
    'it is completed once, whatever comes after'
);
select isnt(pg_temp.decision('late', 'swept_at'), null, 'it still says that it was swept');
select is_empty('select pg_temp.wrong_books()', 'after a late completion the books are right');
do $$ begin perform public.correct_wallet(pg_temp.id('spent elsewhere'), pg_temp.id('acme'), -860, 'test', 'pgtap'); end $$;
select is(
    pg_temp.complete_late('later', '{"input_tokens": 70}'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 30, "operator_loss_nano_usd": 40, "error": null}',
    'where the wallet has less left than is due, the rest is the operator''s loss'
);
select is(pg_temp.wallet('acme'), '100 of which 100 held', 'the decision that is alive keeps what it holds');
select results_eq(
    $$
        select kind, debit_account, credit_account, amount_nano_usd from public.ledger_entries
        where id = pg_temp.id('later') order by kind
    $$,
    $$values ('loss', 'operator', 'usage', 40::bigint), ('settlement', 'wallet', 'usage', 30)$$,
    'the ledger has what was paid and what was lost'
);
select is(
    pg_temp.complete_late('latest', status => 'cancelled') ->> 'outcome_status', 'abandoned',
    'a decision that was swept without an attempt stays abandoned'
);
select is_empty('select pg_temp.wrong_books()', 'after a loss the books are right');

-- A cap of the opening's window stands in the way of a late completion, too.
do $$ begin perform public.top_up_wallet(pg_temp.id('more funds'), pg_temp.id('acme'), 1000); end $$;
select is(
    pg_temp.open(pg_temp.opening('capped', '{"lease_seconds": -1}'), pg_temp.opening('failing', '{"lease_seconds": -1}')),
    array[null, null], 'two more are beyond their lease'
);
select is(public.sweep_decisions(10), 2, 'they are swept');
do $$ begin perform public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), pg_temp.id('acme agent'), 'hour', 145); end $$;
select is(
    pg_temp.complete_late('capped'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 5, "operator_loss_nano_usd": 5, "error": null}',
    'where a cap has less left than is due, the rest is the operator''s loss'
);
select is(
    public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id('failing'), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id('failing attempt 2'), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'bound_nano_usd', 0, 'previous', pg_temp.result('failing attempt 1')
    ))) -> 0 ->> 'opened',
    'true', 'a swept decision goes on to its next attempt, where that fits'
);
select is(pg_temp.decision('failing', 'outcome_status'), null, 'it is open again');

-- A late completion counts in the window in which it was opened, and is limited by that one alone.
reset role;
do $$ begin perform public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), pg_temp.id('acme agent'), 'hour', 160); end $$;
select is(
    pg_temp.open(pg_temp.opening('yesterday', '{"lease_seconds": -1, "bound_nano_usd": 5}')), array[null], 'a decision is open'
);
select is(public.sweep_decisions(10), 1, 'and swept');
-- Counted anew in yesterday's hour.
do $$ begin perform private.count_usage(array(select used from private.decision_usage where id = pg_temp.id('yesterday')), -1); end $$;
update public.routing_outcomes set opened_at = opened_at - interval '1 day' where id = pg_temp.id('yesterday');
do $$ begin perform private.count_usage(array(select used from private.decision_usage where id = pg_temp.id('yesterday'))); end $$;
update public.spend_caps set created_at = created_at - interval '3 days' where id = pg_temp.id('cap');
insert into public.spend_counters (spend_cap_id, window_start, organization_id, charged_nano_usd)
select id, date_trunc('hour', now() - interval '1 day', 'UTC'), organization_id, 157
from public.spend_caps where id = pg_temp.id('cap');
create function pg_temp.hours() returns bigint [] language sql as $$
    select array_agg(charged_nano_usd order by window_start) from public.spend_counters where spend_cap_id = pg_temp.id('cap')
$$;
create temp table before as select pg_temp.hours() as hours;
select is(
    pg_temp.complete_late('yesterday'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 3, "operator_loss_nano_usd": 2, "error": null}',
    'yesterday''s hour had 3 left'
);
select is(
    pg_temp.hours(), array[160] || (select hours[2:] from before), 'they are counted there, and today''s hour is left alone'
);
delete from public.spend_counters where charged_nano_usd = 160 and spend_cap_id = pg_temp.id('cap')
and window_start < now() - interval '2 hours';
update public.spend_caps set created_at = now() where id = pg_temp.id('cap');
update public.ledger_entries set opened_at = (select opened_at from public.routing_outcomes where id = pg_temp.id('yesterday'))
where routing_outcome_id = pg_temp.id('yesterday');
set local role service_role;

-- An item that names another decision's attempt opens nothing again.
do $$
begin
    perform pg_temp.open(pg_temp.opening('foreign', '{"lease_seconds": -1, "bound_nano_usd": 0}'), pg_temp.opening('own', '{"bound_nano_usd": 0}'));
    perform public.sweep_decisions(10);
end
$$;
select is(
    public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id('own'), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'cancelled',
        'attempt', pg_temp.result('foreign attempt 1')
    ))) -> 0 ->> 'error',
    'unfit_attempt', 'a completion with another decision''s attempt is refused'
);
select is(pg_temp.decision('foreign', 'outcome_status'), 'abandoned', 'and what was swept stays so');

-- Who is alive renews its leases.
select is(
    public.renew_leases(array[pg_temp.id('alive'), pg_temp.id('late'), pg_temp.id('nobody')], 3600), 1::bigint,
    'leases are renewed, of decisions that are open'
);
reset role;
select results_eq(
    $$
        select id, lease_expires_at > now() + interval '59 minutes' from public.routing_outcomes
        where id in (pg_temp.id('alive'), pg_temp.id('late')) order by 2
    $$,
    $$values (pg_temp.id('late'), false), (pg_temp.id('alive'), true)$$,
    'an open decision has a new lease, a completed one has not'
);
set local role service_role;
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
