-- Retention deletes what is completed and older than its row says, and nothing else; money and usage outlive it.
begin;
select plan(22);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

-- A UUIDv7 of so many days ago, made of a name: as the backend makes ids, and the same in every run.
create function pg_temp.id_at(name text, moment timestamptz) returns uuid language sql stable as $$
    select (
        lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '7'
        || substr(md5('clearfloor pgtap ' || name), 1, 3) || '8' || substr(md5('clearfloor pgtap ' || name), 4, 15)
    )::uuid
$$;

-- A decision of acme's that was opened then and charged 16, unless it is open still; counted, and in the books.
create function pg_temp.decide(
    name text, moment timestamptz, is_open boolean default false, id_moment timestamptz default null
) returns void language plpgsql as $$
declare
    decision_id constant uuid := pg_temp.id_at(name, coalesce(id_moment, moment));
begin
    insert into public.routing_outcomes (
        id, organization_id, agent_id, opened_at, lease_expires_at, requested_model, requested_rule, decision_rule, task,
        stream, catalogue_version, routing_request, candidates, reserved_nano_usd
    ) values (
        decision_id, clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), moment, now() + interval '1 minute',
        name, 'pinned_model', 'pinned_model', 'general', false, -1, '{}', '[]', 100
    );
    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
    ) values (
        clearfloor_tests.id(name || ' attempt 1'), clearfloor_tests.id('acme'), decision_id, 1,
        clearfloor_tests.id('candidate'), 'pgtap', 'pgtap', clearfloor_tests.id('price'), 100
    );
    update public.wallets set held_nano_usd = held_nano_usd + 100 where organization_id = clearfloor_tests.id('acme');
    if not is_open then
        perform clearfloor_tests.complete(clearfloor_tests.completion(name, jsonb_build_object('id', decision_id)));
    end if;
end
$$;

-- What is left, oldest first, each with its attempts.
create function pg_temp.left_over() returns text [] language sql as $$
    select array(
        select concat_ws(' ', decision.requested_model, (
            select count(*) from public.inferences as attempt where attempt.routing_outcome_id = decision.id
        ))
        from public.routing_outcomes as decision where organization_id = clearfloor_tests.id('acme') order by opened_at
    )
$$;
create function pg_temp.keep(days bigint) returns void language sql as $$
    update public.retention set keep_days = days
$$;
create function pg_temp.deleted_until() returns timestamptz language sql as $$
    select deleted_until from public.retention
$$;

-- Other deleters wait until the end of this file.
do $$
begin
    perform pg_advisory_xact_lock(hashtextextended('clearfloor.delete_old_decisions', 0));
    perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 10000);
    perform pg_temp.decide('oldest', now() - interval '90 days');
    perform pg_temp.decide('open', now() - interval '80 days', is_open => true);
    perform pg_temp.decide('old', now() - interval '70 days');
    perform pg_temp.decide('same hour', now() - interval '70 days' + interval '1 millisecond');
    perform pg_temp.decide('just old', now() - interval '40 days 1 second');
    perform pg_temp.decide('just young', now() - interval '40 days' + interval '1 second');
    perform pg_temp.decide('wrong clock', now() - interval '1 day', id_moment => now() - interval '85 days');
    perform pg_temp.decide('young', now());
end
$$;
select is_empty('select clearfloor_tests.wrong_books()', 'before all of this the books are right');

set local role service_role;
select is(public.delete_old_decisions(100), 0, 'where nothing says how long decisions are kept, none is deleted');
select throws_ok(
    'select pg_temp.keep(40)', '42501', 'permission denied for table retention', 'the secret key cannot say how long'
);
select throws_ok(
    'delete from public.routing_outcomes', '42501', 'permission denied for table routing_outcomes',
    'nor can it delete a decision'
);
reset role;
select throws_ok(
    'select pg_temp.keep(34)', '23514', null, 'a time in which an Idempotency-Key may still be in force is refused'
);
select throws_ok(
    'insert into public.retention (id) values (false)', '23514', null, 'there is one row'
);
select throws_ok('insert into public.retention default values', '23505', null, 'and no other');
do $$ begin perform pg_temp.keep(40); end $$;

set local role service_role;
select is(public.delete_old_decisions(2), 2, 'a batch is as large as was asked');
select is(
    pg_temp.left_over(), array['open 1', 'same hour 1', 'just old 1', 'just young 1', 'wrong clock 1', 'young 1'],
    'it takes the oldest, with their attempts, but for what is open'
);
select is(pg_temp.deleted_until(), now() - interval '70 days', 'how far it went is known');
select is_empty('select clearfloor_tests.wrong_books()', 'the books are right, in the middle of an hour, too');
select is(public.delete_old_decisions(100), 2, 'the next one takes the rest');
select is(
    pg_temp.left_over(), array['open 1', 'just young 1', 'wrong clock 1', 'young 1'],
    'what was opened later stays, whatever its id says'
);
select is(public.delete_old_decisions(100), 0, 'and then there is nothing to do');
select is(pg_temp.deleted_until(), now() - interval '40 days 1 second', 'how far it went stays');
select is(
    (select sum(decisions) from public.usage_by('day', '2020-01-01') where agent_id = clearfloor_tests.id('acme agent')),
    7::numeric,
    'usage outlives the decisions'
);
select is(
    (select count(*) from public.ledger_entries where organization_id = clearfloor_tests.id('acme') and kind = 'settlement'),
    7::bigint,
    'and so does the ledger'
);
select is(
    public.refund_decision(
        clearfloor_tests.id('refund'), clearfloor_tests.id('acme'), pg_temp.id_at('old', now() - interval '70 days'), 16,
        'test', 'pgtap'
    ),
    10000 - 7 * 16 + 16::bigint, 'what a deleted decision was charged can be given back'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

-- That they are is looked at where it can be: for what was opened after the latest that was deleted.
reset role;
update public.usage_hours set decisions = decisions + 1 where organization_id = clearfloor_tests.id('acme');
select is(
    (
        select count(*) from public.gateway_invariants(of_organization => clearfloor_tests.id('acme'))
        where invariant = 'usage_is_counted'
    ),
    2::bigint, 'an hour of which something is deleted is not compared; later ones are'
);
select is(
    array(
        select proname::text from pg_proc
        where prosrc ~* 'delete\s+from\s+(only\s+)?(public\.)?(routing_outcomes|inferences)\M'
            and pronamespace in ('public'::regnamespace, 'private'::regnamespace)
    ),
    array['delete_old_decisions'], 'one function deletes decisions'
);
select is(
    array(
        select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r'
            and has_table_privilege('service_role', oid, 'truncate')
    ),
    '{}', 'and nobody but the owner can empty a table'
);

select * from finish();
rollback;
