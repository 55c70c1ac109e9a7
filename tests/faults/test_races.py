"""Two backends at once against one limit: what is held and charged never passes it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import CATALOGUE_REFRESH_SECONDS
from tests.support.scene import Behaviour, Scene, error_code, open_scene
from tests.support.tenant import NANO_USD_PER_USD, Tenant

STALL: Behaviour = {"kind": "stall"}
CALLS_PER_BACKEND = 60
WORTH = 20
REFUSED = {"funds": (402, "insufficient_funds"), "cap": (429, "spend_cap_reached")}


@pytest.fixture(scope="module")
def other_backend(stack: Stack) -> Iterator[BackendProcess]:
    """Run a second backend on the session's stack."""
    with BackendProcess(stack, CLEARFLOOR_CATALOGUE_REFRESH_SECONDS=CATALOGUE_REFRESH_SECONDS) as running:
        yield running


@pytest.fixture
async def scene(stack: Stack, backend: BackendProcess, other_backend: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with both backends."""
    async with open_scene(stack, backend, other_backend) as scene:
        yield scene


async def limited_tenant(scene: Scene, limit: str) -> tuple[Tenant, int]:
    """Make a tenant whose wallet or cap is worth exactly so many requests; return it and that limit."""
    assert (await scene.chat()).status_code == 200
    worth = WORTH * scene.decision()["reserved_nano_usd"]
    if limit == "funds":
        return scene.make_tenant(balance_nano_usd=worth), worth
    tenant = scene.make_tenant(balance_nano_usd=NANO_USD_PER_USD)
    scene.rows.cap(tenant.organization_id, None, worth)
    return tenant, worth


def taken(scene: Scene, tenant: Tenant) -> int:
    """Return what is held and charged of a tenant at this moment, by the wallet and by the decisions."""
    query = """
        select wallet.held_nano_usd + coalesce((
            select sum(charge_nano_usd) from public.routing_outcomes where organization_id = %(id)s
        ), 0) as taken
        from public.wallets as wallet where wallet.organization_id = %(id)s
    """
    return int(scene.rows.query(query, id=tenant.organization_id)[0]["taken"])


async def sample(
    scene: Scene, tenant: Tenant, limit_nano_usd: int, answers: "list[asyncio.Task[httpx.Response]]"
) -> int:
    """Check the limit again and again until every call is answered or called; return how many samples that took."""
    samples = 0
    while sum(answer.done() for answer in answers) < len(answers) - WORTH:
        assert taken(scene, tenant) <= limit_nano_usd
        samples += 1
        await asyncio.sleep(0)
    return samples


@pytest.mark.parametrize("limit", ["funds", "cap"])
async def test_a_limit_worth_twenty_lets_exactly_twenty_of_many_calls_through(
    scene: Scene, limit: str
) -> None:
    """All at once on two backends, while the provider stalls; the holds end at zero."""
    (candidate,) = await scene.offer()
    tenant, worth = await limited_tenant(scene, limit)
    await scene.script(candidate, default=STALL)
    answers = [
        scene.start(scene.chat(key=tenant.api_key, backend=backend))
        for _ in range(CALLS_PER_BACKEND)
        for backend in scene.backends
    ]
    assert await sample(scene, tenant, worth, answers) > 1
    await scene.until_called(candidate, 1 + WORTH)
    assert taken(scene, tenant) == worth
    await scene.release(candidate)
    responses = await asyncio.gather(*answers)
    refused = [response for response in responses if response.status_code != 200]
    assert len(responses) - len(refused) == WORTH
    assert {(response.status_code, error_code(response)) for response in refused} == {REFUSED[limit]}
    assert await scene.called(candidate) == [1 + WORTH]
    assert len(scene.decisions(tenant)) == 2 * CALLS_PER_BACKEND
    await scene.until_settled()


async def test_what_is_released_can_be_spent_again_and_the_limit_still_holds(scene: Scene) -> None:
    """Quick answers settle while others open: more than twenty get through, and never more than the cap is taken."""
    await scene.offer()
    tenant, worth = await limited_tenant(scene, "cap")
    answers = [
        scene.start(scene.chat(key=tenant.api_key, backend=backend))
        for _ in range(CALLS_PER_BACKEND)
        for backend in scene.backends
    ]
    await sample(scene, tenant, worth, answers)
    responses = await asyncio.gather(*answers)
    statuses = [response.status_code for response in responses]
    assert set(statuses) <= {200, 429}
    charged = [decision["charge_nano_usd"] for decision in scene.decisions(tenant)]
    assert sum(charge > 0 for charge in charged) == statuses.count(200) > 0
    assert sum(charged) <= worth
