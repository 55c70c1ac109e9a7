-- How money is held, settled and topped up. Private: the record's functions call these, inside their transactions.
--
-- The one rule of concurrency: whoever changes a wallet, a counter or the money of a decision first locks the wallet
-- rows of the organizations concerned, in the order of their ids (private.lock_wallets), and takes the moment it writes
-- after that. Every later statement of the function then sees what is committed, and nobody changes it meanwhile.
--
-- All in PL/pgSQL, which keeps its plans: an SQL function that cannot be inlined (none can that sets its search_path) is
-- planned anew at each call, and opening a decision took 2.7 ms instead of 1.1.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- How a decision moves money: what it holds more (or less), and what it is charged.
create type private.movement as (
    decision_id uuid,
    organization_id uuid,
    agent_id uuid,
    opened_at timestamptz,
    held_nano_usd bigint,
    charged_nano_usd bigint
);

create type private.refusal as (
    decision_id uuid,
    organization_id uuid,
    outcome_status text,
    detail jsonb
);

-- The UTC windows that a moment lies in, one of each kind.
create function private.windows(moment timestamptz)
returns table (window_kind text, window_start timestamptz, window_end timestamptz)
language plpgsql immutable rows 4 set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select
            unit.kind, date_trunc(unit.kind, moment at time zone 'UTC') at time zone 'UTC',
            (date_trunc(unit.kind, moment at time zone 'UTC') + unit.length) at time zone 'UTC'
        from (values ('hour', interval '1 hour'), ('day', interval '1 day'), ('month', interval '1 month')) as unit (kind, length)
        union all
        select 'lifetime', '-infinity', null;
end
$$;

create function private.lock_wallets(organizations uuid []) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    -- NO KEY: inserts that reference the organization are not held up.
    perform from public.wallets
    where organization_id = any(organizations)
    order by organization_id
    for no key update;
end
$$;

-- What movements add to each counter: those of every cap on the organization or the agent, in the window in which the
-- decision was opened. A movement of nothing concerns none.
create function private.counted(movements private.movement [])
returns table (
    spend_cap_id uuid, window_start timestamptz, window_end timestamptz, organization_id uuid, held_nano_usd bigint,
    charged_nano_usd bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    -- Each moment's windows once: a batch has one moment, or a few.
    return query
        with moments as materialized (
            select moment.opened_at, slice.*
            from (
                select distinct movement.opened_at
                from unnest(movements) as movement
                where movement.organization_id in (select cap.organization_id from public.spend_caps as cap)
            ) as moment
            cross join lateral private.windows(moment.opened_at) as slice
        )

        select
            cap.id, moments.window_start, moments.window_end, cap.organization_id,
            sum(movement.held_nano_usd)::bigint, sum(movement.charged_nano_usd)::bigint
        from unnest(movements) as movement
        inner join moments on movement.opened_at = moments.opened_at
        inner join public.spend_caps as cap
            on movement.organization_id = cap.organization_id
            and (cap.agent_id is null or cap.agent_id = movement.agent_id)
            and cap.window_kind = moments.window_kind
        where movement.held_nano_usd <> 0 or movement.charged_nano_usd <> 0
        group by cap.id, moments.window_start, moments.window_end;
end
$$;

-- The one function that changes wallets and counters. The caller holds the wallets' locks, so that a counter cannot
-- appear between the look and the insert.
create function private.move(movements private.movement []) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    update public.wallets as wallet
    set
        held_nano_usd = wallet.held_nano_usd + total.held_nano_usd,
        balance_nano_usd = wallet.balance_nano_usd - total.charged_nano_usd
    from (
        select
            movement.organization_id, sum(movement.held_nano_usd) as held_nano_usd,
            sum(movement.charged_nano_usd) as charged_nano_usd
        from unnest(movements) as movement
        where movement.held_nano_usd <> 0 or movement.charged_nano_usd <> 0
        group by movement.organization_id
    ) as total
    where wallet.organization_id = total.organization_id;

    merge into public.spend_counters as counter
    using private.counted(movements) as counted
    on counter.spend_cap_id = counted.spend_cap_id and counter.window_start = counted.window_start
    when matched then update set
        held_nano_usd = counter.held_nano_usd + counted.held_nano_usd,
        charged_nano_usd = counter.charged_nano_usd + counted.charged_nano_usd
    when not matched then
        insert (spend_cap_id, window_start, organization_id, held_nano_usd, charged_nano_usd)
        values (
            counted.spend_cap_id, counted.window_start, counted.organization_id, counted.held_nano_usd,
            counted.charged_nano_usd
        );
end
$$;

-- Which organizations cannot take all of these holds together, with what the caller needs to know. A hold of nothing
-- fits everywhere: a free model works at zero balance and past a cap.
create function private.shortfalls(holds private.movement [])
returns table (organization_id uuid, outcome_status text, detail jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
        select counted.organization_id, 'rejected_cap' as outcome_status, jsonb_build_object(
            'spend_cap_id', cap.id, 'window', cap.window_kind,
            'scope', case when cap.agent_id is null then 'organization' else 'agent' end,
            'cap_nano_usd', cap.limit_nano_usd, 'spent_nano_usd', coalesce(counter.charged_nano_usd, 0),
            'held_nano_usd', coalesce(counter.held_nano_usd, 0), 'needed_nano_usd', counted.held_nano_usd,
            'resets_at', counted.window_end
        ) as detail
        from private.counted(holds) as counted
        inner join public.spend_caps as cap on counted.spend_cap_id = cap.id
        left join public.spend_counters as counter
            on counted.spend_cap_id = counter.spend_cap_id and counted.window_start = counter.window_start
        where cap.limit_nano_usd - coalesce(counter.held_nano_usd + counter.charged_nano_usd, 0) < counted.held_nano_usd
        union all
        select needed.organization_id, 'rejected_funds', jsonb_build_object(
            'balance_nano_usd', coalesce(wallet.balance_nano_usd, 0), 'held_nano_usd', coalesce(wallet.held_nano_usd, 0),
            'needed_nano_usd', needed.held_nano_usd
        )
        from (
            select hold.organization_id, sum(hold.held_nano_usd)::bigint as held_nano_usd
            from unnest(holds) as hold
            where hold.held_nano_usd > 0
            group by hold.organization_id
        ) as needed
        left join public.wallets as wallet on needed.organization_id = wallet.organization_id
        where coalesce(wallet.balance_nano_usd - wallet.held_nano_usd, 0) < needed.held_nano_usd;
end
$$;

-- Takes the holds that fit, in the order of the decisions' ids (which is that of time), and returns the refusals. The
-- caller holds the wallets' locks.
--
-- Two paths with one outcome. Where the whole batch fits an organization's wallet and caps, it is taken in one step;
-- only near a limit are that organization's holds tried one by one, so that a small one behind a large one still fits.
create function private.take_holds(holds private.movement []) returns setof private.refusal
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    tight constant uuid[] := array(select distinct shortfall.organization_id from private.shortfalls(holds) as shortfall);
    hold private.movement;
begin
    perform private.move(array(select item from unnest(holds) as item where item.organization_id <> all(tight)));
    for hold in
        select * from unnest(holds) as item where item.organization_id = any(tight) order by item.decision_id
    loop
        -- A cap before the wallet: topping up would not help. Of caps the one that stands in the way for longest.
        return query
            select hold.decision_id, shortfall.* from private.shortfalls(array[hold]) as shortfall
            order by
                shortfall.outcome_status, shortfall.detail ->> 'resets_at' desc nulls first,
                shortfall.detail ->> 'spend_cap_id'
            limit 1;
        if not found then
            perform private.move(array[hold]);
        end if;
    end loop;
end
$$;

-- The tokens of a call, in disjoint classes.
create type private.tokens as (
    input bigint,
    cache_read bigint,
    cache_write bigint,
    cache_write_1h bigint,
    output bigint,
    reasoning bigint
);

-- What tokens cost at a price version, in nano-USD, rounded up once.
create function private.cost_nano_usd(tiers public.price_tier [], used private.tokens) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    input_in_all constant bigint := used.input + used.cache_read + used.cache_write + used.cache_write_1h;
    applied public.price_tier;
begin
    select * into applied from unnest(tiers) as tier
    where tier.above_input_tokens < greatest(input_in_all, 1)
    order by tier.above_input_tokens desc
    limit 1;
    -- Not ceil(a / b): a numeric quotient has some 16 digits, and the last of a large amount were lost.
    return div(
        used.input::numeric * applied.input_nano_usd_per_mtok
        + used.cache_read::numeric * applied.cache_read_nano_usd_per_mtok
        + used.cache_write::numeric * applied.cache_write_nano_usd_per_mtok
        + used.cache_write_1h::numeric * applied.cache_write_1h_nano_usd_per_mtok
        + used.output::numeric * applied.output_nano_usd_per_mtok
        + used.reasoning::numeric * applied.reasoning_nano_usd_per_mtok
        + 999999,
        1000000
    )::bigint;
end
$$;

-- Puts funds into a wallet, once per entry id. Returns the balance.
create function public.top_up_wallet(entry_id uuid, organization_id uuid, amount_nano_usd bigint, note text default '')
returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
    organization constant uuid := top_up_wallet.organization_id;
    amount constant bigint := top_up_wallet.amount_nano_usd;
begin
    perform private.lock_wallets(array[organization]);
    insert into public.ledger_entries (
        id, organization_id, kind, debit_account, credit_account, amount_nano_usd, note
    )
    values (entry_id, organization, 'top_up', 'funding', 'wallet', amount, top_up_wallet.note)
    on conflict (id, kind) do nothing;
    if found then
        update public.wallets set balance_nano_usd = balance_nano_usd + amount where organization_id = organization;
    elsif not exists (
        select from public.ledger_entries as entry
        where entry.id = entry_id and entry.kind = 'top_up' and entry.organization_id = organization
            and entry.amount_nano_usd = amount
    ) then
        raise exception 'The entry id % is taken by another top-up; nothing was added.', entry_id
        using errcode = 'unique_violation', hint = 'An entry id stands for one top-up: use a new one.';
    end if;
    return (select balance_nano_usd from public.wallets where organization_id = organization);
end
$$;

comment on function public.top_up_wallet is
'Adds prepaid funds, nano-USD; idempotent by entry_id. Returns the wallet''s balance.';

-- Sets, changes or (limit null) removes a cap; returns its id. A new cap counts what its window has already spent, by the
-- ledger, which retention leaves alone, and holds, by the decisions that are open.
create function public.set_spend_cap(cap_id uuid, organization_id uuid, agent_id uuid, window_kind text, limit_nano_usd bigint)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
    organization constant uuid := set_spend_cap.organization_id;
    scope_agent constant uuid := set_spend_cap.agent_id;
    kind constant text := set_spend_cap.window_kind;
    most constant bigint := set_spend_cap.limit_nano_usd;
    known uuid;
begin
    if not exists (select from private.windows(now()) as slice where slice.window_kind = kind) then
        raise exception 'There is no window `%`; no cap was changed.', kind
        using errcode = 'invalid_parameter_value', hint = 'hour, day, month or lifetime.';
    end if;
    perform private.lock_wallets(array[organization]);
    select id into known from public.spend_caps
    where organization_id = organization and agent_id is not distinct from scope_agent and window_kind = kind;
    if most is null then
        delete from public.spend_caps where id = known;
        return known;
    end if;
    if known is not null then
        update public.spend_caps set limit_nano_usd = most where id = known;
        return known;
    end if;
    insert into public.spend_caps (id, organization_id, agent_id, window_kind, limit_nano_usd)
    values (cap_id, organization, scope_agent, kind, most);

    -- The windows of now and of the decisions that are still open: one opened before midnight may settle after it.
    insert into public.spend_counters (spend_cap_id, window_start, organization_id, held_nano_usd, charged_nano_usd)
    with moments as (
        select clock_timestamp() as opened_at
        union
        select opened_at from public.routing_outcomes where organization_id = organization and outcome_status is null
    ),
    slices as (
        select distinct slice.* from moments cross join lateral private.windows(moments.opened_at) as slice
        where slice.window_kind = kind
    ),
    amounts as (
        select opened_at, reserved_nano_usd as held, 0 as charged
        from public.routing_outcomes
        where organization_id = organization and outcome_status is null
            and agent_id = coalesce(scope_agent, agent_id)
        union all
        select opened_at, 0, amount_nano_usd
        from public.ledger_entries
        where organization_id = organization and kind = 'settlement'
            and agent_id = coalesce(scope_agent, agent_id)
            -- An entry is written after its decision was opened: what is older than the oldest window cannot count.
            and created_at >= (select min(window_start) from slices)
    )
    select cap_id, slices.window_start, organization, sum(amounts.held), sum(amounts.charged)
    from slices
    inner join amounts
        on amounts.opened_at >= slices.window_start and amounts.opened_at < coalesce(slices.window_end, 'infinity')
    group by slices.window_start;
    return cap_id;
end
$$;

comment on function public.set_spend_cap is
'Sets the cap of a scope (agent_id null: the organization) and UTC window, nano-USD; null removes it. Returns its id.';

grant execute on function public.top_up_wallet(uuid, uuid, bigint, text) to service_role;
grant execute on function public.set_spend_cap(uuid, uuid, uuid, text, bigint) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
