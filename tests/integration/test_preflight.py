"""`clearfloor preflight` counts what stands in the way of the constraint, and changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import cli
from backend.stack.stack import Stack
from tests.support.commands import limited_url, one_line
from tests.support.databases import ADOPTION, CONSTRAINT, Database, earlier_database, new_database


@pytest.fixture(scope="module")
def earlier(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database of the earlier shape that nobody changes."""
    with earlier_database(stack, tmp_path_factory.mktemp("preflight")) as database:
        yield database


def test_orphans_are_counted_by_status(earlier: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """With rows in the way it exits 1 and says how many of which kind."""
    assert cli.main(["preflight", earlier.url]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Rows that violate outcome_requires_inference_when_model_chosen: 21",
        "  cancelled: 1",
        "  failed_other: 1",
        "  failed_provider_error: 3",
        "  succeeded: 16",
        "Repair them before the constraint is validated: docs/adoption.md says how.",
    ]


def test_the_count_is_what_validation_would_refuse(earlier: Database) -> None:
    """It agrees with the condition of the shipped constraint itself."""
    condition = CONSTRAINT[0].read_text().partition("check (")[2].partition(") not valid")[0]
    rows = earlier.rows(f"select count(*) from public.routing_outcomes where not ({condition})")  # noqa: S608
    assert rows == [(21,)]


def test_nothing_stands_in_the_way_after_adoption(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every orphan repaired it exits 0, whether the constraint is there already or not."""
    with earlier_database(stack, tmp_path) as database:
        for files in (ADOPTION, CONSTRAINT):
            database.add(files)
            assert database.push().exit_code == 0
            assert cli.main(["preflight", database.url]) == 0
            assert capsys.readouterr().out == (
                "Rows that violate outcome_requires_inference_when_model_chosen: 0\n"
            )


def test_a_database_without_the_table_is_refused(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 2, and says what is missing."""
    with new_database(stack, tmp_path) as database:
        assert cli.main(["preflight", database.url]) == 2
    assert one_line(capsys) == (
        'clearfloor preflight: this is no database to adopt: relation "public.routing_outcomes" does not exist.'
    )


def test_a_role_that_policies_hide_rows_from_is_refused(
    earlier: Database, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """A count of the rows that one may see would be too small: it exits 2 instead."""
    with limited_url(stack, earlier) as url:
        assert cli.main(["preflight", url]) == 2
    assert "this role cannot count every row" in one_line(capsys)
