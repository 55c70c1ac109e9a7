-- A sweep over the catalogue that catches tomorrow's table, and shows on bad objects that it does.
begin;
select plan(19);

select unalike(
    current_setting('search_path'), '%auth%', 'auth is not on the search_path, or policies would print without it'
);

create function pg_temp.tables_without_rls() returns setof text language sql as $$
    select relname::text from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity order by 1
$$;

create function pg_temp.bare_policies() returns setof text language sql as $$
    select policyname::text from pg_policies
    cross join lateral (values (qual), (with_check)) as expression (text)
    where schemaname = 'public'
        and regexp_replace(expression.text, '\( SELECT auth\.\w+\(\) AS \w+\)', '', 'g')
        ~ '(auth\.(jwt|uid|role|email)|current_setting)\('
    order by 1
$$;

create function pg_temp.unhoisted_policies() returns setof text language sql as $$
    select policyname::text from pg_policies
    where schemaname = 'public'
        and coalesce(qual, with_check) !~ '= \( SELECT .*\( SELECT auth\.jwt\(\) AS jwt\).*app_metadata.*organization_id'
    order by 1
$$;

create function pg_temp.unnamed_roles() returns setof text language sql as $$
    select policyname::text from pg_policies where schemaname = 'public' and roles <> '{authenticated}' order by 1
$$;

create function pg_temp.user_metadata_policies() returns setof text language sql as $$
    select policyname::text from pg_policies
    where schemaname = 'public' and concat(qual, with_check) like '%user_metadata%' order by 1
$$;

create function pg_temp.loose_definers() returns setof text language sql as $$
    select proname::text from pg_proc
    where pronamespace in ('public'::regnamespace, 'private'::regnamespace)
        and (not coalesce('search_path=""' = any(proconfig), false)
            or (prosecdef and proowner <> 'clearfloor_writer'::regrole))
    order by 1
$$;

create function pg_temp.open_functions() returns setof text language sql as $$
    select distinct proname::text from pg_proc
    cross join unnest(array['anon', 'authenticated']) as caller
    where pronamespace = 'public'::regnamespace and has_function_privilege(caller, pg_proc.oid, 'execute')
    order by 1
$$;

create function pg_temp.unindexed_keys() returns setof text language sql as $$
    select conname::text from pg_constraint
    where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
        select from pg_index
        where indrelid = conrelid and indpred is null
            and (indkey::int2 [])[0:cardinality(conkey) - 1] @> conkey and conkey @> (indkey::int2 [])[0:cardinality(conkey) - 1]
    )
    order by 1
$$;

create function pg_temp.unindexed_policy_columns() returns setof text language sql as $$
    select distinct tablename::text from pg_policies
    where schemaname = 'public' and not exists (
        select from pg_index
        inner join pg_attribute on attrelid = indrelid and attnum = (indkey::int2 [])[0]
        where indrelid = format('public.%I', tablename)::regclass
            and attname = case when tablename = 'organizations' then 'id' else 'organization_id' end
    )
    order by 1
$$;

select is_empty('select pg_temp.tables_without_rls()', 'every table has row level security');
select is_empty('select pg_temp.bare_policies()', 'no policy calls auth.* or current_setting once per row');
select is_empty('select pg_temp.unhoisted_policies()', 'every policy compares with a claim that is read once per query');
select is_empty('select pg_temp.unnamed_roles()', 'every policy names authenticated');
select is_empty('select pg_temp.user_metadata_policies()', 'no policy reads what users may edit');
select is_empty('select pg_temp.loose_definers()', 'every function has a pinned path, every definer one the writer''s identity');
select is_empty('select pg_temp.open_functions()', 'callers may execute no function of public');
select results_eq(
    'select pg_temp.unindexed_keys()',
    -- The first is led by the primary key on id; snapshots, which the second points to, are never deleted.
    $$values ('routing_outcomes_catalogue_version_fkey'), ('routing_outcomes_inference_fkey')$$,
    'every foreign key is led by an index, but for two with a reason'
);
select is_empty('select pg_temp.unindexed_policy_columns()', 'every policy column leads an index');

-- The sweep sweeps: one bad object of each kind.
create table public.bad (organization_id uuid, agent_id uuid references public.agents (id));
select results_eq('select pg_temp.tables_without_rls()', $$values ('bad')$$, 'a table without row level security is found');
select ok('bad_agent_id_fkey' in (select pg_temp.unindexed_keys()), 'a foreign key without an index is found');
create policy bad_bare on public.bad for select to authenticated
using (organization_id = ((select auth.jwt()) ->> 'a')::uuid or organization_id = (auth.jwt() ->> 'b')::uuid);
select results_eq('select pg_temp.bare_policies()', $$values ('bad_bare')$$, 'a bare call beside a wrapped one is found');
select ok('bad_bare' in (select pg_temp.unhoisted_policies()), 'a policy that is not hoisted is found');
select results_eq('select pg_temp.unindexed_policy_columns()', $$values ('bad')$$, 'a policy column without an index is found');
create policy bad_public on public.bad for insert to public
with check (organization_id::text = (select (select auth.jwt()) -> 'user_metadata' ->> 'organization_id'));
select results_eq('select pg_temp.unnamed_roles()', $$values ('bad_public')$$, 'a policy for everybody is found');
select results_eq('select pg_temp.user_metadata_policies()', $$values ('bad_public')$$, 'a policy on user_metadata is found');
create function public.bad_definer() returns int language sql security definer as 'select 1';
select results_eq('select pg_temp.loose_definers()', $$values ('bad_definer')$$, 'a definer function without a path is found');
select ok('bad_definer' in (select pg_temp.open_functions()), 'a function that everybody may execute is found');

select * from finish();
rollback;
