-- Opening decisions: who is let in, what is held, and what is answered when it is not.
begin;
select plan(43);

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

-- Acme has 1000 and, besides the usual, keys and agents that have ended, a member and somebody who is none.
do $$ begin perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000); end $$;
insert into public.agents (id, organization_id, name, active) values
(pg_temp.id('second agent'), pg_temp.id('acme'), 'second', true),
(pg_temp.id('idle agent'), pg_temp.id('acme'), 'idle', false);
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash, expires_at, revoked_at)
select pg_temp.id(name || ' key'), pg_temp.id('acme'), pg_temp.id(agent), name, 'cf_', sha256(name::bytea), expires, revoked
from (values
    ('revoked', 'acme agent', null::timestamptz, now()), ('expired', 'acme agent', now(), null),
    ('lasting', 'acme agent', now() + interval '1 hour', null), ('idle', 'idle agent', null, null)
) as key (name, agent, expires, revoked);
insert into auth.users (id, email)
select pg_temp.id(name), name || '@pgtap.example' from unnest(array['ada', 'eve']) as name;
insert into public.organization_members (organization_id, user_id) values
(pg_temp.id('acme'), pg_temp.id('ada')), (pg_temp.id('zenith'), pg_temp.id('eve'));

create function pg_temp.of_user(name text) returns jsonb language sql as $$
    select jsonb_build_object('api_key_id', null, 'user_id', pg_temp.id(name), 'bound_nano_usd', 0)
$$;
create function pg_temp.of_key(name text) returns jsonb language sql as $$
    select jsonb_build_object('api_key_id', pg_temp.id(name), 'bound_nano_usd', 0)
$$;
create function pg_temp.of_zenith(bound bigint) returns jsonb language sql as $$
    select jsonb_build_object(
        'organization_id', pg_temp.id('zenith'), 'agent_id', pg_temp.id('zenith agent'),
        'api_key_id', pg_temp.id('zenith key'), 'bound_nano_usd', bound
    )
$$;

set local role service_role;

-- The first half of the two-phase write.
select is(pg_temp.open(pg_temp.opening('first')), array[null], 'a decision that can be paid for is opened');
select results_eq(
    $$
        select decision_rule, requested_rule, outcome_status, inference_id, completed_at, charge_nano_usd, reserved_nano_usd
        from public.routing_outcomes where id = pg_temp.id('first')
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
        from public.routing_outcomes where id = pg_temp.id('first')
    $$,
    $$
        values (
            pg_temp.id('acme'), pg_temp.id('acme agent'), pg_temp.id('acme key'), null::uuid, 0.7::double precision,
            'general', false, -1::bigint, interval '60 seconds'
        )
    $$,
    'an open decision says who asked for what, and until when it may stay open'
);
select results_eq(
    $$
        select routing_outcome_id, attempt_number::integer, status, provider, model, price_id, bound_nano_usd, finished_at
        from public.inferences where id = pg_temp.id('first attempt 1')
    $$,
    $$
        values (
            pg_temp.id('first'), 1, 'open', 'pgtap', 'pgtap', pg_temp.id('price'), 100::bigint, null::timestamptz
        )
    $$,
    'its first attempt is written before the call, under the id made beforehand'
);
select is(pg_temp.wallet('acme'), '1000 of which 100 held', 'its reservation is held in the wallet');
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.opening('first'))),
    jsonb_build_array(
        jsonb_build_object(
            'id', pg_temp.id('first'), 'outcome_status', null, 'bound_nano_usd', 100, 'refusal', null, 'is_held', false,
            'keeps_answer', false, 'error', null
        )
    ),
    'a decision that is sent twice is answered in the same way'
);
select is(pg_temp.wallet('acme'), '1000 of which 100 held', 'a decision that is sent twice is held once');
select is(
    pg_temp.open(
        pg_temp.opening('first', '{"bound_nano_usd": 900}'),
        pg_temp.opening('first', jsonb_build_object('inference_id', pg_temp.id('second thoughts')))
    ),
    array['id_taken', 'id_taken'], 'the id of a decision cannot stand for another one, of another bound or attempt'
);
select is(pg_temp.wallet('acme'), '1000 of which 100 held', 'a decision whose id was taken holds nothing');
select is(
    (select count(*) from public.inferences where routing_outcome_id = pg_temp.id('first')), 1::bigint,
    'a decision that is sent twice has one first attempt'
);
select is(
    pg_temp.open(pg_temp.opening('twin', '{"bound_nano_usd": 0}'), pg_temp.opening('twin', '{"bound_nano_usd": 0}')),
    array[null, null], 'a decision that is twice in one batch is one decision, answered twice'
);
select is(
    pg_temp.open(pg_temp.opening('bound to nothing', '{"inference_id": null, "bound_nano_usd": 100}')),
    array[null], 'a decision without an attempt is opened, whatever bound comes with it'
);
select is(
    pg_temp.decision('bound to nothing', 'reserved_nano_usd'), '0', 'a decision without an attempt reserves nothing'
);
select is(
    pg_temp.open(pg_temp.opening('bare', '{"inference_id": null, "candidate_id": null, "price_id": null, "bound_nano_usd": null}')),
    array[null], 'a decision for which there is no candidate is opened, too'
);
select is(
    (
        select count(*) from public.routing_outcomes as decision
        where decision.id = pg_temp.id('bare') and reserved_nano_usd = 0
            and not exists (select from public.inferences where routing_outcome_id = decision.id)
    ),
    1::bigint, 'a decision for which there is no candidate reserves nothing and attempts nothing'
);

-- Who is unknown is answered alone, without a row.
select is(
    pg_temp.open(
        pg_temp.opening('no such agent', jsonb_build_object('agent_id', pg_temp.id('nobody'))),
        pg_temp.opening('stranger''s agent', jsonb_build_object('agent_id', pg_temp.id('zenith agent'))),
        pg_temp.opening('no such organization', jsonb_build_object('organization_id', pg_temp.id('nobody'))),
        pg_temp.opening('no such price', jsonb_build_object('price_id', pg_temp.id('nothing'))),
        pg_temp.opening('price of another candidate', jsonb_build_object('candidate_id', pg_temp.id('nothing'))),
        pg_temp.opening('sound')
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
            pg_temp.id('no such agent'), pg_temp.id('stranger''s agent'), pg_temp.id('no such organization'),
            pg_temp.id('no such price'), pg_temp.id('price of another candidate')
        )
    $$,
    'nothing is written for an unknown agent or price'
);
select is(
    pg_temp.open(pg_temp.opening('first', pg_temp.of_zenith(0))), array['unknown_agent_or_price'],
    'another organization learns nothing by sending the id of somebody''s decision'
);
select is(
    pg_temp.decision('first', 'organization_id'), pg_temp.id('acme')::text,
    'a decision stays its organization''s when another one sends its id'
);

-- Who has lost the right to call is refused, on the record.
select is(
    pg_temp.open(
        pg_temp.opening('by revoked key', pg_temp.of_key('revoked key')),
        pg_temp.opening('by expired key', pg_temp.of_key('expired key')),
        pg_temp.opening('by lasting key', pg_temp.of_key('lasting key')),
        pg_temp.opening('by unknown key', pg_temp.of_key('nobody')),
        pg_temp.opening('by another agent''s key', pg_temp.of_key('idle key')),
        pg_temp.opening('by member', pg_temp.of_user('ada')),
        pg_temp.opening('by stranger', pg_temp.of_user('eve')),
        pg_temp.opening('by nobody', '{"api_key_id": null}')
    ),
    array['rejected_key', 'rejected_key', null, 'rejected_key', 'rejected_key', null, 'rejected_key', 'rejected_key'],
    'keys that ended and users who are members of nothing or of another organization are refused, each alone'
);
select is(
    pg_temp.open(
        pg_temp.opening('by idle agent', pg_temp.of_key('idle key') || jsonb_build_object('agent_id', pg_temp.id('idle agent')))
    ),
    array['rejected_inactive'], 'an agent that was switched off is refused'
);
select is(
    pg_temp.open(
        pg_temp.opening('by idle agent''s dead key', jsonb_build_object(
            'agent_id', pg_temp.id('idle agent'), 'api_key_id', pg_temp.id('revoked key')
        ))
    ),
    array['rejected_key'], 'whoever holds a dead key does not learn that the agent is switched off'
);
select lives_ok(
    $$delete from public.organization_members where user_id = pg_temp.id('ada')$$, 'the backend removes a member'
);
select is(
    pg_temp.open(pg_temp.opening('by former member', pg_temp.of_user('ada'))), array['rejected_key'],
    'a member is refused from the moment of its removal'
);
select results_eq(
    $$
        select
            decision_rule, requested_rule, inference_id, reserved_nano_usd, charge_nano_usd, completed_at = opened_at,
            (select count(*) from public.inferences where routing_outcome_id = decision.id)
        from public.routing_outcomes as decision
        where id in (pg_temp.id('by revoked key'), pg_temp.id('by idle agent'), pg_temp.id('by former member'))
    $$,
    $$
        select 'failed_pre_dispatch', 'cheapest_clearing_floor', null::uuid, 0::bigint, 0::bigint, true, 0::bigint
        from generate_series(1, 3)
    $$,
    'a refused decision is completed at once: nothing attempted, reserved or charged, and what was asked for is kept'
);

-- What cannot be paid for is refused. 200 of 1000 are held by now.
select is(pg_temp.wallet('acme'), '1000 of which 200 held', 'refusals and free calls hold nothing');
select is(
    pg_temp.open(pg_temp.opening('too dear', '{"bound_nano_usd": 801}')), array['rejected_funds'],
    'a decision that could cost more than is left is refused'
);
select is(
    pg_temp.decision('too dear', 'refusal')::jsonb,
    '{"balance_nano_usd": 1000, "held_nano_usd": 200, "needed_nano_usd": 801}'::jsonb,
    'a refusal for want of funds says what there is and what is needed'
);
select is(
    public.insert_decisions(jsonb_build_array(pg_temp.opening('too dear', '{"bound_nano_usd": 1}'))) -> 0 ->> 'outcome_status',
    'rejected_funds', 'a refused decision that is sent again stays refused'
);
select is(
    pg_temp.open(pg_temp.opening('exact', '{"bound_nano_usd": 800}')), array[null], 'the last of the funds can be reserved'
);
select is(pg_temp.wallet('acme'), '1000 of which 1000 held', 'everything is held now');
select is(
    pg_temp.open(pg_temp.opening('one more', '{"bound_nano_usd": 1}'), pg_temp.opening('free', '{"bound_nano_usd": 0}')),
    array['rejected_funds', null], 'with nothing left the smallest hold is refused, and a free model still works'
);
select is(
    pg_temp.open(pg_temp.opening('poor', pg_temp.of_zenith(1)), pg_temp.opening('poor but free', pg_temp.of_zenith(0))),
    array['rejected_funds', null], 'an organization that never paid can use free models only'
);

-- Near a limit the holds of a batch are tried one by one, in the order of their ids.
select lives_ok(
    $$select public.top_up_wallet(pg_temp.id('more funds'), pg_temp.id('acme'), 100)$$, 'acme adds 100'
);
select is(
    pg_temp.open(
        pg_temp.opening('last', '{"id": "c1ea4f10-0000-7000-8000-000000000003", "bound_nano_usd": 41}'),
        pg_temp.opening('large', '{"id": "c1ea4f10-0000-7000-8000-000000000001", "bound_nano_usd": 101}'),
        pg_temp.opening('elsewhere', pg_temp.of_zenith(0)),
        pg_temp.opening('small', '{"id": "c1ea4f10-0000-7000-8000-000000000002", "bound_nano_usd": 60}')
    ),
    array['rejected_funds', 'rejected_funds', null, null],
    'a small hold behind a large one still fits, older decisions go first, and answers keep the order of the items'
);
select is(pg_temp.wallet('acme'), '1100 of which 1060 held', 'of a batch near the limit only what fits is held');
select is(
    pg_temp.open(
        pg_temp.opening('dear', '{"bound_nano_usd": 41}'), pg_temp.opening('poor neighbour', pg_temp.of_zenith(1))
    ),
    array['rejected_funds', 'rejected_funds'], 'two organizations are refused in one batch, each for its own wallet'
);
select is(
    pg_temp.decision('poor neighbour', 'refusal')::jsonb,
    '{"balance_nano_usd": 0, "held_nano_usd": 0, "needed_nano_usd": 1}'::jsonb,
    'a refusal tells an organization of no other wallet than its own'
);

-- A batch that breaks a rule of the record fails as a whole, and leaves nothing.
select throws_ok(
    $$select pg_temp.open(pg_temp.opening('in good company'), pg_temp.opening('of no catalogue', '{"catalogue_version": -2}'))$$,
    '23503', null, 'a decision of an unknown catalogue fails its batch, for the backend to split'
);
select is(pg_temp.decision('in good company', 'id'), null, 'of a batch that failed nothing is written');
select is(pg_temp.wallet('acme'), '1100 of which 1060 held', 'of a batch that failed nothing is held');
select is(public.insert_decisions('[]'), '[]'::jsonb, 'an empty batch has an empty answer');
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
