-- What the platform gives a database, and every other file here builds on.
begin;
select plan(12);

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

select * from finish();
rollback;
