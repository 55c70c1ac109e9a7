-- How an organization's owners and admins manage it: itself, its agents, their keys, its members. (Caps and rate limits: the
-- functions of the money.)
--
-- Each takes the member that acts, asks for its role under a lock, and does it in the same transaction: a membership that has
-- ended, or a role that was taken away, ends here at once, whatever a token says. Null acts for the operator. Each returns
-- the row as it then is; what changed is in audit_entries, by triggers. A call whose answer was lost may be sent again: new
-- rows have ids that the caller made beforehand.
--
--     owner            everything
--     owner, admin     agents, keys, caps, rate limits; members with the role `member`
--     member           leaves
--
-- Only service_role may execute them.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- A key as it may be shown.
create function private.shown(key public.api_keys) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return to_jsonb(key) - 'key_hash';
end
$$;

create function private.raise_taken(what text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    raise exception '%; nothing was changed.', what using errcode = 'PT409', hint = 'Take another one.';
end
$$;

create function private.raise_missing(what text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'The organization has no %; nothing was changed.', what using errcode = 'PT404';
end
$$;

-- Changes what `changes` names: name, stored_answer_hours.
create function public.change_organization(acting_user_id uuid, organization_id uuid, changes jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    organization public.organizations;
begin
    -- In this order, as where members are changed: else the two wait for each other.
    perform from public.organizations as kept
    where kept.id = change_organization.organization_id
    for no key update;
    perform private.act_as(acting_user_id, organization_id, '{owner}');
    update public.organizations as kept
    set
        name = case when changes ? 'name' then changes ->> 'name' else kept.name end,
        stored_answer_hours = case
            when changes ? 'stored_answer_hours' then (changes ->> 'stored_answer_hours')::bigint
            else kept.stored_answer_hours
        end
    where kept.id = change_organization.organization_id
    returning * into organization;
    return to_jsonb(organization);
end
$$;

comment on function public.change_organization is
'Changes an organization: name, stored_answer_hours. What `changes` does not name stays. For owners.';

create function public.create_agent(acting_user_id uuid, organization_id uuid, agent_id uuid, settings jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
    perform private.act_as(acting_user_id, organization_id, '{owner,admin}');
    -- What is not named has the table's default.
    insert into public.agents as kept (id, organization_id, name)
    values (create_agent.agent_id, create_agent.organization_id, settings ->> 'name')
    on conflict do nothing;
    if not found and not exists (
        select from public.agents as kept
        where kept.id = create_agent.agent_id and kept.organization_id = create_agent.organization_id
            and kept.name = settings ->> 'name'
    ) then
        perform private.raise_taken(format('The agent''s name `%s`, or its id, is taken', settings ->> 'name'));
    end if;
    return private.set_agent(create_agent.organization_id, create_agent.agent_id, settings);
end
$$;

create function private.set_agent(organization_id uuid, agent_id uuid, changes jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    agent public.agents;
begin
    update public.agents as kept
    set
        name = coalesce(changes ->> 'name', kept.name),
        active = coalesce((changes ->> 'active')::boolean, kept.active),
        default_floor = coalesce((changes ->> 'default_floor')::double precision, kept.default_floor),
        default_max_output_tokens = coalesce(
            (changes ->> 'default_max_output_tokens')::bigint, kept.default_max_output_tokens
        ),
        baseline_model = case when changes ? 'baseline_model' then changes ->> 'baseline_model' else kept.baseline_model end
    where kept.organization_id = set_agent.organization_id and kept.id = set_agent.agent_id
    returning * into agent;
    if agent.id is null then
        perform private.raise_missing(format('agent %s', agent_id));
    end if;
    return to_jsonb(agent);
exception
    when unique_violation then
        perform private.raise_taken(format('The agent''s name `%s` is taken', changes ->> 'name'));
end
$$;

create function public.change_agent(acting_user_id uuid, organization_id uuid, agent_id uuid, changes jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
    perform private.act_as(acting_user_id, organization_id, '{owner,admin}');
    return private.set_agent(organization_id, agent_id, changes);
end
$$;

comment on function public.create_agent is
'Makes an agent: name, and perhaps active, default_floor, default_max_output_tokens, baseline_model. For owners and admins.';
comment on function public.change_agent is
'Changes an agent, by the fields of create_agent. What `changes` does not name stays. For owners and admins.';

-- The key with this id as it may be shown, if it is there already: the same call was made before. Null: it is not.
create function private.known_key(key_id uuid, agent_id uuid, key_hash text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    known public.api_keys;
begin
    select * into known from public.api_keys as key where key.id = key_id;
    if (known.agent_id, encode(known.key_hash, 'hex')) is distinct from (known_key.agent_id, known_key.key_hash) then
        perform private.raise_taken('The key''s id is taken') where known.id is not null;
        return null;
    end if;
    return private.shown(known);
end
$$;

create function private.insert_key(key public.api_keys) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    insert into public.api_keys select key.*;
    return private.shown(key);
end
$$;

create function public.create_api_key(
    acting_user_id uuid, organization_id uuid, agent_id uuid, key_id uuid, name text, display_prefix text, key_hash text,
    expires_at timestamptz
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
    perform private.act_as(acting_user_id, organization_id, '{owner,admin}');
    perform private.require_agent(organization_id, agent_id);
    return coalesce(private.known_key(key_id, agent_id, key_hash), private.insert_key((
        key_id, organization_id, agent_id, name, display_prefix, decode(key_hash, 'hex'), clock_timestamp(), expires_at, null,
        null
    )::public.api_keys));
end
$$;

comment on function public.create_api_key is
'Keeps a new key of an agent by its SHA-256 (hex). expires_at null: never. For owners and admins.';

create function public.rotate_api_key(
    acting_user_id uuid, organization_id uuid, key_id uuid, new_key_id uuid, display_prefix text, key_hash text,
    grace_seconds bigint
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    moment timestamptz;
    old_key public.api_keys;
    new_key jsonb;
begin
    perform private.act_as(acting_user_id, organization_id, '{owner,admin}');
    select * into old_key from public.api_keys as key
    where key.organization_id = rotate_api_key.organization_id and key.id = key_id
    for no key update;
    moment := clock_timestamp();
    if old_key.id is null then
        perform private.raise_missing(format('key %s', key_id));
    end if;
    new_key := private.known_key(new_key_id, old_key.agent_id, key_hash);
    if new_key is not null then
        return new_key;
    elsif old_key.replaced_by is not null then
        raise exception 'The key % has been replaced by %; nothing was changed.', key_id, old_key.replaced_by
        using errcode = 'PT409', hint = 'Rotate that one.';
    elsif old_key.revoked_at is not null or old_key.expires_at <= moment then
        raise exception 'The key % has ended; nothing was changed.', key_id
        using errcode = 'PT409', hint = 'Create a new one.';
    end if;
    new_key := private.insert_key((
        new_key_id, organization_id, old_key.agent_id, old_key.name, display_prefix, decode(key_hash, 'hex'), moment,
        old_key.expires_at, null, null
    )::public.api_keys);
    update public.api_keys as key
    set
        expires_at = least(key.expires_at, moment + make_interval(secs => grace_seconds)),
        replaced_by = new_key_id
    where key.id = old_key.id;
    return new_key;
end
$$;

comment on function public.rotate_api_key is
'Puts a new key in the place of one: the same agent, name and expiry. The old one ends after the grace period, or when it '
'would have ended anyway. For owners and admins.';

create function public.revoke_api_key(acting_user_id uuid, organization_id uuid, key_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    revoked public.api_keys;
begin
    perform private.act_as(acting_user_id, organization_id, '{owner,admin}');
    update public.api_keys as key
    set revoked_at = coalesce(key.revoked_at, clock_timestamp())
    where key.organization_id = revoke_api_key.organization_id and key.id = key_id
    returning * into revoked;
    if revoked.id is null then
        perform private.raise_missing(format('key %s', key_id));
    end if;
    return private.shown(revoked);
end
$$;

comment on function public.revoke_api_key is 'Ends a key now and for ever. For owners and admins.';

-- The members that a role may decide about: an admin about mere members, an owner about all.
create function private.act_on_member(
    acting_user_id uuid, organization_id uuid, user_id uuid, roles text []
) returns public.organization_members
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    known public.organization_members;
begin
    -- One change of the members at a time: two owners cannot take each other's role away.
    perform from public.organizations as organization
    where organization.id = act_on_member.organization_id
    for no key update;
    select * into known from public.organization_members as member
    where member.organization_id = act_on_member.organization_id and member.user_id = act_on_member.user_id;
    perform private.act_as(
        acting_user_id, organization_id,
        case
            when array_remove(roles || known.role, null) <@ '{member}' then '{owner,admin}'
            else '{owner}'
        end::text []
    );
    return known;
end
$$;

-- Says so if the last owner is gone.
create function private.require_owner(organization_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select from public.organization_members as member
        where member.organization_id = require_owner.organization_id and member.role = 'owner'
    ) then
        raise exception 'The organization would have no owner left; nothing was changed.'
        using errcode = 'PT409', hint = 'Make somebody else an owner first.';
    end if;
end
$$;

create function public.add_member(
    acting_user_id uuid, organization_id uuid, user_id uuid, role text, default_agent_id uuid
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    known public.organization_members :=
        private.act_on_member(acting_user_id, organization_id, user_id, array[role]);
begin
    perform private.require_agent(organization_id, default_agent_id);
    if known.user_id is not null
        and (known.role, known.default_agent_id) is distinct from (add_member.role, add_member.default_agent_id) then
        raise exception 'The user % is a member already, with the role `%`; nothing was changed.', user_id, known.role
        using errcode = 'PT409', hint = 'Change the member instead.';
    elsif known.user_id is null then
        insert into public.organization_members (organization_id, user_id, role, default_agent_id, accepted_at)
        values (
            add_member.organization_id, add_member.user_id, add_member.role, add_member.default_agent_id,
            -- The operator knows whom it adds; a member may not know whom.
            case when acting_user_id is null then clock_timestamp() end
        )
        returning * into known;
    end if;
    return to_jsonb(known);
exception
    when foreign_key_violation then
        raise exception 'There is no user %; nothing was changed.', user_id
        using errcode = 'PT404', hint = 'Whoever is added has signed up before.';
end
$$;

comment on function public.add_member is
'Makes a Supabase user a member, which counts once it has chosen the organization. For owners; with the role `member` for admins, too.';

create function public.change_member(acting_user_id uuid, organization_id uuid, user_id uuid, changes jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    known constant public.organization_members :=
        private.act_on_member(acting_user_id, organization_id, user_id, array[changes ->> 'role']);
    changed public.organization_members;
begin
    perform private.require_agent(organization_id, (changes ->> 'default_agent_id')::uuid);
    update public.organization_members as member
    set
        role = coalesce(changes ->> 'role', member.role),
        default_agent_id = case
            when changes ? 'default_agent_id' then (changes ->> 'default_agent_id')::uuid
            else member.default_agent_id
        end
    where member.organization_id = change_member.organization_id and member.user_id = change_member.user_id
    returning * into changed;
    if changed.user_id is null then
        perform private.raise_missing(format('member %s', user_id));
    end if;
    perform private.require_owner(organization_id) where known.role = 'owner';
    return to_jsonb(changed);
end
$$;

comment on function public.change_member is
'Changes a member: role, default_agent_id. What `changes` does not name stays. For owners; for admins among mere members.';

create function public.remove_member(acting_user_id uuid, organization_id uuid, user_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    is_own constant boolean := acting_user_id is not distinct from user_id;
    known constant public.organization_members := private.act_on_member(
        case when not is_own then acting_user_id end, organization_id, user_id, '{}'
    );
begin
    if is_own then
        perform private.act_as(acting_user_id, organization_id, '{owner,admin,member}');
    end if;
    delete from public.organization_members as member
    where member.organization_id = remove_member.organization_id and member.user_id = remove_member.user_id;
    if not found then
        perform private.raise_missing(format('member %s', user_id));
    end if;
    perform private.require_owner(organization_id) where known.role = 'owner';
    return to_jsonb(known);
end
$$;

comment on function public.remove_member is
'Ends a membership, and returns it. For owners; for admins of mere members; for everybody of their own. One owner stays.';

grant execute on function public.change_organization(uuid, uuid, jsonb) to service_role;
grant execute on function public.create_agent(uuid, uuid, uuid, jsonb) to service_role;
grant execute on function public.change_agent(uuid, uuid, uuid, jsonb) to service_role;
grant execute on function public.create_api_key(uuid, uuid, uuid, uuid, text, text, text, timestamptz) to service_role;
grant execute on function public.rotate_api_key(uuid, uuid, uuid, uuid, text, text, bigint) to service_role;
grant execute on function public.revoke_api_key(uuid, uuid, uuid) to service_role;
grant execute on function public.add_member(uuid, uuid, uuid, text, uuid) to service_role;
grant execute on function public.change_member(uuid, uuid, uuid, jsonb) to service_role;
grant execute on function public.remove_member(uuid, uuid, uuid) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
