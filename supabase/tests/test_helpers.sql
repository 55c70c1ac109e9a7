-- The helpers themselves, on a table whose doors are opened one by one: what cannot see an open door proves nothing.
begin;
select plan(27);
call clearfloor_tests.create_world();

create table public.house (
    id uuid primary key, organization_id uuid not null, note text, length bigint generated always as (length(note)) stored
);
alter table public.house enable row level security;
insert into public.house select clearfloor_tests.id(name || ' house'), clearfloor_tests.id(name), name from unnest(array['acme', 'zenith']) as name;
create temp table before as select * from public.house;

-- What an actor comes to behind a policy, which is gone afterwards.
create function pg_temp.access_behind(policy text, actor text) returns text language plpgsql as $$
declare
    access text;
begin
    execute format('create policy door on public.house %s', replace(policy, 'acme', quote_literal(clearfloor_tests.id('acme'))));
    access := clearfloor_tests.access_of('house', actor);
    drop policy door on public.house;
    return access;
end
$$;

select is(
    pg_temp.access_behind(policy, actor),
    format('selects %s, inserts %s, updates %s, deletes %s', selects, inserts, updates, deletes),
    format('%s, behind a policy %s', actor, policy)
)
from (values
    --                                                                       selects    inserts    updates    deletes
    ('anon',           'for all using (true)',                               'all',     'all',     'all',     'all'),
    ('anon',           'for all to authenticated using (true)',              'none',    'none',    'none',    'none'),
    ('member of acme', 'for all using (false)',                              'none',    'none',    'none',    'none'),
    ('member of acme', 'for select using (true)',                            'all',     'none',    'none',    'none'),
    ('member of acme', 'for select using (organization_id = acme)',          'acme',    'none',    'none',    'none'),
    ('member of acme', 'for select using (organization_id <> acme)',         'zenith',  'none',    'none',    'none'),
    ('member of acme', 'for insert with check (true)',                       'none',    'all',     'none',    'none'),
    ('member of acme', 'for insert with check (organization_id = acme)',     'none',    'acme',    'none',    'none'),
    ('member of acme', 'for update using (true)',                            'none',    'none',    'all',     'none'),
    ('member of acme', 'for update using (organization_id = acme)',          'none',    'none',    'acme',    'none'),
    ('member of acme', 'for delete using (true)',                            'none',    'none',    'none',    'all'),
    ('member of acme', 'for delete using (organization_id <> acme)',         'none',    'none',    'none',    'zenith'),
    ('service_role',   'for all using (true)',                               'refused', 'refused', 'refused', 'refused')
) as tried (actor, policy, selects, inserts, updates, deletes);
alter table public.house disable row level security;
select is(
    clearfloor_tests.access_of('house', 'anon'), 'selects all, inserts all, updates all, deletes all',
    'a table without row level security is open to everybody'
);
alter table public.house enable row level security;
select throws_ok(
    'select clearfloor_tests.reached(''house'', ''nobody we know'', ''select'')', '22023', 'role "nobody we know" does not exist',
    'an actor that is misspelt is no actor'
);
select set_eq('select * from public.house', 'select * from before', 'what was tried is undone');
select is(clearfloor_tests.granted('house', 'authenticated'), 'nothing', 'what was granted for that is, too');
select is(current_user::text, 'postgres', 'the actors have gone');
insert into public.house values (clearfloor_tests.id('third'), clearfloor_tests.id('third'));
select is(
    pg_temp.access_behind(format('for select using (organization_id <> %L)', clearfloor_tests.id('zenith')), 'member of acme'),
    'selects others, inserts none, updates none, deletes none', 'a row of a third organization is seen beside its own'
);
delete from public.house where organization_id <> clearfloor_tests.id('acme');
select throws_ok(
    'select clearfloor_tests.access_of(''house'', ''anon'')', 'P0001', 'There is nothing in house to be kept from others.',
    'a denial is no proof where there is no row of both'
);

-- Grants.
grant select (note, id), insert, update (note) on public.house to anon;
grant truncate on public.house to public;
select is(
    clearfloor_tests.granted('house', 'anon'), 'select (id, note), insert, update (note), truncate',
    'grants are seen: of columns, and of everybody'
);
select is(clearfloor_tests.permitted('house', 'anon'), 'select, insert, update, truncate', 'and so are commands that get past them');
select is(clearfloor_tests.granted('house', 'service_role'), 'truncate', 'a role has what everybody has');
select is(clearfloor_tests.permitted('house', 'service_role'), 'truncate', 'and can use it');

-- Actors.
call clearfloor_tests.authenticate_as('anonymous user of acme');
select is(current_user::text, 'authenticated', 'a user that has signed in anonymously has the role of users');
select is(
    auth.jwt(),
    jsonb_build_object(
        'sub', clearfloor_tests.id('anonymous user of acme'), 'role', 'authenticated', 'aud', 'authenticated', 'is_anonymous', true,
        'app_metadata', jsonb_build_object('organization_id', clearfloor_tests.id('acme'), 'role', 'owner'), 'user_metadata', '{}'::jsonb
    ),
    'its token has all the claims that Supabase Auth writes'
);
reset role;
call clearfloor_tests.authenticate_as('anon');
select is(current_user || ' ' || auth.jwt()::text, 'anon {"role": "anon"}', 'a role that is no user has no claims but its own');
reset role;

select * from finish();
rollback;
