"""Processes that are killed, paused or stopped while the record, the provider or a caller waits for them."""

import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.polling import eventually
from tests.support.scene import Behaviour, Scene, contents, facts, first_content, open_scene

STALL: Behaviour = {"kind": "stall"}
RULE = "cheapest_clearing_floor"


@pytest.fixture
async def scene(
    own_stack: Stack, dying_backend: BackendProcess, quick_backend: BackendProcess
) -> AsyncIterator[Scene]:
    """Set a scene with the backend that will be hurt, which is called, and one that sweeps."""
    async with open_scene(own_stack, dying_backend, quick_backend) as scene:
        yield scene


async def test_a_kill_while_the_completion_waits_for_the_record_is_swept(
    own_stack: Stack, scene: Scene, dying_backend: BackendProcess
) -> None:
    """The caller has its answer; the attempt is abandoned and nobody pays, but the attempt stays listed."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL)
    answer = scene.start(scene.chat())
    await scene.until_called(candidate)
    front = own_stack.processes["front"]
    front.pause()
    try:
        await scene.release(candidate)
        # Behind a paused front no completion is committed, so this answer went out without waiting for it.
        assert "x-clearfloor-cost-usd" not in (await answer).headers
        dying_backend.kill()
    finally:
        front.resume()
    decision = await scene.completed()
    # The front may still pass on what it had received of the dead backend before it was paused.
    assert facts(decision) in (
        ("abandoned", RULE, 1, ["abandoned"]),
        ("succeeded", RULE, 1, ["succeeded"]),
    )


async def test_a_kill_between_two_attempts_links_the_last_one_made(
    scene: Scene, dying_backend: BackendProcess
) -> None:
    """The first failed, the second stalls: the sweep closes the second and keeps the first as it was."""
    first, second = await scene.offer(2)
    await scene.script(first, default={"kind": "status", "status": 500})
    await scene.script(second, STALL)
    answer = scene.start(scene.chat())
    await scene.until_called(second)
    dying_backend.kill()
    with pytest.raises(httpx.HTTPError):
        await answer
    decision = await scene.completed()
    assert facts(decision) == ("abandoned", RULE, 2, ["failed", "abandoned"])
    assert (decision["charge_nano_usd"], scene.wallet()[1]) == (0, 0)


async def test_a_kill_in_mid_stream_is_swept(scene: Scene, dying_backend: BackendProcess) -> None:
    """The caller sees the connection break, not an end; nothing is charged."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall", "after_chunks": 1})
    response = await scene.open_stream()
    pieces = response.aiter_text()
    await first_content(pieces)
    dying_backend.kill()
    with pytest.raises(httpx.HTTPError):
        await anext(pieces)
    assert facts(await scene.completed()) == ("abandoned", RULE, 1, ["abandoned"])


async def test_a_completion_after_the_sweep_is_settled_all_the_same(scene: Scene) -> None:
    """As after a pause beyond the lease: what the sweep called abandoned was only late, and is paid for once."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL, default={"kind": "answer", "content": "42"})
    before = scene.wallet()
    answer = scene.start(scene.chat())
    await scene.until_called(candidate)
    expire = "update public.routing_outcomes set lease_expires_at = now() - interval '1 s' where organization_id = %(id)s"
    scene.rows.query(expire, id=scene.tenant.organization_id)
    scene.rows.query("select public.sweep_decisions(500)")
    swept = await scene.completed()
    assert facts(swept) == ("abandoned", RULE, 1, ["abandoned"])
    await scene.release(candidate)
    response = await answer
    assert response.json()["choices"][0]["message"]["content"] == "42"
    decision = scene.decision()
    assert facts(decision) == ("succeeded", RULE, 1, ["succeeded"])
    assert (decision["id"], decision["swept_at"] is not None) == (swept["id"], True)
    assert decision["charge_nano_usd"] > decision["operator_loss_nano_usd"] == 0
    assert float(response.headers["x-clearfloor-cost-usd"]) > 0
    assert scene.wallet() == (before[0] - decision["charge_nano_usd"], before[1])


async def test_a_process_that_is_stopped_past_its_lease_settles_late(
    scene: Scene, dying_backend: BackendProcess
) -> None:
    """Once, within what wallet and caps have left; what is missing is the operator's loss."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL, default={"kind": "answer", "content": "42"})
    answer = scene.start(scene.chat())
    await scene.until_called(candidate)
    dying_backend.pause()
    swept = await scene.completed()
    assert facts(swept) == ("abandoned", RULE, 1, ["abandoned"])
    scene.rows.cap(scene.tenant.organization_id, None, 1000, window="hour")
    dying_backend.resume()
    await scene.release(candidate)
    assert (await answer).status_code == 200
    decision = scene.decision()
    cost = decision["attempts"][0]["cost_nano_usd"]
    assert facts(decision) == ("succeeded", RULE, 1, ["succeeded"])
    assert (decision["charge_nano_usd"], decision["operator_loss_nano_usd"]) == (1000, cost - 1000)
    assert await scene.called(candidate) == [1]
    assert f"Decision {decision['id']} was completed late" in dying_backend.log()


async def test_a_stream_that_outlives_its_lease_is_not_swept(scene: Scene) -> None:
    """Its process renews the lease for as long as it lives."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall", "after_chunks": 1})
    response = await scene.open_stream()
    pieces = response.aiter_text()
    await first_content(pieces)
    opened = scene.decision()

    async def renewed_past_the_first_lease() -> bool:
        (moment,) = scene.rows.query("select clock_timestamp() as now")
        return bool(moment["now"] > opened["lease_expires_at"])

    await eventually(renewed_past_the_first_lease, "the first lease is over")
    decision = scene.decision()
    assert decision["outcome_status"] is None
    assert decision["lease_expires_at"] > opened["lease_expires_at"]
    await response.aclose()
    assert (await scene.completed())["swept_at"] is None


async def test_sigterm_lets_a_stream_finish_and_settles_it(
    scene: Scene, dying_backend: BackendProcess
) -> None:
    """New connections are refused at once, the stream goes on to its end marker, then the process ends."""
    (candidate,) = await scene.offer()
    await scene.script(
        candidate, {"kind": "stall", "after_chunks": 1}, default={"kind": "answer", "chunks": ["4", "2"]}
    )
    stream = scene.start(scene.chat(stream=True))
    await scene.until_called(candidate)
    os.kill(dying_backend.pid, signal.SIGTERM)

    async def refuses() -> bool:
        async with httpx.AsyncClient() as fresh:
            try:
                await fresh.get(f"{dying_backend.url}/health/live")
            except httpx.ConnectError:
                return True
        return False

    await eventually(refuses, "new connections are refused")
    await scene.release(candidate)
    text = (await stream).text
    assert contents(text) == "42"
    assert text.endswith("data: [DONE]\n\n")
    decision = scene.decision()
    assert facts(decision) == ("succeeded", RULE, 1, ["succeeded"])
    assert decision["charge_nano_usd"] > 0

    async def ended() -> bool:
        return not dying_backend.is_alive()

    await eventually(ended, "the backend has ended")


async def test_sigterm_waits_for_a_completion_whose_caller_has_gone(
    scene: Scene, dying_backend: BackendProcess
) -> None:
    """Settled as cancelled by the process itself, not left to the sweep."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall", "after_chunks": 1})
    response = await scene.open_stream()
    await first_content(response.aiter_text())
    await response.aclose()
    os.kill(dying_backend.pid, signal.SIGTERM)
    assert facts(await scene.completed()) == ("cancelled", RULE, 1, ["cancelled"])


async def test_sigterm_settles_a_stream_that_does_not_end_in_time(
    scene: Scene, dying_backend: BackendProcess
) -> None:
    """It is broken off after the grace time, and its decision completed by the process itself, before that ends."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall", "after_chunks": 1})
    response = await scene.open_stream()
    pieces = response.aiter_text()
    await first_content(pieces)
    os.kill(dying_backend.pid, signal.SIGTERM)

    async def ended() -> bool:
        return not dying_backend.is_alive()

    await eventually(ended, "the backend has ended")
    decision = scene.decision()
    assert facts(decision) == ("cancelled", RULE, 1, ["cancelled"])
    assert decision["charge_nano_usd"] > 0


async def test_a_caller_who_does_not_read_is_hung_up_on_and_charged(scene: Scene) -> None:
    """A little after the deadline of its request, before the lease ends: long answers are not free for slow readers."""
    (candidate,) = await scene.offer(max_output_tokens=10_000_000)
    await scene.script(candidate, default={"kind": "answer", "chunks": ["x" * 200_000] * 80})
    response = await scene.open_stream()
    decision = await scene.completed()
    assert facts(decision) == ("cancelled", RULE, 1, ["cancelled"])
    assert decision["charge_nano_usd"] > 0
    await scene.until_called(candidate, state="client_gone")
    await response.aclose()
