-- Lets pg_cron sweep what crashes left open, where it is there: then it happens with no backend running, too. Without it
-- every backend sweeps, one at a time. Where pg_cron is enabled later, run the statement below then: docs/operating.md.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

do $$
begin
    if exists (select from pg_catalog.pg_namespace where nspname = 'cron') then
        -- Not right after a start of the database: nobody could renew a lease while it was away.
        perform cron.schedule(
            'clearfloor-sweep', '* * * * *',
            'select public.sweep_decisions(500) where pg_postmaster_start_time() < now() - interval ''2 minutes'''
        );
    end if;
end
$$;
