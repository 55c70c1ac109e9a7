"""A database of the earlier shape is made safe by the shipped files, pushed by the real Supabase CLI."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.stack.stack import Stack
from tests.support.databases import ADOPTION, CONSTRAINT, Database, earlier_database

ROLLBACK = Path(__file__).parents[2] / "supabase" / "rollback"
ORPHANS = """
    select id::text, outcome_status from public.routing_outcomes
    where decision_rule = 'cheapest_clearing_floor' and outcome_status is not null and inference_id is null
"""
VALIDATED = """
    select convalidated from pg_constraint where conname = 'outcome_requires_inference_when_model_chosen'
"""


@pytest.fixture
def database(stack: Stack, tmp_path: Path) -> Iterator[Database]:
    """A database as it stood before, and the shipped files laid out to be pushed."""
    with earlier_database(stack, tmp_path) as earlier:
        yield earlier


def advice(database: Database) -> Counter[str]:
    """Count what `supabase db advisors` reports, by name."""
    answer = database.cli("db", "advisors", "--type=all", "--level=warn")
    return Counter(re.findall(r'"name":\s*"(\w+)"', answer.stdout))


def adopt(database: Database) -> None:
    """Push the shipped files, and nothing but them."""
    shipped = [*ADOPTION, *CONSTRAINT]
    database.add(shipped)
    for file in shipped:
        pushed = database.migrations / file.name
        assert hashlib.sha256(pushed.read_bytes()).digest() == hashlib.sha256(file.read_bytes()).digest()
    answer = database.push()
    assert answer.exit_code == 0, answer.stderr


def test_the_advisors_fall_silent(database: Database) -> None:
    """16 bare policies and a table without row level security before, nothing after."""
    before = advice(database)
    assert before["auth_rls_initplan"] == 16
    assert before["rls_disabled_in_public"] == 1
    adopt(database)
    assert advice(database) == Counter()


def test_every_orphan_is_linked_or_says_why_not_and_nothing_is_invented(database: Database) -> None:
    """One match is linked; none or several get an overriding rule; the originals are kept; the constraint is valid."""
    orphans = dict(database.rows(ORPHANS))
    inferences = database.rows("select * from public.inferences order by id")
    kept_before = database.rows("select count(*) from public._repair_20260528_save_error")[0][0]
    assert orphans
    adopt(database)
    assert database.rows(ORPHANS) == []
    assert database.rows(VALIDATED) == [(True,)]
    assert database.rows("select * from public.inferences order by id") == inferences
    after = database.rows(
        "select id::text, decision_rule, inference_id from public.routing_outcomes where id::text = any(%s)",
        list(orphans),
    )
    assert len(after) == len(orphans)
    known = {row[0] for row in database.rows("select id from public.inferences")}
    for outcome, rule, inference in after:
        if inference is not None:
            assert rule == "cheapest_clearing_floor"
            assert inference in known
        else:
            assert rule == ("legacy_unlinked" if orphans[outcome] == "succeeded" else "failed_pre_dispatch")
    assert {"cheapest_clearing_floor", "legacy_unlinked", "failed_pre_dispatch"} == {
        rule for _, rule, _ in after
    }
    kept = database.rows("select count(*) from public._repair_20260528_save_error")[0][0]
    assert kept == kept_before + len(orphans)
    secured = "select relrowsecurity from pg_class where relname = '_repair_20260528_save_error'"
    assert database.rows(secured) == [(True,)]


@pytest.mark.parametrize("name", [CONSTRAINT[0].name, ADOPTION[0].name])
def test_a_rollback_takes_a_migration_back_and_it_applies_again(database: Database, name: str) -> None:
    """Apply, roll back, apply: the constraint, and the policies."""
    policies = "select policyname, qual, with_check from pg_policies where schemaname = 'public' order by 1"
    earlier = database.rows(policies)
    adopt(database)
    adopted = database.rows(policies), database.rows(VALIDATED)
    assert adopted[0] != earlier
    database.execute((ROLLBACK / name).read_text())
    rolled_back = [f.name.split("_")[0] for f in (CONSTRAINT if name == CONSTRAINT[0].name else ADOPTION[:1])]
    if name == CONSTRAINT[0].name:
        assert database.rows(VALIDATED) == []
    else:
        assert database.rows(policies) == earlier
    versions = ", ".join(f"'{version}'" for version in rolled_back)
    database.execute(f"delete from supabase_migrations.schema_migrations where version in ({versions})")  # noqa: S608 # our own
    answer = database.push("--include-all")
    assert answer.exit_code == 0, answer.stderr
    assert (database.rows(policies), database.rows(VALIDATED)) == adopted
