"""Signing in as Supabase Auth does it: the token speaks for the active organization, by the hook of our migrations."""

from typing import Any
from uuid import UUID

import jwt

from backend.ids import uuid7
from tests.support.scene import Scene, error_code
from tests.support.tenant import Tenant

PASSWORD = "correct horse"


class Session:
    """A user's session, as a client library holds it."""

    def __init__(self, scene: Scene, user_id: UUID) -> None:
        self._scene = scene
        self._endpoints = scene.stack.endpoints
        scene.rows.query(
            "update auth.users set encrypted_password = extensions.crypt(%(password)s, extensions.gen_salt('bf', 4))"
            " where id = %(id)s",
            password=PASSWORD,
            id=user_id,
        )
        self._email = f"{user_id}@example.test"
        self.access_token = self._refresh_token = ""

    async def sign_in(self) -> dict[str, Any]:
        """Sign in with the password; return what the token says of the organization."""
        return await self._ask("password", email=self._email, password=PASSWORD)

    async def refresh(self) -> dict[str, Any]:
        """Refresh the session; return the same."""
        return await self._ask("refresh_token", refresh_token=self._refresh_token)

    async def rpc(self, function: str, **parameters: str) -> Any:
        """Call a function of the Data API; return its rows, or the error's code."""
        answer = await self._scene.http.post(
            f"{self._endpoints.supabase_url}/rest/v1/rpc/{function}",
            json=parameters,
            headers={
                "apikey": self._endpoints.publishable_key,
                "authorization": f"Bearer {self.access_token}",
            },
        )
        if answer.is_error:
            return answer.status_code, answer.json()["code"]
        return answer.json() if answer.content else None

    async def _ask(self, grant: str, **facts: str) -> dict[str, Any]:
        url = f"{self._endpoints.supabase_url}/auth/v1/token"
        answer = await self._scene.http.post(url, params={"grant_type": grant}, json=facts)
        session = answer.raise_for_status().json()
        self.access_token, self._refresh_token = session["access_token"], session["refresh_token"]
        claims = jwt.decode(self.access_token, options={"verify_signature": False})
        metadata: dict[str, Any] = claims["app_metadata"]
        return metadata


def speaks_for(tenant: Tenant, role: str) -> dict[str, str]:
    """Return what a token says."""
    return {"organization_id": str(tenant.organization_id), "role": role}


async def test_a_user_switches_between_its_organizations(scene: Scene) -> None:
    """Its next token speaks, spends and reads for the other one; it cannot switch to a third."""
    await scene.offer()
    here, there, elsewhere = scene.tenant, *(scene.make_tenant(balance_nano_usd=10**9) for _ in range(2))
    user_id = uuid7()
    scene.rows.member(here.organization_id, user_id, here.agent_id, role="owner")
    scene.rows.member(there.organization_id, user_id, there.agent_id)
    # Somebody elsewhere adds the user as well, and earlier: it is asked, and its token goes on as before.
    scene.rows.query(
        "update public.organization_members set accepted_at = null, created_at = '2020-01-01'"
        " where organization_id = %(id)s",
        id=there.organization_id,
    )
    session = Session(scene, user_id)

    assert await session.sign_in() == speaks_for(here, "owner")
    listed = await session.rpc("my_organizations")
    assert {(row["organization_id"], row["role"], row["is_active"]) for row in listed} == {
        (str(here.organization_id), "owner", True),
        (str(there.organization_id), "member", False),
    }
    refused = await session.rpc("switch_organization", organization_id=str(elsewhere.organization_id))
    assert refused == (403, "42501")
    assert await session.refresh() == speaks_for(here, "owner")

    assert await session.rpc("switch_organization", organization_id=str(there.organization_id)) is None
    assert await session.refresh() == speaks_for(there, "member")
    assert (await scene.chat(key=session.access_token)).status_code == 200
    assert scene.decision(there)["user_id"] == user_id
    assert scene.decisions(here) == []


async def test_an_ended_membership_ends_calls_at_once_and_the_claim_with_the_next_token(scene: Scene) -> None:
    """The backend looks it up; policies believe the token until it is refreshed."""
    await scene.offer()
    tenant, user_id = scene.tenant, uuid7()
    scene.rows.member(tenant.organization_id, user_id, tenant.agent_id)
    session = Session(scene, user_id)
    assert await session.sign_in() == speaks_for(tenant, "member")
    scene.rows.query("delete from public.organization_members where user_id = %(id)s", id=user_id)
    answer = await scene.chat(key=session.access_token)
    assert (answer.status_code, error_code(answer)) == (403, "access_denied")
    assert await session.rpc("my_organizations") == []
    assert await session.refresh() == {}
    answer = await scene.chat(key=session.access_token)
    assert (answer.status_code, "no active organization" in answer.text) == (401, True)
