"""The database's types in TypeScript, as `supabase gen types` writes them, for frontends to import.

``python -m backend.stack.database_types`` (`make types`) writes them anew, from a database with the migrations as they are.
"""

import sys
import tempfile
from pathlib import Path

from backend.stack import parts
from backend.stack.errors import StackError
from backend.stack.migrations import cli_environment
from backend.stack.processes import run
from backend.stack.stack import Stack

TYPES = parts.PROJECT_ROOT / "frontend" / "database.types.ts"
TIMEOUT_SECONDS = 60.0


def generate(database_url: str, home: Path) -> str:
    """Return the types of a database's exposed schema, formatted as the rest of ``frontend/``.

    Raises:
        StackError: the CLI or the formatter refused; with what it said.
    """
    unformatted = home / TYPES.name
    unformatted.write_text(
        _output(home, parts.supabase_program(), "gen", "types", f"--remote={database_url}?sslmode=disable")
    )
    config = TYPES.parent / ".prettierrc.json"
    return _output(home, parts.node_program("prettier"), "--config", config, unformatted)


def main() -> int:
    """Write the types anew; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="clearfloor-types-") as folder:
        # Postgres may run as another user than this one: it must be able to pass through.
        Path(folder).chmod(0o711)
        try:
            with Stack(Path(folder)) as stack:
                TYPES.write_text(generate(stack.endpoints.database_url, Path(folder)))
        except StackError as error:
            sys.stderr.write(f"make types: {error} The file is as it was.\n")
            return 1
    return 0


def _output(home: Path, *command: str | Path) -> str:
    done = run(command, environment=cli_environment(home), timeout_seconds=TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise StackError(f"`{Path(command[0]).name}` failed: {' '.join(done.stderr.split())}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
