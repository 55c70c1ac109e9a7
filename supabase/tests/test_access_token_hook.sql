-- What Supabase Auth puts into a token, and how a user switches between its organizations.
begin;
select plan(32);
call clearfloor_tests.create_organizations();

create function pg_temp.sign_in(name text, organization text default '', is_anonymous boolean default false) returns void
language sql as $$
    select set_config(
        'request.jwt.claims',
        clearfloor_tests.claims(name, clearfloor_tests.speaks_for(organization, 'member'), is_anonymous)::text, true
    )
$$;

-- What the hook makes of a user's `app_metadata`.
create function pg_temp.metadata(name text, app_metadata jsonb default '{}', is_anonymous boolean default false)
returns jsonb language sql as $$
    select private.access_token_hook(jsonb_build_object('user_id', clearfloor_tests.id(name), 'claims', jsonb_build_object(
        'sub', clearfloor_tests.id(name), 'is_anonymous', is_anonymous, 'app_metadata', app_metadata,
        'user_metadata', jsonb_build_object('organization_id', clearfloor_tests.id('zenith'))
    ))) -> 'claims' -> 'app_metadata'
$$;

insert into auth.users (id, email) select clearfloor_tests.id(name), name || '@pgtap.example' from unnest(array['ann', 'bob', 'eve']) as name;
insert into public.organizations (id, name) values (clearfloor_tests.id('other'), 'other');
insert into public.organization_members (organization_id, user_id, role, created_at) values
(clearfloor_tests.id('zenith'), clearfloor_tests.id('ann'), 'member', '2026-02-02'),
(clearfloor_tests.id('acme'), clearfloor_tests.id('ann'), 'owner', '2026-01-01'),
(clearfloor_tests.id('zenith'), clearfloor_tests.id('bob'), 'admin', '2026-01-01');

-- Who may call it.
select is(
    array(
        select role from unnest(array['anon', 'authenticated', 'service_role', 'supabase_auth_admin']) as role
        where has_function_privilege(role, 'private.access_token_hook(jsonb)', 'execute')
    ),
    array['supabase_auth_admin'],
    'nobody but Supabase Auth may execute the hook'
);
select ok(has_schema_privilege('supabase_auth_admin', 'private', 'usage'), 'Supabase Auth reaches the hook');
select is_empty(
    $$
        select relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r'
            and has_table_privilege('supabase_auth_admin', oid, 'select')
    $$,
    'Supabase Auth may read none of the tables itself'
);

-- What it says.
select is(
    pg_temp.metadata('ann'), clearfloor_tests.speaks_for('acme', 'owner'),
    'of several memberships the oldest is active at first'
);
select is(pg_temp.metadata('bob'), clearfloor_tests.speaks_for('zenith', 'admin'), 'the role is that of the membership');
select is(pg_temp.metadata('eve'), '{}', 'a user without a membership speaks for nobody');
select is(
    pg_temp.metadata('eve', clearfloor_tests.speaks_for('acme', 'owner')), '{}',
    'an organization that stood in the metadata before opens nothing: a membership does'
);
select is(
    pg_temp.metadata('bob', '{"provider": "email"}'), clearfloor_tests.speaks_for('zenith', 'admin') || '{"provider": "email"}',
    'everything else in app_metadata stays'
);
select is(pg_temp.metadata('ann', '{}', true), '{}', 'an anonymous user speaks for nobody, even if it is a member');
select is(
    private.access_token_hook(jsonb_build_object('user_id', clearfloor_tests.id('bob'), 'claims', '{"aud": "authenticated"}'::jsonb))
    -> 'claims' ->> 'aud',
    'authenticated', 'the other claims stay'
);
select is(
    private.access_token_hook(jsonb_build_object('user_id', clearfloor_tests.id('bob'), 'claims', '{}'::jsonb))
    -> 'claims' -> 'app_metadata',
    clearfloor_tests.speaks_for('zenith', 'admin'), 'claims without app_metadata get it'
);

select is(
    private.access_token_hook(jsonb_build_object('user_id', clearfloor_tests.id('bob'), 'claims', jsonb_build_object('app_metadata', odd)))
    -> 'claims' -> 'app_metadata',
    clearfloor_tests.speaks_for('zenith', 'admin'), format('an app_metadata of %s keeps nobody from signing in', odd)
)
from unnest(array['null', '"text"', '[]', '7']::jsonb []) as odd;

-- A membership that another member gave, and that the user has not chosen.
insert into public.organization_members (organization_id, user_id, created_at, accepted_at)
values (clearfloor_tests.id('other'), clearfloor_tests.id('bob'), '2025-01-01', null), (clearfloor_tests.id('other'), clearfloor_tests.id('eve'), '2025-01-01', null);
select is(pg_temp.metadata('eve'), '{}', 'nobody''s token speaks for an organization that it has not chosen');
select is(
    pg_temp.metadata('bob'), clearfloor_tests.speaks_for('zenith', 'admin'),
    'nor does it stop speaking for the one that it has'
);
set local role authenticated;
do $$ begin perform pg_temp.sign_in('eve'); end $$;
select results_eq(
    'select name, is_accepted, is_active from public.my_organizations()', $$values ('other', false, false)$$,
    'a user sees that it was added'
);
do $$ begin perform public.switch_organization(clearfloor_tests.id('other')); end $$;
reset role;
select is(pg_temp.metadata('eve'), clearfloor_tests.speaks_for('other', 'member'), 'to choose it is to accept');
delete from public.organization_members where organization_id = clearfloor_tests.id('other');

-- What a user sees of its organizations, and how it switches.
set local role authenticated;
do $$ begin perform pg_temp.sign_in('ann', 'acme'); end $$;
select results_eq(
    'select organization_id, name, role, is_active from public.my_organizations() where is_accepted',
    $$values (clearfloor_tests.id('acme'), 'acme', 'owner', true), (clearfloor_tests.id('zenith'), 'zenith', 'member', false)$$,
    'a user lists its organizations, also those that its token does not speak for, and no others'
);
select lives_ok($$select public.switch_organization(clearfloor_tests.id('zenith'))$$, 'a user switches to another of its organizations');
reset role;
select is(pg_temp.metadata('ann'), clearfloor_tests.speaks_for('zenith', 'member'), 'the next token speaks for it');
select is(pg_temp.metadata('bob'), clearfloor_tests.speaks_for('zenith', 'admin'), 'other members'' tokens are as they were');
set local role authenticated;
select throws_ok(
    $$select public.switch_organization(clearfloor_tests.id('other'))$$, '42501', null,
    'a user cannot switch to an organization that it does not belong to'
);
select throws_ok(
    'select public.switch_organization(null)', '42501', null, 'a user cannot switch to no organization'
);
do $$ begin perform pg_temp.sign_in('ann', 'acme', is_anonymous => true); end $$;
select throws_ok(
    $$select public.switch_organization(clearfloor_tests.id('acme'))$$, '42501', null, 'an anonymous user switches nothing'
);
select is_empty('select * from public.my_organizations()', 'an anonymous user has no organizations');
do $$ begin perform set_config('request.jwt.claims', '', true); end $$;
select is_empty('select * from public.my_organizations()', 'nobody has no organizations');
reset role;
select is(pg_temp.metadata('ann'), clearfloor_tests.speaks_for('zenith', 'member'), 'what was refused has changed nothing');
select is_empty(
    $$
        select from public.audit_entries
        where organization_id = any(array[clearfloor_tests.id('zenith'), clearfloor_tests.id('other')]) and table_name = 'organization_members' and action = 'update'
    $$,
    'to look at another organization is no change of either'
);

-- An ended membership.
delete from public.organization_members where organization_id = clearfloor_tests.id('zenith') and user_id = clearfloor_tests.id('ann');
select is(
    pg_temp.metadata('ann'), clearfloor_tests.speaks_for('acme', 'owner'),
    'when the active membership ends, the next token speaks for what is left'
);
delete from public.organization_members where user_id = clearfloor_tests.id('ann');
select is(pg_temp.metadata('ann'), '{}', 'and when that ends, too, for nobody');

select * from finish();
rollback;
