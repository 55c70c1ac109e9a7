-- Finding out who calls: by a key, by a member, and as which agent.
begin;
select plan(13);
call clearfloor_tests.create_organizations();

insert into public.agents (id, organization_id, name, default_floor, default_max_output_tokens) values
(clearfloor_tests.id('main'), clearfloor_tests.id('acme'), 'main', 0.6, 300),
-- An agent can be called as another one's id is written.
(clearfloor_tests.id('impostor'), clearfloor_tests.id('acme'), clearfloor_tests.id('main')::text, 0.1, 100),
(clearfloor_tests.id('strange'), clearfloor_tests.id('zenith'), 'strange', 0.9, 900);
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash, expires_at, revoked_at)
select
    clearfloor_tests.id(name), clearfloor_tests.id('acme'), clearfloor_tests.id('main'), name, 'cf_', sha256(name::bytea),
    expires, revoked
from (values
    ('live', null::timestamptz, null::timestamptz), ('lasting', now() + interval '1 hour', null),
    ('expired', now(), null), ('revoked', null, now())
) as key (name, expires, revoked);
update public.organization_members set default_agent_id = clearfloor_tests.id('main')
where user_id = clearfloor_tests.id('member of acme');
update public.organization_members set default_agent_id = clearfloor_tests.id('strange')
where user_id = clearfloor_tests.id('member of zenith');

-- The agent that a key or a member speaks for, by name; null is nobody.
create function pg_temp.by_key(name text) returns uuid language sql as $$
    select agent_id from public.find_caller_by_key(encode(sha256(name::bytea), 'hex'))
$$;
create function pg_temp.by_user(name text, agent text default null, organization text default 'acme')
returns uuid language sql as $$
    select agent_id from public.find_caller_by_user(clearfloor_tests.id(name), clearfloor_tests.id(organization), agent)
$$;

set local role service_role;

select results_eq(
    $$
        select organization_id, agent_id, api_key_id, user_id, default_floor, default_max_output_tokens
        from public.find_caller_by_key(encode(sha256('live'), 'hex'))
    $$,
    $$
        values (
            clearfloor_tests.id('acme'), clearfloor_tests.id('main'), clearfloor_tests.id('live'), null::uuid,
            0.6::double precision, 300::bigint
        )
    $$,
    'a key speaks for its agent, and brings the agent''s defaults'
);
select is(pg_temp.by_key('lasting'), clearfloor_tests.id('main'), 'a key works until it expires');
select is(pg_temp.by_key('expired'), null, 'an expired key is as good as unknown');
select is(pg_temp.by_key('revoked'), null, 'a revoked key is as good as unknown');
select is(pg_temp.by_key('unknown'), null, 'an unknown key speaks for nobody');

select results_eq(
    $$
        select organization_id, agent_id, api_key_id, user_id
        from public.find_caller_by_user(clearfloor_tests.id('member of acme'), clearfloor_tests.id('acme'))
    $$,
    $$values (clearfloor_tests.id('acme'), clearfloor_tests.id('main'), null::uuid, clearfloor_tests.id('member of acme'))$$,
    'a member acts as its default agent'
);
select is(pg_temp.by_user('owner of acme'), null, 'a member without a default agent acts as none');
select is(
    pg_temp.by_user('owner of acme', 'main'), clearfloor_tests.id('main'),
    'a member may name one of its organization''s agents'
);
select is(
    pg_temp.by_user('member of acme', clearfloor_tests.id('impostor')::text), clearfloor_tests.id('impostor'),
    'by its id, too'
);
select results_eq(
    $$
        select agent_id from public.find_caller_by_user(
            clearfloor_tests.id('member of acme'), clearfloor_tests.id('acme'), clearfloor_tests.id('main')::text
        )
    $$,
    $$values (clearfloor_tests.id('main'))$$,
    'where one agent is called as another one''s id is written, the id counts'
);
select is(pg_temp.by_user('member of acme', 'strange'), null, 'an agent of another organization is none of a member''s');
select is(pg_temp.by_user('member of zenith', 'main'), null, 'who is a member elsewhere is none here');
select is(pg_temp.by_user('member of acme', null, 'zenith'), null, 'a member speaks for no organization but its own');

select * from finish();
rollback;
