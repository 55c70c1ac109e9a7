"""A database of the earlier shape is made safe by the shipped files, pushed by the real CLI."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backend.stack.stack import Stack
from tests.support.databases import (
    ADOPTION,
    CONSTRAINT,
    EARLIER_FILE,
    SUPABASE,
    Database,
    earlier_database,
)

ACME = "00000000-0000-7000-8000-00000000000a"
GLOBEX = "00000000-0000-7000-8000-00000000000b"
OVERRIDDEN_BEFORE = "00000000-0000-7000-8000-000000000012"

# Case of tests/fixtures/earlier_database.sql -> rule afterwards, inference afterwards.
LINKED = {
    "20": "20000000-0000-7000-8000-000000000001",
    "21": "21000000-0000-7000-8000-000000000001",
    "22": "22000000-0000-7000-8000-000000000001",
    "23": "23000000-0000-7000-8000-000000000001",
    "24": "24000000-0000-7000-8000-000000000001",
    "25": "25000000-0000-7000-8000-000000000002",
}
OVERRIDDEN = {
    **dict.fromkeys(
        ("30", "32", "33", "34", "40", "50", "51", "52", "53", "54", "55", "56"), "legacy_unlinked"
    ),
    **dict.fromkeys(("31", "41", "42"), "failed_pre_dispatch"),
}
SOUND = ("10", "11", "12", "13")

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Adoption:
    """An adopted database, with what was there before."""

    database: Database
    advice_before: list[dict[str, Any]]
    outcomes_before: Rows
    inferences_before: Rows


@pytest.fixture(scope="module")
def adoption(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adoption]:
    """Adopt one database for the tests that only look."""
    with earlier_database(stack, tmp_path_factory.mktemp("adoption")) as database:
        before = (
            advice(database),
            stored(database, "routing_outcomes"),
            stored(database, "inferences"),
        )
        database.add([*ADOPTION, *CONSTRAINT])
        pushed = database.push()
        assert pushed.exit_code == 0, pushed.stderr
        yield Adoption(database, *before)


def advice(database: Database) -> list[dict[str, Any]]:
    """Return the warnings and errors of `supabase db advisors`."""
    answer = database.cli("db", "advisors", "--type", "all", "--level", "warn")
    assert answer.exit_code == 0, answer.stderr
    if not answer.stdout:
        assert "No issues found" in answer.stderr
        return []
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def stored(database: Database, table: str) -> Rows:
    """Return every row of a table, by id."""
    rows = database.rows(f"select id::text, to_jsonb(t) from public.{table} as t")  # noqa: S608 - ours
    return dict(rows)


def outcome_id(case: str) -> str:
    """Return the id of the outcome of a case of the fixture."""
    return f"00000000-0000-7000-8000-0000000000{case}"


def originals(database: Database) -> Rows:
    """Return what this repair kept in the repair table, by outcome."""
    return dict(
        database.rows(
            "select outcome_id::text, original from public._repair_20260528_save_error "
            "where note <> 'save error'"
        )
    )


def as_caller(database: Database, role: str, organization: str | None, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds as a role of the Data API with an organization in its claims; change nothing."""
    claims = {"app_metadata": {"organization_id": organization, "role": "owner"}}
    with psycopg.connect(database.url) as connection:
        connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        connection.execute(f"set local role {role}".encode())
        found = connection.execute(query.encode()).fetchall()
        connection.rollback()
    return found


def test_the_advisors_see_the_sixteen_policies_and_the_open_table_before(adoption: Adoption) -> None:
    """The earlier shape has exactly the faults that adoption is for."""
    kinds = Counter((issue["name"], issue["level"]) for issue in adoption.advice_before)
    assert kinds == {("auth_rls_initplan", "WARN"): 16, ("rls_disabled_in_public", "ERROR"): 1}
    (open_table,) = [issue for issue in adoption.advice_before if issue["level"] == "ERROR"]
    assert open_table["metadata"]["name"] == "_repair_20260528_save_error"


def test_the_advisors_have_nothing_to_say_afterwards(adoption: Adoption) -> None:
    """Adoption leaves neither a warning nor an error."""
    assert advice(adoption.database) == []


def test_what_was_pushed_are_the_shipped_files_byte_for_byte(adoption: Adoption) -> None:
    """Every file beyond the earlier shape has the hash of the one that is shipped, and all were applied."""
    folders = (SUPABASE / "adoption" / "migrations", SUPABASE / "migrations")
    shipped = {file.name: digest(file) for folder in folders for file in folder.glob("*.sql")}
    pushed = {file.name: digest(file) for file in adoption.database.migrations.glob("*.sql")}
    del pushed[EARLIER_FILE]
    assert pushed.items() <= shipped.items()
    assert {file.name for file in (*ADOPTION, *CONSTRAINT)} == pushed.keys()
    assert adoption.database.history() == sorted(name.partition("_")[0] for name in (EARLIER_FILE, *pushed))


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("case", LINKED)
def test_an_orphan_that_exactly_one_inference_matches_is_linked(adoption: Adoption, case: str) -> None:
    """The match becomes the outcome's inference, and nothing else of the outcome changes."""
    expected = adoption.outcomes_before[outcome_id(case)] | {"inference_id": LINKED[case]}
    assert stored(adoption.database, "routing_outcomes")[outcome_id(case)] == expected


@pytest.mark.parametrize("case", OVERRIDDEN)
def test_an_orphan_without_exactly_one_match_gets_an_overriding_rule(adoption: Adoption, case: str) -> None:
    """Its rule says so, and nothing else of the outcome changes."""
    expected = adoption.outcomes_before[outcome_id(case)] | {"decision_rule": OVERRIDDEN[case]}
    assert stored(adoption.database, "routing_outcomes")[outcome_id(case)] == expected


@pytest.mark.parametrize("case", SOUND)
def test_an_outcome_that_is_no_orphan_stays_as_it_was(adoption: Adoption, case: str) -> None:
    """Linked, open, and rules that the constraint does not guard: none of them is touched."""
    after = stored(adoption.database, "routing_outcomes")
    assert after[outcome_id(case)] == adoption.outcomes_before[outcome_id(case)]


def test_the_fixture_has_no_other_outcomes(adoption: Adoption) -> None:
    """Each outcome is one of the cases above."""
    cases = (*LINKED, *OVERRIDDEN, *SOUND)
    assert adoption.outcomes_before.keys() == {outcome_id(case) for case in cases}


def test_no_inference_is_made_or_changed(adoption: Adoption) -> None:
    """What was not recorded then is not invented now."""
    assert stored(adoption.database, "inferences") == adoption.inferences_before


def test_the_repair_table_keeps_every_original(adoption: Adoption) -> None:
    """It holds each changed row as it was, and still what an earlier repair had put there."""
    repaired = (outcome_id(case) for case in (*LINKED, *OVERRIDDEN))
    assert originals(adoption.database) == {key: adoption.outcomes_before[key] for key in repaired}
    earlier = adoption.database.rows(
        "select outcome_id::text from public._repair_20260528_save_error where note = 'save error'"
    )
    assert earlier == [(OVERRIDDEN_BEFORE,)]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_repair_table_is_closed_to_callers(adoption: Adoption, role: str) -> None:
    """It has row level security, and no caller may even ask."""
    (secured,) = adoption.database.rows(
        "select relrowsecurity from pg_class where oid = 'public._repair_20260528_save_error'::regclass"
    )
    assert secured == (True,)
    query = "select * from public._repair_20260528_save_error"
    assert as_caller(adoption.database, "service_role", None, query)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_caller(adoption.database, role, ACME, query)


def test_the_constraint_is_valid_and_holds_for_new_rows(adoption: Adoption) -> None:
    """It was checked against the old rows, and a writer that breaks it is refused."""
    (valid,) = adoption.database.rows(
        "select convalidated from pg_constraint "
        "where conrelid = 'public.routing_outcomes'::regclass and conname = %s",
        "outcome_requires_inference_when_model_chosen",
    )
    assert valid == (True,)
    with pytest.raises(psycopg.errors.CheckViolation, match="outcome_requires_inference_when_model_chosen"):
        adoption.database.execute(late_orphan())


def late_orphan() -> str:
    """Return a statement that an earlier write path would send."""
    return (
        "insert into public.routing_outcomes "  # noqa: S608 # our own constant
        "(id, organization_id, requested_model, decision_rule, outcome_status) values "
        f"(gen_random_uuid(), '{ACME}', 'auto', 'cheapest_clearing_floor', 'succeeded')"
    )


def test_no_policy_calls_for_the_claims_outside_a_subquery(adoption: Adoption) -> None:
    """Stronger than the advisor, which is satisfied by one wrapped call; and every policy names its role."""
    policies = adoption.database.rows(
        "select policyname, roles::text, regexp_replace(concat_ws(' ', qual, with_check), "
        "'\\( SELECT auth\\.jwt\\(\\) AS jwt\\)', 'CLAIMS', 'g') from pg_policies where schemaname = 'public'"
    )
    assert len(policies) == 16
    assert {roles for _, roles, _ in policies} == {"{authenticated}"}
    for name, _, expression in policies:
        assert "CLAIMS" in expression, name
        assert "auth." not in expression, name
        assert "current_setting" not in expression, name


def test_an_index_leads_with_the_column_of_each_policy(adoption: Adoption) -> None:
    """A tenant's rows are found without reading everybody's, and every index is a finished one."""
    tables = adoption.database.rows(
        "select distinct tablename::text from pg_policies where schemaname = 'public'"
    )
    indexed = adoption.database.rows(
        "select distinct relation.relname::text from pg_index as index "
        "inner join pg_class as relation on relation.oid = index.indrelid "
        "inner join pg_attribute as attribute on attribute.attrelid = relation.oid "
        "and attribute.attnum = index.indkey[0] "
        "where index.indisvalid and relation.relnamespace = 'public'::regnamespace and attribute.attname = "
        "case relation.relname when 'organizations' then 'id' else 'organization_id' end"
    )
    assert set(tables) <= set(indexed)
    assert len(tables) == 9


@pytest.mark.parametrize("table", ["routing_outcomes", "inferences", "organization_members", "wallets"])
def test_anon_may_not_ask(adoption: Adoption, table: str) -> None:
    """The publishable key alone reaches no table any more."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_caller(adoption.database, "anon", ACME, f"select * from public.{table}")  # noqa: S608 - ours


def test_a_tenant_sees_its_own_rows_and_no_others(adoption: Adoption) -> None:
    """The hoisted policies let through what the bare ones did; an empty claim finds nothing."""
    query = "select organization_id::text, count(*) from public.inferences group by 1"
    before = Counter(row["organization_id"] for row in adoption.inferences_before.values())
    for tenant in (ACME, GLOBEX):
        assert as_caller(adoption.database, "authenticated", tenant, query) == [(tenant, before[tenant])]
    assert as_caller(adoption.database, "authenticated", "", query) == []


def test_a_tenant_still_writes_what_its_policies_allow(adoption: Adoption) -> None:
    """A grant stands behind each policy that writes, and no other tenant can be named."""
    insert = "insert into public.agents (id, organization_id, name) values (gen_random_uuid(), '{}', 'x') returning 1"
    rename = "update public.organizations set name = 'Acme 2' returning id::text"
    assert as_caller(adoption.database, "authenticated", ACME, insert.format(ACME)) == [(1,)]
    assert as_caller(adoption.database, "authenticated", ACME, rename) == [(ACME,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        as_caller(adoption.database, "authenticated", ACME, insert.format(GLOBEX))


def test_repairing_again_changes_nothing(adoption: Adoption) -> None:
    """What was repaired is no orphan any more."""
    before = stored(adoption.database, "routing_outcomes"), originals(adoption.database)
    assert adoption.database.rows("select private.repair_orphans(1000)") == [(0,)]
    assert (stored(adoption.database, "routing_outcomes"), originals(adoption.database)) == before


def test_repair_in_batches_of_one_comes_to_the_same(adoption: Adoption, stack: Stack, tmp_path: Path) -> None:
    """Neither the size of the batches nor what was repaired before decides about a link."""
    with earlier_database(stack, tmp_path) as database:
        database.add(ADOPTION[:-1])
        assert database.push().exit_code == 0
        orphans = len(LINKED) + len(OVERRIDDEN)
        repaired = [database.rows("select private.repair_orphans(1)") for _ in range(orphans + 1)]
        assert repaired == [[(1,)]] * orphans + [[(0,)]]
        for read in (lambda of: stored(of, "routing_outcomes"), originals):
            assert read(database) == read(adoption.database)


def test_repair_looks_inferences_up_by_index(stack: Stack, tmp_path: Path) -> None:
    """However many there are: as a join of both tables, each batch read them all."""
    with earlier_database(stack, tmp_path) as database:
        database.add(ADOPTION[:-1])
        assert database.push().exit_code == 0
        database.execute(MANY_ORPHANS)
        database.execute("analyze public.routing_outcomes, public.inferences")
        (read,) = database.rows(
            "with repaired as materialized (select private.repair_orphans(500) as number) "
            "select number, pg_stat_get_xact_tuples_returned('public.inferences'::regclass) from repaired"
        )
        assert read == (500, 0)
        linked = "select count(*) from public.routing_outcomes where inference_id is not null and requested_model = 'many'"
        assert database.rows(linked) == [(500,)]


MANY_ORPHANS = f"""
insert into public.routing_outcomes
(id, organization_id, requested_model, selected_model, decision_rule, outcome_status, created_at)
select ('a0000000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid, '{ACME}', 'many', 'm' || number % 3,
    'cheapest_clearing_floor', 'succeeded', timestamptz '2025-01-01' + number * interval '10 min'
from generate_series(1, 20000) as number;
insert into public.inferences (id, organization_id, model, status, created_at)
select ('b0000000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid, '{ACME}', 'm' || number % 3, 'succeeded',
    timestamptz '2025-01-01' + number * interval '10 min' + interval '1 s'
from generate_series(1, 20000) as number;
update public.routing_outcomes set decision_rule = 'legacy_unlinked'
where requested_model <> 'many' and decision_rule = 'cheapest_clearing_floor' and inference_id is null
"""  # noqa: S608 - ours


def test_a_late_orphan_stops_the_validation_until_it_is_repaired(stack: Stack, tmp_path: Path) -> None:
    """If the write path was not first, the push says so; repair and push again."""
    with earlier_database(stack, tmp_path) as database:
        database.add(ADOPTION)
        assert database.push().exit_code == 0
        database.execute(late_orphan())
        database.add(CONSTRAINT)
        refused = database.push()
        assert refused.exit_code == 1
        assert "is violated by some row" in refused.stderr
        assert database.history()[-1] == "20261124000600"
        assert database.rows("select private.repair_orphans(1000)") == [(1,)]
        assert database.push().exit_code == 0
        assert database.history()[-1] == "20261124000700"
