-- Adoption of an earlier database: an index under the policies of its small tables.
--
-- The other policy columns lead a primary key or an index already, but for the two large tables of the next two files.
--
-- Writes to agents and api_keys wait while the index is built (SHARE): milliseconds, since a tenant has few of either.
set lock_timeout = '4s';
set statement_timeout = '60s';

-- Not CONCURRENTLY: such an index cannot be built with anything else in one file, and these tables are small.
-- squawk-ignore require-concurrent-index-creation
create index agents_organization_id_idx on public.agents (organization_id);

-- squawk-ignore require-concurrent-index-creation
create index api_keys_organization_id_idx on public.api_keys (organization_id);
