-- Adoption of an earlier database: an index under the policy of inferences, of use to the repair of orphans too.
--
-- Reads the table twice under SHARE UPDATE EXCLUSIVE: requests go on meanwhile. It waits for older transactions to end
-- and nobody waits for it, hence the long lock_timeout. If it fails it leaves an invalid index behind: run
-- `drop index concurrently public.inferences_organization_idx` and push again.
--
-- The CLI runs such a statement outside its transaction, which squawk cannot know. IF NOT EXISTS would take the invalid
-- index for a finished one.
-- squawk-ignore-file ban-concurrent-index-creation-in-transaction, prefer-robust-stmts
set lock_timeout = '10min';
set statement_timeout = '60min';

create index concurrently inferences_organization_idx on public.inferences (organization_id, created_at);
