-- The money: wallets, caps with their counters, rate limits, and the ledger.
--
-- Written by the functions of clearfloor_writer only; service_role reads. Whoever holds the secret key can so neither
-- edit a wallet nor forget a charge. Everything here is changed under the lock of its organization's wallet row, the
-- one lock that money takes: see docs/decisions/0002.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.wallets (
    organization_id uuid primary key references public.organizations (id),
    balance_nano_usd bigint not null default 0,
    held_nano_usd bigint not null default 0,
    constraint wallets_held_check check (held_nano_usd >= 0),
    constraint wallets_balance_covers_held_check check (balance_nano_usd >= held_nano_usd)
);

comment on table public.wallets is
'Prepaid funds of an organization: balance is the sum of its ledger entries, held the sum of its open reservations.';

create table public.spend_caps (
    id uuid primary key,
    organization_id uuid not null references public.organizations (id),
    agent_id uuid,
    window_kind text not null
    constraint spend_caps_window_kind_check check (window_kind in ('hour', 'day', 'month', 'lifetime')),
    limit_nano_usd bigint not null constraint spend_caps_limit_check check (limit_nano_usd >= 0),
    created_at timestamptz not null default now(),
    set_at timestamptz not null default now(),
    taken_when_set_nano_usd bigint not null default 0,
    constraint spend_caps_agent_fkey
    foreign key (organization_id, agent_id) references public.agents (organization_id, id),
    constraint spend_caps_scope_key unique nulls not distinct (organization_id, agent_id, window_kind)
);

comment on table public.spend_caps is
'The most that an agent (or, where agent_id is null, the whole organization) may spend in a UTC window.';
comment on column public.spend_caps.taken_when_set_nano_usd is
'What the window of set_at, when the limit was set last, had held and charged by then. A limit may be set below that; from '
'then on nothing more is let through.';
comment on column public.spend_caps.created_at is
'Windows that had ended by then are none of its business: a decision opened in one settles without it.';

create table public.spend_counters (
    spend_cap_id uuid not null references public.spend_caps (id) on delete cascade,
    window_start timestamptz not null,
    organization_id uuid not null references public.organizations (id),
    held_nano_usd bigint not null default 0,
    charged_nano_usd bigint not null default 0,
    primary key (spend_cap_id, window_start),
    constraint spend_counters_held_check check (held_nano_usd >= 0),
    constraint spend_counters_charged_check check (charged_nano_usd >= 0)
);

create index spend_counters_organization_id_idx on public.spend_counters (organization_id);

comment on table public.spend_counters is
'What a cap''s window holds and has been charged. A hold and its settlement count in the window of the decision that '
'opened them. No row: nothing yet. No job resets anything: the next window is another row.';

create table public.rate_limits (
    id uuid primary key,
    organization_id uuid not null references public.organizations (id),
    agent_id uuid,
    requests_per_minute bigint constraint rate_limits_requests_check check (requests_per_minute > 0),
    tokens_per_minute bigint constraint rate_limits_tokens_check check (tokens_per_minute > 0),
    requests_full_at timestamptz not null default now(),
    tokens_full_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    constraint rate_limits_agent_fkey
    foreign key (organization_id, agent_id) references public.agents (organization_id, id),
    constraint rate_limits_scope_key unique nulls not distinct (organization_id, agent_id),
    constraint rate_limits_limits_something_check check (num_nonnulls(requests_per_minute, tokens_per_minute) > 0)
);

comment on table public.rate_limits is
'Requests and tokens that an agent (or, where agent_id is null, the whole organization) may take a minute: two buckets, '
'which hold a minute''s worth and fill up evenly. Null: no limit.';
comment on column public.rate_limits.requests_full_at is
'When the bucket is full if nothing more is taken: what is missing until then is what was taken. Nothing refills it. '
'Likewise tokens_full_at.';

create table public.ledger_entries (
    id uuid not null,
    organization_id uuid not null references public.organizations (id),
    kind text not null,
    debit_account text not null,
    credit_account text not null,
    amount_nano_usd bigint not null constraint ledger_entries_amount_check check (amount_nano_usd > 0),
    routing_outcome_id uuid,
    agent_id uuid,
    opened_at timestamptz,
    actor text not null default '',
    note text not null default '',
    created_at timestamptz not null default now(),
    -- By kind, so that nobody's choice of an id can stand in the way of a settlement.
    primary key (id, kind),
    -- The closed sets of the three, too. As text: cheaper to parse at each entry than a list of rows.
    constraint ledger_entries_accounts_match_kind_check
    check (
        kind || ' ' || debit_account || ' ' || credit_account = any(
            '{top_up funding wallet,settlement wallet usage,loss operator usage,refund usage wallet,'
            'correction operator wallet,correction wallet operator}'
        )
    ),
    constraint ledger_entries_usage_has_decision_check
    check (
        (kind = any('{settlement,loss,refund}')) = (num_nulls(routing_outcome_id, agent_id, opened_at) = 0)
    ),
    -- One settlement a decision, and one loss.
    constraint ledger_entries_usage_is_by_decision_check
    check (kind <> all('{settlement,loss}') or id = routing_outcome_id),
    constraint ledger_entries_operator_says_why_check
    check (kind <> all('{refund,correction}') or (actor <> '' and note <> ''))
);

create index ledger_entries_organization_id_created_at_idx on public.ledger_entries (organization_id, created_at);
create index ledger_entries_refunds_idx on public.ledger_entries (routing_outcome_id) where kind = 'refund';

comment on table public.ledger_entries is
'Double entry, append-only: each row takes an amount from one account of the organization and gives it to another. '
'A mistake is mended by another row.';
comment on column public.ledger_entries.id is
'The entry''s idempotency key: the decision''s id for a settlement and a loss, the caller''s own for the rest.';
comment on column public.ledger_entries.kind is
'loss: usage that the operator bears, as it was reported when the reservation had been released and the funds were gone.';
comment on column public.ledger_entries.actor is 'Who did it, where it was a person or a program of the operator''s.';
comment on column public.ledger_entries.routing_outcome_id is
'The decision that was settled or refunded. No foreign key: the ledger outlives the retention of the record.';
comment on column public.ledger_entries.opened_at is
'When that decision was opened: it decides the windows that the spending counts in, as agent_id decides the caps.';

revoke all on public.wallets, public.spend_caps, public.spend_counters, public.rate_limits, public.ledger_entries
from anon, authenticated, service_role;

grant select on public.wallets, public.spend_caps, public.spend_counters, public.rate_limits, public.ledger_entries
to authenticated, service_role;
grant select, insert, update on public.wallets, public.spend_caps, public.spend_counters, public.rate_limits
to clearfloor_writer;
grant delete on public.spend_caps, public.spend_counters, public.rate_limits to clearfloor_writer;
grant select, insert on public.ledger_entries to clearfloor_writer;

alter table public.wallets enable row level security;
alter table public.spend_caps enable row level security;
alter table public.spend_counters enable row level security;
alter table public.rate_limits enable row level security;
alter table public.ledger_entries enable row level security;

create policy wallets_select_member on public.wallets for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy spend_caps_select_member on public.spend_caps for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy spend_counters_select_member on public.spend_counters for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy rate_limits_select_member on public.rate_limits for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

create policy ledger_entries_select_member on public.ledger_entries for select to authenticated
using (organization_id = (
    select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid
    where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'
));

-- Every organization has a wallet, from its first moment.
grant create on schema private to clearfloor_writer;
set role clearfloor_writer;

create function private.create_wallet() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into public.wallets (organization_id) values (new.id);
    return null;
end
$$;

reset role;
revoke create on schema private from clearfloor_writer;

create trigger organizations_create_wallet after insert on public.organizations
for each row execute function private.create_wallet();

create trigger spend_caps_audit after insert or update or delete on public.spend_caps
for each row execute function private.audit('id', 'set_at', 'taken_when_set_nano_usd');
-- Not where the buckets alone are written, which every limited request does.
create trigger rate_limits_audit
after insert or update of requests_per_minute, tokens_per_minute or delete on public.rate_limits
for each row execute function private.audit('id', 'requests_full_at', 'tokens_full_at');
