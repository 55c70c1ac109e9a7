"""Ledger and usage as CSV, straight from the Data API: a member's own, and nobody else's."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.scene import Scene
from tests.support.tenant import Tenant

LEDGER = "ledger_entries?select=id,kind,amount_nano_usd,routing_outcome_id&order=created_at"
Row = dict[str, str]


def token_of(scene: Scene, tenant: Tenant) -> str:
    """Mint the token of a tenant's member."""
    return scene.stack.mint_user_token(tenant.user_id, tenant.organization_id)


def usage_since(hours: int = 2) -> dict[str, str]:
    """Return what usage by hour is asked for."""
    return {"bucket": "hour", "since": (datetime.now(UTC) - timedelta(hours=hours)).isoformat()}


async def read(
    scene: Scene, token: str | None, path: str, *, method: str = "GET", **arguments: Any
) -> httpx.Response:
    """Ask the Data API for CSV, as a spreadsheet does: with the publishable key and perhaps a token."""
    endpoints = scene.stack.endpoints
    headers = {"apikey": endpoints.publishable_key, "accept": "text/csv"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    url = f"{endpoints.supabase_url}/rest/v1/{path}"
    return await scene.http.request(method, url, headers=headers, **arguments)


def rows(response: httpx.Response) -> list[Row]:
    """Return the rows of an answer that is CSV."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.text)))


async def spend(scene: Scene) -> tuple[Tenant, Tenant]:
    """Let two tenants be charged, the first twice, and once refused; return them."""
    other = scene.make_tenant(balance_nano_usd=10**9)
    await scene.offer()
    for key in (scene.tenant.api_key, scene.tenant.api_key, other.api_key):
        assert (await scene.chat(key=key)).status_code == 200
    assert (await scene.chat(model="auto:1")).status_code == 422
    return scene.tenant, other


async def test_a_member_reads_its_ledger_as_csv(scene: Scene) -> None:
    """Every entry of its organization's, and none of another's."""
    for tenant in await spend(scene):
        entries = rows(await read(scene, token_of(scene, tenant), LEDGER))
        charged = [decision for decision in scene.decisions(tenant) if decision["charge_nano_usd"]]
        assert [entry["kind"] for entry in entries] == ["top_up"] + ["settlement"] * len(charged)
        assert [(entry["routing_outcome_id"], entry["amount_nano_usd"]) for entry in entries[1:]] == [
            (str(decision["id"]), str(decision["charge_nano_usd"])) for decision in charged
        ]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_member_reads_its_usage_as_csv(scene: Scene, method: str) -> None:
    """By agent, model and outcome: what its decisions add up to, and nothing of another organization's."""
    mine, other = await spend(scene)
    given = {"params": usage_since()} if method == "GET" else {"json": usage_since()}
    (model,) = scene.models
    for tenant, expected in ((mine, [("", "1", "0"), (model, "2", "2")]), (other, [(model, "1", "1")])):
        usage = rows(await read(scene, token_of(scene, tenant), "rpc/usage_by", method=method, **given))
        assert {row["agent_id"] for row in usage} == {str(tenant.agent_id)}
        assert sorted((row["model"], row["decisions"], row["attempts"]) for row in usage) == expected
        decisions = scene.decisions(tenant)
        for column in ("input_tokens", "output_tokens"):
            made = sum(attempt[column] for decision in decisions for attempt in decision["attempts"])
            assert sum(int(row[column]) for row in usage) == made
        charged = sum(decision["charge_nano_usd"] for decision in decisions)
        assert sum(int(row["charge_nano_usd"]) for row in usage) == charged > 0


@pytest.mark.parametrize("path", [LEDGER, "rpc/usage_by?bucket=day&since=2026-01-01"])
async def test_without_a_token_nothing_is_read(scene: Scene, path: str) -> None:
    """The publishable key alone is anonymous: permission is denied."""
    await spend(scene)
    answer = await read(scene, None, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")


async def test_a_user_without_an_organization_reads_nothing(scene: Scene) -> None:
    """The header, and no row."""
    mine, _ = await spend(scene)
    token = scene.stack.mint_user_token(mine.user_id, None)
    assert rows(await read(scene, token, LEDGER)) == []
    assert rows(await read(scene, token, "rpc/usage_by", params=usage_since())) == []


async def test_nobody_writes_by_reading_s_routes(scene: Scene) -> None:
    """A member that posts to the ledger is refused."""
    mine, _ = await spend(scene)
    entry = {"id": str(mine.user_id), "organization_id": str(mine.organization_id), "kind": "top_up"}
    answer = await read(scene, token_of(scene, mine), "ledger_entries", method="POST", json=entry)
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")


async def test_a_bucket_that_there_is_not_is_a_400_with_what_there_is(scene: Scene) -> None:
    """By the database's own words."""
    token = token_of(scene, scene.tenant)
    answer = await read(scene, token, "rpc/usage_by", params=usage_since() | {"bucket": "week"})
    assert (answer.status_code, answer.json()["code"]) == (400, "22023")
    assert answer.json()["hint"] == "hour, day or month."
