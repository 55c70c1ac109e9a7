"""Refusals: before any call, or of the higher reservation for a failover. All are complete rows and clean answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.support.gateway_fixtures import CANARY_VARIABLE
from tests.support.scene import DECISION_HEADER, Decision, Scene, error_code, facts
from tests.support.tenant import Rows

# More than the cheapest candidate's bound (about 330,000), less than the next one's (about 660,000).
BETWEEN_TWO_BOUNDS_NANO_USD = 450_000
SERVER_ERROR: dict[str, object] = {"kind": "status", "status": 500}


def break_cap(scene: Scene) -> None:
    """Leave the agent next to nothing of a cap that does not reset."""
    scene.rows.cap(scene.tenant.organization_id, scene.tenant.agent_id, 1)


def break_organization_cap(scene: Scene) -> None:
    """Leave the organization next to nothing for this hour."""
    scene.rows.cap(scene.tenant.organization_id, None, 1, window="hour")


def break_funds(scene: Scene) -> None:
    """Let a request under way hold all of the wallet: the balance is there, but nothing of it is free."""
    scene.rows.query(
        "update public.wallets set held_nano_usd = balance_nano_usd - 1 where organization_id = %(id)s",
        id=scene.tenant.organization_id,
    )


def mend_funds(scene: Scene) -> None:
    """Take back what :func:`break_funds` did."""
    scene.rows.query(
        "update public.wallets set held_nano_usd = 0 where organization_id = %(id)s",
        id=scene.tenant.organization_id,
    )


def switch_off(scene: Scene) -> None:
    """Switch the agent off."""
    scene.rows.query("update public.agents set active = false where id = %(id)s", id=scene.tenant.agent_id)


def revoke_key(scene: Scene) -> None:
    """Revoke the key."""
    scene.rows.query(
        "update public.api_keys set revoked_at = now() where id = %(id)s", id=scene.tenant.api_key_id
    )


def expire_key(scene: Scene) -> None:
    """Let the key expire."""
    scene.rows.query(
        "update public.api_keys set expires_at = now() where id = %(id)s", id=scene.tenant.api_key_id
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("spoil", "outcome", "status", "code"),
    [
        (break_cap, "rejected_cap", 429, "spend_cap_reached"),
        (break_organization_cap, "rejected_cap", 429, "spend_cap_reached"),
        (break_funds, "rejected_funds", 402, "insufficient_funds"),
        (switch_off, "rejected_inactive", 403, "access_denied"),
        (revoke_key, "rejected_key", 401, "invalid_api_key"),
        (expire_key, "rejected_key", 401, "invalid_api_key"),
    ],
)
async def test_a_refusal_before_dispatch_completes_the_decision_without_an_inference(  # noqa: PLR0913
    scene: Scene, spoil: Callable[[Scene], None], outcome: str, status: int, code: str, *, stream: bool
) -> None:
    """The caller is known and cached when it happens: the opening asks the database again. Nothing is called."""
    (candidate,) = await scene.offer()
    assert (await scene.chat()).status_code == 200
    spoil(scene)
    balance, _ = scene.wallet()
    response = await scene.chat(stream=stream)
    assert (response.status_code, error_code(response)) == (status, code)
    assert response.headers["x-should-retry"] == "false"
    _, refused = scene.decisions()
    assert facts(refused) == (outcome, "failed_pre_dispatch", None, [])
    assert refused["requested_rule"] == "cheapest_clearing_floor"
    assert response.headers[DECISION_HEADER] == str(refused["id"])
    assert await scene.called(candidate) == [1]
    assert scene.wallet()[0] == balance
    mend_funds(scene)


async def test_a_cap_that_resets_says_when(scene: Scene) -> None:
    """Retry-After is the time to the end of the window; the figures are in the details and in the row."""
    await scene.offer()
    break_organization_cap(scene)
    response = await scene.chat()
    assert 0 <= int(response.headers["retry-after"]) <= 3600
    details = response.json()["error"]["details"]
    assert details == scene.decision()["refusal"]
    assert (details["cap_nano_usd"], details["window"], details["scope"]) == (1, "hour", "organization")
    assert details["needed_nano_usd"] > 1


@pytest.mark.parametrize(
    ("money", "outcome", "status"), [("funds", "rejected_funds", 402), ("cap", "rejected_cap", 429)]
)
async def test_a_refused_reservation_for_a_failover_links_the_last_attempt_made(
    scene: Scene, money: str, outcome: str, status: int
) -> None:
    """The first attempt was made and failed; the dearer second one is not opened. The rule stays as requested."""
    first, second = await scene.offer(2)
    await scene.script(first, default=SERVER_ERROR)
    tenant = scene.tenant
    if money == "funds":
        tenant = scene.make_tenant(balance_nano_usd=BETWEEN_TWO_BOUNDS_NANO_USD)
    else:
        scene.rows.cap(tenant.organization_id, None, BETWEEN_TWO_BOUNDS_NANO_USD)
    response = await scene.chat(key=tenant.api_key)
    assert response.status_code == status
    assert response.headers["x-clearfloor-attempts"] == "1"
    assert "Nothing was called" not in response.text
    decision = scene.decision(tenant)
    assert facts(decision) == (outcome, "cheapest_clearing_floor", 1, ["failed"])
    assert decision["refusal"]["needed_nano_usd"] < decision["candidates"][1]["bound_nano_usd"]
    assert await scene.called(first, second) == [1, 0]


def assert_completed_before_dispatch(decision: Decision) -> None:
    """Check the row of a request for which no call was possible."""
    assert facts(decision) == ("failed_provider_error", "failed_pre_dispatch", None, [])
    assert decision["requested_rule"] == "cheapest_clearing_floor"
    assert (decision["reserved_nano_usd"], decision["charge_nano_usd"]) == (0, 0)


async def test_every_candidate_cooling_down_before_a_call_is_a_clean_503(scene: Scene) -> None:
    """The row is complete, no call is made, and Retry-After names the earliest candidate's moment."""
    for candidate, seconds in zip(await scene.offer(2), ("900", "600"), strict=True):
        await scene.script(candidate, default={"kind": "status", "status": 429, "retry_after": seconds})
    await scene.chat()
    assert await scene.called() == [1, 1]
    response = await scene.chat()
    assert (response.status_code, error_code(response)) == (503, "all_candidates_failed")
    assert 500 < int(response.headers["retry-after"]) <= 600
    assert response.headers["x-clearfloor-attempts"] == "0"
    assert_completed_before_dispatch(scene.decisions()[1])
    assert await scene.called() == [1, 1]


async def test_every_candidate_without_credentials_before_a_call_is_a_clean_503(scene: Scene) -> None:
    """The catalogue names a variable that is not set: no call is made, not even one without a key."""
    provider = scene.rows.provider(scene.provider_url, api_key_variable=f"{CANARY_VARIABLE}_THAT_IS_NOT_SET")
    await scene.offer_of(provider, 2, is_callable=False)
    response = await scene.chat()
    assert (response.status_code, error_code(response)) == (503, "all_candidates_failed")
    assert response.headers["x-should-retry"] == "false"
    decision = scene.decision()
    assert_completed_before_dispatch(decision)
    assert [entry["reason"] for entry in decision["passed_over"]] == ["no_credentials"] * 2
    assert await scene.called() == [0, 0]
    assert not {candidate.model for candidate in scene.candidates} & await scene.listed_models()


async def test_an_unavailable_candidate_is_passed_over_without_an_attempt(scene: Scene) -> None:
    """The next one is attempt 1, and the decision says why it answered."""
    provider = scene.rows.provider(scene.provider_url, api_key_variable="TEST_KEY_THAT_IS_NOT_SET")
    (unavailable,) = await scene.offer_of(provider, is_callable=False)
    (available,) = await scene.offer()
    response = await scene.chat()
    assert (response.headers["x-clearfloor-model"], response.headers["x-clearfloor-attempts"]) == (
        available.model,
        "1",
    )
    decision = scene.decision()
    assert facts(decision) == ("succeeded", "cheapest_clearing_floor", 1, ["succeeded"])
    (passed_over,) = decision["passed_over"]
    assert (passed_over["model"], passed_over["reason"]) == (unavailable.model, "no_credentials")
    assert decision["candidates"][0]["model"] == unavailable.model


async def test_no_candidate_clears_the_floor(scene: Scene) -> None:
    """422 with the best quality there is; a complete row under its own rule; nothing is called."""
    await scene.offer(2, quality=0.8)
    response = await scene.chat(model="auto:0.95")
    assert (response.status_code, error_code(response)) == (422, "no_candidate_clears_floor")
    assert response.json()["error"]["details"]["best_quality"] == 0.8
    assert facts(scene.decision()) == ("rejected_no_candidate", "no_candidate_cleared_floor", None, [])
    assert await scene.called() == [0, 0]


async def test_failover_never_goes_below_the_floor(scene: Scene) -> None:
    """The better candidate fails; the one under the floor would answer, and is not asked."""
    (below,) = await scene.offer(quality=0.4)
    (clearing,) = await scene.offer(quality=0.9)
    await scene.script(clearing, default=SERVER_ERROR)
    assert (await scene.chat()).status_code == 503
    assert await scene.called(below, clearing) == [0, 1]


@contextmanager
def faulty_database(rows: Rows, organization_id: object) -> Iterator[str]:
    """Let the database refuse to write one organization's decisions; give the word that its error text has."""
    name = "test_fault_must_not_be_seen"
    rows.query(
        f"alter table public.routing_outcomes add constraint {name}"  # no outside text
        f" check (organization_id <> '{organization_id}') not valid"
    )
    try:
        yield name
    finally:
        rows.query(f"alter table public.routing_outcomes drop constraint {name}")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_database_never_reaches_a_caller(scene: Scene, *, stream: bool) -> None:
    """The caller gets 500 without a word of the database; nothing was called."""
    await scene.offer()
    with faulty_database(scene.rows, scene.tenant.organization_id) as word:
        response: httpx.Response = await scene.chat(stream=stream)
    assert (response.status_code, error_code(response)) == (500, "internal_error")
    for secret in (word, "violates", "23514", "routing_outcomes", "PGRST"):
        assert secret not in response.text
    assert await scene.called() == [0]
    assert scene.decisions() == []
