"""Fixtures of the embedded stack, for the Python tests and the pgTAP files alike."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from backend.stack import parts
from backend.stack.stack import Stack, remove_abandoned

PGTAP_FILES = parts.PROJECT_ROOT / "supabase" / "tests"
_HOME_PREFIX = "clearfloor-stack-"


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Start one embedded stack, migrated and without seed, for the whole session."""
    remove_abandoned(Path(tempfile.gettempdir()), _HOME_PREFIX)
    with tempfile.TemporaryDirectory(prefix=_HOME_PREFIX, ignore_cleanup_errors=True) as home:
        # Postgres may run as another user than this one: it must be able to pass through.
        Path(home).chmod(0o711)
        with Stack(Path(home)) as running:
            yield running


@pytest.fixture(scope="session")
def pgtap_connection(stack: Stack) -> Iterator[psycopg.Connection]:
    """Connect the pgTAP files as `supabase test db` does: as `postgres`, with pgTAP in `extensions`.

    Its first file and its last are run here, so that any of the others can be run alone.
    """
    with psycopg.connect(stack.endpoints.superuser_url, autocommit=True) as connection:
        connection.execute("create extension if not exists pgtap with schema extensions")
    run_pgtap_file(stack.endpoints.database_url, "000_helpers.sql")
    with psycopg.connect(stack.endpoints.database_url, autocommit=True) as connection:
        yield connection
    run_pgtap_file(stack.endpoints.database_url, "zzz_drop_helpers.sql")


def run_pgtap_file(database_url: str, name: str) -> None:
    """Run a pgTAP file for its effect, in a session of its own."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute((PGTAP_FILES / name).read_bytes())
