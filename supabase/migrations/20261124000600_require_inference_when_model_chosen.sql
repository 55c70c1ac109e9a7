-- A finished decision that chose a model names the inference that carried it out.
--
-- Deploy the write path that keeps the rule first, then this file, then the next one: docs/adoption.md. Added NOT VALID,
-- it holds for every new or changed row at once and reads none of the old ones.
--
-- Locks routing_outcomes for a moment (ACCESS EXCLUSIVE, no scan).
-- Undone by supabase/rollback/20261124000600_require_inference_when_model_chosen.sql.
set lock_timeout = '4s';
set statement_timeout = '60s';

alter table public.routing_outcomes add constraint outcome_requires_inference_when_model_chosen
check (outcome_status is null or decision_rule <> 'cheapest_clearing_floor' or inference_id is not null) not valid;
