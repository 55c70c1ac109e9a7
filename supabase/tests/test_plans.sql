-- As a member, every table of the tenant's is read with its claim computed once per query.
begin;
select plan(10);

create function pg_temp.plan_of(table_name text) returns text language plpgsql as $$
declare
    line text;
    lines text := '';
begin
    for line in execute format('explain (costs off, verbose) select * from public.%I', table_name) loop
        lines := lines || line || E'\n';
    end loop;
    return lines;
end
$$;

select set_config(
    'request.jwt.claims',
    '{"role": "authenticated", "app_metadata": {"organization_id": "0e000000-0000-7000-8000-000000000001"}}',
    true
);
set local role authenticated;

select ok(
    pg_temp.plan_of(name) ~ 'InitPlan' and pg_temp.plan_of(name) !~ '(Filter|Index Cond)[^\n]*current_setting',
    format('%s is read with the claim computed once', name)
)
from unnest(array[
    'organizations', 'organization_members', 'agents', 'wallets', 'spend_caps', 'spend_counters', 'ledger_entries',
    'routing_outcomes', 'inferences'
]) as name;

reset role;
create table public.bare (organization_id uuid);
alter table public.bare enable row level security;
grant select on public.bare to authenticated;
create policy bare_select on public.bare for select to authenticated
using (organization_id = (auth.jwt() -> 'app_metadata' ->> 'organization_id')::uuid);
set local role authenticated;
select ok(
    pg_temp.plan_of('bare') ~ '(Filter|Index Cond)[^\n]*current_setting', 'a bare policy would be seen in its plan'
);

select * from finish();
rollback;
