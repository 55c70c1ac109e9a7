"""How the operator's commands reach Postgres itself: by a URL that is never repeated, in one transaction with timeouts."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_MILLISECONDS = 4_000

_SCHEMES = ("postgresql://", "postgres://")
_MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)


@contextmanager
def open_transaction(
    database_url: str, *, statement_timeout_milliseconds: int, read_only: bool
) -> Iterator[psycopg.Connection]:
    """Connect for one transaction; it is committed where the block ends, and undone where it raises.

    Raises:
        psycopg.Error: the database cannot be reached, or refuses a statement. :func:`reason` says it in one line.
    """
    # psycopg would take an empty or a plain text for settings, and ask some other database.
    if not database_url.startswith(_SCHEMES):
        raise psycopg.ProgrammingError
    with psycopg.connect(database_url, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
        connection.read_only = read_only
        # Off, it is an error if a policy would hide rows, and not an answer that leaves some out.
        connection.execute("set local row_security = off")
        connection.execute(f"set local lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}")
        connection.execute(f"set local statement_timeout = {statement_timeout_milliseconds}")
        yield connection


def reason(error: psycopg.Error, *, wrong_database: str, wrong_role: str) -> str:
    """Return one line that never repeats the URL, which holds a password.

    ``wrong_database`` and ``wrong_role`` say what a missing table or function and a missing right mean to the command.
    """
    if isinstance(error, _MISSING):
        return f"{wrong_database}: {error.diag.message_primary}."
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"{wrong_role}: {error.diag.message_primary}. Ask as the tables' owner."
    if type(error) is psycopg.ProgrammingError:
        return "DATABASE_URL is not a database's URL: it looks like postgresql://user:password@host:5432/postgres."
    return f"the database cannot be asked: {' '.join(str(error).split())}"
