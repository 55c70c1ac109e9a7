-- What the backend looks up: who is calling, and the catalogue. Only service_role may execute these.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- The agent that an API key speaks for, or no row. A revoked or expired key is as good as unknown.
create function public.find_caller_by_key(key_hash text)
returns table (
    organization_id uuid, agent_id uuid, api_key_id uuid, user_id uuid, default_floor double precision,
    default_max_output_tokens bigint, baseline_model text
)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
    select
        key.organization_id, key.agent_id, key.id, null::uuid, agent.default_floor, agent.default_max_output_tokens,
        agent.baseline_model
    from public.api_keys as key
    inner join public.agents as agent on key.agent_id = agent.id
    where key.key_hash = decode(find_caller_by_key.key_hash, 'hex')
        and key.revoked_at is null
        and (key.expires_at is null or key.expires_at > now())
$$;

comment on function public.find_caller_by_key is 'Resolves the SHA-256 (hex) of an API key to its agent.';

-- The agent that a member acts as: the one named (by id or name) if the organization has it, else the membership's
-- default. No row: not a member, or no such agent.
create function public.find_caller_by_user(user_id uuid, organization_id uuid, agent text default null)
returns table (
    organization_id uuid, agent_id uuid, api_key_id uuid, user_id uuid, default_floor double precision,
    default_max_output_tokens bigint, baseline_model text
)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
    select
        member.organization_id, agent.id, null::uuid, member.user_id, agent.default_floor,
        agent.default_max_output_tokens, agent.baseline_model
    from public.organization_members as member
    inner join public.agents as agent
        on member.organization_id = agent.organization_id
        and case
            when find_caller_by_user.agent is null then agent.id = member.default_agent_id
            else find_caller_by_user.agent in (agent.id::text, agent.name)
        end
    where member.user_id = find_caller_by_user.user_id and member.organization_id = find_caller_by_user.organization_id
    -- An agent may be called as another one's id is written: the id counts.
    order by agent.id::text = find_caller_by_user.agent desc
    limit 1
$$;

comment on function public.find_caller_by_user is 'Resolves a member, and an agent it names or its default, to the agent it acts as.';

-- The catalogue as it is now: every enabled candidate with its current price and its model's qualities. A candidate
-- without a current price is not in it: no price, no route.
create function private.current_catalogue() returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'id', candidate.id,
        'provider', candidate.provider,
        'model', candidate.model,
        'upstream_model', candidate.upstream_model,
        'wire_format', provider.wire_format,
        'base_url', provider.base_url,
        'api_key_variable', provider.api_key_variable,
        'output_limit_field', provider.output_limit_field,
        'usage_convention', provider.usage_convention,
        'refused_fields', provider.refused_fields,
        'context_window_tokens', candidate.context_window_tokens,
        'max_output_tokens', candidate.max_output_tokens,
        'input_overhead_tokens', candidate.input_overhead_tokens,
        'max_image_tokens', candidate.max_image_tokens,
        'max_file_tokens', candidate.max_file_tokens,
        'max_audio_tokens', candidate.max_audio_tokens,
        'capabilities', candidate.capabilities,
        'price', jsonb_build_object('id', price.id, 'tiers', price.tiers),
        'tier', model.tier,
        'qualities', quality.by_task
    ) order by candidate.id), '[]')
    from public.candidates as candidate
    inner join public.providers as provider on candidate.provider = provider.name and provider.enabled
    inner join public.models as model on candidate.model = model.name
    inner join lateral (
        select price.*
        from public.prices as price
        where price.candidate_id = candidate.id and price.valid_from <= now()
        order by price.valid_from desc
        limit 1
    ) as price on true
    cross join lateral (
        select coalesce(jsonb_object_agg(task, quality), '{}') as by_task
        from public.model_qualities where model = candidate.model
    ) as quality
    where candidate.enabled
$$;

-- The current catalogue as a numbered snapshot, kept for ever so that decisions can be computed again. `candidates` is
-- null if the caller knows the version already. With it come the newest published rates, null likewise or where none were
-- published, and the cooldowns: backends share them.
create function public.read_catalogue(known_version bigint default null, known_rates bigint default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    content constant jsonb := private.current_catalogue();
    content_digest constant bytea := sha256(convert_to(content::text, 'UTF8'));
    current_version bigint := (select version from public.catalogue_snapshots where digest = content_digest);
    rates public.rate_snapshots;
begin
    if current_version is null then
        insert into public.catalogue_snapshots (digest, content) values (content_digest, content)
        on conflict (digest) do nothing;
        current_version := (select version from public.catalogue_snapshots where digest = content_digest);
    end if;
    select * into rates from public.rate_snapshots order by id desc limit 1;
    return jsonb_build_object(
        'version', current_version,
        'candidates', case when current_version is distinct from known_version then content end,
        'rate_snapshot', rates.id,
        'rates', case
            when rates.id is distinct from known_rates
                then rates.content || jsonb_build_object('prior_strength', rates.prior_strength)
        end,
        'cooldowns', (
            select coalesce(jsonb_object_agg(candidate_id, extract(epoch from until - now())), '{}')
            from public.candidate_cooldowns where until > now()
        )
    );
end
$$;

comment on function public.read_catalogue is
'The current catalogue snapshot and the newest rates {version, candidates, rate_snapshot, rates, cooldowns}; cooldowns in '
'seconds from now, by candidate.';

grant execute on function public.find_caller_by_key(text) to service_role;
grant execute on function public.find_caller_by_user(uuid, uuid, text) to service_role;
grant execute on function public.read_catalogue(bigint, bigint) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
