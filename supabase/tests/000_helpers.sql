-- What the other files share: two organizations, a catalogue, a row in every table; actors by their names; what the backend
-- sends of a call, and what the record says of it; and what an actor may do with a table. It is kept in the schema
-- `clearfloor_tests`, which zzz_drop_helpers.sql drops at the end of a run. One file alone:
-- `supabase test db supabase/tests/000_helpers.sql supabase/tests/tables/test_wallets.sql`.
begin;
select plan(1);
set local client_min_messages = warning;
-- The tables and functions that these bodies name may not be there yet.
set local check_function_bodies = off;

drop schema if exists clearfloor_tests cascade;
create schema clearfloor_tests;
grant usage on schema clearfloor_tests to public;

-- Ids are hashes of names: the same in every run, and nobody else's.
create function clearfloor_tests.id(name text) returns uuid language sql immutable set search_path = pg_catalog, pg_temp as $$
    select md5('clearfloor pgtap ' || name)::uuid
$$;

-- Users, each with the claims of its token, as Supabase Auth writes them.
create table clearfloor_tests.users (name text primary key, claims jsonb);
grant select on clearfloor_tests.users to public;

create function clearfloor_tests.claims(
    name text, app_metadata jsonb default '{}', is_anonymous boolean default false, user_metadata jsonb default '{}'
) returns jsonb language sql immutable set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'sub', clearfloor_tests.id(name), 'role', 'authenticated', 'aud', 'authenticated', 'is_anonymous', is_anonymous,
        'app_metadata', app_metadata, 'user_metadata', user_metadata
    )
$$;

create function clearfloor_tests.speaks_for(organization text, role text) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object('organization_id', clearfloor_tests.id(organization), 'role', role)
$$;

insert into clearfloor_tests.users
select name, clearfloor_tests.claims(name, app_metadata, is_anonymous)
from (values
    ('member of acme', clearfloor_tests.speaks_for('acme', 'member'), false),
    ('owner of acme', clearfloor_tests.speaks_for('acme', 'owner'), false),
    ('member of zenith', clearfloor_tests.speaks_for('zenith', 'member'), false),
    ('user of no organization', '{}', false),
    ('anonymous user', '{}', true),
    ('anonymous user of acme', clearfloor_tests.speaks_for('acme', 'owner'), true)
) as actors (name, app_metadata, is_anonymous);

-- Speaks from now on as a user by its name above, or as a role by its own: until `reset role`.
create procedure clearfloor_tests.authenticate_as(actor text) language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    known clearfloor_tests.users;
begin
    select * from clearfloor_tests.users where name = actor into known;
    if known is null then
        known.claims := jsonb_build_object('role', actor);
    end if;
    perform set_config('request.jwt.claims', coalesce(known.claims::text, ''), true);
    perform set_config('role', case when known.name is null then actor else 'authenticated' end, true);
end
$$;

-- Two organizations with their members. Each has an agent with its key, acme a second one.
create procedure clearfloor_tests.create_organizations() language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    agent text;
    organization text;
begin
    insert into auth.users (id, email)
    select clearfloor_tests.id(users.name), replace(users.name, ' ', '.') || '@pgtap.example' from clearfloor_tests.users;
    insert into public.organizations (id, name)
    select clearfloor_tests.id(name), name from unnest(array['acme', 'zenith']) as name;
    insert into public.organization_members (organization_id, user_id, role) values
    (clearfloor_tests.id('acme'), clearfloor_tests.id('member of acme'), 'member'),
    (clearfloor_tests.id('acme'), clearfloor_tests.id('owner of acme'), 'owner'),
    (clearfloor_tests.id('zenith'), clearfloor_tests.id('member of zenith'), 'member');
    for agent, organization in values ('acme', 'acme'), ('second', 'acme'), ('zenith', 'zenith') loop
        insert into public.agents (id, organization_id, name)
        values (clearfloor_tests.id(agent || ' agent'), clearfloor_tests.id(organization), agent);
        insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash) values (
            clearfloor_tests.id(agent || ' key'), clearfloor_tests.id(organization), clearfloor_tests.id(agent || ' agent'),
            agent, 'cf_', sha256(agent::bytea)
        );
    end loop;
end
$$;

-- One candidate. Nano-USD a token: input 1, cache read 0.1, cache write 2, output 3, reasoning 5.
create procedure clearfloor_tests.create_catalogue() language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into public.providers (name, base_url) values ('pgtap', 'http://pgtap.example/v1');
    insert into public.models (name) values ('pgtap');
    insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens)
    values (clearfloor_tests.id('candidate'), 'pgtap', 'pgtap', 'pgtap', 1000, 1000);
    insert into public.prices values (
        clearfloor_tests.id('price'), clearfloor_tests.id('candidate'), now(),
        array[(0, 1000000, 100000, 2000000, 4000000, 3000000, 5000000)::public.price_tier], 'pgtap'
    );
    insert into public.catalogue_snapshots (version, digest, content) overriding system value values (-1, 'pgtap', '[]');
end
$$;

-- Both, and a row in every other table. A new table gets its rows here.
create procedure clearfloor_tests.create_world() language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    name text;
begin
    call clearfloor_tests.create_organizations();
    call clearfloor_tests.create_catalogue();
    insert into public.model_qualities values ('pgtap', 'general', 1, 'pgtap', '2026-01-01');
    insert into public.candidate_cooldowns values (clearfloor_tests.id('candidate'), now(), 'pgtap');
    insert into public.quality_sums values ('pgtap', 'general', 0, 0, now());
    insert into public.rate_snapshots (digest, prior_strength, content) values ('pgtap', 12, '{}');
    foreach name in array array['acme', 'zenith'] loop
        insert into public.spend_caps (id, organization_id, window_kind, limit_nano_usd)
        values (clearfloor_tests.id(name || ' cap'), clearfloor_tests.id(name), 'day', 1);
        insert into public.spend_counters (spend_cap_id, window_start, organization_id)
        values (clearfloor_tests.id(name || ' cap'), now(), clearfloor_tests.id(name));
        insert into public.rate_limits (id, organization_id, requests_per_minute)
        values (clearfloor_tests.id(name || ' limit'), clearfloor_tests.id(name), 1);
        insert into public.ledger_entries (id, organization_id, kind, debit_account, credit_account, amount_nano_usd)
        values (clearfloor_tests.id(name || ' entry'), clearfloor_tests.id(name), 'top_up', 'funding', 'wallet', 1);
        insert into public.usage_hours (organization_id, hour, agent_id, outcome_status, task, decisions) values (
            clearfloor_tests.id(name), date_trunc('hour', now()), clearfloor_tests.id(name || ' agent'), 'succeeded', 'general', 1
        );
        insert into public.idempotency_keys
        values (clearfloor_tests.id(name || ' agent'), 'key', clearfloor_tests.id(name), sha256('body'), clearfloor_tests.id(name || ' decision'), now());
        insert into public.stored_answers values (clearfloor_tests.id(name || ' decision'), clearfloor_tests.id(name), 'sealed', now());
        insert into public.routing_outcomes (
            id, organization_id, agent_id, lease_expires_at, requested_model, requested_rule, decision_rule, task, stream,
            catalogue_version, routing_request, candidates
        ) values (
            clearfloor_tests.id(name || ' decision'), clearfloor_tests.id(name), clearfloor_tests.id(name || ' agent'), now(), 'auto', 'pinned_model',
            'pinned_model', 'general', false, -1, '{}', '[]'
        );
        insert into public.inferences (
            id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
        ) values (
            clearfloor_tests.id(name || ' attempt'), clearfloor_tests.id(name), clearfloor_tests.id(name || ' decision'), 1, clearfloor_tests.id('candidate'), 'pgtap',
            'pgtap', clearfloor_tests.id('price'), 0
        );
        insert into public.feedback (routing_outcome_id, source, organization_id, agent_id, model, task, score, api_key_id)
        values (
            clearfloor_tests.id(name || ' decision'), 'agent', clearfloor_tests.id(name), clearfloor_tests.id(name || ' agent'), 'pgtap', 'general', 1,
            clearfloor_tests.id(name || ' key')
        );
    end loop;
end
$$;

-- What the backend sends to open an agent's decision, reserving 100, unless `changes` says otherwise.
create function clearfloor_tests.opening(name text, changes jsonb default '{}', agent text default 'acme') returns jsonb
language sql set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'id', clearfloor_tests.id(name),
        'organization_id', (select organization_id from public.agents where id = clearfloor_tests.id(agent || ' agent')),
        'agent_id', clearfloor_tests.id(agent || ' agent'), 'api_key_id', clearfloor_tests.id(agent || ' key'),
        'requested_model', 'auto', 'requested_rule', 'cheapest_clearing_floor', 'floor', 0.7, 'task', 'general',
        'stream', false, 'catalogue_version', -1, 'routing_request', '{}'::jsonb, 'candidates', '[]'::jsonb,
        'lease_seconds', 60, 'inference_id', clearfloor_tests.id(name || ' attempt 1'),
        'candidate_id', clearfloor_tests.id('candidate'), 'price_id', clearfloor_tests.id('price'), 'bound_nano_usd', 100
    ) || changes
$$;

-- Opens decisions in one call; returns how each was answered: null is open.
create function clearfloor_tests.open(variadic items jsonb []) returns text []
language sql set search_path = pg_catalog, pg_temp as $$
    select array_agg(coalesce(answer ->> 'error', answer ->> 'outcome_status') order by place)
    from jsonb_array_elements(public.insert_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- What the backend says of an attempt: it failed with a 500 after 10 input tokens, unless `changes` says otherwise.
create function clearfloor_tests.result(attempt text, changes jsonb default '{}') returns jsonb
language sql set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'inference_id', clearfloor_tests.id(attempt), 'status', 'failed', 'http_calls', 1, 'http_status', 500,
        'error_class', 'server_error', 'input_tokens', 10, 'usage_source', 'provider',
        'usage_convention', 'openai', 'reported_usage', '{"prompt_tokens": 10}'::jsonb
    ) || changes
$$;

-- What changes if it was never sent.
create function clearfloor_tests.not_sent() returns jsonb language sql set search_path = pg_catalog, pg_temp as $$
    select '{"status": "not_sent", "http_calls": 0, "http_status": null, "input_tokens": 0, "usage_source": "none",
        "usage_convention": null, "reported_usage": null}'::jsonb
$$;

-- What the backend sends to go on to the attempt `number`, after the one before ended as `previous` says.
create function clearfloor_tests.next_attempt(
    decision text, number integer, bound bigint, previous jsonb default '{}', changes jsonb default '{}'
) returns jsonb language sql set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'decision_id', clearfloor_tests.id(decision), 'organization_id', clearfloor_tests.id('acme'), 'lease_seconds', 60,
        'inference_id', clearfloor_tests.id(format('%s attempt %s', decision, number)),
        'candidate_id', clearfloor_tests.id('candidate'), 'price_id', clearfloor_tests.id('price'), 'bound_nano_usd', bound,
        'previous', clearfloor_tests.result(format('%s attempt %s', decision, number - 1), previous)
    ) || changes
$$;

-- Goes on in one call; returns how each was answered: whether the attempt is open, and what became of the decision.
create function clearfloor_tests.go_on(variadic items jsonb []) returns text []
language sql set search_path = pg_catalog, pg_temp as $$
    select array_agg(concat_ws(' ', answer ->> 'opened', answer ->> 'outcome_status', answer ->> 'error') order by place)
    from jsonb_array_elements(public.insert_attempts(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- What the backend sends to complete a decision whose attempt answered, at a cost of 10 + 2 * 3 = 16.
create function clearfloor_tests.completion(
    name text, changes jsonb default '{}', result jsonb default '{}', number integer default 1
) returns jsonb language sql set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'id', clearfloor_tests.id(name), 'organization_id', clearfloor_tests.id('acme'), 'outcome_status', 'succeeded',
        'decision_rule_override', null, 'attempt', clearfloor_tests.result(
            format('%s attempt %s', name, number),
            '{"status": "succeeded", "http_status": 200, "error_class": null, "output_tokens": 2}'::jsonb || result
        )
    ) || changes
$$;

-- Completes in one call; returns how each was answered.
create function clearfloor_tests.complete(variadic items jsonb []) returns text []
language sql set search_path = pg_catalog, pg_temp as $$
    select array_agg(
        concat_ws(
            ' ', answer ->> 'outcome_status', 'by', answer ->> 'decision_rule', 'for', answer ->> 'charge_nano_usd',
            answer ->> 'error'
        )
        order by place
    )
    from jsonb_array_elements(public.complete_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- Completes a decision at a cost, nano-USD; returns its outcome.
create function clearfloor_tests.complete_at(name text, cost bigint) returns text
language sql set search_path = pg_catalog, pg_temp as $$
    select public.complete_decisions(jsonb_build_array(clearfloor_tests.completion(
        name, result => jsonb_build_object('input_tokens', cost, 'output_tokens', 0)
    ))) -> 0 ->> 'outcome_status'
$$;

-- One value of a decision or of an attempt, as text.
create function clearfloor_tests.decision(name text, field text) returns text
language sql set search_path = pg_catalog, pg_temp as $$
    select to_jsonb(decision) ->> field from public.routing_outcomes as decision where decision.id = clearfloor_tests.id(name)
$$;
create function clearfloor_tests.attempt(name text, field text) returns text
language sql set search_path = pg_catalog, pg_temp as $$
    select to_jsonb(attempt) ->> field from public.inferences as attempt where attempt.id = clearfloor_tests.id(name)
$$;

-- What an organization's wallet has.
create function clearfloor_tests.wallet(organization text) returns text
language sql set search_path = pg_catalog, pg_temp as $$
    select format('%s of which %s held', balance_nano_usd, held_nano_usd)
    from public.wallets where organization_id = clearfloor_tests.id(organization)
$$;

-- What the invariants find in both organizations: nothing, where all is right.
create function clearfloor_tests.wrong_books() returns setof text language sql set search_path = pg_catalog, pg_temp as $$
    select concat_ws(' ', invariant, subject_id, detail) from public.gateway_invariants()
    where organization_id in (clearfloor_tests.id('acme'), clearfloor_tests.id('zenith'))
$$;

create function clearfloor_tests.columns_of(table_name text) returns setof pg_attribute
language sql stable set search_path = pg_catalog, pg_temp as $$
    select * from pg_attribute
    where attrelid = format('public.%I', table_name)::regclass and attnum > 0 and not attisdropped
    order by attnum
$$;

-- What a role is granted on a table, by itself or through others: `nothing`, or commands, with columns where it is not all.
create function clearfloor_tests.granted(table_name text, role text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(string_agg(lower(command) || scope, ', ' order by command <> 'SELECT', place), 'nothing')
    from aclexplode(acldefault('r', 'postgres'::regrole)) with ordinality as acl (grantor, grantee, command, grantable, place)
    cross join lateral (
        select case
            when has_table_privilege(role, 'public.' || table_name, command) then ''
            when command in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') then (
                select format(' (%s)', string_agg(attname, ', ')) from clearfloor_tests.columns_of(table_name)
                where has_column_privilege(role, attrelid, attnum, command) having count(*) > 0
            )
        end as scope
    ) as granted
    where scope is not null
$$;

-- The commands that a role gets past its grants with, tried out. What is tried is undone.
create function clearfloor_tests.permitted(table_name text, role text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    updatable constant text := (
        select attname from clearfloor_tests.columns_of(table_name)
        order by has_column_privilege(role, attrelid, attnum, 'UPDATE') desc, attnum limit 1
    );
    command text;
    found_open text [];
begin
    foreach command in array array[
        'select from public.%1$I limit 1', 'insert into public.%1$I default values',
        'update public.%1$I set %2$I = default where false', 'delete from public.%1$I where false',
        'truncate public.%1$I'
    ] loop
        begin
            call clearfloor_tests.authenticate_as(role);
            execute format(command, table_name, updatable);
            raise exception 'permitted';
        exception when others then
            if sqlerrm <> format('permission denied for table %s', table_name) then
                found_open := found_open || split_part(command, ' ', 1);
            end if;
        end;
    end loop;
    return coalesce(array_to_string(found_open, ', '), 'nothing');
end
$$;

create function clearfloor_tests.grants_are(table_name text, role text, commands text) returns setof text
language sql set search_path = pg_catalog, extensions, pg_temp as $$
    select is(clearfloor_tests.granted(table_name, role), commands, format('%s is granted %s on %s', role, commands, table_name))
    union all
    select is(
        clearfloor_tests.permitted(table_name, role), regexp_replace(commands, ' \(.*?\)', '', 'g'),
        format('%s tries every command on %s, and gets no further', role, table_name)
    )
$$;

-- Whose rows a command has come to: an organization's, or the operator's (null).
create table clearfloor_tests.touched (owner uuid);
grant select, insert on clearfloor_tests.touched to public;

-- The expression for whose a row is.
create function clearfloor_tests.owner_of(table_name text) returns text language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(
        (
            select attname from clearfloor_tests.columns_of(table_name)
            where attname = case table_name when 'organizations' then 'id' else 'organization_id' end
        ),
        'null::uuid'
    )
$$;

-- Notes a row that an UPDATE or DELETE has come to, and leaves it as it is.
create function clearfloor_tests.touch() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into clearfloor_tests.touched values ((to_jsonb(old) ->> tg_argv[0])::uuid);
    return null;
end
$$;

-- A row of each owner, to be inserted again.
create function clearfloor_tests.copies(table_name text) returns jsonb [] language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    owners constant integer := case clearfloor_tests.owner_of(table_name) when 'null::uuid' then 1 else 2 end;
    copies jsonb [];
begin
    execute format(
        'select array_agg(copy) from (select distinct on (%1$s) to_jsonb(kept) as copy from public.%2$I as kept '
        'where %1$s is null or %1$s in (clearfloor_tests.id(''acme''), clearfloor_tests.id(''zenith''))) as kept',
        clearfloor_tests.owner_of(table_name), table_name
    ) into copies;
    if cardinality(copies) is distinct from owners then
        raise exception 'There is nothing in % to be kept from others.', table_name
        using hint = 'Add a row of acme and one of zenith to clearfloor_tests.create_world().';
    end if;
    return copies;
end
$$;

-- A copy that is not kept from the table by a policy has come to it, whatever a constraint says then.
create function clearfloor_tests.insert_copy(table_name text, copy jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    columns constant text := (
        select string_agg(quote_ident(attname), ', ') from clearfloor_tests.columns_of(table_name)
        where attgenerated = '' and attidentity <> 'a'
    );
    record constant text := format('jsonb_populate_record(null::public.%I, $1)', table_name);
begin
    begin
        execute format('insert into public.%1$I (%2$s) select %2$s from %3$s', table_name, columns, record) using copy;
    exception
        when insufficient_privilege then
            if sqlerrm <> format('new row violates row-level security policy for table "%s"', table_name) then
                raise;
            end if;
            return;
        when others then null;
    end;
    execute format('insert into clearfloor_tests.touched select %s from %s', clearfloor_tests.owner_of(table_name), record) using copy;
end
$$;

-- Whose rows an actor's command comes to: `none`, `acme`, `zenith`, `all` or `others`; `refused` is a missing grant.
-- anon and users are granted every command first, so that the policies stand alone: whatever a later migration grants by
-- mistake, this is what it opens. service_role is above policies, and has the grants that it has. All of it is undone.
create function clearfloor_tests.reached(table_name text, actor text, command text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    first_column constant text := (select attname from clearfloor_tests.columns_of(table_name) limit 1);
    copies constant jsonb [] := clearfloor_tests.copies(table_name);
    owners uuid [];
begin
    execute format('grant select, insert, update, delete on public.%I to anon, authenticated', table_name);
    execute format(
        'create trigger "000_touch" before update or delete on public.%I for each row execute function clearfloor_tests.touch(%L)',
        table_name, clearfloor_tests.owner_of(table_name)
    );
    call clearfloor_tests.authenticate_as(actor);
    case command
        when 'select' then
            execute format('insert into clearfloor_tests.touched select %s from public.%I', clearfloor_tests.owner_of(table_name), table_name);
        when 'insert' then perform clearfloor_tests.insert_copy(table_name, copy) from unnest(copies) as copy;
        -- Neither reads a column, so that no policy for reading hides a row from them.
        when 'update' then execute format('update public.%I set %I = default', table_name, first_column);
        when 'delete' then execute format('delete from public.%I', table_name);
    end case;
    owners := array(select distinct owner from clearfloor_tests.touched);
    raise exception 'undone' using errcode = 'UNDO0';
exception
    when sqlstate 'UNDO0' then
        return case
            when owners = '{}' then 'none'
            when owners = array[null::uuid] or owners @> array[clearfloor_tests.id('acme'), clearfloor_tests.id('zenith')] then 'all'
            when owners = array[clearfloor_tests.id('acme')] then 'acme'
            when owners = array[clearfloor_tests.id('zenith')] then 'zenith'
            else 'others'
        end;
    when insufficient_privilege then
        if sqlerrm <> format('permission denied for table %s', table_name) then
            raise;
        end if;
        return 'refused';
end
$$;

create function clearfloor_tests.access_of(table_name text, actor text) returns text
language sql set search_path = pg_catalog, pg_temp as $$
    select format(
        'selects %s, inserts %s, updates %s, deletes %s', clearfloor_tests.reached(table_name, actor, 'select'),
        clearfloor_tests.reached(table_name, actor, 'insert'), clearfloor_tests.reached(table_name, actor, 'update'),
        clearfloor_tests.reached(table_name, actor, 'delete')
    )
$$;

create function clearfloor_tests.access_is(table_name text, actor text, selects text, inserts text, updates text, deletes text)
returns text language sql set search_path = pg_catalog, extensions, pg_temp as $$
    select is(clearfloor_tests.access_of(table_name, actor), access, format('%s in %s: %s', actor, table_name, access))
    from format('selects %s, inserts %s, updates %s, deletes %s', selects, inserts, updates, deletes) as access
$$;

select has_schema('clearfloor_tests', 'the helpers are there');
select * from finish();
commit;
