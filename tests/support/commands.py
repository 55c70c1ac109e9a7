"""What the tests of the operator's commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from backend.ids import uuid7
from backend.stack.ports import HOST
from backend.stack.stack import Stack
from tests.support.databases import Database


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line of standard error; nothing may be on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@contextmanager
def limited_url(stack: Stack, database: Database) -> Iterator[str]:
    """Yield the URL of a database for a role of no more rights than a member's."""
    role = f"limited_{uuid7().hex}"
    with psycopg.connect(stack.endpoints.superuser_url, autocommit=True) as server:
        server.execute(f"create role {role} login password 'limited' in role authenticated".encode())
        try:
            parts = urlsplit(database.url)
            yield parts._replace(netloc=f"{role}:limited@{HOST}:{parts.port}").geturl()
        finally:
            server.execute(f"drop role {role}".encode())
