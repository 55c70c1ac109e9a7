/**
 * Runs the queries as two tenants against a real PostgREST. `tests/clients/test_supabase_js.py` starts the stack, fills it and
 * describes it in `CLEARFLOOR_READERS`.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import type { Database } from "./database.types.js";
import * as queries from "./queries.js";

/** A member, and what of the record is its organization's. */
interface Reader {
  token: string;
  email: string;
  password: string;
  organization_id: string;
  /** Made the last two decisions; each of the others has an agent of its own. */
  agent_id: string;
  /** Ids, newest first: more than an answer of the Data API can have. The first attempt of the newest failed. */
  decisions: [string, string, ...string[]];
  charge_nano_usd: number;
  saved_nano_usd: number;
  balance_nano_usd: number;
}

interface World {
  url: string;
  publishable_key: string;
  readers: [Reader, Reader];
}

const BEFORE_ALL = "2026-01-01T00:00:00Z";
const REFUSED = "42501";
const world: World = JSON.parse(process.env["CLEARFLOOR_READERS"] ?? "");
const [first, second] = world.readers;

function clientOf(reader: Reader): queries.Client {
  return createClient<Database>(world.url, world.publishable_key, { accessToken: async () => reader.token });
}

function ids(rows: { id: string }[] | null) {
  return rows?.map((row) => row.id);
}

for (const [name, mine, theirs] of [
  ["the first tenant", first, second],
  ["the second tenant", second, first],
] as const) {
  const client = clientOf(mine);

  describe(`${name} reads what is its own`, () => {
    test("a page of decisions, newest first, and the page after it", async () => {
      const page = await queries.listDecisions(client, { limit: 5 });
      assert.deepEqual(ids(page), mine.decisions.slice(0, 5));
      const next = await queries.listDecisions(client, { limit: 5, before: page.at(-1)?.id });
      assert.deepEqual(ids(next), mine.decisions.slice(5, 10));
    });

    test("decisions by agent and outcome", async () => {
      const answered = { agentId: mine.agent_id, outcomeStatus: "succeeded" };
      assert.deepEqual(ids(await queries.listDecisions(client, answered)), mine.decisions.slice(0, 2));
      assert.deepEqual(await queries.listDecisions(client, { ...answered, outcomeStatus: "cancelled" }), []);
    });

    test("every decision exactly once, where one answer is cut silently", async () => {
      const { data: cut, error } = await client.from("routing_outcomes").select("id");
      assert.deepEqual([cut?.length, error], [1000, null]);
      const read = [];
      for await (const decision of queries.everyDecision(client)) read.push(decision.id);
      assert.deepEqual(read, mine.decisions);
    });

    test("how many decisions there are, beyond what an answer can have", async () => {
      assert.equal(await queries.countDecisions(client, BEFORE_ALL), mine.decisions.length);
    });

    test("a decision with both of its embeds", async () => {
      const decision = await queries.decisionWithAttempts(client, mine.decisions[0]);
      assert.deepEqual(
        decision?.attempts.map((attempt) => [attempt.attempt_number, attempt.status]),
        [
          [1, "failed"],
          [2, "succeeded"],
        ],
      );
      assert.equal(decision?.inference?.id, decision?.attempts[1]?.id);
    });

    test("after a sign-in with a password", async () => {
      const client = createClient<Database>(world.url, world.publishable_key, {
        auth: { autoRefreshToken: false, persistSession: false },
      });
      const { error } = await client.auth.signInWithPassword(mine);
      assert.equal(error, null);
      assert.deepEqual(ids(await queries.listDecisions(client, { limit: 5 })), mine.decisions.slice(0, 5));
    });

    test("usage, savings and the wallet", async () => {
      const days = await queries.usageByDay(client, { since: BEFORE_ALL });
      const counted = days.reduce((sum, day) => sum + day.decisions, 0);
      const agents = new Set(days.map((day) => day.agent_id));
      assert.deepEqual([counted, agents.size], [mine.decisions.length, mine.decisions.length - 1]);
      const { charge_nano_usd, saved_nano_usd } = mine;
      assert.deepEqual(await queries.savings(client, { since: BEFORE_ALL }), {
        charge_nano_usd,
        saved_nano_usd,
      });
      const { data: exact } = await client.from("wallets").select("balance_nano_usd::text").single();
      assert.equal(exact?.balance_nano_usd, String(mine.balance_nano_usd));
      const funds = { balance_nano_usd: mine.balance_nano_usd, held_nano_usd: 0 };
      assert.deepEqual(await queries.wallet(client), funds);
    });
  });

  describe(`${name} never sees the other's`, () => {
    test("by a filter", async () => {
      assert.deepEqual(await queries.listDecisions(client, { agentId: theirs.agent_id }), []);
      assert.equal(await queries.decisionWithAttempts(client, theirs.decisions[0]), null);
      const { data } = await client
        .from("routing_outcomes")
        .select("id")
        .neq("organization_id", mine.organization_id);
      assert.deepEqual(data, []);
    });

    test("by an alternative, nor by its count", async () => {
      const { data, count } = await client
        .from("routing_outcomes")
        .select("organization_id", { count: "exact" })
        .or(`organization_id.eq.${theirs.organization_id},organization_id.neq.${theirs.organization_id}`);
      assert.deepEqual([...new Set(data?.map((row) => row.organization_id))], [mine.organization_id]);
      assert.equal(count, mine.decisions.length);
    });

    test("by a range beyond its own rows, or a page that begins at the other's", async () => {
      const { data } = await client
        .from("routing_outcomes")
        .select("id")
        .order("id")
        .range(mine.decisions.length, mine.decisions.length + 999);
      assert.deepEqual(data, []);
      const page = await queries.listDecisions(client, { before: theirs.decisions[0] });
      const own = new Set(mine.decisions);
      assert.ok(page.every((decision) => own.has(decision.id)));
    });

    test("by an embed", async () => {
      const { data: attempts } = await client
        .from("inferences")
        .select(
          "organization_id, decision:routing_outcomes!inferences_routing_outcome_fkey(organization_id)",
        );
      const { organization_id } = mine;
      assert.deepEqual(attempts, Array(3).fill({ organization_id, decision: { organization_id } }));
      const { data: wallets } = await client
        .from("wallets")
        .select("balance_nano_usd, organization:organizations(id)");
      const { balance_nano_usd } = mine;
      assert.deepEqual(wallets, [{ balance_nano_usd, organization: { id: organization_id } }]);
    });

    test("by the functions", async () => {
      const { data } = await client
        .rpc("usage_by", { bucket: "day", since: BEFORE_ALL })
        .eq("agent_id", theirs.agent_id);
      assert.deepEqual(data, []);
    });
  });

  describe(`${name} writes nothing`, () => {
    test("neither to its own rows nor to the other's", async () => {
      for (const { organization_id } of [mine, theirs]) {
        const agents = client.from("agents");
        const wallets = client.from("wallets");
        const answers = await Promise.all([
          agents.insert({ id: crypto.randomUUID(), organization_id, name: "new" }),
          agents.update({ active: false }).eq("organization_id", organization_id),
          wallets.update({ balance_nano_usd: 0 }).eq("organization_id", organization_id),
          wallets.upsert({ organization_id, balance_nano_usd: 0 }),
          client.from("routing_outcomes").delete().eq("organization_id", organization_id),
        ]);
        assert.deepEqual(
          answers.map((answer) => answer.error?.code),
          answers.map(() => REFUSED),
        );
      }
    });

    test("nor by a function of the backend's", async () => {
      const { error } = await client.rpc("top_up_wallet", {
        entry_id: crypto.randomUUID(),
        organization_id: mine.organization_id,
        amount_nano_usd: 1,
      });
      assert.equal(error?.code, REFUSED);
    });
  });
}

test("an embed that does not name its foreign key is refused", async () => {
  const { status, error } = await clientOf(first).from("routing_outcomes").select("id, inferences(id)");
  assert.deepEqual([status, error?.code], [300, "PGRST201"]);
});

test("the publishable key alone reads nothing, and says so", async () => {
  const client = createClient<Database>(world.url, world.publishable_key);
  await assert.rejects(queries.wallet(client), { code: REFUSED });
});
