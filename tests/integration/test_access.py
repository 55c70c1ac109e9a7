"""Who may call: an agent's key, or a member's access token; everybody else is told so, and nothing is called."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import jwt
import pytest

from backend.ids import uuid7
from backend.stack.keys import StackKeys, user_claims
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import CATALOGUE_REFRESH_SECONDS
from tests.support.scene import Scene, error_code, open_scene

AGENT_HEADER = "x-clearfloor-agent"


def token_of(scene: Scene, **overrides: Any) -> str:  # any claim
    """Mint the access token of the tenant's member."""
    tenant = scene.tenant
    return scene.stack.mint_user_token(tenant.user_id, tenant.organization_id, **overrides)


def issuer(stack: Stack) -> str:
    """Return who issues the project's tokens."""
    return f"{stack.endpoints.supabase_url}/auth/v1"


def shared_secret_token(scene: Scene, secret: str, algorithm: str = "HS256") -> str:
    """Mint the member's token as a legacy project does: signed with the shared secret."""
    metadata = {"organization_id": str(scene.tenant.organization_id)}
    claims = user_claims(issuer(scene.stack), scene.tenant.user_id, app_metadata=metadata)
    return jwt.encode(claims, secret, algorithm=algorithm)


@pytest.fixture(scope="module")
def legacy_backend(stack: Stack) -> Iterator[BackendProcess]:
    """Run a backend of a project from before the new keys: its own keys are JWTs, and it accepts the shared secret's tokens."""
    keys = StackKeys.kept_in(stack.home / "keys.json")
    variables = {
        "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
        "SUPABASE_SECRET_KEY": keys.service_token("service_role"),
        "SUPABASE_PUBLISHABLE_KEY": keys.service_token("anon"),
        "SUPABASE_JWT_SECRET": stack.endpoints.jwt_secret,
    }
    with BackendProcess(stack, **variables) as running:
        yield running


@pytest.fixture
async def legacy_scene(stack: Stack, legacy_backend: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with the backend of a legacy project."""
    async with open_scene(stack, legacy_backend) as scene:
        yield scene


async def test_an_api_key_calls_as_its_agent(scene: Scene) -> None:
    """The row names agent and key, and no user."""
    await scene.offer()
    assert (await scene.chat()).status_code == 200
    decision = scene.decision()
    assert (decision["agent_id"], decision["api_key_id"]) == (scene.tenant.agent_id, scene.tenant.api_key_id)
    assert decision["user_id"] is None


async def test_a_members_token_calls_as_the_default_agent(scene: Scene) -> None:
    """The row names agent and user, and no key."""
    await scene.offer()
    assert (await scene.chat(key=token_of(scene))).status_code == 200
    decision = scene.decision()
    assert (decision["agent_id"], decision["user_id"]) == (scene.tenant.agent_id, scene.tenant.user_id)
    assert decision["api_key_id"] is None


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_members_token_calls_as_the_agent_it_names(scene: Scene, by: str) -> None:
    """An agent of the organization, by name or by id."""
    await scene.offer()
    agent_id = scene.rows.agent(scene.tenant.organization_id, "second agent")
    named = "second agent" if by == "name" else str(agent_id)
    assert (await scene.chat(key=token_of(scene), headers={AGENT_HEADER: named})).status_code == 200
    assert scene.decision()["agent_id"] == agent_id


@pytest.mark.parametrize("by", ["name", "id", "nonsense"])
async def test_a_members_token_cannot_call_as_a_foreign_agent(scene: Scene, by: str) -> None:
    """Neither an agent of another organization nor one that nobody has: 403, and nothing is recorded."""
    await scene.offer()
    other = scene.make_tenant(balance_nano_usd=10**9)
    foreign = scene.rows.agent(other.organization_id, "foreign agent")
    named = {"name": "foreign agent", "id": str(foreign), "nonsense": "' or true --"}[by]
    response = await scene.chat(key=token_of(scene), headers={AGENT_HEADER: named})
    assert (response.status_code, error_code(response)) == (403, "access_denied")
    assert scene.decisions() == scene.decisions(other) == []
    assert await scene.called() == [0]


async def test_a_token_for_an_organization_the_user_does_not_belong_to_is_refused(scene: Scene) -> None:
    """The claim alone makes nobody a member."""
    other = scene.make_tenant(balance_nano_usd=10**9)
    await scene.offer()
    token = scene.stack.mint_user_token(scene.tenant.user_id, other.organization_id)
    response = await scene.chat(key=token)
    assert (response.status_code, error_code(response)) == (403, "access_denied")
    assert scene.decisions(other) == []


async def test_an_ended_membership_stops_at_once(scene: Scene) -> None:
    """The member is cached; the opening asks the database again."""
    await scene.offer()
    token = token_of(scene)
    assert (await scene.chat(key=token)).status_code == 200
    scene.rows.query(
        "delete from public.organization_members where user_id = %(id)s", id=scene.tenant.user_id
    )
    response = await scene.chat(key=token)
    assert (response.status_code, error_code(response)) == (401, "invalid_api_key")
    assert scene.decisions()[1]["outcome_status"] == "rejected_key"
    assert await scene.called() == [1]


async def test_a_membership_without_a_default_agent_has_to_name_one(scene: Scene) -> None:
    """403 tells it; with a name it works."""
    await scene.offer()
    user_id = uuid7()
    scene.rows.member(scene.tenant.organization_id, user_id, None)
    token = scene.stack.mint_user_token(user_id, scene.tenant.organization_id)
    response = await scene.chat(key=token)
    assert (response.status_code, error_code(response)) == (403, "access_denied")
    assert (await scene.chat(key=token, headers={AGENT_HEADER: scene.tenant.agent_name})).status_code == 200


BAD_TOKENS: dict[str, Callable[[Scene], str]] = {
    "wrong audience": lambda scene: token_of(scene, aud="anon"),
    "wrong issuer": lambda scene: token_of(scene, iss="https://evil.example.test/auth/v1"),
    "wrong role": lambda scene: _with_role(scene, "service_role"),
    "anonymous role": lambda scene: _with_role(scene, "anon"),
    "expired": lambda scene: token_of(scene, expires_in_seconds=-60),
    "no expiry": lambda scene: token_of(scene, exp=None),
    "not yet valid": lambda scene: token_of(scene, nbf=int(time.time()) + 600),
    "anonymous sign-in": lambda scene: token_of(scene, is_anonymous=True),
    "no organization": lambda scene: scene.stack.mint_user_token(scene.tenant.user_id, None),
    "no metadata": lambda scene: token_of(scene, app_metadata=None),
    "organization is no id": lambda scene: token_of(scene, app_metadata={"organization_id": "all"}),
    "subject is no id": lambda scene: token_of(scene, sub="root"),
    "shared secret, not switched on": lambda s: shared_secret_token(s, s.stack.endpoints.jwt_secret),
    "unsigned": lambda scene: shared_secret_token(scene, "", "none"),
    "signed with another key": lambda scene: _foreign_token(scene),
    "signed with the public key as a secret": lambda scene: shared_secret_token(
        scene, str(_public_key(scene))
    ),
    "the secret key of the project": lambda scene: scene.stack.endpoints.secret_key,
    "the publishable key of the project": lambda scene: scene.stack.endpoints.publishable_key,
    "without an algorithm": lambda _: _headed({"typ": "JWT"}),
    "with an id that is not text": lambda _: _headed({"alg": "ES256", "kid": 7}),
    "garbage": lambda _: "a.b.c",
    "an unknown key": lambda _: "cf_unknown",
}


def _with_role(scene: Scene, role: str) -> str:
    keys = StackKeys.kept_in(scene.stack.home / "keys.json")
    metadata = {"organization_id": str(scene.tenant.organization_id)}
    claims = user_claims(issuer(scene.stack), scene.tenant.user_id, app_metadata=metadata)
    return keys.sign(claims | {"role": role})


def _headed(header: dict[str, object]) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{encoded}.e30.c2lnbmF0dXJl"


def _foreign_token(scene: Scene) -> str:
    metadata = {"organization_id": str(scene.tenant.organization_id)}
    return StackKeys.make().sign(
        user_claims(issuer(scene.stack), scene.tenant.user_id, app_metadata=metadata)
    )


def _public_key(scene: Scene) -> object:
    return StackKeys.kept_in(scene.stack.home / "keys.json").public_key_set()


PROJECT_KEYS: dict[str, Callable[[Scene], str]] = {
    "publishable": lambda scene: scene.stack.endpoints.publishable_key,
    "older publishable": lambda scene: _service_token(scene, "anon"),
    "secret": lambda scene: scene.stack.endpoints.secret_key,
    "older secret": lambda scene: _service_token(scene, "service_role"),
}


def _service_token(scene: Scene, role: str) -> str:
    return StackKeys.kept_in(scene.stack.home / "keys.json").service_token(role)


async def check_a_project_key(scene: Scene, kind: str) -> None:
    """Check that a key of the project's is 401, with a sentence that says which key it is."""
    key = PROJECT_KEYS[kind](scene)
    for response in (await scene.chat(key=key), await scene.get("/v1/decisions", key=key)):
        assert (response.status_code, error_code(response)) == (401, "invalid_api_key")
        assert f"the project's {kind.rsplit(maxsplit=1)[-1]} key" in response.json()["error"]["message"]
        assert key not in response.text


@pytest.mark.parametrize("kind", PROJECT_KEYS)
async def test_a_key_of_the_project_is_told_from_a_callers(scene: Scene, kind: str) -> None:
    """By its kind, of either generation."""
    await check_a_project_key(scene, kind)


@pytest.mark.parametrize("kind", PROJECT_KEYS)
async def test_an_older_project_tells_them_too(legacy_scene: Scene, kind: str) -> None:
    """There a key of the project verifies: it is signed with the secret that users' tokens are."""
    await check_a_project_key(legacy_scene, kind)


@pytest.mark.parametrize("flaw", BAD_TOKENS)
async def test_credentials_that_do_not_verify_are_401(scene: Scene, flaw: str) -> None:
    """Told by every route, without a row or a call."""
    await scene.offer()
    credential = BAD_TOKENS[flaw](scene)
    for response in (
        await scene.chat(key=credential),
        await scene.get("/v1/models", key=credential),
        await scene.get("/v1/decisions", key=credential),
    ):
        assert (response.status_code, error_code(response)) == (401, "invalid_api_key")
        assert response.headers["x-should-retry"] == "false"
        assert credential not in response.text
    assert scene.decisions() == []
    assert await scene.called() == [0]


@pytest.mark.parametrize("header", [None, "Basic YTpi", "Bearer"])
async def test_nobody_gets_in_without_a_credential(scene: Scene, header: str | None) -> None:
    """Only health answers everybody."""
    request = scene.request()
    del request.headers["authorization"]
    if header is not None:
        request.headers["authorization"] = header
    response = await scene.http.send(request)
    assert (response.status_code, error_code(response)) == (401, "invalid_api_key")


async def test_the_shared_secret_is_accepted_where_it_is_set(legacy_scene: Scene) -> None:
    """HS256 works as ES256 does, for calling and for reading under row level security."""
    await legacy_scene.offer()
    token = shared_secret_token(legacy_scene, legacy_scene.stack.endpoints.jwt_secret)
    assert (await legacy_scene.chat(key=token)).status_code == 200
    assert (await legacy_scene.chat(key=token_of(legacy_scene))).status_code == 200
    listed = (await legacy_scene.get("/v1/decisions", key=token)).json()["data"]
    assert len(listed) == 2


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_only_one_algorithm_goes_with_the_shared_secret(legacy_scene: Scene, algorithm: str) -> None:
    """Whatever else the right secret has signed is refused; so is another secret."""
    right = shared_secret_token(legacy_scene, legacy_scene.stack.endpoints.jwt_secret, algorithm)
    wrong = shared_secret_token(legacy_scene, "another secret that is as long as it should be")
    for token in (right, wrong):
        assert (await legacy_scene.get("/v1/models", key=token)).status_code == 401


async def test_a_new_key_of_the_project_is_found_by_its_id(scene: Scene) -> None:
    """A key id that nobody knows is refused, and the known one works right after."""
    assert (await scene.get("/v1/models", key=_foreign_token(scene))).status_code == 401
    assert (await scene.get("/v1/models", key=token_of(scene))).status_code == 200


async def test_two_users_never_share_an_identity(scene: Scene) -> None:
    """Interleaved calls of two members of two organizations are each their own."""
    other = scene.make_tenant(balance_nano_usd=10**9)
    await scene.offer()
    tokens: list[tuple[str, UUID]] = [
        (token_of(scene), scene.tenant.organization_id),
        (scene.stack.mint_user_token(other.user_id, other.organization_id), other.organization_id),
    ]
    for token, _ in tokens * 2:
        assert (await scene.chat(key=token)).status_code == 200
    assert [len(scene.decisions()), len(scene.decisions(other))] == [2, 2]
    for token, organization_id in tokens:
        rows = (await scene.get("/v1/decisions", key=token)).json()["data"]
        agents = {row["agent_id"] for row in rows}
        query = "select organization_id from public.agents where id::text = any(%(ids)s)"
        owners = {row["organization_id"] for row in scene.rows.query(query, ids=list(agents))}
        assert owners == {organization_id}
