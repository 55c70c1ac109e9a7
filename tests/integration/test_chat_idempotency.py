"""Requests with one Idempotency-Key: one call, one charge, and an answer for everybody where answers are stored."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from cryptography.fernet import Fernet

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import CATALOGUE_REFRESH_SECONDS
from tests.support.scene import DECISION_HEADER, Behaviour, Scene, contents, error_code, facts, open_scene
from tests.support.tenant import Tenant

RULE = "cheapest_clearing_floor"
REPLAYED_HEADER = "x-clearfloor-replayed"
REPEATS = 50
ANSWER_KEYS = [Fernet.generate_key().decode() for _ in range(2)]


def variables(*keys: str, wait_seconds: str = "20") -> dict[str, str]:
    """Return the settings of a backend that stores answers under keys."""
    return {
        "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
        "CLEARFLOOR_IDEMPOTENCY_POLL_SECONDS": "0.1",
        "CLEARFLOOR_IDEMPOTENCY_WAIT_SECONDS": wait_seconds,
        "CLEARFLOOR_ANSWER_KEYS": ",".join(keys),
    }


@pytest.fixture(scope="module")
def storing(stack: Stack) -> Iterator[BackendProcess]:
    """Run a backend that stores answers."""
    with BackendProcess(stack, **variables(ANSWER_KEYS[0])) as running:
        yield running


@pytest.fixture(scope="module")
def rotated(stack: Stack) -> Iterator[BackendProcess]:
    """Run another one with a newer key, which waits for nobody."""
    with BackendProcess(stack, **variables(*reversed(ANSWER_KEYS), wait_seconds="0.2")) as running:
        yield running


@pytest.fixture
async def scene(stack: Stack, storing: BackendProcess, rotated: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with both."""
    async with open_scene(stack, storing, rotated) as scene:
        yield scene


def keeper(scene: Scene) -> Tenant:
    """Make a tenant that has its answers stored."""
    tenant = scene.make_tenant(balance_nano_usd=10**9)
    scene.rows.query(
        "update public.organizations set stored_answer_hours = 1 where id = %(id)s", id=tenant.organization_id
    )
    return tenant


def keyed(key: str | None = None) -> dict[str, str]:
    """Return the headers of a request under a key."""
    return {"idempotency-key": key or str(uuid7())}


@pytest.mark.parametrize("stored", [True, False])
async def test_fifty_parallel_posts_with_one_key_are_one(scene: Scene, *, stored: bool) -> None:
    """One upstream call and one settled row; fifty equal answers where they are stored, else one answer and 409s."""
    (candidate,) = await scene.offer()
    tenant = keeper(scene) if stored else scene.tenant
    await scene.script(candidate, {"kind": "answer", "content": "42", "latency_seconds": 0.5})
    request = {"key": tenant.api_key, "headers": keyed()}
    answers = await asyncio.gather(
        *(scene.chat(**request, backend=scene.backends[0]) for _ in range(REPEATS))
    )
    assert await scene.called(candidate) == [1]
    decision = scene.decision(tenant)
    assert facts(decision) == ("succeeded", RULE, 1, ["succeeded"])
    assert {answer.headers[DECISION_HEADER] for answer in answers if answer.is_success} == {
        str(decision["id"])
    }
    if not stored:
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * (REPEATS - 1)
        return
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    told = [
        {name: value for name, value in answer.headers.items() if name.startswith("x-clearfloor")}
        for answer in answers
    ]
    assert sorted(headers.pop("x-clearfloor-replayed") for headers in told) == ["false"] + ["true"] * (
        REPEATS - 1
    )
    assert all(headers == told[0] for headers in told)


async def test_an_answer_that_is_stored_is_sealed(scene: Scene) -> None:
    """The row does not show it; a backend with a newer key opens it still."""
    (candidate,) = await scene.offer()
    tenant, request = keeper(scene), keyed()
    await scene.script(candidate, default={"kind": "answer", "content": "an open secret"})
    first = await scene.chat(key=tenant.api_key, headers=request)
    again = await scene.chat(key=tenant.api_key, headers=request, backend=scene.backends[1])
    assert (first.content, first.headers[REPLAYED_HEADER]) == (again.content, "false")
    assert again.headers[REPLAYED_HEADER] == "true"
    (row,) = scene.rows.query(
        "select content from public.stored_answers where organization_id = %(id)s", id=tenant.organization_id
    )
    assert "secret" not in row["content"]
    request = keyed()
    await scene.chat(key=tenant.api_key, headers=request, backend=scene.backends[1])
    unreadable = await scene.chat(key=tenant.api_key, headers=request)
    assert (unreadable.status_code, error_code(unreadable)) == (409, "request_done")


async def test_a_repeat_without_a_stored_answer_is_told_what_became_of_it(scene: Scene) -> None:
    """The decision's id and state, and no second call."""
    (candidate,) = await scene.offer()
    request = keyed()
    first = await scene.chat(headers=request)
    again = await scene.chat(headers=request)
    assert (again.status_code, error_code(again)) == (409, "request_done")
    assert again.headers["x-should-retry"] == "false"
    assert again.json()["error"]["details"] == {
        "decision_id": first.headers[DECISION_HEADER],
        "outcome_status": "succeeded",
        "charge_usd": first.headers["x-clearfloor-cost-usd"],
    }
    assert again.json()["error"]["decision_id"] == first.headers[DECISION_HEADER]
    assert await scene.called(candidate) == [1]
    assert len(scene.decisions()) == 1


async def test_another_body_under_the_same_key_is_refused(scene: Scene) -> None:
    """A key stands for one request."""
    (candidate,) = await scene.offer()
    request = keyed()
    await scene.chat(headers=request)
    other = await scene.chat(headers=request, temperature=0.5)
    assert (other.status_code, error_code(other)) == (422, "idempotency_key_reused")
    assert await scene.called(candidate) == [1]


async def test_keys_are_each_agents_own(scene: Scene) -> None:
    """Nobody can find out or block what another tenant's key is."""
    (candidate,) = await scene.offer()
    request, other = keyed(), scene.make_tenant(balance_nano_usd=10**9)
    for key in (scene.tenant.api_key, other.api_key):
        assert (await scene.chat(headers=request, key=key)).status_code == 200
    assert await scene.called(candidate) == [2]


async def test_a_repeat_waits_so_long_and_then_is_told_when_to_come_back(scene: Scene) -> None:
    """The first one goes on; it is on another backend."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall"})
    request = keyed()
    first = scene.start(scene.chat(headers=request))
    await scene.until_called(candidate)
    early = await scene.chat(headers=request, backend=scene.backends[1])
    assert (early.status_code, error_code(early)) == (409, "request_in_progress")
    assert int(early.headers["retry-after"]) > 0
    await scene.release(candidate)
    assert (await first).status_code == 200
    assert await scene.called(candidate) == [1]


async def test_a_request_that_failed_for_free_may_be_sent_again(scene: Scene) -> None:
    """Whoever waited for it is the next to try."""
    (candidate,) = await scene.offer()
    failure: Behaviour = {"kind": "status", "status": 500, "latency_seconds": 0.5}
    await scene.script(candidate, failure, default={"kind": "answer", "content": "42"})
    request = keyed()
    first, second = await asyncio.gather(scene.chat(headers=request), scene.chat(headers=request))
    assert sorted([first.status_code, second.status_code]) == [200, 503]
    assert await scene.called(candidate) == [2]
    outcomes = sorted(facts(decision)[0] for decision in scene.decisions())
    assert outcomes == ["failed_provider_error", "succeeded"]


async def test_a_refused_request_may_be_sent_again(scene: Scene) -> None:
    """After a top-up, say."""
    await scene.offer()
    tenant, request = scene.make_tenant(balance_nano_usd=1), keyed()
    assert (await scene.chat(key=tenant.api_key, headers=request)).status_code == 402
    scene.rows.top_up(tenant.organization_id, 10**9)
    assert (await scene.chat(key=tenant.api_key, headers=request)).status_code == 200


async def test_a_stream_claims_its_key_and_is_charged_once(scene: Scene) -> None:
    """It is not stored, even where plain answers are."""
    (candidate,) = await scene.offer()
    tenant, request = keeper(scene), keyed()
    await scene.script(candidate, default={"kind": "answer", "content": "42"})
    first = await scene.chat(key=tenant.api_key, headers=request, stream=True)
    assert contents(first.text) == "42"
    again = await scene.chat(key=tenant.api_key, headers=request, stream=True)
    assert (again.status_code, error_code(again)) == (409, "request_done")
    assert await scene.called(candidate) == [1]


async def test_a_caller_that_left_does_not_pay_twice(scene: Scene) -> None:
    """What its broken connection cost is settled; the repeat is told so and calls nobody."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, {"kind": "stall"}, default={"kind": "answer"})
    request = keyed()
    call = scene.start(scene.chat(headers=request))
    await scene.until_called(candidate)
    call.cancel()
    await scene.completed()
    again = await scene.chat(headers=request)
    assert (again.status_code, again.json()["error"]["details"]["outcome_status"]) == (409, "cancelled")
    assert await scene.called(candidate) == [1]


async def test_a_revoked_key_is_not_told_of_another_request(scene: Scene) -> None:
    """The opening checks the caller before the Idempotency-Key."""
    await scene.offer()
    tenant, request = keeper(scene), keyed()
    await scene.chat(key=tenant.api_key, headers=request)
    scene.rows.query("update public.api_keys set revoked_at = now() where id = %(id)s", id=tenant.api_key_id)
    again = await scene.chat(key=tenant.api_key, headers=request)
    assert (again.status_code, error_code(again)) == (401, "invalid_api_key")


@pytest.mark.parametrize("values", [[b""], [b"x" * 256], [b"a\tb"], [b"schl\xfcssel"], [b"one", b"two"]])
async def test_a_key_that_is_none_is_refused(scene: Scene, values: list[bytes]) -> None:
    """Before anything is opened."""
    await scene.offer()
    request = scene.request()
    headers = [*request.headers.raw, *((b"idempotency-key", value) for value in values)]
    response = await scene.http.send(
        httpx.Request("POST", request.url, headers=headers, content=request.content)
    )
    assert (response.status_code, error_code(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == "idempotency-key"
    assert not scene.decisions()
