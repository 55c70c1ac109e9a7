-- What the record itself refuses, whoever writes: the orphan rule outcome_requires_inference_when_model_chosen, and the
-- checks and foreign keys that close what it leaves open.
begin;
select plan(81);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

create function pg_temp.insert_decision(
    name text, rule text default 'cheapest_clearing_floor', status text default null, inference uuid default null,
    requested text default 'cheapest_clearing_floor', agent text default 'acme agent'
) returns void language sql as $$
    insert into public.routing_outcomes (
        id, organization_id, agent_id, lease_expires_at, requested_model, requested_rule, decision_rule, outcome_status,
        inference_id, task, stream, catalogue_version, routing_request, candidates, completed_at, charge_nano_usd
    ) values (
        clearfloor_tests.id(name), clearfloor_tests.id('acme'), clearfloor_tests.id(agent), now(), 'auto', requested, rule,
        status, inference, 'general', false, -1, '{}', '[]', case when status is not null then now() end,
        case when status is not null then 0 end
    )
$$;

create function pg_temp.insert_attempt(
    decision text, organization text default 'acme', number integer default 1, name text default null
) returns void language sql as $$
    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd
    ) values (
        clearfloor_tests.id(coalesce(name, decision || ' attempt')), clearfloor_tests.id(organization),
        clearfloor_tests.id(decision), number, clearfloor_tests.id('candidate'), 'pgtap', 'pgtap', clearfloor_tests.id('price'), 0
    )
$$;

create function pg_temp.complete(name text, rule text, status text, inference text default null) returns void
language sql as $$
    update public.routing_outcomes
    set decision_rule = rule, outcome_status = status, inference_id = clearfloor_tests.id(inference),
        completed_at = now(), charge_nano_usd = 0
    where id = clearfloor_tests.id(name)
$$;

create function pg_temp.refused_by_check(statement text, relation text, name text, description text) returns text
language sql as $$
    select throws_ok(
        statement, '23514', format('new row for relation "%s" violates check constraint "%s"', relation, name), description
    )
$$;

create function pg_temp.refused_by_key(statement text, relation text, name text, description text) returns text
language sql as $$
    select throws_ok(
        statement, '23503',
        format('insert or update on table "%s" violates foreign key constraint "%s"', relation, name), description
    )
$$;

-- The constraint itself.
select is(
    (
        select pg_get_constraintdef(oid) from pg_constraint
        where conrelid = 'public.routing_outcomes'::regclass and conname = 'outcome_requires_inference_when_model_chosen'
    ),
    'CHECK (((outcome_status IS NULL) OR (decision_rule <> ''cheapest_clearing_floor''::text) OR (inference_id IS NOT NULL)))',
    'a decision is open, or was not the router''s choice, or names its inference: word for word'
);
select is(
    (
        select convalidated from pg_constraint
        where conrelid = 'public.routing_outcomes'::regclass and conname = 'outcome_requires_inference_when_model_chosen'
    ),
    true, 'the orphan rule was checked against every row that was there before it'
);

-- Its three escapes, each with the other two shut.
select lives_ok(
    $$select pg_temp.insert_decision('open')$$, 'an open decision may have chosen a model and name no inference yet'
);
select lives_ok(
    $$select pg_temp.insert_decision('refused', 'failed_pre_dispatch', 'rejected_cap')$$,
    'a completed decision that chose no model needs no inference'
);
select lives_ok(
    $$select pg_temp.insert_attempt('open'), pg_temp.complete('open', 'cheapest_clearing_floor', 'succeeded', 'open attempt')$$,
    'a completed decision that chose a model may name the inference that carried it out'
);

-- The violation, for every way in which a decision ends, and both ways to write it.
select pg_temp.refused_by_check(
    format($$select pg_temp.insert_decision('orphan', 'cheapest_clearing_floor', %L)$$, status),
    'routing_outcomes', 'outcome_requires_inference_when_model_chosen',
    format('a decision that chose a model cannot be inserted as %s without an inference', status)
)
from unnest(array[
    'succeeded', 'failed_provider_error', 'failed_other', 'cancelled', 'abandoned', 'rejected_cap', 'rejected_funds',
    'rejected_rate', 'rejected_inactive', 'rejected_key', 'rejected_no_candidate'
]) as status;
select lives_ok(
    $$select pg_temp.insert_decision('half-way'), pg_temp.insert_attempt('half-way')$$, 'an open decision has an attempt'
);
select pg_temp.refused_by_check(
    $$select pg_temp.complete('half-way', 'cheapest_clearing_floor', 'succeeded')$$,
    'routing_outcomes', 'outcome_requires_inference_when_model_chosen',
    'a decision that chose a model cannot be completed without an inference, though it has an attempt'
);
select pg_temp.refused_by_check(
    $$update public.routing_outcomes set inference_id = null where id = clearfloor_tests.id('open')$$,
    'routing_outcomes', 'outcome_requires_inference_when_model_chosen', 'a completed decision cannot lose its inference'
);

-- The rules that the orphan rule does not name.
select pg_temp.refused_by_check(
    format($$select pg_temp.insert_decision('orphan', %L, %L)$$, rule, status),
    'routing_outcomes', 'routing_outcomes_inference_matches_rule_check',
    format('a %s decision cannot end as %s without an inference either', rule, status)
)
from
    unnest(array['pinned_model', 'best_effort', 'exploration']) as rule,
    unnest(array['succeeded', 'failed_provider_error', 'cancelled', 'abandoned']) as status;
select pg_temp.refused_by_check(
    format($$select pg_temp.complete('half-way', %L, %L, 'half-way attempt')$$, rule, status),
    'routing_outcomes', 'routing_outcomes_inference_matches_rule_check',
    format('a decision that ends as %s by %s names no inference', status, rule)
)
from (values
    ('failed_pre_dispatch', 'rejected_cap'), ('failed_pre_dispatch', 'rejected_funds'),
    ('failed_pre_dispatch', 'failed_provider_error'), ('no_candidate_cleared_floor', 'rejected_no_candidate')
) as never_sent (rule, status);
select pg_temp.refused_by_check(
    format($$select pg_temp.insert_decision('orphan', %L, 'succeeded')$$, rule),
    'routing_outcomes', 'routing_outcomes_succeeded_has_inference_check',
    format('nothing succeeds by %s', rule)
)
from unnest(array['failed_pre_dispatch', 'no_candidate_cleared_floor']) as rule;
select lives_ok(
    $$select pg_temp.insert_decision('none', 'no_candidate_cleared_floor', 'rejected_no_candidate')$$,
    'a decision for which no candidate cleared the floor names no inference'
);
select lives_ok(
    $$select pg_temp.complete('half-way', 'pinned_model', 'failed_provider_error', 'half-way attempt')$$,
    'a pinned model that failed names the attempt that failed'
);
select lives_ok(
    $$
        select pg_temp.insert_decision('tried', 'exploration', requested => 'exploration'), pg_temp.insert_attempt('tried'),
            pg_temp.complete('tried', 'exploration', 'succeeded', 'tried attempt')
    $$,
    'one that explored names its attempt'
);

-- Closed sets: an unknown word would slip past every rule above, and NULL would make them NULL, which a CHECK accepts.
select throws_ok(
    $$select pg_temp.insert_decision('orphan', null, 'succeeded')$$, '23502',
    'null value in column "decision_rule" of relation "routing_outcomes" violates not-null constraint',
    'a decision without a rule is refused'
);
select throws_ok(
    $$select pg_temp.insert_decision('orphan', requested => null)$$, '23502',
    'null value in column "requested_rule" of relation "routing_outcomes" violates not-null constraint',
    'a decision that was not asked for by a rule is refused'
);
select pg_temp.refused_by_check(
    $$select pg_temp.insert_decision('orphan', 'Cheapest_Clearing_Floor')$$,
    'routing_outcomes', 'routing_outcomes_decision_rule_check', 'an unknown rule is refused'
);
select pg_temp.refused_by_check(
    $$select pg_temp.insert_decision('orphan', requested => 'failed_pre_dispatch')$$,
    'routing_outcomes', 'routing_outcomes_requested_rule_check', 'nobody asks for a failure before the call'
);
select pg_temp.refused_by_check(
    $$select pg_temp.insert_decision('orphan', 'failed_pre_dispatch', 'success')$$,
    'routing_outcomes', 'routing_outcomes_outcome_status_check', 'an unknown outcome is refused'
);

-- Outcome, time and charge come together.
select lives_ok($$select pg_temp.insert_decision('whole')$$, 'an open decision has neither outcome, time nor charge');
select pg_temp.refused_by_check(
    format('update public.routing_outcomes set %s where id = clearfloor_tests.id(''whole'')', change),
    'routing_outcomes', 'routing_outcomes_completed_together_check', description
)
from (values
    ('completed_at = now()', 'a decision cannot be completed at a time and have no outcome'),
    ('charge_nano_usd = 0', 'an open decision is charged nothing yet'),
    (
        'outcome_status = ''rejected_cap'', decision_rule = ''failed_pre_dispatch'', charge_nano_usd = 0',
        'an outcome has a time'
    )
) as part (change, description);
select pg_temp.refused_by_check(
    $$update public.routing_outcomes set charge_nano_usd = 1 where id = clearfloor_tests.id('refused')$$,
    'routing_outcomes', 'routing_outcomes_charge_check', 'nobody is charged more than was reserved'
);

-- A decision and its attempts belong together, and to one organization.
select lives_ok(
    $$select pg_temp.insert_decision('other'), pg_temp.insert_attempt('other')$$, 'another decision has an attempt, too'
);
select pg_temp.refused_by_key(
    $$select pg_temp.complete('whole', 'cheapest_clearing_floor', 'succeeded', 'other attempt')$$,
    'routing_outcomes', 'routing_outcomes_inference_fkey', 'a decision cannot name the inference of another decision'
);
select pg_temp.refused_by_key(
    $$select pg_temp.complete('whole', 'cheapest_clearing_floor', 'succeeded', 'never written')$$,
    'routing_outcomes', 'routing_outcomes_inference_fkey', 'a decision cannot name an inference that was never written'
);
select pg_temp.refused_by_key(
    $$select pg_temp.insert_attempt('whole', 'zenith')$$,
    'inferences', 'inferences_routing_outcome_fkey', 'an attempt cannot belong to another organization than its decision'
);
select pg_temp.refused_by_key(
    $$select pg_temp.insert_decision('orphan', agent => 'zenith agent')$$,
    'routing_outcomes', 'routing_outcomes_agent_fkey', 'a decision cannot be made by the agent of another organization'
);
select throws_ok(
    $$update public.inferences set routing_outcome_id = null where id = clearfloor_tests.id('other attempt')$$, '23502',
    'null value in column "routing_outcome_id" of relation "inferences" violates not-null constraint',
    'an attempt without a decision is refused'
);
select throws_ok(
    $$select pg_temp.insert_attempt('other', name => 'twin')$$, '23505',
    'duplicate key value violates unique constraint "inferences_attempt_key"', 'a decision has one attempt of each number'
);
select throws_ok(
    $$delete from public.inferences where id = clearfloor_tests.id('open attempt')$$, '23503', null,
    'the inference that a decision names cannot be removed'
);

-- What an attempt was bound by stays as it was.
select throws_ok(
    $$update public.prices set source = 'another' where id = clearfloor_tests.id('price')$$, '23001',
    'A row of prices is never changed or deleted; nothing was.', 'a price is never changed, whoever tries'
);
select throws_ok(
    $$delete from public.prices where id = clearfloor_tests.id('price')$$, '23001',
    'A row of prices is never changed or deleted; nothing was.', 'a price is never deleted: attempts name it'
);
select throws_ok(
    $$delete from public.candidates where id = clearfloor_tests.id('candidate')$$, '23503', null,
    'a candidate that has a price, as that of every attempt has, is never deleted'
);
select pg_temp.refused_by_check(
    format(
        'insert into public.prices values (gen_random_uuid(), clearfloor_tests.id(''candidate''), now() - interval ''1 day'', '
        || 'array[%s]::public.price_tier[], ''pgtap'')', tiers
    ),
    'prices', 'prices_tiers_check', description
)
from (values
    ('', 'a price has a tier'),
    ('(0, 0, 0, 0, 0, -1, 0)', 'a price is not below zero'),
    ('(0, 0, 0, 10000000000001, 0, 0, 0)', 'a price has a limit, so that no sum of costs overflows'),
    ('(0, 0, 0, null, 0, 0, 0)', 'a price says what each class costs'),
    ('(1, 0, 0, 0, 0, 0, 0)', 'the first tier is from 0'),
    ('(0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0)', 'no two tiers are from the same number'),
    ('(0, 0, 0, 0, 0, 0, 0), (9, 0, 0, 0, 0, 0, 0), (8, 0, 0, 0, 0, 0, 0)', 'tiers are in their order'),
    ('(0, 0, 0, 0, 0, 0, 0), (null, 0, 0, 0, 0, 0, 0)', 'a tier says from which number it is')
) as part (tiers, description);

-- What a picture, a file or a sound may cost is known before one is sent.
select pg_temp.refused_by_check(
    format('update public.candidates set %s where id = clearfloor_tests.id(''candidate'')', change),
    'candidates', 'candidates_media_have_bounds_check', description
)
from (values
    ('capabilities = ''{vision}''', 'a candidate that takes images says how many tokens one can make'),
    ('capabilities = ''{files}''', 'and so for files'),
    ('capabilities = ''{audio}''', 'and so for audio'),
    ('max_image_tokens = 1', 'only one that takes images says so')
) as part (change, description);

-- An attempt is finished as a whole.
select pg_temp.refused_by_check(
    format('update public.inferences set %s where id = clearfloor_tests.id(''other attempt'')', change),
    'inferences', name, description
)
from (values
    ('status = ''failed''', 'inferences_finished_together_check', 'a finished attempt has a time'),
    ('finished_at = now()', 'inferences_finished_together_check', 'an open attempt has no time at which it finished'),
    (
        'status = ''succeeded'', finished_at = now()', 'inferences_succeeded_has_usage_check',
        'a succeeded attempt says where its token counts are from'
    ),
    ('status = ''lost'', finished_at = now()', 'inferences_status_check', 'an attempt of unknown status is refused'),
    (
        'usage_source = ''provider''', 'inferences_reported_usage_check', 'counts that are the provider''s come with its report'
    ),
    (
        'reported_usage = ''{}''', 'inferences_reported_usage_check', 'a report makes the counts the provider''s'
    ),
    ('cache_read_tokens = -1', 'inferences_tokens_check', 'no class of tokens is below zero'),
    ('output_tokens = 1000000001', 'inferences_tokens_check', 'no call uses more than a billion tokens')
) as part (change, name, description);

select * from finish();
rollback;
