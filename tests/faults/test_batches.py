"""The record's functions with batches larger than one, as the Data API takes them: each item succeeds or fails alone."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.invariants import violations
from tests.support.scene import Scene, facts, open_scene
from tests.support.tenant import Candidate, Tenant

BOUND_NANO_USD = 100_000
ITEMS = 40
Item = dict[str, Any]


@pytest.fixture
async def scene(stack: Stack, backend: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene; the backend only has to list the candidates."""
    async with open_scene(stack, backend) as scene:
        yield scene


async def rpc(scene: Scene, function: str, items: list[Item]) -> list[Item]:
    """Call a function through PostgREST with the secret key."""
    endpoints = scene.stack.endpoints
    response = await scene.http.post(
        f"{endpoints.supabase_url}/rest/v1/rpc/{function}",
        headers={"apikey": endpoints.secret_key},
        json={"items": items},
    )
    assert response.status_code == 200, response.text
    answers: list[Item] = response.json()
    return answers


def opening(scene: Scene, candidate: Candidate, tenant: Tenant, **fields: object) -> Item:
    """Return an item that opens a decision with its first attempt."""
    (newest,) = scene.rows.query("select max(version) as version from public.catalogue_snapshots")
    item = {
        "id": uuid7(),
        "organization_id": tenant.organization_id,
        "agent_id": tenant.agent_id,
        "api_key_id": tenant.api_key_id,
        "requested_model": "auto",
        "requested_rule": "cheapest_clearing_floor",
        "floor": 0.5,
        "task": "chat",
        "stream": False,
        "catalogue_version": newest["version"],
        "routing_request": {},
        "candidates": [],
        "lease_seconds": 900,
        "inference_id": uuid7(),
        "candidate_id": candidate.id,
        "price_id": candidate.price_id,
        "bound_nano_usd": BOUND_NANO_USD,
    }
    return {name: text(value) for name, value in (item | fields).items()}


def text(value: object) -> object:
    """Return ids as JSON has them."""
    return str(value) if isinstance(value, UUID) else value


def result(inference_id: object, status: str, output_tokens: int = 0) -> Item:
    """Return what became of an attempt."""
    reported = {"prompt_tokens": 0, "completion_tokens": output_tokens} if status == "succeeded" else None
    return {
        "inference_id": text(inference_id),
        "status": status,
        "http_calls": 1,
        "http_status": 200 if status == "succeeded" else 500,
        "output_tokens": output_tokens,
        "usage_source": "provider" if reported else "none",
        "usage_convention": "openai" if reported else None,
        "reported_usage": reported,
    }


def completion(item: Item, output_tokens: int = 10) -> Item:
    """Return an item that completes what ``item`` opened."""
    return {
        "id": item["id"],
        "organization_id": item["organization_id"],
        "outcome_status": "succeeded",
        "attempt": result(item["inference_id"], "succeeded", output_tokens),
    }


def held(scene: Scene, tenant: Tenant) -> int:
    """Return what of a tenant's wallet is held."""
    query = "select held_nano_usd from public.wallets where organization_id = %(id)s"
    amount: int = scene.rows.query(query, id=tenant.organization_id)[0]["held_nano_usd"]
    return amount


async def test_in_a_batch_of_openings_each_item_stands_alone(scene: Scene) -> None:
    """One unknown agent, one wrong price, one over its cap, one without funds, one revoked key: the others open."""
    (candidate,) = await scene.offer()
    good = [opening(scene, candidate, scene.tenant) for _ in range(ITEMS)]
    capped, poor, revoked = (
        scene.make_tenant(balance_nano_usd=b) for b in (10**9, BOUND_NANO_USD - 1, 10**9)
    )
    scene.rows.cap(capped.organization_id, None, BOUND_NANO_USD - 1)
    scene.rows.query("update public.api_keys set revoked_at = now() where id = %(id)s", id=revoked.api_key_id)
    bad = [
        (opening(scene, candidate, scene.tenant, agent_id=uuid7()), None, "unknown_agent_or_price"),
        (opening(scene, candidate, scene.tenant, price_id=uuid7()), None, "unknown_agent_or_price"),
        (opening(scene, candidate, scene.tenant, agent_id=poor.agent_id), None, "unknown_agent_or_price"),
        (opening(scene, candidate, capped), "rejected_cap", None),
        (opening(scene, candidate, poor), "rejected_funds", None),
        (opening(scene, candidate, revoked), "rejected_key", None),
    ]
    batch = [*good[: ITEMS // 2], *(item for item, _, _ in bad), *good[ITEMS // 2 :]]
    answers = await rpc(scene, "insert_decisions", batch)
    assert [answer["id"] for answer in answers] == [item["id"] for item in batch]
    by_id = {answer["id"]: (answer["outcome_status"], answer["error"]) for answer in answers}
    assert {by_id[item["id"]] for item in good} == {(None, None)}
    assert [by_id[item["id"]] for item, _, _ in bad] == [(outcome, error) for _, outcome, error in bad]
    assert held(scene, scene.tenant) == ITEMS * BOUND_NANO_USD
    assert [facts(scene.decision(tenant))[:3] for tenant in (capped, poor, revoked)] == [
        (outcome, "failed_pre_dispatch", None) for _, outcome, _ in bad[3:]
    ]
    await rpc(scene, "complete_decisions", [completion(item) for item in good])


async def test_a_batch_sent_twice_is_a_batch_sent_once(scene: Scene) -> None:
    """Openings, next attempts and completions alike: the same answers, and no second hold, attempt or charge."""
    first, second = await scene.offer(2)
    openings = [opening(scene, first, scene.tenant) for _ in range(ITEMS)]
    nexts = [next_attempt(item, second) for item in openings[: ITEMS // 2]]
    ends = [
        completion({**item, "inference_id": following["inference_id"]})
        for item, following in zip(openings[: ITEMS // 2], nexts, strict=True)
    ] + [completion(item) for item in openings[ITEMS // 2 :]]
    for function, items in (
        ("insert_decisions", openings),
        ("insert_attempts", nexts),
        ("complete_decisions", ends),
    ):
        once = await rpc(scene, function, items)
        rows_once, wallet_once = scene.decisions(), scene.wallet()
        assert await rpc(scene, function, items) == once
        assert (scene.decisions(), scene.wallet()) == (rows_once, wallet_once)
    assert {decision["outcome_status"] for decision in scene.decisions()} == {"succeeded"}
    assert sum(len(decision["attempts"]) for decision in scene.decisions()) == ITEMS + ITEMS // 2


def next_attempt(item: Item, candidate: Candidate, bound_nano_usd: int = 2 * BOUND_NANO_USD) -> Item:
    """Return an item that gives up the first attempt of a decision and opens the next one."""
    return {
        "decision_id": item["id"],
        "organization_id": item["organization_id"],
        "lease_seconds": 900,
        "inference_id": str(uuid7()),
        "candidate_id": str(candidate.id),
        "price_id": str(candidate.price_id),
        "bound_nano_usd": bound_nano_usd,
        "previous": result(item["inference_id"], "failed"),
    }


async def test_in_a_batch_of_failovers_each_item_stands_alone(scene: Scene) -> None:
    """Where the raise does not fit, that decision is completed with its last attempt linked; the others go on."""
    first, second = await scene.offer(2)
    openings = [opening(scene, first, scene.tenant) for _ in range(ITEMS)]
    poor = scene.make_tenant(balance_nano_usd=BOUND_NANO_USD)
    broke = opening(scene, first, poor)
    await rpc(scene, "insert_decisions", [*openings, broke])
    nexts = [next_attempt(item, second) for item in [*openings[:5], broke, *openings[5:]]]
    answers = await rpc(scene, "insert_attempts", nexts)
    assert [answer["opened"] for answer in answers] == [True] * 5 + [False] + [True] * (ITEMS - 5)
    assert answers[5]["outcome_status"] == "rejected_funds"
    assert facts(scene.decision(poor)) == ("rejected_funds", "cheapest_clearing_floor", 1, ["failed"])
    assert held(scene, scene.tenant) == 2 * ITEMS * BOUND_NANO_USD
    ends = [
        completion({**item, "inference_id": answer["inference_id"]})
        for item, answer in zip(openings, answers[:5] + answers[6:], strict=True)
    ]
    await rpc(scene, "complete_decisions", ends)


async def test_in_a_batch_of_completions_an_unknown_decision_is_answered_with_nothing(scene: Scene) -> None:
    """So is one of another organization; the others are settled, each by its own usage."""
    (candidate,) = await scene.offer()
    other = scene.make_tenant(balance_nano_usd=10**9)
    openings = [opening(scene, candidate, scene.tenant) for _ in range(ITEMS)]
    foreign = opening(scene, candidate, other)
    await rpc(scene, "insert_decisions", [*openings, foreign])
    ends = [completion(item, output_tokens=number) for number, item in enumerate(openings)]
    unknown = completion(opening(scene, candidate, scene.tenant))
    stolen = completion(foreign) | {"organization_id": openings[0]["organization_id"]}
    answers = await rpc(scene, "complete_decisions", [unknown, *ends, stolen])
    assert [answers[0]["outcome_status"], answers[-1]["outcome_status"]] == [None, None]
    assert [answer["charge_nano_usd"] for answer in answers[1:-1]] == [n * 1000 for n in range(ITEMS)]
    assert any("nothing_is_under_way" in fault for fault in violations(scene.rows, other.organization_id))
    await rpc(scene, "complete_decisions", [completion(foreign)])


@pytest.mark.parametrize("limit", ["funds", "cap"])
async def test_a_batch_takes_exactly_what_fits(scene: Scene, limit: str) -> None:
    """Of one tenant's items those first in time open, up to the limit; another tenant in the batch is not concerned."""
    (candidate,) = await scene.offer()
    worth = 7 * BOUND_NANO_USD + BOUND_NANO_USD // 2
    tenant = scene.make_tenant(balance_nano_usd=worth if limit == "funds" else 10**9)
    if limit == "cap":
        scene.rows.cap(tenant.organization_id, tenant.agent_id, worth, window="day")
    tight = [opening(scene, candidate, tenant) for _ in range(ITEMS)]
    easy = [opening(scene, candidate, scene.tenant) for _ in range(ITEMS)]
    batch = [item for pair in zip(tight, easy, strict=True) for item in pair]
    answers = {
        answer["id"]: answer["outcome_status"] for answer in await rpc(scene, "insert_decisions", batch)
    }
    in_time = sorted(item["id"] for item in tight)
    assert [answers[item] for item in in_time] == [None] * 7 + [f"rejected_{limit}"] * (ITEMS - 7)
    assert {answers[item["id"]] for item in easy} == {None}
    opened = [item for item in batch if answers[item["id"]] is None]
    await rpc(scene, "complete_decisions", [completion(item) for item in opened])


async def test_a_wallet_that_somebody_holds_does_not_keep_others_from_being_swept(scene: Scene) -> None:
    """The sweep leaves it for the next time, and waits for nothing."""
    (candidate,) = await scene.offer()
    other = scene.make_tenant(balance_nano_usd=10**9)
    await rpc(
        scene,
        "insert_decisions",
        [opening(scene, candidate, tenant, lease_seconds=-1) for tenant in (scene.tenant, other)],
    )
    lock = "select from public.wallets where organization_id = %s for no key update"
    with psycopg.connect(scene.stack.endpoints.superuser_url) as holder:
        holder.execute(lock, [scene.tenant.organization_id])
        scene.rows.query("set lock_timeout = '1ms'")
        scene.rows.query("select public.sweep_decisions(500)")
        assert scene.decision(other)["outcome_status"] == "abandoned"
        assert scene.decision()["outcome_status"] is None
    scene.rows.query("select public.sweep_decisions(500)")
    assert scene.decision()["outcome_status"] == "abandoned"
