-- Who can do what to which table and function: grants first, then the policies behind them, each shown on its own.
begin;
select plan(313);

-- What each role is granted. A table or function that is missing here is found below.
create temp table tables (table_name text primary key, tenant_column text, member text [], backend text [], writer text []);
insert into tables values
('organizations', 'id', '{SELECT}', '{SELECT,INSERT,UPDATE}', '{SELECT}'),
('organization_members', 'organization_id', '{SELECT}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('agents', 'organization_id', '{SELECT}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('api_keys', 'organization_id', '{}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('wallets', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT,UPDATE}'),
('spend_caps', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT,UPDATE,DELETE}'),
('spend_counters', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT,UPDATE,DELETE}'),
('rate_limits', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT,UPDATE,DELETE}'),
('ledger_entries', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT}'),
('routing_outcomes', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT,UPDATE}'),
('inferences', 'organization_id', '{SELECT}', '{SELECT}', '{SELECT,INSERT,UPDATE}'),
('providers', null, '{}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('models', null, '{}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('candidates', null, '{}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('model_qualities', null, '{}', '{SELECT,INSERT,UPDATE,DELETE}', '{SELECT}'),
('prices', null, '{}', '{SELECT,INSERT}', '{SELECT}'),
('catalogue_snapshots', null, '{}', '{SELECT}', '{SELECT,INSERT}'),
('candidate_cooldowns', null, '{}', '{SELECT}', '{SELECT,INSERT,UPDATE}'),
('idempotency_keys', null, '{}', '{}', '{SELECT,INSERT,UPDATE,DELETE}'),
('stored_answers', null, '{}', '{}', '{SELECT,INSERT,UPDATE,DELETE}');

create temp table functions (signature text primary key, call text, roles text [] not null default '{service_role}');
insert into functions values
('complete_decisions(jsonb)', 'complete_decisions(''[]'')'),
('correct_wallet(uuid,uuid,bigint,text,text)', 'correct_wallet(null, pg_temp.id(''acme''), 0, null, null)'),
('find_caller_by_key(text)', 'find_caller_by_key('''')'),
('find_caller_by_user(uuid,uuid,text)', 'find_caller_by_user(null, null)'),
('gateway_invariants(timestamp with time zone,uuid)', 'gateway_invariants()'),
('insert_attempts(jsonb)', 'insert_attempts(''[]'')'),
('insert_decisions(jsonb)', 'insert_decisions(''[]'')'),
('read_catalogue(bigint)', 'read_catalogue()'),
('read_idempotency_key(uuid,text)', 'read_idempotency_key(null, null)'),
('recompute_costs(timestamp with time zone,uuid)', 'recompute_costs()'),
('refund_decision(uuid,uuid,uuid,bigint,text,text)', 'refund_decision(null, pg_temp.id(''acme''), null, 0, null, null)'),
('renew_leases(uuid[],bigint)', 'renew_leases(''{}'', 0)'),
('set_rate_limit(uuid,uuid,uuid,bigint,bigint)', 'set_rate_limit(null, pg_temp.id(''acme''), pg_temp.id(''acme agent''), null, null)'),
('set_spend_cap(uuid,uuid,uuid,text,bigint)', 'set_spend_cap(null, pg_temp.id(''acme''), null, ''hour'', null)'),
('sweep_decisions(integer,bigint)', 'sweep_decisions(0)'),
('top_up_wallet(uuid,uuid,bigint,text,text)', 'top_up_wallet(null, pg_temp.id(''acme''), 0)');
insert into functions values
('usage_by(text,timestamp with time zone,timestamp with time zone)', 'usage_by(''day'', now())', '{authenticated,service_role}');
grant select on tables, functions to public;

-- Two organizations, each with a row in every table that tenants read, and a catalogue.
-- Ids are hashes of names: the same in every run, and nobody else's.
create function pg_temp.id(name text) returns uuid language sql immutable return md5('clearfloor pgtap ' || name)::uuid;

create temp table names as select unnest(array['acme', 'zenith']) as name;
insert into auth.users (id, email) select pg_temp.id(name || ' user'), name || '@pgtap.example' from names;
insert into public.organizations (id, name) select pg_temp.id(name), name from names;
insert into public.agents (id, organization_id, name) select pg_temp.id(name || ' agent'), pg_temp.id(name), name from names;
insert into public.organization_members (organization_id, user_id)
select pg_temp.id(name), pg_temp.id(name || ' user') from names;
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash)
select pg_temp.id(name || ' key'), pg_temp.id(name), pg_temp.id(name || ' agent'), name, 'cf_', sha256(name::bytea) from names;
insert into public.spend_caps (id, organization_id, window_kind, limit_nano_usd)
select pg_temp.id(name || ' cap'), pg_temp.id(name), 'day', 1 from names;
insert into public.rate_limits (id, organization_id, requests_per_minute)
select pg_temp.id(name || ' limit'), pg_temp.id(name), 1 from names;
insert into public.spend_counters (spend_cap_id, window_start, organization_id)
select pg_temp.id(name || ' cap'), now(), pg_temp.id(name) from names;
insert into public.ledger_entries (id, organization_id, kind, debit_account, credit_account, amount_nano_usd)
select pg_temp.id(name || ' entry'), pg_temp.id(name), 'top_up', 'funding', 'wallet', 1 from names;
insert into public.providers (name, base_url) values ('pgtap', 'http://pgtap.example/v1');
insert into public.models (name) values ('pgtap');
insert into public.model_qualities values ('pgtap', 'general', 1, 'pgtap', '2026-01-01');
insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens)
values (pg_temp.id('candidate'), 'pgtap', 'pgtap', 'pgtap', 1000, 1000);
insert into public.prices values (pg_temp.id('price'), pg_temp.id('candidate'), now(), array[(0, 0, 0, 0, 0, 0, 0)::public.price_tier], 'pgtap');
insert into public.idempotency_keys
select pg_temp.id(name || ' agent'), 'key', pg_temp.id(name), sha256('body'), pg_temp.id(name || ' decision'), now() from names;
insert into public.stored_answers select pg_temp.id(name || ' decision'), pg_temp.id(name), 'sealed', now() from names;
insert into public.candidate_cooldowns values (pg_temp.id('candidate'), now(), 'pgtap');
insert into public.catalogue_snapshots (version, digest, content) overriding system value values (-1, 'pgtap', '[]');
insert into public.routing_outcomes (
    id, organization_id, agent_id, lease_expires_at, requested_model, requested_rule, decision_rule, task, stream,
    catalogue_version, routing_request, candidates
)
select
    pg_temp.id(name || ' decision'), pg_temp.id(name), pg_temp.id(name || ' agent'), now(), 'auto', 'pinned_model',
    'pinned_model', 'general', false, -1, '{}', '[]'
from names;
insert into public.inferences (
    id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
)
select
    pg_temp.id(name || ' attempt'), pg_temp.id(name), pg_temp.id(name || ' decision'), 1, pg_temp.id('candidate'), 'pgtap',
    'pgtap', pg_temp.id('price'), 0
from names;

-- Grants, as the catalogue has them.
select set_eq(
    $$
        select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
    $$,
    'select table_name from tables',
    'this file knows every table and view of public'
);
select table_privs_are('public', table_name, 'anon', '{}'::name [], format('anon is granted nothing on %s', table_name))
from tables;
select table_privs_are(
    'public', table_name, 'authenticated', member::name [], format('a user is granted %s on %s', member, table_name)
)
from tables;
select table_privs_are(
    'public', table_name, 'service_role', backend::name [], format('the backend is granted %s on %s', backend, table_name)
)
from tables;
select table_privs_are(
    'public', table_name, 'clearfloor_writer', writer::name [],
    format('the owner of the writing functions is granted %s on %s', writer, table_name)
)
from tables;
select is_empty(
    $$
        select relname, attname, coalesce(role.rolname, 'PUBLIC') from pg_attribute
        inner join pg_class on pg_class.oid = attrelid and relnamespace = 'public'::regnamespace
        cross join aclexplode(attacl) as acl
        left join pg_roles as role on role.oid = acl.grantee
        where (relname, role.rolname, acl.privilege_type) is distinct from ('api_keys', 'authenticated', 'SELECT')
    $$,
    'single columns are granted to users on api_keys only, and for reading only'
);
select column_privs_are(
    'public', 'api_keys', column_name::name, 'authenticated',
    (case when column_name = 'key_hash' then '{}' else '{SELECT}' end)::name [],
    case
        when column_name = 'key_hash' then 'no user can read the hash of a key'
        else format('a user can read the %s of a key', column_name)
    end
)
from information_schema.columns
where table_schema = 'public' and table_name = 'api_keys' order by ordinal_position;
select is_empty(
    $$
        select relname, privilege_type from pg_class
        cross join aclexplode(relacl) as acl
        where relnamespace = 'public'::regnamespace and grantee = 0
    $$,
    'nothing in public is granted to everybody'
);
select schema_privs_are('private', role, '{}'::name [], format('%s has no way into the schema private', role))
from unnest(array['anon', 'authenticated', 'service_role']) as role;
select results_eq(
    $$
        select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication
        from pg_roles where rolname = 'clearfloor_writer'
    $$,
    'values (false, false, false, false, false)',
    'the owner of the writing functions cannot log in, and is nothing beyond that'
);
select set_eq(
    $$
        select member.rolname::text from pg_auth_members
        inner join pg_roles as member on member.oid = pg_auth_members.member
        where roleid = 'clearfloor_writer'::regrole
    $$,
    $$values ('postgres')$$,
    'nobody but the owner of the schema may become the owner of the writing functions'
);

-- Functions, as the catalogue has them, and as they are called.
select set_eq(
    $$
        select format('%s(%s)', proname, replace(oidvectortypes(proargtypes), ', ', ',')) from pg_proc
        where pronamespace = 'public'::regnamespace
            and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
    $$,
    'select signature from functions',
    'this file knows every function of public'
);
select is(
    array(
        select role from unnest(array['anon', 'authenticated', 'service_role']) as role
        where has_function_privilege(role, 'public.' || signature, 'execute')
    ),
    roles,
    format('only %s is granted %s', array_to_string(roles, ' and '), signature)
)
from functions;
set local role service_role;
select lives_ok('select public.' || call, format('the backend can execute %s', signature))
from functions where call not like '%, 0%';
select throws_ok(
    'select public.' || call, '22023', 'The amount is 0 nano-USD; nothing was changed.',
    format('the backend can execute %s, and it is the amount that is refused', signature)
)
from functions where call like '%, 0%' and signature not like 'renew%';

set local role anon;
select throws_ok(
    'select public.' || call, '42501', format('permission denied for function %s', split_part(signature, '(', 1)),
    format('anon cannot execute %s', signature)
)
from functions;
set local role authenticated;
select throws_ok(
    'select public.' || call, '42501', format('permission denied for function %s', split_part(signature, '(', 1)),
    format('a user cannot execute %s', signature)
)
from functions where not 'authenticated' = any(roles);
select lives_ok('select public.' || call, format('a user can execute %s', signature))
from functions where 'authenticated' = any(roles);
reset role;

-- Which commands get past the grants, tried out. What is tried is undone.
create function pg_temp.permitted(table_name text) returns text [] language plpgsql as $$
declare
    first_column constant text := (
        select attname from pg_attribute where attrelid = format('public.%I', table_name)::regclass and attnum = 1
    );
    command text;
    found_open text[] := '{}';
begin
    foreach command in array array[
        'SELECT from public.%1$I limit 1', 'INSERT into public.%1$I default values',
        'UPDATE public.%1$I set %2$I = default where false', 'DELETE from public.%1$I where false',
        'TRUNCATE public.%1$I cascade'
    ] loop
        begin
            execute format(command, table_name, first_column);
            raise exception 'permitted';
        exception
            when insufficient_privilege then null;
            when others then found_open := found_open || split_part(command, ' ', 1);
        end;
    end loop;
    return found_open;
end
$$;

set local role anon;
select is(pg_temp.permitted(table_name), '{}', format('anon is refused every command on %s', table_name)) from tables;
set local role authenticated;
select is(
    pg_temp.permitted(table_name), case when table_name = 'api_keys' then '{SELECT}' else member end,
    format('a user gets no further on %s than to what it is granted: %s', table_name, member)
)
from tables;
select throws_ok(
    'select key_hash from public.api_keys', '42501', 'permission denied for table api_keys',
    'a user that asks for the hash of a key is refused'
);
set local role service_role;
select is(
    pg_temp.permitted(table_name), backend,
    format('the backend gets no further on %s than to what it is granted: %s', table_name, backend)
)
from tables;
reset role;

-- The policies, with the grants out of the way: whatever a later migration grants by mistake, this is what it opens.
grant select, insert, update, delete on all tables in schema public to anon, authenticated;

-- What a role can do with an organization's rows, with those of others, and with new ones. What is tried is undone.
create function pg_temp.reached(table_name text, tenant_column text, own uuid) returns text [] language plpgsql as $$
declare
    first_column constant text := (
        select attname from pg_attribute where attrelid = format('public.%I', table_name)::regclass and attnum = 1
    );
    is_own constant text := case
        when tenant_column is null then 'false' else format('%I = %L', tenant_column, own)
    end;
    command record;
    touched bigint;
    done text[] := '{}';
begin
    for command in
        select * from (values
            ('reads own', 'select from public.%1$I where %3$s'), ('reads others', 'select from public.%1$I where not %3$s'),
            ('inserts', 'insert into public.%1$I default values'), ('updates', 'update public.%1$I set %2$I = default'),
            ('deletes', 'delete from public.%1$I')
        ) as tried (what, statement)
    loop
        begin
            execute format(command.statement, table_name, first_column, is_own);
            get diagnostics touched = row_count;
            if touched > 0 then
                raise exception 'reached';
            end if;
        exception
            when insufficient_privilege then
                if sqlerrm <> format('new row violates row-level security policy for table "%s"', table_name) then
                    raise;
                end if;
            when others then done := done || command.what;
        end;
    end loop;
    return done;
end
$$;

-- Speaks as a signed-in user from now on, with what its token says.
create function pg_temp.sign_in(app_metadata jsonb, user_metadata jsonb default '{}') returns void language sql as $$
    select set_config('request.jwt.claims', jsonb_build_object(
        'sub', pg_temp.id('acme user'), 'role', 'authenticated', 'aud', 'authenticated', 'is_anonymous', false,
        'app_metadata', app_metadata, 'user_metadata', user_metadata
    )::text, true)
$$;

create function pg_temp.rows_of(table_name text, tenant_column text) returns text language plpgsql as $$
declare
    rows text;
begin
    execute format(
        'select string_agg(kept::text, E''\n'' order by kept::text) from public.%I as kept where %I in (%L, %L)',
        table_name, tenant_column, pg_temp.id('acme'), pg_temp.id('zenith')
    ) into rows;
    return rows;
end
$$;
create temp table before as
select table_name, tenant_column, pg_temp.rows_of(table_name, tenant_column) as rows from tables where tenant_column is not null;

-- Whether a table has rows, of both organizations where they are tenants' own.
create function pg_temp.is_filled(table_name text, tenant_column text) returns boolean language plpgsql as $$
declare
    tenants constant text := format(
        'select count(distinct %1$I) = 2 from public.%2$I where %1$I in (%3$L, %4$L)',
        coalesce(tenant_column, 'none'), table_name, pg_temp.id('acme'), pg_temp.id('zenith')
    );
    filled boolean;
begin
    execute case when tenant_column is null then format('select exists (select from public.%I)', table_name) else tenants end
    into filled;
    return filled;
end
$$;

set local role service_role;
select ok(
    pg_temp.is_filled(table_name, tenant_column),
    format('%s has rows to be kept from others, and the backend sees them', table_name)
)
from tables where 'SELECT' = any(backend);
reset role;
select ok(
    pg_temp.is_filled(table_name, tenant_column),
    format('%s has rows to be kept from others, which not even the backend sees but by its functions', table_name)
)
from tables where backend = '{}';

set local role anon;
select is(
    pg_temp.reached(table_name, tenant_column, pg_temp.id('acme')), '{}',
    format('to anon the policies of %s show and allow nothing', table_name)
)
from tables;

set local role authenticated;
do $$ begin perform pg_temp.sign_in(jsonb_build_object('organization_id', pg_temp.id('acme'), 'role', 'owner')); end $$;
select is(
    pg_temp.reached(table_name, tenant_column, pg_temp.id('acme')),
    case when tenant_column is null then '{}' else array['reads own'] end,
    format('a member of acme reads in %s what is acme''s, and writes nothing', table_name)
)
from tables;

do $$ begin perform pg_temp.sign_in(jsonb_build_object('organization_id', pg_temp.id('zenith'), 'role', 'owner')); end $$;
select is(
    pg_temp.reached(table_name, tenant_column, pg_temp.id('zenith')), array['reads own'],
    format('a member of zenith reads in %s what is zenith''s, and nothing of acme''s', table_name)
)
from tables where tenant_column is not null;

create function pg_temp.tables_with_rows() returns setof text language sql as $$
    select table_name from tables where pg_temp.reached(table_name, tenant_column, pg_temp.id('acme')) <> '{}'
$$;
do $$ begin perform pg_temp.sign_in('{}'); end $$;
select is_empty('select pg_temp.tables_with_rows()', 'a user without an organization sees and changes nothing anywhere');
do $$ begin perform pg_temp.sign_in('{"organization_id": ""}'); end $$;
select is_empty('select pg_temp.tables_with_rows()', 'a user with an empty organization sees and changes nothing anywhere');
do $$ begin perform pg_temp.sign_in('{"organization_id": null}'); end $$;
select is_empty('select pg_temp.tables_with_rows()', 'a user whose organization is null sees and changes nothing anywhere');
do $$ begin perform pg_temp.sign_in('{}', jsonb_build_object('organization_id', pg_temp.id('acme'))); end $$;
select is_empty(
    'select pg_temp.tables_with_rows()', 'an organization that a user wrote into its own metadata opens nothing anywhere'
);
do $$ begin perform set_config('request.jwt.claims', '', true); end $$;
select is_empty('select pg_temp.tables_with_rows()', 'a user without a token sees and changes nothing anywhere');

reset role;
select is(pg_temp.rows_of(table_name, tenant_column), rows, format('after all of this %s is as it was', table_name)) from before;

select * from finish();
rollback;
