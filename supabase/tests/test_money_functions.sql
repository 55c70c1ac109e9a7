-- Funds and caps: added once, held before a call, counted in the window that opened the decision.
begin;
select plan(119);
call clearfloor_tests.create_organizations();
call clearfloor_tests.create_catalogue();

create function pg_temp.set_cap(kind text, most bigint, agent text default 'acme agent', name text default 'cap')
returns void language sql as $$
    select public.set_spend_cap(
        clearfloor_tests.id(name || kind), clearfloor_tests.id('acme'), clearfloor_tests.id(agent), kind, most
    )
$$;

-- What a cap's window holds and was charged: `ago` before now.
create function pg_temp.counter(kind text, ago interval default '0', name text default 'cap') returns text language sql as $$
    select format('%s held, %s charged', held_nano_usd, charged_nano_usd)
    from public.spend_counters
    where spend_cap_id = clearfloor_tests.id(name || kind)
        and window_start = case when kind = 'lifetime' then '-infinity' else date_trunc(kind, now() - ago, 'UTC') end
$$;

set local role service_role;

-- Funds.
select is(clearfloor_tests.wallet('acme'), '0 of which 0 held', 'an organization has a wallet from its first moment');
select is(
    public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000, 'invoice 1'), 1000::bigint,
    'funds are added to a wallet'
);
select is(
    public.top_up_wallet(clearfloor_tests.id('funds'), clearfloor_tests.id('acme'), 1000, 'invoice 1'), 1000::bigint,
    'funds that are sent twice are added once'
);
select throws_ok(
    format('select public.top_up_wallet(clearfloor_tests.id(''funds''), clearfloor_tests.id(%L), %s)', organization, amount),
    '23505', null,
    format('the id of one top-up cannot stand for another: %s to %s', amount, organization)
)
from (values ('acme', 999), ('zenith', 1000)) as other (organization, amount);
select results_eq(
    $$
        select kind, debit_account, credit_account, amount_nano_usd, note
        from public.ledger_entries where organization_id = clearfloor_tests.id('acme')
    $$,
    $$values ('top_up', 'funding', 'wallet', 1000::bigint, 'invoice 1')$$,
    'funds that are sent twice are one entry of the ledger'
);
select is(
    public.top_up_wallet(clearfloor_tests.id('more funds'), clearfloor_tests.id('acme'), 9000), 10000::bigint,
    'other funds come on top'
);
select throws_ok(
    format('select public.top_up_wallet(clearfloor_tests.id(%L), clearfloor_tests.id(''acme''), %s)', amount, amount), '22023',
    format('The amount is %s nano-USD; nothing was changed.', amount),
    format('a top-up of %s is refused', amount)
)
from unnest(array[0, -1]) as amount;
select throws_ok(
    $$select public.top_up_wallet(clearfloor_tests.id('lost'), clearfloor_tests.id('nobody'), 1)$$, '22023',
    format('There is no organization %s; nothing was changed.', clearfloor_tests.id('nobody')),
    'funds for an unknown organization are refused'
);
select is(clearfloor_tests.wallet('acme'), '10000 of which 0 held', 'refused funds change nothing');
select is(clearfloor_tests.wallet('zenith'), '0 of which 0 held', 'funds of one organization are not another''s');

-- A cap counts what its window has already spent and holds.
select is(
    clearfloor_tests.open(clearfloor_tests.opening('spent'), clearfloor_tests.opening('held')), array[null, null],
    'two decisions are open'
);
select is(clearfloor_tests.complete_at('spent', 30), 'succeeded', 'one of them is completed at 30, the other one holds 100');
select lives_ok(format('select pg_temp.set_cap(%L, 150)', kind), format('a cap is set for each %s', kind))
from unnest(array['hour', 'day', 'month', 'lifetime']) as kind;
select is(
    pg_temp.counter(kind), '100 held, 30 charged',
    format('a new cap of the kind %s counts what its window has spent and holds', kind)
)
from unnest(array['hour', 'day', 'month', 'lifetime']) as kind;
select lives_ok(format('select pg_temp.set_cap(%L, 150)', kind), format('setting the %s cap twice is setting it once', kind))
from unnest(array['hour', 'day', 'month', 'lifetime']) as kind;
select is(
    (select count(*) from public.spend_caps where organization_id = clearfloor_tests.id('acme')), 4::bigint,
    'a scope has one cap of each kind'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('over all', '{"bound_nano_usd": 21}')), array['rejected_cap'],
    'what could pass a cap is refused: 30 spent, 100 held and 21 needed are more than 150'
);
select lives_ok(format('select pg_temp.set_cap(%L, null)', kind), format('the %s cap is removed', kind))
from unnest(array['hour', 'day', 'month', 'lifetime']) as kind;
select is_empty(
    $$select from public.spend_counters where organization_id = clearfloor_tests.id('acme')$$, 'a removed cap leaves no counters'
);

-- Several caps in the way: the one that stands there for longest is named, and any of them before the wallet.
select lives_ok(
    $$select pg_temp.set_cap(kind, 150) from unnest(array['hour', 'month', 'day']) as kind$$, 'three caps are set'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('over three', '{"bound_nano_usd": 1000000}')), array['rejected_cap'],
    'what neither the caps nor the wallet can take is refused by a cap: topping up would not help'
);
select is(
    clearfloor_tests.decision('over three', 'refusal')::jsonb ->> 'window', 'month',
    'the caller is told when coming back may help'
);
select lives_ok($$select pg_temp.set_cap('lifetime', 150)$$, 'a cap that never resets is set, too');
select is(
    clearfloor_tests.open(clearfloor_tests.opening('over four', '{"bound_nano_usd": 1000000}')), array['rejected_cap'],
    'that is refused as well'
);
select is(
    clearfloor_tests.decision('over four', 'refusal')::jsonb ->> 'window', 'lifetime',
    'the caller is told that coming back does not help'
);
select lives_ok(
    $$select pg_temp.set_cap(kind, null) from unnest(array['hour', 'month', 'day', 'lifetime']) as kind$$, 'all caps are removed'
);

-- One kind of cap after the other, each alone.
create function pg_temp.try_cap(kind text) returns setof text language plpgsql as $$
begin
    perform pg_temp.set_cap(kind, 150);
    return next is(
        clearfloor_tests.open(clearfloor_tests.opening('over ' || kind, '{"bound_nano_usd": 21}')), array['rejected_cap'],
        format('a %s cap refuses what could pass it', kind)
    );
    return next is(
        clearfloor_tests.decision('over ' || kind, 'refusal')::jsonb - 'resets_at',
        jsonb_build_object(
            'spend_cap_id', clearfloor_tests.id('cap' || kind), 'window', kind, 'scope', 'agent', 'cap_nano_usd', 150,
            'spent_nano_usd', 30, 'held_nano_usd', 100, 'needed_nano_usd', 21
        ),
        format('a refusal by a %s cap says what it allows, has spent, holds and would need', kind)
    );
    return next is(
        (clearfloor_tests.decision('over ' || kind, 'refusal')::jsonb ->> 'resets_at')::timestamptz,
        case when kind <> 'lifetime' then
            (date_trunc(kind, now() at time zone 'UTC') + format('1 %s', kind)::interval) at time zone 'UTC'
        end,
        format('a refusal by a %s cap says when it resets, in UTC', kind)
    );
    return next is(
        clearfloor_tests.open(
            clearfloor_tests.opening('at ' || kind, '{"bound_nano_usd": 20}'),
            clearfloor_tests.opening('free by ' || kind, '{"bound_nano_usd": 0}'),
            clearfloor_tests.opening('second by ' || kind, '{"bound_nano_usd": 500}', 'second')
        ),
        array[null, null, null],
        format('a %s cap can be used up, a free model passes beyond it, and another agent is not under it', kind)
    );
    return next is(pg_temp.counter(kind), '120 held, 30 charged', format('a hold is counted in its %s', kind));
    return next is(
        clearfloor_tests.open(
            clearfloor_tests.opening('after ' || kind, '{"bound_nano_usd": 1}'),
            clearfloor_tests.opening('free after ' || kind, '{"bound_nano_usd": 0}')
        ),
        array['rejected_cap', null], format('beyond a used-up %s cap only free models work', kind)
    );
    return next is(
        clearfloor_tests.complete_at('at ' || kind, 0), 'succeeded',
        format('a decision under the %s cap is completed for nothing', kind)
    );
    return next is(
        clearfloor_tests.complete_at('second by ' || kind, 0), 'succeeded', format('so is the one not under the %s cap', kind)
    );
    return next is(pg_temp.counter(kind), '100 held, 30 charged', format('a released hold leaves its %s', kind));
    return next is_empty('select clearfloor_tests.wrong_books()', format('under a %s cap the books are right', kind));
    perform pg_temp.set_cap(kind, null);
end
$$;
select pg_temp.try_cap(kind) from unnest(array['hour', 'day', 'month', 'lifetime']) as kind;

-- Scopes, and changes of a limit.
select lives_ok(
    $$
        select public.set_spend_cap(clearfloor_tests.id('allday'), clearfloor_tests.id('acme'), null, 'day', 200),
            pg_temp.set_cap('day', 140), pg_temp.set_cap('day', 1000, 'second agent', 'second')
    $$,
    'the organization is capped at 200 a day, its agents at 140 and 1000'
);
select is(
    clearfloor_tests.open(clearfloor_tests.opening('of second', '{"bound_nano_usd": 71}', 'second')), array['rejected_cap'],
    'the organization''s cap counts all of its agents'
);
select is(
    clearfloor_tests.decision('of second', 'refusal')::jsonb ->> 'scope', 'organization', 'a refusal says whose cap it was'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('b', '{"id": "c1ea4f10-0000-7000-8000-000000000002", "bound_nano_usd": 10}'),
        clearfloor_tests.opening('a', '{"id": "c1ea4f10-0000-7000-8000-000000000001", "bound_nano_usd": 11}'),
        clearfloor_tests.opening('c', '{"bound_nano_usd": 60, "id": "c1ea4f10-0000-7000-8000-000000000003"}', 'second'),
        clearfloor_tests.opening('d', '{"bound_nano_usd": 1, "id": "c1ea4f10-0000-7000-8000-000000000004"}', 'second')
    ),
    array[null, 'rejected_cap', null, 'rejected_cap'],
    'near its caps an organization''s decisions are tried one by one: a small hold behind a large one still fits'
);
select is(
    concat_ws('; ', pg_temp.counter('day', name => 'all'), pg_temp.counter('day'), pg_temp.counter('day', name => 'second')),
    '170 held, 30 charged; 110 held, 30 charged; 60 held, 0 charged', 'a hold is counted by every cap that it is under'
);
select is(
    clearfloor_tests.complete_at('held', 90), 'succeeded', 'the decision that was there before the caps is completed at 90'
);
select is(
    concat_ws('; ', pg_temp.counter('day', name => 'all'), pg_temp.counter('day')),
    '70 held, 120 charged; 10 held, 120 charged', 'a settlement turns what was held into what was charged'
);
select lives_ok($$select pg_temp.set_cap('day', 50)$$, 'a cap can be set below what is already spent');
select is(pg_temp.counter('day'), '10 held, 120 charged', 'a changed limit keeps what is counted');
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('below', '{"bound_nano_usd": 1}'),
        clearfloor_tests.opening('free below', '{"bound_nano_usd": 0}')
    ),
    array['rejected_cap', null], 'under a cap below what is spent only free models work'
);
select lives_ok($$select pg_temp.set_cap('day', 1000)$$, 'a cap can be raised again');
select throws_ok(
    $$select pg_temp.set_cap('day', -1)$$, '23514',
    'new row for relation "spend_caps" violates check constraint "spend_caps_limit_check"', 'a cap below zero is refused'
);
select throws_ok(
    format('select pg_temp.set_cap(''week'', %s)', most), '22023', 'There is no window `week`; no cap was changed.',
    format('a cap of an unknown window is refused, with a limit of %s', most)
)
from unnest(array['1', 'null']) as most;
select throws_ok(
    $$select pg_temp.set_cap('month', 1, 'zenith agent')$$, 'PT404',
    format('The organization has no agent %s; nothing was changed.', clearfloor_tests.id('zenith agent')),
    'an organization cannot cap the agent of another one'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all caps the books are right');

-- A decision counts in the window that opened it, even where it is completed in the next one.
select lives_ok(
    $$
        select public.set_spend_cap(clearfloor_tests.id('allday'), clearfloor_tests.id('acme'), null, 'day', null),
            pg_temp.set_cap('day', null, 'second agent', 'second')
    $$,
    'an organization and its agent have no caps any more'
);
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('overnight', '{"bound_nano_usd": 40}', 'second'),
        clearfloor_tests.opening('eve', '{"bound_nano_usd": 7}', 'second')
    ),
    array[null, null], 'two decisions are opened under no cap'
);
reset role;
select lives_ok(
    $$
        update public.routing_outcomes set opened_at = now() - interval '1 day'
        where id in (clearfloor_tests.id('overnight'), clearfloor_tests.id('eve'))
    $$,
    'they were opened yesterday'
);
set local role service_role;
select lives_ok($$select pg_temp.set_cap('day', 100, 'second agent', 'second')$$, 'the cap is set again today');
select is(clearfloor_tests.complete_at('eve', 3), 'succeeded', 'one of yesterday''s decisions is completed under the new cap');
select is(
    concat_ws('; ', pg_temp.counter('day', '1 day', 'second'), pg_temp.counter('day', name => 'second')),
    '60 held, 0 charged', 'a new cap counts what its own day holds, and has no business with the one before'
);
reset role;
update public.spend_caps set created_at = created_at - interval '2 days' where id = clearfloor_tests.id('secondday');
insert into public.spend_counters (spend_cap_id, window_start, organization_id, held_nano_usd, charged_nano_usd)
select spend_cap_id, window_start - interval '1 day', organization_id, 40, 3
from public.spend_counters where spend_cap_id = clearfloor_tests.id('secondday');
set local role service_role;
select is(
    clearfloor_tests.open(
        clearfloor_tests.opening('too much', '{"bound_nano_usd": 41}', 'second'),
        clearfloor_tests.opening('today', '{"bound_nano_usd": 40}', 'second')
    ),
    array['rejected_cap', null], 'what yesterday holds leaves today''s cap alone, even of a cap that was there yesterday'
);
select is(clearfloor_tests.complete_at('overnight', 25), 'succeeded', 'yesterday''s decision is completed today');
select is(
    concat_ws('; ', pg_temp.counter('day', '1 day', 'second'), pg_temp.counter('day', name => 'second')),
    '0 held, 28 charged; 100 held, 0 charged', 'a settlement counts in the day that opened its decision'
);
select is_empty('select clearfloor_tests.wrong_books()', 'after all of this the books are right');

-- Spending outlives the retention of the record: a new cap counts by the ledger.
reset role;
with old as (select id from public.routing_outcomes where id = clearfloor_tests.id('overnight')),
gone as (delete from public.inferences using old where routing_outcome_id = old.id)
delete from public.routing_outcomes using old where routing_outcomes.id = old.id;
set local role service_role;
select is(clearfloor_tests.decision('overnight', 'id'), null, 'yesterday''s decision has been retained away');
select is(
    public.set_spend_cap(
        clearfloor_tests.id('late cap'), clearfloor_tests.id('acme'), clearfloor_tests.id('second agent'), 'lifetime', 1000
    ),
    clearfloor_tests.id('late cap'), 'a cap is set for all of the agent''s life'
);
select is(
    (select charged_nano_usd from public.spend_counters where spend_cap_id = clearfloor_tests.id('late cap')), 28::bigint,
    'a new cap counts what was spent by a decision that is gone'
);
select is(
    public.set_spend_cap(
        clearfloor_tests.id('other id'), clearfloor_tests.id('acme'), clearfloor_tests.id('second agent'), 'lifetime', 900
    ),
    clearfloor_tests.id('late cap'), 'a cap that is there keeps its id'
);
select is(
    public.set_spend_cap(
        clearfloor_tests.id('other id'), clearfloor_tests.id('acme'), clearfloor_tests.id('second agent'), 'lifetime', null
    ),
    clearfloor_tests.id('late cap'), 'removing a cap tells which one it was'
);

-- An entry's id, chosen by somebody, cannot stand in the way of a settlement.
select is(clearfloor_tests.open(clearfloor_tests.opening('squatted')), array[null], 'a decision is open');
select lives_ok(
    $$select public.top_up_wallet(clearfloor_tests.id('squatted'), clearfloor_tests.id('acme'), 5)$$,
    'a top-up takes the decision''s id'
);
select is(clearfloor_tests.complete_at('squatted', 7), 'succeeded', 'the decision is settled all the same');

-- Whoever may make temporary objects still cannot write a wallet through a function of the record's owner: one that has
-- variables of that type. Having been altered, it looks the type up now, even if it has run before in this session.
reset role;
alter function public.set_rate_limit cost 100;
set local role service_role;
create function pg_temp.strike() returns boolean language plpgsql as $$
begin
    if current_user = 'clearfloor_writer' then
        update public.wallets set balance_nano_usd = 999999 where organization_id = clearfloor_tests.id('acme');
    end if;
    return true;
end
$$;
create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.strike());
create temporary table before_strike as select clearfloor_tests.wallet('acme') as wallet;
create temporary table strike as
select public.set_rate_limit(clearfloor_tests.id('strike'), clearfloor_tests.id('acme'), null, 1, null);
select is(
    clearfloor_tests.wallet('acme'), before_strike.wallet,
    'a type of the caller''s own has no part in a function of the record''s owner'
)
from before_strike;
drop domain pg_temp.uuid;

-- The last guards, whoever writes.
reset role;
select throws_ok(
    format('update public.wallets set %s where organization_id = clearfloor_tests.id(''acme'')', change), '23514',
    format('new row for relation "wallets" violates check constraint "%s"', name), description
)
from (values
    ('balance_nano_usd = -1, held_nano_usd = 0', 'wallets_balance_covers_held_check', 'a wallet is never below zero'),
    ('balance_nano_usd = held_nano_usd - 1', 'wallets_balance_covers_held_check', 'a wallet covers what it holds'),
    ('held_nano_usd = -1', 'wallets_held_check', 'a wallet holds nothing or more')
) as part (change, name, description);
select is(clearfloor_tests.wallet('zenith'), '0 of which 0 held', 'nothing of this has touched another organization');

select * from finish();
rollback;
