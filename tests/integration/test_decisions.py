"""Decisions read back: through the backend with a key or a token, and straight from the Data API by the tenant."""

from typing import Any
from uuid import UUID

import pytest

from backend.ids import uuid7
from tests.support.scene import DECISION_HEADER, Scene, error_code
from tests.support.tenant import Tenant

SERVER_ERROR: dict[str, object] = {"kind": "status", "status": 500}


def member_of(scene: Scene, tenant: Tenant) -> str:
    """Mint the token of a tenant's member."""
    return scene.stack.mint_user_token(tenant.user_id, tenant.organization_id)


async def ids(scene: Scene, key: str, **query: object) -> list[UUID]:
    """Return the ids that GET /v1/decisions lists to somebody."""
    response = await scene.get("/v1/decisions", key=key, params=query)
    assert response.status_code == 200
    return [UUID(row["id"]) for row in response.json()["data"]]


async def call(scene: Scene, key: str, times: int = 1) -> list[UUID]:
    """Make calls with a key; return the decisions' ids in their order."""
    responses = [await scene.chat(key=key) for _ in range(times)]
    assert {response.status_code for response in responses} == {200}
    return [UUID(response.headers[DECISION_HEADER]) for response in responses]


async def data_api(scene: Scene, token: str | None, path: str) -> Any:
    """Read from the Data API as a browser does, with the publishable key and perhaps a token."""
    endpoints = scene.stack.endpoints
    headers = {"apikey": endpoints.publishable_key, "authorization": f"Bearer {token}"}
    if token is None:
        del headers["authorization"]
    return (await scene.http.get(f"{endpoints.supabase_url}/rest/v1/{path}", headers=headers)).json()


async def test_decisions_are_listed_newest_first(scene: Scene) -> None:
    """To the key that made them and to a member of the organization."""
    await scene.offer()
    made = await call(scene, scene.tenant.api_key, 3)
    for key in (scene.tenant.api_key, member_of(scene, scene.tenant)):
        assert await ids(scene, key) == made[::-1]


async def test_decisions_are_read_page_by_page(scene: Scene) -> None:
    """`before` is the last id seen; nothing is left out or comes twice."""
    await scene.offer()
    made = await call(scene, scene.tenant.api_key, 5)
    key = scene.tenant.api_key
    first = await ids(scene, key, limit=2)
    second = await ids(scene, key, limit=2, before=first[-1])
    third = await ids(scene, key, limit=2, before=second[-1])
    assert first + second + third == made[::-1]
    assert await ids(scene, key, limit=2, before=third[-1]) == []
    response = await scene.get("/v1/decisions", params={"limit": 2})
    assert response.json()["has_more"] is True


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"before": "x"}])
async def test_a_wrong_page_is_400(scene: Scene, query: dict[str, object]) -> None:
    """The field is named."""
    response = await scene.get("/v1/decisions", params=query)
    assert (response.status_code, error_code(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] in query


async def test_a_decision_shows_its_attempts_in_order_and_its_candidates(scene: Scene) -> None:
    """With errors, tokens, costs, and the linked attempt: as in the rows."""
    first, second = await scene.offer(2)
    await scene.script(first, default=SERVER_ERROR)
    (decision_id,) = await call(scene, scene.tenant.api_key)
    row = scene.decision()
    for key in (scene.tenant.api_key, member_of(scene, scene.tenant)):
        shown = (await scene.get(f"/v1/decisions/{decision_id}", key=key)).json()
        assert [attempt["attempt_number"] for attempt in shown["attempts"]] == [1, 2]
        assert [attempt["model"] for attempt in shown["attempts"]] == [first.model, second.model]
        assert [attempt["status"] for attempt in shown["attempts"]] == ["failed", "succeeded"]
        assert shown["attempts"][0]["error_class"] == "server_error"
        assert shown["inference_id"] == shown["attempts"][1]["id"] == str(row["inference_id"])
        assert shown["charge_nano_usd"] == row["charge_nano_usd"]
        assert shown["candidates"] == row["candidates"]
        assert shown["routing_request"] == row["routing_request"]


async def test_a_token_of_another_organization_reads_nothing(scene: Scene) -> None:
    """Neither the list nor the decision, through the backend or straight from the Data API."""
    await scene.offer()
    (decision_id,) = await call(scene, scene.tenant.api_key)
    other = scene.make_tenant(balance_nano_usd=10**9)
    for key in (other.api_key, member_of(scene, other)):
        assert await ids(scene, key) == []
        response = await scene.get(f"/v1/decisions/{decision_id}", key=key)
        assert (response.status_code, error_code(response)) == (404, "not_found")
    foreign = await data_api(scene, member_of(scene, other), "routing_outcomes?select=id")
    assert foreign == []


async def test_a_foreign_decision_looks_like_one_that_is_not_there(scene: Scene) -> None:
    """But for the id, the answers are the same."""
    await scene.offer()
    (decision_id,) = await call(scene, scene.tenant.api_key)
    other = scene.make_tenant(balance_nano_usd=10**9)
    nowhere = uuid7()
    foreign = await scene.get(f"/v1/decisions/{decision_id}", key=other.api_key)
    missing = await scene.get(f"/v1/decisions/{nowhere}", key=other.api_key)
    assert foreign.text.replace(str(decision_id), "ID") == missing.text.replace(str(nowhere), "ID")


async def test_an_agents_key_reads_only_its_own_agents_decisions(scene: Scene) -> None:
    """A member reads those of all agents."""
    await scene.offer()
    second = scene.rows.agent(scene.tenant.organization_id, "second agent")
    _, second_key = scene.rows.api_key(scene.tenant.organization_id, second)
    (mine,) = await call(scene, scene.tenant.api_key)
    (theirs,) = await call(scene, second_key)
    assert await ids(scene, scene.tenant.api_key) == [mine]
    assert await ids(scene, second_key) == [theirs]
    assert (await scene.get(f"/v1/decisions/{theirs}")).status_code == 404
    assert await ids(scene, member_of(scene, scene.tenant)) == [theirs, mine]


async def test_a_tenant_reads_its_own_record_and_money_from_the_data_api(scene: Scene) -> None:
    """With the same token that calls the backend, under row level security."""
    await scene.offer()
    scene.rows.cap(scene.tenant.organization_id, None, 10**9, window="day")
    token = member_of(scene, scene.tenant)
    (decision_id,) = await call(scene, token)
    decision = scene.decision()
    embed = "attempts:inferences!inferences_routing_outcome_fkey(id,cost_nano_usd)"
    (shown,) = await data_api(scene, token, f"routing_outcomes?select=id,outcome_status,{embed}")
    assert (shown["id"], shown["outcome_status"]) == (str(decision_id), "succeeded")
    assert [attempt["id"] for attempt in shown["attempts"]] == [str(decision["inference_id"])]
    (wallet,) = await data_api(scene, token, "wallets?select=balance_nano_usd,held_nano_usd")
    assert (wallet["balance_nano_usd"], wallet["held_nano_usd"]) == scene.wallet()
    (counter,) = await data_api(scene, token, "spend_counters?select=charged_nano_usd")
    assert counter["charged_nano_usd"] == decision["charge_nano_usd"]
    entries = await data_api(scene, token, "ledger_entries?select=kind,routing_outcome_id&kind=eq.settlement")
    assert entries == [{"kind": "settlement", "routing_outcome_id": str(decision_id)}]


@pytest.mark.parametrize(
    "table", ["routing_outcomes", "inferences", "wallets", "ledger_entries", "api_keys", "organizations"]
)
async def test_without_a_token_nothing_can_be_read(scene: Scene, table: str) -> None:
    """The publishable key alone is anonymous: permission is denied."""
    await scene.offer()
    await call(scene, scene.tenant.api_key)
    answer = await data_api(scene, None, f"{table}?select=*")
    assert answer["code"] == "42501"
