"""Four processes against one cap, at full size: hundreds of calls at once, and processes that are killed meanwhile."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import httpx
import pytest

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import CATALOGUE_REFRESH_SECONDS
from tests.support.polling import eventually
from tests.support.scene import Behaviour, Scene, open_scene
from tests.support.tenant import (
    INPUT_NANO_USD_PER_MTOK,
    NANO_USD_PER_USD,
    OUTPUT_NANO_USD_PER_MTOK,
    Candidate,
    Tenant,
)

pytestmark = pytest.mark.slow

PROCESSES = 4
CALLS_PER_PROCESS = 200
WORTH = 50
MAX_TOKENS = 100
STALL: Behaviour = {"kind": "stall"}
# Nobody is to give up while hundreds wait for one wallet, nor to be swept meanwhile: all processes share two cores with the
# database, and a loop may lag for seconds.
PATIENT = {
    "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
    "CLEARFLOOR_STORE_TIMEOUT_SECONDS": "60",
    "CLEARFLOOR_STORE_RETRY_SECONDS": "3",
    "CLEARFLOOR_LEASE_SECONDS": "18",
    "CLEARFLOOR_LEASE_RENEWAL_SECONDS": "1",
    "CLEARFLOOR_SWEEP_INTERVAL_SECONDS": "0.5",
    # Else one batch of one process takes all that the cap allows, and the others have nothing to lose.
    "CLEARFLOOR_STORE_BATCH_ITEMS": "4",
}


@pytest.fixture
def processes(stack: Stack) -> Iterator[list[BackendProcess]]:
    """Run the backends; those that a test has killed are not there any more."""
    with ExitStack() as exits:
        yield [exits.enter_context(BackendProcess(stack, **PATIENT)) for _ in range(PROCESSES)]


@pytest.fixture
async def scene(stack: Stack, processes: list[BackendProcess]) -> AsyncIterator[Scene]:
    """Set a scene with all of them, and a client that sends hundreds of calls at once."""
    async with open_scene(stack, *processes) as scene:
        few = scene.http
        # A connection a call: one that is kept may be closed by its server in the moment in which it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=120, limits=limits) as many:
            scene.http = many
            yield scene
        scene.http = few


async def capped(scene: Scene, *script: Behaviour) -> tuple[Candidate, Tenant]:
    """Offer a candidate whose calls cost exactly their bound; make a tenant with a cap worth so many of them.

    ``script`` is what its next calls do.
    """
    (candidate,) = await scene.offer()
    assert (await scene.chat(max_tokens=MAX_TOKENS)).status_code == 200
    bound = scene.decision()["reserved_nano_usd"]
    output = MAX_TOKENS * OUTPUT_NANO_USD_PER_MTOK
    usage = {
        "prompt_tokens": (bound * 1_000_000 - output) // INPUT_NANO_USD_PER_MTOK,
        "completion_tokens": MAX_TOKENS,
    }
    exact: Behaviour = {"kind": "answer", "usage": usage, "latency_seconds": 0.2}
    await scene.script(candidate, *script, default=exact)
    tenant = scene.make_tenant(balance_nano_usd=1000 * NANO_USD_PER_USD)
    scene.rows.cap(tenant.organization_id, None, WORTH * bound, window="lifetime")
    return candidate, tenant


def storm(scene: Scene, tenant: Tenant, calls: int = CALLS_PER_PROCESS) -> "list[asyncio.Task[int | str]]":
    """Send so many calls to each backend at once. The status of each, or how its connection failed."""

    async def status(backend: BackendProcess) -> int | str:
        try:
            response = await scene.chat(key=tenant.api_key, backend=backend, max_tokens=MAX_TOKENS)
        except httpx.HTTPError as error:
            return repr(error)
        return response.status_code

    return [scene.start(status(backend)) for _ in range(calls) for backend in scene.backends]


async def sampled(scene: Scene, tenant: Tenant, answers: "list[asyncio.Task[int | str]]") -> list[int | str]:
    """Check the cap again and again until all calls are over, and once more; return their statuses."""
    while True:
        are_over = all(answer.done() for answer in answers)
        (cap,) = scene.rows.query(
            "select limit_nano_usd, held_nano_usd + charged_nano_usd as taken, held_nano_usd"
            " from public.spend_caps inner join public.spend_counters on id = spend_cap_id"
            " where spend_caps.organization_id = %(id)s",
            id=tenant.organization_id,
        ) or [{"limit_nano_usd": 0, "taken": 0}]
        assert cap["taken"] <= cap["limit_nano_usd"]
        if are_over:
            break
        await asyncio.sleep(0.002)
    return [answer.result() for answer in answers]


def attempts(scene: Scene, tenant: Tenant) -> list[str]:
    """Return the status of each attempt of a tenant."""
    return [attempt["status"] for decision in scene.decisions(tenant) for attempt in decision["attempts"]]


async def test_of_four_times_two_hundred_calls_at_a_cap_worth_fifty_exactly_fifty_reach_the_provider(
    scene: Scene,
) -> None:
    """Each costs exactly what was reserved, so nothing is given back that another one could use."""
    candidate, tenant = await capped(scene)
    statuses = await sampled(scene, tenant, storm(scene, tenant))
    assert await scene.called(candidate) == [1 + WORTH]
    assert Counter(statuses) == {200: WORTH, 429: PROCESSES * CALLS_PER_PROCESS - WORTH}
    assert attempts(scene, tenant) == ["succeeded"] * WORTH
    await scene.until_settled()


async def swept(scene: Scene, tenant: Tenant) -> None:
    """Wait until nothing is open any more."""

    async def all_over() -> bool:
        return all(decision["outcome_status"] for decision in scene.decisions(tenant))

    await eventually(all_over, "what the killed processes left is swept")


async def test_processes_that_are_killed_midway_cost_nobody_a_nano_dollar(
    stack: Stack, scene: Scene, processes: list[BackendProcess]
) -> None:
    """Two of four, in the middle of the storm, and started again: the cap holds at every sample, and no call is lost."""
    candidate, tenant = await capped(scene, *[STALL] * WORTH)
    answers = storm(scene, tenant)
    await scene.until_called(candidate, 1 + WORTH)
    for process in processes[:2]:
        process.kill()
    await scene.release(candidate)
    statuses = await sampled(scene, tenant, answers)
    assert any(isinstance(status, str) for status in statuses)
    await swept(scene, tenant)
    with ExitStack() as exits:
        again = [exits.enter_context(BackendProcess(stack, **PATIENT)) for _ in range(2)]
        scene.backends = (*again, *processes[2:])
        await sampled(scene, tenant, storm(scene, tenant, calls=WORTH))
        await swept(scene, tenant)
    found = attempts(scene, tenant)
    assert set(found) <= {"succeeded", "abandoned"}
    # What abandoned attempts held was released: the cap is filled by what succeeded.
    assert found.count("succeeded") == WORTH
    (calls,) = await scene.called(candidate)
    # An attempt may have been written and its process killed before the call; a call without an attempt there is none.
    assert found.count("succeeded") <= calls - 1 <= len(found)


async def test_every_call_of_a_killed_process_is_an_abandoned_attempt(
    scene: Scene, processes: list[BackendProcess]
) -> None:
    """All that the cap allows are waiting at the provider when two processes die: calls = settled + abandoned."""
    candidate, tenant = await capped(scene, *[STALL] * WORTH)
    answers = storm(scene, tenant, calls=WORTH)
    await scene.until_called(candidate, 1 + WORTH)
    for process in processes[:2]:
        process.kill()
    await scene.release(candidate)
    statuses = await sampled(scene, tenant, answers)
    scene.backends = tuple(processes[2:])
    await swept(scene, tenant)
    found = attempts(scene, tenant)
    assert set(found) == {"succeeded", "abandoned"}
    assert found.count("succeeded") == statuses.count(200)
    assert await scene.called(candidate) == [1 + len(found)] == [1 + WORTH]
