-- Feedback: who may rate which decision, once, and what it adds to which sums.
begin;
select plan(42);
call clearfloor_tests.create_world();

create function pg_temp.candidate(name text, model text, quality double precision, rejected text default null) returns jsonb
language sql as $$
    select jsonb_build_object(
        'candidate_id', clearfloor_tests.id(name), 'model', model, 'quality', quality, 'rejected', rejected
    )
$$;

-- A decision of acme's agent, answered by `pgtap` (predicted at 0.8) after another candidate had failed. A second provider's
-- `pgtap` is expected to be worse.
create function pg_temp.decide(
    name text, outcome text default 'succeeded', request jsonb default '{}', organization text default 'acme',
    floor double precision default 0.7, rejected text default null
) returns void language plpgsql as $$
begin
    insert into public.routing_outcomes (
        id, organization_id, agent_id, lease_expires_at, requested_model, requested_rule, decision_rule, floor, task, stream,
        catalogue_version, routing_request, candidates
    ) values (
        clearfloor_tests.id(name), clearfloor_tests.id(organization), clearfloor_tests.id(organization || ' agent'), now(), 'auto', 'cheapest_clearing_floor',
        'cheapest_clearing_floor', floor, 'code', false, -1, request, jsonb_build_array(
            pg_temp.candidate('other', 'other', 0.9), pg_temp.candidate('of another provider', 'pgtap', 0.3, 'below_floor'),
            pg_temp.candidate('candidate', 'pgtap', 0.8, rejected), pg_temp.candidate('of a third', 'pgtap', 0.2, 'below_floor')
        )
    );
    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd,
        status, finished_at, usage_source
    )
    select
        clearfloor_tests.id(name || attempt.number), clearfloor_tests.id(organization), clearfloor_tests.id(name), attempt.number, clearfloor_tests.id(attempt.candidate),
        'pgtap', attempt.model, clearfloor_tests.id('price'), 0, attempt.status, now(), 'estimate'
    from (values (1, 'other', 'other', 'failed'), (2, 'candidate', 'pgtap', 'succeeded')) as attempt (number, candidate, model, status);
    update public.routing_outcomes
    set outcome_status = outcome, completed_at = now(), charge_nano_usd = 0, inference_id = clearfloor_tests.id(name || 2)
    where id = clearfloor_tests.id(name) and outcome <> 'open';
end
$$;

-- What is answered to a key of acme's agent: the row without ids, or the refusal.
create function pg_temp.rate(
    name text, score double precision, checker text default null, organization text default 'acme',
    agent text default 'acme agent', member text default null
) returns text language plpgsql as $$
declare
    given jsonb;
begin
    given := public.record_feedback(
        clearfloor_tests.id(name), clearfloor_tests.id(organization), case when member is null then clearfloor_tests.id(agent) end,
        case when member is null then clearfloor_tests.id(organization || ' key') end, clearfloor_tests.id(member), checker, score
    );
    return concat_ws(' ', given ->> 'source', given ->> 'model', given ->> 'task', given ->> 'predicted', given ->> 'floor', given ->> 'score');
exception when others then
    return replace(sqlstate || ' ' || sqlerrm, clearfloor_tests.id(name)::text, 'it');
end
$$;

create function pg_temp.sums(model text default 'pgtap') returns text [] language sql as $$
    select array(
        select concat_ws(' ', task, round(successes::numeric, 4), round(trials::numeric, 4)) from public.quality_sums
        where quality_sums.model = sums.model and task <> 'general' order by task
    )
$$;

do $$
begin
    perform pg_temp.decide('plain');
    perform pg_temp.decide('mixed', request => '{"posterior": [["math", 0.75], ["code", 0.25], ["law", 0]]}');
    perform pg_temp.decide('of zenith', organization => 'zenith');
    perform pg_temp.decide('open', 'open');
    perform pg_temp.decide(status, status) from unnest(array['failed_provider_error', 'cancelled', 'abandoned', 'failed_other']) as status;
end
$$;

-- What is no answer is not rated.
select is(pg_temp.rate('open', 1), 'PT409 The decision it is still open; no feedback was kept.', 'an open decision is not rated yet');
select is(
    pg_temp.rate(status, 0), format('PT409 The decision it ended as `%s`, which says nothing of quality; no feedback was kept.', status),
    format('one that ended as %s never is', status)
)
from unnest(array['failed_provider_error', 'cancelled', 'abandoned', 'failed_other']) as status;
select is(
    pg_temp.rate(name, 1, organization => organization, agent => agent, member => member),
    'PT404 There is no decision it of yours; no feedback was kept.', sentence
)
from (values
    ('nowhere', 'acme', 'acme agent', null, 'one that is not there is missing'),
    ('of zenith', 'acme', 'acme agent', null, 'and so is another organization''s to a key'),
    ('of zenith', 'acme', null, 'member of acme', 'and to a member'),
    ('plain', 'acme', 'another agent', null, 'and another agent''s to a key')
) as foreign_decision (name, organization, agent, member, sentence);
select is(
    pg_temp.rate('plain', 2), '23514 new row for relation "feedback" violates check constraint "feedback_score_check"',
    'a score is at most 1'
);
select is(
    pg_temp.rate('plain', 1, checker => 'No Spaces'),
    '23514 new row for relation "feedback" violates check constraint "feedback_source_check"', 'a checker''s name is plain'
);
select is(pg_temp.sums(), '{}', 'none of this moved a rate');

-- Each source once.
select is(pg_temp.rate('plain', 0.5), 'agent pgtap code 0.8 0.7 0.5', 'an agent rates the model that answered, with what was predicted of it');
select is(pg_temp.sums(), array['code 0.5000 1.0000'], 'without probabilities the task counts whole');
update public.learning set most_sources = 4;
select is(pg_temp.rate('plain', 0.5), 'agent pgtap code 0.8 0.7 0.5', 'the same again is answered the same');
select is(
    pg_temp.rate('plain', 0.6), 'PT409 The source `agent` has rated the decision it with 0.5; no other feedback was kept.',
    'another score is refused'
);
select is(pg_temp.sums(), array['code 0.5000 1.0000'], 'and neither counts');
select is(
    pg_temp.rate('plain', 1, checker => 'json-schema_1.0'), 'checker:json-schema_1.0 pgtap code 0.8 0.7 1',
    'a checker is a source of its own'
);
select is(
    pg_temp.rate('plain', 0, member => 'member of acme'),
    format('user:%s pgtap code 0.8 0.7 0', clearfloor_tests.id('member of acme')), 'and so is each member, of whichever agent'
);
select is(
    pg_temp.rate('plain', 1, member => 'owner of acme'),
    format('user:%s pgtap code 0.8 0.7 1', clearfloor_tests.id('owner of acme')), 'the next one, too'
);
select is(pg_temp.sums(), array['code 2.5000 4.0000'], 'they add up');
select is(pg_temp.sums('other'), '{}', 'the model that failed is not rated');
select is(
    pg_temp.rate('plain', 1, checker => 'one-more'),
    'PT409 The decision it has been rated by as many sources as may; no feedback was kept.',
    'no more sources than the operator lets'
);
select is(pg_temp.rate('plain', 0.5), 'agent pgtap code 0.8 0.7 0.5', 'of those the same again is still the same');

-- Several classes.
select is(pg_temp.rate('mixed', 0.8), 'agent pgtap code 0.8 0.7 0.8', 'a decision with probabilities is rated likewise');
select is(
    pg_temp.sums(), array['code 2.7000 4.2500', 'math 0.6000 0.7500'], 'and counts for each class by its probability, for none at 0'
);

-- Fading, to moments that are stated.
create function pg_temp.learn(score double precision, moment timestamptz, name text default 'mixed', model text default 'fading') returns text []
language sql as $$
    select private.learn(decision, model, score, moment) from public.routing_outcomes as decision where id = clearfloor_tests.id(name);
    select pg_temp.sums(model)
$$;
select is(pg_temp.learn(1, '2026-01-01'), array['code 0.2500 0.2500', 'math 0.7500 0.7500'], 'the first of a model');
select is(
    pg_temp.learn(0, '2026-01-29'), array['code 0.1250 0.3750', 'math 0.3750 1.1250'], 'after a half-life it counts half, beside the second'
);
select is(
    pg_temp.learn(1, '2026-01-01'), array['code 0.2500 0.5000', 'math 0.7500 1.5000'],
    'what was given earlier and comes later counts for what it is worth by then'
);
select is(
    (select max(decayed_to) from public.quality_sums where model = 'fading'), '2026-01-29'::timestamptz, 'and time does not run back'
);
select is(
    pg_temp.learn(1, '2026-02-26', 'plain'), array['code 1.1250 1.2500', 'math 0.7500 1.5000'], 'each class fades when it is next rated'
);
update public.learning set half_life_days = 7;
select is(
    pg_temp.learn(0, '2026-03-12', 'plain'), array['code 0.2813 1.3125', 'math 0.7500 1.5000'], 'the half-life is the operator''s'
);
select is(
    pg_temp.learn(0.5, '2126-01-01', 'plain'), array['code 0.5000 1.0000', 'math 0.7500 1.5000'], 'after a hundred years nothing is left'
);
select is(private.decayed(3, '2026-01-29', '2026-01-01', 28), 3::double precision, 'nothing grows');
select is(private.decayed(1e-300, '2026-01-01', '2026-01-02', 1), 0::double precision, 'next to nothing becomes nothing, without an error');

-- Whether the candidate that answered was expected to clear the floor.
create function pg_temp.cleared(name text) returns boolean language sql as $$
    select pg_temp.rate(name, 0.5);
    select floor_cleared from public.feedback where routing_outcome_id = clearfloor_tests.id(name) and source = 'agent'
$$;
do $$
begin
    perform pg_temp.decide('missed', rejected => 'below_floor');
    perform pg_temp.decide('without a floor', floor => null);
end
$$;
select is(pg_temp.cleared('plain'), true, 'whoever answered cleared the floor, whatever became of others of its model');
select is(pg_temp.cleared('missed'), false, 'or did not, where the floor had rejected it, though its quality is above');
select is(pg_temp.cleared('without a floor'), null, 'without a floor there is nothing to clear');

-- Kept.
select throws_ok(
    format(statement, clearfloor_tests.id('plain')), '23001', 'A row of feedback is never changed or deleted; nothing was.',
    'nobody edits feedback: ' || split_part(statement, ' ', 1)
)
from unnest(array[
    'update public.feedback set score = 1 where routing_outcome_id = %L', 'delete from public.feedback where routing_outcome_id = %L'
]) as statement;
do $$
begin
    update public.routing_outcomes set inference_id = null, outcome_status = null, completed_at = null, charge_nano_usd = null
    where id = clearfloor_tests.id('plain');
    delete from public.inferences where routing_outcome_id = clearfloor_tests.id('plain');
    delete from public.routing_outcomes where id = clearfloor_tests.id('plain');
end
$$;
select is(
    (select count(*) from public.feedback where routing_outcome_id = clearfloor_tests.id('plain')), 4::bigint,
    'feedback is kept when its decision is deleted'
);
select is(pg_temp.rate('plain', 0.5), 'PT404 There is no decision it of yours; no feedback was kept.', 'which takes no more then');

select * from finish();
rollback;
