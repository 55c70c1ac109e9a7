-- Who may do what, before anything exists that could be done.
--
-- private            everything the Data API must not expose: helpers, types, triggers.
-- clearfloor_writer  owns the functions that write the record and the money. Nobody can log in as it. It bypasses
--                    row level security (Postgres 16 or later lets `postgres` grant that) and holds only the table
--                    grants that each migration gives it, so that even a faulty function cannot edit the ledger.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create schema private;

comment on schema private is 'Helpers, types and triggers of Clearfloor. Not exposed by the Data API.';

revoke all on schema private from public;

-- squawk has no rule about roles. A second database of the same server finds the role there already.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'clearfloor_writer') then
        create role clearfloor_writer nologin bypassrls;
    end if;
end
$$;

grant clearfloor_writer to postgres;

grant usage on schema private, public to clearfloor_writer;

-- A table or function of tomorrow is closed until its own migration opens it. EXECUTE of PUBLIC cannot be revoked for one
-- schema beforehand, and for all it would close extensions too: each migration revokes it by name, and
-- supabase/tests/test_sweep.sql finds the one that forgot.
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;

alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;

alter default privileges in schema public revoke execute on functions from anon, authenticated, service_role;

alter default privileges in schema private revoke execute on functions from anon, authenticated, service_role;
