-- The tenants: organizations, their members, agents and API keys.
--
-- A member reads its active organization (the `app_metadata.organization_id` claim) and changes nothing here through
-- the Data API. Owners and admins do by the backend's routes, and so by functions that ask what their role is.
--
-- Locks nothing that exists, but for a moment auth.users (foreign key of organization_members).
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.organizations (
    id uuid primary key,
    name text not null constraint organizations_name_check check (length(name) between 1 and 200),
    stored_answer_hours bigint
    constraint organizations_stored_answer_hours_check check (stored_answer_hours between 1 and 720),
    created_at timestamptz not null default now()
);

comment on table public.organizations is 'The tenants. Everything recorded belongs to exactly one.';
comment on column public.organizations.stored_answer_hours is
'How long answers to requests with an Idempotency-Key are kept, encrypted, so that a repeat gets the same one. Null: none is.';

create table public.agents (
    id uuid primary key,
    organization_id uuid not null references public.organizations (id),
    name text not null constraint agents_name_check check (length(name) between 1 and 200),
    active boolean not null default true,
    default_floor double precision not null default 0.7
    constraint agents_default_floor_check check (default_floor between 0 and 1),
    default_max_output_tokens bigint not null default 1024
    constraint agents_default_max_output_tokens_check check (default_max_output_tokens > 0),
    baseline_model text,
    created_at timestamptz not null default now(),
    constraint agents_organization_id_id_key unique (organization_id, id),
    constraint agents_organization_id_name_key unique (organization_id, name)
);

comment on table public.agents is 'Workloads of an organization: what spends.';
comment on column public.agents.default_floor is 'Quality floor of a request that names none, 0 to 1.';
comment on column public.agents.default_max_output_tokens is
'Output limit of a request that names none. It is sent to the provider, so that the reservation is a bound.';
comment on column public.agents.baseline_model is
'The model that the agent would call without a gateway: each decision keeps what it would have cost there. One that is not '
'in the catalogue costs nobody knows what.';

create table public.organization_members (
    organization_id uuid not null references public.organizations (id),
    user_id uuid not null references auth.users (id) on delete cascade,
    role text not null default 'member'
    constraint organization_members_role_check check (role in ('owner', 'admin', 'member')),
    default_agent_id uuid,
    accepted_at timestamptz default now(),
    last_chosen_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (organization_id, user_id),
    constraint organization_members_default_agent_fkey
    foreign key (organization_id, default_agent_id) references public.agents (organization_id, id)
);

create index organization_members_user_id_idx on public.organization_members (user_id);
create index organization_members_default_agent_idx
on public.organization_members (organization_id, default_agent_id);

comment on table public.organization_members is 'Which Supabase Auth users speak for which organization.';
comment on column public.organization_members.default_agent_id is
'The agent that the member''s access token acts as when the request names none.';
comment on column public.organization_members.accepted_at is
'Since when the user counts as a member. Null: another member has added it, and it has not chosen the organization yet.';
comment on column public.organization_members.last_chosen_at is
'When the user last made this its active organization. Of all its memberships the one that was chosen last is active.';

create table public.api_keys (
    id uuid primary key,
    organization_id uuid not null,
    agent_id uuid not null,
    name text not null constraint api_keys_name_check check (length(name) between 1 and 200),
    display_prefix text not null constraint api_keys_display_prefix_check check (length(display_prefix) <= 12),
    key_hash bytea not null constraint api_keys_key_hash_check check (octet_length(key_hash) = 32),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    replaced_by uuid,
    constraint api_keys_key_hash_key unique (key_hash),
    constraint api_keys_agent_fkey
    foreign key (organization_id, agent_id) references public.agents (organization_id, id)
);

create index api_keys_agent_idx on public.api_keys (organization_id, agent_id);

comment on table public.api_keys is 'Keys of agents. Only the SHA-256 of a key is kept.';
comment on column public.api_keys.replaced_by is
'The key that was made in its place; it goes on beside that one for a while, and is not replaced again.';
comment on column public.api_keys.display_prefix is 'The first characters of the key, for people to tell keys apart.';

revoke all on public.organizations, public.agents, public.organization_members, public.api_keys
from anon, authenticated, service_role;

grant select on public.organizations, public.agents, public.organization_members to authenticated;
-- The hash stays out of the tenant's sight: it is of no use to it, and of some to a thief.
grant select (id, organization_id, agent_id, name, display_prefix, created_at, expires_at, revoked_at, replaced_by)
on public.api_keys to authenticated;
-- An organization is never deleted: its record and its ledger stay.
grant select, insert, update on public.organizations to service_role;
grant select, insert, update, delete on public.agents, public.organization_members, public.api_keys to service_role;
grant select, update on public.organizations to clearfloor_writer;
grant select, insert, update on public.agents, public.api_keys to clearfloor_writer;
grant select, insert, update, delete on public.organization_members to clearfloor_writer;

alter table public.organizations enable row level security;
alter table public.agents enable row level security;
alter table public.organization_members enable row level security;
alter table public.api_keys enable row level security;

create policy organizations_select_member on public.organizations for select to authenticated
using (id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy agents_select_member on public.agents for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy organization_members_select_member on public.organization_members for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy api_keys_select_member on public.api_keys for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));
