"""What every command that asks a database itself does with one that cannot be asked."""

import pytest

from backend import cli
from backend.stack.ports import HOST, free_port
from tests.support.commands import one_line


@pytest.mark.parametrize(
    "command", [["preflight"], ["doctor"], ["prices", "diff"], ["prices", "apply"], ["policies", "check"]]
)
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://postgres:hunter2@{host}:{port}/postgres", "the database cannot be asked"),
        ("", "DATABASE_URL is not a database's URL"),
        ("hunter2", "DATABASE_URL is not a database's URL"),
        ("postgresql://postgres:hunter2%zz@127.0.0.1/postgres", "DATABASE_URL is not a database's URL"),
    ],
)
def test_a_database_that_cannot_be_asked_is_refused(
    capsys: pytest.CaptureFixture[str], command: list[str], url: str, expected: str
) -> None:
    """It exits 2 with one line, asks no default database instead, and does not repeat what may hold a password."""
    assert cli.main([*command, url.format(host=HOST, port=free_port())]) == 2
    line = one_line(capsys)
    assert expected in line
    assert "hunter2" not in line
