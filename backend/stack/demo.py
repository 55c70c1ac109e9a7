"""The demo organization's key and tokens, on top of what `supabase/seed.sql` has written."""

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from backend.stack.errors import StackError
from backend.stack.keys import write_private
from backend.stack.stack import Stack

ORGANIZATION = UUID("019a0000-0000-7000-8000-000000000001")
OTHER_ORGANIZATION = UUID("019a0000-0000-7000-8000-000000000002")
MEMBER = UUID("019a0000-0000-7000-8000-000000000011")
OTHER_MEMBER = UUID("019a0000-0000-7000-8000-000000000012")
AGENT = UUID("019a0000-0000-7000-8000-000000000021")
KEY = UUID("019a0000-0000-7000-8000-000000000031")
# Supabase's own maximum. `make up` makes new ones.
TOKEN_SECONDS = 7 * 24 * 3600
_KEY_PREFIX = "cf_"
_KEY_RANDOM_BYTES = 30
_SHOWN_CHARACTERS = 9


@dataclass(frozen=True)
class Demo:
    """What a script needs to act as the demo organization, and as a stranger to it."""

    api_key: str
    tenant_token: str
    other_tenant_token: str


def prepare_demo(stack: Stack) -> Demo:
    """Point the simulated provider at this stack, store the demo key and sign the members' tokens.

    Raises:
        StackError: the seed is missing from the database.
    """
    api_key = demo_key(stack.home / "demo-key")
    with psycopg.connect(stack.endpoints.database_url) as connection:
        base_url = f"{stack.endpoints.simulator_url}/v1"
        connection.execute("update public.providers set base_url = %s where name = 'simulated'", [base_url])
        if connection.execute("select from public.agents where id = %s", [AGENT]).fetchone() is None:
            raise StackError(
                "the demo organization is missing from the database: "
                "run `make down`, remove the folder .clearfloor and run `make up` again."
            )
        _store_key(connection, api_key)
    return Demo(
        api_key,
        stack.mint_user_token(MEMBER, ORGANIZATION, role="owner", expires_in_seconds=TOKEN_SECONDS),
        stack.mint_user_token(
            OTHER_MEMBER, OTHER_ORGANIZATION, role="owner", expires_in_seconds=TOKEN_SECONDS
        ),
    )


def demo_key(file: Path) -> str:
    """Return the demo API key; made once, it stays the same as long as its file does."""
    if not file.exists():
        write_private(file, _KEY_PREFIX + secrets.token_urlsafe(_KEY_RANDOM_BYTES))
    return file.read_text()


def _store_key(connection: psycopg.Connection, api_key: str) -> None:
    connection.execute(
        """
        insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash)
        values (%s, %s, %s, 'demo', %s, %s)
        on conflict (id) do update
        set key_hash = excluded.key_hash, display_prefix = excluded.display_prefix
        """,
        [KEY, ORGANIZATION, AGENT, api_key[:_SHOWN_CHARACTERS], hashlib.sha256(api_key.encode()).digest()],
    )
