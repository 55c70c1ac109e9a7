"""The record goes away and comes back: never a 401, never an unrecorded call, never a lost answer, no restart."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.polling import eventually
from tests.support.scene import Behaviour, Scene, contents, error_code, events, facts, open_scene
from tests.support.tenant import Tenant

STALL: Behaviour = {"kind": "stall"}
RULE = "cheapest_clearing_floor"
KILLED = "postgrest, killed"
PARTS = ["front", "postgrest", KILLED]


@pytest.fixture
async def scene(own_stack: Stack, quick_backend: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene on the stack whose parts may be taken away."""
    async with open_scene(own_stack, quick_backend) as scene:
        yield scene


@contextmanager
def away(stack: Stack, part: str) -> Iterator[None]:
    """Take a part of the record's way away: connections stay open and nothing answers, or what stands before it says so."""
    process = stack.processes[part.partition(",")[0]]
    if part == KILLED:
        process.kill()
    else:
        process.pause()
    try:
        yield
    finally:
        if part == KILLED:
            stack.restart_postgrest()
        else:
            process.resume()


async def until_ready_is(scene: Scene, status: int) -> None:
    """Wait until the backend's readiness has a status."""

    async def reached() -> bool:
        response = await scene.http.get(f"{scene.backends[0].url}/health/ready")
        return response.status_code == status

    await eventually(reached, f"readiness is {status}")


def assert_record_unavailable(response: httpx.Response) -> None:
    """Check the answer of a backend that cannot tell."""
    assert (response.status_code, error_code(response)) == (503, "record_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    # Unlike other refusals this one may be mended by a retry, and clients are not told otherwise.
    assert "x-should-retry" not in response.headers


def credential(scene: Scene, kind: str) -> str:
    """Return a valid credential that the backend has not seen yet."""
    tenant: Tenant = scene.make_tenant(balance_nano_usd=10**9)
    if kind == "key":
        return tenant.api_key
    return scene.stack.mint_user_token(tenant.user_id, tenant.organization_id)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["key", "token"])
async def test_an_unknown_caller_is_told_503_and_not_401(
    own_stack: Stack, scene: Scene, kind: str, part: str
) -> None:
    """Nobody can tell who it is, so nobody is called and nobody is refused."""
    (candidate,) = await scene.offer()
    key = credential(scene, kind)
    with away(own_stack, part):
        assert_record_unavailable(await scene.chat(key=key))
        assert_record_unavailable(await scene.get("/v1/decisions", key=key))
    await until_ready_is(scene, 200)
    assert (await scene.chat(key=key)).status_code == 200
    assert await scene.called(candidate) == [1]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_known_caller_is_told_503_and_nothing_is_called(
    own_stack: Stack, scene: Scene, part: str, *, stream: bool
) -> None:
    """The opening comes before the call. What may have been written after all is swept, and nothing is charged."""
    (candidate,) = await scene.offer()
    assert (await scene.chat()).status_code == 200
    before = scene.wallet()
    with away(own_stack, part):
        assert_record_unavailable(await scene.chat(stream=stream))
    assert await scene.called(candidate) == [1]

    async def money() -> tuple[tuple[int, int], set[int | None]]:
        return scene.wallet(), {decision["charge_nano_usd"] for decision in scene.decisions()[1:]} - {0}

    await eventually(money, "nothing is held or charged", until=lambda found: found == (before, set()))


@pytest.mark.parametrize("part", PARTS)
async def test_readiness_turns_red_and_recovers_without_a_restart(
    own_stack: Stack, scene: Scene, part: str
) -> None:
    """The process itself stays alive all along, and serves again."""
    await scene.offer()
    with away(own_stack, part):
        await until_ready_is(scene, 503)
        live = await scene.http.get(f"{scene.backends[0].url}/health/live")
        assert live.status_code == 200
    await until_ready_is(scene, 200)
    assert (await scene.chat()).status_code == 200


@pytest.mark.parametrize("part", PARTS)
async def test_a_plain_answer_reaches_its_caller_though_it_cannot_be_recorded_yet(
    own_stack: Stack, scene: Scene, part: str
) -> None:
    """Without its cost; the completion lands as soon as the record is back."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL, default={"kind": "answer", "content": "42"})
    answer = scene.start(scene.chat())
    await scene.until_called(candidate)
    with away(own_stack, part):
        await scene.release(candidate)
        response = await answer
        assert response.json()["choices"][0]["message"]["content"] == "42"
        assert "x-clearfloor-cost-usd" not in response.headers
        assert scene.decision()["outcome_status"] is None
    decision = await scene.completed()
    assert facts(decision) == ("succeeded", RULE, 1, ["succeeded"])
    assert decision["charge_nano_usd"] > 0


@pytest.mark.parametrize("part", PARTS)
async def test_a_stream_ends_though_it_cannot_be_recorded_yet(
    own_stack: Stack, scene: Scene, part: str
) -> None:
    """The end marker waits for the completion up to a deadline only; the last event then has no cost."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL, default={"kind": "answer", "chunks": ["4", "2"]})
    answer = scene.start(scene.chat(stream=True))
    await scene.until_called(candidate)
    with away(own_stack, part):
        await scene.release(candidate)
        response = await answer
    assert contents(response.text) == "42"
    assert response.text.endswith("data: [DONE]\n\n")
    assert events(response.text)[-1]["clearfloor"].keys() == {"decision_id"}
    assert facts(await scene.completed()) == ("succeeded", RULE, 1, ["succeeded"])


async def test_a_failover_that_cannot_be_recorded_is_not_made(own_stack: Stack, scene: Scene) -> None:
    """The second candidate is not called without a row; the first attempt is completed when the record is back."""
    first, second = await scene.offer(2)
    await scene.script(first, default={"kind": "status", "status": 500, "latency_seconds": 1})
    answer = scene.start(scene.chat())
    await scene.until_called(first)
    with away(own_stack, "front"):
        assert_record_unavailable(await answer)
    await scene.completed()
    assert await scene.called(first, second) == [1, 0]
    outcome, rule, linked, statuses = facts(scene.decision())
    assert (outcome, rule) == ("failed_provider_error", RULE)
    # The second attempt's opening was not answered, so it is opened for certain and taken back: it was not sent.
    assert (linked, statuses) == (1, ["failed", "not_sent"])
    assert scene.decision()["charge_nano_usd"] == 0
