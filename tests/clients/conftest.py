"""Two tenants whose members read with Supabase's own clients."""

from dataclasses import dataclass

import pytest_asyncio

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.scene import DECISION_HEADER, Scene, open_scene
from tests.support.tenant import NANO_USD_PER_USD, Rows, Tenant

SERVER_ERROR: dict[str, object] = {"kind": "status", "status": 500}
PASSWORD = "correct"
# The least that takes an answer of the Data API more than once, and more than twice.
REFUSED_DECISIONS = (1_100, 2_100)

_AGENTS = """
    insert into public.agents (id, organization_id, name)
    select id, %(organization)s, id::text from unnest(%(ids)s::uuid[]) as id
"""
# Nobody is called for a decision without a key: the cheapest row that the write path makes.
_REFUSE = """
    select public.insert_decisions(jsonb_agg(jsonb_build_object(
        'id', id, 'organization_id', %(organization)s::uuid, 'agent_id', id, 'requested_model', 'auto',
        'requested_rule', 'cheapest_clearing_floor', 'floor', 0.5, 'task', 'general', 'stream', false,
        'catalogue_version', (select max(version) from public.catalogue_snapshots), 'routing_request', '{}'::jsonb,
        'candidates', '[]'::jsonb, 'lease_seconds', 60
    ))) from unnest(%(ids)s::uuid[]) as id
"""
# As Supabase Auth keeps a user, as far as its clients ask.
_SIGN_UP = """
    update auth.users set
        encrypted_password = extensions.crypt(%(password)s, extensions.gen_salt('bf', 4)), created_at = now(),
        raw_app_meta_data = jsonb_build_object('organization_id', %(organization)s::text)
    where id = %(user)s returning email
"""
_MONEY = """
    select sum(charge_nano_usd)::bigint as charge, sum(baseline_cost_nano_usd - charge_nano_usd)::bigint as saved
    from public.routing_outcomes where organization_id = %(organization)s
"""


@dataclass(frozen=True)
class Reader:
    """A member, and what of the record is its organization's. ``decisions`` are ids, newest first; amounts are nano-USD.

    ``agent_id`` made the last two, the last one with a failed attempt first; every other decision has an agent of its own.
    """

    token: str
    email: str
    password: str
    organization_id: str
    agent_id: str
    decisions: list[str]
    charge_nano_usd: int
    saved_nano_usd: int
    balance_nano_usd: int


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def readers(stack: Stack, backend: BackendProcess) -> tuple[Reader, Reader]:
    """Let two tenants have more decisions each than an answer can have, check their books, and leave it at that."""
    first, second = REFUSED_DECISIONS
    async with open_scene(stack, backend) as scene:
        return await _reader(scene, first), await _reader(scene, second)


async def _reader(scene: Scene, refused: int) -> Reader:
    """Let a tenant be refused so often, answered once by the cheapest candidate, and once by the dearer after it failed."""
    cheap, dear = await scene.offer(2)
    tenant = scene.make_tenant(balance_nano_usd=NANO_USD_PER_USD)
    scene.rows.query(
        "update public.agents set baseline_model = %(model)s where id = %(id)s",
        model=dear.model,
        id=tenant.agent_id,
    )
    scene.rows.cap(tenant.organization_id, None, NANO_USD_PER_USD)
    scene.rows.rate_limit(tenant.organization_id, None, requests=10 * refused)
    _refuse(scene.rows, tenant, refused)
    options = {"models": [cheap.model, dear.model]}
    answer = await scene.chat(key=tenant.api_key, clearfloor=options)
    assert answer.status_code == 200
    await _rate(scene, tenant, answer.headers[DECISION_HEADER])
    await scene.script(cheap, default=SERVER_ERROR)
    assert (await scene.chat(key=tenant.api_key, clearfloor=options)).status_code == 200
    decisions = [str(decision["id"]) for decision in reversed(scene.decisions(tenant))]
    (money,) = scene.rows.query(_MONEY, organization=tenant.organization_id)
    assert len(decisions) == refused + 2
    assert money["saved"] > 0
    return Reader(
        token=scene.stack.mint_user_token(tenant.user_id, tenant.organization_id),
        email=_let_sign_in(scene.rows, tenant),
        password=PASSWORD,
        organization_id=str(tenant.organization_id),
        agent_id=str(tenant.agent_id),
        decisions=decisions,
        charge_nano_usd=money["charge"],
        saved_nano_usd=money["saved"],
        balance_nano_usd=NANO_USD_PER_USD - money["charge"],
    )


async def _rate(scene: Scene, tenant: Tenant, decision_id: str) -> None:
    """Let a tenant's agent be content with an answer."""
    url = f"{scene.backends[0].url}/v1/decisions/{decision_id}/feedback"
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    assert (await scene.http.post(url, json={"thumb": "up"}, headers=headers)).status_code == 201


def _refuse(rows: Rows, tenant: Tenant, times: int) -> None:
    """Refuse each of so many agents once: usage, too, then takes more than one answer."""
    ids = [uuid7() for _ in range(times)]
    for statement in (_AGENTS, _REFUSE):
        rows.query(statement, ids=ids, organization=tenant.organization_id)


def _let_sign_in(rows: Rows, tenant: Tenant) -> str:
    """Give a tenant's member a password; return the e-mail address."""
    organization = str(tenant.organization_id)
    (user,) = rows.query(_SIGN_UP, user=tenant.user_id, organization=organization, password=PASSWORD)
    return str(user["email"])
