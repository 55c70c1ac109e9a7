-- How money is held, settled, topped up, refunded and corrected. Private: the record's functions call these, inside their transactions.
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

-- How a decision moves money, and what it takes from the rate limits: what it holds more (or less), what it is charged
-- (or given back), how many requests and tokens it takes (or returns). A hold may make do with
-- `least_held_nano_usd`; null: with nothing less.
create type private.movement as (
    decision_id uuid,
    organization_id uuid,
    agent_id uuid,
    opened_at timestamptz,
    held_nano_usd bigint,
    least_held_nano_usd bigint,
    charged_nano_usd bigint,
    requests bigint,
    tokens bigint
);

-- What became of a hold: outcome_status null: taken, as much as held_nano_usd; else refused, with what the caller needs to
-- know.
create type private.verdict as (
    decision_id uuid,
    held_nano_usd bigint,
    outcome_status text,
    detail jsonb
);

-- A counter, and what movements add to it.
create type private.count as (
    spend_cap_id uuid,
    window_start timestamptz,
    organization_id uuid,
    held_nano_usd bigint,
    charged_nano_usd bigint
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
-- decision was opened, if that had not ended before the cap was set. A movement of nothing, or of no decision, concerns none.
create function private.counted(movements private.movement []) returns private.count []
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return array(
        select (
            cap.id, slice.window_start, cap.organization_id, sum(movement.held_nano_usd), sum(movement.charged_nano_usd)
        )::private.count
        from (
            select
                item.organization_id, item.agent_id, item.opened_at, sum(item.held_nano_usd) as held_nano_usd,
                sum(item.charged_nano_usd) as charged_nano_usd
            from unnest(movements) as item
            where item.opened_at is not null and (item.held_nano_usd <> 0 or item.charged_nano_usd <> 0)
            group by item.organization_id, item.agent_id, item.opened_at
        ) as movement
        inner join public.spend_caps as cap
            on movement.organization_id = cap.organization_id
            and (cap.agent_id is null or cap.agent_id = movement.agent_id)
        -- As private.windows has it, a call of which takes 12 us.
        cross join lateral (
            select
                coalesce(date_trunc(nullif(cap.window_kind, 'lifetime'), movement.opened_at, 'UTC'), '-infinity') as window_start,
                coalesce(date_trunc(nullif(cap.window_kind, 'lifetime'), cap.created_at, 'UTC'), '-infinity') as first_start
        ) as slice
        where slice.window_start >= slice.first_start
        group by cap.id, slice.window_start
    );
end
$$;

-- What movements take from each rate limit: those of the organization and of the agent. Of tokens that are given back only
-- those count that were taken from this bucket and that time has not filled up since: else they would be there twice.
create function private.metered(movements private.movement [])
returns table (rate_limit_id uuid, requests bigint, tokens bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    moment constant timestamptz := clock_timestamp();
begin
    return query
        select
            bucket.id, sum(movement.requests)::bigint,
            sum(case
                when movement.tokens >= 0 then movement.tokens
                when bucket.created_at > movement.opened_at then 0
                else least(
                    movement.tokens
                    + bucket.tokens_per_minute
                    * extract(epoch from greatest(moment - movement.opened_at, interval '0')) / 60,
                    0
                )
            end)::bigint
        from unnest(movements) as movement
        inner join public.rate_limits as bucket
            on movement.organization_id = bucket.organization_id
            and (bucket.agent_id is null or bucket.agent_id = movement.agent_id)
        where movement.requests <> 0 or movement.tokens <> 0
        group by bucket.id;
end
$$;

-- Changes wallets, counters and rate limits, and alone does so, but for the holds that private.take_holds takes at one look;
-- the counters by `counts`, if the caller has counted already. The caller holds the wallets' locks, so that a counter cannot
-- appear between the look and the insert, nor a cap or a limit.
create function private.move(movements private.movement [], counts private.count [] default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    moment constant timestamptz := clock_timestamp();
    are_capped boolean;
    are_limited boolean;
begin
    with moved as (
        update public.wallets as wallet
        set
            held_nano_usd = wallet.held_nano_usd + total.held_nano_usd,
            balance_nano_usd = wallet.balance_nano_usd - total.charged_nano_usd
        from (
            select
                movement.organization_id, sum(movement.held_nano_usd) as held_nano_usd,
                sum(movement.charged_nano_usd) as charged_nano_usd, array_agg(movement.agent_id) as agents
            from unnest(movements) as movement
            group by movement.organization_id
        ) as total
        where wallet.organization_id = total.organization_id
        returning
            exists (
                select from public.spend_caps as cap
                where cap.organization_id = total.organization_id
                    and (cap.agent_id is null or cap.agent_id = any(total.agents))
            ) as is_capped,
            exists (
                select from public.rate_limits as bucket
                where bucket.organization_id = total.organization_id
                    and (bucket.agent_id is null or bucket.agent_id = any(total.agents))
            ) as is_limited
    )

    select bool_or(moved.is_capped), bool_or(moved.is_limited) into are_capped, are_limited from moved;

    if are_capped then
        merge into public.spend_counters as counter
        using unnest(coalesce(counts, private.counted(movements))) as counted
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
    end if;

    if are_limited then
        update public.rate_limits as bucket
        set
            requests_full_at = coalesce(
                greatest(bucket.requests_full_at, moment)
                + make_interval(secs => 60.0 * metered.requests / bucket.requests_per_minute),
                bucket.requests_full_at
            ),
            tokens_full_at = coalesce(
                greatest(bucket.tokens_full_at, moment)
                + make_interval(secs => 60.0 * metered.tokens / bucket.tokens_per_minute),
                bucket.tokens_full_at
            )
        from private.metered(movements) as metered
        where bucket.id = metered.rate_limit_id;
    end if;
end
$$;

-- The limits that cannot take all of these holds together: of which organization, how much money they would let through
-- (-1: money is not what is missing) and what the caller needs to know. A hold of nothing fits every cap and wallet: a free
-- model works at zero balance.
create function private.shortfalls(holds private.movement [], counts private.count [])
returns table (organization_id uuid, available_nano_usd bigint, outcome_status text, detail jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    moment constant timestamptz := clock_timestamp();
    organizations constant uuid[] := array(select hold.organization_id from unnest(holds) as hold);
begin
    return query
        select
            needed.organization_id, coalesce(wallet.balance_nano_usd - wallet.held_nano_usd, 0), 'rejected_funds',
            jsonb_build_object(
                'balance_nano_usd', coalesce(wallet.balance_nano_usd, 0),
                'held_nano_usd', coalesce(wallet.held_nano_usd, 0), 'needed_nano_usd', needed.held_nano_usd
            )
        from (
            select hold.organization_id, sum(hold.held_nano_usd)::bigint as held_nano_usd
            from unnest(holds) as hold
            where hold.held_nano_usd > 0
            group by hold.organization_id
        ) as needed
        left join public.wallets as wallet on needed.organization_id = wallet.organization_id
        where coalesce(wallet.balance_nano_usd - wallet.held_nano_usd, 0) < needed.held_nano_usd;

    if cardinality(counts) > 0 then
        return query
            select
                counted.organization_id, cap.limit_nano_usd - usage.taken_nano_usd, 'rejected_cap',
                jsonb_build_object(
                    'spend_cap_id', cap.id, 'window', cap.window_kind,
                    'scope', case when cap.agent_id is null then 'organization' else 'agent' end,
                    'cap_nano_usd', cap.limit_nano_usd, 'spent_nano_usd', coalesce(counter.charged_nano_usd, 0),
                    'held_nano_usd', coalesce(counter.held_nano_usd, 0), 'needed_nano_usd', counted.held_nano_usd,
                    'resets_at', (
                        select slice.window_end from private.windows(counted.window_start) as slice
                        where slice.window_kind = cap.window_kind
                    )
                )
            from unnest(counts) as counted
            inner join public.spend_caps as cap on counted.spend_cap_id = cap.id
            left join public.spend_counters as counter
                on counted.spend_cap_id = counter.spend_cap_id and counted.window_start = counter.window_start
            cross join lateral (
                select coalesce(counter.held_nano_usd + counter.charged_nano_usd, 0) as taken_nano_usd
            ) as usage
            where cap.limit_nano_usd - usage.taken_nano_usd < counted.held_nano_usd;
    end if;

    if exists (select from public.rate_limits as bucket where bucket.organization_id = any(organizations)) then
        return query
            select
                bucket.organization_id, -1::bigint, 'rejected_rate', jsonb_build_object(
                    'rate_limit_id', bucket.id, 'scope', case when bucket.agent_id is null then 'organization' else 'agent' end,
                    'unit', unit.name, 'limit_per_minute', unit.per_minute, 'left', greatest(floor(unit.full_share), 0),
                    'needed', unit.needed,
                    -- What is more than a whole minute's worth never fits.
                    'resets_at', case
                        when unit.needed <= unit.per_minute
                            then moment + make_interval(secs => 60.0 * (unit.needed - unit.full_share) / unit.per_minute)
                    end
                )
            from private.metered(holds) as metered
            inner join public.rate_limits as bucket on metered.rate_limit_id = bucket.id
            cross join lateral (
                select
                    item.*,
                    item.per_minute * (1 - extract(epoch from greatest(item.full_at - moment, interval '0')) / 60) as full_share
                from (
                    values
                    ('requests', bucket.requests_per_minute, bucket.requests_full_at, metered.requests),
                    ('tokens', bucket.tokens_per_minute, bucket.tokens_full_at, metered.tokens)
                ) as item (name, per_minute, full_at, needed)
            ) as unit
            where unit.needed > unit.full_share;
    end if;
end
$$;

-- Takes the holds that fit, in the order of the decisions' ids (which is that of time), each whole or down to the least it
-- makes do with, and returns a verdict on each. The caller holds the wallets' locks.
--
-- Three paths with one outcome. What no cap and no limit concerns and its wallet has, is taken at one look. Where all the rest
-- of an organization's holds fit its limits, they are taken in one step; only near a limit are they tried one by one, so
-- that a small one behind a large one still fits.
create function private.take_holds(holds private.movement []) returns setof private.verdict
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    taken private.movement[];
    others private.movement[];
    counts private.count[];
    tight uuid[];
    hold private.movement;
    available bigint;
begin
    with fitting as (
        update public.wallets as wallet
        set held_nano_usd = wallet.held_nano_usd + needed.held_nano_usd
        from (
            select item.organization_id, sum(item.held_nano_usd) as held_nano_usd, array_agg(item.agent_id) as agents
            from unnest(holds) as item
            group by item.organization_id
        ) as needed
        where wallet.organization_id = needed.organization_id
            and wallet.balance_nano_usd - wallet.held_nano_usd >= needed.held_nano_usd
            and not exists (
                select from public.spend_caps as cap
                where cap.organization_id = needed.organization_id
                    and (cap.agent_id is null or cap.agent_id = any(needed.agents))
            )
            and not exists (
                select from public.rate_limits as bucket
                where bucket.organization_id = needed.organization_id
                    and (bucket.agent_id is null or bucket.agent_id = any(needed.agents))
            )
        returning wallet.organization_id
    )

    select
        array_agg(item) filter (where fitting.organization_id is not null),
        array_agg(item) filter (where fitting.organization_id is null)
    into taken, others
    from unnest(holds) as item
    left join fitting on item.organization_id = fitting.organization_id;

    if others is not null then
        counts := private.counted(others);
        tight := array(select shortfall.organization_id from private.shortfalls(others, counts) as shortfall);
        perform private.move(
            array(select item from unnest(others) as item where item.organization_id <> all(tight)),
            array(select item from unnest(counts) as item where item.organization_id <> all(tight))
        );
        taken := taken || array(select item from unnest(others) as item where item.organization_id <> all(tight));
    end if;
    return query select item.decision_id, item.held_nano_usd, null::text, null::jsonb from unnest(taken) as item;

    for hold in
        select * from unnest(others) as item where item.organization_id = any(tight) order by item.decision_id
    loop
        available := (
            select min(shortfall.available_nano_usd)
            from private.shortfalls(array[hold], private.counted(array[hold])) as shortfall
        );
        hold.held_nano_usd := case
            when available is null then hold.held_nano_usd
            when available >= hold.least_held_nano_usd then available
            else coalesce(hold.least_held_nano_usd, hold.held_nano_usd)
        end;
        -- A cap before the wallet: topping up would not help. Of caps the one that stands in the way for longest.
        return query
            select hold.decision_id, 0::bigint, shortfall.outcome_status, shortfall.detail
            from private.shortfalls(array[hold], private.counted(array[hold])) as shortfall
            order by
                shortfall.outcome_status, shortfall.detail ->> 'resets_at' desc nulls first, shortfall.detail::text
            limit 1;
        if not found then
            perform private.move(array[hold]);
            return query select hold.decision_id, hold.held_nano_usd, null::text, null::jsonb;
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

-- What tokens cost at a price version, in nano-USD, rounded up once. Tiers go upwards: the last that applies counts. Found in
-- a loop, which PL/pgSQL works out by itself: a completion asks three times, and a query took 15 us each time.
create function private.cost_nano_usd(tiers public.price_tier [], used private.tokens) returns bigint
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
    input_in_all constant bigint := used.input + used.cache_read + used.cache_write + used.cache_write_1h;
    tier public.price_tier;
    applied public.price_tier;
begin
    foreach tier in array tiers loop
        exit when tier.above_input_tokens >= greatest(input_in_all, 1);
        applied := tier;
    end loop;
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

-- Writes an entry of the operator's, once per id and kind, and moves what it moves. The caller holds the wallet's lock.
create function private.enter(entry public.ledger_entries) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    known public.ledger_entries;
begin
    if entry.amount_nano_usd is null or entry.amount_nano_usd <= 0 then
        raise exception 'The amount is % nano-USD; nothing was changed.', entry.amount_nano_usd
        using errcode = 'invalid_parameter_value', hint = 'An amount is more than nothing.';
    end if;
    select * into known from public.ledger_entries where id = entry.id and kind = entry.kind;
    if found then
        if (known.organization_id, known.debit_account, known.amount_nano_usd, known.routing_outcome_id)
            is distinct from (entry.organization_id, entry.debit_account, entry.amount_nano_usd, entry.routing_outcome_id) then
            raise exception 'The entry id % is taken by another %; nothing was changed.', entry.id, entry.kind
            using errcode = 'unique_violation', hint = 'An entry id stands for one entry: use a new one.';
        end if;
        return;
    end if;
    insert into public.ledger_entries select entry.*;
    perform private.move(array[(
        entry.routing_outcome_id, entry.organization_id, entry.agent_id, entry.opened_at, 0, null,
        case when entry.credit_account = 'wallet' then -entry.amount_nano_usd else entry.amount_nano_usd end, 0, 0
    )::private.movement]);
end
$$;

-- Locks a wallet, or says that there is none.
create function private.lock_wallet(organization_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform from public.wallets as wallet
    where wallet.organization_id = lock_wallet.organization_id
    for no key update;
    if not found then
        raise exception 'There is no organization %; nothing was changed.', lock_wallet.organization_id
        using errcode = 'invalid_parameter_value', hint = 'Every organization has a wallet: look the id up in `organizations`.';
    end if;
end
$$;

create function private.balance(organization_id uuid) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select wallet.balance_nano_usd from public.wallets as wallet where wallet.organization_id = balance.organization_id
    );
end
$$;

create function public.top_up_wallet(
    entry_id uuid, organization_id uuid, amount_nano_usd bigint, note text default '', actor text default ''
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
begin
    perform private.lock_wallet(organization_id);
    perform private.enter((
        entry_id, organization_id, 'top_up', 'funding', 'wallet', amount_nano_usd, null, null, null, actor, note,
        clock_timestamp()
    )::public.ledger_entries);
    return private.balance(organization_id);
end
$$;

comment on function public.top_up_wallet is
'Adds prepaid funds, nano-USD; idempotent by entry_id. Returns the wallet''s balance.';

create function public.refund_decision(
    entry_id uuid, organization_id uuid, routing_outcome_id uuid, amount_nano_usd bigint, note text, actor text
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    settlement public.ledger_entries;
    refunded bigint;
begin
    perform private.lock_wallet(organization_id);
    select * into settlement from public.ledger_entries as entry
    where entry.id = refund_decision.routing_outcome_id and entry.kind = 'settlement'
        and entry.organization_id = refund_decision.organization_id;
    -- Without this very entry: sent again, it is weighed as it was the first time.
    refunded := (
        select coalesce(sum(entry.amount_nano_usd), 0) from public.ledger_entries as entry
        where entry.kind = 'refund' and entry.routing_outcome_id = refund_decision.routing_outcome_id
            and entry.id <> entry_id
    );
    if refunded + amount_nano_usd > coalesce(settlement.amount_nano_usd, 0) then
        raise exception 'Decision % was charged % nano-USD, of which % are refunded; nothing was changed.',
        routing_outcome_id, coalesce(settlement.amount_nano_usd, 0), refunded
        using errcode = 'invalid_parameter_value', hint = 'A refund is at most what is left of the charge.';
    end if;
    perform private.enter((
        entry_id, organization_id, 'refund', 'usage', 'wallet', amount_nano_usd, routing_outcome_id, settlement.agent_id,
        settlement.opened_at, actor, note, clock_timestamp()
    )::public.ledger_entries);
    return private.balance(organization_id);
end
$$;

comment on function public.refund_decision is
'Gives back all or a part of what a decision was charged, nano-USD, to the wallet and to the caps of its windows; idempotent '
'by entry_id. Returns the wallet''s balance.';

create function public.correct_wallet(
    entry_id uuid, organization_id uuid, amount_nano_usd bigint, note text, actor text
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
declare
    is_gain constant boolean := amount_nano_usd > 0;
    available bigint;
begin
    perform private.lock_wallet(organization_id);
    available := (
        select wallet.balance_nano_usd - wallet.held_nano_usd from public.wallets as wallet
        where wallet.organization_id = correct_wallet.organization_id
    );
    if available + amount_nano_usd < 0 and not exists (
        select from public.ledger_entries as entry where entry.id = entry_id and entry.kind = 'correction'
    ) then
        raise exception 'The wallet has % nano-USD that nothing holds; nothing was changed.', available
        using errcode = 'invalid_parameter_value', hint = 'A correction takes at most that.';
    end if;
    perform private.enter((
        entry_id, organization_id, 'correction', case when is_gain then 'operator' else 'wallet' end,
        case when is_gain then 'wallet' else 'operator' end, abs(amount_nano_usd), null, null, null, actor, note,
        clock_timestamp()
    )::public.ledger_entries);
    return private.balance(organization_id);
end
$$;

comment on function public.correct_wallet is
'Moves funds between the operator and a wallet, nano-USD: more than 0 gives, less takes; idempotent by entry_id. Not '
'spending: no cap counts it. Returns the wallet''s balance.';

-- Starts the counter of a new cap's current window with what that has already spent, by the ledger, which retention leaves
-- alone, and holds, by the decisions that are open.
create function private.count_from_the_books(cap_id uuid, current_window_start timestamptz) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    insert into public.spend_counters (spend_cap_id, window_start, organization_id, held_nano_usd, charged_nano_usd)
    select cap.id, current_window_start, cap.organization_id, sum(amounts.held), sum(amounts.charged)
    from public.spend_caps as cap
    cross join lateral (
        select decision.agent_id, decision.opened_at, decision.reserved_nano_usd as held, 0 as charged
        from public.routing_outcomes as decision
        where decision.organization_id = cap.organization_id and decision.outcome_status is null
        union all
        select
            entry.agent_id, entry.opened_at, 0,
            case entry.kind when 'refund' then -entry.amount_nano_usd else entry.amount_nano_usd end
        from public.ledger_entries as entry
        where entry.organization_id = cap.organization_id and entry.kind in ('settlement', 'refund')
            -- An entry is written after its decision was opened: what is older than the window cannot count.
            and entry.created_at >= current_window_start
    ) as amounts
    where cap.id = cap_id and amounts.agent_id = coalesce(cap.agent_id, amounts.agent_id)
        and amounts.opened_at >= current_window_start
    group by cap.id;
end
$$;

-- Sets, changes or (limit null) removes a cap; returns its id.
create function public.set_spend_cap(
    cap_id uuid, organization_id uuid, agent_id uuid, window_kind text, limit_nano_usd bigint,
    acting_user_id uuid default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
    organization constant uuid := set_spend_cap.organization_id;
    scope_agent constant uuid := set_spend_cap.agent_id;
    kind constant text := set_spend_cap.window_kind;
    most constant bigint := set_spend_cap.limit_nano_usd;
    known uuid;
    moment timestamptz;
    current_window_start timestamptz;
begin
    if not exists (select from private.windows(now()) as slice where slice.window_kind = kind) then
        raise exception 'There is no window `%`; no cap was changed.', kind
        using errcode = 'invalid_parameter_value', hint = 'hour, day, month or lifetime.';
    end if;
    perform private.act_as(acting_user_id, organization, '{owner,admin}');
    perform private.require_agent(organization, scope_agent);
    perform private.lock_wallet(organization);
    moment := clock_timestamp();
    current_window_start := (
        select slice.window_start from private.windows(moment) as slice where slice.window_kind = kind
    );
    select id into known from public.spend_caps
    where organization_id = organization and agent_id is not distinct from scope_agent and window_kind = kind;
    if most is null then
        delete from public.spend_caps where id = known;
        return known;
    end if;
    if known is null then
        insert into public.spend_caps (id, organization_id, agent_id, window_kind, limit_nano_usd, created_at)
        values (cap_id, organization, scope_agent, kind, most, moment)
        returning id into known;
        perform private.count_from_the_books(known, current_window_start);
    end if;
    update public.spend_caps
    set
        limit_nano_usd = most,
        set_at = moment,
        taken_when_set_nano_usd = coalesce((
            select counter.held_nano_usd + counter.charged_nano_usd from public.spend_counters as counter
            where counter.spend_cap_id = known and counter.window_start = current_window_start
        ), 0)
    where id = known;
    return known;
end
$$;

comment on function public.set_spend_cap is
'Sets the cap of a scope (agent_id null: the organization) and UTC window, nano-USD; null removes it. Returns its id. With an '
'acting_user_id only if that is an owner or admin of the organization.';

-- Sets, changes or (both null) removes a rate limit; returns its id. Buckets start full.
create function public.set_rate_limit(
    limit_id uuid, organization_id uuid, agent_id uuid, requests_per_minute bigint, tokens_per_minute bigint,
    acting_user_id uuid default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
    organization constant uuid := set_rate_limit.organization_id;
    scope_agent constant uuid := set_rate_limit.agent_id;
    requests constant bigint := set_rate_limit.requests_per_minute;
    tokens constant bigint := set_rate_limit.tokens_per_minute;
    known uuid;
begin
    perform private.act_as(acting_user_id, organization, '{owner,admin}');
    perform private.require_agent(organization, scope_agent);
    perform private.lock_wallet(organization);
    select id into known from public.rate_limits
    where organization_id = organization and agent_id is not distinct from scope_agent;
    if requests is null and tokens is null then
        delete from public.rate_limits where id = known;
    elsif known is not null then
        update public.rate_limits set requests_per_minute = requests, tokens_per_minute = tokens where id = known;
    else
        insert into public.rate_limits (
            id, organization_id, agent_id, requests_per_minute, tokens_per_minute, created_at
        )
        values (limit_id, organization, scope_agent, requests, tokens, clock_timestamp())
        returning id into known;
    end if;
    return known;
end
$$;

comment on function public.set_rate_limit is
'Sets the requests and tokens a minute of a scope (agent_id null: the organization), null: no limit; both null removes it. '
'Returns its id. With an acting_user_id only if that is an owner or admin of the organization.';

grant execute on function public.top_up_wallet(uuid, uuid, bigint, text, text) to service_role;
grant execute on function public.refund_decision(uuid, uuid, uuid, bigint, text, text) to service_role;
grant execute on function public.correct_wallet(uuid, uuid, bigint, text, text) to service_role;
grant execute on function public.set_rate_limit(uuid, uuid, uuid, bigint, bigint, uuid) to service_role;
grant execute on function public.set_spend_cap(uuid, uuid, uuid, text, bigint, uuid) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
