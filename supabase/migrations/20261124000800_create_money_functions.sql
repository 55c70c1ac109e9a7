-- How money is held, settled and topped up. Private: the record's functions call these, inside their transactions.
--
-- The one rule of concurrency: whoever changes a wallet, a counter or the money of a decision first locks the wallet
-- rows of the organizations concerned, in the order of their ids (private.lock_wallets). Every later statement of the
-- function then sees what is committed, and nobody changes it meanwhile.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create type private.hold as (
    decision_id uuid,
    organization_id uuid,
    agent_id uuid,
    opened_at timestamptz,
    amount_nano_usd bigint
);

create type private.refusal as (
    decision_id uuid,
    organization_id uuid,
    outcome_status text,
    detail jsonb
);

create function private.window_start(window_kind text, moment timestamptz) returns timestamptz
language sql immutable set search_path = '' as $$
    select case
        when window_kind = 'lifetime' then '-infinity'::timestamptz
        else date_trunc(window_kind, moment at time zone 'UTC') at time zone 'UTC'
    end
$$;

create function private.window_end(window_kind text, moment timestamptz) returns timestamptz
language sql immutable set search_path = '' as $$
    select case
        when window_kind = 'lifetime' then null
        else (date_trunc(window_kind, moment at time zone 'UTC') + ('1 ' || window_kind)::interval) at time zone 'UTC'
    end
$$;

create function private.lock_wallets(organizations uuid []) returns void
language sql volatile set search_path = '' as $$
    -- NO KEY: inserts that reference the organization are not held up.
    select from public.wallets
    where organization_id = any(organizations)
    order by organization_id
    for no key update
$$;

-- Which wallets and caps cannot take all of these holds together, with what the caller needs to know. A hold of
-- nothing fits everywhere: a free model works at zero balance and past a cap.
create function private.shortfalls(holds private.hold []) returns setof private.refusal
language sql stable set search_path = '' as $$
    with needed as (
        select * from unnest(holds) as hold where hold.amount_nano_usd > 0
    ),

    needed_of_wallets as (
        select min(decision_id::text)::uuid as decision_id, organization_id, sum(amount_nano_usd) as amount_nano_usd
        from needed
        group by organization_id
    ),

    needed_of_caps as (
        select
            min(needed.decision_id::text)::uuid as decision_id, cap.id as spend_cap_id, cap.organization_id, cap.agent_id,
            cap.window_kind, cap.limit_nano_usd,
            private.window_start(cap.window_kind, needed.opened_at) as window_start,
            private.window_end(cap.window_kind, needed.opened_at) as window_end,
            sum(needed.amount_nano_usd) as amount_nano_usd
        from needed
        inner join public.spend_caps as cap
            on needed.organization_id = cap.organization_id and (cap.agent_id is null or cap.agent_id = needed.agent_id)
        group by cap.id, window_start, window_end
    ),

    refusals as (
        select
            needed.decision_id, needed.organization_id, 'rejected_cap' as outcome_status,
            jsonb_build_object(
                'spend_cap_id', needed.spend_cap_id, 'window', needed.window_kind,
                'scope', case when needed.agent_id is null then 'organization' else 'agent' end,
                'cap_nano_usd', needed.limit_nano_usd, 'spent_nano_usd', coalesce(counter.charged_nano_usd, 0),
                'held_nano_usd', coalesce(counter.held_nano_usd, 0), 'needed_nano_usd', needed.amount_nano_usd,
                'resets_at', needed.window_end
            ) as detail
        from needed_of_caps as needed
        left join public.spend_counters as counter using (spend_cap_id, window_start)
        where
            needed.limit_nano_usd - coalesce(counter.held_nano_usd + counter.charged_nano_usd, 0)
            < needed.amount_nano_usd
        union all
        select
            needed.decision_id, needed.organization_id, 'rejected_funds',
            jsonb_build_object(
                'balance_nano_usd', wallet.balance_nano_usd, 'held_nano_usd', wallet.held_nano_usd,
                'needed_nano_usd', needed.amount_nano_usd
            )
        from needed_of_wallets as needed
        inner join public.wallets as wallet using (organization_id)
        where wallet.balance_nano_usd - wallet.held_nano_usd < needed.amount_nano_usd
    )

    -- A cap before the wallet: topping up would not help. Of caps the one that stands in the way for longest.
    select * from refusals
    order by outcome_status, detail ->> 'resets_at' desc nulls first, detail ->> 'spend_cap_id'
$$;

-- Writes holds that are known to fit.
create function private.write_holds(holds private.hold []) returns void
language plpgsql volatile set search_path = '' as $$
begin
    update public.wallets as wallet
    set held_nano_usd = wallet.held_nano_usd + needed.amount_nano_usd
    from (
        select organization_id, sum(amount_nano_usd) as amount_nano_usd
        from unnest(holds) where amount_nano_usd > 0 group by organization_id
    ) as needed
    where wallet.organization_id = needed.organization_id;

    insert into public.spend_counters as counter (spend_cap_id, window_start, organization_id, held_nano_usd)
    select cap.id, private.window_start(cap.window_kind, hold.opened_at), cap.organization_id, sum(hold.amount_nano_usd)
    from unnest(holds) as hold
    inner join public.spend_caps as cap
        on hold.organization_id = cap.organization_id and (cap.agent_id is null or cap.agent_id = hold.agent_id)
    where hold.amount_nano_usd > 0
    group by 1, 2, 3
    on conflict (spend_cap_id, window_start)
    do update set held_nano_usd = counter.held_nano_usd + excluded.held_nano_usd;
end
$$;

-- Takes the holds that fit, in the order of the decisions' ids (which is that of time), and returns the refusals. The caller holds the wallets' locks.
--
-- Two paths with one outcome. Where the whole batch fits an organization's wallet and caps, it is taken in one step;
-- only near a limit are that organization's holds tried one by one, so that a small one behind a large one still fits.
create function private.take_holds(holds private.hold []) returns setof private.refusal
language plpgsql volatile set search_path = '' as $$
declare
    tight uuid[] := array(select distinct organization_id from private.shortfalls(holds));
    hold private.hold;
    refusals private.refusal[];
begin
    perform private.write_holds(array(
        select item from unnest(holds) as item where item.organization_id <> all(tight)
    ));
    for hold in
        select * from unnest(holds) as item where item.organization_id = any(tight) order by item.decision_id
    loop
        refusals := array(select refusal from private.shortfalls(array[hold]) as refusal limit 1);
        if refusals = '{}' then
            perform private.write_holds(array[hold]);
        else
            return query select * from unnest(refusals);
        end if;
    end loop;
end
$$;

-- What the tokens of an attempt cost at a price version, in nano-USD, rounded up once. Token classes are disjoint.
create function private.cost_nano_usd(
    price public.prices,
    input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint
) returns bigint
language sql immutable set search_path = '' as $$
    select ceil((
        input_tokens::numeric * price.input_nano_usd_per_mtok
        + cache_read_tokens::numeric * price.cache_read_nano_usd_per_mtok
        + cache_write_tokens::numeric * price.cache_write_nano_usd_per_mtok
        + output_tokens::numeric * price.output_nano_usd_per_mtok
        + reasoning_tokens::numeric * price.reasoning_nano_usd_per_mtok
    ) / 1000000)::bigint
$$;

-- Releases the reservations of decisions that were just closed and moves their charges to the ledger. The caller holds
-- the wallets' locks and passes each decision once, in the transaction that closed it.
create function private.settle(decision_ids uuid []) returns void
language plpgsql volatile set search_path = '' as $$
begin
    update public.wallets as wallet
    set
        held_nano_usd = wallet.held_nano_usd - settled.reserved_nano_usd,
        balance_nano_usd = wallet.balance_nano_usd - settled.charge_nano_usd
    from (
        select organization_id, sum(reserved_nano_usd) as reserved_nano_usd, sum(charge_nano_usd) as charge_nano_usd
        from public.routing_outcomes where id = any(decision_ids) and reserved_nano_usd > 0
        group by organization_id
    ) as settled
    where wallet.organization_id = settled.organization_id;

    update public.spend_counters as counter
    set
        held_nano_usd = counter.held_nano_usd - settled.reserved_nano_usd,
        charged_nano_usd = counter.charged_nano_usd + settled.charge_nano_usd
    from (
        select
            cap.id as spend_cap_id, private.window_start(cap.window_kind, decision.opened_at) as window_start,
            sum(decision.reserved_nano_usd) as reserved_nano_usd, sum(decision.charge_nano_usd) as charge_nano_usd
        from public.routing_outcomes as decision
        inner join public.spend_caps as cap
            on decision.organization_id = cap.organization_id
            and (cap.agent_id is null or cap.agent_id = decision.agent_id)
        where decision.id = any(decision_ids) and decision.reserved_nano_usd > 0
        group by 1, 2
    ) as settled
    where counter.spend_cap_id = settled.spend_cap_id and counter.window_start = settled.window_start;

    insert into public.ledger_entries (
        id, organization_id, kind, debit_account, credit_account, amount_nano_usd, routing_outcome_id
    )
    select id, organization_id, 'settlement', 'wallet', 'usage', charge_nano_usd, id
    from public.routing_outcomes where id = any(decision_ids) and charge_nano_usd > 0;
end
$$;

-- Puts funds into a wallet, once per entry id. Returns the balance.
create function public.top_up_wallet(entry_id uuid, organization_id uuid, amount_nano_usd bigint, note text default '')
returns bigint
language plpgsql volatile security definer set search_path = '' set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
    organization constant uuid := top_up_wallet.organization_id;
begin
    perform private.lock_wallets(array[organization]);
    insert into public.ledger_entries (
        id, organization_id, kind, debit_account, credit_account, amount_nano_usd, note
    )
    values (entry_id, organization, 'top_up', 'funding', 'wallet', top_up_wallet.amount_nano_usd, top_up_wallet.note)
    on conflict (id) do nothing;
    if found then
        update public.wallets set balance_nano_usd = balance_nano_usd + top_up_wallet.amount_nano_usd
        where organization_id = organization;
    elsif not exists (
        select from public.ledger_entries as entry
        where entry.id = entry_id and entry.organization_id = organization and entry.kind = 'top_up'
            and entry.amount_nano_usd = top_up_wallet.amount_nano_usd
    ) then
        raise exception 'The entry id % is taken by another ledger entry; nothing was added.', entry_id
        using errcode = 'unique_violation', hint = 'An entry id stands for one top-up: use a new one.';
    end if;
    return (select balance_nano_usd from public.wallets where organization_id = organization);
end
$$;

comment on function public.top_up_wallet is
'Adds prepaid funds, nano-USD; idempotent by entry_id. Returns the wallet''s balance.';

-- Sets, changes or (limit null) removes a cap. Counters start from the decisions of the current windows that were there
-- before, under the wallet's lock, so that a new cap counts what its window has already spent.
create function public.set_spend_cap(cap_id uuid, organization_id uuid, agent_id uuid, window_kind text, limit_nano_usd bigint)
returns void
language plpgsql volatile security definer set search_path = '' set lock_timeout = '4s' as $$
#variable_conflict use_column
declare
    organization constant uuid := set_spend_cap.organization_id;
    scope_agent constant uuid := set_spend_cap.agent_id;
    kind constant text := set_spend_cap.window_kind;
begin
    perform private.lock_wallets(array[organization]);
    if set_spend_cap.limit_nano_usd is null then
        delete from public.spend_caps
        where organization_id = organization and agent_id is not distinct from scope_agent and window_kind = kind;
        return;
    end if;
    update public.spend_caps set limit_nano_usd = set_spend_cap.limit_nano_usd
    where organization_id = organization and agent_id is not distinct from scope_agent and window_kind = kind;
    if found then
        return;
    end if;
    insert into public.spend_caps (id, organization_id, agent_id, window_kind, limit_nano_usd)
    values (cap_id, organization, scope_agent, kind, set_spend_cap.limit_nano_usd);
    -- Back to the window of the oldest open decision: one opened before midnight may settle after it.
    insert into public.spend_counters (spend_cap_id, window_start, organization_id, held_nano_usd, charged_nano_usd)
    select
        cap_id, private.window_start(kind, opened_at), organization,
        coalesce(sum(reserved_nano_usd) filter (where outcome_status is null), 0), coalesce(sum(charge_nano_usd), 0)
    from public.routing_outcomes
    where organization_id = organization
        and (scope_agent is null or agent_id = scope_agent)
        and opened_at >= private.window_start(kind, least(now(), (
            select min(opened_at) from public.routing_outcomes
            where organization_id = organization and outcome_status is null
        )))
        and reserved_nano_usd > 0
    group by 2;
end
$$;

comment on function public.set_spend_cap is
'Sets the cap of a scope (agent_id null: the organization) and UTC window, nano-USD; null removes it.';

grant create on schema private, public to clearfloor_writer;
alter type private.hold owner to clearfloor_writer;
alter type private.refusal owner to clearfloor_writer;
alter function private.window_start(text, timestamptz) owner to clearfloor_writer;
alter function private.window_end(text, timestamptz) owner to clearfloor_writer;
alter function private.lock_wallets(uuid []) owner to clearfloor_writer;
alter function private.shortfalls(private.hold []) owner to clearfloor_writer;
alter function private.write_holds(private.hold []) owner to clearfloor_writer;
alter function private.take_holds(private.hold []) owner to clearfloor_writer;
alter function private.cost_nano_usd(public.prices, bigint, bigint, bigint, bigint, bigint) owner to clearfloor_writer;
alter function private.settle(uuid []) owner to clearfloor_writer;
alter function public.top_up_wallet(uuid, uuid, bigint, text) owner to clearfloor_writer;
alter function public.set_spend_cap(uuid, uuid, uuid, text, bigint) owner to clearfloor_writer;
revoke create on schema private, public from clearfloor_writer;

revoke execute on function public.top_up_wallet(uuid, uuid, bigint, text) from public, anon, authenticated;
revoke execute on function public.set_spend_cap(uuid, uuid, uuid, text, bigint) from public, anon, authenticated;
grant execute on function public.top_up_wallet(uuid, uuid, bigint, text) to service_role;
grant execute on function public.set_spend_cap(uuid, uuid, uuid, text, bigint) to service_role;
