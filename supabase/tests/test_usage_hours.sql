-- What is counted of each decision, by the functions that complete it: once, when it is completed, under what became of it.
begin;
select plan(16);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

-- An organization's hours added up, in words: outcome, model, decisions, attempts; input, output; charge; and of how many
-- decisions the baseline is known, its cost, and what was saved.
create function pg_temp.hours(name text default 'acme') returns text [] language sql as $$
    select array(
        select concat_ws(
            ' ', outcome_status, coalesce(nullif(model, ''), 'none'), sum(decisions), sum(attempts) || ';',
            sum(input_tokens), sum(output_tokens) || ';', sum(charge_nano_usd) || ';', sum(baseline_decisions),
            sum(baseline_cost_nano_usd), sum(saved_nano_usd)
        )
        from public.usage_hours where organization_id = clearfloor_tests.id(name)
        group by outcome_status, model order by 1
    )
$$;
-- How many are counted now, by outcome and task class.
create function pg_temp.classes() returns text [] language sql as $$
    select array(
        select concat_ws(' ', outcome_status, task, sum(decisions))
        from public.usage_hours where organization_id = clearfloor_tests.id('acme')
        group by outcome_status, task having sum(decisions) <> 0 order by 1
    )
$$;
create function pg_temp.told() returns text [] language sql as $$
    select array(
        select outcome_status || ' ' || sum(decisions) from public.usage_by('hour', '2026-01-01')
        where agent_id = clearfloor_tests.id('acme agent') group by outcome_status order by 1
    )
$$;

-- Other sweepers wait until the end of this file.
do $$
begin
    perform pg_advisory_xact_lock(hashtextextended('clearfloor.sweep_decisions', 0));
    perform public.sweep_decisions(1000000);
    perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000);
    perform public.top_up_wallet(clearfloor_tests.id('zenith funds'), clearfloor_tests.id('zenith'), 100);
end
$$;
do $$
begin
    perform clearfloor_tests.open(
        clearfloor_tests.opening('first', jsonb_build_object('baseline_price_id', clearfloor_tests.id('price'))),
        clearfloor_tests.opening('second', '{"task": "code"}'), clearfloor_tests.opening('third'),
        clearfloor_tests.opening('of zenith', agent => 'zenith')
    );
end
$$;
select is(pg_temp.hours(), '{}', 'what is open is not counted yet');
do $$
begin
    perform clearfloor_tests.complete(
        clearfloor_tests.completion('first'), clearfloor_tests.completion('second'),
        clearfloor_tests.completion('of zenith', jsonb_build_object('organization_id', clearfloor_tests.id('zenith')))
    );
end
$$;
select is(pg_temp.hours(), array['succeeded pgtap 2 2; 20 4; 32; 1 16 0'], 'a batch is counted by agent, outcome and model');
select is(pg_temp.classes(), array['succeeded code 1', 'succeeded general 1'], 'by the class that its request was of');
select is(pg_temp.hours('zenith'), array['succeeded pgtap 1 1; 10 2; 16; 0 0 0'], 'and by organization');
do $$ begin perform clearfloor_tests.complete(clearfloor_tests.completion('first'), clearfloor_tests.completion('third')); end $$;
select is(
    pg_temp.hours(), array['succeeded pgtap 3 3; 30 6; 48; 1 16 0'], 'completed twice is counted once; the next one is added'
);

do $$
begin
    perform clearfloor_tests.open(
        clearfloor_tests.opening('fails over'), clearfloor_tests.opening('dear', '{"bound_nano_usd": 5000, "task": "law"}')
    );
    perform clearfloor_tests.go_on(clearfloor_tests.next_attempt('fails over', 2, 100));
    perform clearfloor_tests.complete(clearfloor_tests.completion('fails over', number => 2));
end
$$;
select is(
    pg_temp.hours(), array['rejected_funds none 1 0; 0 0; 0; 0 0 0', 'succeeded pgtap 4 5; 40 8; 64; 1 16 0'],
    'what is refused at the opening is counted then; of attempts all are, of tokens those that are charged'
);
do $$
begin
    perform clearfloor_tests.open(clearfloor_tests.opening('goes on'));
    perform clearfloor_tests.go_on(clearfloor_tests.next_attempt('goes on', 2, 5000));
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
    perform clearfloor_tests.open(
        clearfloor_tests.opening(
            'late',
            jsonb_build_object('lease_seconds', -60, 'baseline_price_id', clearfloor_tests.id('price'), 'task', 'math')
        ),
        clearfloor_tests.opening('lost', '{"lease_seconds": -60}')
    );
    perform public.sweep_decisions(10);
end
$$;
select is((pg_temp.hours())[1], 'abandoned pgtap 2 2; 0 0; 0; 1 0 0', 'what is swept is counted as abandoned');
select is(
    (pg_temp.classes())[1:4],
    array['abandoned general 1', 'abandoned math 1', 'rejected_funds general 1', 'rejected_funds law 1'],
    'what is refused or swept by its class, too'
);
do $$ begin perform clearfloor_tests.complete(clearfloor_tests.completion('late')); end $$;
select is((pg_temp.hours())[1], 'abandoned pgtap 1 1; 0 0; 0; 0 0 0', 'until it is completed after all');
select is((pg_temp.hours())[4], 'succeeded pgtap 5 6; 50 10; 80; 2 32 0', 'then it is counted as what became of it');
select is(
    pg_temp.classes(),
    array[
        'abandoned general 1', 'rejected_funds general 1', 'rejected_funds law 1', 'succeeded code 1', 'succeeded general 3',
        'succeeded math 1'
    ],
    'in the same class'
);
select is(
    pg_temp.told(), array['abandoned 1', 'rejected_funds 2', 'succeeded 5'], 'as usage_by tells'
);
do $$ begin perform clearfloor_tests.complete(clearfloor_tests.completion('lost')); end $$;
select is(
    pg_temp.told(), array['rejected_funds 2', 'succeeded 6'], 'of what was all taken off again nothing is left'
);
select is(
    (select sum(decisions) from public.usage_hours where organization_id = clearfloor_tests.id('acme')),
    (select count(*)::numeric from public.routing_outcomes where organization_id = clearfloor_tests.id('acme')),
    'every decision is counted once'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
