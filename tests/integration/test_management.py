"""Members manage their organization with their access tokens: what a role may do, what becomes of it, and who can tell."""

import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import ALLOWED_ORIGIN
from tests.support.polling import eventually
from tests.support.scene import Scene, error_code, open_scene

ROLES = ("owner", "admin", "member")
STRANGER = "the owner of another organization"


@dataclass(frozen=True)
class Office:
    """An organization with a member of each role, and a stranger who owns another one."""

    scene: Scene
    users: dict[str, UUID]
    stranger_organization_id: UUID

    @property
    def organization_id(self) -> UUID:
        """The organization that is managed."""
        return self.scene.tenant.organization_id

    def token(self, who: str) -> str:
        """Mint the access token of somebody."""
        organization = self.stranger_organization_id if who == STRANGER else self.organization_id
        return self.scene.stack.mint_user_token(self.users[who], organization)

    async def ask(
        self, method: str, path: str, body: object = None, *, who: str = "owner", token: str | None = None
    ) -> httpx.Response:
        """Send a request of somebody's."""
        headers = {"authorization": f"Bearer {token or self.token(who)}"}
        url = f"{self.scene.backends[0].url}{path}"
        return await self.scene.http.request(method, url, json=body, headers=headers)

    async def done(
        self, method: str, path: str, body: object = None, *, who: str = "owner"
    ) -> dict[str, Any]:
        """Send a request that succeeds; return its answer."""
        answer = await self.ask(method, path, body, who=who)
        assert answer.status_code in {200, 201}, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def refused(
        self, method: str, path: str, body: object = None, *, who: str = "owner", token: str | None = None
    ) -> tuple[int, str, str]:
        """Send a request that is refused and changes nothing; return status, code and message."""
        before = self.state()
        answer = await self.ask(method, path, body, who=who, token=token)
        assert self.state() == before
        return answer.status_code, error_code(answer), answer.json()["error"]["message"]

    def state(self) -> list[dict[str, Any]]:
        """Return all that is managed, of both organizations, and the audit."""
        tables = (
            ("organizations", "id"),
            ("organization_members", "organization_id"),
            ("agents", "organization_id"),
            ("api_keys", "organization_id"),
            ("spend_caps", "organization_id"),
            ("rate_limits", "organization_id"),
            ("audit_entries", "organization_id"),
        )
        ids = [self.organization_id, self.stranger_organization_id]
        return [
            row
            for table, column in tables
            for row in self.scene.rows.query(
                f"select * from public.{table} where {column} = any(%(ids)s) order by {table}::text",  # noqa: S608 # ours
                ids=ids,
            )
        ]

    async def audit(self, who: str = "member") -> list[dict[str, Any]]:
        """Return what somebody reads of the audit from the Data API, oldest first."""
        endpoints = self.scene.stack.endpoints
        answer = await self.scene.http.get(
            f"{endpoints.supabase_url}/rest/v1/audit_entries?order=id",
            headers={"apikey": endpoints.publishable_key, "authorization": f"Bearer {self.token(who)}"},
        )
        entries: list[dict[str, Any]] = answer.raise_for_status().json()
        return entries


@pytest.fixture
async def office(stack: Stack, backend: BackendProcess) -> AsyncIterator[Office]:
    """Set a scene with members of all roles."""
    async with open_scene(stack, backend) as scene:
        other = scene.make_tenant(balance_nano_usd=10**9)
        users = {role: uuid7() for role in ROLES}
        for role, user_id in users.items():
            scene.rows.member(scene.tenant.organization_id, user_id, scene.tenant.agent_id, role=role)
        users[STRANGER] = uuid7()
        scene.rows.member(other.organization_id, users[STRANGER], other.agent_id, role="owner")
        yield Office(scene, users, other.organization_id)


async def test_an_agent_from_its_first_day_to_its_last(office: Office) -> None:
    """Made, named, given a key, called as, switched off and on; the key rotated and revoked. All of it at once."""
    scene = office.scene
    await scene.offer()
    agent = await office.done("POST", "/v1/agents", {"name": "support", "default_floor": 0.25}, who="admin")
    assert (agent["name"], agent["default_floor"], agent["active"]) == ("support", 0.25, True)
    path = f"/v1/agents/{agent['id']}"
    first = await office.done("POST", f"{path}/keys", {"name": "laptop"}, who="admin")
    assert (await scene.chat(key=first["key"])).status_code == 200
    assert str(scene.decision()["agent_id"]) == agent["id"]

    assert (await office.done("PATCH", path, {"active": False}))["active"] is False
    answer = await scene.chat(key=first["key"])
    assert (answer.status_code, error_code(answer)) == (403, "access_denied")
    renamed = await office.done("PATCH", path, {"active": True, "name": "help desk", "baseline_model": "m"})
    assert (renamed["name"], renamed["baseline_model"], renamed["default_floor"]) == ("help desk", "m", 0.25)
    assert (await office.done("PATCH", path, {"baseline_model": None}))["baseline_model"] is None

    second = await office.done("POST", f"/v1/keys/{first['id']}/rotate", {"grace_seconds": 3600})
    assert [(await scene.chat(key=made["key"])).status_code for made in (first, second)] == [200, 200]
    third = await office.done("POST", f"/v1/keys/{second['id']}/rotate", {"grace_seconds": 0})
    keys = (first, second, third)
    assert [(await scene.chat(key=made["key"])).status_code for made in keys] == [200, 401, 200]
    revoked = await office.done("DELETE", f"/v1/keys/{third['id']}")
    assert revoked["revoked_at"]
    assert await office.done("DELETE", f"/v1/keys/{third['id']}") == revoked
    assert [(await scene.chat(key=made["key"])).status_code for made in keys] == [200, 401, 401]


async def test_a_key_is_shown_once(office: Office) -> None:
    """Its answer is not to be stored; of the key itself there is no trace, only the SHA-256, and that in one place."""
    path = f"/v1/agents/{office.scene.tenant.agent_id}/keys"
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    answer = await office.ask("POST", path, {"name": "n", "expires_at": ends})
    made = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert made["key"].startswith(made["display_prefix"])
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(ends)
    (row,) = office.scene.rows.query("select key_hash from public.api_keys where id = %(id)s", id=made["id"])
    assert row["key_hash"] == hashlib.sha256(made["key"].encode()).digest()
    assert "key_hash" not in made
    everything = str(await office.audit())
    assert made["key"] not in everything
    assert row["key_hash"].hex() not in everything
    assert made["key"] not in office.scene.backends[0].log()


async def test_a_rotated_key_ends_when_it_would_have_ended_anyway(office: Office) -> None:
    """The grace period lengthens nothing, and the new key has the old one's name and end."""
    path = f"/v1/agents/{office.scene.tenant.agent_id}/keys"
    ends = datetime.now(UTC) + timedelta(minutes=5)
    old = await office.done("POST", path, {"name": "n", "expires_at": ends.isoformat()})
    new = await office.done("POST", f"/v1/keys/{old['id']}/rotate", {"grace_seconds": 3600})
    assert (new["name"], new["agent_id"], new["expires_at"]) == (
        old["name"],
        old["agent_id"],
        old["expires_at"],
    )
    (row,) = office.scene.rows.query("select expires_at from public.api_keys where id = %(id)s", id=old["id"])
    assert row["expires_at"] == ends
    # A day, unless the request or the operator says otherwise; no body is needed for that.
    answer = await office.ask("POST", f"/v1/keys/{office.scene.tenant.api_key_id}/rotate")
    assert answer.status_code == 201
    (row,) = office.scene.rows.query(
        "select expires_at - now() as left from public.api_keys where id = %(id)s",
        id=office.scene.tenant.api_key_id,
    )
    assert timedelta(hours=23) < row["left"] <= timedelta(hours=24)
    await office.done("DELETE", f"/v1/keys/{new['id']}")
    assert (await office.refused("POST", f"/v1/keys/{new['id']}/rotate"))[:2] == (409, "conflict")


async def test_a_key_is_replaced_once(office: Office) -> None:
    """Whoever has lost the new one is told which it is; else the next one would end with the first one's grace period."""
    old = office.scene.tenant.api_key_id
    new = await office.done("POST", f"/v1/keys/{old}/rotate", {"grace_seconds": 60})
    status, code, message = await office.refused("POST", f"/v1/keys/{old}/rotate", {"grace_seconds": 60})
    assert (status, code, new["id"] in message) == (409, "conflict", True)
    last = await office.done("POST", f"/v1/keys/{new['id']}/rotate", {"grace_seconds": 0})
    assert last["expires_at"] is None


async def test_caps_and_rate_limits_bite_at_once(office: Office) -> None:
    """Of the agent and of the whole organization; null takes them away."""
    scene = office.scene
    await scene.offer()
    for agent_id in (str(scene.tenant.agent_id), None):
        cap: dict[str, Any] = {"agent_id": agent_id, "window": "day", "limit_usd": "0.00"}
        made = await office.done("PUT", "/v1/spend-caps", cap, who="admin")
        assert (made["agent_id"], made["limit_usd"]) == (agent_id, "0")
        assert error_code(await scene.chat()) == "spend_cap_reached"
        assert (await office.done("PUT", "/v1/spend-caps", cap | {"limit_usd": None}))["id"] == made["id"]
        assert (await scene.chat()).status_code == 200
    limit = {"requests_per_minute": 1, "tokens_per_minute": None}
    await office.done("PUT", "/v1/rate-limits", limit, who="admin")
    assert [(await scene.chat()).status_code for _ in range(2)] == [200, 429]
    await office.done("PUT", "/v1/rate-limits", limit | {"requests_per_minute": None})
    assert (await scene.chat()).status_code == 200


async def test_members_come_change_and_go(office: Office) -> None:
    """What they may do changes with the next request, whatever their tokens say."""
    new = office.scene.rows.user(uuid7())
    office.users["new"] = new
    assert (await office.refused("POST", "/v1/agents", {"name": "a"}, who="new"))[:2] == (
        403,
        "access_denied",
    )
    added = await office.done("POST", "/v1/members", {"user_id": str(new)}, who="admin")
    assert (added["user_id"], added["role"]) == (str(new), "member")
    assert (await office.refused("POST", "/v1/agents", {"name": "a"}, who="new"))[0] == 403
    agent_id = str(office.scene.tenant.agent_id)
    changed = await office.done(
        "PATCH", f"/v1/members/{new}", {"role": "admin", "default_agent_id": agent_id}
    )
    assert (changed["role"], changed["default_agent_id"]) == ("admin", agent_id)
    await office.done("POST", "/v1/agents", {"name": "a"}, who="new")
    await office.done("DELETE", f"/v1/members/{new}")
    status, _, message = await office.refused("POST", "/v1/agents", {"name": "b"}, who="new")
    assert (status, "not a member" in message) == (403, True)


async def test_everybody_may_leave_but_the_last_owner(office: Office) -> None:
    """An organization that nobody owns could not be mended by its members."""
    owner = office.users["owner"]
    for method, body in (("DELETE", None), ("PATCH", {"role": "member"})):
        status, code, message = await office.refused(method, f"/v1/members/{owner}", body)
        assert (status, code, "no owner left" in message) == (409, "conflict", True)
    await office.done("DELETE", f"/v1/members/{office.users['member']}", who="member")
    await office.done("PATCH", f"/v1/members/{office.users['admin']}", {"role": "owner"})
    await office.done("DELETE", f"/v1/members/{owner}")


def requests_of(office: Office) -> dict[str, tuple[str, str, dict[str, Any] | None, str]]:
    """Return a request of each kind, with the least role that may send it."""
    tenant, users = office.scene.tenant, office.users
    agent = f"/v1/agents/{tenant.agent_id}"
    newcomers = [str(office.scene.rows.user(uuid7())) for _ in range(2)]
    return {
        "rename the organization": ("PATCH", "/v1/organization", {"name": "Acme"}, "owner"),
        "make an agent": ("POST", "/v1/agents", {"name": "x"}, "admin"),
        "change an agent": ("PATCH", agent, {"default_floor": 0.1}, "admin"),
        "make a key": ("POST", f"{agent}/keys", {"name": "x"}, "admin"),
        "rotate a key": ("POST", f"/v1/keys/{tenant.api_key_id}/rotate", {}, "admin"),
        "revoke a key": ("DELETE", f"/v1/keys/{tenant.api_key_id}", None, "admin"),
        "set a cap": ("PUT", "/v1/spend-caps", {"window": "day", "limit_usd": "1"}, "admin"),
        "limit the rate": (
            "PUT",
            "/v1/rate-limits",
            {"requests_per_minute": 9, "tokens_per_minute": None},
            "admin",
        ),
        "add a member": ("POST", "/v1/members", {"user_id": newcomers[0]}, "admin"),
        "add an admin": ("POST", "/v1/members", {"user_id": newcomers[1], "role": "admin"}, "owner"),
        "promote a member": ("PATCH", f"/v1/members/{users['member']}", {"role": "admin"}, "owner"),
        "demote an admin": ("PATCH", f"/v1/members/{users['admin']}", {"role": "member"}, "owner"),
        "remove a member": ("DELETE", f"/v1/members/{users['member']}", None, "admin"),
        "remove an owner": ("DELETE", f"/v1/members/{users['owner']}", None, "owner"),
    }


async def test_a_role_may_what_it_may_and_no_more(office: Office) -> None:
    """By each role too low for it, an agent's key, an anonymous user and nobody a request is refused and changes nothing."""
    strangers = {
        office.scene.tenant.api_key: 403,
        "nonsense": 401,
        office.scene.stack.mint_user_token(
            office.users["owner"], office.organization_id, is_anonymous=True
        ): 401,
        # Its token names the organization, as one does for an hour after the membership has ended.
        office.scene.stack.mint_user_token(office.users[STRANGER], office.organization_id): 403,
    }
    own_row = f"/v1/members/{office.users['member']}"
    for what, (method, path, body, least) in requests_of(office).items():
        for role in ROLES[ROLES.index(least) + 1 :]:
            if (method, path, role) != ("DELETE", own_row, "member"):  # whoever leaves needs no rank
                assert (await office.refused(method, path, body, who=role))[:2] == (403, "access_denied"), (
                    what
                )
        for token, status in strangers.items():
            assert (await office.refused(method, path, body, token=token))[0] == status, what
    for what, (method, path, body, least) in requests_of(office).items():
        if what not in {
            "promote a member",
            "demote an admin",
            "remove an owner",
        }:  # who goes on to act, or is acted on
            assert await office.done(method, path, body, who=least), what


async def test_another_organizations_rows_are_not_there(office: Office) -> None:
    """An owner who names a foreign agent, key or member is told that its own organization has none."""
    other_agent = office.scene.rows.agent(office.stranger_organization_id, "foreign agent")
    other_key, _ = office.scene.rows.api_key(office.stranger_organization_id, other_agent)
    newcomer = office.scene.rows.user(uuid7())
    for method, path, body in (
        ("PATCH", f"/v1/agents/{other_agent}", {"name": "mine"}),
        ("POST", f"/v1/agents/{other_agent}/keys", {"name": "mine"}),
        ("POST", f"/v1/keys/{other_key}/rotate", {}),
        ("DELETE", f"/v1/keys/{other_key}", None),
        ("PATCH", f"/v1/members/{office.users[STRANGER]}", {"default_agent_id": None}),
        ("DELETE", f"/v1/members/{office.users[STRANGER]}", None),
        ("PUT", "/v1/spend-caps", {"agent_id": str(other_agent), "window": "day", "limit_usd": "1"}),
        (
            "PUT",
            "/v1/rate-limits",
            {"agent_id": str(other_agent), "requests_per_minute": 1, "tokens_per_minute": None},
        ),
        ("POST", "/v1/members", {"user_id": str(newcomer), "default_agent_id": str(other_agent)}),
        ("POST", "/v1/members", {"user_id": str(uuid7())}),
    ):
        status, code, message = await office.refused(method, path, body)
        assert (method, path, status, code) == (method, path, 404, "not_found")
        assert "nothing was changed" in message


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("PATCH", "/v1/organization", {"name": ""}, "name"),
        ("PATCH", "/v1/organization", {"nome": "x"}, "nome"),
        ("PATCH", "/v1/organization", {"stored_answer_hours": 0}, "stored_answer_hours"),
        ("POST", "/v1/agents", {}, "name"),
        ("POST", "/v1/agents", {"name": " "}, "name"),
        ("POST", "/v1/agents", {"name": "a\x00b"}, "name"),
        ("POST", "/v1/agents", {"name": "\u200b"}, "name"),
        ("POST", "/v1/agents", {"name": "x", "baseline_model": "\x00"}, "baseline_model"),
        ("POST", "/v1/agents", {"name": "x" * 201}, "name"),
        ("POST", "/v1/agents", {"name": "x", "default_floor": 1.5}, "default_floor"),
        ("POST", "/v1/agents", {"name": "x", "default_max_output_tokens": 0}, "default_max_output_tokens"),
        ("PATCH", "/v1/agents/nonsense", {}, "agent_id"),
        ("POST", "/v1/keys/{key}/rotate", {"grace_seconds": -1}, "grace_seconds"),
        (
            "POST",
            "/v1/agents/{agent}/keys",
            {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
            "expires_at",
        ),
        ("POST", "/v1/agents/{agent}/keys", {"name": "x", "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        (
            "POST",
            "/v1/agents/{agent}/keys",
            {"name": "x", "expires_at": "9999-12-31T23:59:59-23:59"},
            "expires_at",
        ),
        ("PUT", "/v1/spend-caps", {"window": "week", "limit_usd": "1"}, "window"),
        ("PUT", "/v1/spend-caps", {"window": "day", "limit_usd": "-1"}, "limit_usd"),
        ("PUT", "/v1/spend-caps", {"window": "day", "limit_usd": "1e3"}, "limit_usd"),
        ("PUT", "/v1/spend-caps", {"window": "day"}, "limit_usd"),
        (
            "PUT",
            "/v1/rate-limits",
            {"requests_per_minute": 0, "tokens_per_minute": None},
            "requests_per_minute",
        ),
        ("POST", "/v1/members", {"user_id": "x"}, "user_id"),
        ("POST", "/v1/members", {"user_id": str(uuid7()), "role": "king"}, "role"),
    ],
)
async def test_bad_input_is_named_and_changes_nothing(
    office: Office, method: str, path: str, body: dict[str, Any], param: str
) -> None:
    """A 400 that says which field, and how it should be."""
    tenant = office.scene.tenant
    answer = await office.ask(method, path.format(agent=tenant.agent_id, key=tenant.api_key_id), body)
    assert (answer.status_code, error_code(answer), answer.json()["error"]["param"]) == (
        400,
        "invalid_request",
        param,
    )


async def test_what_is_there_already_is_a_conflict(office: Office) -> None:
    """A name that another agent has, and somebody who is a member: 409, and nothing changed."""
    agent = await office.done("POST", "/v1/agents", {"name": "a"})
    for method, path, body in (
        ("POST", "/v1/agents", {"name": "a"}),
        ("PATCH", f"/v1/agents/{office.scene.tenant.agent_id}", {"name": "a"}),
        ("POST", "/v1/members", {"user_id": str(office.users["admin"]), "role": "member"}),
    ):
        assert (await office.refused(method, path, body))[:2] == (409, "conflict")
    assert await office.done("PATCH", f"/v1/agents/{agent['id']}", {"name": "a"}) == agent


async def test_every_change_leaves_an_entry(office: Office) -> None:
    """With who, what, before and after; for every member of the organization, and nobody else."""
    agent = await office.done("POST", "/v1/agents", {"name": "a"}, who="admin")
    await office.done("PATCH", f"/v1/agents/{agent['id']}", {"name": "b", "active": True}, who="owner")
    cap = await office.done("PUT", "/v1/spend-caps", {"window": "day", "limit_usd": "1"}, who="admin")
    await office.done("PUT", "/v1/spend-caps", {"window": "day", "limit_usd": None}, who="admin")
    entries = (await office.audit())[-4:]
    assert [
        (entry["table_name"], entry["row_id"], entry["action"], entry["user_id"], entry["database_role"])
        for entry in entries
    ] == [
        ("agents", agent["id"], "insert", str(office.users["admin"]), "service_role"),
        ("agents", agent["id"], "update", str(office.users["owner"]), "service_role"),
        ("spend_caps", cap["id"], "insert", str(office.users["admin"]), "service_role"),
        ("spend_caps", cap["id"], "delete", str(office.users["admin"]), "service_role"),
    ]
    assert (entries[0]["before"], entries[0]["after"]["name"]) == (None, "a")
    assert (entries[1]["before"], entries[1]["after"]) == ({"name": "a"}, {"name": "b"})
    assert {entry["organization_id"] for entry in await office.audit(STRANGER)} == {
        str(office.stranger_organization_id)
    }


async def test_what_is_done_by_hand_is_in_the_audit_too(office: Office) -> None:
    """SQL by the owner of the tables leaves an entry that names the role, and no user."""
    with psycopg.connect(office.scene.stack.endpoints.database_url, autocommit=True) as connection:
        connection.execute(
            "update public.agents set active = false where id = %s", [office.scene.tenant.agent_id]
        )
        entry = (await office.audit())[-1]
        assert (entry["database_role"], entry["user_id"], entry["after"]) == (
            "postgres",
            None,
            {"active": False},
        )
        for statement in (
            "update public.audit_entries set user_id = null",
            "delete from public.audit_entries",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation):
                connection.execute(statement)


async def test_to_rename_and_to_change_a_member_do_not_lock_each_other_out(office: Office) -> None:
    """Whoever renames waits for the organization before it holds its own membership."""
    url, owner = office.scene.stack.endpoints.superuser_url, office.users["owner"]
    with psycopg.connect(url) as changing, ThreadPoolExecutor(1) as beside:
        changing.execute(
            "select from public.organizations where id = %s for no key update", [office.organization_id]
        )

        def rename() -> None:
            with psycopg.connect(url, autocommit=True) as renaming:
                renaming.execute(
                    'select public.change_organization(%s, %s, \'{"name": "renamed"}\')',
                    [owner, office.organization_id],
                )

        async def waiting() -> bool:
            return bool(
                office.scene.rows.query(
                    "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%%change_organization%%'"
                    " and pid <> pg_backend_pid()"
                )
            )

        renamed = beside.submit(rename)
        await eventually(waiting, "the one who renames waits")
        changing.execute("set local lock_timeout = '1s'")
        changing.execute(
            "update public.organization_members set default_agent_id = null where organization_id = %s and user_id = %s",
            [office.organization_id, owner],
        )
        changing.commit()
        renamed.result()


async def test_a_browser_may_manage_from_an_allowed_origin(office: Office) -> None:
    """The preflight allows the methods that the routes have."""
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await office.scene.http.options(
            f"{office.scene.backends[0].url}/v1/agents/{uuid7()}",
            headers={"origin": ALLOWED_ORIGIN, "access-control-request-method": method},
        )
        assert (answer.status_code, method in answer.headers["access-control-allow-methods"]) == (200, True)
