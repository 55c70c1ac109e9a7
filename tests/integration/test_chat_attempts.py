"""Attempts: each has a row under an id made beforehand, written before its call; the last one made is linked."""

import pytest

from tests.support.scene import Behaviour, Scene, contents, error_code, facts

SERVER_ERROR: Behaviour = {"kind": "status", "status": 500}
RATE_LIMITED: Behaviour = {"kind": "status", "status": 429}
REJECTED: Behaviour = {"kind": "status", "status": 400, "message": "No such parameter."}
STALL: Behaviour = {"kind": "stall"}
CONTENT_STALL: Behaviour = {"kind": "stall", "after_chunks": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_dispatch_inference_row_id_is_there_before_the_answer(scene: Scene, *, stream: bool) -> None:
    """While the provider stalls the row is there, open, funds are held; the same id is linked in the end."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL)
    answer = scene.start(scene.chat(stream=stream))
    await scene.until_called(candidate)
    under_way = scene.decision()
    assert [attempt["status"] for attempt in under_way["attempts"]] == ["open"]
    assert (under_way["outcome_status"], under_way["inference_id"]) == (None, None)
    assert under_way["decision_rule"] == under_way["requested_rule"] == "cheapest_clearing_floor"
    assert scene.wallet()[1] == under_way["reserved_nano_usd"] > 0
    await scene.release(candidate)
    assert (await answer).status_code == 200
    decision = scene.decision()
    assert [attempt["id"] for attempt in decision["attempts"]] == [under_way["attempts"][0]["id"]]
    assert decision["inference_id"] == under_way["attempts"][0]["id"]


@pytest.mark.parametrize("failures", [1, 2])
async def test_every_failover_attempt_has_its_own_row_before_its_call(scene: Scene, failures: int) -> None:
    """When the next candidate is called its row is open under a new id, the ones before are finished."""
    candidates = await scene.offer(failures + 1)
    for candidate in candidates[:-1]:
        await scene.script(candidate, default=SERVER_ERROR)
    await scene.script(candidates[-1], STALL)
    answer = scene.start(scene.chat())
    await scene.until_called(candidates[-1])
    attempts = scene.decision()["attempts"]
    assert [attempt["status"] for attempt in attempts] == [*["failed"] * failures, "open"]
    assert [attempt["candidate_id"] for attempt in attempts] == [candidate.id for candidate in candidates]
    assert len({attempt["id"] for attempt in attempts}) == failures + 1
    await scene.release(candidates[-1])
    assert (await answer).status_code == 200
    decision = scene.decision()
    assert [attempt["id"] for attempt in decision["attempts"]] == [attempt["id"] for attempt in attempts]
    assert decision["inference_id"] == attempts[-1]["id"]


async def test_failover_links_the_last_attempt_made_on_success(scene: Scene) -> None:
    """The first two fail, the third answers and is linked; its answer is what the caller gets."""
    first, second, third = await scene.offer(3)
    await scene.script(first, default=SERVER_ERROR)
    await scene.script(second, default={"kind": "disconnect"})
    await scene.script(third, default={"kind": "answer", "content": "42"})
    response = await scene.chat()
    assert response.json()["choices"][0]["message"]["content"] == "42"
    assert response.headers["x-clearfloor-model"] == third.model
    assert response.headers["x-clearfloor-attempts"] == "3"
    decision = scene.decision()
    assert facts(decision) == ("succeeded", "cheapest_clearing_floor", 3, ["failed", "failed", "succeeded"])
    assert [a["error_class"] for a in decision["attempts"]] == ["server_error", "connection", None]
    assert await scene.called() == [1, 1, 1]


async def test_failover_links_the_last_attempt_made_on_a_terminal_4xx(scene: Scene) -> None:
    """The second says that the request is wrong: no third call, the second is linked, its status is passed on."""
    candidates = await scene.offer(3)
    await scene.script(candidates[0], default=SERVER_ERROR)
    await scene.script(candidates[1], default=REJECTED)
    response = await scene.chat()
    assert (response.status_code, error_code(response)) == (400, "provider_rejected_request")
    expected = ("failed_provider_error", "cheapest_clearing_floor", 2, ["failed", "failed"])
    assert facts(scene.decision()) == expected
    assert await scene.called() == [1, 1, 0]


async def test_failover_links_the_last_attempt_made_when_all_are_exhausted(scene: Scene) -> None:
    """Nobody answers: 503, the last attempt is linked, nothing is charged."""
    for candidate in await scene.offer(3):
        await scene.script(candidate, default=SERVER_ERROR)
    before = scene.wallet()
    response = await scene.chat()
    assert (response.status_code, error_code(response)) == (503, "all_candidates_failed")
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-clearfloor-attempts"] == "3"
    expected = ("failed_provider_error", "cheapest_clearing_floor", 3, ["failed"] * 3)
    assert facts(scene.decision()) == expected
    assert scene.wallet() == before


async def test_failover_can_be_declined(scene: Scene) -> None:
    """With `fallback` false the first failure is the last attempt."""
    first, _ = await scene.offer(2)
    await scene.script(first, default=SERVER_ERROR)
    response = await scene.chat(clearfloor={"fallback": False})
    assert (response.status_code, error_code(response)) == (503, "all_candidates_failed")
    assert await scene.called() == [1, 0]


async def test_an_exhausted_429_fails_over_like_a_5xx(scene: Scene) -> None:
    """Three calls are made to the first candidate under one attempt, then one to the next; the first cools down."""
    first, second = await scene.offer(2)
    await scene.script(first, default=RATE_LIMITED)
    response = await scene.chat()
    assert response.status_code == 200
    assert response.headers["x-clearfloor-model"] == second.model
    decision = scene.decision()
    assert facts(decision) == ("succeeded", "cheapest_clearing_floor", 2, ["failed", "succeeded"])
    assert [attempt["http_calls"] for attempt in decision["attempts"]] == [3, 1]
    assert decision["attempts"][0]["http_status"] == 429
    assert await scene.called() == [3, 1]
    assert scene.cooldowns() == [first.id]


async def test_a_429_that_passes_is_retried_under_the_same_attempt(scene: Scene) -> None:
    """The second call answers: one row, two calls, no failover."""
    first, _ = await scene.offer(2)
    await scene.script(first, RATE_LIMITED)
    assert (await scene.chat()).status_code == 200
    decision = scene.decision()
    assert facts(decision) == ("succeeded", "cheapest_clearing_floor", 1, ["succeeded"])
    assert decision["attempts"][0]["http_calls"] == 2
    assert await scene.called() == [2, 0]


async def test_a_429_with_a_long_retry_after_is_not_retried_but_cools_down(scene: Scene) -> None:
    """One call, failover at once; the next request passes the candidate over without an attempt."""
    first, second = await scene.offer(2)
    await scene.script(first, default=RATE_LIMITED | {"retry_after": "60"})
    assert (await scene.chat()).headers["x-clearfloor-attempts"] == "2"
    assert scene.cooldowns() == [first.id]
    again = await scene.chat()
    assert (again.headers["x-clearfloor-model"], again.headers["x-clearfloor-attempts"]) == (
        second.model,
        "1",
    )
    assert await scene.called() == [1, 2]
    assert scene.decisions()[0]["attempts"][0]["retry_after_seconds"] == 60


async def test_a_stream_commits_to_its_candidate_with_its_first_content(scene: Scene) -> None:
    """Content has reached the caller while the row is still open and the decision incomplete."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, CONTENT_STALL, default={"kind": "answer", "chunks": ["4", "2"]})
    stream = await scene.open_stream()
    assert scene.decision()["outcome_status"] is None
    await scene.release(candidate)
    assert contents((await stream.aread()).decode()) == "42"
    assert facts(scene.decision()) == ("succeeded", "cheapest_clearing_floor", 1, ["succeeded"])
