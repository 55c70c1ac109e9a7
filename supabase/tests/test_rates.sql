-- Rates: what is published of what was learned, when, and how the backend reads it.
begin;
select plan(25);
call clearfloor_tests.create_world();
-- Others that publish wait until the end of this file.
do $$ begin perform pg_advisory_xact_lock(hashtextextended('clearfloor.publish_rates', 0)); end $$;
delete from public.quality_sums;

create function pg_temp.newest() returns public.rate_snapshots language sql as $$
    select rates from public.rate_snapshots as rates order by id desc limit 1
$$;

insert into public.quality_sums values
('good', 'code', 9, 10, '2026-01-01'), ('good', 'math', 1.0000004, 3.0000004, '2026-01-29'), ('good', 'gone', 0.01, 0.0199, '2026-01-01'),
('bad', 'code', 0, 2, '2026-01-01');
select is(
    private.learned_rates('2026-01-29')::text, '{"bad": {"code": [0, 1]}, "good": {"code": [4.5, 5], "math": [1, 3]}}',
    'what was learned is told as it counts at that moment, rounded, without what has faded away'
);
select is(
    private.learned_rates('2026-01-01') -> 'good' -> 'math', '[1, 3]', 'at an earlier moment as it counts later: nothing grows'
);
delete from public.quality_sums;
select is(private.learned_rates(now()), '{}', 'of nothing, nothing');

-- Output tokens, of the newest attempts only. Ids are in the order of time.
create function pg_temp.answer(number integer, task text, output bigint, reasoning bigint default 0, answers integer default null, status text default 'succeeded')
returns void language plpgsql as $$
declare
    decision constant uuid := (repeat('f', 16) || lpad(to_hex(number), 16, '0'))::uuid;
begin
    insert into public.routing_outcomes (
        id, organization_id, agent_id, lease_expires_at, requested_model, requested_rule, decision_rule, task, stream,
        catalogue_version, routing_request, candidates
    ) values (
        decision, clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), now(), 'auto', 'pinned_model', 'pinned_model', task, false, -1,
        jsonb_strip_nulls(jsonb_build_object('choices', answers)), '[]'
    );
    insert into public.inferences (
        id, organization_id, routing_outcome_id, attempt_number, candidate_id, provider, model, price_id, bound_nano_usd, status,
        finished_at, usage_source, output_tokens, reasoning_tokens
    ) values (
        decision, clearfloor_tests.id('acme'), decision, 1, clearfloor_tests.id('candidate'), 'pgtap', 'pgtap', clearfloor_tests.id('price'), 0, status, now(),
        'estimate', output, reasoning
    );
end
$$;
do $$
begin
    perform pg_temp.answer(number, 'old', 1000) from generate_series(100, 119) as number;
    perform pg_temp.answer(number, 'code', 90 + number % 2 * 10, 5) from generate_series(200, 219) as number;
    perform pg_temp.answer(number, 'several', 400, answers => 4) from generate_series(300, 319) as number;
    perform pg_temp.answer(number, 'rare', 7) from generate_series(400, 418) as number;
    perform pg_temp.answer(number, 'code', 100000, status => 'cut') from generate_series(500, 519) as number;
end
$$;
select is(
    private.mean_output_tokens(98), '{"code": 100, "several": 100}',
    'output and reasoning of an answer, of the newest attempts that succeeded, where there are twenty of a class'
);
select is(private.mean_output_tokens(99) -> 'old', '1000', 'older ones count if they are asked for');
select is(private.mean_output_tokens(0), '{}', 'of no attempts, nothing');

-- The plan of its query, as it is, with many rows: bounded by the number of attempts.
do $$
begin
    perform pg_temp.answer(number, 'many', 1) from generate_series(1000, 4000) as number;
end
$$;
analyze public.routing_outcomes, public.inferences;
create temp table plan_of_sample (line text);
do $$
declare
    query constant text := (
        select substring(prosrc from 'return \((\s*select coalesce.*)\);\s*end') from pg_proc
        where oid = 'private.mean_output_tokens(bigint)'::regprocedure
    );
    line text;
begin
    for line in execute 'explain (costs off) ' || replace(replace(query, 'mean_output_tokens.attempts', '200'), 'least_answers', '20') loop
        insert into plan_of_sample values (line);
    end loop;
end
$$;
select isnt_empty(
    $$select from plan_of_sample where line ~ 'Index Scan Backward using inferences_pkey'$$, 'the newest attempts are found by their ids'
);
select isnt_empty(
    $$select from plan_of_sample where line ~ 'Index Scan using routing_outcomes_pkey'$$, 'and their decisions one by one'
);
select is_empty($$select from plan_of_sample where line ~ 'Seq Scan|Hash Join|Merge Join'$$, 'nothing is read as a whole');

-- Publishing.
update public.learning set sampled_attempts = 0;
insert into public.quality_sums values ('good', 'code', 9, 10, date_trunc('day', now(), 'UTC'));
create temp table first as select public.publish_rates() as id;
select is((pg_temp.newest()).id, (select id from first), 'what is published is the newest');
select is((pg_temp.newest()).content, '{"learned": {"good": {"code": [9, 10]}}, "output_tokens": {}}', 'with what was learned, as it counted when the day began');
select is((pg_temp.newest()).prior_strength, 12::double precision, 'and what the prior was worth');
select is(public.publish_rates(), (select id from first), 'what is the same is not published again');
update public.quality_sums set decayed_to = now();
select is(public.publish_rates(), (select id from first), 'nor for what counts since a moment of the day');
update public.quality_sums set trials = 11;
select is(public.publish_rates(3600), (select id from first), 'nor if the newest is younger than is asked for');
select ok(public.publish_rates() > (select id from first), 'what has changed is');
select is((pg_temp.newest()).content -> 'learned', '{"good": {"code": [9, 11]}}', 'as it is now');
update public.quality_sums set trials = 10;
select ok(public.publish_rates() > (select id + 1 from first), 'and so is what was the case before: only the newest is compared');
update public.learning set prior_strength = 20;
do $$ begin perform public.publish_rates(); end $$;
select is((pg_temp.newest()).prior_strength, 20::double precision, 'another prior is published, too');

-- Reading.
select is(public.read_catalogue() -> 'rate_snapshot', to_jsonb((pg_temp.newest()).id), 'the catalogue comes with the newest rates');
select is(
    public.read_catalogue(null, 0) -> 'rates',
    '{"learned": {"good": {"code": [9, 10]}}, "output_tokens": {}, "prior_strength": 20}', 'to whoever does not know them'
);
select is(public.read_catalogue(null, (pg_temp.newest()).id) -> 'rates', 'null', 'and not again to whoever does');
select throws_ok(
    statement, '23001', 'A row of rate_snapshots is never changed or deleted; nothing was.', 'nobody edits a snapshot: ' || statement
)
from unnest(array['update public.rate_snapshots set content = ''{}''', 'delete from public.rate_snapshots']) as statement;
truncate public.rate_snapshots;
select is(
    public.read_catalogue() - '{version,candidates,cooldowns}'::text [], '{"rate_snapshot": null, "rates": null}',
    'before anything is published there are none'
);

select * from finish();
rollback;
