-- Who may execute which function: grants first, then each one called by every actor. What is called is undone.
begin;
select plan(178);
call clearfloor_tests.create_world();

-- Each function of public, a call, the answer where that is not a result, and the roles that are granted it.
create temp table functions (
    signature text primary key, call text, answer text not null default 'executed',
    roles text [] not null default '{service_role}'
);
insert into functions (signature, call) values
('complete_decisions(jsonb)', 'complete_decisions(''[]'')'),
('find_caller_by_key(text)', 'find_caller_by_key('''')'),
('find_caller_by_user(uuid,uuid,text)', 'find_caller_by_user(null, null)'),
('gateway_invariants(timestamp with time zone,uuid)', 'gateway_invariants()'),
('insert_attempts(jsonb)', 'insert_attempts(''[]'')'),
('insert_decisions(jsonb)', 'insert_decisions(''[]'')'),
('read_catalogue(bigint,bigint)', 'read_catalogue()'),
('read_idempotency_key(uuid,text)', 'read_idempotency_key(null, null)'),
('recompute_costs(timestamp with time zone,uuid)', 'recompute_costs()'),
('renew_leases(uuid[],bigint)', 'renew_leases(''{}'', 0)'),
(
    'set_rate_limit(uuid,uuid,uuid,bigint,bigint,uuid)',
    'set_rate_limit(null, clearfloor_tests.id(''acme''), clearfloor_tests.id(''acme agent''), null, null)'
),
('set_spend_cap(uuid,uuid,uuid,text,bigint,uuid)', 'set_spend_cap(null, clearfloor_tests.id(''acme''), null, ''hour'', null)'),
('delete_old_decisions(integer)', 'delete_old_decisions(1)'),
('publish_rates(double precision)', 'publish_rates()'),
('quality_drift(double precision,bigint,timestamp with time zone)', 'quality_drift()'),
('change_organization(uuid,uuid,jsonb)', 'change_organization(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), ''{}'')'),
('create_agent(uuid,uuid,uuid,jsonb)', 'create_agent(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''new''), ''{"name": "new"}'')'),
('change_agent(uuid,uuid,uuid,jsonb)', 'change_agent(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''acme agent''), ''{}'')'),
(
    'create_api_key(uuid,uuid,uuid,uuid,text,text,text,timestamp with time zone)',
    'create_api_key(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''acme agent''), clearfloor_tests.id(''new''), ''new'', ''cf_'', repeat(''00'', 32), null)'
),
(
    'rotate_api_key(uuid,uuid,uuid,uuid,text,text,bigint)',
    'rotate_api_key(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''acme key''), clearfloor_tests.id(''new''), ''cf_'', repeat(''00'', 32), 0)'
),
('revoke_api_key(uuid,uuid,uuid)', 'revoke_api_key(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''acme key''))'),
(
    'add_member(uuid,uuid,uuid,text,uuid)',
    'add_member(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''user of no organization''), ''member'', null)'
),
('change_member(uuid,uuid,uuid,jsonb)', 'change_member(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''member of acme''), ''{}'')'),
('remove_member(uuid,uuid,uuid)', 'remove_member(clearfloor_tests.id(''owner of acme''), clearfloor_tests.id(''acme''), clearfloor_tests.id(''member of acme''))'),
('sweep_decisions(integer,bigint)', 'sweep_decisions(0)');
insert into functions (signature, call, answer)
select signature, call, 'The amount is 0 nano-USD; nothing was changed.' from (values
    ('correct_wallet(uuid,uuid,bigint,text,text)', 'correct_wallet(null, clearfloor_tests.id(''acme''), 0, null, null)'),
    ('refund_decision(uuid,uuid,uuid,bigint,text,text)', 'refund_decision(null, clearfloor_tests.id(''acme''), null, 0, null, null)'),
    ('top_up_wallet(uuid,uuid,bigint,text,text)', 'top_up_wallet(null, clearfloor_tests.id(''acme''), 0)')
) as money (signature, call);
insert into functions (signature, call, answer)
select
    'record_feedback(uuid,uuid,uuid,uuid,uuid,text,double precision)',
    format('record_feedback(%L, clearfloor_tests.id(''acme''), null, null, clearfloor_tests.id(''member of acme''), null, 1)', clearfloor_tests.id('acme decision')),
    format('The decision %s is still open; no feedback was kept.', clearfloor_tests.id('acme decision'));
insert into functions (signature, call, roles) values
('quality_by(timestamp with time zone,timestamp with time zone)', 'quality_by(now())', '{authenticated,service_role}'),
('quality_by_floor(timestamp with time zone,timestamp with time zone)', 'quality_by_floor(now())', '{authenticated,service_role}'),
('usage_by(text,timestamp with time zone,timestamp with time zone)', 'usage_by(''day'', now())', '{authenticated,service_role}'),
('my_organizations()', 'my_organizations()', '{authenticated}');
insert into functions (signature, call, answer, roles) values (
    'switch_organization(uuid)', 'switch_organization(clearfloor_tests.id(''zenith''))',
    format('You are not a member of the organization %s; nothing was changed.', clearfloor_tests.id('zenith')), '{authenticated}'
);

create function pg_temp.answer(actor text, call text) returns text language plpgsql as $$
begin
    call clearfloor_tests.authenticate_as(actor);
    execute 'select public.' || call;
    raise exception 'executed';
exception when others then
    return sqlerrm;
end
$$;

-- Grants, as the catalogue has them.
select set_eq(
    $$
        select format('%s(%s)', proname, replace(oidvectortypes(proargtypes), ', ', ',')) from pg_proc
        where pronamespace = 'public'::regnamespace
            and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
    $$,
    'select signature from functions',
    'this file knows every function of public'
);
select is(
    array(
        select role from unnest(array['anon', 'authenticated', 'service_role', 'supabase_auth_admin']) as role
        where has_function_privilege(role, 'public.' || signature, 'execute')
    ),
    roles,
    format('only %s is granted %s', array_to_string(roles, ' and '), signature)
)
from functions;
select set_eq(
    $$
        select proname::text, coalesce(role.rolname::text, 'everybody') from pg_proc
        cross join aclexplode(coalesce(proacl, acldefault('f', proowner))) as acl
        left join pg_roles as role on role.oid = acl.grantee
        where pronamespace = 'private'::regnamespace and acl.grantee <> proowner
    $$,
    $$values ('access_token_hook', 'supabase_auth_admin'), ('are_price_tiers', 'service_role')$$,
    'of private, others than its owners may execute what a CHECK calls, and Supabase Auth its hook'
);

-- Calls.
select is(
    pg_temp.answer(actor, call),
    case when role = any(roles) then answer else 'permission denied for function ' || split_part(signature, '(', 1) end,
    format('%s %s %s', actor, case when role = any(roles) then 'can execute' else 'is refused' end, signature)
)
from functions
cross join (values
    ('anon', 'anon'), ('member of acme', 'authenticated'), ('anonymous user of acme', 'authenticated'),
    ('service_role', 'service_role')
) as actors (actor, role);

-- What users may execute shows them no more than the tables do.
create function pg_temp.decisions_seen_by(actor text) returns integer language plpgsql as $$
declare
    seen integer;
begin
    call clearfloor_tests.authenticate_as(actor);
    seen := (
        select sum(decisions) from public.usage_by('day', now() - interval '1 day', now() + interval '1 day')
        where agent_id in (clearfloor_tests.id('acme agent'), clearfloor_tests.id('zenith agent'))
    );
    perform set_config('role', 'none', true);
    return coalesce(seen, 0);
end
$$;
select is(pg_temp.decisions_seen_by(actor), seen, format('usage_by sums %s of two decisions for %s', seen, actor))
from (values
    ('member of acme', 1), ('member of zenith', 1), ('user of no organization', 0), ('anonymous user', 0),
    ('anonymous user of acme', 0), ('service_role', 2)
) as expected (actor, seen);

select * from finish();
rollback;
