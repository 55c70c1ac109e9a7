"""What adoption and the constraint change can be taken back, and applied again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.stack.stack import Stack
from tests.support.databases import (
    ADOPTION,
    CONSTRAINT,
    SUPABASE,
    Database,
    earlier_database,
    new_database,
)

ROLLBACK = SUPABASE / "rollback"
CONSTRAINT_VERSIONS = ("20261124000600", "20261124000700")
POLICY_VERSION = "20261124000050"
POLICIES = (
    "select tablename, policyname, roles::text, cmd, qual, with_check from pg_policies "
    "where schemaname = 'public' order by policyname"
)
GRANTS = (
    "select relname, grantee::regrole::text, array_agg(privilege_type order by privilege_type) "
    "from pg_class cross join lateral aclexplode(relacl) "
    "where oid in (select format('%%I.%%I', schemaname, tablename)::regclass from pg_policies) "
    "and relnamespace = any(array[%s::regnamespace]) group by 1, 2 order by 1, 2"
)
CONSTRAINT_STATE = (
    "select convalidated from pg_constraint where conname = 'outcome_requires_inference_when_model_chosen'"
)


@pytest.fixture(params=["adopted", "fresh"])
def constrained(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Iterator[Database]:
    """Yield a database that has the constraint: an adopted one, and a fresh installation."""
    if request.param == "adopted":
        with earlier_database(stack, tmp_path) as database:
            database.add([*ADOPTION, *CONSTRAINT])
            push(database)
            yield database
    else:
        with new_database(stack, tmp_path) as database:
            database.add(sorted((SUPABASE / "migrations").glob("*.sql")))
            push(database)
            yield database


def push(database: Database, *options: str) -> None:
    """Apply what is pending."""
    answer = database.push(*options)
    assert answer.exit_code == 0, answer.stderr


def undo(database: Database, name: str, *versions: str) -> None:
    """Run a rollback as docs/adoption.md says: the SQL in one transaction, then the history."""
    database.execute((ROLLBACK / name).read_text())
    answer = database.cli("migration", "repair", "--status", "reverted", *versions)
    assert answer.exit_code == 0, answer.stderr


def access(database: Database) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return every policy, and every grant on the tables that have one."""
    return database.rows(POLICIES), database.rows(GRANTS, "public")


def test_the_constraint_is_rolled_back_and_applied_again(constrained: Database) -> None:
    """It is gone, with its history; the next push adds and validates it again."""
    applied = constrained.history()
    assert constrained.rows(CONSTRAINT_STATE) == [(True,)]
    undo(constrained, CONSTRAINT[0].name, *CONSTRAINT_VERSIONS)
    assert constrained.rows(CONSTRAINT_STATE) == []
    assert set(applied) - set(constrained.history()) == set(CONSTRAINT_VERSIONS)
    push(constrained, "--include-all")
    assert constrained.rows(CONSTRAINT_STATE) == [(True,)]
    assert constrained.history() == applied


def test_the_policies_are_rolled_back_and_applied_again(stack: Stack, tmp_path: Path) -> None:
    """Each has its former expression and roles, each table its former grants; the next push hoists them again."""
    with earlier_database(stack, tmp_path) as database:
        before = access(database)
        database.add([*ADOPTION, *CONSTRAINT])
        push(database)
        adopted, applied = access(database), database.history()
        assert adopted[0] != before[0]
        assert adopted[1] != before[1]
        undo(database, ADOPTION[0].name, POLICY_VERSION)
        assert access(database) == before
        push(database, "--include-all")
        assert access(database) == adopted
        assert database.history() == applied


def test_each_rollback_is_named_after_a_shipped_migration() -> None:
    """A rollback without its migration, or under another name, would not be found."""
    shipped = {file.name for file in (*ADOPTION, *(SUPABASE / "migrations").glob("*.sql"))}
    assert {file.name for file in ROLLBACK.glob("*.sql")} <= shipped
