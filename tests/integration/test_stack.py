"""The embedded stack behaves as the Supabase it stands in for, on a schema of its own."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import jwt
import psycopg
import pytest

from backend.stack.processes import wait_until
from backend.stack.stack import Stack

OPERATION_TIMEOUT_SECONDS = 10.0
HERE = UUID("019a0000-0000-7000-8000-0000000000a1")
ELSEWHERE = UUID("019a0000-0000-7000-8000-0000000000a2")
USER = UUID("019a0000-0000-7000-8000-0000000000b1")
MIGRATION = """
create table public.notes (organization_id uuid not null, content text primary key);
revoke all on public.notes from anon, authenticated;
grant select on public.notes to authenticated;
alter table public.notes enable row level security;
create policy notes_select on public.notes for select to authenticated using (
    organization_id = (select nullif((select auth.jwt()) -> 'app_metadata' ->> 'organization_id', '')::uuid)
);
insert into public.notes values
    ('019a0000-0000-7000-8000-0000000000a1', 'here'), ('019a0000-0000-7000-8000-0000000000a2', 'elsewhere');

create function public.add_claim(event jsonb) returns jsonb language sql stable set search_path = '' as $$
    select jsonb_set(event, '{claims,app_metadata,hooked}', 'true')
$$;
grant execute on function public.add_claim(jsonb) to supabase_auth_admin;
"""
CONFIG = """
project_id = "notes"
[auth.hook.custom_access_token]
enabled = true
uri = "pg-functions://postgres/public/add_claim"
"""


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a stack whose only migration makes a table of notes."""
    workdir = tmp_path_factory.mktemp("notes")
    migrations = workdir / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_create_notes.sql").write_text(MIGRATION)
    (workdir / "supabase" / "config.toml").write_text(CONFIG)
    with Stack(tmp_path_factory.mktemp("home"), workdir=workdir) as running:
        yield running


def read_notes(stack: Stack, key: str, token: str = "", **headers: str) -> httpx.Response:
    """Read all notes through the Data API."""
    authorization = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.get(
        f"{stack.endpoints.supabase_url}/rest/v1/notes?select=content&order=content",
        headers={"apikey": key, **authorization, **headers},
    )


def contents(answer: httpx.Response) -> list[str]:
    """Return the notes of an answer."""
    assert answer.status_code == 200, answer.text
    return [note["content"] for note in answer.json()]


def sign_in(stack: Stack, grant: str, **facts: str) -> httpx.Response:
    """Ask for a session."""
    url = f"{stack.endpoints.supabase_url}/auth/v1/token"
    return httpx.post(url, params={"grant_type": grant}, json=facts)


@pytest.fixture(scope="module")
def member(notes: Stack) -> str:
    """Make a user with the password ``correct`` and return the e-mail address."""
    with psycopg.connect(notes.endpoints.superuser_url) as connection:
        connection.execute(
            "insert into auth.users (id, email, encrypted_password, raw_app_meta_data)"
            " values (%s, %s, extensions.crypt('correct', extensions.gen_salt('bf', 4)), %s::jsonb)",
            [USER, "member@example.com", f'{{"organization_id": "{HERE}"}}'],
        )
    return "member@example.com"


def test_a_publishable_key_alone_is_anonymous(notes: Stack) -> None:
    """It reaches the database as `anon`, which may not read notes."""
    answer = read_notes(notes, notes.endpoints.publishable_key)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")


def test_a_key_sent_as_the_bearer_token_too_counts_once(notes: Stack) -> None:
    """The client libraries send it in both headers."""
    key = notes.endpoints.secret_key
    assert contents(read_notes(notes, key, key)) == ["elsewhere", "here"]


def test_a_members_token_reads_the_rows_of_its_organization_only(notes: Stack) -> None:
    """Row level security sees the claims of an ES256 token."""
    token = notes.mint_user_token(USER, HERE)
    assert contents(read_notes(notes, notes.endpoints.publishable_key, token)) == ["here"]


def test_a_token_without_organization_reads_nothing(notes: Stack) -> None:
    """And gets no error either."""
    token = notes.mint_user_token(USER, None)
    assert contents(read_notes(notes, notes.endpoints.publishable_key, token)) == []


def test_a_members_token_outranks_the_secret_key_it_comes_with(notes: Stack) -> None:
    """As on the hosted platform: row level security applies to that user."""
    token = notes.mint_user_token(USER, ELSEWHERE)
    assert contents(read_notes(notes, notes.endpoints.secret_key, token)) == ["elsewhere"]


def test_a_legacy_token_signed_with_the_shared_secret_is_accepted(notes: Stack) -> None:
    """Projects from before signing keys have such tokens."""
    claims = {"role": "service_role", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, notes.endpoints.jwt_secret, algorithm="HS256")
    assert len(contents(read_notes(notes, notes.endpoints.publishable_key, token))) == 2


def test_an_expired_token_is_refused(notes: Stack) -> None:
    """Its row would otherwise be readable for ever."""
    token = notes.mint_user_token(USER, HERE, expires_in_seconds=-60)
    assert read_notes(notes, notes.endpoints.publishable_key, token).status_code == 401


def test_an_unknown_key_is_refused(notes: Stack) -> None:
    """Even with a good token beside it."""
    answer = read_notes(notes, "sb_publishable_unknown", notes.mint_user_token(USER, HERE))
    assert (answer.status_code, answer.json()) == (401, {"message": "Invalid API key"})


def test_a_secret_key_in_a_browser_is_refused(notes: Stack) -> None:
    """It was shipped to the public."""
    answer = read_notes(notes, notes.endpoints.secret_key, **{"user-agent": "Mozilla/5.0"})
    assert answer.status_code == 401


def test_counts_and_preferences_pass_through_the_front(notes: Stack) -> None:
    """Content-Range is how a reader pages."""
    answer = read_notes(notes, notes.endpoints.secret_key, prefer="count=exact")
    assert answer.headers["content-range"] == "0-1/2"
    assert answer.headers["preference-applied"] == "count=exact"


def test_a_browser_of_another_origin_may_call(notes: Stack) -> None:
    """Supabase's Data API is open to every origin."""
    preflight = httpx.options(
        f"{notes.endpoints.supabase_url}/rest/v1/notes",
        headers={
            "origin": "https://app.example",
            "access-control-request-method": "GET",
            "access-control-request-headers": "apikey, authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"


def test_the_published_key_set_verifies_a_members_token(notes: Stack) -> None:
    """Whoever verifies locally needs nothing else."""
    issuer = f"{notes.endpoints.supabase_url}/auth/v1"
    keys = jwt.PyJWKSet.from_dict(httpx.get(f"{issuer}/.well-known/jwks.json").json())
    token = notes.mint_user_token(USER, HERE, role="owner")
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="authenticated", issuer=issuer)
    assert claims["app_metadata"] | {"organization_id": str(HERE), "role": "owner"} == claims["app_metadata"]
    assert claims["is_anonymous"] is False


def test_a_password_buys_a_session_that_the_access_token_hook_has_seen(notes: Stack, member: str) -> None:
    """The token reads what the user's organization may read."""
    session = sign_in(notes, "password", email=member, password="correct").json()
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    assert claims["app_metadata"] == {"organization_id": str(HERE), "hooked": True}
    token = session["access_token"]
    assert contents(read_notes(notes, notes.endpoints.publishable_key, token)) == ["here"]


def test_a_refresh_token_buys_another_session(notes: Stack, member: str) -> None:
    """It is how a user changes the active organization."""
    session = sign_in(notes, "password", email=member, password="correct").json()
    again = sign_in(notes, "refresh_token", refresh_token=session["refresh_token"])
    assert again.json()["user"]["id"] == str(USER)


def test_a_wrong_password_buys_nothing(notes: Stack, member: str) -> None:
    """And the answer is Supabase Auth's own."""
    answer = sign_in(notes, "password", email=member, password="wrong")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "invalid_credentials")


def test_a_new_table_is_reachable_without_a_restart(notes: Stack) -> None:
    """PostgREST is told of every changed schema."""
    name = f"later_{uuid4().hex}"
    with psycopg.connect(notes.endpoints.database_url) as connection:
        connection.execute(f"create table public.{name} (id int)")
    url = f"{notes.endpoints.supabase_url}/rest/v1/{name}"
    headers = {"apikey": notes.endpoints.secret_key}
    wait_until(
        lambda: httpx.get(url, headers=headers).status_code == 200,
        "the new table did not appear in the Data API",
        OPERATION_TIMEOUT_SECONDS,
    )


def test_a_paused_data_api_answers_once_it_is_resumed(notes: Stack) -> None:
    """Fault tests rest on this: the connection is held, not refused."""
    postgrest = notes.processes["postgrest"]
    postgrest.pause()
    try:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(
                f"{notes.endpoints.supabase_url}/rest/v1/notes",
                headers={"apikey": notes.endpoints.secret_key},
                timeout=0.3,
            )
    finally:
        postgrest.resume()
    assert len(contents(read_notes(notes, notes.endpoints.secret_key))) == 2


def test_data_and_keys_survive_a_restart_and_a_killed_server(tmp_path: Path) -> None:
    """Also when Postgres had no time to tidy up."""
    tmp_path.chmod(0o711)
    (tmp_path / "supabase").mkdir()
    first = Stack(tmp_path, workdir=tmp_path, durable=True)
    first.start()
    with psycopg.connect(first.endpoints.database_url) as connection:
        connection.execute("create table public.kept (id int)")
    first.processes["postgres"].kill()
    with Stack(tmp_path, workdir=tmp_path, durable=True) as second:
        assert second.endpoints.secret_key == first.endpoints.secret_key
        with psycopg.connect(second.endpoints.database_url) as connection:
            assert connection.execute("select count(*) from public.kept").fetchone() == (0,)
        assert not any(process.is_alive() for process in first.processes.values())
    assert not any(process.is_alive() for process in second.processes.values())
