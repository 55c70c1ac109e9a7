-- Adoption of an earlier database: its repair table leaves the Data API. It stays, with all that it holds.
--
-- It keeps originals of rows of every tenant, and had neither row level security nor revoked grants: whoever held the
-- publishable key could read and delete them. Now service_role reads it, and nobody else.
--
-- Locks the repair table for a moment (ACCESS EXCLUSIVE, no scan).
set lock_timeout = '4s';
set statement_timeout = '60s';

revoke all on public._repair_20260528_save_error from anon, authenticated, service_role;
grant select on public._repair_20260528_save_error to service_role;

alter table public._repair_20260528_save_error enable row level security;

comment on table public._repair_20260528_save_error is
'Rows of routing_outcomes as they were before a repair changed them, with what was done. Backend only.';
