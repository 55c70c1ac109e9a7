"""What each migration locks of a project that is in use, and for how long: `python -m bench.migrations`.

Each file is applied as `supabase db push` does, in a transaction of its own, to a project that has nothing of Clearfloor but
users. What it locks is looked up at the transaction's end; how long it takes is an upper bound of how long it holds that.
"""

import argparse
import tempfile
import time
from pathlib import Path

import psycopg

from backend.stack import parts
from backend.stack.stack import Stack
from bench.tables import show

_MIGRATIONS = sorted((parts.PROJECT_ROOT / "supabase" / "migrations").glob("*.sql"))
_USERS = 100_000
_MILLISECONDS = 1000.0
_LOCKED = """
select coalesce(string_agg(
    format('%%s (%%s)', relation, mode), ', ' order by relation, mode
), 'nothing')
from (
    select distinct relation::regclass::text as relation, mode
    from pg_catalog.pg_locks
    where pid = pg_catalog.pg_backend_pid() and relation = any(%s) and mode not in ('AccessShareLock', 'RowShareLock')
) as held
"""


def main() -> None:
    """Apply all migrations once, and print a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.migrations", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--users", type=int, default=_USERS, help="rows of auth.users beforehand")
    users = parser.parse_args().users
    with tempfile.TemporaryDirectory(prefix="clearfloor-bench-") as folder:
        home, workdir = Path(folder) / "home", Path(folder) / "project"
        (workdir / "supabase" / "migrations").mkdir(parents=True)
        for path in (Path(folder), home):
            path.mkdir(exist_ok=True)
            path.chmod(0o711)
        with Stack(home, workdir=workdir) as stack:
            show(
                "Migrations, with " + f"{users:,} users",
                ["migration", "ms", "of what was there before it locks"],
                _applied(stack, users),
            )


def _applied(stack: Stack, users: int) -> list[list[str]]:
    with psycopg.connect(stack.endpoints.superuser_url, autocommit=True) as connection:
        connection.execute(
            "insert into auth.users (id, email) select gen_random_uuid(), number || '@example.test'"
            " from generate_series(1, %s) as number",
            [users],
        )
    with psycopg.connect(stack.endpoints.database_url, autocommit=True) as connection:
        existing = [
            oid
            for (oid,) in connection.execute(
                "select oid from pg_catalog.pg_class where relkind in ('r', 'p')"
                " and relnamespace in ('public'::regnamespace, 'auth'::regnamespace)"
            )
        ]
        return [_apply(connection, file, existing) for file in _MIGRATIONS]


def _apply(connection: psycopg.Connection, file: Path, existing: list[int]) -> list[str]:
    """Apply one file; return its name, its milliseconds and its locks."""
    started = time.perf_counter()
    with connection.transaction():
        connection.execute(file.read_bytes())
        (locked,) = connection.execute(_LOCKED, [existing]).fetchone() or ("",)
    return [file.name, f"{(time.perf_counter() - started) * _MILLISECONDS:.0f}", locked]


if __name__ == "__main__":
    main()
