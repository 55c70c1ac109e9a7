-- Checks the rows that were there before outcome_requires_inference_when_model_chosen.
--
-- Reads routing_outcomes once under SHARE UPDATE EXCLUSIVE: requests go on meanwhile. In a file of its own, since the
-- CLI's transaction around a file would hold the stronger lock of ADD CONSTRAINT during the scan.
-- `clearfloor preflight DATABASE_URL` says beforehand how many rows would fail.
set lock_timeout = '4s';
set statement_timeout = '30min';

alter table public.routing_outcomes validate constraint outcome_requires_inference_when_model_chosen;
