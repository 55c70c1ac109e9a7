-- Adoption of an earlier database: every orphan is repaired, and kept as it was in the repair table.
--
-- All or nothing, and safe to run again: what is repaired is no orphan any more. Who has very many repairs them before
-- this file, a batch a transaction: `select private.repair_orphans(1000)` until it returns 0. That is the remedy, too,
-- if an earlier writer leaves new ones before the constraint is there.
--
-- Locks the orphans' rows, which are finished and which no request changes. Each batch reads routing_outcomes once, and
-- inferences by their indexes.
set lock_timeout = '4s';
set statement_timeout = '30min';

do $$
begin
    while private.repair_orphans(10000) > 0 loop
    end loop;
end
$$;
