-- For which organization a user speaks: what Supabase Auth puts into its tokens, and how the user changes that.
--
-- Of a user's memberships one is active: the one that it chose last, else the oldest. One that another member gave it counts
-- only once it has chosen it: nobody's token is made to speak for an organization that it does not know. Supabase Auth asks the hook whenever it
-- issues or refreshes a token; in between a token goes on saying what was true then (jwt_expiry in supabase/config.toml, an
-- hour). Policies believe it so long. The backend does not: it looks the membership up with every request.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- The caller of a function by its token, or null where it is nobody who has signed in.
create function private.signed_in_user() returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    claims constant jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
begin
    return case when claims ->> 'is_anonymous' is distinct from 'true' then (claims ->> 'sub')::uuid end;
end
$$;

-- The access token hook: takes what Supabase Auth is about to issue, and returns it with the organization that is active and
-- the user's role there in `app_metadata`, or without, where the user is anonymous or belongs to none. Whatever stood
-- there before is dropped: only a membership counts.
-- https://supabase.com/docs/guides/auth/auth-hooks/custom-access-token-hook
create function private.access_token_hook(event jsonb) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    claims constant jsonb := event -> 'claims';
    -- Null where the user's row has none.
    given constant jsonb := case when jsonb_typeof(claims -> 'app_metadata') = 'object' then claims -> 'app_metadata' else '{}' end;
    metadata jsonb := given - array['organization_id', 'role'];
    active jsonb := (
        select jsonb_build_object('organization_id', member.organization_id, 'role', member.role)
        from public.organization_members as member
        where member.user_id = (event ->> 'user_id')::uuid and member.accepted_at is not null
        order by member.last_chosen_at desc nulls last, member.created_at, member.organization_id
        limit 1
    );
begin
    if active is not null and claims ->> 'is_anonymous' is distinct from 'true' then
        metadata := metadata || active;
    end if;
    return jsonb_set(event, '{claims,app_metadata}', metadata);
end
$$;

create function public.my_organizations()
returns table (organization_id uuid, name text, role text, is_accepted boolean, is_active boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    active constant text :=
        nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'organization_id';
begin
    return query
        select
            organization.id, organization.name, member.role, member.accepted_at is not null,
            organization.id::text is not distinct from active
        from public.organization_members as member
        inner join public.organizations as organization on member.organization_id = organization.id
        where member.user_id = private.signed_in_user()
        order by organization.name, organization.id;
end
$$;

comment on function public.my_organizations is
'The organizations that the calling user belongs to, its role in each, whether it has accepted, and which one its token '
'speaks for.';

create function public.switch_organization(organization_id uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
    update public.organization_members as member
    set last_chosen_at = clock_timestamp(), accepted_at = coalesce(member.accepted_at, clock_timestamp())
    where member.organization_id = switch_organization.organization_id and member.user_id = private.signed_in_user();
    if not found then
        raise exception 'You are not a member of the organization %; nothing was changed.', organization_id
        using errcode = 'insufficient_privilege', hint = '`my_organizations` lists yours.';
    end if;
end
$$;

comment on function public.switch_organization is
'Makes an organization that the calling user belongs to its active one, and so accepts the membership: refresh the session, and the token says so.';

grant execute on function private.access_token_hook(jsonb) to supabase_auth_admin;
grant execute on function public.my_organizations() to authenticated;
grant execute on function public.switch_organization(uuid) to authenticated;

reset role;
revoke create on schema private, public from clearfloor_writer;

grant usage on schema private to supabase_auth_admin;
