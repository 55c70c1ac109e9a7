"""supabase-js with the typed queries of ``frontend/``: run by Node, as two tenants, against a real PostgREST."""

import json
from dataclasses import asdict
from pathlib import Path

from backend.stack import parts
from backend.stack.database_types import TYPES, generate
from backend.stack.processes import clean_environment, run
from backend.stack.stack import Stack
from tests.clients.conftest import Reader
from tests.support.databases import gateway_database

NODE_TIMEOUT_SECONDS = 60.0


def build(into: Path) -> None:
    """Compile ``frontend/``, which fails where a type is wrong."""
    command: list[str | Path] = [parts.node_program("tsc"), "--project", TYPES.parent, "--outDir", into]
    done = run(command, environment=clean_environment(), timeout_seconds=NODE_TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stdout


def test_two_tenants_read_what_is_their_own(stack: Stack, readers: tuple[Reader, Reader]) -> None:
    """Every test of `frontend/queries.test.ts`."""
    world = {
        "url": stack.endpoints.supabase_url,
        "publishable_key": stack.endpoints.publishable_key,
        "readers": [asdict(reader) for reader in readers],
    }
    # Below the project, where Node finds supabase-js.
    folder = TYPES.parent / "build"
    build(folder)
    # supabase-js asks for a WebSocket even where nothing is subscribed to, and Node 20 has it behind a flag.
    command: list[str | Path] = ["node", "--experimental-websocket", folder / "queries.test.js"]
    environment = clean_environment(CLEARFLOOR_READERS=json.dumps(world))
    done = run(command, environment=environment, timeout_seconds=NODE_TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_are_those_of_the_migrations(stack: Stack, tmp_path: Path) -> None:
    """Whoever changes the schema writes them anew."""
    with gateway_database(stack, tmp_path) as database:
        expected = generate(database.url, tmp_path)
    assert TYPES.read_text() == expected, "The schema has changed: run `make types` and commit its file."
