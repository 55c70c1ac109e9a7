-- Finding out who calls: by a key, by a member, and as which agent.
begin;
select plan(13);

-- Ids are hashes of names: the same in every run, and nobody else's.
create function pg_temp.id(name text) returns uuid language sql immutable return md5('clearfloor pgtap ' || name)::uuid;

insert into public.organizations (id, name) select pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.agents (id, organization_id, name, default_floor, default_max_output_tokens) values
(pg_temp.id('main'), pg_temp.id('acme'), 'main', 0.6, 300),
-- An agent can be called as another one's id is written.
(pg_temp.id('impostor'), pg_temp.id('acme'), pg_temp.id('main')::text, 0.1, 100),
(pg_temp.id('strange'), pg_temp.id('zenith'), 'strange', 0.9, 900);
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash, expires_at, revoked_at)
select pg_temp.id(name), pg_temp.id('acme'), pg_temp.id('main'), name, 'cf_', sha256(name::bytea), expires, revoked
from (values
    ('live', null::timestamptz, null::timestamptz), ('lasting', now() + interval '1 hour', null),
    ('expired', now(), null), ('revoked', null, now())
) as key (name, expires, revoked);
insert into auth.users (id, email)
select pg_temp.id(name), name || '@pgtap.example' from unnest(array['ada', 'bob', 'eve']) as name;
insert into public.organization_members (organization_id, user_id, default_agent_id) values
(pg_temp.id('acme'), pg_temp.id('ada'), pg_temp.id('main')),
(pg_temp.id('acme'), pg_temp.id('bob'), null),
(pg_temp.id('zenith'), pg_temp.id('eve'), pg_temp.id('strange'));

-- The agent that a key or a member speaks for, by name; null is nobody.
create function pg_temp.by_key(name text) returns uuid language sql as $$
    select agent_id from public.find_caller_by_key(encode(sha256(name::bytea), 'hex'))
$$;
create function pg_temp.by_user(name text, agent text default null, organization text default 'acme')
returns uuid language sql as $$
    select agent_id from public.find_caller_by_user(pg_temp.id(name), pg_temp.id(organization), agent)
$$;

set local role service_role;

select results_eq(
    $$
        select organization_id, agent_id, api_key_id, user_id, default_floor, default_max_output_tokens
        from public.find_caller_by_key(encode(sha256('live'), 'hex'))
    $$,
    $$
        values (
            pg_temp.id('acme'), pg_temp.id('main'), pg_temp.id('live'), null::uuid, 0.6::double precision, 300::bigint
        )
    $$,
    'a key speaks for its agent, and brings the agent''s defaults'
);
select is(pg_temp.by_key('lasting'), pg_temp.id('main'), 'a key works until it expires');
select is(pg_temp.by_key('expired'), null, 'an expired key is as good as unknown');
select is(pg_temp.by_key('revoked'), null, 'a revoked key is as good as unknown');
select is(pg_temp.by_key('unknown'), null, 'an unknown key speaks for nobody');

select results_eq(
    $$
        select organization_id, agent_id, api_key_id, user_id
        from public.find_caller_by_user(pg_temp.id('ada'), pg_temp.id('acme'))
    $$,
    $$values (pg_temp.id('acme'), pg_temp.id('main'), null::uuid, pg_temp.id('ada'))$$,
    'a member acts as its default agent'
);
select is(pg_temp.by_user('bob'), null, 'a member without a default agent acts as none');
select is(pg_temp.by_user('bob', 'main'), pg_temp.id('main'), 'a member may name one of its organization''s agents');
select is(pg_temp.by_user('ada', pg_temp.id('impostor')::text), pg_temp.id('impostor'), 'by its id, too');
select results_eq(
    $$select agent_id from public.find_caller_by_user(pg_temp.id('ada'), pg_temp.id('acme'), pg_temp.id('main')::text)$$,
    $$values (pg_temp.id('main'))$$,
    'where one agent is called as another one''s id is written, the id counts'
);
select is(pg_temp.by_user('ada', 'strange'), null, 'an agent of another organization is none of a member''s');
select is(pg_temp.by_user('eve', 'main'), null, 'who is a member elsewhere is none here');
select is(pg_temp.by_user('ada', null, 'zenith'), null, 'a member speaks for no organization but its own');

select * from finish();
rollback;
