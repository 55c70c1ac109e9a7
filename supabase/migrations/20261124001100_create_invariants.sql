-- What must be true of the record and the money, as functions that find where it is not.
--
-- Most of it is also held by constraints and by the write path. This is the second pair of eyes: for an operator after an
-- incident, and for the tests after everything.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

create type private.fault as (
    invariant text,
    organization_id uuid,
    subject_id uuid,
    detail text
);

-- What every attempt's tokens cost at its price version, beside what is stored.
create function public.recompute_costs(since timestamptz default '-infinity', of_organization uuid default null)
returns table (organization_id uuid, inference_id uuid, cost_nano_usd bigint, recomputed_nano_usd bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select
            inference.organization_id, inference.id, inference.cost_nano_usd,
            private.cost_nano_usd(price.tiers, private.tokens_of(inference))
        from public.inferences as inference
        inner join public.prices as price on inference.price_id = price.id
        where inference.opened_at >= since
            and (of_organization is null or inference.organization_id = of_organization);
end
$$;

comment on function public.recompute_costs is
'Each attempt opened since then, of one organization if one is given: its stored cost, and its tokens'' cost at its price version, nano-USD. The two are equal.';

-- Decisions and attempts: orphans either way, states that contradict each other.
create function private.record_faults(since timestamptz, of_organization uuid) returns setof private.fault
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select 'finished_decision_names_an_inference', decision.organization_id, decision.id, decision.decision_rule
        from public.routing_outcomes as decision
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and decision.outcome_status is not null and decision.inference_id is null
            and decision.decision_rule not in ('failed_pre_dispatch', 'no_candidate_cleared_floor')
        union all
        select 'named_inference_is_the_decisions_last_made', decision.organization_id, decision.id,
            format('names %s, made last was %s', decision.inference_id, made.id)
        from public.routing_outcomes as decision
        left join lateral (
            select inference.id from public.inferences as inference
            where inference.routing_outcome_id = decision.id and inference.status <> 'not_sent'
            order by inference.attempt_number desc limit 1
        ) as made on true
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and decision.outcome_status is not null
            and decision.inference_id is distinct from made.id
        union all
        select 'inference_has_a_decision', inference.organization_id, inference.id, inference.routing_outcome_id::text
        from public.inferences as inference
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since and not exists (
            select from public.routing_outcomes as decision where decision.id = inference.routing_outcome_id
        )
        union all
        select 'open_inference_has_an_open_decision', inference.organization_id, inference.id, decision.outcome_status
        from public.inferences as inference
        inner join public.routing_outcomes as decision on inference.routing_outcome_id = decision.id
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since and inference.status = 'open' and decision.outcome_status is not null
        union all
        select 'success_is_agreed', decision.organization_id, decision.id,
            format('%s, but %s', decision.outcome_status, inference.status)
        from public.inferences as inference
        inner join public.routing_outcomes as decision on inference.routing_outcome_id = decision.id
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since
            and (inference.status = 'succeeded')
            <> ((decision.outcome_status, decision.inference_id) is not distinct from ('succeeded', inference.id))
        union all
        select 'attempts_are_numbered', min(inference.organization_id::text)::uuid, inference.routing_outcome_id,
            format('%s attempts, numbered %s to %s', count(*), min(inference.attempt_number), max(inference.attempt_number))
        from public.inferences as inference
        inner join public.routing_outcomes as decision on inference.routing_outcome_id = decision.id
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since
        group by inference.routing_outcome_id
        having count(*) <> max(inference.attempt_number)
        union all
        -- An hour: leases are a minute, and a sweep runs twice in one.
        select 'leases_are_swept', decision.organization_id, decision.id, format('ran out %s', decision.lease_expires_at)
        from public.routing_outcomes as decision
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.outcome_status is null and decision.lease_expires_at < now() - interval '1 hour';
end
$$;

-- Tenants mixed: rows that belong together and name different organizations.
create function private.tenant_faults(since timestamptz, of_organization uuid) returns setof private.fault
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select 'tenants_are_apart', inference.organization_id, inference.id,
            format('its decision is of %s', decision.organization_id)
        from public.inferences as inference
        inner join public.routing_outcomes as decision on inference.routing_outcome_id = decision.id
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since and inference.organization_id <> decision.organization_id
        union all
        select 'tenants_are_apart', decision.organization_id, decision.id, format('its agent is of %s', agent.organization_id)
        from public.routing_outcomes as decision
        inner join public.agents as agent on decision.agent_id = agent.id
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and decision.organization_id <> agent.organization_id
        union all
        select 'tenants_are_apart', decision.organization_id, decision.id, format('its key is of %s', key.organization_id)
        from public.routing_outcomes as decision
        inner join public.api_keys as key on decision.api_key_id = key.id
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and decision.outcome_status is distinct from 'rejected_key'
            and (decision.organization_id, decision.agent_id) <> (key.organization_id, key.agent_id)
        union all
        select 'tenants_are_apart', entry.organization_id, entry.id, format('its decision is of %s', decision.organization_id)
        from public.ledger_entries as entry
        inner join public.routing_outcomes as decision on entry.routing_outcome_id = decision.id
        where (of_organization is null or entry.organization_id = of_organization)
            and entry.created_at >= since
            and (entry.organization_id, entry.agent_id) <> (decision.organization_id, decision.agent_id)
        union all
        select 'spending_counts_where_it_was_opened', entry.organization_id, entry.id,
            format('opened %s, its decision %s', entry.opened_at, decision.opened_at)
        from public.ledger_entries as entry
        inner join public.routing_outcomes as decision on entry.routing_outcome_id = decision.id
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and entry.opened_at <> decision.opened_at
        union all
        -- Others have outlived it.
        select 'spending_has_a_decision', entry.organization_id, entry.id, entry.kind
        from public.ledger_entries as entry
        where (of_organization is null or entry.organization_id = of_organization)
            and entry.opened_at >= since
            and not exists (
                select from public.routing_outcomes as decision where decision.id = entry.routing_outcome_id
            )
            and entry.opened_at > (select retention.deleted_until from public.retention)
        union all
        select 'tenants_are_apart', claim.organization_id, decision.id,
            format('its Idempotency-Key is of agent %s', claim.agent_id)
        from public.idempotency_keys as claim
        inner join public.routing_outcomes as decision on claim.routing_outcome_id = decision.id
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since
            and (claim.organization_id, claim.agent_id) <> (decision.organization_id, decision.agent_id)
        union all
        select 'tenants_are_apart', counter.organization_id, counter.spend_cap_id, format('its cap is of %s', cap.organization_id)
        from public.spend_counters as counter
        inner join public.spend_caps as cap on counter.spend_cap_id = cap.id
        where (of_organization is null or counter.organization_id = of_organization)
            and counter.organization_id <> cap.organization_id;
end
$$;

-- What each attempt cost, and what its tenant paid for it.
create function private.charge_faults(since timestamptz, of_organization uuid) returns setof private.fault
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select 'cost_is_recomputed', cost.organization_id, cost.inference_id,
            format('stored %s, tokens cost %s', cost.cost_nano_usd, cost.recomputed_nano_usd)
        from public.recompute_costs(since, of_organization) as cost
        where cost.cost_nano_usd is distinct from cost.recomputed_nano_usd
        union all
        select 'price_is_the_candidates', inference.organization_id, inference.id, inference.price_id::text
        from public.inferences as inference
        left join public.prices as price on inference.price_id = price.id
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since and price.candidate_id is distinct from inference.candidate_id
        union all
        select 'success_has_usage', inference.organization_id, inference.id, inference.usage_source
        from public.inferences as inference
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since and inference.status = 'succeeded' and inference.usage_source = 'none'
        union all
        select 'reservation_covers_the_attempt', decision.organization_id, decision.id,
            format('reserved %s, bound %s', decision.reserved_nano_usd, inference.bound_nano_usd)
        from public.inferences as inference
        inner join public.routing_outcomes as decision on inference.routing_outcome_id = decision.id
        where (of_organization is null or inference.organization_id = of_organization)
            and inference.opened_at >= since and inference.status = 'open' and decision.swept_at is null
            and decision.reserved_nano_usd < inference.bound_nano_usd
        union all
        select 'charge_is_within_the_reservation', decision.organization_id, decision.id,
            format('charged %s of %s', decision.charge_nano_usd, decision.reserved_nano_usd)
        from public.routing_outcomes as decision
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since
            and not coalesce(decision.charge_nano_usd, 0) between 0 and decision.reserved_nano_usd
        union all
        select 'charge_is_what_is_due', decision.organization_id, decision.id,
            format('charged %s, lost %s, due %s', decision.charge_nano_usd, decision.operator_loss_nano_usd, due.nano_usd)
        from public.routing_outcomes as decision
        left join public.inferences as inference on decision.inference_id = inference.id
        cross join lateral (
            select case
                when decision.outcome_status in ('failed_other', 'abandoned') then 0
                else coalesce(least(inference.cost_nano_usd, inference.bound_nano_usd), 0)
            end as nano_usd
        ) as due
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and decision.outcome_status is not null
            and decision.charge_nano_usd + decision.operator_loss_nano_usd <> due.nano_usd
        union all
        select 'charge_is_settled', decision.organization_id, decision.id,
            format('%s %s, in the ledger %s', owed.kind, owed.nano_usd, coalesce(entry.amount_nano_usd, 0))
        from public.routing_outcomes as decision
        cross join lateral (
            values
            ('settlement', coalesce(decision.charge_nano_usd, 0)), ('loss', decision.operator_loss_nano_usd)
        ) as owed (kind, nano_usd)
        left join public.ledger_entries as entry on decision.id = entry.id and owed.kind = entry.kind
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and owed.nano_usd <> coalesce(entry.amount_nano_usd, 0)
        union all
        select 'counterfactual_is_recomputed', decision.organization_id, decision.id,
            format('%s stored, %s computed', other.stored, other.computed)
        from public.routing_outcomes as decision
        left join public.inferences as inference on decision.inference_id = inference.id
        cross join lateral (
            select
                choice.stored,
                private.cost_nano_usd(
                    (select price.tiers from public.prices as price where price.id = choice.price_id),
                    private.tokens_of(inference)
                ) as computed
            from (
                values
                (decision.dearest_price_id, decision.dearest_cost_nano_usd),
                (decision.baseline_price_id, decision.baseline_cost_nano_usd)
            ) as choice (price_id, stored)
        ) as other
        where (of_organization is null or decision.organization_id = of_organization)
            and decision.opened_at >= since and decision.outcome_status is not null
            and other.stored is distinct from other.computed
        union all
        select 'refunds_are_within_the_charge', refund.organization_id, refund.routing_outcome_id,
            format('refunded %s of %s', sum(refund.amount_nano_usd), coalesce(min(settlement.amount_nano_usd), 0))
        from public.ledger_entries as refund
        left join public.ledger_entries as settlement
            on refund.routing_outcome_id = settlement.id and settlement.kind = 'settlement'
        where (of_organization is null or refund.organization_id = of_organization) and refund.kind = 'refund'
        group by refund.organization_id, refund.routing_outcome_id
        having sum(refund.amount_nano_usd) > coalesce(min(settlement.amount_nano_usd), 0);
end
$$;

-- The sums: wallets, and the counters of caps.
create function private.balance_faults(of_organization uuid) returns setof private.fault
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select 'organization_has_a_wallet', organization.id, organization.id, organization.name
        from public.organizations as organization
        where (of_organization is null or organization.id = of_organization)
            and not exists (select from public.wallets as wallet where wallet.organization_id = organization.id)
        union all
        select 'wallet_is_its_ledger', wallet.organization_id, wallet.organization_id,
            format('balance %s, ledger %s', wallet.balance_nano_usd, coalesce(ledger.nano_usd, 0))
        from public.wallets as wallet
        left join (
            select entry.organization_id, sum(
                case 'wallet'
                    when entry.credit_account then entry.amount_nano_usd when entry.debit_account then -entry.amount_nano_usd
                end
            ) as nano_usd
            from public.ledger_entries as entry
            where (of_organization is null or entry.organization_id = of_organization)
            group by entry.organization_id
        ) as ledger on wallet.organization_id = ledger.organization_id
        where (of_organization is null or wallet.organization_id = of_organization)
            and wallet.balance_nano_usd <> coalesce(ledger.nano_usd, 0)
        union all
        select 'wallet_holds_what_is_open', wallet.organization_id, wallet.organization_id,
            format('held %s, open decisions reserve %s', wallet.held_nano_usd, coalesce(open.nano_usd, 0))
        from public.wallets as wallet
        left join (
            select decision.organization_id, sum(decision.reserved_nano_usd) as nano_usd
            from public.routing_outcomes as decision where decision.outcome_status is null
            group by decision.organization_id
        ) as open on wallet.organization_id = open.organization_id
        where (of_organization is null or wallet.organization_id = of_organization)
            and wallet.held_nano_usd <> coalesce(open.nano_usd, 0)
        union all
        select 'counter_is_its_window', cap.organization_id, cap.id,
            format(
                'from %s: held %s, open decisions reserve %s; charged %s, ledger %s', coalesce(counter.window_start, books.window_start),
                coalesce(counter.held_nano_usd, 0), coalesce(books.held_nano_usd, 0), coalesce(counter.charged_nano_usd, 0),
                coalesce(books.charged_nano_usd, 0)
            )
        from (
            select
                cap.id, slice.window_start, sum(amount.held_nano_usd) as held_nano_usd,
                sum(amount.charged_nano_usd) as charged_nano_usd
            from public.spend_caps as cap
            inner join (
                select
                    decision.organization_id, decision.agent_id, decision.opened_at,
                    decision.reserved_nano_usd as held_nano_usd, 0 as charged_nano_usd
                from public.routing_outcomes as decision where decision.outcome_status is null
                union all
                select
                    entry.organization_id, entry.agent_id, entry.opened_at, 0,
                    case entry.kind when 'refund' then -entry.amount_nano_usd else entry.amount_nano_usd end
                from public.ledger_entries as entry where entry.kind in ('settlement', 'refund')
            ) as amount
                on cap.organization_id = amount.organization_id
                and (cap.agent_id is null or cap.agent_id = amount.agent_id)
            cross join lateral private.windows(amount.opened_at) as slice
            where (of_organization is null or cap.organization_id = of_organization)
                and slice.window_kind = cap.window_kind and cap.created_at < coalesce(slice.window_end, 'infinity')
            group by cap.id, slice.window_start
        ) as books
        full join public.spend_counters as counter
            on books.id = counter.spend_cap_id and books.window_start = counter.window_start
        inner join public.spend_caps as cap on cap.id = coalesce(books.id, counter.spend_cap_id)
        where (of_organization is null or cap.organization_id = of_organization)
            and (coalesce(counter.held_nano_usd, 0), coalesce(counter.charged_nano_usd, 0))
            <> (coalesce(books.held_nano_usd, 0), coalesce(books.charged_nano_usd, 0))
        union all
        select 'cap_is_kept', cap.organization_id, cap.id,
            format(
                'from %s: held %s and charged %s of %s', counter.window_start, counter.held_nano_usd,
                counter.charged_nano_usd, cap.limit_nano_usd
            )
        from public.spend_counters as counter
        inner join public.spend_caps as cap on counter.spend_cap_id = cap.id
        cross join lateral (
            select slice.window_start from private.windows(cap.set_at) as slice where slice.window_kind = cap.window_kind
        ) as window_of_limit
        -- Older windows knew another limit.
        where (of_organization is null or cap.organization_id = of_organization)
            and counter.window_start >= window_of_limit.window_start
            and counter.held_nano_usd + counter.charged_nano_usd > greatest(
                cap.limit_nano_usd,
                case when counter.window_start = window_of_limit.window_start then cap.taken_when_set_nano_usd end
            );
end
$$;

-- The counters of usage: those of hours that began since then, and of which nothing is deleted, against the decisions opened
-- in them.
create function private.usage_faults(since timestamptz, of_organization uuid) returns setof private.fault
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    first_moment constant timestamptz := (
        select greatest(since, retention.deleted_until + interval '1 microsecond') from public.retention
    );
    first_hour constant timestamptz := date_trunc('hour', first_moment + interval '1 hour' - interval '1 microsecond', 'UTC');
begin
    return query
        select 'usage_is_counted', excess.organization_id, excess.agent_id,
            format(
                '%s in the hour from %s, by %s, of class %s: %s decisions, %s attempts, %s nano-USD too many',
                excess.outcome_status, excess.hour, coalesce(nullif(excess.model, ''), 'no model'), excess.task,
                sum(excess.decisions), sum(excess.attempts), sum(excess.charge_nano_usd)
            )
        from (
            select * from public.usage_hours as counted
            where counted.hour >= first_hour and (of_organization is null or counted.organization_id = of_organization)
            union all
            select
                (counted.used).organization_id, (counted.used).hour, (counted.used).agent_id,
                (counted.used).outcome_status, (counted.used).model, (counted.used).provider, (counted.used).task,
                -(counted.used).decisions, -(counted.used).attempts, -(counted.used).input_tokens, -(counted.used).cache_read_tokens,
                -(counted.used).cache_write_tokens, -(counted.used).cache_write_1h_tokens, -(counted.used).output_tokens,
                -(counted.used).reasoning_tokens, -(counted.used).charge_nano_usd, -(counted.used).dearest_decisions,
                -(counted.used).dearest_cost_nano_usd, -(counted.used).baseline_decisions,
                -(counted.used).baseline_cost_nano_usd, -(counted.used).saved_nano_usd
            from private.decision_usage as counted
            where counted.opened_at >= first_hour and (of_organization is null or counted.organization_id = of_organization)
        ) as excess
        group by
            excess.organization_id, excess.hour, excess.agent_id, excess.outcome_status, excess.model, excess.provider,
            excess.task
        having (
            sum(excess.decisions), sum(excess.attempts), sum(excess.input_tokens), sum(excess.cache_read_tokens),
            sum(excess.cache_write_tokens), sum(excess.cache_write_1h_tokens), sum(excess.output_tokens),
            sum(excess.reasoning_tokens), sum(excess.charge_nano_usd), sum(excess.dearest_decisions),
            sum(excess.dearest_cost_nano_usd), sum(excess.baseline_decisions), sum(excess.baseline_cost_nano_usd),
            sum(excess.saved_nano_usd)
        ) <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
end
$$;

create function public.gateway_invariants(since timestamptz default '-infinity', of_organization uuid default null)
returns table (invariant text, organization_id uuid, subject_id uuid, detail text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
        select * from private.record_faults(since, of_organization)
        union all
        select * from private.tenant_faults(since, of_organization)
        union all
        select * from private.charge_faults(since, of_organization)
        union all
        select * from private.usage_faults(since, of_organization)
        union all
        select * from private.balance_faults(of_organization);
end
$$;

comment on function public.gateway_invariants is
'Every row that breaks an invariant of the record or the money: none when all is right. Reads what was opened since then, '
'and all balances; of one organization, if one is given.';

grant execute on function public.recompute_costs(timestamptz, uuid) to service_role;
grant execute on function public.gateway_invariants(timestamptz, uuid) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
