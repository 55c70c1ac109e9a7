-- The catalogue: who runs which model, at what price, how well.
--
-- The operator's, read and written as service_role: RLS on, no grants to callers and no policy. A caller sees models
-- through the backend, and the price it paid on its own attempts.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.providers (
    name text primary key constraint providers_name_check check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    wire_format text not null default 'openai'
    constraint providers_wire_format_check check (wire_format in ('openai')),
    base_url text not null constraint providers_base_url_check check (base_url ~ '^https?://'),
    api_key_variable text
    constraint providers_api_key_variable_check check (api_key_variable ~ '^[A-Z][A-Z0-9_]{0,100}$'),
    output_limit_field text not null default 'max_tokens'
    constraint providers_output_limit_field_check check (output_limit_field in ('max_tokens', 'max_completion_tokens')),
    usage_convention text not null default 'openai'
    constraint providers_usage_convention_check
    check (usage_convention in ('anthropic', 'deepseek', 'gemini', 'openai', 'xai')),
    refused_fields text [] not null
    default '{models,plugins,prediction,provider,route,service_tier,speed,transforms,web_search_options}',
    enabled boolean not null default true
);

comment on table public.providers is 'Companies and servers that run models. Backend only.';
comment on column public.providers.api_key_variable is
'Name of the environment variable that holds the provider''s key; the key itself is never in the database. '
'Null: the provider needs none.';
comment on column public.providers.output_limit_field is 'The field by which this provider takes an output limit.';
comment on column public.providers.usage_convention is
'How this provider counts tokens: which classes it reports, and whether inside its totals or on top of them.';
comment on column public.providers.refused_fields is
'Fields of a body with which this provider would let another model answer, or charge for more than the output limit allows '
'or at another price: a request that has one does not go there.';

create table public.models (
    name text primary key constraint models_name_check check (name ~ '^[!-~]{1,200}$' and name !~ '^auto($|:)'),
    description text not null default '',
    tier text constraint models_tier_check check (tier ~ '^[a-z][a-z0-9_]{0,40}$')
);

comment on table public.models is 'What a caller can ask for, independent of who runs it. Backend only.';
comment on column public.models.name is 'Printable ASCII: it stands in response headers.';
comment on column public.models.tier is
'What it belongs to, such as `small` or `frontier`: a model without a published quality is taken for the mean of its tier.';

create table public.candidates (
    id uuid primary key,
    provider text not null references public.providers (name),
    model text not null references public.models (name),
    upstream_model text not null,
    context_window_tokens bigint not null constraint candidates_context_window_check check (context_window_tokens > 0),
    max_output_tokens bigint not null constraint candidates_max_output_check check (max_output_tokens > 0),
    input_overhead_tokens bigint not null default 256
    constraint candidates_input_overhead_check check (input_overhead_tokens >= 0),
    max_image_tokens bigint constraint candidates_max_image_check check (max_image_tokens >= 0),
    max_file_tokens bigint constraint candidates_max_file_check check (max_file_tokens >= 0),
    max_audio_tokens bigint constraint candidates_max_audio_check check (max_audio_tokens >= 0),
    capabilities text [] not null default '{}'
    constraint candidates_capabilities_check check (capabilities <@ array['audio', 'files', 'json', 'tools', 'vision']),
    enabled boolean not null default true,
    constraint candidates_provider_model_key unique (provider, model),
    -- What a picture may cost must be known before one is sent.
    constraint candidates_media_have_bounds_check
    check (
        ('vision' = any(capabilities)) = (max_image_tokens is not null)
        and ('files' = any(capabilities)) = (max_file_tokens is not null)
        and ('audio' = any(capabilities)) = (max_audio_tokens is not null)
    )
);

create index candidates_model_idx on public.candidates (model);

comment on table public.candidates is 'One (provider, model) pair: what routing chooses between. Backend only.';
comment on column public.candidates.input_overhead_tokens is
'Tokens that the provider''s chat template may add to the text of a request; part of the reservation.';

comment on column public.candidates.max_image_tokens is
'The most input tokens that one image can make, by the provider''s documentation; part of the reservation. Likewise the '
'other two, a file and an audio clip.';

create type public.price_tier as (
    above_input_tokens bigint,
    input_nano_usd_per_mtok bigint,
    cache_read_nano_usd_per_mtok bigint,
    cache_write_nano_usd_per_mtok bigint,
    cache_write_1h_nano_usd_per_mtok bigint,
    output_nano_usd_per_mtok bigint,
    reasoning_nano_usd_per_mtok bigint
);

comment on type public.price_tier is
'Nano-USD per million tokens of each class, for a call with more input tokens than so many, cached ones included. All of '
'its tokens cost this, not only those above. cache_write: at the provider''s usual lifetime; cache_write_1h: for an hour.';

-- From 0 upwards, and nothing above 10,000 US dollars, so that no sum of costs overflows.
create function private.are_price_tiers(tiers public.price_tier []) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(bool_and(
        (tier.number = 1) = (tier.above_input_tokens = 0)
        and (tier.number = 1 or tier.above_input_tokens > tier.previous)
        and num_nulls(
            tier.above_input_tokens, tier.input, tier.cache_read, tier.cache_write, tier.cache_write_1h, tier.output,
            tier.reasoning
        ) = 0
        and least(
            tier.input, tier.cache_read, tier.cache_write, tier.cache_write_1h, tier.output, tier.reasoning
        ) >= 0
        and greatest(
            tier.input, tier.cache_read, tier.cache_write, tier.cache_write_1h, tier.output, tier.reasoning
        ) <= 10000000000000
    ), false)
    from (
        select *, lag(above_input_tokens) over (order by number) as previous
        from unnest(tiers) with ordinality as tier (
            above_input_tokens, input, cache_read, cache_write, cache_write_1h, output, reasoning, number
        )
    ) as tier
$$;

revoke execute on function private.are_price_tiers(public.price_tier []) from public;
grant execute on function private.are_price_tiers(public.price_tier []) to service_role;

create table public.prices (
    id uuid primary key,
    candidate_id uuid not null references public.candidates (id),
    valid_from timestamptz not null default now(),
    tiers public.price_tier [] not null
    constraint prices_tiers_check check (private.are_price_tiers(tiers)),
    source text not null,
    constraint prices_candidate_id_valid_from_key unique (candidate_id, valid_from)
);

comment on table public.prices is
'Price versions; the newest that is valid is the current one. A version is never changed: an attempt keeps the one it was '
'bound by. Backend only.';
comment on column public.prices.tiers is
'One tier, or more where long contexts cost more, by the input tokens from which they apply; the first is from 0.';

create table public.model_qualities (
    model text not null references public.models (name),
    task text not null constraint model_qualities_task_check check (task ~ '^[a-z][a-z0-9_]{0,40}(\.[a-z0-9_]{1,40})?$'),
    quality double precision not null constraint model_qualities_quality_check check (quality between 0 and 1),
    source text not null,
    measured_on date not null,
    primary key (model, task)
);

comment on table public.model_qualities is
'Expected quality of a model in a task class, 0 to 1, with where the figure is from. A class with a dot is a kind of '
'the class before it, which serves it where it has no row of its own; the class `general` serves the rest. Backend only.';

create table public.catalogue_snapshots (
    version bigint generated always as identity primary key,
    digest bytea not null constraint catalogue_snapshots_digest_key unique,
    content jsonb not null,
    created_at timestamptz not null default now()
);

comment on table public.catalogue_snapshots is
'Every catalogue that has ever routed a request, so that a decision can be computed again. Backend only.';

create table public.rate_snapshots (
    id bigint primary key generated always as identity,
    published_at timestamptz not null default clock_timestamp(),
    digest bytea not null,
    prior_strength double precision not null,
    content jsonb not null
);

comment on table public.rate_snapshots is
'Every set of learned rates that was published, so that a decision can be computed again; the newest counts. Backend only.';
comment on column public.rate_snapshots.digest is 'SHA-256 of what it says: the same is not published twice in a row.';
comment on column public.rate_snapshots.prior_strength is
'How many feedbacks the quality of model_qualities was worth at the time, beside what was learned.';
comment on column public.rate_snapshots.content is
'{"learned": {model: {task: [successes, trials]}}, "output_tokens": {task: mean of an answer}}';

revoke all on public.providers, public.models, public.candidates, public.prices, public.model_qualities,
public.catalogue_snapshots, public.rate_snapshots from anon, authenticated, service_role;

grant select, insert, update, delete on public.providers, public.models, public.candidates, public.model_qualities
to service_role;
grant select, insert on public.prices to service_role;
grant select on public.catalogue_snapshots, public.rate_snapshots to service_role;
grant select on public.providers, public.models, public.candidates, public.prices, public.model_qualities
to clearfloor_writer;
grant select, insert on public.catalogue_snapshots, public.rate_snapshots to clearfloor_writer;

alter table public.providers enable row level security;
alter table public.models enable row level security;
alter table public.candidates enable row level security;
alter table public.prices enable row level security;
alter table public.model_qualities enable row level security;
alter table public.catalogue_snapshots enable row level security;
alter table public.rate_snapshots enable row level security;

create function private.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'A row of % is never changed or deleted; nothing was.', tg_table_name
    using errcode = 'restrict_violation', hint = tg_argv[0];
end
$$;

revoke execute on function private.refuse_change() from public;

-- Nor deleted: attempts name their price and, by it, their candidate without foreign keys.
create trigger prices_refuse_change before update or delete on public.prices
for each row execute function private.refuse_change('A new price is a new row; the newest that is valid counts.');
create trigger rate_snapshots_refuse_change before update or delete on public.rate_snapshots
for each row execute function private.refuse_change('Publish another one: the newest counts.');
