-- Opening decisions: who is let in, what is held, and what is answered when it is not.
begin;
select plan(43);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

-- Acme has 1000 and, besides the usual, keys and an agent that have ended.
do $$ begin perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000); end $$;
insert into public.agents (id, organization_id, name, active)
values (clearfloor_tests.id('idle agent'), clearfloor_tests.id('acme'), 'idle', false);
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash, expires_at, revoked_at)
select
    clearfloor_tests.id(name || ' key'), clearfloor_tests.id('acme'), clearfloor_tests.id(agent), name, 'cf_',
    sha256(name::bytea), expires, revoked
from (values
    ('revoked', 'acme agent', null::timestamptz, now()), ('expired', 'acme agent', now(), null),
    ('lasting', 'acme agent', now() + interval '1 hour', null), ('idle', 'idle agent', null, null)
) as key (name, agent, expires, revoked);

create function pg_temp.of_user(name text) returns jsonb language sql as $$
    select jsonb_build_object('api_key_id', null, 'user_id', clearfloor_tests.id(name), 'bound_nano_usd', 0)
$$;
create function pg_temp.of_key(name text) returns jsonb language sql as $$
    select jsonb_build_object('api_key_id', clearfloor_tests.id(name), 'bound_nano_usd', 0)
$$;

set local role service_role;

-- The first half of the two-phase write.
select is(clearfloor_tests.open(clearfloor_tests.opening('first')), array[null], 'a decision that can be paid for is opened');
select results_eq(
    $$
        select decision_rule, requested_rule, outcome_status, inference_id, completed_at, charge_nano_usd, reserved_nano_usd
        from public.routing_outcomes where id = clearfloor_tests.id('first')
    $$,
    $$
        values (
            'cheapest_clearing_floor', 'cheapest_clearing_floor', null::text, null::uuid, null::timestamptz, null::bigint,
            100::bigint
        )
    $$,
    'an open decision has its rule and its reservation, and neither outcome nor inference yet'
);
select results_eq(
    $$
        select organization_id, agent_id, api_key_id, user_id, floor, task, stream, catalogue_version, lease_expires_at - opened_at
        from public.routing_outcomes where id = clearfloor_tests.id('first')
    $$,
    $$
        values (
            clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), clearfloor_tests.id('acme key'), null::uuid,
            0.7::double precision,
            'general', false, -1::bigint, interval '60 seconds'
        )
    $$,
    'an open decision says who asked for what, and until when it may stay open'
);
select results_eq(
    $$
        select routing_outcome_id, attempt_number::integer, status, provider, model, price_id, bound_nano_usd, finished_at
        from public.inferences where id = clearfloor_tests.id('first attempt 1')
    $$,
    $$
        values (
            clearfloor_tests.id('first'), 1, 'open', 'pgtap', 'pgtap', clearfloor_tests.id('price'), 100::bigint,
            null::timestamptz
        )
    $$,
    'its first attempt is written before the call, under the id made beforehand'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 100 held', 'its reservation is held in the wallet');
select is(
    public.insert_decisions(jsonb_build_array(clearfloor_tests.opening('first'))),
    jsonb_build_array(
        jsonb_build_object(
            'id', clearfloor_tests.id('first'), 'outcome_status', null, 'bound_nano_usd', 100, 'refusal', null, 'is_held', false,
            'keeps_answer', false, 'error', null
        )
    ),
    'a decision that is sent twice is answered in the same way'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 100 held', 'a decision that is sent twice is held once');
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('first', '{"bound_nano_usd": 900}'),
        clearfloor_tests.opening('first', jsonb_build_object('inference_id', clearfloor_tests.id('second thoughts')))
    ),
    array['id_taken', 'id_taken'], 'the id of a decision cannot stand for another one, of another bound or attempt'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 100 held', 'a decision whose id was taken holds nothing');
select is(
    (select count(*) from public.inferences where routing_outcome_id = clearfloor_tests.id('first')), 1::bigint,
    'a decision that is sent twice has one first attempt'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('twin', '{"bound_nano_usd": 0}'), clearfloor_tests.opening('twin', '{"bound_nano_usd": 0}')
    ),
    array[null, null], 'a decision that is twice in one batch is one decision, answered twice'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('bound to nothing', '{"inference_id": null, "bound_nano_usd": 100}')),
    array[null], 'a decision without an attempt is opened, whatever bound comes with it'
);
select is(
    clearfloor_tests.decision('bound to nothing', 'reserved_nano_usd'), '0', 'a decision without an attempt reserves nothing'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening(
            'bare', '{"inference_id": null, "candidate_id": null, "price_id": null, "bound_nano_usd": null}'
        )
    ),
    array[null], 'a decision for which there is no candidate is opened, too'
);
select is(
    (
        select count(*) from public.routing_outcomes as decision
        where decision.id = clearfloor_tests.id('bare') and reserved_nano_usd = 0
            and not exists (select from public.inferences where routing_outcome_id = decision.id)
    ),
    1::bigint, 'a decision for which there is no candidate reserves nothing and attempts nothing'
);

-- Who is unknown is answered alone, without a row.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('no such agent', jsonb_build_object('agent_id', clearfloor_tests.id('nobody'))),
        clearfloor_tests.opening('stranger''s agent', jsonb_build_object('agent_id', clearfloor_tests.id('zenith agent'))),
        clearfloor_tests.opening('no such organization', jsonb_build_object('organization_id', clearfloor_tests.id('nobody'))),
        clearfloor_tests.opening('no such price', jsonb_build_object('price_id', clearfloor_tests.id('nothing'))),
        clearfloor_tests.opening(
            'price of another candidate', jsonb_build_object('candidate_id', clearfloor_tests.id('nothing'))
        ),
        clearfloor_tests.opening('sound')
    ),
    array[
        'unknown_agent_or_price', 'unknown_agent_or_price', 'unknown_agent_or_price', 'unknown_agent_or_price',
        'unknown_agent_or_price', null
    ],
    'an unknown agent or price is answered alone: the sound decision beside it is opened'
);
select is_empty(
    $$
        select id from public.routing_outcomes where id in (
            clearfloor_tests.id('no such agent'), clearfloor_tests.id('stranger''s agent'),
            clearfloor_tests.id('no such organization'),
            clearfloor_tests.id('no such price'), clearfloor_tests.id('price of another candidate')
        )
    $$,
    'nothing is written for an unknown agent or price'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('first', '{"bound_nano_usd": 0}', 'zenith')), array['unknown_agent_or_price'],
    'another organization learns nothing by sending the id of somebody''s decision'
);
select is(
    clearfloor_tests.decision('first', 'organization_id'), clearfloor_tests.id('acme')::text,
    'a decision stays its organization''s when another one sends its id'
);

-- Who has lost the right to call is refused, on the record.
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('by revoked key', pg_temp.of_key('revoked key')),
        clearfloor_tests.opening('by expired key', pg_temp.of_key('expired key')),
        clearfloor_tests.opening('by lasting key', pg_temp.of_key('lasting key')),
        clearfloor_tests.opening('by unknown key', pg_temp.of_key('nobody')),
        clearfloor_tests.opening('by another agent''s key', pg_temp.of_key('idle key')),
        clearfloor_tests.opening('by member', pg_temp.of_user('member of acme')),
        clearfloor_tests.opening('by stranger', pg_temp.of_user('member of zenith')),
        clearfloor_tests.opening('by nobody', '{"api_key_id": null}')
    ),
    array['rejected_key', 'rejected_key', null, 'rejected_key', 'rejected_key', null, 'rejected_key', 'rejected_key'],
    'keys that ended and users who are members of nothing or of another organization are refused, each alone'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening(
            'by idle agent', pg_temp.of_key('idle key') || jsonb_build_object('agent_id', clearfloor_tests.id('idle agent'))
        )
    ),
    array['rejected_inactive'], 'an agent that was switched off is refused'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('by idle agent''s dead key', jsonb_build_object(
            'agent_id', clearfloor_tests.id('idle agent'), 'api_key_id', clearfloor_tests.id('revoked key')
        ))
    ),
    array['rejected_key'], 'whoever holds a dead key does not learn that the agent is switched off'
);
select lives_ok(
    $$delete from public.organization_members where user_id = clearfloor_tests.id('member of acme')$$,
    'the backend removes a member'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('by former member', pg_temp.of_user('member of acme'))),
    array['rejected_key'], 'a member is refused from the moment of its removal'
);
select results_eq(
    $$
        select
            decision_rule, requested_rule, inference_id, reserved_nano_usd, charge_nano_usd, completed_at = opened_at,
            (select count(*) from public.inferences where routing_outcome_id = decision.id)
        from public.routing_outcomes as decision
        where id in (
            clearfloor_tests.id('by revoked key'), clearfloor_tests.id('by idle agent'),
            clearfloor_tests.id('by former member')
        )
    $$,
    $$
        select 'failed_pre_dispatch', 'cheapest_clearing_floor', null::uuid, 0::bigint, 0::bigint, true, 0::bigint
        from generate_series(1, 3)
    $$,
    'a refused decision is completed at once: nothing attempted, reserved or charged, and what was asked for is kept'
);

-- What cannot be paid for is refused. 200 of 1000 are held by now.
select is(clearfloor_tests.wallet('acme'), '1000 of which 200 held', 'refusals and free calls hold nothing');
select is(
    clearfloor_tests.open(clearfloor_tests.opening('too dear', '{"bound_nano_usd": 801}')), array['rejected_funds'],
    'a decision that could cost more than is left is refused'
);
select is(
    clearfloor_tests.decision('too dear', 'refusal')::jsonb,
    '{"balance_nano_usd": 1000, "held_nano_usd": 200, "needed_nano_usd": 801}'::jsonb,
    'a refusal for want of funds says what there is and what is needed'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('too dear', '{"bound_nano_usd": 1}')), array['rejected_funds'],
    'a refused decision that is sent again stays refused'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('exact', '{"bound_nano_usd": 800}')), array[null],
    'the last of the funds can be reserved'
);
select is(clearfloor_tests.wallet('acme'), '1000 of which 1000 held', 'everything is held now');
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('one more', '{"bound_nano_usd": 1}'),
        clearfloor_tests.opening('free', '{"bound_nano_usd": 0}')
    ),
    array['rejected_funds', null], 'with nothing left the smallest hold is refused, and a free model still works'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('poor', '{"bound_nano_usd": 1}', 'zenith'),
        clearfloor_tests.opening('poor but free', '{"bound_nano_usd": 0}', 'zenith')
    ),
    array['rejected_funds', null], 'an organization that never paid can use free models only'
);

-- Near a limit the holds of a batch are tried one by one, in the order of their ids.
select lives_ok(
    $$select public.top_up_wallet(clearfloor_tests.id('more funds'), clearfloor_tests.id('acme'), 100)$$, 'acme adds 100'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('last', '{"id": "c1ea4f10-0000-7000-8000-000000000003", "bound_nano_usd": 41}'),
        clearfloor_tests.opening('large', '{"id": "c1ea4f10-0000-7000-8000-000000000001", "bound_nano_usd": 101}'),
        clearfloor_tests.opening('elsewhere', '{"bound_nano_usd": 0}', 'zenith'),
        clearfloor_tests.opening('small', '{"id": "c1ea4f10-0000-7000-8000-000000000002", "bound_nano_usd": 60}')
    ),
    array['rejected_funds', 'rejected_funds', null, null],
    'a small hold behind a large one still fits, older decisions go first, and answers keep the order of the items'
);
select is(clearfloor_tests.wallet('acme'), '1100 of which 1060 held', 'of a batch near the limit only what fits is held');
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('dear', '{"bound_nano_usd": 41}'),
        clearfloor_tests.opening('poor neighbour', '{"bound_nano_usd": 1}', 'zenith')
    ),
    array['rejected_funds', 'rejected_funds'], 'two organizations are refused in one batch, each for its own wallet'
);
select is(
    clearfloor_tests.decision('poor neighbour', 'refusal')::jsonb,
    '{"balance_nano_usd": 0, "held_nano_usd": 0, "needed_nano_usd": 1}'::jsonb,
    'a refusal tells an organization of no other wallet than its own'
);

-- A batch that breaks a rule of the record fails as a whole, and leaves nothing.
select throws_ok(
    $$
        select clearfloor_tests.open(
            clearfloor_tests.opening('in good company'),
            clearfloor_tests.opening('of no catalogue', '{"catalogue_version": -2}')
        )
    $$,
    '23503', null, 'a decision of an unknown catalogue fails its batch, for the backend to split'
);
select is(clearfloor_tests.decision('in good company', 'id'), null, 'of a batch that failed nothing is written');
select is(clearfloor_tests.wallet('acme'), '1100 of which 1060 held', 'of a batch that failed nothing is held');
select is(public.insert_decisions('[]'), '[]'::jsonb, 'an empty batch has an empty answer');
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
