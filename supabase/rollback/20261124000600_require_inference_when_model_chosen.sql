-- Undoes 20261124000600_require_inference_when_model_chosen.sql, and with it 20261124000700, which validated what this
-- drops. No row changes. Then take both versions out of the history: docs/adoption.md. It is for adopted databases: in a
-- fresh one routing_outcomes_inference_matches_rule_check refuses the same rows, and stays.
--
-- Locks routing_outcomes for a moment (ACCESS EXCLUSIVE, no scan).
set lock_timeout = '4s';
set statement_timeout = '60s';

-- That is what a rollback is for.
-- squawk-ignore ban-drop-constraint
alter table public.routing_outcomes drop constraint outcome_requires_inference_when_model_chosen;
