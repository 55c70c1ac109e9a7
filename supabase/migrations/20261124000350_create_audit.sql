-- The audit: who changed what of an organization's own affairs, and when.
--
-- Written by triggers, so that no way of changing a row goes around it: neither the backend's routes, nor the operator's
-- SQL. Members read their organization's; nobody edits it, not even the owner of the table.
--
-- Locks the tables of the organizations for a moment (triggers), while nobody uses them.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.audit_entries (
    id uuid primary key,
    organization_id uuid not null references public.organizations (id),
    created_at timestamptz not null,
    user_id uuid,
    database_role text not null,
    table_name text not null,
    row_id uuid not null,
    action text not null constraint audit_entries_action_check check (action in ('insert', 'update', 'delete')),
    before jsonb,
    after jsonb
);

create index audit_entries_organization_id_id_idx on public.audit_entries (organization_id, id);

comment on table public.audit_entries is
'Every change of an organization, its members, agents, keys, caps and rate limits. Append-only.';
comment on column public.audit_entries.user_id is
'The member that asked the backend for it; null: it was done with the database itself. No foreign key: it outlives the user.';
comment on column public.audit_entries.database_role is 'As whom it was written: service_role for the backend, else who was at work.';
comment on column public.audit_entries.row_id is 'The row''s id; of organization_members the user''s.';
comment on column public.audit_entries.before is
'Of an update the columns that changed, as they were; of a delete the row. Null for an insert. Likewise after.';

revoke all on public.audit_entries from anon, authenticated, service_role;
grant select on public.audit_entries to authenticated, service_role;
grant select, insert on public.audit_entries to clearfloor_writer;

alter table public.audit_entries enable row level security;

create policy audit_entries_select_member on public.audit_entries for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

grant create on schema private to clearfloor_writer;
set role clearfloor_writer;

-- A UUIDv7 of this moment: ordering by it is ordering by time, to a quarter of a microsecond.
-- https://www.rfc-editor.org/rfc/rfc9562#section-6.2, method 3
create function private.uuid7() returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    microseconds constant bigint := extract(epoch from clock_timestamp()) * 1000000;
    milliseconds constant bigint := microseconds / 1000;
    fraction constant integer := microseconds % 1000 * 4096 / 1000;
    -- The variant is in the random UUID already.
    bytes constant bytea := overlay(uuid_send(gen_random_uuid()) placing substring(int8send(milliseconds) from 3) from 1 for 6);
begin
    return encode(set_byte(set_byte(bytes, 6, 112 + fraction / 256), 7, fraction % 256), 'hex')::uuid;
end
$$;

-- What members are refused has the SQLSTATE of an HTTP status: PT403, PT404, PT409.
-- https://docs.postgrest.org/en/v12/references/errors.html#raise-errors-with-http-status-codes

-- Says for the rest of the transaction that a member acts, and that its role allows it. Null: nobody but the database's
-- own roles acts. The membership stays as it is until the transaction ends.
create function private.act_as(acting_user_id uuid, organization_id uuid, allowed_roles text []) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    acting_role text;
begin
    perform set_config('clearfloor.acting_user_id', coalesce(acting_user_id::text, ''), true);
    if acting_user_id is null then
        return;
    end if;
    select member.role into acting_role from public.organization_members as member
    where member.organization_id = act_as.organization_id and member.user_id = acting_user_id
    for share;
    if acting_role is null then
        raise exception 'The user is not a member of the active organization; nothing was changed.'
        using errcode = 'PT403', hint = 'Choose another organization and refresh the token.';
    elsif acting_role <> all(allowed_roles) then
        raise exception 'A member with the role `%` may not do this; nothing was changed.', acting_role
        using errcode = 'PT403', hint = format('Ask one with the role %s.', array_to_string(allowed_roles, ' or '));
    end if;
end
$$;

-- Says so if the organization has no such agent. Null is none that could be missing.
create function private.require_agent(organization_id uuid, agent_id uuid) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if agent_id is not null and not exists (
        select from public.agents as agent
        where agent.organization_id = require_agent.organization_id and agent.id = require_agent.agent_id
    ) then
        raise exception 'The organization has no agent %; nothing was changed.', agent_id
        using errcode = 'PT404', hint = 'Look its id up in `agents`.';
    end if;
end
$$;

create function private.without_hash(changed jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return case when changed ? 'key_hash' then changed || '{"key_hash": "not shown"}' else changed end;
end
$$;

-- Writes the entry of a changed row. Its first argument names the column that identifies the row within its organization;
-- the others name columns that are the database's own business. That a key's hash has changed is told, but not to what.
create function private.audit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    was jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) - coalesce(tg_argv[1:], '{}') end;
    is_now jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) - coalesce(tg_argv[1:], '{}') end;
    kept constant jsonb := coalesce(is_now, was);
begin
    if tg_op = 'UPDATE' then
        select jsonb_object_agg(key, was -> key), jsonb_object_agg(key, value) into was, is_now
        from jsonb_each(is_now) where value is distinct from was -> key;
        if is_now is null then
            return null;
        end if;
    end if;
    insert into public.audit_entries (
        id, organization_id, created_at, user_id, database_role, table_name, row_id, action, before, after
    )
    values (
        private.uuid7(), (kept ->> case tg_table_name when 'organizations' then 'id' else 'organization_id' end)::uuid,
        clock_timestamp(), nullif(current_setting('clearfloor.acting_user_id', true), '')::uuid,
        -- PostgREST sets the role; a function with its owner's rights leaves it as it was.
        coalesce(nullif(current_setting('role'), 'none'), session_user), tg_table_name, (kept ->> tg_argv[0])::uuid,
        lower(tg_op), private.without_hash(was), private.without_hash(is_now)
    );
    return null;
end
$$;

reset role;
revoke create on schema private from clearfloor_writer;

create trigger organizations_audit after insert or update on public.organizations
for each row execute function private.audit('id');
create trigger agents_audit after insert or update or delete on public.agents
for each row execute function private.audit('id');
create trigger api_keys_audit after insert or update or delete on public.api_keys
for each row execute function private.audit('id');
create trigger organization_members_audit after insert or update or delete on public.organization_members
for each row execute function private.audit('user_id', 'last_chosen_at', 'accepted_at');

create trigger audit_entries_refuse_change before update or delete on public.audit_entries
for each row execute function private.refuse_change('A mistake is mended by another change, which has its own entry.');
create trigger audit_entries_refuse_truncate before truncate on public.audit_entries
for each statement execute function private.refuse_change('What was done stays told.');
