-- What is counted of each decision, by the functions that complete it: once, when it is completed, under what became of it.
begin;
select plan(13);

-- Ids are hashes of names: the same in every run, and nobody else's.
create function pg_temp.id(name text) returns uuid language sql immutable return md5('clearfloor pgtap ' || name)::uuid;

insert into public.organizations (id, name) select pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.agents (id, organization_id, name)
select pg_temp.id(name || ' agent'), pg_temp.id(name), name from unnest(array['acme', 'zenith']) as name;
insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash)
select pg_temp.id(name || ' key'), pg_temp.id(name), pg_temp.id(name || ' agent'), name, 'cf_', sha256(name::bytea)
from unnest(array['acme', 'zenith']) as name;
insert into public.providers (name, base_url) values ('pgtap', 'http://pgtap.example/v1');
insert into public.models (name) values ('pgtap');
insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, max_output_tokens)
values (pg_temp.id('candidate'), 'pgtap', 'pgtap', 'pgtap', 1000, 1000);
-- Nano-USD a token: input 1, cache read 0.1, cache write 2, output 3, reasoning 5.
insert into public.prices values
(pg_temp.id('price'), pg_temp.id('candidate'), now(), array[(0, 1000000, 100000, 2000000, 4000000, 3000000, 5000000)::public.price_tier], 'pgtap');
insert into public.catalogue_snapshots (version, digest, content) overriding system value values (-1, 'pgtap', '[]');

-- What the backend sends to open a decision: acme's own, reserving 100, unless `changes` says otherwise.
create function pg_temp.opening(name text, changes jsonb default '{}') returns jsonb language sql as $$
    select jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'agent_id', pg_temp.id('acme agent'),
        'api_key_id', pg_temp.id('acme key'), 'requested_model', 'auto', 'requested_rule', 'cheapest_clearing_floor',
        'floor', 0.7, 'task', 'general', 'stream', false, 'catalogue_version', -1, 'routing_request', '{}'::jsonb,
        'candidates', '[]'::jsonb, 'lease_seconds', 60, 'inference_id', pg_temp.id(name || ' attempt 1'),
        'candidate_id', pg_temp.id('candidate'), 'price_id', pg_temp.id('price'), 'bound_nano_usd', 100
    ) || changes
$$;

-- Opens decisions in one call; returns how each was answered: null is open.
create function pg_temp.open(variadic items jsonb []) returns text [] language sql as $$
    select array_agg(coalesce(answer ->> 'error', answer ->> 'outcome_status') order by place)
    from jsonb_array_elements(public.insert_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- What the backend says of an attempt: it failed with a 500 after 10 input tokens, unless `changes` says otherwise.
create function pg_temp.result(name text, changes jsonb default '{}') returns jsonb language sql as $$
    select jsonb_build_object(
        'inference_id', pg_temp.id(name), 'status', 'failed', 'http_calls', 1, 'http_status', 500,
        'error_class', 'server_error', 'input_tokens', 10, 'usage_source', 'provider',
        'usage_convention', 'openai', 'reported_usage', '{"prompt_tokens": 10}'::jsonb
    ) || changes
$$;

-- What the backend sends to complete a decision whose attempt answered, at a cost of 10 + 2 * 3 = 16.
create function pg_temp.completion(name text, changes jsonb default '{}', result jsonb default '{}', number integer default 1)
returns jsonb language sql as $$
    select jsonb_build_object(
        'id', pg_temp.id(name), 'organization_id', pg_temp.id('acme'), 'outcome_status', 'succeeded',
        'decision_rule_override', null, 'attempt', pg_temp.result(
            format('%s attempt %s', name, number),
            '{"status": "succeeded", "http_status": 200, "error_class": null, "output_tokens": 2}'::jsonb || result
        )
    ) || changes
$$;

-- Completes in one call; returns how each was answered.
create function pg_temp.complete(variadic items jsonb []) returns text [] language sql as $$
    select array_agg(
        concat_ws(' ', answer ->> 'outcome_status', 'by', answer ->> 'decision_rule', 'for', answer ->> 'charge_nano_usd', answer ->> 'error')
        order by place
    )
    from jsonb_array_elements(public.complete_decisions(to_jsonb(items))) with ordinality as answers (answer, place)
$$;

-- An organization's hours added up, in words: outcome, model, decisions, attempts; input, output; charge; and of how many
-- decisions the baseline is known, its cost, and what was saved.
create function pg_temp.hours(name text default 'acme') returns text [] language sql as $$
    select array(
        select concat_ws(
            ' ', outcome_status, coalesce(nullif(model, ''), 'none'), sum(decisions), sum(attempts) || ';',
            sum(input_tokens), sum(output_tokens) || ';', sum(charge_nano_usd) || ';', sum(baseline_decisions),
            sum(baseline_cost_nano_usd), sum(saved_nano_usd)
        )
        from public.usage_hours where organization_id = pg_temp.id(name)
        group by outcome_status, model order by 1
    )
$$;
create function pg_temp.told() returns text [] language sql as $$
    select array(
        select outcome_status || ' ' || sum(decisions) from public.usage_by('hour', '2026-01-01')
        where agent_id = pg_temp.id('acme agent') group by outcome_status order by 1
    )
$$;
create function pg_temp.wrong_books() returns setof text language sql as $$
    select concat_ws(' ', invariant, subject_id, detail) from public.gateway_invariants()
    where organization_id in (pg_temp.id('acme'), pg_temp.id('zenith'))
$$;

-- Other sweepers wait until the end of this file.
do $$
begin
    perform pg_advisory_xact_lock(hashtextextended('clearfloor.sweep_decisions', 0));
    perform public.sweep_decisions(1000000);
    perform public.top_up_wallet(pg_temp.id('funds'), pg_temp.id('acme'), 1000);
    perform public.top_up_wallet(pg_temp.id('zenith funds'), pg_temp.id('zenith'), 100);
end
$$;
do $$
begin
    perform pg_temp.open(
        pg_temp.opening('first', jsonb_build_object('baseline_price_id', pg_temp.id('price'))), pg_temp.opening('second'),
        pg_temp.opening('third'),
        pg_temp.opening('of zenith', jsonb_build_object(
            'organization_id', pg_temp.id('zenith'), 'agent_id', pg_temp.id('zenith agent'),
            'api_key_id', pg_temp.id('zenith key')
        ))
    );
end
$$;
select is(pg_temp.hours(), '{}', 'what is open is not counted yet');
do $$
begin
    perform pg_temp.complete(
        pg_temp.completion('first'), pg_temp.completion('second'),
        pg_temp.completion('of zenith', jsonb_build_object('organization_id', pg_temp.id('zenith')))
    );
end
$$;
select is(pg_temp.hours(), array['succeeded pgtap 2 2; 20 4; 32; 1 16 0'], 'a batch is counted by agent, outcome and model');
select is(pg_temp.hours('zenith'), array['succeeded pgtap 1 1; 10 2; 16; 0 0 0'], 'and by organization');
do $$ begin perform pg_temp.complete(pg_temp.completion('first'), pg_temp.completion('third')); end $$;
select is(
    pg_temp.hours(), array['succeeded pgtap 3 3; 30 6; 48; 1 16 0'], 'completed twice is counted once; the next one is added'
);

do $$
begin
    perform pg_temp.open(pg_temp.opening('fails over'), pg_temp.opening('dear', '{"bound_nano_usd": 5000}'));
    perform public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id('fails over'), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id('fails over attempt 2'), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'bound_nano_usd', 100, 'previous', pg_temp.result('fails over attempt 1')
    )));
    perform pg_temp.complete(pg_temp.completion('fails over', number => 2));
end
$$;
select is(
    pg_temp.hours(), array['rejected_funds none 1 0; 0 0; 0; 0 0 0', 'succeeded pgtap 4 5; 40 8; 64; 1 16 0'],
    'what is refused at the opening is counted then; of attempts all are, of tokens those that are charged'
);
do $$
begin
    perform pg_temp.open(pg_temp.opening('goes on'));
    perform public.insert_attempts(jsonb_build_array(jsonb_build_object(
        'decision_id', pg_temp.id('goes on'), 'organization_id', pg_temp.id('acme'), 'lease_seconds', 60,
        'inference_id', pg_temp.id('goes on attempt 2'), 'candidate_id', pg_temp.id('candidate'),
        'price_id', pg_temp.id('price'), 'bound_nano_usd', 5000, 'previous', pg_temp.result('goes on attempt 1')
    )));
end
$$;
select is(
    (pg_temp.hours())[1:2],
    array['rejected_funds none 1 0; 0 0; 0; 0 0 0', 'rejected_funds pgtap 1 1; 10 0; 10; 0 0 0'],
    'what is refused later is counted under the model that was tried'
);

-- Swept, and then completed late.
do $$
begin
    perform pg_temp.open(
        pg_temp.opening('late', jsonb_build_object('lease_seconds', -1, 'baseline_price_id', pg_temp.id('price'))),
        pg_temp.opening('lost', '{"lease_seconds": -1}')
    );
    perform public.sweep_decisions(10);
end
$$;
select is((pg_temp.hours())[1], 'abandoned pgtap 2 2; 0 0; 0; 1 0 0', 'what is swept is counted as abandoned');
do $$ begin perform pg_temp.complete(pg_temp.completion('late')); end $$;
select is((pg_temp.hours())[1], 'abandoned pgtap 1 1; 0 0; 0; 0 0 0', 'until it is completed after all');
select is((pg_temp.hours())[4], 'succeeded pgtap 5 6; 50 10; 80; 2 32 0', 'then it is counted as what became of it');
select is(
    pg_temp.told(), array['abandoned 1', 'rejected_funds 2', 'succeeded 5'], 'as usage_by tells'
);
do $$ begin perform pg_temp.complete(pg_temp.completion('lost')); end $$;
select is(
    pg_temp.told(), array['rejected_funds 2', 'succeeded 6'], 'of what was all taken off again nothing is left'
);
select is(
    (select sum(decisions) from public.usage_hours where organization_id = pg_temp.id('acme')),
    (select count(*)::numeric from public.routing_outcomes where organization_id = pg_temp.id('acme')),
    'every decision is counted once'
);
select is_empty('select pg_temp.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
