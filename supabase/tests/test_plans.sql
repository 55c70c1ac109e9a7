-- What a user's query costs: the organization's claim is worked out once per query, for every table of a tenant's.
begin;
select plan(37);

create function pg_temp.plan_of(table_name text) returns setof text language plpgsql as $$
begin
    -- Any column will do, but for api_keys not every one is granted.
    return query execute format(
        'explain (costs off, verbose) select %I from public.%I',
        case when table_name in ('organizations', 'api_keys') then 'id' else 'organization_id' end, table_name
    );
end
$$;

-- The lines of a plan that read the claims for each row. auth.jwt() is inlined: a bare call shows as current_setting.
create function pg_temp.per_row_claims(table_name text) returns setof text language sql as $$
    select line from pg_temp.plan_of(table_name) as line
    where line ~ '^\s*(Filter|Index Cond|Recheck Cond|Join Filter|Hash Cond):' and line ~ '(current_setting|auth\.\w+)\('
$$;

-- Whether the rows are compared with a value that an InitPlan has worked out before.
create function pg_temp.compares_with_init_plan(table_name text) returns boolean language sql as $$
    select coalesce(bool_or(line ~ '^\s*InitPlan'), false)
        and coalesce(bool_or(line ~ '^\s*(Filter|Index Cond): .* = (\(InitPlan \d+\)\.col1|\$\d+)\)'), false)
    from pg_temp.plan_of(table_name) as line
$$;

-- Named by their policies: the table of tomorrow is among them.
create temp table tenant_tables as
select distinct tablename::text as table_name from pg_policies where schemaname = 'public' and cmd = 'SELECT';
grant select on tenant_tables to public;

select set_eq(
    'select table_name from tenant_tables',
    array[
        'organizations', 'organization_members', 'agents', 'api_keys', 'wallets', 'spend_caps', 'spend_counters',
        'rate_limits', 'ledger_entries', 'routing_outcomes', 'inferences', 'audit_entries', 'usage_hours',
        'feedback'
    ],
    'this file plans every table that has a policy'
);
call clearfloor_tests.authenticate_as('member of acme');
select ok(
    pg_temp.compares_with_init_plan(table_name), format('reading %s compares with a claim worked out beforehand', table_name)
)
from tenant_tables;
select is_empty(
    format('select pg_temp.per_row_claims(%L)', table_name), format('reading %s reads no claims for each row', table_name)
)
from tenant_tables;

-- These checks can fail: two tables whose policies look alike.
reset role;
create table public.bare (organization_id uuid);
create table public.correlated (organization_id uuid);
alter table public.bare enable row level security;
alter table public.correlated enable row level security;
grant select on public.bare, public.correlated to authenticated;
create policy bare_select on public.bare for select to authenticated
using (organization_id = nullif(auth.jwt() -> 'app_metadata' ->> 'organization_id', '')::uuid);
-- Wrapped, and yet worked out for each row, since it mentions one.
create policy correlated_select on public.correlated for select to authenticated
using ((select organization_id = ((select auth.jwt()) -> 'app_metadata' ->> 'organization_id')::uuid));
set local role authenticated;
select isnt_empty('select pg_temp.per_row_claims(''bare'')', 'a bare call is seen in the plan');
select ok(not pg_temp.compares_with_init_plan('bare'), 'a bare call is not taken for a claim worked out beforehand');
select ok(
    not pg_temp.compares_with_init_plan('correlated'), 'a wrapped comparison with the row is not taken for one, either'
);

-- A row is found through an index that begins with the policy's column, as soon as there are rows to skip.
set local enable_seqscan = off;
select ok(
    (select bool_or(line ~ '^\s*Index Cond: .*(InitPlan|\$\d)') from pg_temp.plan_of(table_name) as line),
    format('the rows of an organization are found in %s through an index', table_name)
)
from tenant_tables where table_name in ('routing_outcomes', 'inferences', 'ledger_entries', 'usage_hours', 'feedback');

select * from finish();
rollback;
