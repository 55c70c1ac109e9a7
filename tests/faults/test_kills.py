"""A backend is killed at each boundary of a request; another one closes what it left. Nobody pays for it."""

import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.scene import Behaviour, Scene, open_scene

STALL: Behaviour = {"kind": "stall"}
# A lease as short as the shortest request allows, so that the sweep comes within the test.
QUICK = {
    "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": "0.1",
    "CLEARFLOOR_REQUEST_DEADLINE_SECONDS": "3",
    "CLEARFLOOR_STORE_RETRY_SECONDS": "0.5",
    "CLEARFLOOR_COMPLETION_WAIT_SECONDS": "0.3",
    "CLEARFLOOR_LEASE_SECONDS": "2",
    "CLEARFLOOR_LEASE_RENEWAL_SECONDS": "0.5",
    "CLEARFLOOR_SWEEP_INTERVAL_SECONDS": "0.2",
}


@pytest.fixture(scope="module")
def survivor(stack: Stack) -> Iterator[BackendProcess]:
    """Run the backend that sweeps."""
    with BackendProcess(stack, **QUICK) as running:
        yield running


@pytest.fixture
def dying(stack: Stack) -> Iterator[BackendProcess]:
    """Run the backend that will be killed."""
    with BackendProcess(stack, **QUICK) as running:
        yield running


@pytest.fixture
async def scene(stack: Stack, survivor: BackendProcess, dying: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with both; its books are checked after the test."""
    async with open_scene(stack, survivor, dying) as scene:
        yield scene


async def test_a_kill_before_the_opening_leaves_nothing(
    stack: Stack, scene: Scene, dying: BackendProcess
) -> None:
    """No row, no call."""
    (candidate,) = await scene.offer()
    stack.processes["front"].pause()
    try:
        answer = scene.start(scene.chat(backend=dying))
        # It answers on another connection, so it has taken the first one; that cannot go on without the record.
        assert (await scene.http.get(f"{dying.url}/health/live")).status_code == 200
        dying.kill()
        with pytest.raises(httpx.HTTPError):
            await answer
    finally:
        stack.processes["front"].resume()
    assert scene.decisions() == []
    assert await scene.called(candidate) == [0]


async def test_a_kill_between_opening_and_call_is_swept(scene: Scene, dying: BackendProcess) -> None:
    """The provider never took the call; the reservation is released and nothing is charged."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        await scene.offer(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")
        answer = scene.start(scene.chat(backend=dying))
        await scene.until_attempt_is_open()
        dying.kill()
        with pytest.raises(httpx.HTTPError):
            await answer
        await assert_abandoned(scene)


async def test_a_kill_between_call_and_completion_is_swept(scene: Scene, dying: BackendProcess) -> None:
    """The provider has the call; it is abandoned, and the caller's funds are free again."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL)
    answer = scene.start(scene.chat(backend=dying))
    await scene.until_called(candidate)
    dying.kill()
    with pytest.raises(httpx.HTTPError):
        await answer
    await assert_abandoned(scene)
    assert await scene.called(candidate) == [1]


async def test_a_kill_after_the_completion_changes_nothing(scene: Scene, dying: BackendProcess) -> None:
    """What was committed stays as it was."""
    (candidate,) = await scene.offer()
    assert (await scene.chat(backend=dying)).status_code == 200
    before = scene.decision()
    dying.kill()
    assert (await scene.chat()).status_code == 200
    after = next(decision for decision in scene.decisions() if decision["id"] == before["id"])
    assert after == before
    assert before["outcome_status"] == "succeeded"
    assert await scene.called(candidate) == [2]


async def test_two_backends_cannot_pass_a_cap(stack: Stack, scene: Scene) -> None:
    """Of 40 calls at once at a cap worth 10, exactly 10 reach the provider."""
    (candidate,) = await scene.offer()
    assert (await scene.chat()).status_code == 200
    first = scene.decision()
    limit = first["charge_nano_usd"] + 10 * first["reserved_nano_usd"]
    with psycopg.connect(stack.endpoints.database_url) as connection:
        connection.execute(
            "select public.set_spend_cap(%s, %s, null, 'lifetime', %s)",
            [uuid7(), scene.tenant.organization_id, limit],
        )
    await scene.script(candidate, default=STALL)
    answers = [scene.start(scene.chat(backend=scene.backends[number % 2])) for number in range(40)]
    await scene.until_called(candidate, 11)
    refused = [answer for answer in answers if (await answer).status_code == 429]
    assert len(refused) == 30
    assert await scene.called(candidate) == [11]


async def assert_abandoned(scene: Scene) -> None:
    """Check that the one decision was swept as the design says."""
    decision = await scene.completed()
    assert decision["outcome_status"] == "abandoned"
    assert decision["decision_rule"] == "cheapest_clearing_floor"
    assert [attempt["status"] for attempt in decision["attempts"]] == ["abandoned"]
    assert decision["inference_id"] == decision["attempts"][0]["id"]
    assert decision["charge_nano_usd"] == 0
    assert scene.wallet()[1] == 0
