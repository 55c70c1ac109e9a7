/**
 * What a dashboard reads, with a client that carries a member's access token. Row level security answers each function with
 * rows of the token's active organization and no others. Amounts are nano-USD (1 USD is 10^9), times ISO 8601 in UTC.
 *
 * All of them throw supabase-js' `PostgrestError` where the Data API refuses or cannot be reached.
 */
import type { SupabaseClient } from "@supabase/supabase-js";
import type { Database } from "./database.types.js";

export type Client = SupabaseClient<Database>;

/** The Data API cuts longer answers silently: `max_rows` in `supabase/config.toml`. */
const MAX_ROWS = 1000;

export interface DecisionFilter {
  agentId?: string | undefined;
  outcomeStatus?: string | undefined;
}

export interface DecisionPage extends DecisionFilter {
  /** The id of the last decision of the page before this one. */
  before?: string | undefined;
  /** At most 1,000. */
  limit?: number;
}

/** Return a page of decisions, newest first. */
export async function listDecisions(client: Client, page: DecisionPage = {}) {
  let query = client
    .from("routing_outcomes")
    .select("id, opened_at, agent_id, requested_model, decision_rule, outcome_status, charge_nano_usd");
  if (page.agentId !== undefined) query = query.eq("agent_id", page.agentId);
  if (page.outcomeStatus !== undefined) query = query.eq("outcome_status", page.outcomeStatus);
  if (page.before !== undefined) query = query.lt("id", page.before);
  const { data } = await query
    .order("id", { ascending: false })
    .limit(page.limit ?? 50)
    .throwOnError();
  return data;
}

/** Yield every decision, newest first. Its pages begin after an id, so that what is recorded meanwhile moves none of them. */
export async function* everyDecision(client: Client, filter: DecisionFilter = {}) {
  let before: string | undefined;
  do {
    const page = await listDecisions(client, { ...filter, before, limit: MAX_ROWS });
    yield* page;
    before = page.at(-1)?.id;
  } while (before !== undefined);
}

/** Count the decisions opened since then; no row is sent. Postgres looks at each of them: give a range, not the whole history. */
export async function countDecisions(client: Client, since: string) {
  const { count } = await client
    .from("routing_outcomes")
    .select("id", { count: "exact", head: true })
    .gte("opened_at", since)
    .throwOnError();
  return count;
}

/**
 * Return a decision with the attempt that carried it out and all that were made, in order; null where there is none.
 *
 * Two foreign keys join the tables: an embed that does not name its own is refused (300, PGRST201).
 */
export async function decisionWithAttempts(client: Client, id: string) {
  const { data } = await client
    .from("routing_outcomes")
    .select(
      `id, outcome_status, decision_rule, floor, charge_nano_usd,
      inference:inferences!routing_outcomes_inference_fkey(id, provider, model),
      attempts:inferences!inferences_routing_outcome_fkey(id, attempt_number, provider, model, status, error_class)`,
    )
    .eq("id", id)
    .order("attempt_number", { referencedTable: "attempts" })
    .maybeSingle()
    .throwOnError();
  return data;
}

export interface Range {
  since: string;
  /** Now, unless given. */
  until?: string;
}

/** Return usage by UTC day, agent, model, provider and outcome; ask for a long range month by month. */
export async function usageByDay(client: Client, range: Range) {
  return usage(client, "day", range);
}

/** Return what was charged, and what was saved against the agents' baseline models where they are known. */
export async function savings(client: Client, range: Range) {
  const rows = await usage(client, "month", range);
  return {
    charge_nano_usd: total(rows.map((row) => row.charge_nano_usd)),
    saved_nano_usd: total(rows.map((row) => row.saved_nano_usd)),
  };
}

/** Return the wallet's balance and what of it is held; null for a user without an organization. */
export async function wallet(client: Client) {
  const { data } = await client
    .from("wallets")
    .select("balance_nano_usd, held_nano_usd")
    .maybeSingle()
    .throwOnError();
  return data;
}

/** What may be unknown. The generated types take every column of a function's answer for known. */
interface Unknown {
  model: string | null;
  provider: string | null;
  outcome_status: string | null;
  dearest_cost_nano_usd: number | null;
  baseline_cost_nano_usd: number | null;
  saved_nano_usd: number | null;
}

async function usage(client: Client, bucket: "day" | "month", range: Range) {
  // The end is fixed, or it would move between the pages.
  const args = { bucket, since: range.since, until: range.until ?? new Date().toISOString() };
  const rows = [];
  for (;;) {
    const { data } = await client
      .rpc("usage_by", args)
      .order("bucket_start")
      .order("agent_id")
      .order("model")
      .order("provider")
      .order("outcome_status")
      .range(rows.length, rows.length + MAX_ROWS - 1)
      .overrideTypes<Unknown[], { merge: true }>()
      .throwOnError();
    rows.push(...data);
    if (data.length < MAX_ROWS) return rows;
  }
}

function total(amounts: (number | null)[]) {
  return amounts.reduce<number>((sum, amount) => sum + (amount ?? 0), 0);
}
