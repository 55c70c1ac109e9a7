-- What the platform gives a database, and every other file here builds on; and what the owner of the writing functions is.
begin;
select plan(17);

select has_role(role::name, format('the role %s exists', role))
from unnest(array['anon', 'authenticated', 'service_role', 'authenticator', 'supabase_auth_admin']) as role;

select is(current_user::text, 'postgres', 'the files run as postgres');
select isnt_superuser('postgres', 'postgres is no superuser');
select is(
    (select rolbypassrls from pg_roles where rolname = 'service_role'), true, 'the service role is above row level security'
);
select is(
    (select rolbypassrls from pg_roles where rolname = 'authenticated'), false, 'a signed-in user is under row level security'
);
select ok(
    not ('auth' = any (current_schemas(false))),
    'auth is not on the search path, so that the catalogue prints auth.jwt() in full'
);

select is(auth.jwt(), null, 'without claims auth.jwt() is NULL, not an empty object');
set local request.jwt.claims = '{"sub": "019a0000-0000-7000-8000-00000000000a"}';
select is(auth.uid(), '019a0000-0000-7000-8000-00000000000a'::uuid, 'auth.uid() reads the claims');

select schema_privs_are('private', role, '{}'::name [], format('%s has no way into the schema private', role))
from unnest(array['anon', 'authenticated', 'service_role']) as role;
select results_eq(
    $$
        select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication
        from pg_roles where rolname = 'clearfloor_writer'
    $$,
    'values (false, false, false, false, false)',
    'the owner of the writing functions cannot log in, and is nothing beyond that'
);
select set_eq(
    $$
        select member.rolname::text from pg_auth_members
        inner join pg_roles as member on member.oid = pg_auth_members.member
        where roleid = 'clearfloor_writer'::regrole
    $$,
    $$values ('postgres')$$,
    'nobody but the owner of the schema may become the owner of the writing functions'
);

select * from finish();
rollback;
