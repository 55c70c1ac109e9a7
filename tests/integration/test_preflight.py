"""`clearfloor preflight` says how many rows would violate the constraint."""

from pathlib import Path

import pytest

from backend.cli import main
from backend.stack.stack import Stack
from tests.support.databases import ADOPTION, CONSTRAINT, earlier_database


def test_it_counts_before_and_finds_none_after(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 with the count, then 0."""
    with earlier_database(stack, tmp_path) as database:
        orphans = database.rows(
            "select count(*) from public.routing_outcomes where outcome_status is not null"
            " and decision_rule = 'cheapest_clearing_floor' and inference_id is null"
        )[0][0]
        assert main(["preflight", database.url]) == 1
        assert str(orphans) in capsys.readouterr().out
        database.add([*ADOPTION, *CONSTRAINT])
        assert database.push().exit_code == 0
        assert main(["preflight", database.url]) == 0


def test_a_database_that_cannot_be_asked_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert main(["preflight", "postgresql://nobody@127.0.0.1:1/none"]) == 2
    output = capsys.readouterr()
    assert len((output.err + output.out).strip().splitlines()) == 1
