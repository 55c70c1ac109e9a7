-- Undoes supabase/adoption/migrations/20261124000050_hoist_policies.sql: the 16 policies and the grants as they were,
-- which means slow again, and open to anon as far as the policies let it: the grants are those that Supabase made by
-- default, so whoever had narrowed them does that again. Run it as one transaction, and then take the version out of the
-- history: docs/adoption.md.
--
-- Locks each of the nine tables for a moment (ACCESS EXCLUSIVE, no scan).
set lock_timeout = '4s';
set statement_timeout = '60s';

alter policy organizations_select on public.organizations to public
using (id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy organizations_update on public.organizations to public
using (
    id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid
    and auth.jwt() -> 'app_metadata' ->> 'role' = 'owner'
)
with check (id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy organization_members_select on public.organization_members to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy organization_members_insert on public.organization_members to public
with check (
    organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid
    and auth.jwt() -> 'app_metadata' ->> 'role' = 'owner'
);

alter policy organization_members_delete on public.organization_members to public
using (
    organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid
    and auth.jwt() -> 'app_metadata' ->> 'role' = 'owner'
);

alter policy agents_select on public.agents to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy agents_insert on public.agents to public
with check (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy agents_update on public.agents to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid)
with check (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy api_keys_select on public.api_keys to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy api_keys_insert on public.api_keys to public
with check (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy api_keys_update on public.api_keys to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid)
with check (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy wallets_select on public.wallets to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy spend_caps_select on public.spend_caps to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy ledger_entries_select on public.ledger_entries to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy routing_outcomes_select on public.routing_outcomes to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

alter policy inferences_select on public.inferences to public
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);

grant all on public.organizations, public.organization_members, public.agents, public.api_keys, public.wallets,
public.spend_caps, public.ledger_entries, public.routing_outcomes, public.inferences
to anon, authenticated, service_role;
