-- What an operator does to a wallet: top-ups, refunds, corrections. Each once, each with who and why.
begin;
select plan(31);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

do $$
begin
    perform public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000, 'invoice 1', 'ann');
    perform public.set_spend_cap(clearfloor_tests.id('day'), clearfloor_tests.id('acme'), null, 'day', 500);
    perform public.set_spend_cap(
        clearfloor_tests.id('life'), clearfloor_tests.id('acme'), clearfloor_tests.id('acme agent'), 'lifetime', 500
    );
end
$$;
set local role service_role;
create function pg_temp.charged() returns text language sql as $$
    select string_agg(charged_nano_usd::text, ' ') from public.spend_counters where organization_id = clearfloor_tests.id('acme')
$$;
create function pg_temp.refund(name text, amount bigint, decision text default 'call', organization text default 'acme')
returns bigint language sql as $$
    select public.refund_decision(
        clearfloor_tests.id(name), clearfloor_tests.id(organization), clearfloor_tests.id(decision), amount,
        'did not answer the question', 'ann'
    )
$$;

select is(clearfloor_tests.open(clearfloor_tests.opening('call')), array[null], 'a decision is open');
select throws_ok(
    $$select pg_temp.refund('early', 1)$$, '22023',
    format('Decision %s was charged 0 nano-USD, of which 0 are refunded; nothing was changed.', clearfloor_tests.id('call')),
    'what is not settled cannot be refunded'
);
select is(clearfloor_tests.complete_at('call', 80), 'succeeded', 'it is charged 80');
select is(pg_temp.charged(), '80 80', 'its caps count that');
select is(pg_temp.refund('refund', 30), 950::bigint, 'a part is refunded');
select is(pg_temp.refund('refund', 30), 950::bigint, 'a refund that is sent twice is one');
select is(pg_temp.charged(), '50 50', 'the caps of its windows count it no longer');
select throws_ok(
    $$select pg_temp.refund('refund', 31)$$, '23505',
    format('The entry id %s is taken by another refund; nothing was changed.', clearfloor_tests.id('refund')),
    'the id of one refund cannot stand for another'
);
select throws_ok(
    $$select pg_temp.refund('too much', 51)$$, '22023',
    format('Decision %s was charged 80 nano-USD, of which 30 are refunded; nothing was changed.', clearfloor_tests.id('call')),
    'no more is refunded than was charged'
);
select throws_ok(
    $$select pg_temp.refund('foreign', 1, organization => 'zenith')$$, '22023', null,
    'another organization''s decision is not refunded'
);
select is(pg_temp.refund('rest', 50), 1000::bigint, 'the rest is refunded');
select is(pg_temp.refund('rest', 50), 1000::bigint, 'sent again, it is weighed as it was the first time');
select is(pg_temp.charged(), '0 0', 'nothing is counted any more');
select throws_ok(
    format('select pg_temp.refund(''bad'', %s)', amount), '22023',
    format('The amount is %s nano-USD; nothing was changed.', amount), format('a refund of %s is refused', amount)
)
from unnest(array[0, -5]) as amount;
select results_eq(
    $$
        select kind, debit_account, credit_account, amount_nano_usd, actor, note, routing_outcome_id = clearfloor_tests.id('call')
        from public.ledger_entries where id = clearfloor_tests.id('refund')
    $$,
    $$values ('refund', 'usage', 'wallet', 30::bigint, 'ann', 'did not answer the question', true)$$,
    'the ledger says who refunded what, and why'
);

select is(
    public.correct_wallet(clearfloor_tests.id('gain'), clearfloor_tests.id('acme'), 5, 'goodwill', 'ann'), 1005::bigint,
    'a correction gives'
);
select is(
    public.correct_wallet(clearfloor_tests.id('taken'), clearfloor_tests.id('acme'), -105, 'paid twice', 'ann'), 900::bigint,
    'a correction takes'
);
select is(
    public.correct_wallet(clearfloor_tests.id('taken'), clearfloor_tests.id('acme'), -105, 'paid twice', 'ann'), 900::bigint,
    'a correction that is sent twice is one'
);
select throws_ok(
    $$select public.correct_wallet(clearfloor_tests.id('taken'), clearfloor_tests.id('acme'), 105, 'paid twice', 'ann')$$,
    '23505', null,
    'the id of what was taken cannot stand for what is given'
);
select is(pg_temp.charged(), '0 0', 'no cap counts a correction');
select is(clearfloor_tests.open(clearfloor_tests.opening('held')), array[null], 'a decision holds 100');
select throws_ok(
    $$select public.correct_wallet(clearfloor_tests.id('all'), clearfloor_tests.id('acme'), -801, 'closing', 'ann')$$, '22023',
    'The wallet has 800 nano-USD that nothing holds; nothing was changed.', 'what is held cannot be taken'
);
select is(
    public.correct_wallet(clearfloor_tests.id('all'), clearfloor_tests.id('acme'), -800, 'closing', 'ann'), 100::bigint,
    'what is not held can'
);
select throws_ok(
    format(
        'select public.correct_wallet(clearfloor_tests.id(''why''), clearfloor_tests.id(''acme''), 1, %L, %L)', note, actor
    ),
    '23514',
    null, format('a correction by `%s` because of `%s` is refused', actor, note)
)
from (values ('', 'ann'), ('goodwill', '')) as correction (note, actor);
select throws_ok(
    $$select public.correct_wallet(clearfloor_tests.id('lost'), clearfloor_tests.id('nobody'), 1, 'why', 'ann')$$, '22023',
    format('There is no organization %s; nothing was changed.', clearfloor_tests.id('nobody')),
    'nobody''s wallet is not corrected'
);
select throws_ok(
    format('%s public.ledger_entries', verb), '42501', null, format('the backend itself may not %s', verb)
)
from unnest(array['insert into public.ledger_entries select * from', 'delete from', 'truncate']) as verb;
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

select * from finish();
rollback;
