-- Lets pg_cron sweep what crashes left open, where it is there: then it happens with no backend running, too. Backends sweep
-- sooner, one at a time, and know when nobody could renew a lease. pg_cron does not: it leaves ten minutes, in which every
-- request is over (CLEARFLOOR_REQUEST_DEADLINE_SECONDS). It deletes what is older than public.retention says, too, about a second
-- of each minute at the most, and every five minutes it publishes what was learned, unless somebody has meanwhile. Where pg_cron
-- is enabled later, run the statements below then: docs/operating.md.
--
-- Locks nothing that exists.
set lock_timeout = '4s';
set statement_timeout = '60s';

do $$
begin
    if exists (select from pg_catalog.pg_namespace where nspname = 'cron') then
        perform cron.schedule('clearfloor-sweep', '* * * * *', 'select public.sweep_decisions(500, 600)');
        perform cron.schedule('clearfloor-retention', '* * * * *', 'select public.delete_old_decisions(10000)');
        perform cron.schedule('clearfloor-rates', '*/5 * * * *', 'select public.publish_rates(240)');
    end if;
end
$$;
