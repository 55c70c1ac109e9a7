"""Migrations, applied by the real `supabase db push`."""

from pathlib import Path

import psycopg
from psycopg import sql

from backend.stack import parts
from backend.stack.errors import StackError
from backend.stack.processes import clean_environment, run

PUSH_TIMEOUT_SECONDS = 300.0
# As the CLI writes it into its table of seeds.
SEED = "supabase/seed.sql"


def local_versions(workdir: Path) -> set[str]:
    """Return the versions of the migration files below ``workdir/supabase/migrations``."""
    files = (workdir / "supabase" / "migrations").glob("*.sql")
    return {file.name.partition("_")[0] for file in files}


def pending(database_url: str, workdir: Path, *, seed: bool) -> list[str]:
    """Return what a push would apply: versions of migration files, and the seed file unless it ever was."""
    with psycopg.connect(database_url) as connection:
        applied = _column(connection, "schema_migrations", "version")
        sown = _column(connection, "seed_files", "path") if seed else set()
    seeds = {SEED} if seed and (workdir / SEED).exists() else set()
    return sorted((local_versions(workdir) - applied) | (seeds - sown))


def _column(connection: psycopg.Connection, table: str, column: str) -> set[str]:
    """Return a column of one of the CLI's own tables; nothing when it has not made the table yet."""
    name = sql.Identifier("supabase_migrations", table)
    if connection.execute("select to_regclass(%s)", [name.as_string()]).fetchone() == (None,):
        return set()
    query = sql.SQL("select {} from {}").format(sql.Identifier(column), name)
    return {value for (value,) in connection.execute(query)}


def push(database_url: str, workdir: Path, home: Path, *, seed: bool) -> None:
    """Apply what is pending with `supabase db push`, and the seed when asked to.

    Raises:
        StackError: the CLI refused; with what it said.
    """
    command = [
        *(parts.supabase_program(), "db", "push", f"--remote={database_url}?sslmode=disable"),
        *("--yes", "--workdir", workdir),
        *(("--include-seed",) if seed else ()),
    ]
    done = run(command, environment=cli_environment(home), timeout_seconds=PUSH_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise StackError(f"`supabase db push` failed: {' '.join((done.stderr or done.stdout).split())}")


def cli_environment(home: Path) -> dict[str, str]:
    """Return an environment in which the Supabase CLI stays by itself: no telemetry, no look for updates."""
    settings = home / "supabase-cli"
    settings.mkdir(parents=True, exist_ok=True)
    return clean_environment(
        SUPABASE_HOME=str(settings),
        SUPABASE_TELEMETRY_DISABLED="1",
        DO_NOT_TRACK="1",
        SUPABASE_NO_UPDATE_NOTIFIER="1",
        SUPABASE_NO_KEYRING="1",
        NO_COLOR="1",
    )
