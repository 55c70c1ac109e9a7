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

-- A table or function of tomorrow is closed until its own migration opens it. Functions are made as clearfloor_writer
-- (`set role`), whose functions nobody may execute by default. EXECUTE of PUBLIC on what postgres makes cannot be revoked
-- for one schema, and for all it would close extensions too: supabase/tests/test_sweep.sql finds a function of postgres'.
--
-- Every function has `search_path = pg_catalog, pg_temp`, and names everything else in full. An empty path is not enough:
-- pg_temp is then searched first for types, and whoever may make temporary objects could slip a domain with a CHECK of
-- its own into a function that runs with its owner's rights: docs/decisions/0007.
alter default privileges for role clearfloor_writer revoke execute on functions from public;

alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;

alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;

alter default privileges in schema public revoke execute on functions from anon, authenticated, service_role;
