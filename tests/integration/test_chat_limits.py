"""What a request may take: as many output tokens as there is money for, and so many requests and tokens a minute."""

import pytest

from tests.support.scene import Scene, error_code, facts
from tests.support.tenant import OUTPUT_NANO_USD_PER_MTOK, Tenant

CLAMPED_HEADER = "x-clearfloor-clamped-max-tokens"
MOST_TOKENS = 5000
# Two answers of 5,000 tokens may cost 10,000,000 nano-USD; this is less, and more than the input may cost.
LITTLE_NANO_USD = 4_000_000
NANO_USD_PER_TOKEN = OUTPUT_NANO_USD_PER_MTOK // 1_000_000


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", ["funds", "cap"])
async def test_a_clamped_request_gets_as_many_tokens_as_there_is_money_for(
    scene: Scene, limit: str, *, stream: bool
) -> None:
    """The provider is sent the lower limit, the answer says which, and every nano-USD that is left is used."""
    (candidate,) = await scene.offer()
    tenant = scene.make_tenant(balance_nano_usd=LITTLE_NANO_USD if limit == "funds" else 10**9)
    if limit == "cap":
        scene.rows.cap(tenant.organization_id, tenant.agent_id, LITTLE_NANO_USD, window="day")
    request = {"key": tenant.api_key, "n": 2, "max_tokens": MOST_TOKENS, "stream": stream}
    refused = await scene.chat(**request)
    assert refused.status_code in (402, 429)
    assert refused.headers[CLAMPED_HEADER] == "none"
    response = await scene.chat(**request, clearfloor={"clamp": True})
    clamped = int(response.headers[CLAMPED_HEADER])
    assert 0 < clamped < MOST_TOKENS
    (call,) = await scene.calls(candidate)
    assert call["body"]["max_tokens"] == clamped
    decision = scene.decisions(tenant)[-1]
    (attempt,) = decision["attempts"]
    assert facts(decision) == ("succeeded", "cheapest_clearing_floor", 1, ["succeeded"])
    assert decision["reserved_nano_usd"] == attempt["bound_nano_usd"] == LITTLE_NANO_USD
    assert attempt["output_limit_tokens"] == clamped
    ranked = decision["candidates"][0]["bound_nano_usd"]
    saved = ranked - LITTLE_NANO_USD
    assert 0 <= 2 * (MOST_TOKENS - clamped) * NANO_USD_PER_TOKEN - saved < 2 * NANO_USD_PER_TOKEN


async def test_a_clamped_request_that_fits_is_left_alone(scene: Scene) -> None:
    """Nothing is lowered that need not be."""
    await scene.offer()
    response = await scene.chat(max_tokens=MOST_TOKENS, clearfloor={"clamp": True})
    assert (response.status_code, response.headers[CLAMPED_HEADER]) == (200, "none")
    assert scene.decision()["attempts"][0]["output_limit_tokens"] == MOST_TOKENS


async def test_a_clamped_request_without_money_for_one_token_is_refused(scene: Scene) -> None:
    """The refusal says what the least is."""
    await scene.offer()
    tenant = scene.make_tenant(balance_nano_usd=1000)
    response = await scene.chat(key=tenant.api_key, clearfloor={"clamp": True})
    assert (response.status_code, error_code(response)) == (402, "insufficient_funds")
    (decision,) = scene.decisions(tenant)
    needed = response.json()["error"]["details"]["needed_nano_usd"]
    assert 1000 < needed < decision["candidates"][0]["bound_nano_usd"]


async def test_a_clamped_failover_goes_on_with_what_is_left(scene: Scene) -> None:
    """The dearer candidate gets the whole wallet, and fewer tokens for it."""
    first, second = await scene.offer(2)
    await scene.script(first, default={"kind": "status", "status": 500})
    tenant = scene.make_tenant(balance_nano_usd=6_000_000)
    response = await scene.chat(key=tenant.api_key, max_tokens=MOST_TOKENS, clearfloor={"clamp": True})
    (decision,) = scene.decisions(tenant)
    assert facts(decision) == ("succeeded", "cheapest_clearing_floor", 2, ["failed", "succeeded"])
    whole, clamped = decision["attempts"]
    assert (whole["output_limit_tokens"], clamped["bound_nano_usd"]) == (MOST_TOKENS, 6_000_000)
    assert int(response.headers[CLAMPED_HEADER]) == clamped["output_limit_tokens"] < MOST_TOKENS
    (call,) = await scene.calls(second)
    assert call["body"]["max_tokens"] == clamped["output_limit_tokens"]


async def test_requests_a_minute(scene: Scene) -> None:
    """The third of two is refused, with the moment to come back; nothing is called for it."""
    (candidate,) = await scene.offer()
    scene.rows.rate_limit(scene.tenant.organization_id, scene.tenant.agent_id, requests=2)
    statuses = [(await scene.chat()).status_code for _ in range(2)]
    assert statuses == [200, 200]
    response = await scene.chat()
    assert (response.status_code, error_code(response)) == (429, "rate_limit_reached")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "x-should-retry" not in response.headers
    refused = scene.decisions()[-1]
    assert facts(refused) == ("rejected_rate", "failed_pre_dispatch", None, [])
    assert response.json()["error"]["details"] == refused["refusal"]
    assert await scene.called(candidate) == [2]


async def test_tokens_a_minute_are_given_back_where_they_were_not_used(scene: Scene) -> None:
    """Two requests of up to 5,000 tokens fit in 6,000 a minute if the first answer was short."""
    await scene.offer()
    scene.rows.rate_limit(scene.tenant.organization_id, None, tokens=6000)
    for _ in range(2):
        assert (await scene.chat(max_tokens=MOST_TOKENS)).status_code == 200


async def test_more_tokens_than_a_minute_ever_has_are_never_to_be_sent_again(scene: Scene) -> None:
    """A client that waited and retried would do so for ever."""
    await scene.offer()
    scene.rows.rate_limit(scene.tenant.organization_id, None, tokens=1000)
    response = await scene.chat(max_tokens=MOST_TOKENS)
    assert (response.status_code, error_code(response)) == (429, "rate_limit_reached")
    assert "retry-after" not in response.headers
    assert response.headers["x-should-retry"] == "false"
    assert "never fits" in response.json()["error"]["message"]


def with_baseline(scene: Scene, model: str) -> Tenant:
    """Make a tenant whose agent would call a model if there were no gateway."""
    tenant = scene.make_tenant(balance_nano_usd=10**9)
    scene.rows.query(
        "update public.agents set baseline_model = %(model)s where id = %(id)s",
        model=model,
        id=tenant.agent_id,
    )
    return tenant


async def test_each_decision_says_what_others_would_have_cost(scene: Scene) -> None:
    """The dearest that cleared, and the agent's own model, at the tokens that were used: savings are a sum."""
    *_, third = await scene.offer(3)
    baseline = scene.rows.candidate(third.provider, dearness=10, quality=0.1)
    tenant = with_baseline(scene, baseline.model)
    await scene.offer()
    await scene.chat(key=tenant.api_key)
    decision = scene.decision(tenant)
    cost = decision["attempts"][0]["cost_nano_usd"]
    assert (decision["dearest_cost_nano_usd"], decision["baseline_cost_nano_usd"]) == (4 * cost, 10 * cost)


async def test_a_decision_of_an_agent_without_a_baseline_has_none(scene: Scene) -> None:
    """And one whose baseline nobody runs."""
    await scene.offer()
    await scene.chat()
    tenant = with_baseline(scene, "gone")
    await scene.chat(key=tenant.api_key)
    for decision in (scene.decision(), scene.decision(tenant)):
        assert decision["baseline_cost_nano_usd"] is None
        assert decision["dearest_cost_nano_usd"] == decision["charge_nano_usd"]
