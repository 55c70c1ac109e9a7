-- The invariants find what breaks them: one wrong row of every kind, made by the tables' owner with the guards taken down.
begin;
select plan(41);

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

-- Completes a decision at a charge, nano-USD; returns its outcome.
create function pg_temp.complete(name text, charge bigint) returns text language sql as $$
    select public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'attempt', pg_temp.result(name || ' attempt 1', jsonb_build_object('status', 'succeeded', 'input_tokens', charge))
    ))) -> 0 ->> 'outcome_status'
$$;


-- A world in which everything has happened: settled, failed over, swept and completed late at a loss, refunded, open.
do $$
begin
    perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000);
    perform public.top_up_wallet(pg_temp.id('zenith funds'), pg_temp.id('zenith'), 1000);
    perform public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), null, 'day', 700);
    perform pg_temp.open(
        pg_temp.opening('settled', jsonb_build_object('dearest_price_id', pg_temp.id('price'), 'baseline_price_id', pg_temp.id('price'))),
        pg_temp.opening('failed over'), pg_temp.opening('late', '{"lease_seconds": -1}'), pg_temp.opening('open')
    );
    perform pg_temp.complete('settled', 16);
    perform public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id('failed over'), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id('failed over attempt 2'), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'bound_nano_usd', 150, 'previous', pg_temp.result('failed over attempt 1')
    )));
    perform public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id('failed over'), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'attempt', pg_temp.result('failed over attempt 2', '{"status": "succeeded", "input_tokens": 200}')
    )));
    perform public.sweep_decisions(1);
    perform public.correct_wallet(pg_temp.id('gone'), pg_temp.id('acme'), -714, 'test', 'pgtap');
    perform pg_temp.complete('late', 50);
    perform public.refund_decision(pg_temp.id('refund'), pg_temp.id('acme'), pg_temp.id('settled'), 6, 'test', 'pgtap');
end
$$;
create function pg_temp.faults() returns text [] language sql as $$
    -- Each organization alone, as a test or an operator asks for one.
    select array(
        select distinct fault.invariant
        from unnest(array[pg_temp.id('acme'), pg_temp.id('zenith')]) as organization_id
        cross join lateral public.gateway_invariants(of_organization => organization_id) as fault
        order by invariant
    )
$$;
select is(
    array(
        select concat_ws(' ', outcome_status, charge_nano_usd, operator_loss_nano_usd) from public.routing_outcomes
        where organization_id = pg_temp.id('acme') order by 1
    ),
    array['0', 'succeeded 150 0', 'succeeded 16 0', 'succeeded 20 30'], 'everything has happened'
);
select is(pg_temp.faults(), '{}', 'all is right');

-- Seeds a fault, notes what is found, and undoes it.
create function pg_temp.found(change text) returns text [] language plpgsql as $$
declare
    found text[];
begin
    begin
        execute change;
        found := pg_temp.faults();
        raise exception 'undone' using errcode = 'ZZ001';
    exception when sqlstate 'ZZ001' then
        return found;
    end;
end
$$;
create function pg_temp.of(name text) returns text language sql as $$
    select format(' where id = %L', pg_temp.id(name))
$$;
create function pg_temp.without(table_name text, variadic names text []) returns text language sql as $$
    select string_agg(format('alter table public.%I drop constraint %I cascade; ', table_name, name), '')
    from unnest(names) as name
$$;

create temp table seeds (invariant text [], what text, change text);
insert into seeds values
(
    '{charge_is_what_is_due,counterfactual_is_recomputed,finished_decision_names_an_inference,named_inference_is_the_decisions_last_made,success_is_agreed,usage_is_counted}',
    'a finished decision without its inference',
    pg_temp.without(
        'routing_outcomes', 'outcome_requires_inference_when_model_chosen', 'routing_outcomes_inference_matches_rule_check',
        'routing_outcomes_succeeded_has_inference_check'
    ) || 'update public.routing_outcomes set inference_id = null' || pg_temp.of('settled')
),
(
    '{charge_is_what_is_due,named_inference_is_the_decisions_last_made,success_is_agreed,usage_is_counted}', 'a decision that names an earlier attempt',
    format('update public.routing_outcomes set inference_id = %L', pg_temp.id('failed over attempt 1'))
    || pg_temp.of('failed over')
),
(
    '{inference_has_a_decision}', 'an inference without a decision',
    pg_temp.without('inferences', 'inferences_routing_outcome_fkey')
    || 'update public.inferences set routing_outcome_id = gen_random_uuid()' || pg_temp.of('open attempt 1')
),
(
    '{open_inference_has_an_open_decision}', 'an attempt left open by a decision that is over',
    'update public.inferences set status = ''open'', finished_at = null' || pg_temp.of('failed over attempt 1')
),
(
    '{success_is_agreed}', 'a decision that succeeded by an attempt that failed',
    'update public.inferences set status = ''failed''' || pg_temp.of('settled attempt 1')
),
(
    '{attempts_are_numbered,usage_is_counted}', 'an attempt that is missing',
    'delete from public.inferences' || pg_temp.of('failed over attempt 1')
),
(
    '{leases_are_swept}', 'a decision that nobody sweeps',
    'update public.routing_outcomes set lease_expires_at = now() - interval ''2 hours''' || pg_temp.of('open')
),
(
    '{tenants_are_apart,usage_is_counted}', 'an attempt of another tenant',
    pg_temp.without('inferences', 'inferences_routing_outcome_fkey')
    || format('update public.inferences set organization_id = %L', pg_temp.id('zenith')) || pg_temp.of('settled attempt 1')
),
(
    '{counter_is_its_window,tenants_are_apart}', 'a settlement of another tenant''s agent',
    format('update public.ledger_entries set organization_id = %L, agent_id = %L', pg_temp.id('zenith'), pg_temp.id('zenith agent'))
    || pg_temp.of('settled') || format(
        '; update public.wallets set balance_nano_usd = balance_nano_usd + 16 where organization_id = %L; '
        'update public.wallets set balance_nano_usd = balance_nano_usd - 16 where organization_id = %L',
        pg_temp.id('acme'), pg_temp.id('zenith')
    )
),
(
    '{tenants_are_apart}', 'a key of another tenant',
    format('update public.routing_outcomes set api_key_id = %L', pg_temp.id('zenith key')) || pg_temp.of('settled')
),
(
    '{tenants_are_apart}', 'a counter of another tenant',
    format('update public.spend_counters set organization_id = %L', pg_temp.id('zenith'))
    || format(' where spend_cap_id = %L', pg_temp.id('cap'))
),
(
    '{charge_is_what_is_due,cost_is_recomputed}', 'a cost that is not what the tokens cost',
    'update public.inferences set cost_nano_usd = 17' || pg_temp.of('settled attempt 1')
),
(
    '{price_is_the_candidates}', 'an attempt at another candidate''s price',
    format(
        'insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens) '
        'values (%L, ''pgtap'', ''pgtap2'', ''pgtap2'', 1000, 1000); ', pg_temp.id('other')
    ) || format('update public.inferences set candidate_id = %L', pg_temp.id('other')) || pg_temp.of('settled attempt 1')
),
(
    '{success_has_usage}', 'a success without usage',
    pg_temp.without('inferences', 'inferences_succeeded_has_usage_check') || '
        update public.inferences set usage_source = ''none'', usage_convention = null, reported_usage = null
    ' || pg_temp.of('settled attempt 1')
),
(
    '{reservation_covers_the_attempt}', 'an attempt that may cost more than is reserved',
    'update public.inferences set bound_nano_usd = 101' || pg_temp.of('open attempt 1')
),
(
    '{charge_is_settled,charge_is_what_is_due,charge_is_within_the_reservation,usage_is_counted}', 'a charge beyond the reservation',
    pg_temp.without('routing_outcomes', 'routing_outcomes_charge_check')
    || 'update public.routing_outcomes set charge_nano_usd = 101' || pg_temp.of('settled')
),
(
    '{charge_is_settled,charge_is_what_is_due,usage_is_counted}', 'a charge that is less than is due',
    'update public.routing_outcomes set charge_nano_usd = 15' || pg_temp.of('settled')
),
(
    '{charge_is_settled,counter_is_its_window,refunds_are_within_the_charge,wallet_is_its_ledger}', 'a settlement that is lost',
    'delete from public.ledger_entries' || pg_temp.of('settled')
),
(
    '{charge_is_settled}', 'a loss that is not in the ledger',
    'delete from public.ledger_entries' || pg_temp.of('late') || ' and kind = ''loss'''
),
(
    '{counterfactual_is_recomputed,usage_is_counted}', 'savings that are made up',
    'update public.routing_outcomes set baseline_cost_nano_usd = 1000' || pg_temp.of('settled')
),
(
    '{counter_is_its_window,refunds_are_within_the_charge,wallet_is_its_ledger}', 'a refund of more than the charge',
    'update public.ledger_entries set amount_nano_usd = 17' || pg_temp.of('refund')
),
(
    '{wallet_is_its_ledger}', 'a wallet with money from nowhere',
    format(
        'update public.wallets set balance_nano_usd = balance_nano_usd + 1 where organization_id = %L', pg_temp.id('acme')
    )
),
(
    '{wallet_holds_what_is_open}', 'a hold that nobody releases',
    format('update public.wallets set held_nano_usd = held_nano_usd + 1 where organization_id = %L', pg_temp.id('acme'))
),
(
    '{counter_is_its_window}', 'a counter that lost a charge',
    format(
        'update public.spend_counters set charged_nano_usd = charged_nano_usd - 1 where spend_cap_id = %L', pg_temp.id('cap')
    )
),
(
    '{counter_is_its_window}', 'a counter that is gone',
    format('delete from public.spend_counters where spend_cap_id = %L', pg_temp.id('cap'))
),
(
    '{charge_is_settled,refunds_are_within_the_charge,spending_has_a_decision}', 'a settlement of a decision that never was',
    format('update public.ledger_entries set id = %1$L, routing_outcome_id = %1$L', pg_temp.id('nothing'))
    || pg_temp.of('settled') || ' and kind = ''settlement'''
),
(
    '{counter_is_its_window,spending_counts_where_it_was_opened}', 'a settlement in another day''s window',
    'update public.ledger_entries set opened_at = opened_at - interval ''1 day''' || pg_temp.of('settled')
    || ' and kind = ''settlement'''
),
(
    '{organization_has_a_wallet}', 'an organization without a wallet',
    format('delete from public.wallets where organization_id = %L', pg_temp.id('zenith'))
),
(
    '{tenants_are_apart}', 'an Idempotency-Key of another tenant',
    format(
        'insert into public.idempotency_keys values (%L, ''key'', %L, sha256(''body''), %L, now())', pg_temp.id('zenith agent'),
        pg_temp.id('zenith'), pg_temp.id('settled')
    )
),
(
    '{usage_is_counted}', 'an hour that counts what nobody used',
    format(
        'update public.usage_hours set output_tokens = output_tokens + 1 where organization_id = %L', pg_temp.id('acme')
    )
),
(
    '{usage_is_counted}', 'an hour that is lost',
    format('delete from public.usage_hours where organization_id = %L', pg_temp.id('acme'))
),
(
    '{cap_is_kept}', 'a cap that was passed',
    'update public.spend_caps set limit_nano_usd = 100' || pg_temp.of('cap')
);
insert into public.models (name) values ('pgtap2');
select is(pg_temp.found(change), invariant, format('found: %s', what)) from seeds;
select is(pg_temp.faults(), '{}', 'after all of this all is right again');
select lives_ok(
    $$select public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), null, 'day', 100)$$,
    'a cap is set below what is spent'
);
select is(pg_temp.faults(), '{}', 'which is no fault');
update public.inferences set opened_at = now() - interval '1 minute' where id = pg_temp.id('failed over attempt 1');
select is(
    array(select invariant from public.gateway_invariants(now() - interval '30 seconds', pg_temp.id('acme'))),
    '{}', 'a range that begins between two attempts is no fault'
);
select throws_ok(
    $$
        insert into public.ledger_entries
        select gen_random_uuid(), organization_id, kind, debit_account, credit_account, amount_nano_usd, routing_outcome_id,
            agent_id, opened_at, actor, note, created_at
        from public.ledger_entries where id = pg_temp.id('settled') and kind = 'settlement'
    $$,
    '23514', 'new row for relation "ledger_entries" violates check constraint "ledger_entries_usage_is_by_decision_check"',
    'a second settlement of a decision cannot be written at all'
);
select is(
    array(select invariant from public.gateway_invariants(of_organization => pg_temp.id('nobody'))), '{}',
    'one organization can be looked at alone'
);
select is(
    (select count(*) from public.recompute_costs() where organization_id = pg_temp.id('acme')), 5::bigint,
    'every attempt''s cost is recomputed'
);

select * from finish();
rollback;
