"""Feedback on answers, from the route to the rates that backends read: who may rate what, how often, and what it adds up to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.polling import eventually
from tests.support.scene import DECISION_HEADER, Scene, error_code, open_scene
from tests.support.tenant import Tenant

QUALITY = 0.9
TASK = "law"
ANSWER: dict[str, object] = {"kind": "answer"}
SERVER_ERROR: dict[str, object] = {"kind": "status", "status": 500}
STALL: dict[str, object] = {"kind": "stall"}


def member_of(scene: Scene, tenant: Tenant) -> str:
    """Mint the token of a tenant's member."""
    return scene.stack.mint_user_token(tenant.user_id, tenant.organization_id)


async def answered(scene: Scene, key: str | None = None) -> UUID:
    """Have a question of a class that its caller names answered; return its decision's id."""
    response = await scene.chat(key=key, clearfloor={"task": TASK})
    assert response.status_code == 200, response.text
    return UUID(response.headers[DECISION_HEADER])


async def rate(
    scene: Scene, decision_id: UUID, body: object = None, *, key: str | None = None, **fields: object
) -> httpx.Response:
    """Rate a decision with the tenant's key, or another, or a token."""
    url = f"{scene.backends[0].url}/v1/decisions/{decision_id}/feedback"
    headers = {"authorization": f"Bearer {key or scene.tenant.api_key}"}
    return await scene.http.post(url, json=fields if body is None else body, headers=headers)


def sums(scene: Scene) -> dict[str, tuple[float, float]]:
    """Return the sums of this test's models by task class, as they are about now."""
    rows = scene.rows.query(
        "select task, sum(successes) as successes, sum(trials) as trials from public.quality_sums where model = any(%(models)s)"
        " group by task",
        models=scene.models,
    )
    # What fades within a test is in the seventh digit.
    return {row["task"]: (round(row["successes"], 4), round(row["trials"], 4)) for row in rows}


async def test_each_source_rates_an_answer_once(scene: Scene) -> None:
    """The agent, its checkers and members add up; what is said twice counts once; the organization reads it all."""
    await scene.offer(quality=QUALITY)
    decision_id, token = await answered(scene), member_of(scene, scene.tenant)
    task = scene.decision()["task"]
    for key, fields in (
        (None, {"score": 0.25}),
        (None, {"thumb": "up", "checker": "json-schema"}),
        (token, {"thumb": "down"}),
    ):
        first, again = [await rate(scene, decision_id, key=key, **fields) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201), first.text
        assert first.json() == again.json()
    assert sums(scene) == {task: (1.25, 3.0)}

    endpoints = scene.stack.endpoints
    read = await scene.http.get(
        f"{endpoints.supabase_url}/rest/v1/feedback?order=created_at",
        headers={"apikey": endpoints.publishable_key, "authorization": f"Bearer {token}"},
    )
    by_agent, by_checker, by_member = read.json()
    assert by_agent == {
        "routing_outcome_id": str(decision_id),
        "source": "agent",
        "organization_id": str(scene.tenant.organization_id),
        "agent_id": str(scene.tenant.agent_id),
        "model": scene.models[0],
        "task": task,
        "floor": 0.5,
        "predicted": QUALITY,
        "floor_cleared": True,
        "score": 0.25,
        "api_key_id": str(scene.tenant.api_key_id),
        "user_id": None,
        "created_at": by_agent["created_at"],
    }
    assert (by_checker["source"], by_checker["score"]) == ("checker:json-schema", 1)
    member_id = str(scene.tenant.user_id)
    assert (by_member["source"], by_member["user_id"], by_member["score"]) == (
        f"user:{member_id}",
        member_id,
        0,
    )


async def test_a_source_that_changes_its_mind_is_refused(scene: Scene) -> None:
    """What it said first counts."""
    await scene.offer()
    decision_id = await answered(scene)
    assert (await rate(scene, decision_id, thumb="up")).status_code == 201
    before = sums(scene)
    refused = await rate(scene, decision_id, thumb="down")
    assert (refused.status_code, error_code(refused)) == (409, "conflict")
    assert "has rated the decision" in refused.json()["error"]["message"]
    assert sums(scene) == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "score"),
        ({"score": 1, "thumb": "up"}, "score"),
        ({"score": 1.01}, "score"),
        ({"score": -0.01}, "score"),
        ({"score": "1"}, "score"),
        ({"score": None}, "score"),
        ({"score": True}, "score"),
        ({"thumb": "sideways"}, "thumb"),
        ({"score": 1, "checker": "No Spaces"}, "checker"),
        ({"score": 1, "checker": "line\n"}, "checker"),
        ({"score": 1, "checker": "x" * 41}, "checker"),
        ({"score": 1, "source": "agent"}, "source"),
        ([], "body"),
    ],
)
async def test_what_is_no_feedback_is_400(scene: Scene, body: object, param: str) -> None:
    """The field is named, whatever the decision is."""
    refused = await rate(scene, uuid7(), body)
    assert (refused.status_code, error_code(refused)) == (400, "invalid_request")
    assert param in (refused.json()["error"]["param"] or "body")


async def test_a_member_is_no_checker(scene: Scene) -> None:
    """A checker has its agent's key."""
    await scene.offer()
    decision_id = await answered(scene)
    refused = await rate(scene, decision_id, key=member_of(scene, scene.tenant), score=1, checker="me")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "checker")
    assert sums(scene) == {}


async def test_a_foreign_decision_looks_like_one_that_is_not_there(scene: Scene) -> None:
    """To another organization's key and member, and to another agent's key; a member rates those of all agents of its own."""
    await scene.offer()
    decision_id, nowhere = await answered(scene), uuid7()
    other = scene.make_tenant(balance_nano_usd=10**9)
    second = scene.rows.agent(scene.tenant.organization_id, "second agent")
    _, second_key = scene.rows.api_key(scene.tenant.organization_id, second)
    for key in (other.api_key, member_of(scene, other), second_key):
        foreign, missing = [await rate(scene, each, key=key, score=1) for each in (decision_id, nowhere)]
        assert (foreign.status_code, error_code(foreign)) == (404, "not_found")
        assert foreign.text.replace(str(decision_id), "ID") == missing.text.replace(str(nowhere), "ID")
    assert (await rate(scene, decision_id, key="cf_unknown", score=1)).status_code == 401
    assert sums(scene) == {}

    theirs = await answered(scene, second_key)
    assert (await rate(scene, theirs, key=member_of(scene, scene.tenant), score=1)).status_code == 201


async def test_an_open_decision_is_rated_when_it_is_completed(scene: Scene) -> None:
    """Until then the answer is to come back."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, STALL)
    call = scene.start(scene.chat())
    decision_id = (await scene.until_attempt_is_open())["id"]
    refused = await rate(scene, decision_id, score=1)
    assert (refused.status_code, error_code(refused)) == (409, "conflict")
    assert "still open" in refused.json()["error"]["message"]
    await scene.until_called(candidate)
    await scene.release(candidate)
    assert (await call).status_code == 200
    assert (await rate(scene, decision_id, score=1)).status_code == 201


async def test_what_is_not_there_to_be_had_says_nothing_of_quality(scene: Scene) -> None:
    """A failure is no bad answer: neither of the only candidate, nor of one before that which answered."""
    first, _ = await scene.offer(2)
    await scene.script(first, default=SERVER_ERROR)
    assert (await scene.chat(clearfloor={"models": [first.model]})).status_code == 503
    refused = await rate(scene, scene.decision()["id"], score=0)
    assert (refused.status_code, error_code(refused)) == (409, "conflict")
    assert "says nothing of quality" in refused.json()["error"]["message"]
    assert sums(scene) == {}

    decision_id = await answered(scene)
    assert (await rate(scene, decision_id, score=1)).json()["model"] == scene.models[1]


async def test_whether_an_answer_cleared_its_floor_is_kept(scene: Scene) -> None:
    """As routing saw it: where the caller is strict not by the quality, but by what that is at least."""
    (candidate,) = await scene.offer(quality=QUALITY)
    kept = []
    for request in (
        {"clearfloor": {"floor": 0.85}},
        {"clearfloor": {"floor": 0.85, "strict": True, "on_miss": "best"}},
        {"clearfloor": {"floor": 0.95, "on_miss": "best"}},
        {"model": candidate.model},
    ):
        answer = await scene.chat(**request)
        feedback = (await rate(scene, UUID(answer.headers[DECISION_HEADER]), score=1)).json()
        kept.append((feedback["predicted"], feedback["floor_cleared"]))
    assert kept == [(QUALITY, True), (QUALITY, False), (QUALITY, False), (QUALITY, None)]


async def test_feedbacks_that_meet_wait_for_each_other(scene: Scene) -> None:
    """Two of one model with the classes in opposite orders, both held up at the second class: nobody is refused, all counts."""
    await scene.offer()
    classes = ["a", "b", "c"]
    decisions = [await answered(scene) for _ in range(3)]
    for decision_id, posterior in zip(decisions, (classes, classes, classes[::-1]), strict=True):
        scene.rows.query(
            "update public.routing_outcomes set routing_request = routing_request || %(request)s where id = %(id)s",
            request=Jsonb({"posterior": [[name, 1 / 3] for name in posterior]}),
            id=decision_id,
        )
    assert (await rate(scene, decisions[0], score=1)).status_code == 201
    with psycopg.connect(scene.stack.endpoints.superuser_url) as holder:
        held = holder.execute(
            "select pg_backend_pid() from public.quality_sums where model = %s and task = 'b' for update",
            [scene.models[0]],
        ).fetchall()
        calls = []
        for number, decision_id in enumerate(decisions[1:], 1):
            calls.append(scene.start(asyncio.to_thread(rows_of, scene, recorded(scene, decision_id))))
            await until_held_up(scene, number, held[0][0])
    await asyncio.gather(*calls)
    assert sums(scene) == dict.fromkeys(classes, (1.0, 1.0))


def recorded(scene: Scene, decision_id: UUID) -> str:
    """Return the call that the backend makes of the best score by the agent: it would try again if it met a deadlock."""
    caller = scene.tenant
    ids = (decision_id, caller.organization_id, caller.agent_id, caller.api_key_id)
    given = ", ".join(f"'{each}'" for each in ids)
    return f"select public.record_feedback({given}, null, null, 1)"


async def twice_at_once(scene: Scene, query: str) -> list[Any]:
    """Ask in one session, and in a second one that waits until the first commits; return both answers."""
    with psycopg.connect(scene.stack.endpoints.superuser_url) as first:
        ((answer, session),) = first.execute(f"{query}, pg_backend_pid()".encode()).fetchall()
        second = scene.start(asyncio.to_thread(rows_of, scene, query))
        await until_held_up(scene, 1, session)
    ((second_answer,),) = await second
    return [answer, second_answer]


def rows_of(scene: Scene, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds, asked by a session of its own."""
    with psycopg.connect(scene.stack.endpoints.superuser_url) as connection:
        return connection.execute(query.encode()).fetchall()


async def until_held_up(scene: Scene, number: int, holder: int) -> None:
    """Wait until so many sessions wait for a lock, each for the holder or for another that waits for it."""

    async def held_up() -> bool:
        rows = scene.rows.query(
            "with recursive behind (pid) as ("
            " select %(holder)s::integer union select session.pid from pg_stat_activity as session, behind"
            " where behind.pid = any(pg_blocking_pids(session.pid))"
            ") select count(*) as sessions from behind where pid <> %(holder)s",
            holder=holder,
        )
        return bool(rows[0]["sessions"] >= number)

    await eventually(held_up, f"{number} feedbacks are held up")


@pytest.fixture
async def learning(stack: Stack) -> AsyncIterator[Scene]:
    """Set a scene with a backend that publishes what was learned all the time."""
    often = {"CLEARFLOOR_RATE_PUBLISH_SECONDS": "0.1", "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": "0.1"}
    with BackendProcess(stack, **often) as backend:
        async with open_scene(stack, backend) as scene:
            yield scene


async def test_what_is_learned_is_published_and_read(learning: Scene) -> None:
    """By the backend itself; and whoever knows the newest is not sent it again."""
    scene = learning
    await scene.offer()
    decision_id = await answered(scene)
    await rate(scene, decision_id, thumb="up")
    model, task = scene.models[0], scene.decision()["task"]

    async def published() -> dict[str, Any]:
        (row,) = scene.rows.query("select * from public.rate_snapshots order by id desc limit 1")
        return row

    newest = await eventually(
        published, "it is published", until=lambda row: model in row["content"]["learned"]
    )
    assert newest["content"]["learned"][model] == {task: [1, 1]}
    (unknown,) = scene.rows.query("select public.read_catalogue() as state")
    assert unknown["state"]["rate_snapshot"] == newest["id"]
    assert unknown["state"]["rates"] == newest["content"] | {"prior_strength": newest["prior_strength"]}
    (known,) = scene.rows.query("select public.read_catalogue(null, %(id)s) as state", id=newest["id"])
    assert (known["state"]["rate_snapshot"], known["state"]["rates"]) == (newest["id"], None)
    (same,) = scene.rows.query("select public.publish_rates() as id")
    assert same["id"] == newest["id"]


async def test_what_is_done_twice_at_once_is_done_once(scene: Scene) -> None:
    """The second one waits for the first, and finds that there is nothing left to do."""
    await scene.offer()
    decision_id = await answered(scene)
    first, second = await twice_at_once(scene, recorded(scene, decision_id))
    assert first == second
    assert list(sums(scene).values()) == [(1.0, 1.0)]
    first, second = await twice_at_once(scene, "select public.publish_rates()")
    assert first == second
