-- A sweep over the catalogue, so that tomorrow's table, policy and function are covered, too. It sweeps itself: bad
-- objects and their sound look-alikes are made at the end, and it has to tell them apart.
begin;
select plan(33);

-- Everything in public and private that breaks a rule. Objects of extensions are not ours.
create temp view faults as
with policies as (
    select
        policy.oid, policy.polrelid, policy.polname::text as name, expression.text,
        array(select case when role = 0 then 'public' else role::regrole::text end from unnest(policy.polroles) as role) as roles
    from pg_policy as policy
    inner join pg_class on pg_class.oid = policy.polrelid and relnamespace = 'public'::regnamespace
    cross join lateral (values
        (pg_get_expr(policy.polqual, policy.polrelid)), (pg_get_expr(policy.polwithcheck, policy.polrelid))
    ) as expression (text)
    where expression.text is not null
),

functions as (
    select pg_proc.*, nspname as schema_name, proname::text as name
    from pg_proc
    inner join pg_namespace on pg_namespace.oid = pronamespace and nspname in ('public', 'private')
    where not exists (
        select from pg_depend where classid = 'pg_proc'::regclass and objid = pg_proc.oid and deptype = 'e'
    )
),

-- The columns that an index begins with, for each length.
index_heads as (
    select indrelid, (indkey::int2 [])[0:length - 1] as columns
    from pg_index
    cross join lateral generate_series(1, indnkeyatts) as length
    where indpred is null and indisvalid
)

select 'table without row level security' as rule, relname::text as object
from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity
union all
select 'table granted to a stranger', relname::text
from pg_class
cross join lateral (
    select grantee from aclexplode(relacl)
    union all
    select grantee from pg_attribute cross join aclexplode(attacl) where attrelid = pg_class.oid
) as acl
where relnamespace = 'public'::regnamespace and grantee <> all(
    array[relowner, to_regrole('authenticated'), to_regrole('service_role'), to_regrole('clearfloor_writer')]::oid []
)
union all
select 'view with the rights of its owner', relname::text
from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')
    and not coalesce('security_invoker=true' = any(reloptions), false)
union all
select 'policy for others than users', name from policies
where roles <> '{authenticated}' and array_to_string(roles, ' ') !~ '^clearfloor_\w+$'
union all
select 'policy with a claim read for each row', name from policies
where regexp_replace(text, '\( SELECT auth\.\w+\(\) AS \w+\)', '', 'g') ~ '(\mauth\.\w+|\mcurrent_setting)\('
union all
select 'policy other than by the hoisted claim', name from policies
where text !~ (
    '^\((organization_id|id) = \( SELECT \(NULLIF\(\(\(\( SELECT auth\.jwt\(\) AS jwt\) -> ''app_metadata''::text\) '
    '->> ''organization_id''::text\), ''''::text\)\)::uuid AS "nullif"\s+'
    'WHERE \(\(\( SELECT auth\.jwt\(\) AS jwt\) ->> ''is_anonymous''::text\) IS DISTINCT FROM ''true''::text\)\)\)$'
)
union all
select 'policy on what users may edit', name from policies where text ~ 'user_metadata'
union all
select 'policy that calls a function of ours', policies.name
from policies
inner join pg_depend on classid = 'pg_policy'::regclass and objid = policies.oid and refclassid = 'pg_proc'::regclass
inner join pg_proc on pg_proc.oid = refobjid and pronamespace <> to_regnamespace('auth')
union all
select 'policy column without an index', policies.name
from policies
inner join pg_depend
    on classid = 'pg_policy'::regclass and objid = policies.oid and refclassid = 'pg_class'::regclass
    and refobjid = polrelid and refobjsubid > 0
where not exists (select from index_heads where indrelid = polrelid and columns = array[refobjsubid::int2])
union all
select 'foreign key without an index', conname::text
from pg_constraint
where contype = 'f' and connamespace = 'public'::regnamespace
    and not exists (select from index_heads where indrelid = conrelid and columns @> conkey and columns <@ conkey)
union all
select 'function without a pinned path', name from functions
where not coalesce('search_path=pg_catalog, pg_temp' = any(proconfig), false)
union all
select 'definer function of another owner', name from functions where prosecdef and proowner <> to_regrole('clearfloor_writer')
union all
select 'function that callers may execute', name from functions
where schema_name = 'public'
    and (has_function_privilege('anon', oid, 'execute') or has_function_privilege('authenticated', oid, 'execute'));

create function pg_temp.faulty(wanted text) returns setof text language sql as $$
    select distinct object from faults where rule = wanted
$$;

-- What users may execute: with their own rights, or asking who they are.
create temp table for_users as select unnest(array[
    'usage_by', 'quality_by', 'quality_by_floor', 'my_organizations', 'switch_organization'
]) as name;

select ok(
    not 'auth' = any(current_schemas(true)), 'auth is not on the search path, or else policies would print without it'
);
select isnt_empty(
    'select from pg_policies where schemaname = ''public''', 'there are policies to be swept'
);

-- The database as it is.
select is_empty(format('select pg_temp.faulty(%L)', rule), sentence)
from (values
    ('table without row level security', 'every table and partition is under row level security'),
    ('table granted to a stranger', 'nothing is granted to anybody but users, the backend and its functions'),
    ('view with the rights of its owner', 'every view reads with the rights of who asks'),
    ('policy for others than users', 'every policy names whom it is for, and that is never everybody'),
    ('policy with a claim read for each row', 'no policy reads the claims once for each row'),
    (
        'policy other than by the hoisted claim',
        'every policy compares with the organization''s claim alone, worked out once per query'
    ),
    ('policy on what users may edit', 'no policy believes what users may edit themselves'),
    ('policy that calls a function of ours', 'no policy calls a function other than those of auth'),
    ('policy column without an index', 'every column that a policy reads is led by an index'),
    ('function without a pinned path', 'every function has a search path that ends in pg_temp'),
    ('definer function of another owner', 'every function with its owner''s rights is owned by clearfloor_writer')
) as swept (rule, sentence);
select set_eq(
    'select pg_temp.faulty(''function that callers may execute'')', 'select name from for_users',
    'no function of public can be executed by anon or users but those that are listed here'
);
select set_eq(
    'select pg_temp.faulty(''foreign key without an index'')',
    -- Led by the primary key on id, which leaves one row; and snapshots are never deleted.
    array['routing_outcomes_inference_fkey', 'routing_outcomes_catalogue_version_fkey'],
    'every foreign key is led by an index, but for two that need none'
);

-- Tables: one open, one split into partitions of which one is open, one sound.
create table public.open_table (organization_id uuid);
create table public.split (organization_id uuid primary key) partition by list (organization_id);
create table public.split_open partition of public.split default;
create table public.sound (id uuid primary key, organization_id uuid not null, agent_id uuid);
alter table public.split enable row level security;
alter table public.sound enable row level security;
create index sound_agent_idx on public.sound (agent_id, organization_id, id);
create view public.owners_view as select 1 as one;
create view public.askers_view with (security_invoker = true) as select 1 as one;
select set_eq(
    'select pg_temp.faulty(''table without row level security'')', array['open_table', 'split_open'],
    'the sweep finds a table that is open, and a partition that its table does not cover'
);
select set_eq(
    'select pg_temp.faulty(''view with the rights of its owner'')', array['owners_view'],
    'the sweep finds a view that reads with its owner''s rights, and lets pass the one that does not'
);
select is_empty(
    'select pg_temp.faulty(''table granted to a stranger'')', 'a new table is granted to nobody by itself'
);
select table_privs_are(
    'public', 'open_table', role, '{}'::name [], format('a new table is closed to %s until its migration opens it', role)
)
from unnest(array['anon', 'authenticated', 'service_role']) as role;
grant select on public.open_table to anon;
grant select on public.split to public;
grant select on public.sound to authenticated;
grant select (one) on public.askers_view to anon;
grant update on public.owners_view to supabase_auth_admin;
select set_eq(
    'select pg_temp.faulty(''table granted to a stranger'')', array['open_table', 'split', 'askers_view', 'owners_view'],
    'the sweep finds what is granted to anon, to everybody, or to another role, also of single columns'
);

-- Foreign keys: without an index, with a partial one, with one in which its columns come late; and sound ones.
create table public.pointing (
    bare_id uuid constraint bare_fkey references public.agents (id),
    partial_id uuid constraint partial_fkey references public.agents (id),
    organization_id uuid, agent_id uuid, other_organization_id uuid, other_agent_id uuid,
    single_id uuid constraint single_fkey references public.agents (id),
    constraint late_fkey foreign key (organization_id, agent_id) references public.agents (organization_id, id),
    constraint turned_fkey foreign key (other_organization_id, other_agent_id) references public.agents (organization_id, id)
);
create index on public.pointing (partial_id) where partial_id is not null;
create index on public.pointing (single_id, organization_id, agent_id);
create index on public.pointing (other_agent_id, other_organization_id, bare_id);
select set_eq(
    'select pg_temp.faulty(''foreign key without an index'')',
    array[
        'routing_outcomes_inference_fkey', 'routing_outcomes_catalogue_version_fkey', 'bare_fkey', 'partial_fkey', 'late_fkey'
    ],
    'the sweep finds foreign keys without an index that begins with them, in whatever order'
);

-- Policies: the one form that is right, and what looks like it.
create function pg_temp.add_policy(name text, expression text, clause text default 'for select to authenticated using')
returns void language plpgsql as $$
begin
    execute format('create policy %I on public.sound %s (%s)', name, clause, expression);
end
$$;
create function pg_temp.claim(call text, metadata text default 'app_metadata', field text default 'organization_id')
returns text language sql immutable as $$
    select format(
        '(select nullif(%1$s -> %2$L ->> %3$L, '''')::uuid where %1$s ->> ''is_anonymous'' is distinct from ''true'')',
        call, metadata, field
    )
$$;
create function private.is_friend(id uuid) returns boolean language sql stable return id is not null;
create function public.is_open() returns boolean language sql stable return true;
do $$
declare
    right_claim constant text := pg_temp.claim('(select auth.jwt())');
    bare_claim constant text := pg_temp.claim('auth.jwt()');
begin
    perform pg_temp.add_policy('sound', 'organization_id = ' || right_claim);
    perform pg_temp.add_policy('sound_insert', 'organization_id = ' || right_claim, 'for insert to authenticated with check');
    perform pg_temp.add_policy('bare', 'organization_id = ' || bare_claim);
    perform pg_temp.add_policy('bare_beside', format('organization_id = %s or id = auth.uid()', right_claim));
    perform pg_temp.add_policy('bare_check', 'organization_id = ' || bare_claim, 'for insert to authenticated with check');
    perform pg_temp.add_policy(
        'setting', format('organization_id = %s and current_setting(''a'') <> ''b''', right_claim)
    );
    perform pg_temp.add_policy(
        'half_hoisted', 'organization_id = ((select auth.jwt()) -> ''app_metadata'' ->> ''organization_id'')::uuid'
    );
    perform pg_temp.add_policy('always', 'true');
    perform pg_temp.add_policy('or_else', 'agent_id is null or organization_id = ' || right_claim);
    perform pg_temp.add_policy(
        'anonymous_too',
        'organization_id = (select nullif((select auth.jwt()) -> ''app_metadata'' ->> ''organization_id'', '''')::uuid)'
    );
    perform pg_temp.add_policy('editable', 'organization_id = ' || pg_temp.claim('(select auth.jwt())', 'user_metadata'));
    perform pg_temp.add_policy('other_claim', 'organization_id = ' || pg_temp.claim('(select auth.jwt())', field => 'org_id'));
    perform pg_temp.add_policy('helper', format('organization_id = %s or private.is_friend(id)', right_claim));
    perform pg_temp.add_policy('wrapped_helper', format('organization_id = %s or (select public.is_open())', right_claim));
    perform pg_temp.add_policy('everybody', 'organization_id = ' || right_claim, 'for select using');
    perform pg_temp.add_policy('anonymous', 'organization_id = ' || right_claim, 'for select to anon, authenticated using');
end
$$;
select set_eq(
    format('select pg_temp.faulty(%L)', rule), names, sentence
)
from (values
    (
        'policy with a claim read for each row', array['bare', 'bare_beside', 'bare_check', 'setting'],
        'the sweep finds a claim read for each row: alone, beside one that is not, in a check, and as a setting'
    ),
    (
        'policy other than by the hoisted claim',
        array[
            'bare', 'bare_beside', 'bare_check', 'setting', 'half_hoisted', 'always', 'or_else', 'anonymous_too', 'editable',
            'other_claim', 'helper', 'wrapped_helper'
        ],
        'the sweep finds policies that let anybody in, ask another claim or more than it, or ask once for each row'
    ),
    (
        'policy that calls a function of ours', array['helper', 'wrapped_helper'],
        'the sweep finds policies that call a private or a public function, once for each row or not'
    ),
    ('policy on what users may edit', array['editable'], 'the sweep finds a policy that believes the user'),
    ('policy for others than users', array['everybody', 'anonymous'], 'the sweep finds policies that are not for users alone'),
    (
        'policy column without an index',
        array[
            'sound', 'sound_insert', 'bare', 'bare_beside', 'bare_check', 'setting', 'half_hoisted', 'or_else',
            'anonymous_too', 'editable', 'other_claim', 'helper', 'wrapped_helper', 'everybody', 'anonymous'
        ],
        'the sweep finds policies on a column that no index begins with'
    )
) as swept (rule, names, sentence);
create index on public.sound (organization_id, id);
select is_empty(
    'select pg_temp.faulty(''policy column without an index'')', 'an index that begins with the policies'' column is enough'
);

-- Functions: open and loose by default; closed and pinned, as every migration has to make them.
create function public.loose() returns integer language sql return 1;
create function public.half_pinned() returns integer language sql set search_path = 'public' return 1;
create function private.loose_helper() returns integer language sql return 1;
create function private.open_to_temporary_types() returns integer language sql set search_path = '' return 1;
create function public.own_definer() returns integer
language sql security definer set search_path = pg_catalog, pg_temp return 1;
create function public.closed() returns integer language sql set search_path = pg_catalog, pg_temp return 1;
revoke execute on function public.closed() from public;
create function public.for_users() returns integer language sql set search_path = pg_catalog, pg_temp return 1;
revoke execute on function public.for_users() from public;
grant execute on function public.for_users() to authenticated;
select set_eq(
    'select pg_temp.faulty(''function without a pinned path'')',
    array['is_friend', 'is_open', 'loose', 'half_pinned', 'loose_helper', 'open_to_temporary_types'],
    'the sweep finds functions without a path, with an empty one, or with one that somebody can write to'
);
select set_eq(
    'select pg_temp.faulty(''definer function of another owner'')', array['own_definer'],
    'the sweep finds a function with the rights of another owner than clearfloor_writer'
);
select set_eq(
    'select pg_temp.faulty(''function that callers may execute'') except select name from for_users',
    array['is_open', 'loose', 'half_pinned', 'own_definer', 'for_users'],
    'the sweep finds functions that everybody or users may execute'
);

select * from finish();
rollback;
