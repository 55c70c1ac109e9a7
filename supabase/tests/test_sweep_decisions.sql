-- Sweeping what a crash left open: released, free, and named as what it is.
begin;
select plan(17);

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
    select format('wallet %s: %s, %s held', wallet.organization_id, wallet.balance_nano_usd, wallet.held_nano_usd)
    from public.wallets as wallet
    where wallet.organization_id in (pg_temp.id('acme'), pg_temp.id('zenith'))
        and (wallet.balance_nano_usd, wallet.held_nano_usd) is distinct from (
            (
                select coalesce(sum(case when credit_account = 'wallet' then amount_nano_usd else -amount_nano_usd end), 0)
                from public.ledger_entries
                where organization_id = wallet.organization_id and 'wallet' in (debit_account, credit_account)
            ),
            (
                select coalesce(sum(reserved_nano_usd), 0) from public.routing_outcomes
                where organization_id = wallet.organization_id and outcome_status is null
            )
        )
    union all
    select format('cap %s from %s: %s', cap.id, moment.window_start, counted)
    from public.spend_caps as cap
    inner join lateral (
        select
            case when cap.window_kind = 'lifetime' then '-infinity' else date_trunc(cap.window_kind, opened_at, 'UTC') end,
            coalesce(sum(reserved_nano_usd) filter (where outcome_status is null), 0),
            coalesce(sum(charge_nano_usd), 0)
        from public.routing_outcomes
        where organization_id = cap.organization_id and agent_id = coalesce(cap.agent_id, agent_id)
        group by 1
    ) as moment (window_start, held, charged) on true
    left join public.spend_counters as counted
        on counted.spend_cap_id = cap.id and counted.window_start = moment.window_start
    where cap.organization_id in (pg_temp.id('acme'), pg_temp.id('zenith'))
        and (coalesce(counted.held_nano_usd, 0), coalesce(counted.charged_nano_usd, 0))
            is distinct from (moment.held, moment.charged)
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
select is(
    public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id('late'), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'attempt', pg_temp.result('late attempt 1')
    ))) -> 0 ->> 'outcome_status',
    'abandoned', 'a completion that comes after the sweep is told so'
);
select is(pg_temp.wallet('acme'), '1000 of which 100 held', 'a completion that comes after the sweep moves no money');
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
