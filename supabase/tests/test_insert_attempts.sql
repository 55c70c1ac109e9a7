-- Failing over: the next attempt, the raised reservation, the refusal on the way, and the cooldown left behind.
begin;
select plan(59);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

do $$ begin perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000); end $$;
set local role service_role;

select is(clearfloor_tests.open(clearfloor_tests.opening('call')), array[null], 'a decision is open and reserves 100');

-- Going on: the attempt before is finished, the reservation raised, the next attempt written.
select is(
    public.insert_attempts(jsonb_build_array(
        clearfloor_tests.next_attempt('call', 2, 150, '{"http_calls": 3, "http_status": 429}', '{"lease_seconds": 90}')
    )),
    jsonb_build_array(jsonb_build_object(
        'id', clearfloor_tests.id('call'), 'inference_id', clearfloor_tests.id('call attempt 2'), 'opened', true,
        'bound_nano_usd', 150, 'outcome_status', null, 'refusal', null, 'error', null
    )),
    'a decision goes on to its next attempt'
);
select results_eq(
    $$
        select status, http_calls::integer, http_status::integer, error_class, input_tokens, usage_source, cost_nano_usd,
            finished_at between opened_at and clock_timestamp()
        from public.inferences where id = clearfloor_tests.id('call attempt 1')
    $$,
    $$values ('failed', 3, 429, 'server_error', 10::bigint, 'provider', 10::bigint, true)$$,
    'the attempt before is finished with what its caller saw'
);
select results_eq(
    $$
        select status, attempt_number::integer, bound_nano_usd, provider, finished_at
        from public.inferences where id = clearfloor_tests.id('call attempt 2')
    $$,
    $$values ('open', 2, 150::bigint, 'pgtap', null::timestamptz)$$,
    'the next attempt is written before its call, under the next number'
);
select results_eq(
    $$
        select
            reserved_nano_usd, lease_expires_at - opened_at > interval '90 seconds', outcome_status, inference_id
        from public.routing_outcomes where id = clearfloor_tests.id('call')
    $$,
    $$values (150::bigint, true, null::text, null::uuid)$$,
    'the reservation is raised to the dearer attempt, the lease runs anew, and the decision stays open'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 150 held', 'the wallet holds the raised reservation');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('call', 2, 150)), array['true'],
    'an attempt that is sent twice is answered in the same way'
);
select is(
    (select count(*) from public.inferences where routing_outcome_id = clearfloor_tests.id('call')), 2::bigint,
    'an attempt that is sent twice is written once'
);
select is(clearfloor_tests.attempt('call attempt 1', 'http_calls'), '3', 'an attempt that is finished stays as it was finished');
select is(clearfloor_tests.wallet('acme'), '1000 of which 150 held', 'an attempt that is sent twice is held once');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('call', 3, 20)), array['true'],
    'a decision can go on to a cheaper attempt'
);
select is(clearfloor_tests.decision('call', 'reserved_nano_usd'), '150', 'a cheaper attempt does not lower the reservation');
select is(clearfloor_tests.wallet('acme'), '1000 of which 150 held', 'a cheaper attempt does not change what is held');
select is_empty('select clearfloor_tests.wrong_books()', 'after failovers the books are right');

-- A reservation that cannot be raised completes the decision.
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('call', 4, 1001)), array['false rejected_funds'],
    'a failover that could cost more than is left is refused'
);
select results_eq(
    $$
        select
            outcome_status, decision_rule, inference_id, charge_nano_usd,
            completed_at between opened_at and clock_timestamp()
        from public.routing_outcomes where id = clearfloor_tests.id('call')
    $$,
    $$values ('rejected_funds', 'cheapest_clearing_floor', clearfloor_tests.id('call attempt 3'), 10::bigint, true)$$,
    'a decision refused on its way keeps its rule, names its last attempt and is charged for it'
);
select is(
    clearfloor_tests.decision('call', 'refusal')::jsonb,
    '{"balance_nano_usd": 1000, "held_nano_usd": 150, "needed_nano_usd": 851}'::jsonb,
    'a refused failover says by how much the reservation was to be raised, and what there is'
);
select is(clearfloor_tests.attempt('call attempt 3', 'status'), 'failed', 'the attempt before a refused failover is finished');
select is(clearfloor_tests.attempt('call attempt 4', 'id'), null, 'a refused attempt is not written');
select is(clearfloor_tests.wallet('acme'), '990 of which 0 held', 'a refused failover releases the reservation');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('call', 4, 1001)), array['false rejected_funds'],
    'a refused failover that is sent twice is answered in the same way'
);
select is(clearfloor_tests.wallet('acme'), '990 of which 0 held', 'a refused failover that is sent twice is settled once');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('call', 3, 20)), array['false rejected_funds'],
    'an attempt whose answer was lost is not to be made any more once its decision was completed'
);
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('call', 5, 1)), array['false rejected_funds'],
    'a completed decision goes on to nothing'
);

select lives_ok(
    $$
        select public.set_spend_cap(
            clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), 'day', 200
        )
    $$,
    'acme caps its agent at 200 a day, of which 10 are spent'
);
select is(clearfloor_tests.open(clearfloor_tests.opening('capped')), array[null], 'a decision opens under the cap');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('capped', 2, 190)), array['true'], 'a failover up to the cap is allowed'
);
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('capped', 3, 191)), array['false rejected_cap'],
    'a failover that could pass the cap is refused'
);
select is(
    concat_ws(' ', clearfloor_tests.decision('capped', 'decision_rule'), clearfloor_tests.decision('capped', 'inference_id')),
    'cheapest_clearing_floor ' || clearfloor_tests.id('capped attempt 2'),
    'a decision refused by a cap on its way keeps its rule and names its last attempt'
);
select is(
    clearfloor_tests.decision('capped', 'refusal')::jsonb - 'spend_cap_id' - 'resets_at',
    jsonb_build_object(
        'window', 'day', 'scope', 'agent', 'cap_nano_usd', 200, 'spent_nano_usd', 10, 'held_nano_usd', 190,
        'needed_nano_usd', 1
    ),
    'a failover refused by a cap says which cap, and what it has spent and holds'
);

-- Which attempt a refused failover names: the last one really made.
select is(clearfloor_tests.open(clearfloor_tests.opening('unsent')), array[null], 'a decision is open');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('unsent', 2, 500, clearfloor_tests.not_sent())),
    array['false rejected_cap'], 'its only attempt was not sent, and the next one is refused'
);
select is(
    concat_ws(' ', clearfloor_tests.decision('unsent', 'decision_rule'), clearfloor_tests.decision('unsent', 'inference_id')),
    'failed_pre_dispatch', 'a decision that never called anybody names no inference, and its rule says so'
);
select is(clearfloor_tests.open(clearfloor_tests.opening('mixed')), array[null], 'a decision is open');
select is(clearfloor_tests.go_on(clearfloor_tests.next_attempt('mixed', 2, 50)), array['true'], 'its first attempt failed');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('mixed', 3, 500, clearfloor_tests.not_sent())),
    array['false rejected_cap'], 'its second attempt was not sent, and the third one is refused'
);
select is(
    clearfloor_tests.decision('mixed', 'inference_id'), clearfloor_tests.id('mixed attempt 1')::text,
    'a decision names the last attempt really made, not one that was never sent'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after refused failovers the books are right');

-- Who was passed over is kept, in the order of its turn.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('picky', '{"bound_nano_usd": 10, "passed_over": [{"reason": "cooling_down"}]}')
    ),
    array[null],
    'a decision is open whose cheapest candidate was passed over'
);
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('picky', 2, 10, changes => '{"passed_over": [{"reason": "credentials"}]}')
    ),
    array['true'],
    'it goes on past another one'
);
select is(
    clearfloor_tests.decision('picky', 'passed_over')::jsonb, '[{"reason": "cooling_down"}, {"reason": "credentials"}]'::jsonb,
    'a decision says which candidates were passed over, and why'
);

-- Each item of a batch goes on or is refused alone.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('left', '{"bound_nano_usd": 10}'),
        clearfloor_tests.opening('right', '{"bound_nano_usd": 10}')
    ),
    array[null, null], 'two decisions are open'
);
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('left', 2, 500),
        clearfloor_tests.next_attempt('never opened', 2, 10),
        clearfloor_tests.next_attempt('right', 2, 10, changes => jsonb_build_object('price_id', clearfloor_tests.id('nothing')))
    ),
    array['false rejected_cap', 'false unknown_decision', 'false unknown_price'],
    'one that is too dear, one that is unknown and one without a price are refused in one batch'
);
select is(
    clearfloor_tests.attempt('right attempt 1', 'status'), 'open',
    'a failover to an unknown price leaves the attempt before as it was'
);
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('left', 3, 10), clearfloor_tests.next_attempt('right', 2, 20),
        clearfloor_tests.next_attempt('right', 2, 20, changes => jsonb_build_object(
            'organization_id', clearfloor_tests.id('zenith'), 'inference_id', clearfloor_tests.id('intruder')
        ))
    ),
    array['false rejected_cap', 'true', 'false unknown_decision'],
    'an open decision goes on beside a completed one, and for its own organization only'
);

-- Nobody can finish another decision's attempt, and a decision that is twice in one batch goes on once.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('mine', '{"bound_nano_usd": 10}'),
        clearfloor_tests.opening('theirs', '{"bound_nano_usd": 10}')
    ),
    array[null, null], 'two decisions are open'
);
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('mine', 2, 10, jsonb_build_object(
            'inference_id', clearfloor_tests.id('theirs attempt 1'), 'routing_outcome_id', clearfloor_tests.id('theirs'),
            'cooldown_seconds', 60
        ))
    ),
    array['false unfit_attempt'], 'a decision that claims that somebody else''s attempt failed does not go on'
);
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('mine', 2, 10, '{"status": "succeeded"}')),
    array['false unfit_attempt'], 'a decision does not go on from an attempt that succeeded'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.attempt('mine attempt 1', 'status'), clearfloor_tests.attempt('mine attempt 2', 'status')
    ),
    'open',
    'what is refused so changes nothing'
);
select is(clearfloor_tests.attempt('theirs attempt 1', 'status'), 'open', 'an attempt can be finished by its own decision only');
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('theirs', 2, 10),
        clearfloor_tests.next_attempt(
            'theirs', 2, 10, changes => jsonb_build_object('inference_id', clearfloor_tests.id('second theirs'))
        )
    ),
    array['true', 'false unfit_attempt'], 'a decision that is twice in one batch goes on to the first attempt'
);

-- A candidate that failed is left alone for a while, which is never shortened.
create function pg_temp.cooling() returns text language sql as $$
    select format('%s for %s', reason, until - now())
    from public.candidate_cooldowns where candidate_id = clearfloor_tests.id('candidate')
$$;
select is(pg_temp.cooling(), null, 'a failure alone does not cool a candidate down');
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('right', 3, 20, '{"cooldown_seconds": 60, "error_class": "rate_limited"}')
    ),
    array['true'], 'a rate limit asks for a minute'
);
select is(pg_temp.cooling(), 'rate_limited for 00:01:00', 'a candidate cools down with the attempt that failed');
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('right', 4, 20, '{"cooldown_seconds": 5, "error_class": "timeout"}')
    ),
    array['true'],
    'another failure asks for five seconds'
);
select is(pg_temp.cooling(), 'rate_limited for 00:01:00', 'a cooldown is never shortened');
select is(
    clearfloor_tests.go_on(
        clearfloor_tests.next_attempt('right', 5, 20, '{"cooldown_seconds": 90, "error_class": "no_credit"}')
    ),
    array['true'],
    'a third failure asks for a minute and a half'
);
select is(pg_temp.cooling(), 'no_credit for 00:01:30', 'a cooldown can become longer');
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
