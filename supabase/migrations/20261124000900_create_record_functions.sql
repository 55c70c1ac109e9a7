-- The write path of the record: open a decision, go on to its next attempt, complete it, sweep what a crash left.
--
--     insert_decisions    -> open               decision + reservation + first attempt; or refused, and so completed
--     insert_attempts     open -> open          previous attempt finished, reservation raised, next attempt written
--     complete_decisions  open -> completed     last attempt finished, the made attempt linked, funds settled
--     renew_leases        open -> open          while its process lives
--     sweep_decisions     open -> abandoned     past its lease
--
-- A decision that was swept and goes on all the same (its process was only held up) is taken up again by the next call
-- about it: abandoned -> open -> completed, with the funds that are left.
--
-- The first three take a JSON array and return one: an answer an item, in the items' order. An item succeeds or is
-- refused alone: refusals are found by joins, not by exceptions (0.27 ms against 0.05 ms a row), and so are items that
-- make no sense, which are answered with an `error` and change nothing. All are idempotent by the ids that the caller
-- made beforehand and answer from the rows as they then are, so a call whose answer was lost is simply sent again. An
-- item that stands twice in a batch is one item: the first. Only service_role may execute them: docs/decisions/0002.
--
-- They wait half a second for a wallet that somebody else holds, and then the batch fails: its other items should not wait
-- longer, and the backend sends that organization's again apart.
--
-- Their plans are made once and are the same whatever the statistics say, for a connection keeps plans that were made while
-- the tables were empty:
--     tables are joined as written, from the items on, by index: join_collapse_limit, enable_seqscan, _hashjoin, _mergejoin,
--     _memoize (a batch's keys differ); one that read a table from end to end took 9.3 ms instead of 0.9 a completion;
--     no plan is made anew for each call's arrays: plan_cache_mode; planning was 40 % of a batch of one;
--     rows are found by id alone: organizations are compared by `is not distinct from`, which no index serves, or else one
--     that begins with organization_id may be taken, and all rows of a large tenant be read;
--     open decisions are those where `completed_at is null`: by outcome_status all open ones of all tenants may be read,
--     through routing_outcomes_open_idx, which is for the sweep.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

grant create on schema private, public to clearfloor_writer;
set role clearfloor_writer;

-- An item as it comes. Where there is a `least_bound_nano_usd`, the attempt makes do with any bound from that up to
-- `bound_nano_usd`: the answer says which it got.
create type private.decision_opening as (
    id uuid,
    organization_id uuid,
    agent_id uuid,
    api_key_id uuid,
    user_id uuid,
    requested_model text,
    requested_rule text,
    floor double precision,
    task text,
    stream boolean,
    catalogue_version bigint,
    routing_request jsonb,
    candidates jsonb,
    passed_over jsonb,
    lease_seconds bigint,
    inference_id uuid,
    candidate_id uuid,
    price_id uuid,
    bound_nano_usd bigint,
    least_bound_nano_usd bigint,
    metered_tokens bigint,
    dearest_price_id uuid,
    baseline_price_id uuid,
    idempotency_key text,
    body_hash text,
    key_seconds bigint
);

-- One attempt's outcome, as its caller saw it.
create type private.attempt_result as (
    inference_id uuid,
    status text,
    output_limit_tokens bigint,
    http_calls bigint,
    http_status bigint,
    error_class text,
    error_message text,
    retry_after_seconds double precision,
    cooldown_seconds double precision,
    provider_request_id text,
    first_content_milliseconds bigint,
    duration_milliseconds bigint,
    input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    cache_write_1h_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    usage_source text,
    usage_convention text,
    reported_usage jsonb
);

create type private.attempt_opening as (
    decision_id uuid,
    organization_id uuid,
    lease_seconds bigint,
    inference_id uuid,
    candidate_id uuid,
    price_id uuid,
    bound_nano_usd bigint,
    least_bound_nano_usd bigint,
    passed_over jsonb,
    previous private.attempt_result
);

create type private.completion as (
    id uuid,
    organization_id uuid,
    outcome_status text,
    decision_rule_override text,
    passed_over jsonb,
    attempt private.attempt_result,
    answer text
);

create type private.closing as (
    decision_id uuid,
    organization_id uuid,
    outcome_status text,
    decision_rule_override text,
    passed_over jsonb,
    refusal jsonb
);

-- The tokens of an attempt.
create function private.tokens_of(attempt public.inferences) returns private.tokens
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return (
        attempt.input_tokens, attempt.cache_read_tokens, attempt.cache_write_tokens, attempt.cache_write_1h_tokens,
        attempt.output_tokens, attempt.reasoning_tokens
    )::private.tokens;
end
$$;

-- Finishes attempts and lets their candidates cool down where the result says so. That they are open ones of the caller's
-- decisions the caller has looked up.
create function private.finish_attempts(results private.attempt_result []) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    update public.inferences as inference
    set
        status = result.status,
        finished_at = clock_timestamp(),
        output_limit_tokens = result.output_limit_tokens,
        http_calls = coalesce(result.http_calls, 0),
        http_status = result.http_status,
        error_class = result.error_class,
        error_message = result.error_message,
        retry_after_seconds = result.retry_after_seconds,
        provider_request_id = result.provider_request_id,
        first_content_milliseconds = result.first_content_milliseconds,
        duration_milliseconds = result.duration_milliseconds,
        input_tokens = (result.used).input,
        cache_read_tokens = (result.used).cache_read,
        cache_write_tokens = (result.used).cache_write,
        cache_write_1h_tokens = (result.used).cache_write_1h,
        output_tokens = (result.used).output,
        reasoning_tokens = (result.used).reasoning,
        usage_source = coalesce(result.usage_source, 'none'),
        usage_convention = result.usage_convention,
        reported_usage = result.reported_usage,
        cost_nano_usd = private.cost_nano_usd(price.tiers, result.used)
    from (
        select item.*, (
            coalesce(item.input_tokens, 0), coalesce(item.cache_read_tokens, 0), coalesce(item.cache_write_tokens, 0),
            coalesce(item.cache_write_1h_tokens, 0), coalesce(item.output_tokens, 0), coalesce(item.reasoning_tokens, 0)
        )::private.tokens as used
        from unnest(results) as item
    ) as result
    cross join public.prices as price
    where inference.id = result.inference_id and inference.status = 'open' and price.id = inference.price_id;

    if exists (select from unnest(results) as result where result.cooldown_seconds > 0) then
        insert into public.candidate_cooldowns as cooldown (candidate_id, until, reason)
        select
            inference.candidate_id, max(now() + make_interval(secs => result.cooldown_seconds)),
            coalesce(min(result.error_class), '')
        from unnest(results) as result
        inner join public.inferences as inference on result.inference_id = inference.id
        where result.cooldown_seconds > 0
        group by inference.candidate_id
        order by inference.candidate_id
        on conflict (candidate_id) do update
        set until = excluded.until, reason = excluded.reason
        where cooldown.until < excluded.until;
    end if;
end
$$;

-- What each completed decision counts in usage_hours. Asked by `id = any(...)`: a join with it would not be made by index.
create view private.decision_usage as
select
    decision.id, decision.organization_id, decision.opened_at, (
        decision.organization_id, date_trunc('hour', decision.opened_at, 'UTC'), decision.agent_id, decision.outcome_status,
        coalesce(linked.model, ''), coalesce(linked.provider, ''), decision.task, 1, tried.attempts,
        coalesce(linked.input_tokens, 0),
        coalesce(linked.cache_read_tokens, 0), coalesce(linked.cache_write_tokens, 0),
        coalesce(linked.cache_write_1h_tokens, 0), coalesce(linked.output_tokens, 0), coalesce(linked.reasoning_tokens, 0),
        decision.charge_nano_usd, num_nonnulls(decision.dearest_cost_nano_usd), coalesce(decision.dearest_cost_nano_usd, 0),
        num_nonnulls(decision.baseline_cost_nano_usd), coalesce(decision.baseline_cost_nano_usd, 0),
        coalesce(decision.baseline_cost_nano_usd - decision.charge_nano_usd, 0)
    )::public.usage_hours as used
from public.routing_outcomes as decision
left join public.inferences as linked on decision.inference_id = linked.id
cross join lateral (
    select count(*) as attempts from public.inferences as attempt
    where attempt.organization_id = decision.organization_id and attempt.routing_outcome_id = decision.id
        and attempt.status <> 'not_sent'
) as tried
where decision.outcome_status is not null;

-- Adds to usage_hours what decisions used, an item each; -1 times takes it off again. The caller holds the wallets' locks, so that
-- nobody else writes these rows.
create function private.count_usage(used public.usage_hours [], times integer default 1) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    insert into public.usage_hours as usage
    select
        item.organization_id, item.hour, item.agent_id, item.outcome_status, item.model, item.provider, item.task,
        times * sum(item.decisions), times * sum(item.attempts), times * sum(item.input_tokens),
        times * sum(item.cache_read_tokens), times * sum(item.cache_write_tokens),
        times * sum(item.cache_write_1h_tokens), times * sum(item.output_tokens), times * sum(item.reasoning_tokens),
        times * sum(item.charge_nano_usd), times * sum(item.dearest_decisions), times * sum(item.dearest_cost_nano_usd),
        times * sum(item.baseline_decisions), times * sum(item.baseline_cost_nano_usd), times * sum(item.saved_nano_usd)
    from unnest(used) as item
    group by item.organization_id, item.hour, item.agent_id, item.outcome_status, item.model, item.provider, item.task
    on conflict (organization_id, hour, agent_id, outcome_status, model, provider, task) do update set
        decisions = usage.decisions + excluded.decisions,
        attempts = usage.attempts + excluded.attempts,
        input_tokens = usage.input_tokens + excluded.input_tokens,
        cache_read_tokens = usage.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = usage.cache_write_tokens + excluded.cache_write_tokens,
        cache_write_1h_tokens = usage.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
        output_tokens = usage.output_tokens + excluded.output_tokens,
        reasoning_tokens = usage.reasoning_tokens + excluded.reasoning_tokens,
        charge_nano_usd = usage.charge_nano_usd + excluded.charge_nano_usd,
        dearest_decisions = usage.dearest_decisions + excluded.dearest_decisions,
        dearest_cost_nano_usd = usage.dearest_cost_nano_usd + excluded.dearest_cost_nano_usd,
        baseline_decisions = usage.baseline_decisions + excluded.baseline_decisions,
        baseline_cost_nano_usd = usage.baseline_cost_nano_usd + excluded.baseline_cost_nano_usd,
        saved_nano_usd = usage.saved_nano_usd + excluded.saved_nano_usd;
end
$$;

-- Completes open decisions: links the last attempt that was really made, releases the reservation, moves the charge to the
-- ledger, gives back what was taken from the rate limits and not used, and counts the usage. Where no attempt was made the
-- rule says so; an override is for that case only and cannot hide one. The tenant pays for the linked attempt, at most its
-- bound and what is reserved, and nothing for what a fault of ours or a crash left. The caller holds the wallets' locks.
create function private.close_decisions(closings private.closing []) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    moment constant timestamptz := clock_timestamp();
    movements private.movement[];
    used public.usage_hours[];
begin
    update public.inferences as inference
    set status = 'abandoned', finished_at = moment
    from unnest(closings) as closing
    where inference.organization_id = closing.organization_id and inference.routing_outcome_id = closing.decision_id
        and inference.status = 'open';

    with closed as (
        update public.routing_outcomes as decision
        set
            outcome_status = closing.outcome_status,
            completed_at = moment,
            inference_id = made.id,
            decision_rule = case
                when made.id is null then coalesce(closing.decision_rule_override, 'failed_pre_dispatch')
                else decision.requested_rule
            end,
            passed_over = decision.passed_over || coalesce(closing.passed_over, '[]'),
            refusal = coalesce(closing.refusal, decision.refusal),
            charge_nano_usd = least(due.amount_nano_usd, decision.reserved_nano_usd),
            operator_loss_nano_usd = greatest(due.amount_nano_usd - decision.reserved_nano_usd, 0),
            dearest_cost_nano_usd = private.cost_nano_usd(
                (select price.tiers from public.prices as price where price.id = decision.dearest_price_id), made.used
            ),
            baseline_cost_nano_usd = private.cost_nano_usd(
                (select price.tiers from public.prices as price where price.id = decision.baseline_price_id), made.used
            )
        from unnest(closings) as closing
        left join lateral (
            select
                inference.id, inference.model, inference.provider, inference.cost_nano_usd, inference.bound_nano_usd, (
                    inference.input_tokens, inference.cache_read_tokens, inference.cache_write_tokens,
                    inference.cache_write_1h_tokens, inference.output_tokens, inference.reasoning_tokens
                )::private.tokens as used
            from public.inferences as inference
            where inference.organization_id = closing.organization_id and inference.routing_outcome_id = closing.decision_id
                and inference.status <> 'not_sent'
            order by inference.attempt_number desc
            limit 1
        ) as made on true
        cross join lateral (
            select case
                when closing.outcome_status in ('failed_other', 'abandoned') then 0
                else coalesce(least(made.cost_nano_usd, made.bound_nano_usd), 0)
            end as amount_nano_usd
        ) as due
        where decision.id = closing.decision_id and decision.completed_at is null
        returning
            decision.id, decision.organization_id, decision.agent_id, decision.opened_at, decision.outcome_status,
            decision.reserved_nano_usd, decision.charge_nano_usd, decision.operator_loss_nano_usd, decision.metered_tokens,
            decision.dearest_cost_nano_usd, decision.baseline_cost_nano_usd, decision.task, made.model, made.provider,
            made.used
    ),

    entries as (
        insert into public.ledger_entries (
            id, organization_id, kind, debit_account, credit_account, amount_nano_usd, routing_outcome_id, agent_id, opened_at
        )
        select
            closed.id, closed.organization_id, entry.kind, entry.debit_account, 'usage', entry.amount_nano_usd, closed.id,
            closed.agent_id, closed.opened_at
        from closed
        cross join lateral (
            values
            ('settlement', 'wallet', closed.charge_nano_usd), ('loss', 'operator', closed.operator_loss_nano_usd)
        ) as entry (kind, debit_account, amount_nano_usd)
        where entry.amount_nano_usd > 0
    )

    select
        array_agg((
            closed.id, closed.organization_id, closed.agent_id, closed.opened_at, -closed.reserved_nano_usd, null,
            closed.charge_nano_usd, 0,
            -- What a crash has used nobody knows.
            case when closed.outcome_status = 'abandoned' then 0 else tried.tokens - closed.metered_tokens end
        )::private.movement),
        -- As private.decision_usage has it, which would look all of this up again: 24 us a decision instead of 14.
        array_agg((
            closed.organization_id, date_trunc('hour', closed.opened_at, 'UTC'), closed.agent_id, closed.outcome_status,
            coalesce(closed.model, ''), coalesce(closed.provider, ''), closed.task, 1, tried.attempts,
            coalesce((closed.used).input, 0), coalesce((closed.used).cache_read, 0), coalesce((closed.used).cache_write, 0),
            coalesce((closed.used).cache_write_1h, 0), coalesce((closed.used).output, 0),
            coalesce((closed.used).reasoning, 0), closed.charge_nano_usd,
            num_nonnulls(closed.dearest_cost_nano_usd), coalesce(closed.dearest_cost_nano_usd, 0),
            num_nonnulls(closed.baseline_cost_nano_usd), coalesce(closed.baseline_cost_nano_usd, 0),
            coalesce(closed.baseline_cost_nano_usd - closed.charge_nano_usd, 0)
        )::public.usage_hours)
    into movements, used
    from closed
    cross join lateral (
        select
            count(*) filter (where inference.status <> 'not_sent') as attempts,
            coalesce(sum(
                inference.input_tokens + inference.cache_read_tokens + inference.cache_write_tokens
                + inference.cache_write_1h_tokens + inference.output_tokens + inference.reasoning_tokens
            ), 0) as tokens
        from public.inferences as inference
        where inference.organization_id = closed.organization_id and inference.routing_outcome_id = closed.id
    ) as tried;
    perform private.move(movements);
    perform private.count_usage(used);
end
$$;

-- Opens decisions again that the sweep has closed and whose attempt is heard of after all; returns whether there were any.
-- Their reservation was released: as much of it is held anew as the wallet and the caps of the opening's window have left,
-- be it nothing. What they counted as abandoned is taken off. The caller holds the wallets' locks.
create function private.reopen_swept(decisions uuid [], organizations uuid [], attempts uuid []) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    swept constant public.routing_outcomes[] := array(
        select decision
        from unnest(decisions, organizations, attempts) as late (decision_id, organization_id, inference_id)
        inner join public.routing_outcomes as decision
            on late.decision_id = decision.id and late.organization_id is not distinct from decision.organization_id
            and decision.outcome_status = 'abandoned' and decision.swept_at is not null
        inner join public.inferences as inference
            on late.inference_id = inference.id and decision.id = inference.routing_outcome_id
            and inference.status = 'abandoned'
        -- Retention may be deleting one at this moment: then it is gone, and holds nothing.
        for no key update of decision
    );
    verdicts private.verdict[];
begin
    if cardinality(swept) = 0 then
        return false;
    end if;
    verdicts := array(select verdict from private.take_holds(array(
        select (
            decision.id, decision.organization_id, decision.agent_id, decision.opened_at, decision.reserved_nano_usd, 0, 0,
            0, 0
        )::private.movement
        from unnest(swept) as decision
    )) as verdict);
    perform private.count_usage(array(
        select counted.used from private.decision_usage as counted
        where counted.id = any(array(select decision.id from unnest(swept) as decision))
    ), -1);

    update public.routing_outcomes as decision
    set outcome_status = null, completed_at = null, charge_nano_usd = null, reserved_nano_usd = verdict.held_nano_usd
    from unnest(verdicts) as verdict
    where decision.id = verdict.decision_id;

    update public.inferences as inference
    set status = 'open', finished_at = null
    from unnest(swept) as decision
    where inference.routing_outcome_id = decision.id and inference.id = any(attempts) and inference.status = 'abandoned';
    return true;
end
$$;

-- Whether a decision keeps the Idempotency-Key that it claimed: not once it is over and nobody has answered, as no attempt was
-- made or the last one failed. Then the same request may be tried again under the same key. An answer that broke, that
-- nobody waited for, or of which nobody knows is no reason to ask for another one.
create function private.keeps_key(decision public.routing_outcomes) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return decision.outcome_status is null or exists (
        select from public.inferences as inference
        where inference.id = decision.inference_id and inference.status <> 'failed'
    );
end
$$;

-- The decision that holds an agent's key now, or null: {decision_id, body_hash (hex), outcome_status, charge_nano_usd}.
create function private.key_holder(of_agent uuid, of_key text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select jsonb_build_object(
            'decision_id', holder.id, 'body_hash', encode(claim.body_hash, 'hex'), 'outcome_status', holder.outcome_status,
            'charge_nano_usd', holder.charge_nano_usd
        )
        from public.idempotency_keys as claim
        inner join public.routing_outcomes as holder
            on claim.routing_outcome_id = holder.id and claim.agent_id = holder.agent_id
        where claim.agent_id = of_agent and claim.key = of_key and claim.expires_at > clock_timestamp()
            and private.keeps_key(holder)
    );
end
$$;

-- Opens decisions. Answers: {id, outcome_status (null: open), bound_nano_usd, refusal, is_held, keeps_answer, error}. `is_held`
-- says that another decision has the item's Idempotency-Key, and then nothing was opened; `keeps_answer`, that the answer is
-- to be stored for the key. An error is `unknown_agent_or_price` (no
-- row is written) or `id_taken` (the decision is there, with another first attempt or bound).
create function public.insert_decisions(items jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
set join_collapse_limit = 1
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_memoize = off
set plan_cache_mode = force_generic_plan as $$
declare
    openings constant private.decision_opening[] := array(
        select opening from jsonb_populate_recordset(null::private.decision_opening, items) as opening
    );
    moment timestamptz;
    -- One a decision, in the order of their ids, and so are the verdicts: they are read side by side.
    fresh private.decision_opening[];
    verdicts private.verdict[];
    refused private.verdict[];
    are_keyed boolean;
    are_refused boolean;
    places uuid[];
    held uuid[] := '{}';
begin
    perform private.lock_wallets(array(select opening.organization_id from unnest(openings) as opening));
    moment := clock_timestamp();
    -- Who may not call is refused; the key before the agent: whoever holds a dead key need not learn more.
    select
        array_agg(known.opening order by known.id),
        array_agg((known.id, 0, known.refusal, null)::private.verdict) filter (where known.refusal is not null),
        bool_or(known.idempotency_key is not null)
    into fresh, refused, are_keyed
    from (
        select distinct on (opening.id)
            opening.id, opening.idempotency_key, openings[opening.ordinality] as opening,
            case
                when key.id is null and member.user_id is null then 'rejected_key'
                when not agent.active then 'rejected_inactive'
            end as refusal
        from unnest(openings) with ordinality as opening
        inner join public.agents as agent
            on opening.agent_id = agent.id and opening.organization_id is not distinct from agent.organization_id
        left join public.api_keys as key
            on opening.api_key_id = key.id and opening.agent_id = key.agent_id and key.revoked_at is null
            and (key.expires_at is null or key.expires_at > now())
        left join public.organization_members as member
            on opening.user_id = member.user_id and opening.organization_id is not distinct from member.organization_id
        where not exists (select from public.routing_outcomes as decision where decision.id = opening.id)
            and (opening.inference_id is null or exists (
                select from public.prices as price
                where price.id = opening.price_id and price.candidate_id is not distinct from opening.candidate_id
            ))
        order by opening.id, opening.ordinality
    ) as known;
    -- Who may call, and whose key another decision has, or an earlier item of the batch, opens nothing.
    if are_keyed then
        places := array(select opening.id from unnest(openings) as opening);
        held := array(
            select opening.id
            from unnest(fresh) as opening
            where opening.idempotency_key is not null
                and opening.id not in (select verdict.decision_id from unnest(refused) as verdict)
                and (
                    private.key_holder(opening.agent_id, opening.idempotency_key) is not null
                    or exists (
                        select from unnest(fresh) as earlier
                        where earlier.agent_id = opening.agent_id and earlier.idempotency_key = opening.idempotency_key
                            and array_position(places, earlier.id) < array_position(places, opening.id)
                    )
                )
        );
        fresh := array(select opening from unnest(fresh) as opening where opening.id <> all(held) order by opening.id);
    end if;
    select array_agg(verdict order by verdict.decision_id), bool_or(verdict.outcome_status is not null)
    into verdicts, are_refused
    from unnest(refused || array(
        select taken from private.take_holds(array(
            select (
                opening.id, opening.organization_id, opening.agent_id, moment,
                case when opening.inference_id is null then 0 else opening.bound_nano_usd end,
                opening.least_bound_nano_usd, 0, 1, coalesce(opening.metered_tokens, 0)
            )::private.movement
            from unnest(fresh) as opening
            where opening.id not in (select verdict.decision_id from unnest(refused) as verdict)
        )) as taken
    )) as verdict;

    with decision as (
        insert into public.routing_outcomes (
            id, organization_id, agent_id, api_key_id, user_id, opened_at, lease_expires_at, requested_model,
            requested_rule, decision_rule, floor, task, stream, catalogue_version, routing_request, candidates,
            passed_over, reserved_nano_usd, metered_tokens, dearest_price_id, baseline_price_id, outcome_status, refusal,
            completed_at, charge_nano_usd
        )
        select
            opening.id, opening.organization_id, opening.agent_id, opening.api_key_id, opening.user_id, moment,
            moment + make_interval(secs => opening.lease_seconds), opening.requested_model, opening.requested_rule,
            case when opening.outcome_status is null then opening.requested_rule else 'failed_pre_dispatch' end,
            opening.floor, opening.task, opening.stream, opening.catalogue_version, opening.routing_request,
            opening.candidates, coalesce(opening.passed_over, '[]'), opening.held_nano_usd,
            case when opening.outcome_status is null then coalesce(opening.metered_tokens, 0) else 0 end,
            opening.dearest_price_id, opening.baseline_price_id, opening.outcome_status, opening.detail,
            case when opening.outcome_status is not null then moment end,
            case when opening.outcome_status is not null then 0 end
        from rows from (unnest(fresh), unnest(verdicts)) as opening
    )

    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
    )
    select
        opening.inference_id, opening.organization_id, opening.id, 1, candidate.id, candidate.provider, candidate.model,
        opening.price_id, opening.held_nano_usd
    from rows from (unnest(fresh), unnest(verdicts)) as opening
    inner join public.candidates as candidate on opening.candidate_id = candidate.id
    where opening.inference_id is not null and opening.outcome_status is null;

    if are_refused then
        perform private.count_usage(array(
            select counted.used from private.decision_usage as counted
            where counted.id = any(array(select verdict.decision_id from unnest(verdicts) as verdict))
        ));
    end if;

    -- A key that is there already has run out, or its decision does not keep it.
    if are_keyed then
        insert into public.idempotency_keys as claim (agent_id, key, organization_id, body_hash, routing_outcome_id, expires_at)
        select
            opening.agent_id, opening.idempotency_key, opening.organization_id, decode(opening.body_hash, 'hex'), opening.id,
            moment + greatest(
                make_interval(secs => opening.key_seconds),
                make_interval(hours => organization.stored_answer_hours::integer)
            )
        from rows from (unnest(fresh), unnest(verdicts)) as opening
        inner join public.organizations as organization on opening.organization_id = organization.id
        where opening.outcome_status is null and opening.idempotency_key is not null
        order by opening.agent_id, opening.idempotency_key
        on conflict (agent_id, key) do update set
            body_hash = excluded.body_hash,
            routing_outcome_id = excluded.routing_outcome_id,
            expires_at = excluded.expires_at;
    end if;

    return (
        select coalesce(jsonb_agg(answer), '[]')
        from (
            select
                opening.id, decision.outcome_status, inference.bound_nano_usd, decision.refusal,
                opening.id = any(held) as is_held,
                opening.idempotency_key is not null and exists (
                    select from public.organizations as organization
                    where organization.id = opening.organization_id and organization.stored_answer_hours is not null
                ) as keeps_answer,
                case
                    when opening.id = any(held) then null
                    when decision.id is null then 'unknown_agent_or_price'
                    when decision.outcome_status is null and opening.inference_id is not null and inference.id is null
                        then 'id_taken'
                end as error
            from unnest(openings) with ordinality as opening
            left join public.routing_outcomes as decision
                on opening.id = decision.id and opening.organization_id is not distinct from decision.organization_id
            left join public.inferences as inference
                on opening.inference_id = inference.id and opening.id = inference.routing_outcome_id
                and inference.bound_nano_usd
                between coalesce(opening.least_bound_nano_usd, opening.bound_nano_usd) and opening.bound_nano_usd
            order by opening.ordinality
        ) as answer
    );
end
$$;

comment on function public.insert_decisions is 'Opens decisions: record, reservation and first attempt in one transaction.';

-- Goes on to the next attempt of open decisions.
-- Answers: {id, inference_id, opened, bound_nano_usd, outcome_status, refusal, error}. `opened` is false where the reservation could not
-- be raised, and the decision is then completed, or where it was completed before. An error is `unknown_decision`,
-- `unknown_price`, or `unfit_attempt`: the previous attempt is not an open one of this decision that failed.
create function public.insert_attempts(items jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
set join_collapse_limit = 1
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_memoize = off
set plan_cache_mode = force_generic_plan as $$
declare
    openings constant private.attempt_opening[] := array(
        select opening from jsonb_populate_recordset(null::private.attempt_opening, items) as opening
    );
    moment timestamptz;
    fresh private.attempt_opening[];
    accepted private.attempt_opening[];
    verdicts private.verdict[];
begin
    perform private.lock_wallets(array(select opening.organization_id from unnest(openings) as opening));
    moment := clock_timestamp();
    perform private.reopen_swept(
        array(select opening.decision_id from unnest(openings) as opening),
        array(select opening.organization_id from unnest(openings) as opening),
        array(select (opening.previous).inference_id from unnest(openings) as opening)
    );

    fresh := array(
        select distinct on (opening.decision_id) openings[opening.ordinality]
        from unnest(openings) with ordinality as opening
        inner join public.routing_outcomes as decision
            on opening.decision_id = decision.id and opening.organization_id is not distinct from decision.organization_id
            and decision.completed_at is null
        inner join public.prices as price
            on opening.price_id = price.id and opening.candidate_id is not distinct from price.candidate_id
        inner join public.inferences as previous
            on (opening.previous).inference_id = previous.id
            and opening.decision_id = previous.routing_outcome_id and previous.status = 'open'
        where (opening.previous).status in ('failed', 'not_sent')
        order by opening.decision_id, opening.ordinality
    );
    perform private.finish_attempts(array(select opening.previous from unnest(fresh) as opening));
    -- What is reserved already serves the next attempt, too.
    verdicts := array(
        select verdict from private.take_holds(array(
            select (
                decision.id, decision.organization_id, decision.agent_id, decision.opened_at,
                greatest(opening.bound_nano_usd - decision.reserved_nano_usd, 0),
                case
                    when opening.least_bound_nano_usd is not null
                        then greatest(opening.least_bound_nano_usd - decision.reserved_nano_usd, 0)
                end,
                0, 0, 0
            )::private.movement
            from unnest(fresh) as opening
            inner join public.routing_outcomes as decision on opening.decision_id = decision.id
        )) as verdict
    );
    accepted := array(
        select (
            opening.decision_id, opening.organization_id, opening.lease_seconds, opening.inference_id,
            opening.candidate_id, opening.price_id,
            least(opening.bound_nano_usd, decision.reserved_nano_usd + verdict.held_nano_usd), null, opening.passed_over, null
        )::private.attempt_opening
        from unnest(fresh) as opening
        inner join unnest(verdicts) as verdict on opening.decision_id = verdict.decision_id
        inner join public.routing_outcomes as decision on opening.decision_id = decision.id
        where verdict.outcome_status is null
    );

    update public.routing_outcomes as decision
    set
        reserved_nano_usd = greatest(decision.reserved_nano_usd, opening.bound_nano_usd),
        lease_expires_at = moment + make_interval(secs => opening.lease_seconds),
        passed_over = decision.passed_over || coalesce(opening.passed_over, '[]')
    from unnest(accepted) as opening
    where decision.id = opening.decision_id;

    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
    )
    select
        opening.inference_id, opening.organization_id, opening.decision_id,
        (
            select max(earlier.attempt_number) + 1 from public.inferences as earlier
            where earlier.organization_id = opening.organization_id and earlier.routing_outcome_id = opening.decision_id
        ),
        candidate.id, candidate.provider, candidate.model, opening.price_id, opening.bound_nano_usd
    from unnest(accepted) as opening
    inner join public.candidates as candidate on opening.candidate_id = candidate.id;

    perform private.close_decisions(array(
        select (
            opening.decision_id, opening.organization_id, verdict.outcome_status, null, opening.passed_over, verdict.detail
        )::private.closing
        from unnest(fresh) as opening
        inner join unnest(verdicts) as verdict on opening.decision_id = verdict.decision_id
        where verdict.outcome_status is not null
    ));

    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', opening.decision_id,
            'inference_id', opening.inference_id,
            'opened', inference.id is not null and decision.outcome_status is null,
            'bound_nano_usd', inference.bound_nano_usd,
            'outcome_status', decision.outcome_status,
            'refusal', decision.refusal,
            'error', case
                when decision.id is null then 'unknown_decision'
                when decision.outcome_status is not null or inference.id is not null then null
                when price.id is null then 'unknown_price'
                else 'unfit_attempt'
            end
        ) order by opening.ordinality), '[]')
        from unnest(openings) with ordinality as opening
        left join public.routing_outcomes as decision
            on opening.decision_id = decision.id and opening.organization_id is not distinct from decision.organization_id
        left join public.inferences as inference
            on opening.inference_id = inference.id and opening.decision_id = inference.routing_outcome_id
            and inference.bound_nano_usd
            between coalesce(opening.least_bound_nano_usd, opening.bound_nano_usd) and opening.bound_nano_usd
        left join public.prices as price
            on opening.price_id = price.id and opening.candidate_id is not distinct from price.candidate_id
    );
end
$$;

comment on function public.insert_attempts is
'Finishes the previous attempt of open decisions, raises the reservation and writes the next attempt.';

-- Completes decisions; completing twice is completing once. An item's `answer` is stored, where the organization asks for
-- that.
-- Answers: {id, outcome_status, decision_rule, inference_id, charge_nano_usd, overrun_nano_usd, operator_loss_nano_usd, error};
-- the overrun is that of the linked attempt. An error is `unknown_decision`, or
-- `unfit_attempt`: the attempt is not an open one of this decision, or one of the two succeeded and the other did not.
create function public.complete_decisions(items jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
set join_collapse_limit = 1
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_memoize = off
set plan_cache_mode = force_generic_plan as $$
declare
    completions constant private.completion[] := array(
        select completion from jsonb_populate_recordset(null::private.completion, items) as completion
    );
    fresh private.completion[];
    results private.attempt_result[];
    closings private.closing[];
    have_answers boolean;
begin
    perform private.lock_wallets(array(select completion.organization_id from unnest(completions) as completion));
    -- Once; and once more where the sweep was faster.
    loop
        select
            array_agg(open.completion order by open.id),
            array_agg(open.attempt) filter (where (open.attempt).inference_id is not null),
            array_agg((
                open.id, open.organization_id, open.outcome_status, open.decision_rule_override, open.passed_over, null
            )::private.closing),
            bool_or(open.answer is not null)
        into fresh, results, closings, have_answers
        from (
            select distinct on (completion.id)
                completion.id, completion.organization_id, completion.outcome_status, completion.decision_rule_override,
                completion.passed_over, completion.attempt, completion.answer,
                completions[completion.ordinality] as completion
            from unnest(completions) with ordinality as completion
            inner join public.routing_outcomes as decision
                on completion.id = decision.id and completion.organization_id is not distinct from decision.organization_id
                and decision.completed_at is null
            left join public.inferences as attempt
                on (completion.attempt).inference_id = attempt.id and completion.id = attempt.routing_outcome_id
                and attempt.status = 'open'
            where (completion.attempt is null or attempt.id is not null)
                and (completion.outcome_status = 'succeeded') = (coalesce((completion.attempt).status, '') = 'succeeded')
            order by completion.id, completion.ordinality
        ) as open;
        exit when cardinality(fresh) = cardinality(completions) or not private.reopen_swept(
            array(select completion.id from unnest(completions) as completion),
            array(select completion.organization_id from unnest(completions) as completion),
            array(select (completion.attempt).inference_id from unnest(completions) as completion)
        );
    end loop;
    perform private.finish_attempts(results);
    perform private.close_decisions(closings);

    if have_answers then
        insert into public.stored_answers (routing_outcome_id, organization_id, content, expires_at)
        select
            completion.id, organization.id, completion.answer,
            clock_timestamp() + make_interval(hours => organization.stored_answer_hours::integer)
        from unnest(fresh) as completion
        inner join public.organizations as organization
            on completion.organization_id = organization.id and organization.stored_answer_hours is not null
        where completion.answer is not null
        on conflict (routing_outcome_id) do nothing;
    end if;

    return (
        select coalesce(jsonb_agg(answer), '[]')
        from (
            select
                completion.id, decision.outcome_status, decision.decision_rule, decision.inference_id,
                decision.charge_nano_usd, coalesce(linked.overrun_nano_usd, 0) as overrun_nano_usd,
                decision.operator_loss_nano_usd,
                case
                    when decision.id is null then 'unknown_decision'
                    when decision.outcome_status is null then 'unfit_attempt'
                end as error
            from unnest(completions) with ordinality as completion
            left join public.routing_outcomes as decision
                on completion.id = decision.id and completion.organization_id is not distinct from decision.organization_id
            left join public.inferences as linked on decision.inference_id = linked.id
            order by completion.ordinality
        ) as answer
    );
end
$$;

comment on function public.complete_decisions is
'Finishes the last attempt of open decisions, links the one really made and settles, in one transaction.';

-- Gives the decisions that are still open a new lease. Returns how many. Takes no wallet's lock: one that is being completed at this moment is
-- passed over.
create function public.renew_leases(decisions uuid [], lease_seconds bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s'
set join_collapse_limit = 1
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_memoize = off
set plan_cache_mode = force_generic_plan as $$
declare
    renewed bigint;
begin
    update public.routing_outcomes as decision
    set lease_expires_at = clock_timestamp() + make_interval(secs => renew_leases.lease_seconds)
    from (
        select id from public.routing_outcomes
        where id = any(decisions) and outcome_status is null
        order by id
        for no key update skip locked
    ) as open
    where decision.id = open.id;
    get diagnostics renewed = row_count;
    return renewed;
end
$$;

comment on function public.renew_leases is 'Renews the leases of open decisions: whose process lives is not swept.';

-- Closes up to `batch_size` decisions whose lease ran out that long ago, oldest first, and deletes as many keys and answers whose time is
-- up. Returns how many, of whatever there were most: a full batch may not be all.
create function public.sweep_decisions(batch_size integer, late_seconds bigint default 0) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s'
set join_collapse_limit = 1
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_memoize = off
set plan_cache_mode = force_generic_plan as $$
declare
    late_before constant timestamptz := now() - make_interval(secs => late_seconds);
    locked uuid[];
    late uuid[];
    deleted_keys bigint;
    deleted_answers bigint;
begin
    -- One sweeper at a time; the others have nothing to do.
    if not pg_try_advisory_xact_lock(hashtextextended('clearfloor.sweep_decisions', 0)) then
        return 0;
    end if;
    -- The wallets first: one that somebody holds is left for the next sweep, and must not keep the others' decisions from
    -- being closed, however many late ones it has.
    locked := array(
        select organization_id from public.wallets
        where organization_id in (
            select organization_id from public.routing_outcomes
            where outcome_status is null and lease_expires_at < late_before
        )
        order by organization_id
        for no key update skip locked
    );
    late := array(
        select id from public.routing_outcomes
        where outcome_status is null and lease_expires_at < late_before and organization_id = any(locked)
        order by lease_expires_at
        limit batch_size
        -- One whose lease is being renewed at this moment lives.
        for no key update skip locked
    );
    update public.routing_outcomes set swept_at = clock_timestamp() where id = any(late);
    perform private.close_decisions(array(
        select (decision.id, decision.organization_id, 'abandoned', null, null, null)::private.closing
        from public.routing_outcomes as decision where decision.id = any(late)
    ));
    delete from public.idempotency_keys where (agent_id, key) in (
        select agent_id, key from public.idempotency_keys
        where expires_at < now()
        order by agent_id, key
        limit batch_size
        for update skip locked
    );
    get diagnostics deleted_keys = row_count;
    delete from public.stored_answers where routing_outcome_id in (
        select routing_outcome_id from public.stored_answers
        where expires_at < now()
        order by routing_outcome_id
        limit batch_size
        for update skip locked
    );
    get diagnostics deleted_answers = row_count;
    return greatest(cardinality(late), deleted_keys, deleted_answers);
end
$$;

comment on function public.sweep_decisions is
'Closes what a crash left open past its lease: reservation released, nothing charged. Deletes keys and answers whose time is up.';

-- What became of the request that holds a key: {decision_id, body_hash, outcome_status, charge_nano_usd, answer}; null: nobody
-- holds it.
create function public.read_idempotency_key(agent_id uuid, key text) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    holder constant jsonb := private.key_holder(agent_id, key);
begin
    return holder || jsonb_build_object('answer', (
        select answer.content from public.stored_answers as answer
        where answer.routing_outcome_id = (holder ->> 'decision_id')::uuid and answer.expires_at > now()
    ));
end
$$;

comment on function public.read_idempotency_key is 'The decision that holds an agent''s Idempotency-Key, and its stored answer.';

grant execute on function public.insert_decisions(jsonb) to service_role;
grant execute on function public.insert_attempts(jsonb) to service_role;
grant execute on function public.complete_decisions(jsonb) to service_role;
grant execute on function public.read_idempotency_key(uuid, text) to service_role;
grant execute on function public.renew_leases(uuid [], bigint) to service_role;
grant execute on function public.sweep_decisions(integer, bigint) to service_role;

reset role;
revoke create on schema private, public from clearfloor_writer;
