-- Completing decisions: the attempt that is named, the charge, and that twice is once.
begin;
select plan(65);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

do $$ begin perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 10000); end $$;
do $$ begin perform public.set_spend_cap(clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), null, 'month', 9000); end $$;
set local role service_role;

-- The second half of the two-phase write.
select is(clearfloor_tests.open(clearfloor_tests.opening('call')), array[null], 'a decision is open');
select is(
    public.complete_decisions(jsonb_build_array(clearfloor_tests.completion('call'))),
    jsonb_build_array(jsonb_build_object(
        'id', clearfloor_tests.id('call'), 'outcome_status', 'succeeded', 'decision_rule', 'cheapest_clearing_floor',
        'inference_id', clearfloor_tests.id('call attempt 1'), 'charge_nano_usd', 16, 'overrun_nano_usd', 0,
        'operator_loss_nano_usd', 0, 'error', null
    )),
    'a decision is completed: its outcome, its rule, the inference that carried it out, and the charge'
);
select results_eq(
    $$
        select
            outcome_status, decision_rule, inference_id, completed_at between opened_at and clock_timestamp(), charge_nano_usd,
            reserved_nano_usd
        from public.routing_outcomes where id = clearfloor_tests.id('call')
    $$,
    $$
        values (
            'succeeded', 'cheapest_clearing_floor', clearfloor_tests.id('call attempt 1'), true, 16::bigint, 100::bigint
        )
    $$,
    'the record says what was answered'
);
select results_eq(
    $$
        select
            status, finished_at between opened_at and clock_timestamp(), http_status::integer, input_tokens, output_tokens,
            usage_source, cost_nano_usd, overrun_nano_usd
        from public.inferences where id = clearfloor_tests.id('call attempt 1')
    $$,
    $$values ('succeeded', true, 200, 10::bigint, 2::bigint, 'provider', 16::bigint, 0::bigint)$$,
    'its attempt is finished with its tokens and their cost'
);
select results_eq(
    $$
        select entry.organization_id, kind, debit_account, credit_account, amount_nano_usd, entry.agent_id, entry.opened_at
        from public.ledger_entries as entry
        inner join public.routing_outcomes as decision
            on entry.routing_outcome_id = decision.id and entry.opened_at = decision.opened_at
        where entry.id = clearfloor_tests.id('call')
    $$,
    $$
        select
            clearfloor_tests.id('acme'), 'settlement', 'wallet', 'usage', 16::bigint, clearfloor_tests.id('acme agent'), opened_at
        from public.routing_outcomes where id = clearfloor_tests.id('call')
    $$,
    'the charge is one entry of the ledger, under the decision''s id, and says which caps it counts in'
);
select is(clearfloor_tests.wallet('acme'), '9984 of which 0 held', 'the wallet pays the charge and holds nothing any more');
select is_empty('select clearfloor_tests.wrong_books()', 'after a completion the books are right');

-- Completing twice is completing once.
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('call', '{"outcome_status": "cancelled"}', '{"status": "cancelled", "output_tokens": 9}')
    ),
    array['succeeded by cheapest_clearing_floor for 16'],
    'a decision that is completed again is answered as it was completed, whatever is sent'
);
select is(clearfloor_tests.attempt('call attempt 1', 'status'), 'succeeded', 'its attempt stays as it was finished');
select is(clearfloor_tests.wallet('acme'), '9984 of which 0 held', 'a decision that is completed twice is paid once');
select is(
    (select count(*) from public.ledger_entries where routing_outcome_id = clearfloor_tests.id('call')), 1::bigint,
    'a decision that is completed twice has one entry in the ledger'
);
select is(clearfloor_tests.open(clearfloor_tests.opening('doubled')), array[null], 'a decision is open');
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('doubled'), clearfloor_tests.completion('doubled')),
    array['succeeded by cheapest_clearing_floor for 16', 'succeeded by cheapest_clearing_floor for 16'],
    'a decision that is twice in one batch is answered twice'
);
select is(clearfloor_tests.wallet('acme'), '9968 of which 0 held', 'a decision that is twice in one batch is paid once');

-- Nobody can finish another decision's attempt.
select is(
    clearfloor_tests.open(clearfloor_tests.opening('greedy'), clearfloor_tests.opening('honest')), array[null, null],
    'two decisions are open'
);
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('greedy', '{}', jsonb_build_object(
        'inference_id', clearfloor_tests.id('honest attempt 1'), 'routing_outcome_id', clearfloor_tests.id('honest')
    ))),
    array['by cheapest_clearing_floor for unfit_attempt'], 'a completion that reports somebody else''s attempt is refused'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.attempt('greedy attempt 1', 'status'), clearfloor_tests.attempt('honest attempt 1', 'status')
    ),
    'open open', 'both attempts stay as they were'
);
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('honest'), clearfloor_tests.completion('greedy')),
    array['succeeded by cheapest_clearing_floor for 16', 'succeeded by cheapest_clearing_floor for 16'],
    'each decision is completed by its own report'
);
select is(clearfloor_tests.wallet('acme'), '9936 of which 0 held', 'each decision is paid for its own attempt');

-- Every class of token has its price, and the sum is rounded up once.
select is(clearfloor_tests.open(clearfloor_tests.opening('classes')), array[null], 'a decision is open');
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('classes', '{}', '{
        "input_tokens": 3, "cache_read_tokens": 11, "cache_write_tokens": 4, "output_tokens": 5, "reasoning_tokens": 6
    }')),
    array['succeeded by cheapest_clearing_floor for 58'],
    '3 + 11 * 0.1 + 4 * 2 + 5 * 3 + 6 * 5 nano-dollars are 57.1, rounded up once'
);

-- Never more than was reserved: the operator bears the rest.
select is(clearfloor_tests.open(clearfloor_tests.opening('overrun')), array[null], 'a decision is open');
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('overrun', '{}', '{"input_tokens": 130, "output_tokens": 0}')),
    array['succeeded by cheapest_clearing_floor for 100'], 'the charge ends at the reservation'
);
select is(
    concat_ws(
        ' of ', clearfloor_tests.attempt('overrun attempt 1', 'overrun_nano_usd'),
        clearfloor_tests.attempt('overrun attempt 1', 'cost_nano_usd')
    ),
    '30 of 130', 'the whole cost and what is beyond the bound stay on the attempt'
);

-- Which attempt a decision names: the last one really made.
select is(clearfloor_tests.open(clearfloor_tests.opening('failed over')), array[null], 'a decision is open');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('failed over', 2, 100)), array['true'],
    'its first attempt failed'
);
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('failed over', number => 2)),
    array['succeeded by cheapest_clearing_floor for 16'],
    'its second attempt answered, and only that is charged'
);
select is(
    clearfloor_tests.decision('failed over', 'inference_id'), clearfloor_tests.id('failed over attempt 2')::text,
    'a decision names the attempt that answered'
);
select is(clearfloor_tests.attempt('failed over attempt 1', 'status'), 'failed', 'the attempt before stays a failure');
select is(clearfloor_tests.open(clearfloor_tests.opening('mixed up')), array[null], 'a decision is open');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('mixed up', 2, 100)), array['true'],
    'its first attempt failed'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('mixed up', '{"outcome_status": "failed_provider_error"}', '{"status": "failed"}')
    ),
    array['by cheapest_clearing_floor for unfit_attempt'],
    'a completion that brings news of an attempt that is finished is refused'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.attempt('mixed up attempt 1', 'status'),
        clearfloor_tests.attempt('mixed up attempt 2', 'status')
    ),
    'failed open', 'an attempt that is finished stays as it was finished, and the one that is open stays open'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('mixed up', '{"outcome_status": "failed_other"}', '{"status": "failed"}', 2)
    ),
    array['failed_other by cheapest_clearing_floor for 0'], 'a fault of ours is free, whatever it used'
);

-- What is said of the decision and of its attempt must agree.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('said to be well'), clearfloor_tests.opening('said to be bad'),
        clearfloor_tests.opening('said twice')
    ),
    array[null, null, null], 'three decisions are open'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('said to be well', '{}', '{"status": "failed"}'),
        clearfloor_tests.completion('said to be well', '{"attempt": null}'),
        clearfloor_tests.completion('said to be bad', '{"outcome_status": "failed_provider_error"}')
    ),
    array['by cheapest_clearing_floor for unfit_attempt', 'by cheapest_clearing_floor for unfit_attempt', 'by cheapest_clearing_floor for unfit_attempt'],
    'a decision has succeeded exactly when its attempt has'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('said twice', '{"outcome_status": "failed_provider_error"}', '{"status": "failed"}'),
        clearfloor_tests.completion('said twice'), clearfloor_tests.completion('said to be well'),
        clearfloor_tests.completion('said to be bad')
    ),
    array[
        'failed_provider_error by cheapest_clearing_floor for 16', 'failed_provider_error by cheapest_clearing_floor for 16',
        'succeeded by cheapest_clearing_floor for 16', 'succeeded by cheapest_clearing_floor for 16'
    ],
    'of two completions of one decision in a batch the first one counts, as a whole'
);

-- A dearer attempt that failed does not make a cheaper one dearer: what passes its own bound is the operator''s.
select is(clearfloor_tests.open(clearfloor_tests.opening('cheaper later')), array[null], 'a decision is open');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('cheaper later', 2, 30)), array['true'],
    'its first attempt, bound by 100, failed; the next one is bound by 30'
);
select is(
    clearfloor_tests.complete(clearfloor_tests.completion('cheaper later', '{}', '{"input_tokens": 50, "output_tokens": 0}', 2)),
    array['succeeded by cheapest_clearing_floor for 30'], 'the charge ends at the bound of the attempt that answered'
);
select is(
    clearfloor_tests.attempt('cheaper later attempt 2', 'overrun_nano_usd'), '20', 'charge and overrun together are the cost'
);
select is(clearfloor_tests.open(clearfloor_tests.opening('not sent')), array[null], 'a decision is open');
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('not sent', 2, 100)), array['true'],
    'its first attempt failed'
);
select is(
    clearfloor_tests.complete(clearfloor_tests.completion(
        'not sent',
        '{"outcome_status": "failed_provider_error", "decision_rule_override": "failed_pre_dispatch"}',
        clearfloor_tests.not_sent(), 2
    )),
    array['failed_provider_error by cheapest_clearing_floor for 10'],
    'where an attempt was made, an override cannot hide it'
);
select is(
    clearfloor_tests.decision('not sent', 'inference_id'), clearfloor_tests.id('not sent attempt 1')::text,
    'a decision names the last attempt really made, not one that was never sent'
);

-- No attempt was made at all: the rule says so.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('unavailable'), clearfloor_tests.opening('unavailable, unsaid'),
        clearfloor_tests.opening(
            'no candidate', '{"inference_id": null, "candidate_id": null, "price_id": null, "bound_nano_usd": null}'
        )
    ),
    array[null, null, null], 'three decisions are open'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion(
            'unavailable',
            '{"outcome_status": "failed_provider_error", "decision_rule_override": "failed_pre_dispatch"}',
            clearfloor_tests.not_sent()
        ),
        clearfloor_tests.completion('unavailable, unsaid', '{"outcome_status": "failed_other"}', clearfloor_tests.not_sent()),
        clearfloor_tests.completion('no candidate', '{
            "outcome_status": "rejected_no_candidate", "decision_rule_override": "no_candidate_cleared_floor", "attempt": null
        }')
    ),
    array[
        'failed_provider_error by failed_pre_dispatch for 0', 'failed_other by failed_pre_dispatch for 0',
        'rejected_no_candidate by no_candidate_cleared_floor for 0'
    ],
    'a decision without an attempt ends by the override, or else as failed before dispatch, and is free'
);
select results_eq(
    $$
        select requested_rule, inference_id from public.routing_outcomes
        where id in (
            clearfloor_tests.id('unavailable'), clearfloor_tests.id('unavailable, unsaid'),
            clearfloor_tests.id('no candidate')
        )
    $$,
    $$select 'cheapest_clearing_floor', null::uuid from generate_series(1, 3)$$,
    'a decision without an attempt names none, and keeps what was asked for'
);
select is_empty(
    $$
        select from public.ledger_entries
        where routing_outcome_id in (clearfloor_tests.id('unavailable'), clearfloor_tests.id('no candidate'))
    $$,
    'nothing charged is nothing in the ledger'
);

-- Other rules, other ends.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('pinned', '{"requested_rule": "pinned_model"}'), clearfloor_tests.opening('cancelled'),
        clearfloor_tests.opening('left open'), clearfloor_tests.opening('free', '{"bound_nano_usd": 0}')
    ),
    array[null, null, null, null], 'four decisions are open'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('pinned'),
        clearfloor_tests.completion('cancelled', '{"outcome_status": "cancelled"}', '{
            "status": "cancelled", "usage_source": "estimate", "usage_convention": null, "reported_usage": null
        }'),
        clearfloor_tests.completion('left open', '{"outcome_status": "failed_other", "attempt": null}'),
        clearfloor_tests.completion('free', '{}', '{"input_tokens": 0, "output_tokens": 0}')
    ),
    array[
        'succeeded by pinned_model for 16', 'cancelled by cheapest_clearing_floor for 16',
        'failed_other by cheapest_clearing_floor for 0', 'succeeded by cheapest_clearing_floor for 0'
    ],
    'a pinned model keeps its rule, a caller who left pays for what there was, an attempt without a result is free'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.attempt('left open attempt 1', 'status'),
        clearfloor_tests.decision('left open', 'inference_id')
    ),
    'abandoned ' || clearfloor_tests.id('left open attempt 1'), 'an attempt that nobody knows the end of is abandoned, and named'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all ends the books are right');

-- Each item alone.
select is(
    clearfloor_tests.open(clearfloor_tests.opening('mine'), clearfloor_tests.opening('sound')), array[null, null],
    'two decisions are open'
);
select is(
    clearfloor_tests.complete(
        clearfloor_tests.completion('never opened'),
        clearfloor_tests.completion('mine', jsonb_build_object('organization_id', clearfloor_tests.id('zenith'))),
        clearfloor_tests.completion('sound')
    ),
    array['by for unknown_decision', 'by for unknown_decision', 'succeeded by cheapest_clearing_floor for 16'],
    'an unknown decision, or another organization''s, is answered with nothing: the sound one beside it is completed'
);
select is(clearfloor_tests.decision('mine', 'outcome_status'), null, 'no other organization can complete a decision');
select throws_ok(
    $$
        select clearfloor_tests.complete(
            clearfloor_tests.completion('mine', '{"outcome_status": "done"}', '{"status": "failed"}')
        )
    $$,
    '23514',
    'new row for relation "routing_outcomes" violates check constraint "routing_outcomes_outcome_status_check"',
    'an unknown outcome is refused by the record'
);
select throws_ok(
    $$
        select clearfloor_tests.complete(clearfloor_tests.completion(
            'mine', '{"outcome_status": "failed_other", "decision_rule_override": "cheapest_clearing_floor"}',
            clearfloor_tests.not_sent()
        ))
    $$,
    '23514',
    'new row for relation "routing_outcomes" violates check constraint "outcome_requires_inference_when_model_chosen"',
    'an override cannot make an orphan'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.decision('mine', 'outcome_status'), clearfloor_tests.attempt('mine attempt 1', 'status')
    ),
    'open',
    'a completion that was refused leaves the decision and its attempt open'
);
select is(
    clearfloor_tests.complete(clearfloor_tests.completion(
        'mine', '{"outcome_status": "failed_provider_error"}', '{"status": "failed", "cooldown_seconds": 30, "error_class": "timeout"}'
    )),
    array['failed_provider_error by cheapest_clearing_floor for 16'], 'a last attempt can fail, too'
);
select results_eq(
    $$select until - now(), reason from public.candidate_cooldowns where candidate_id = clearfloor_tests.id('candidate')$$,
    $$values (interval '30 seconds', 'timeout')$$, 'a candidate cools down with the attempt that failed last'
);
select is(clearfloor_tests.open(clearfloor_tests.opening('later')), array[null], 'a decision is open');
select is(
    clearfloor_tests.complete(clearfloor_tests.completion(
        'later', '{"outcome_status": "failed_provider_error"}', '{"status": "failed", "cooldown_seconds": 1, "error_class": "cut"}'
    )),
    array['failed_provider_error by cheapest_clearing_floor for 16'], 'another attempt fails and asks for one second'
);
select is(
    (select until - now() from public.candidate_cooldowns where candidate_id = clearfloor_tests.id('candidate')),
    interval '30 seconds', 'a completion does not shorten a cooldown'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
