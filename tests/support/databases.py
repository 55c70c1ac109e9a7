"""Databases of a test's own in the stack's cluster, changed by the real Supabase CLI as an operator changes his."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from backend.stack import parts
from backend.stack.migrations import cli_environment
from backend.stack.processes import run
from backend.stack.stack import Stack

CLI_TIMEOUT_SECONDS = 120.0
SUPABASE = parts.PROJECT_ROOT / "supabase"
EARLIER_SHAPE = parts.PROJECT_ROOT / "tests" / "fixtures" / "earlier_database.sql"
EARLIER_FILE = "20260528000000_earlier_database.sql"
ADOPTION = sorted((SUPABASE / "adoption" / "migrations").glob("*.sql"))
MIGRATIONS = sorted((SUPABASE / "migrations").glob("*.sql"))
CONSTRAINT = [
    SUPABASE / "migrations" / "20261124000600_require_inference_when_model_chosen.sql",
    SUPABASE / "migrations" / "20261124000700_validate_inference_when_model_chosen.sql",
]
_BOOTSTRAP = parts.PROJECT_ROOT / "backend" / "stack" / "bootstrap.sql"
# Roles belong to the cluster: the stack has made them already.
_CREATE_ROLE = re.compile(r"^create role .*;$", re.MULTILINE)


@dataclass(frozen=True)
class CliAnswer:
    """What the Supabase CLI answered."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Database:
    """One database and the work folder from which it is migrated."""

    url: str
    workdir: Path

    @property
    def migrations(self) -> Path:
        """The folder that `db push` reads."""
        return self.workdir / "supabase" / "migrations"

    def add(self, files: Sequence[Path]) -> None:
        """Copy migration files into the work folder."""
        for file in files:
            shutil.copyfile(file, self.migrations / file.name)

    def push(self, *options: str) -> CliAnswer:
        """Run `supabase db push`."""
        return self.cli("db", "push", *options)

    def cli(self, *arguments: str) -> CliAnswer:
        """Run a command of the Supabase CLI against this database."""
        options = (f"--remote={self.url}?sslmode=disable", "--yes", f"--workdir={self.workdir}")
        command = [str(parts.supabase_program()), *arguments, *options]
        done = run(command, environment=cli_environment(self.workdir), timeout_seconds=CLI_TIMEOUT_SECONDS)
        return CliAnswer(done.returncode, done.stdout, done.stderr)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what a query of the role `postgres` finds."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def execute(self, statements: str) -> None:
        """Run statements as the role `postgres`, in one transaction."""
        with psycopg.connect(self.url) as connection:
            connection.execute(statements.encode())

    def history(self) -> list[str]:
        """Return the versions that the CLI has recorded as applied."""
        return [
            str(version)
            for (version,) in self.rows(
                "select version from supabase_migrations.schema_migrations order by version"
            )
        ]


@contextmanager
def new_database(stack: Stack, workdir: Path) -> Iterator[Database]:
    """Make a database with what Supabase gives one, and an empty work folder; drop it in the end."""
    name = f"test_{uuid4().hex}"
    identifier = sql.Identifier(name)
    endpoints = stack.endpoints
    (workdir / "supabase" / "migrations").mkdir(parents=True)
    (workdir / "supabase" / "config.toml").write_text('project_id = "test"\n')
    with psycopg.connect(endpoints.superuser_url, autocommit=True) as server:
        server.execute(sql.SQL("create database {} owner postgres template template0").format(identifier))
        try:
            with psycopg.connect(_at(endpoints.superuser_url, name)) as connection:
                connection.execute(_CREATE_ROLE.sub("", _BOOTSTRAP.read_text()).encode())
            yield Database(_at(endpoints.database_url, name), workdir)
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(identifier))


@contextmanager
def earlier_database(stack: Stack, workdir: Path) -> Iterator[Database]:
    """Make a database of the earlier shape, pushed as a migration of that time."""
    with new_database(stack, workdir) as database:
        shutil.copyfile(EARLIER_SHAPE, database.migrations / EARLIER_FILE)
        pushed = database.push()
        assert pushed.exit_code == 0, pushed.stderr
        yield database


@contextmanager
def gateway_database(stack: Stack, workdir: Path) -> Iterator[Database]:
    """Make a database with every migration, and no rows."""
    with new_database(stack, workdir) as database:
        database.add(MIGRATIONS)
        pushed = database.push()
        assert pushed.exit_code == 0, pushed.stderr
        yield database


def _at(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def remove_rows(connection: psycopg.Connection[Any]) -> None:
    """Remove the rows of a database of a gateway, as the tables' owner; the audit has to be kept from refusing it."""
    connection.execute("alter table public.audit_entries disable trigger audit_entries_refuse_truncate")
    connection.execute(
        "truncate public.organizations, public.providers, public.models, public.catalogue_snapshots cascade"
    )
    connection.execute("alter table public.audit_entries enable trigger audit_entries_refuse_truncate")
