-- Sweeping what a crash left open: released, free, and named as what it is.
begin;
select plan(39);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

create procedure pg_temp.cap_the_hour(most bigint) language plpgsql as $$
begin
    perform public.set_spend_cap(
        clearfloor_tests.id('cap'), clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), 'hour', most
    );
end
$$;

-- Expired decisions of other data are closed first, and other sweepers wait until the end of this file.
do $$
begin
    perform pg_advisory_xact_lock(hashtextextended('clearfloor.sweep_decisions', 0));
    perform public.sweep_decisions(1000000);
    perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000);
    call pg_temp.cap_the_hour(1000);
end
$$;
set local role service_role;

select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('alive'),
        clearfloor_tests.opening('late', '{"lease_seconds": -180}'),
        clearfloor_tests.opening('later', '{"lease_seconds": -120, "requested_rule": "pinned_model"}'),
        clearfloor_tests.opening('latest', '{
            "lease_seconds": -60, "inference_id": null, "candidate_id": null, "price_id": null, "bound_nano_usd": null
        }')
    ),
    array[null, null, null, null], 'one decision is alive, and a crash left three beyond their lease'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 300 held', 'what a crash left is still held');
select is(public.sweep_decisions(1), 1, 'a sweep closes no more than it was asked to');
select is(
    concat_ws(
        ' ', clearfloor_tests.decision('late', 'outcome_status'), clearfloor_tests.decision('later', 'outcome_status')
    ),
    'abandoned',
    'a sweep begins with the oldest lease'
);
select results_eq(
    $$
        select outcome_status, decision_rule, inference_id, charge_nano_usd, completed_at >= opened_at
        from public.routing_outcomes where id = clearfloor_tests.id('late')
    $$,
    $$values ('abandoned', 'cheapest_clearing_floor', clearfloor_tests.id('late attempt 1'), 0::bigint, true)$$,
    'a swept decision keeps its rule, names its attempt and is free'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.attempt('late attempt 1', 'status'),
        clearfloor_tests.attempt('late attempt 1', 'bound_nano_usd')
    ),
    'abandoned 100', 'its attempt is abandoned, with the bound of what the provider may still bill'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 200 held', 'a swept decision''s reservation is released');
select is(public.sweep_decisions(10), 2, 'the next sweep closes the rest');
select is(public.sweep_decisions(10), 0, 'a sweep that finds nothing does nothing');
select is(
    concat_ws(' ', clearfloor_tests.decision('later', 'decision_rule'), clearfloor_tests.decision('later', 'inference_id')),
    'pinned_model ' || clearfloor_tests.id('later attempt 1'), 'a swept decision keeps the rule it was asked for by'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.decision('latest', 'outcome_status'), clearfloor_tests.decision('latest', 'decision_rule'),
        clearfloor_tests.decision('latest', 'inference_id')
    ),
    'abandoned failed_pre_dispatch', 'a swept decision without an attempt names none, and its rule says so'
);
select is(
    concat_ws(
        ' ', clearfloor_tests.decision('alive', 'outcome_status'), clearfloor_tests.attempt('alive attempt 1', 'status')
    ),
    'open',
    'a decision within its lease is left alone'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 100 held', 'only the decision that is alive still holds something');
select is_empty(
    $$select from public.ledger_entries where organization_id = clearfloor_tests.id('acme') and kind <> 'top_up'$$,
    'a sweep charges nothing'
);
select is(clearfloor_tests.decision('alive', 'swept_at'), null, 'only what was swept says when');

-- A process that was only held up completes what was swept, with the funds that are left: once, and in the window of the
-- opening.
create function pg_temp.complete_late(name text, result jsonb default '{}', status text default 'succeeded')
returns jsonb language sql as $$
    select (public.complete_decisions(jsonb_build_array(clearfloor_tests.completion(
        name, jsonb_build_object('outcome_status', status), '{"output_tokens": 0}' || result
    ))) -> 0) - '{id,inference_id,decision_rule,overrun_nano_usd}'::text[]
$$;
select is(
    pg_temp.complete_late('late'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 10, "operator_loss_nano_usd": 0, "error": null}',
    'a completion that comes after the sweep says what became of the decision, and is paid for'
);
select is(clearfloor_tests.wallet('acme'), '990 of which 100 held', 'it is charged and holds nothing');
select is(
    pg_temp.complete_late('late', '{"input_tokens": 90}'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 10, "operator_loss_nano_usd": 0, "error": null}',
    'it is completed once, whatever comes after'
);
select isnt(clearfloor_tests.decision('late', 'swept_at'), null, 'it still says that it was swept');
select is_empty('select clearfloor_tests.wrong_books()', 'after a late completion the books are right');
do $$
begin
    perform public.correct_wallet(
        clearfloor_tests.id('spent elsewhere'), clearfloor_tests.id('acme'), -860, 'test', 'pgtap'
    );
end
$$;
select is(
    pg_temp.complete_late('later', '{"input_tokens": 70}'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 30, "operator_loss_nano_usd": 40, "error": null}',
    'where the wallet has less left than is due, the rest is the operator''s loss'
);
select is(clearfloor_tests.wallet('acme'), '100 of which 100 held', 'the decision that is alive keeps what it holds');
select results_eq(
    $$
        select kind, debit_account, credit_account, amount_nano_usd from public.ledger_entries
        where id = clearfloor_tests.id('later') order by kind
    $$,
    $$values ('loss', 'operator', 'usage', 40::bigint), ('settlement', 'wallet', 'usage', 30)$$,
    'the ledger has what was paid and what was lost'
);
select is(
    pg_temp.complete_late('latest', status => 'cancelled') ->> 'outcome_status', 'abandoned',
    'a decision that was swept without an attempt stays abandoned'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after a loss the books are right');

-- A cap of the opening's window stands in the way of a late completion, too.
do $$ begin perform public.top_up_wallet(clearfloor_tests.id('more funds'), clearfloor_tests.id('acme'), 1000); end $$;
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('capped', '{"lease_seconds": -60}'),
        clearfloor_tests.opening('failing', '{"lease_seconds": -60}')
    ),
    array[null, null], 'two more are beyond their lease'
);
select is(public.sweep_decisions(10), 2, 'they are swept');
call pg_temp.cap_the_hour(145);
select is(
    pg_temp.complete_late('capped'),
    '{"outcome_status": "succeeded", "charge_nano_usd": 5, "operator_loss_nano_usd": 5, "error": null}',
    'where a cap has less left than is due, the rest is the operator''s loss'
);
select is(
    clearfloor_tests.go_on(clearfloor_tests.next_attempt('failing', 2, 0)), array['true'],
    'a swept decision goes on to its next attempt, where that fits'
);
select is(clearfloor_tests.decision('failing', 'outcome_status'), null, 'it is open again');

-- A late completion counts in the window in which it was opened, and is limited by that one alone.
reset role;
call pg_temp.cap_the_hour(160);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('yesterday', '{"lease_seconds": -60, "bound_nano_usd": 5}')), array[null],
    'a decision is open'
);
select is(public.sweep_decisions(10), 1, 'and swept');
-- Counted anew in yesterday's hour.
do $$
begin
    perform private.count_usage(
        array(select used from private.decision_usage where id = clearfloor_tests.id('yesterday')), -1
    );
    update public.routing_outcomes set opened_at = opened_at - interval '1 day' where id = clearfloor_tests.id('yesterday');
    perform private.count_usage(array(select used from private.decision_usage where id = clearfloor_tests.id('yesterday')));
end
$$;
update public.spend_caps set created_at = created_at - interval '3 days' where id = clearfloor_tests.id('cap');
insert into public.spend_counters (spend_cap_id, window_start, organization_id, charged_nano_usd)
select id, date_trunc('hour', now() - interval '1 day', 'UTC'), organization_id, 157
from public.spend_caps where id = clearfloor_tests.id('cap');
create function pg_temp.hours() returns bigint [] language sql as $$
    select array_agg(charged_nano_usd order by window_start)
    from public.spend_counters where spend_cap_id = clearfloor_tests.id('cap')
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
delete from public.spend_counters where charged_nano_usd = 160 and spend_cap_id = clearfloor_tests.id('cap')
and window_start < now() - interval '2 hours';
update public.spend_caps set created_at = now() where id = clearfloor_tests.id('cap');
update public.ledger_entries
set opened_at = (select opened_at from public.routing_outcomes where id = clearfloor_tests.id('yesterday'))
where routing_outcome_id = clearfloor_tests.id('yesterday');
set local role service_role;

-- An item that names another decision's attempt opens nothing again.
do $$
begin
    perform clearfloor_tests.open(
        clearfloor_tests.opening('foreign', '{"lease_seconds": -60, "bound_nano_usd": 0}'),
        clearfloor_tests.opening('own', '{"bound_nano_usd": 0}')
    );
    perform public.sweep_decisions(10);
end
$$;
select is(
    public.complete_decisions(jsonb_build_array(jsonb_build_object(
        'id', clearfloor_tests.id('own'), 'organization_id', clearfloor_tests.id('acme'), 'outcome_status', 'cancelled',
        'attempt', clearfloor_tests.result('foreign attempt 1')
    ))) -> 0 ->> 'error',
    'unfit_attempt', 'a completion with another decision''s attempt is refused'
);
select is(clearfloor_tests.decision('foreign', 'outcome_status'), 'abandoned', 'and what was swept stays so');

-- Who is alive renews its leases.
select is(
    public.renew_leases(
        array[clearfloor_tests.id('alive'), clearfloor_tests.id('late'), clearfloor_tests.id('nobody')], 3600
    ),
    1::bigint,
    'leases are renewed, of decisions that are open'
);
reset role;
select results_eq(
    $$
        select id, lease_expires_at > now() + interval '59 minutes' from public.routing_outcomes
        where id in (clearfloor_tests.id('alive'), clearfloor_tests.id('late')) order by 2
    $$,
    $$values (clearfloor_tests.id('late'), false), (clearfloor_tests.id('alive'), true)$$,
    'an open decision has a new lease, a completed one has not'
);
set local role service_role;
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
