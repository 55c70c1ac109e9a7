-- The invariants find what breaks them: one wrong row of every kind, made by the tables' owner with the guards taken down.
begin;
select plan(43);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

-- A world in which everything has happened: settled, failed over, swept and completed late at a loss, refunded, open.
do $$
begin
    perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000);
    perform public.top_up_wallet(clearfloor_tests.id('zenith funds'), clearfloor_tests.id('zenith'), 1000);
    perform public.set_spend_cap(clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), null, 'day', 700);
    perform clearfloor_tests.open(
        clearfloor_tests.opening('settled', jsonb_build_object(
            'dearest_price_id', clearfloor_tests.id('price'), 'baseline_price_id', clearfloor_tests.id('price')
        )),
        clearfloor_tests.opening('failed over'), clearfloor_tests.opening('late', '{"lease_seconds": -60}'),
        clearfloor_tests.opening('open')
    );
    perform clearfloor_tests.complete_at('settled', 16);
    perform clearfloor_tests.go_on(clearfloor_tests.next_attempt('failed over', 2, 150));
    perform clearfloor_tests.complete(
        clearfloor_tests.completion('failed over', '{}', '{"input_tokens": 200, "output_tokens": 0}', 2)
    );
    perform public.sweep_decisions(1);
    perform public.correct_wallet(clearfloor_tests.id('gone'), clearfloor_tests.id('acme'), -714, 'test', 'pgtap');
    perform clearfloor_tests.complete_at('late', 50);
    perform public.refund_decision(
        clearfloor_tests.id('refund'), clearfloor_tests.id('acme'), clearfloor_tests.id('settled'), 6, 'test', 'pgtap'
    );
end
$$;
create function pg_temp.faults() returns text [] language sql as $$
    -- Each organization alone, as a test or an operator asks for one.
    select array(
        select distinct fault.invariant
        from unnest(array[clearfloor_tests.id('acme'), clearfloor_tests.id('zenith')]) as organization_id
        cross join lateral public.gateway_invariants(of_organization => organization_id) as fault
        order by invariant
    )
$$;
select is(
    array(
        select concat_ws(' ', outcome_status, charge_nano_usd, operator_loss_nano_usd) from public.routing_outcomes
        where organization_id = clearfloor_tests.id('acme') order by 1
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
    select format(' where id = %L', clearfloor_tests.id(name))
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
    format('update public.routing_outcomes set inference_id = %L', clearfloor_tests.id('failed over attempt 1'))
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
    || format('update public.inferences set organization_id = %L', clearfloor_tests.id('zenith'))
    || pg_temp.of('settled attempt 1')
),
(
    '{counter_is_its_window,tenants_are_apart}', 'a settlement of another tenant''s agent',
    format(
        'update public.ledger_entries set organization_id = %L, agent_id = %L', clearfloor_tests.id('zenith'),
        clearfloor_tests.id('zenith agent')
    )
    || pg_temp.of('settled') || format(
        '; update public.wallets set balance_nano_usd = balance_nano_usd + 16 where organization_id = %L; '
        'update public.wallets set balance_nano_usd = balance_nano_usd - 16 where organization_id = %L',
        clearfloor_tests.id('acme'), clearfloor_tests.id('zenith')
    )
),
(
    '{tenants_are_apart}', 'a key of another tenant',
    format('update public.routing_outcomes set api_key_id = %L', clearfloor_tests.id('zenith key')) || pg_temp.of('settled')
),
(
    '{tenants_are_apart}', 'a counter of another tenant',
    format('update public.spend_counters set organization_id = %L', clearfloor_tests.id('zenith'))
    || format(' where spend_cap_id = %L', clearfloor_tests.id('cap'))
),
(
    '{charge_is_what_is_due,cost_is_recomputed}', 'a cost that is not what the tokens cost',
    'update public.inferences set cost_nano_usd = 17' || pg_temp.of('settled attempt 1')
),
(
    '{price_is_the_candidates}', 'an attempt at another candidate''s price',
    format(
        'insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens) '
        'values (%L, ''pgtap'', ''pgtap2'', ''pgtap2'', 1000, 1000); ', clearfloor_tests.id('other')
    ) || format('update public.inferences set candidate_id = %L', clearfloor_tests.id('other')) || pg_temp.of('settled attempt 1')
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
        'update public.wallets set balance_nano_usd = balance_nano_usd + 1 where organization_id = %L',
        clearfloor_tests.id('acme')
    )
),
(
    '{wallet_holds_what_is_open}', 'a hold that nobody releases',
    format('update public.wallets set held_nano_usd = held_nano_usd + 1 where organization_id = %L', clearfloor_tests.id('acme'))
),
(
    '{counter_is_its_window}', 'a counter that lost a charge',
    format(
        'update public.spend_counters set charged_nano_usd = charged_nano_usd - 1 where spend_cap_id = %L',
        clearfloor_tests.id('cap')
    )
),
(
    '{counter_is_its_window}', 'a counter that is gone',
    format('delete from public.spend_counters where spend_cap_id = %L', clearfloor_tests.id('cap'))
),
(
    '{charge_is_settled,refunds_are_within_the_charge,spending_has_a_decision}', 'a settlement of a decision that never was',
    format('update public.ledger_entries set id = %1$L, routing_outcome_id = %1$L', clearfloor_tests.id('nothing'))
    || pg_temp.of('settled') || ' and kind = ''settlement'''
),
(
    '{counter_is_its_window,spending_counts_where_it_was_opened}', 'a settlement in another day''s window',
    'update public.ledger_entries set opened_at = opened_at - interval ''1 day''' || pg_temp.of('settled')
    || ' and kind = ''settlement'''
),
(
    '{organization_has_a_wallet}', 'an organization without a wallet',
    format('delete from public.wallets where organization_id = %L', clearfloor_tests.id('zenith'))
),
(
    '{tenants_are_apart}', 'an Idempotency-Key of another tenant',
    format(
        'insert into public.idempotency_keys values (%L, ''key'', %L, sha256(''body''), %L, now())',
        clearfloor_tests.id('zenith agent'), clearfloor_tests.id('zenith'), clearfloor_tests.id('settled')
    )
),
(
    '{usage_is_counted}', 'an hour that counts what nobody used',
    format(
        'update public.usage_hours set output_tokens = output_tokens + 1 where organization_id = %L', clearfloor_tests.id('acme')
    )
),
(
    '{usage_is_counted}', 'an hour that counts another class',
    format('update public.usage_hours set task = ''law'' where organization_id = %L', clearfloor_tests.id('acme'))
),
(
    '{usage_is_counted}', 'an hour that is lost',
    format('delete from public.usage_hours where organization_id = %L', clearfloor_tests.id('acme'))
),
(
    '{cap_is_kept}', 'a cap that was passed',
    'update public.spend_caps set limit_nano_usd = 100' || pg_temp.of('cap')
);
insert into public.models (name) values ('pgtap2');
select is(pg_temp.found(change), invariant, format('found: %s', what)) from seeds;
select is(pg_temp.faults(), '{}', 'after all of this all is right again');
select lives_ok(
    $$select public.set_spend_cap(clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), null, 'day', 100)$$,
    'a cap is set below what is spent'
);
select is(pg_temp.faults(), '{}', 'which is no fault');
update public.inferences set opened_at = now() - interval '1 minute' where id = clearfloor_tests.id('failed over attempt 1');
select is(
    array(select invariant from public.gateway_invariants(now() - interval '30 seconds', clearfloor_tests.id('acme'))),
    '{}', 'a range that begins between two attempts is no fault'
);
select throws_ok(
    $$
        insert into public.ledger_entries
        select gen_random_uuid(), organization_id, kind, debit_account, credit_account, amount_nano_usd, routing_outcome_id,
            agent_id, opened_at, actor, note, created_at
        from public.ledger_entries where id = clearfloor_tests.id('settled') and kind = 'settlement'
    $$,
    '23514', 'new row for relation "ledger_entries" violates check constraint "ledger_entries_usage_is_by_decision_check"',
    'a second settlement of a decision cannot be written at all'
);
select is(
    array(select invariant from public.gateway_invariants(of_organization => clearfloor_tests.id('nobody'))), '{}',
    'one organization can be looked at alone'
);
select is(
    (select count(*) from public.recompute_costs() where organization_id = clearfloor_tests.id('acme')), 5::bigint,
    'every attempt''s cost is recomputed'
);
update public.usage_hours set task = 'law' where organization_id = clearfloor_tests.id('acme');
select is(
    array(
        select regexp_replace(detail, 'from \S+ \S+,', 'from then,')
        from public.gateway_invariants(of_organization => clearfloor_tests.id('acme')) order by detail
    ),
    array[
        'succeeded in the hour from then, by pgtap, of class general: -3 decisions, -4 attempts, -186 nano-USD too many',
        'succeeded in the hour from then, by pgtap, of class law: 3 decisions, 4 attempts, 186 nano-USD too many'
    ],
    'usage that is counted in another class is told of with both'
);

select * from finish();
rollback;
