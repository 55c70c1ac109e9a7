-- How long decisions are kept, and the one function that deletes them with their attempts. Ledger, counters and usage stay.
--
-- How long is a row here, not a parameter, and only the tables' owner may change it: whoever holds the secret key can have
-- deleted what is too old anyway, and nothing else. docs/decisions/0017 says more.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

create table public.retention (
    id boolean primary key default true constraint retention_one_row_check check (id),
    -- Idempotency-Keys and stored answers live for 30 days at the most, and a repeat needs the decision until then.
    keep_days bigint constraint retention_keep_days_check check (keep_days between 35 and 36500),
    deleted_until timestamptz not null default '-infinity'
);

comment on table public.retention is 'How long decisions are kept, in one row. Backend only; changed by the tables'' owner.';
comment on column public.retention.keep_days is
'A decision opened more than so many days ago, and completed, is deleted with its attempts. Null: none ever is.';
comment on column public.retention.deleted_until is
'The latest opening of what was deleted: what was opened after it is all there.';

insert into public.retention default values;

revoke all on public.retention from anon, authenticated, service_role;

grant select on public.retention to service_role;
grant select, update (deleted_until) on public.retention to clearfloor_writer;
-- For the function below alone: supabase/tests/test_retention.sql finds another one.
grant delete on public.routing_outcomes, public.inferences to clearfloor_writer;

alter table public.retention enable row level security;

grant create on schema public to clearfloor_writer;
set role clearfloor_writer;

-- Deletes up to `batch_size` of what is too old, and returns how many: a full batch may not be all. Open decisions stay,
-- however old. Both deletes are one statement: at its end, when the keys are checked, both rows are gone. Ids are UUIDv7 and
-- lead to the oldest through the primary key; when a decision was opened the database itself has said.
create function public.delete_old_decisions(batch_size integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '4s'
set join_collapse_limit = 1
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_memoize = off
set plan_cache_mode = force_generic_plan as $$
declare
    kept_from constant timestamptz := (select now() - make_interval(days => keep_days::integer) from public.retention);
    first_kept_id constant uuid := lpad(to_hex((greatest(extract(epoch from kept_from), 0) * 1000)::bigint), 12, '0') || repeat('0', 20);
    deleted integer;
    latest timestamptz;
begin
    -- One at a time; the others have nothing to do.
    if kept_from is null or not pg_try_advisory_xact_lock(hashtextextended('clearfloor.delete_old_decisions', 0)) then
        return 0;
    end if;

    with old as (
        select decision.id from public.routing_outcomes as decision
        where decision.id < first_kept_id and decision.opened_at < kept_from and decision.completed_at is not null
        order by decision.id
        limit greatest(batch_size, 0)
        -- One that is being taken up again at this moment, after the sweep, stays.
        for update skip locked
    ),

    attempts as (
        delete from public.inferences as attempt using old where attempt.routing_outcome_id = old.id
    ),

    decisions as (
        delete from public.routing_outcomes as decision using old where decision.id = old.id
        returning decision.opened_at
    )

    select count(*), max(opened_at) into deleted, latest from decisions;
    update public.retention set deleted_until = latest where deleted_until < latest;
    return deleted;
end
$$;

comment on function public.delete_old_decisions is
'Deletes up to so many decisions, with their attempts, that are older than public.retention says; returns how many.';

grant execute on function public.delete_old_decisions(integer) to service_role;

reset role;
revoke create on schema public from clearfloor_writer;
