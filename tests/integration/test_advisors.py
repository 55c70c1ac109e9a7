"""What Supabase's own advisors say of the migrated database."""

from pathlib import Path

from backend.stack import parts
from backend.stack.migrations import cli_environment
from backend.stack.processes import run
from backend.stack.stack import Stack

ADVISORS_TIMEOUT_SECONDS = 120.0


def test_the_advisors_have_nothing_to_say(stack: Stack, tmp_path: Path) -> None:
    """`supabase db advisors` finds neither a warning nor an error, of security or performance."""
    remote = f"--remote={stack.endpoints.database_url}?sslmode=disable"
    levels = ("--type", "all", "--level", "warn", "--fail-on", "warn")
    command: list[str | Path] = [parts.supabase_program(), "db", "advisors", *levels, remote]
    command += ["--workdir", parts.PROJECT_ROOT]
    done = run(command, environment=cli_environment(tmp_path), timeout_seconds=ADVISORS_TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stderr
