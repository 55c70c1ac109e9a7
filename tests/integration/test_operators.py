"""An operator's routes on the real record: each entry once, signed by its token's name; and nobody else gets in."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from backend.ids import uuid7
from backend.stack.stack import Stack
from backend.units import usd
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import ALLOWED_ORIGIN, CATALOGUE_REFRESH_SECONDS
from tests.support.scene import Scene, error_code, open_scene

ANN, BILLING = "ann", "billing.eu-1"
TOKENS = {ANN: "canary-of-ann-canary-of-ann-canary-of-ann", BILLING: "canary-of-billing-canary-of-billing"}
BALANCE_NANO_USD = 10**9


@pytest.fixture(scope="module")
def operated(stack: Stack) -> Iterator[BackendProcess]:
    """Run a backend with two operators."""
    variables = {
        "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
        "CLEARFLOOR_CORS_ALLOWED_ORIGINS": ALLOWED_ORIGIN,
        "CLEARFLOOR_OPERATOR_TOKENS": ",".join(f"{name}:{token}" for name, token in TOKENS.items()),
    }
    with BackendProcess(stack, **variables) as running:
        yield running
        assert not [token for token in TOKENS.values() if token in running.log()]


@pytest.fixture
async def scene(stack: Stack, operated: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with that backend."""
    async with open_scene(stack, operated) as scene:
        yield scene


async def post(
    scene: Scene,
    entries: str,
    *,
    token: str = TOKENS[ANN],
    organization_id: UUID | None = None,
    headers: dict[str, str] | None = None,
    **body: Any,  # any field of an entry
) -> httpx.Response:
    """Make an entry of the tenant's wallet with an operator's token."""
    wallet = organization_id or scene.tenant.organization_id
    url = f"{scene.backends[0].url}/v1/operator/wallets/{wallet}/{entries}"
    whole = {"id": str(uuid7()), "note": "why"} | body
    sent = {"authorization": f"Bearer {token}"} | (headers or {})
    return await scene.http.post(url, json=whole, headers=sent)


def entry(scene: Scene, entry_id: str) -> dict[str, Any]:
    """Return the only entry of an id."""
    (row,) = scene.rows.query("select * from public.ledger_entries where id = %(id)s", id=entry_id)
    return row


async def charge(scene: Scene) -> tuple[UUID, int]:
    """Have the tenant charged for a call; return the decision and the charge."""
    await scene.offer()
    assert (await scene.chat()).status_code == 200
    decision = scene.decision()
    return decision["id"], decision["charge_nano_usd"]


async def test_a_top_up_that_is_sent_twice_is_one(scene: Scene) -> None:
    """Also by another operator; the ledger keeps the first one's name."""
    entry_id = str(uuid7())
    for token in (TOKENS[ANN], TOKENS[ANN], TOKENS[BILLING]):
        answer = await post(scene, "top-ups", token=token, id=entry_id, amount_usd="12.50")
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "id": entry_id,
                "organization_id": str(scene.tenant.organization_id),
                "balance_usd": "13.5",
            },
        )
    made = entry(scene, entry_id)
    assert (made["kind"], made["amount_nano_usd"], made["actor"], made["note"]) == (
        "top_up",
        12_500_000_000,
        ANN,
        "why",
    )


async def test_a_refund_that_is_sent_twice_is_one(scene: Scene) -> None:
    """It gives back to the last nano-USD, and names its decision and its operator."""
    decision_id, charged = await charge(scene)
    body: dict[str, Any] = {"id": str(uuid7()), "amount_usd": usd(charged), "decision_id": str(decision_id)}
    for _ in range(2):
        answer = await post(scene, "refunds", token=TOKENS[BILLING], **body)
        assert (answer.status_code, answer.json()["balance_usd"]) == (200, "1")
    made = entry(scene, body["id"])
    assert (made["kind"], made["routing_outcome_id"], made["actor"]) == ("refund", decision_id, BILLING)


async def test_a_correction_gives_and_takes(scene: Scene) -> None:
    """Each under its own id."""
    for amount, balance in (("0.5", "1.5"), ("-1.5", "0")):
        answer = await post(scene, "corrections", amount_usd=amount)
        assert (answer.status_code, answer.json()["balance_usd"]) == (200, balance)
        assert entry(scene, answer.json()["id"])["actor"] == ANN


async def test_what_the_database_refuses_is_a_400_in_its_words(scene: Scene) -> None:
    """Amounts of nothing or less, more than was charged, more than there is; nothing is changed."""
    decision_id, charged = await charge(scene)
    before = scene.wallet()
    refund = {"decision_id": str(decision_id)}
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        ("top-ups", "0", {}, "The amount is 0 nano-USD; nothing was changed."),
        ("top-ups", "-1", {}, "The amount is -1000000000 nano-USD; nothing was changed."),
        ("refunds", usd(charged + 1), refund, f"was charged {charged} nano-USD, of which 0 are refunded"),
        ("refunds", "-1", refund, "The amount is -1000000000 nano-USD; nothing was changed."),
        ("refunds", "0.1", {"decision_id": str(uuid7())}, "was charged 0 nano-USD"),
        ("corrections", "-1", {}, f"The wallet has {before[0]} nano-USD that nothing holds"),
        ("top-ups", "1", {"note": "\0"}, "Unicode"),
    ]
    for entries, amount, more, told in cases:
        answer = await post(scene, entries, amount_usd=amount, **more)
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
        assert told in answer.json()["error"]["message"]
    assert scene.wallet() == before


async def test_an_organization_that_there_is_not_is_a_400(scene: Scene) -> None:
    """By its id."""
    nobody = uuid7()
    answer = await post(scene, "top-ups", organization_id=nobody, amount_usd="1")
    assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
    assert f"There is no organization {nobody}" in answer.json()["error"]["message"]


async def test_an_id_that_stands_for_something_else_is_a_409(scene: Scene) -> None:
    """Another amount, or another organization's wallet."""
    other = scene.make_tenant(balance_nano_usd=BALANCE_NANO_USD)
    entry_id = str(uuid7())
    assert (await post(scene, "top-ups", id=entry_id, amount_usd="1")).status_code == 200
    for answer in (
        await post(scene, "top-ups", id=entry_id, amount_usd="2"),
        await post(scene, "top-ups", id=entry_id, amount_usd="1", organization_id=other.organization_id),
    ):
        assert (answer.status_code, error_code(answer)) == (409, "entry_id_taken")
        assert answer.json()["error"]["param"] == "id"
    assert scene.wallet() == (2 * BALANCE_NANO_USD, 0)


async def test_nobody_but_an_operator_gets_in(scene: Scene) -> None:
    """Neither an agent's key, nor a member's token, nor the project's own keys; nor an operator as a caller."""
    tenant, endpoints = scene.tenant, scene.stack.endpoints
    for token in (
        tenant.api_key,
        scene.stack.mint_user_token(tenant.user_id, tenant.organization_id, role="owner"),
        endpoints.secret_key,
        endpoints.publishable_key,
        TOKENS[ANN].upper(),
        f"{ANN}:{TOKENS[ANN]}",
    ):
        for entries in ("top-ups", "refunds", "corrections"):
            answer = await post(scene, entries, token=token, amount_usd="1")
            assert (answer.status_code, error_code(answer)) == (401, "invalid_api_key")
    assert scene.wallet() == (BALANCE_NANO_USD, 0)
    assert (await scene.get("/v1/models", key=TOKENS[ANN])).status_code == 401


async def test_a_browser_does_not_get_in(scene: Scene) -> None:
    """Not even with an operator's token, from an origin that callers may come from."""
    answer = await post(scene, "top-ups", headers={"origin": ALLOWED_ORIGIN}, amount_usd="1")
    assert (answer.status_code, error_code(answer)) == (403, "access_denied")
    assert scene.wallet() == (BALANCE_NANO_USD, 0)
