"""What callers and providers see of a request: headers, fields passed on, errors, models, health, CORS."""

import hashlib
from typing import Any

import httpx
import pytest

from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import ALLOWED_ORIGIN
from tests.support.scene import COMPLETIONS, DECISION_HEADER, Scene, error_code, facts
from tests.support.tenant import DEFAULT_MAX_OUTPUT_TOKENS, NANO_USD_PER_USD

EXPOSED = {
    "decision-id",
    "rule",
    "task",
    "model",
    "provider",
    "quality",
    "quality-bound",
    "floor",
    "attempts",
    "cost-usd",
}
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-clearfloor-agent",
}


async def test_a_plain_answer_carries_every_header(scene: Scene) -> None:
    """Who answered, how good it is expected to be, what was asked for and what it cost: as in the row."""
    (candidate,) = await scene.offer(quality=0.83)
    response = await scene.chat(model="auto:0.6")
    headers = {name: response.headers[f"x-clearfloor-{name}"] for name in EXPOSED}
    decision = scene.decision()
    cost, bound = headers.pop("cost-usd"), headers.pop("quality-bound")
    assert bound == f"{decision['candidates'][0]['quality_bound']:g}"
    assert headers == {
        "decision-id": str(decision["id"]),
        "rule": decision["decision_rule"],
        "task": decision["task"],
        "model": candidate.model,
        "provider": candidate.provider,
        "quality": "0.83",
        "floor": "0.6",
        "attempts": "1",
    }
    assert round(float(cost) * NANO_USD_PER_USD) == decision["charge_nano_usd"] > 0


async def test_a_stream_carries_every_header_but_the_cost(scene: Scene) -> None:
    """The cost is not known yet: it comes with the last event."""
    await scene.offer()
    response = await scene.chat(stream=True)
    present = {name for name in EXPOSED if f"x-clearfloor-{name}" in response.headers}
    assert present == EXPOSED - {"cost-usd"}


async def test_the_answer_is_passed_on_as_the_provider_sent_it(scene: Scene) -> None:
    """Content, usage, tool calls, and fields that we have never heard of."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "content": "Grüße \u2028 🙂"})
    body = (await scene.chat()).json()
    assert body["choices"][0]["message"]["content"] == "Grüße \u2028 🙂"
    assert body["object"] == "chat.completion"


async def test_the_provider_gets_the_callers_fields_and_its_own_model_name(scene: Scene) -> None:
    """Unknown fields are passed on, `clearfloor` is not, and the output limit of the agent is sent."""
    (candidate,) = await scene.offer()
    fields: dict[str, Any] = {
        "temperature": 0.3,
        "seed": 7,
        "made_up": {"deep": [1, None, "é"]},
        "user": "u1",
    }
    assert (await scene.chat(**fields)).status_code == 200
    (call,) = await scene.calls(candidate)
    body = call["body"]
    assert {name: body[name] for name in fields} == fields
    assert body["model"] == candidate.upstream_model
    assert body["max_tokens"] == DEFAULT_MAX_OUTPUT_TOKENS
    assert "clearfloor" not in body
    assert "stream_options" not in body


async def test_the_callers_credential_never_reaches_the_provider(scene: Scene) -> None:
    """A provider without a key gets no Authorization header, and none of Clearfloor's."""
    (candidate,) = await scene.offer()
    token = scene.stack.mint_user_token(scene.tenant.user_id, scene.tenant.organization_id)
    await scene.chat(key=token, headers={"x-clearfloor-agent": "first agent", "cookie": "a=b"})
    await scene.chat(headers={"cookie": "a=b"})
    for call, credential in zip(await scene.calls(candidate), (token, scene.tenant.api_key), strict=True):
        assert {"authorization_sha256", "cookie", "x-clearfloor-agent"}.isdisjoint(call["headers"])
        assert hashlib.sha256(credential.encode()).hexdigest() not in str(call)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_callers_own_output_limit_is_sent_by_the_name_that_the_provider_takes(
    scene: Scene, name: str
) -> None:
    """No second limit is added, and the reservation follows the caller's."""
    (candidate,) = await scene.offer()
    await scene.chat(**{name: 7})
    (call,) = await scene.calls(candidate)
    limits = {
        key: call["body"][key] for key in ("max_tokens", "max_completion_tokens") if key in call["body"]
    }
    assert limits == {"max_tokens": 7}
    assert scene.decision()["routing_request"]["output_limit_tokens"] == 7


async def test_the_output_limit_goes_by_the_name_that_the_provider_takes(scene: Scene) -> None:
    """As its row in the catalogue says."""
    provider = scene.rows.provider(scene.provider_url, output_limit_field="max_completion_tokens")
    (candidate,) = await scene.offer_of(provider)
    await scene.chat()
    (call,) = await scene.calls(candidate)
    assert call["body"]["max_completion_tokens"] == DEFAULT_MAX_OUTPUT_TOKENS
    assert "max_tokens" not in call["body"]


async def test_a_pinned_model_is_the_only_one_asked(scene: Scene) -> None:
    """The rule says so in the row; a failure of it does not fail over to another model."""
    cheaper, pinned = await scene.offer(2)
    await scene.script(pinned, default={"kind": "status", "status": 500})
    response = await scene.chat(model=pinned.model)
    assert (response.status_code, error_code(response)) == (503, "all_candidates_failed")
    assert facts(scene.decision()) == ("failed_provider_error", "pinned_model", 1, ["failed"])
    assert await scene.called(cheaper, pinned) == [0, 1]


async def test_the_cheapest_that_clears_the_floor_is_chosen(scene: Scene) -> None:
    """A cheaper one under the floor and a dearer one above it are left; the row keeps all three with reasons."""
    (below,) = await scene.offer(quality=0.6)
    (chosen,) = await scene.offer(quality=0.8)
    (dearer,) = await scene.offer(quality=0.99)
    response = await scene.chat(model="auto:0.75")
    assert response.headers["x-clearfloor-model"] == chosen.model
    mine = [entry for entry in scene.decision()["candidates"] if entry["model"] in scene.models]
    assert [(entry["model"], entry["rejected"]) for entry in mine] == [
        (chosen.model, None),
        (dearer.model, None),
        (below.model, "below_floor"),
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"model": 7}, "model"),
        ({"model": "auto:2"}, "model"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"clearfloor": {"floor": 1.5}}, "clearfloor.floor"),
        ({"clearfloor": {"flor": 0.5}}, "clearfloor.flor"),
        ({"clearfloor": {"max_cost_usd": "1"}}, "clearfloor.max_cost_usd"),
    ],
)
async def test_a_wrong_field_is_named(scene: Scene, body: dict[str, Any], param: str) -> None:
    """400 before anything is recorded or called."""
    await scene.offer()
    response = await scene.chat(**body)
    assert (response.status_code, error_code(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == param
    assert scene.decisions() == []
    assert await scene.called() == [0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "auto"}'])
async def test_a_body_that_makes_no_sense_is_400(scene: Scene, content: bytes) -> None:
    """Never a fault of ours."""
    request = scene.request()
    raw = httpx.Request("POST", request.url, headers=scene_headers(scene), content=content)
    response = await scene.http.send(raw)
    assert (response.status_code, error_code(response)) == (400, "invalid_request")


def scene_headers(scene: Scene) -> dict[str, str]:
    """Return the headers of a call made by hand."""
    return {"authorization": f"Bearer {scene.tenant.api_key}", "content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "no-such-model", "clearfloor": {"models": None}},
        {"clearfloor": {"models": ["no-such-model"]}},
    ],
)
async def test_an_unknown_model_is_404(scene: Scene, body: dict[str, Any]) -> None:
    """The message names it."""
    await scene.offer()
    response = await scene.chat(**body)
    assert (response.status_code, error_code(response)) == (404, "model_not_found")
    assert "no-such-model" in response.json()["error"]["message"]
    assert scene.decisions() == []


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", COMPLETIONS, 405)]
)
async def test_a_wrong_route_is_answered_in_the_same_envelope(
    scene: Scene, method: str, path: str, status: int
) -> None:
    """Clients parse one kind of error."""
    response = await scene.http.request(method, f"{scene.backends[0].url}{path}")
    assert response.status_code == status
    error_code(response)


async def test_models_are_listed_as_openai_lists_them(scene: Scene) -> None:
    """`auto` first, then what somebody runs at a price."""
    (candidate,) = await scene.offer()
    body = (await scene.get("/v1/models")).json()
    assert body["object"] == "list"
    assert body["data"][0]["id"] == "auto"
    assert candidate.model in {model["id"] for model in body["data"]}
    assert {model["object"] for model in body["data"]} == {"model"}


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_health_answers_everybody(scene: Scene, path: str) -> None:
    """Without a credential."""
    response = await scene.http.get(f"{scene.backends[0].url}{path}")
    assert response.status_code == 200


async def test_a_browser_of_an_allowed_origin_may_call_and_read_the_headers(scene: Scene) -> None:
    """The preflight is answered, and the answer exposes every header of ours."""
    url = f"{scene.backends[0].url}{COMPLETIONS}"
    preflight = await scene.http.options(url, headers=PREFLIGHT | {"origin": ALLOWED_ORIGIN})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "x-clearfloor-agent"))
    await scene.offer()
    response = await scene.chat(headers={"origin": ALLOWED_ORIGIN})
    assert response.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    assert "access-control-allow-credentials" not in response.headers
    exposed = {name.strip() for name in response.headers["access-control-expose-headers"].lower().split(",")}
    assert {f"x-clearfloor-{name}" for name in EXPOSED} | {"retry-after", "x-should-retry"} <= exposed


async def test_openais_browser_client_passes_the_preflight(scene: Scene) -> None:
    """It sends headers of its own with every call."""
    own = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,x-stainless-timeout"
    headers = PREFLIGHT | {"origin": ALLOWED_ORIGIN, "access-control-request-headers": own}
    preflight = await scene.http.options(f"{scene.backends[0].url}{COMPLETIONS}", headers=headers)
    assert preflight.status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.test", f"{ALLOWED_ORIGIN}.evil.example.test", "null", "http://app.example.test"],
)
async def test_a_browser_of_any_other_origin_may_not(scene: Scene, origin: str) -> None:
    """Neither the preflight nor the answer names it."""
    url = f"{scene.backends[0].url}{COMPLETIONS}"
    preflight = await scene.http.options(url, headers=PREFLIGHT | {"origin": origin})
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    response = await scene.get("/v1/models", headers={"origin": origin})
    assert "access-control-allow-origin" not in response.headers


async def test_a_refusal_can_be_read_across_origins(scene: Scene) -> None:
    """A browser learns why it was refused, not only that it was."""
    await scene.offer()
    response = await scene.chat(key="cf_unknown", headers={"origin": ALLOWED_ORIGIN})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    refused = await scene.chat(model="auto:1", headers={"origin": ALLOWED_ORIGIN})
    assert (refused.status_code, refused.headers[DECISION_HEADER]) == (422, str(scene.decision()["id"]))


async def test_without_allowed_origins_no_browser_may_call(scene: Scene) -> None:
    """The default."""
    with BackendProcess(scene.stack) as closed:
        response = await scene.http.get(
            f"{closed.url}/v1/models", headers=scene_headers(scene) | {"origin": ALLOWED_ORIGIN}
        )
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
