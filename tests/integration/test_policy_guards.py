"""Tests of the tests: each fault that a migration could bring is reported by a pgTAP file, in words that name it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from pytest_pgtap.pgtap import Runner  # type: ignore[import-untyped]

from backend.stack.stack import Stack
from tests.support.databases import MIGRATIONS, Database, new_database
from tests.support.stack_fixtures import PGTAP_FILES, run_pgtap_file

CLAIM = "nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid"
NOT_ANONYMOUS = "where (select auth.jwt()) ->> 'is_anonymous' is distinct from 'true'"
WRAPPED_CLAIM = f"(\n    select {CLAIM}\n    {NOT_ANONYMOUS}\n)"


@dataclass(frozen=True)
class Fault:
    """A migration text changed in one place, the pgTAP file that turns red, and its sentence that no longer holds."""

    right: str
    wrong: str
    file: str
    sentence: str


def policy(table: str, claim: str = WRAPPED_CLAIM, role: str = " to authenticated") -> str:
    """Return the text of a tenant table's policy, as the migrations have it or changed."""
    using = f"using (organization_id = {claim});"
    return f"create policy {table}_select_member on public.{table} for select{role}\n{using}"


def claim_changed(table: str, right: str, wrong: str, file: str, sentence: str) -> Fault:
    """Return the fault of a policy whose claim is read in another way."""
    return Fault(policy(table), policy(table, WRAPPED_CLAIM.replace(right, wrong)), file, sentence)


FAULTS = {
    "a bare auth.jwt()": claim_changed(
        "wallets",
        "(select auth.jwt())",
        "auth.jwt()",
        "test_sweep.sql",
        "no policy reads the claims once for each row",
    ),
    "a claim that is not hoisted": Fault(
        policy("inferences"),
        policy("inferences", CLAIM),
        "test_sweep.sql",
        "every policy compares with the organization's claim alone, worked out once per query",
    ),
    "a helper in a policy": claim_changed(
        "ledger_entries",
        f"{NOT_ANONYMOUS}\n)",
        f"{NOT_ANONYMOUS}\n) or private.are_price_tiers(null)",
        "test_sweep.sql",
        "no policy calls a function other than those of auth",
    ),
    "a policy that is always true": Fault(
        policy("agents"),
        policy("agents").partition("using")[0] + "using (true);",
        "tables/test_agents.sql",
        "member of acme in agents: selects acme, inserts none, updates none, deletes none",
    ),
    "a policy for every command": Fault(
        policy("spend_counters"),
        policy("spend_counters").replace("for select", "for all"),
        "tables/test_spend_counters.sql",
        "owner of acme in spend_counters: selects acme, inserts none, updates none, deletes none",
    ),
    "a policy for everybody": Fault(
        policy("spend_caps"),
        policy("spend_caps", role=""),
        "test_sweep.sql",
        "every policy names whom it is for, and that is never everybody",
    ),
    "a policy that lets anonymous users in": claim_changed(
        "rate_limits",
        f"\n    {NOT_ANONYMOUS}",
        "",
        "tables/test_rate_limits.sql",
        "anonymous user of acme in rate_limits: selects none, inserts none, updates none, deletes none",
    ),
    "a claim that users edit": claim_changed(
        "ledger_entries",
        "app_metadata",
        "user_metadata",
        "test_tokens.sql",
        "an organization that a user wrote into its own metadata opens nothing anywhere",
    ),
    "a claim of another name": claim_changed(
        "routing_outcomes",
        "organization_id",
        "org_id",
        "tables/test_routing_outcomes.sql",
        "member of acme in routing_outcomes: selects acme, inserts none, updates none, deletes none",
    ),
    "a table that anon may write": Fault(
        "grant select on public.routing_outcomes, public.inferences to authenticated, service_role;",
        "grant select on public.routing_outcomes, public.inferences to authenticated, service_role;"
        "grant insert on public.inferences to anon;",
        "tables/test_inferences.sql",
        "anon is granted nothing on inferences",
    ),
    "a wallet that the backend may edit": Fault(
        "grant delete on public.spend_caps, public.spend_counters, public.rate_limits to clearfloor_writer;",
        "grant delete on public.spend_caps, public.spend_counters, public.rate_limits to clearfloor_writer;"
        "grant update on public.wallets to service_role;",
        "tables/test_wallets.sql",
        "service_role in wallets: selects all, inserts refused, updates refused, deletes refused",
    ),
    "a readable hash": Fault(
        "grant select (id, organization_id, agent_id, name, display_prefix,",
        "grant select (id, organization_id, agent_id, name, display_prefix, key_hash,",
        "tables/test_api_keys.sql",
        "no user can read the hash of a key",
    ),
    "a table without row level security": Fault(
        "alter table public.candidate_cooldowns enable row level security;",
        "",
        "test_sweep.sql",
        "every table and partition is under row level security",
    ),
    "a tenant's table without row level security": Fault(
        "alter table public.organization_members enable row level security;",
        "",
        "tables/test_organization_members.sql",
        "member of zenith in organization_members: selects zenith, inserts none, updates none, deletes none",
    ),
    "a definer function without a pinned path": Fault(
        "actor text default ''\n) returns bigint\n"
        "language plpgsql volatile security definer set search_path = pg_catalog, pg_temp",
        "actor text default ''\n) returns bigint\nlanguage plpgsql volatile security definer",
        "test_sweep.sql",
        "every function has a search path that ends in pg_temp",
    ),
    "a definer function of another owner": Fault(
        "set role clearfloor_writer;\n\n-- The agent that an API key speaks for",
        "\n\n-- The agent that an API key speaks for",
        "test_sweep.sql",
        "every function with its owner's rights is owned by clearfloor_writer",
    ),
    "a function that users may execute": Fault(
        "grant execute on function public.read_catalogue(bigint, bigint) to service_role;",
        "grant execute on function public.read_catalogue(bigint, bigint) to service_role, authenticated;",
        "test_sweep.sql",
        "no function of public can be executed by anon or users but those that are listed here",
    ),
    "a function that anon may execute": Fault(
        "grant execute on function public.find_caller_by_key(text) to service_role;",
        "grant execute on function public.find_caller_by_key(text) to service_role, anon;",
        "test_functions.sql",
        "anon is refused find_caller_by_key(text)",
    ),
    "an index that is forgotten": Fault(
        "create index spend_counters_organization_id_idx on public.spend_counters (organization_id);",
        "",
        "test_sweep.sql",
        "every column that a policy reads is led by an index",
    ),
    "an orphan rule that old rows may break": Fault(
        "alter table public.routing_outcomes validate constraint outcome_requires_inference_when_model_chosen;",
        "",
        "test_constraint.sql",
        "the orphan rule was checked against every row that was there before it",
    ),
    "an orphan rule with a hole": Fault(
        "or inference_id is not null) not valid;",
        "or inference_id is not null or outcome_status = 'cancelled') not valid;",
        "test_constraint.sql",
        "a decision that chose a model cannot be inserted as cancelled without an inference",
    ),
}


@pytest.fixture(scope="module")
def blank(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Make one database with what Supabase gives it, pgTAP and the helpers of the pgTAP files, to be copied."""
    with new_database(stack, tmp_path_factory.mktemp("blank") / "workdir") as database:
        with psycopg.connect(superuser_url(stack, database)) as connection:
            connection.execute("create extension pgtap with schema extensions")
        run_pgtap_file(database.url, "000_helpers.sql")
        yield database


@pytest.fixture
def database(stack: Stack, blank: Database) -> Iterator[Database]:
    """Make a copy that a test migrates as it likes."""
    name = "policy_guards"
    template = sql.Identifier(urlsplit(blank.url).path.removeprefix("/"))
    copy = sql.SQL("create database {} owner postgres template {}").format(sql.Identifier(name), template)
    with psycopg.connect(stack.endpoints.superuser_url, autocommit=True) as server:
        server.execute(copy)
        try:
            yield Database(urlsplit(blank.url)._replace(path=f"/{name}").geturl(), blank.workdir)
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def superuser_url(stack: Stack, database: Database) -> str:
    """Return the superuser's URL of a database."""
    path = urlsplit(database.url).path
    return urlsplit(stack.endpoints.superuser_url)._replace(path=path).geturl()


def broken_sentences(database: Database, files: Iterable[str]) -> list[str]:
    """Run pgTAP files and return what does not hold, in the suite's words."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        runner = Runner(connection)
        rows = [line for file in files for line in runner.run((PGTAP_FILES / file).read_bytes())]
    lines = "\n".join(rows).splitlines()
    assert any(line.startswith("ok ") for line in lines)
    return [line.split(" - ", 1)[1] for line in lines if line.startswith("not ok ")]


def test_the_migrations_as_they_are_break_no_sentence(database: Database) -> None:
    """Without this a fault below could be anything."""
    for file in MIGRATIONS:
        database.execute(file.read_text())
    assert broken_sentences(database, sorted({fault.file for fault in FAULTS.values()})) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_migration_is_reported_in_words(database: Database, name: str) -> None:
    """The changed migrations apply, and the suite says what is wrong."""
    fault = FAULTS[name]
    texts = [file.read_text() for file in MIGRATIONS]
    assert sum(text.count(fault.right) for text in texts) == 1, "the migrations have this text once"
    for text in texts:
        database.execute(text.replace(fault.right, fault.wrong))
    assert fault.sentence in broken_sentences(database, [fault.file])


def test_each_table_has_a_file_that_tells_who_may_do_what_with_it(database: Database) -> None:
    """The files cannot see themselves: tomorrow's table is missed here."""
    for file in MIGRATIONS:
        database.execute(file.read_text())
    tables = database.rows(
        "select relname::text from pg_class "
        "where relnamespace = 'public'::regnamespace and relkind = any('{r,p,v,m,f}') order by relname"
    )
    assert [file.name for file in sorted(PGTAP_FILES.glob("tables/*"))] == [
        f"test_{name}.sql" for (name,) in tables
    ]
