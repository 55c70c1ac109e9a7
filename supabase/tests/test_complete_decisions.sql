-- Completing decisions: the attempt that is named, the charge, and that twice is once.
begin;
select plan(65);

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

-- What the backend sends to complete a decision whose attempt answered, at a cost of 10 + 2 * 3 = 16.
create function pg_temp.completion(name text, changes jsonb default '{}', result jsonb default '{}', number integer default 1)
returns jsonb language sql as $$
    select jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'decision_rule_override', null, 'attempt', pg_temp.result(
            format('%s attempt %s', name, number),
            '{"status": "succeeded", "http_status": 200, "error_class": null, "output_tokens": 2}'::jsonb || result
        )
    ) || changes
$$;

-- Completes in one call; returns how each was answered.
create function pg_temp.complete(variadic items jsonb []) returns text [] language sql as $$
    select array_agg(
        concat_ws(' ', answer ->> 'outcome_status', 'by', answer ->> 'decision_rule', 'for', answer ->> 'charge_nano_usd', answer ->> 'error')
        order by place
    )
    from jsonb_array_elements(public.complete_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- Goes on to the next attempt, at the same bound unless another one is given.
create function pg_temp.go_on(decision text, number integer, previous jsonb, bound bigint default 100)
returns boolean language sql as $$
    select (public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id(decision), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id(format('%s attempt %s', decision, number)), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'bound_nano_usd', bound,
        'previous', pg_temp.result(format('%s attempt %s', decision, number - 1), previous)
    ))) -> 0 ->> 'opened')::boolean
$$;

create function pg_temp.not_sent() returns jsonb language sql immutable as $$
    select '{"status": "not_sent", "http_calls": 0, "http_status": null, "input_tokens": 0, "usage_source": "none",
        "usage_convention": null, "reported_usage": null}'::jsonb
$$;

do $$ begin perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 10000); end $$;
do $$ begin perform public.set_spend_cap(pg_temp.id('cap'), pg_temp.id('acme'), null, 'month', 9000); end $$;
set local role service_role;

-- The second half of the two-phase write.
select is(pg_temp.open(pg_temp.opening('call')), array[null], 'a decision is open');
select is(
    public.complete_decisions(jsonb_build_array(pg_temp.completion('call'))),
    jsonb_build_array(jsonb_build_object(
        'id', pg_temp.id('call'), 'outcome_status', 'succeeded', 'decision_rule', 'cheapest_clearing_floor',
        'inference_id', pg_temp.id('call attempt 1'), 'charge_nano_usd', 16, 'overrun_nano_usd', 0,
        'operator_loss_nano_usd', 0, 'error', null
    )),
    'a decision is completed: its outcome, its rule, the inference that carried it out, and the charge'
);
select results_eq(
    $$
        select
            outcome_status, decision_rule, inference_id, completed_at between opened_at and clock_timestamp(), charge_nano_usd,
            reserved_nano_usd
        from public.routing_outcomes where id = pg_temp.id('call')
    $$,
    $$
        values (
            'succeeded', 'cheapest_clearing_floor', pg_temp.id('call attempt 1'), true, 16::bigint, 100::bigint
        )
    $$,
    'the record says what was answered'
);
select results_eq(
    $$
        select
            status, finished_at between opened_at and clock_timestamp(), http_status::integer, input_tokens, output_tokens,
            usage_source, cost_nano_usd, overrun_nano_usd
        from public.inferences where id = pg_temp.id('call attempt 1')
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
        where entry.id = pg_temp.id('call')
    $$,
    $$
        select pg_temp.id('acme'), 'settlement', 'wallet', 'usage', 16::bigint, pg_temp.id('acme agent'), opened_at
        from public.routing_outcomes where id = pg_temp.id('call')
    $$,
    'the charge is one entry of the ledger, under the decision''s id, and says which caps it counts in'
);
select is(pg_temp.wallet('acme'), '9984 of which 0 held', 'the wallet pays the charge and holds nothing any more');
select is_empty('select pg_temp.wrong_books()', 'after a completion the books are right');

-- Completing twice is completing once.
select is(
    pg_temp.complete(pg_temp.completion('call', '{"outcome_status": "cancelled"}', '{"status": "cancelled", "output_tokens": 9}')),
    array['succeeded by cheapest_clearing_floor for 16'],
    'a decision that is completed again is answered as it was completed, whatever is sent'
);
select is(pg_temp.attempt('call attempt 1', 'status'), 'succeeded', 'its attempt stays as it was finished');
select is(pg_temp.wallet('acme'), '9984 of which 0 held', 'a decision that is completed twice is paid once');
select is(
    (select count(*) from public.ledger_entries where routing_outcome_id = pg_temp.id('call')), 1::bigint,
    'a decision that is completed twice has one entry in the ledger'
);
select is(pg_temp.open(pg_temp.opening('doubled')), array[null], 'a decision is open');
select is(
    pg_temp.complete(pg_temp.completion('doubled'), pg_temp.completion('doubled')),
    array['succeeded by cheapest_clearing_floor for 16', 'succeeded by cheapest_clearing_floor for 16'],
    'a decision that is twice in one batch is answered twice'
);
select is(pg_temp.wallet('acme'), '9968 of which 0 held', 'a decision that is twice in one batch is paid once');

-- Nobody can finish another decision's attempt.
select is(pg_temp.open(pg_temp.opening('greedy'), pg_temp.opening('honest')), array[null, null], 'two decisions are open');
select is(
    pg_temp.complete(pg_temp.completion('greedy', '{}', jsonb_build_object(
        'inference_id', pg_temp.id('honest attempt 1'), 'routing_outcome_id', pg_temp.id('honest')
    ))),
    array['by cheapest_clearing_floor for unfit_attempt'], 'a completion that reports somebody else''s attempt is refused'
);
select is(
    concat_ws(' ', pg_temp.attempt('greedy attempt 1', 'status'), pg_temp.attempt('honest attempt 1', 'status')),
    'open open', 'both attempts stay as they were'
);
select is(
    pg_temp.complete(pg_temp.completion('honest'), pg_temp.completion('greedy')),
    array['succeeded by cheapest_clearing_floor for 16', 'succeeded by cheapest_clearing_floor for 16'],
    'each decision is completed by its own report'
);
select is(pg_temp.wallet('acme'), '9936 of which 0 held', 'each decision is paid for its own attempt');

-- Every class of token has its price, and the sum is rounded up once.
select is(pg_temp.open(pg_temp.opening('classes')), array[null], 'a decision is open');
select is(
    pg_temp.complete(pg_temp.completion('classes', '{}', '{
        "input_tokens": 3, "cache_read_tokens": 11, "cache_write_tokens": 4, "output_tokens": 5, "reasoning_tokens": 6
    }')),
    array['succeeded by cheapest_clearing_floor for 58'],
    '3 + 11 * 0.1 + 4 * 2 + 5 * 3 + 6 * 5 nano-dollars are 57.1, rounded up once'
);

-- Never more than was reserved: the operator bears the rest.
select is(pg_temp.open(pg_temp.opening('overrun')), array[null], 'a decision is open');
select is(
    pg_temp.complete(pg_temp.completion('overrun', '{}', '{"input_tokens": 130, "output_tokens": 0}')),
    array['succeeded by cheapest_clearing_floor for 100'], 'the charge ends at the reservation'
);
select is(
    concat_ws(
        ' of ', pg_temp.attempt('overrun attempt 1', 'overrun_nano_usd'), pg_temp.attempt('overrun attempt 1', 'cost_nano_usd')
    ),
    '30 of 130', 'the whole cost and what is beyond the bound stay on the attempt'
);

-- Which attempt a decision names: the last one really made.
select is(pg_temp.open(pg_temp.opening('failed over')), array[null], 'a decision is open');
select ok(pg_temp.go_on('failed over', 2, '{}'), 'its first attempt failed');
select is(
    pg_temp.complete(pg_temp.completion('failed over', number => 2)), array['succeeded by cheapest_clearing_floor for 16'],
    'its second attempt answered, and only that is charged'
);
select is(
    pg_temp.decision('failed over', 'inference_id'), pg_temp.id('failed over attempt 2')::text,
    'a decision names the attempt that answered'
);
select is(pg_temp.attempt('failed over attempt 1', 'status'), 'failed', 'the attempt before stays a failure');
select is(pg_temp.open(pg_temp.opening('mixed up')), array[null], 'a decision is open');
select ok(pg_temp.go_on('mixed up', 2, '{}'), 'its first attempt failed');
select is(
    pg_temp.complete(pg_temp.completion('mixed up', '{"outcome_status": "failed_provider_error"}', '{"status": "failed"}')),
    array['by cheapest_clearing_floor for unfit_attempt'], 'a completion that brings news of an attempt that is finished is refused'
);
select is(
    concat_ws(' ', pg_temp.attempt('mixed up attempt 1', 'status'), pg_temp.attempt('mixed up attempt 2', 'status')),
    'failed open', 'an attempt that is finished stays as it was finished, and the one that is open stays open'
);
select is(
    pg_temp.complete(pg_temp.completion('mixed up', '{"outcome_status": "failed_other"}', '{"status": "failed"}', 2)),
    array['failed_other by cheapest_clearing_floor for 0'], 'a fault of ours is free, whatever it used'
);

-- What is said of the decision and of its attempt must agree.
select is(
    pg_temp.open(pg_temp.opening('said to be well'), pg_temp.opening('said to be bad'), pg_temp.opening('said twice')),
    array[null, null, null], 'three decisions are open'
);
select is(
    pg_temp.complete(
        pg_temp.completion('said to be well', '{}', '{"status": "failed"}'),
        pg_temp.completion('said to be well', '{"attempt": null}'),
        pg_temp.completion('said to be bad', '{"outcome_status": "failed_provider_error"}')
    ),
    array['by cheapest_clearing_floor for unfit_attempt', 'by cheapest_clearing_floor for unfit_attempt', 'by cheapest_clearing_floor for unfit_attempt'],
    'a decision has succeeded exactly when its attempt has'
);
select is(
    pg_temp.complete(
        pg_temp.completion('said twice', '{"outcome_status": "failed_provider_error"}', '{"status": "failed"}'),
        pg_temp.completion('said twice'), pg_temp.completion('said to be well'), pg_temp.completion('said to be bad')
    ),
    array[
        'failed_provider_error by cheapest_clearing_floor for 16', 'failed_provider_error by cheapest_clearing_floor for 16',
        'succeeded by cheapest_clearing_floor for 16', 'succeeded by cheapest_clearing_floor for 16'
    ],
    'of two completions of one decision in a batch the first one counts, as a whole'
);

-- A dearer attempt that failed does not make a cheaper one dearer: what passes its own bound is the operator''s.
select is(pg_temp.open(pg_temp.opening('cheaper later')), array[null], 'a decision is open');
select ok(pg_temp.go_on('cheaper later', 2, '{}', 30), 'its first attempt, bound by 100, failed; the next one is bound by 30');
select is(
    pg_temp.complete(pg_temp.completion('cheaper later', '{}', '{"input_tokens": 50, "output_tokens": 0}', 2)),
    array['succeeded by cheapest_clearing_floor for 30'], 'the charge ends at the bound of the attempt that answered'
);
select is(
    pg_temp.attempt('cheaper later attempt 2', 'overrun_nano_usd'), '20', 'charge and overrun together are the cost'
);
select is(pg_temp.open(pg_temp.opening('not sent')), array[null], 'a decision is open');
select ok(pg_temp.go_on('not sent', 2, '{}'), 'its first attempt failed');
select is(
    pg_temp.complete(pg_temp.completion(
        'not sent',
        '{"outcome_status": "failed_provider_error", "decision_rule_override": "failed_pre_dispatch"}', pg_temp.not_sent(), 2
    )),
    array['failed_provider_error by cheapest_clearing_floor for 10'],
    'where an attempt was made, an override cannot hide it'
);
select is(
    pg_temp.decision('not sent', 'inference_id'), pg_temp.id('not sent attempt 1')::text,
    'a decision names the last attempt really made, not one that was never sent'
);

-- No attempt was made at all: the rule says so.
select is(
    pg_temp.open(
        pg_temp.opening('unavailable'), pg_temp.opening('unavailable, unsaid'),
        pg_temp.opening('no candidate', '{"inference_id": null, "candidate_id": null, "price_id": null, "bound_nano_usd": null}')
    ),
    array[null, null, null], 'three decisions are open'
);
select is(
    pg_temp.complete(
        pg_temp.completion(
            'unavailable',
            '{"outcome_status": "failed_provider_error", "decision_rule_override": "failed_pre_dispatch"}', pg_temp.not_sent()
        ),
        pg_temp.completion('unavailable, unsaid', '{"outcome_status": "failed_other"}', pg_temp.not_sent()),
        pg_temp.completion('no candidate', '{
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
        where id in (pg_temp.id('unavailable'), pg_temp.id('unavailable, unsaid'), pg_temp.id('no candidate'))
    $$,
    $$select 'cheapest_clearing_floor', null::uuid from generate_series(1, 3)$$,
    'a decision without an attempt names none, and keeps what was asked for'
);
select is_empty(
    $$select from public.ledger_entries where routing_outcome_id in (pg_temp.id('unavailable'), pg_temp.id('no candidate'))$$,
    'nothing charged is nothing in the ledger'
);

-- Other rules, other ends.
select is(
    pg_temp.open(
        pg_temp.opening('pinned', '{"requested_rule": "pinned_model"}'), pg_temp.opening('cancelled'),
        pg_temp.opening('left open'), pg_temp.opening('free', '{"bound_nano_usd": 0}')
    ),
    array[null, null, null, null], 'four decisions are open'
);
select is(
    pg_temp.complete(
        pg_temp.completion('pinned'),
        pg_temp.completion('cancelled', '{"outcome_status": "cancelled"}', '{"status": "cancelled", "usage_source": "estimate",
            "usage_convention": null, "reported_usage": null}'),
        pg_temp.completion('left open', '{"outcome_status": "failed_other", "attempt": null}'),
        pg_temp.completion('free', '{}', '{"input_tokens": 0, "output_tokens": 0}')
    ),
    array[
        'succeeded by pinned_model for 16', 'cancelled by cheapest_clearing_floor for 16',
        'failed_other by cheapest_clearing_floor for 0', 'succeeded by cheapest_clearing_floor for 0'
    ],
    'a pinned model keeps its rule, a caller who left pays for what there was, an attempt without a result is free'
);
select is(
    concat_ws(' ', pg_temp.attempt('left open attempt 1', 'status'), pg_temp.decision('left open', 'inference_id')),
    'abandoned ' || pg_temp.id('left open attempt 1'), 'an attempt that nobody knows the end of is abandoned, and named'
);
select is_empty('select pg_temp.wrong_books()', 'after all ends the books are right');

-- Each item alone.
select is(pg_temp.open(pg_temp.opening('mine'), pg_temp.opening('sound')), array[null, null], 'two decisions are open');
select is(
    pg_temp.complete(
        pg_temp.completion('never opened'),
        pg_temp.completion('mine', jsonb_build_object('organization_id', pg_temp.id('zenith'))),
        pg_temp.completion('sound')
    ),
    array['by for unknown_decision', 'by for unknown_decision', 'succeeded by cheapest_clearing_floor for 16'],
    'an unknown decision, or another organization''s, is answered with nothing: the sound one beside it is completed'
);
select is(pg_temp.decision('mine', 'outcome_status'), null, 'no other organization can complete a decision');
select throws_ok(
    $$select pg_temp.complete(pg_temp.completion('mine', '{"outcome_status": "done"}', '{"status": "failed"}'))$$, '23514',
    'new row for relation "routing_outcomes" violates check constraint "routing_outcomes_outcome_status_check"',
    'an unknown outcome is refused by the record'
);
select throws_ok(
    $$
        select pg_temp.complete(pg_temp.completion(
            'mine', '{"outcome_status": "failed_other", "decision_rule_override": "cheapest_clearing_floor"}', pg_temp.not_sent()
        ))
    $$,
    '23514',
    'new row for relation "routing_outcomes" violates check constraint "outcome_requires_inference_when_model_chosen"',
    'an override cannot make an orphan'
);
select is(
    concat_ws(' ', pg_temp.decision('mine', 'outcome_status'), pg_temp.attempt('mine attempt 1', 'status')), 'open',
    'a completion that was refused leaves the decision and its attempt open'
);
select is(
    pg_temp.complete(pg_temp.completion(
        'mine', '{"outcome_status": "failed_provider_error"}', '{"status": "failed", "cooldown_seconds": 30, "error_class": "timeout"}'
    )),
    array['failed_provider_error by cheapest_clearing_floor for 16'], 'a last attempt can fail, too'
);
select results_eq(
    $$select until - now(), reason from public.candidate_cooldowns where candidate_id = pg_temp.id('candidate')$$,
    $$values (interval '30 seconds', 'timeout')$$, 'a candidate cools down with the attempt that failed last'
);
select is(pg_temp.open(pg_temp.opening('later')), array[null], 'a decision is open');
select is(
    pg_temp.complete(pg_temp.completion(
        'later', '{"outcome_status": "failed_provider_error"}', '{"status": "failed", "cooldown_seconds": 1, "error_class": "cut"}'
    )),
    array['failed_provider_error by cheapest_clearing_floor for 16'], 'another attempt fails and asks for one second'
);
select is(
    (select until - now() from public.candidate_cooldowns where candidate_id = pg_temp.id('candidate')),
    interval '30 seconds', 'a completion does not shorten a cooldown'
);
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
