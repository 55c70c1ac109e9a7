-- The write path of the record: open a decision, go on to its next attempt, complete it, sweep what a crash left.
--
--     insert_decisions    -> open               decision + reservation + first attempt; or refused, and so completed
--     insert_attempts     open -> open          previous attempt finished, reservation raised, next attempt written
--     complete_decisions  open -> completed     last attempt finished, the made attempt linked, funds settled
--     sweep_decisions     open -> abandoned     past its lease
--
-- The first three take a JSON array and return one: an answer an item, in the items' order. An item succeeds or is
-- refused alone: refusals are found by joins, not by exceptions (0.27 ms against 0.05 ms a row). All are idempotent by
-- the ids that the caller made beforehand and answer from the rows as they then are, so a call whose answer was lost
-- is simply sent again. Only service_role may execute them. See docs/decisions/0002.
--
-- They find every row by an index, whatever the statistics say (enable_seqscan, _hashjoin, _mergejoin off): a connection
-- keeps a plan that was made while the tables were empty, and read them from end to end until the next ANALYZE: 9.3 ms
-- instead of 0.9 a completion.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

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
    lease_seconds bigint,
    inference_id uuid,
    candidate_id uuid,
    price_id uuid,
    bound_nano_usd bigint
);

create type private.attempt_opening as (
    decision_id uuid,
    organization_id uuid,
    lease_seconds bigint,
    inference_id uuid,
    candidate_id uuid,
    price_id uuid,
    bound_nano_usd bigint,
    previous jsonb
);

-- One attempt's outcome, as its caller saw it; `previous` of an attempt_opening, `attempt` of a completion. The decision
-- is that of the item around it, so that an item cannot finish another decision's attempt.
create type private.attempt_result as (
    routing_outcome_id uuid,
    inference_id uuid,
    status text,
    http_calls bigint,
    http_status bigint,
    error_class text,
    error_message text,
    retry_after_seconds double precision,
    cooldown_seconds double precision,
    provider_request_id text,
    first_byte_milliseconds bigint,
    duration_milliseconds bigint,
    input_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    usage_source text
);

create type private.completion as (
    id uuid,
    organization_id uuid,
    outcome_status text,
    decision_rule_override text,
    attempt jsonb
);

create type private.closing as (
    decision_id uuid,
    outcome_status text,
    decision_rule_override text,
    refusal jsonb
);

-- Finishes attempts that are still open and lets their candidates cool down where the result says so.
create function private.finish_attempts(results private.attempt_result []) returns void
language plpgsql volatile set search_path = '' as $$
begin
    update public.inferences as inference
    set
        status = result.status,
        finished_at = now(),
        http_calls = coalesce(result.http_calls, 0),
        http_status = result.http_status,
        error_class = result.error_class,
        error_message = result.error_message,
        retry_after_seconds = result.retry_after_seconds,
        provider_request_id = result.provider_request_id,
        first_byte_milliseconds = result.first_byte_milliseconds,
        duration_milliseconds = result.duration_milliseconds,
        input_tokens = coalesce(result.input_tokens, 0),
        cache_read_tokens = coalesce(result.cache_read_tokens, 0),
        cache_write_tokens = coalesce(result.cache_write_tokens, 0),
        output_tokens = coalesce(result.output_tokens, 0),
        reasoning_tokens = coalesce(result.reasoning_tokens, 0),
        usage_source = coalesce(result.usage_source, 'none'),
        cost_nano_usd = private.cost_nano_usd(
            price,
            coalesce(result.input_tokens, 0), coalesce(result.cache_read_tokens, 0),
            coalesce(result.cache_write_tokens, 0), coalesce(result.output_tokens, 0),
            coalesce(result.reasoning_tokens, 0)
        )
    from unnest(results) as result, public.prices as price
    where inference.id = result.inference_id and inference.routing_outcome_id = result.routing_outcome_id
        and inference.status = 'open' and price.id = inference.price_id;

    insert into public.candidate_cooldowns as cooldown (candidate_id, until, reason)
    select
        inference.candidate_id, max(now() + make_interval(secs => result.cooldown_seconds)), coalesce(min(result.error_class), '')
    from unnest(results) as result
    inner join public.inferences as inference
        on inference.id = result.inference_id and inference.routing_outcome_id = result.routing_outcome_id
    where result.cooldown_seconds > 0
    group by inference.candidate_id
    order by inference.candidate_id
    on conflict (candidate_id) do update
    set until = excluded.until, reason = excluded.reason
    where cooldown.until < excluded.until;
end
$$;

-- Completes open decisions: links the last attempt that was really made and settles. Where none was made, the rule says
-- so; an override is for that case only and cannot hide an attempt. The caller holds the wallets' locks.
create function private.close_decisions(closings private.closing []) returns void
language plpgsql volatile set search_path = '' as $$
begin
    update public.inferences as inference
    set status = 'abandoned', finished_at = now()
    from unnest(closings) as closing
    where inference.routing_outcome_id = closing.decision_id and inference.status = 'open';

    update public.routing_outcomes as decision
    set
        outcome_status = closing.outcome_status,
        completed_at = now(),
        inference_id = made.id,
        decision_rule = case
            when made.id is null then coalesce(closing.decision_rule_override, 'failed_pre_dispatch')
            else decision.requested_rule
        end,
        refusal = coalesce(closing.refusal, decision.refusal),
        charge_nano_usd = least(coalesce(made.cost_nano_usd, 0), decision.reserved_nano_usd)
    from unnest(closings) as closing
    left join lateral (
        select inference.id, inference.cost_nano_usd
        from public.inferences as inference
        where inference.routing_outcome_id = closing.decision_id and inference.status <> 'not_sent'
        order by inference.attempt_number desc
        limit 1
    ) as made on true
    where decision.id = closing.decision_id and decision.outcome_status is null;

    perform private.settle(array(select closing.decision_id from unnest(closings) as closing));
end
$$;

-- Refusals that have nothing to do with money: a key or membership that ended meanwhile, an agent switched off.
create function private.caller_refusals(openings private.decision_opening []) returns setof private.refusal
language plpgsql stable set search_path = '' as $$
#variable_conflict use_column
begin
    return query
    select opening.id, opening.organization_id, 'rejected_key', null::jsonb
    from unnest(openings) as opening
    left join public.api_keys as key
        on opening.api_key_id = key.id and opening.agent_id = key.agent_id and key.revoked_at is null
        and (key.expires_at is null or key.expires_at > now())
    left join public.organization_members as member
        on opening.user_id = member.user_id and opening.organization_id = member.organization_id
    where key.id is null and member.user_id is null
    union all
    select opening.id, opening.organization_id, 'rejected_inactive', null::jsonb
    from unnest(openings) as opening
    inner join public.agents as agent on opening.agent_id = agent.id and not agent.active;
end
$$;

-- Opens decisions. Answers: {id, outcome_status (null: open), refusal, error (null, or what is unknown; no row then)}.
create function public.insert_decisions(items jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' set lock_timeout = '4s'
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    openings private.decision_opening[] := array(
        select opening from jsonb_populate_recordset(null::private.decision_opening, items) as opening
    );
    fresh private.decision_opening[];
    refusals private.refusal[];
begin
    perform private.lock_wallets(array(select opening.organization_id from unnest(openings) as opening));

    -- An item that stands twice in a batch, as a repeated one may, is one item.
    fresh := array(
        select distinct on (opening.id) opening
        from unnest(openings) as opening
        where not exists (select from public.routing_outcomes as known where known.id = opening.id)
            and exists (
                select from public.agents as agent
                where agent.id = opening.agent_id and agent.organization_id = opening.organization_id
            )
            and (opening.inference_id is null or exists (
                select from public.prices as price
                where price.id = opening.price_id and price.candidate_id = opening.candidate_id
            ))
    );
    refusals := array(
        select distinct on (refusal.decision_id) refusal from private.caller_refusals(fresh) as refusal
        -- The key before the agent: whoever holds a dead key need not learn more.
        order by refusal.decision_id, refusal.outcome_status desc
    );
    refusals := refusals || array(
        select refusal from private.take_holds(array(
            select (opening.id, opening.organization_id, opening.agent_id, now(), opening.bound_nano_usd, 0)::private.movement
            from unnest(fresh) as opening
            where opening.inference_id is not null
                and opening.id not in (select refusal.decision_id from unnest(refusals) as refusal)
        )) as refusal
    );

    insert into public.routing_outcomes (
        id, organization_id, agent_id, api_key_id, user_id, lease_expires_at, requested_model, requested_rule,
        decision_rule, floor, task, stream, catalogue_version, routing_request, candidates,
        reserved_nano_usd, outcome_status, refusal, completed_at, charge_nano_usd
    )
    select
        opening.id, opening.organization_id, opening.agent_id, opening.api_key_id, opening.user_id,
        now() + make_interval(secs => opening.lease_seconds), opening.requested_model, opening.requested_rule,
        case when refusal.decision_id is null then opening.requested_rule else 'failed_pre_dispatch' end,
        opening.floor, opening.task, opening.stream, opening.catalogue_version, opening.routing_request,
        opening.candidates,
        case
            when refusal.decision_id is null and opening.inference_id is not null then opening.bound_nano_usd else 0
        end,
        refusal.outcome_status, refusal.detail,
        case when refusal.decision_id is not null then now() end,
        case when refusal.decision_id is not null then 0 end
    from unnest(fresh) as opening
    left join unnest(refusals) as refusal on opening.id = refusal.decision_id;

    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
    )
    select
        opening.inference_id, opening.organization_id, opening.id, 1, candidate.id, candidate.provider,
        candidate.model, opening.price_id, opening.bound_nano_usd
    from unnest(fresh) as opening
    inner join public.candidates as candidate on opening.candidate_id = candidate.id
    where opening.inference_id is not null
        and opening.id not in (select refusal.decision_id from unnest(refusals) as refusal);

    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', opening.id,
            'outcome_status', decision.outcome_status,
            'refusal', decision.refusal,
            'error', case when decision.id is null then 'unknown_agent_or_price' end
        ) order by opening.ordinality), '[]')
        from unnest(openings) with ordinality as opening
        left join public.routing_outcomes as decision
            on opening.id = decision.id and opening.organization_id = decision.organization_id
    );
end
$$;

comment on function public.insert_decisions is 'Opens decisions: record, reservation and first attempt in one transaction.';

-- Goes on to the next attempt of open decisions.
-- Answers: {id, inference_id, opened, outcome_status, refusal}; opened is false where the reservation could not be raised
-- (the decision is then completed) or the decision was no longer open.
create function public.insert_attempts(items jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' set lock_timeout = '4s'
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    openings private.attempt_opening[] := array(
        select opening from jsonb_populate_recordset(null::private.attempt_opening, items) as opening
    );
    fresh private.attempt_opening[];
    refusals private.refusal[];
begin
    perform private.lock_wallets(array(select opening.organization_id from unnest(openings) as opening));

    fresh := array(
        select distinct on (opening.decision_id) opening
        from unnest(openings) as opening
        inner join public.routing_outcomes as decision
            on opening.decision_id = decision.id and opening.organization_id = decision.organization_id
            and decision.outcome_status is null
        inner join public.prices as price
            on opening.price_id = price.id and opening.candidate_id = price.candidate_id
        where not exists (select from public.inferences as known where known.id = opening.inference_id)
    );
    perform private.finish_attempts(array(
        select jsonb_populate_record(
            null::private.attempt_result, opening.previous || jsonb_build_object('routing_outcome_id', opening.decision_id)
        )
        from unnest(fresh) as opening
    ));
    refusals := array(
        select refusal from private.take_holds(array(
            select (
                decision.id, decision.organization_id, decision.agent_id, decision.opened_at,
                greatest(opening.bound_nano_usd - decision.reserved_nano_usd, 0), 0
            )::private.movement
            from unnest(fresh) as opening
            inner join public.routing_outcomes as decision on opening.decision_id = decision.id
        )) as refusal
    );

    update public.routing_outcomes as decision
    set
        reserved_nano_usd = greatest(decision.reserved_nano_usd, opening.bound_nano_usd),
        lease_expires_at = now() + make_interval(secs => opening.lease_seconds)
    from unnest(fresh) as opening
    where decision.id = opening.decision_id
        and decision.id not in (select refusal.decision_id from unnest(refusals) as refusal);

    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
    )
    select
        opening.inference_id, opening.organization_id, opening.decision_id,
        (
            select coalesce(max(earlier.attempt_number), 0) + 1 from public.inferences as earlier
            where earlier.routing_outcome_id = opening.decision_id
        ),
        candidate.id, candidate.provider, candidate.model, opening.price_id, opening.bound_nano_usd
    from unnest(fresh) as opening
    inner join public.candidates as candidate on opening.candidate_id = candidate.id
    where opening.decision_id not in (select refusal.decision_id from unnest(refusals) as refusal);

    perform private.close_decisions(array(
        select (refusal.decision_id, refusal.outcome_status, null, refusal.detail)::private.closing
        from unnest(refusals) as refusal
    ));

    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', opening.decision_id,
            'inference_id', opening.inference_id,
            'opened', inference.id is not null,
            'outcome_status', decision.outcome_status,
            'refusal', decision.refusal
        ) order by opening.ordinality), '[]')
        from unnest(openings) with ordinality as opening
        left join public.routing_outcomes as decision
            on opening.decision_id = decision.id and opening.organization_id = decision.organization_id
        left join public.inferences as inference
            on opening.inference_id = inference.id and opening.decision_id = inference.routing_outcome_id
    );
end
$$;

comment on function public.insert_attempts is
'Finishes the previous attempt of open decisions, raises the reservation and writes the next attempt.';

-- Completes decisions; completing twice is completing once.
-- Answers: {id, outcome_status, decision_rule, inference_id, charge_nano_usd}, all null for an unknown decision.
create function public.complete_decisions(items jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' set lock_timeout = '4s'
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    completions private.completion[] := array(
        select completion from jsonb_populate_recordset(null::private.completion, items) as completion
    );
    fresh private.completion[];
begin
    perform private.lock_wallets(array(select completion.organization_id from unnest(completions) as completion));

    fresh := array(
        select completion
        from unnest(completions) as completion
        inner join public.routing_outcomes as decision
            on completion.id = decision.id and completion.organization_id = decision.organization_id
        where decision.outcome_status is null
    );
    perform private.finish_attempts(array(
        select jsonb_populate_record(
            null::private.attempt_result, completion.attempt || jsonb_build_object('routing_outcome_id', completion.id)
        )
        from unnest(fresh) as completion
        where jsonb_typeof(completion.attempt) = 'object'
    ));
    perform private.close_decisions(array(
        select (completion.id, completion.outcome_status, completion.decision_rule_override, null)::private.closing
        from unnest(fresh) as completion
    ));

    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', completion.id,
            'outcome_status', decision.outcome_status,
            'decision_rule', decision.decision_rule,
            'inference_id', decision.inference_id,
            'charge_nano_usd', decision.charge_nano_usd
        ) order by completion.ordinality), '[]')
        from unnest(completions) with ordinality as completion
        left join public.routing_outcomes as decision
            on completion.id = decision.id and completion.organization_id = decision.organization_id
    );
end
$$;

comment on function public.complete_decisions is
'Finishes the last attempt of open decisions, links the one really made and settles, in one transaction.';

-- Closes up to `batch_size` decisions whose lease has run out. Returns how many.
create function public.sweep_decisions(batch_size integer) returns integer
language plpgsql volatile security definer set search_path = '' set lock_timeout = '4s'
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    late uuid[] := array(
        select id from public.routing_outcomes
        where outcome_status is null and lease_expires_at < now()
        order by lease_expires_at
        limit batch_size
    );
    locked uuid[];
    expired uuid[];
begin
    -- One sweeper at a time; the others have nothing to do.
    if not pg_try_advisory_xact_lock(hashtextextended('clearfloor.sweep_decisions', 0)) then
        return 0;
    end if;
    -- A wallet that somebody holds is left for the next sweep: it must not keep the others' from being closed.
    locked := array(
        select organization_id from public.wallets
        where organization_id in (select organization_id from public.routing_outcomes where id = any(late))
        order by organization_id
        for no key update skip locked
    );
    -- Asked again under the lock: a completion may have come first.
    expired := array(
        select id from public.routing_outcomes
        where id = any(late) and organization_id = any(locked) and outcome_status is null and lease_expires_at < now()
    );
    perform private.close_decisions(array(
        select (id, 'abandoned', null, null)::private.closing from unnest(expired) as id
    ));
    return cardinality(expired);
end
$$;

comment on function public.sweep_decisions is 'Closes what a crash left open past its lease: reservation released, nothing charged.';

grant create on schema private, public to clearfloor_writer;
alter type private.decision_opening owner to clearfloor_writer;
alter type private.attempt_opening owner to clearfloor_writer;
alter type private.attempt_result owner to clearfloor_writer;
alter type private.completion owner to clearfloor_writer;
alter type private.closing owner to clearfloor_writer;
alter function private.finish_attempts(private.attempt_result []) owner to clearfloor_writer;
alter function private.close_decisions(private.closing []) owner to clearfloor_writer;
alter function private.caller_refusals(private.decision_opening []) owner to clearfloor_writer;
alter function public.insert_decisions(jsonb) owner to clearfloor_writer;
alter function public.insert_attempts(jsonb) owner to clearfloor_writer;
alter function public.complete_decisions(jsonb) owner to clearfloor_writer;
alter function public.sweep_decisions(integer) owner to clearfloor_writer;
revoke create on schema private, public from clearfloor_writer;

revoke execute on function public.insert_decisions(jsonb) from public, anon, authenticated;
revoke execute on function public.insert_attempts(jsonb) from public, anon, authenticated;
revoke execute on function public.complete_decisions(jsonb) from public, anon, authenticated;
revoke execute on function public.sweep_decisions(integer) from public, anon, authenticated;
grant execute on function public.insert_decisions(jsonb) to service_role;
grant execute on function public.insert_attempts(jsonb) to service_role;
grant execute on function public.complete_decisions(jsonb) to service_role;
grant execute on function public.sweep_decisions(integer) to service_role;
