"""The whole surface, in memory: what a caller sees of an answer, a stream, a refusal and of nonsense."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import jwt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.api.chat import EXPOSED_HEADERS
from backend.api.chat_request import Judgement
from backend.api.identity import Identities
from backend.api.parts import LiveCatalogue, Parts
from backend.api.tokens import TokenVerifier
from backend.app import create_app
from tests.unit.boundary import DONE, Gateway, answered, breaks, refused, streamed_answer
from tests.unit.samples import (
    AGENT,
    API_KEY,
    ORGANIZATION,
    QUESTION,
    SUPABASE_URL,
    USER,
    Json,
    catalogue,
    ladder,
)

POOL = ladder(2)
CALLER = {
    "organization_id": str(ORGANIZATION),
    "agent_id": str(AGENT),
    "api_key_id": str(API_KEY),
    "user_id": None,
    "default_floor": 0.7,
    "default_max_output_tokens": 1024,
    "baseline_model": None,
}


class Backend:
    """The application with its parts, called without a port."""

    def __init__(
        self,
        live: LiveCatalogue | None = None,
        judgement: Judgement | None = None,
        **changes: Any,  # settings are of many types
    ) -> None:
        self.gateway = Gateway(time.monotonic, **changes)
        self.gateway.script_each(POOL, answered("Hi."), answered("Hello."))
        self.gateway.postgrest.scripts["find_caller_by_key"] = [[CALLER]] * 10
        verifier = TokenVerifier(self.gateway.settings, self.gateway.record_http)
        identities = Identities(self.gateway.settings, self.gateway.data_api, verifier)
        live = live or LiveCatalogue(catalogue(*POOL), problem=None)
        self.parts = Parts(
            self.gateway.settings,
            self.gateway.data_api,
            identities,
            self.gateway.dispatcher,
            self.gateway.data_api,
            live,
            judgement or Judgement(),
        )
        self.app = create_app(self.gateway.settings)
        self.app.state.parts = self.parts
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://backend.test",
            headers={"authorization": "Bearer cf_key"},
        )

    async def ask(self, content: bytes | None = None, **fields: Any) -> httpx.Response:  # JSON
        """Send a chat completion."""
        body = {"model": "auto", "messages": QUESTION, **fields}
        return await self.http.post(
            "/v1/chat/completions", content=orjson.dumps(body) if content is None else content
        )


@pytest.fixture
async def backend() -> Backend:
    """Return a backend of a test."""
    return Backend()


def facts(response: httpx.Response) -> Json:
    """Return Clearfloor's headers but the decision's id."""
    start = "x-clearfloor-"
    named = {
        name.removeprefix(start): value for name, value in response.headers.items() if name.startswith(start)
    }
    UUID(named.pop("decision-id"))
    return named


async def test_an_answer_is_the_provider_s_with_the_decision_s_facts_in_its_headers(backend: Backend) -> None:
    """The body byte by byte; who answered, how well, at which floor, after how many attempts, at what cost."""
    response = await backend.ask()
    assert (response.status_code, response.json()["choices"][0]["message"]["content"]) == (200, "Hi.")
    assert facts(response) == {
        "rule": "cheapest_clearing_floor",
        "task": "chat",
        "model": "model-1",
        "provider": "provider-1",
        "quality": "0.8",
        "quality-bound": "0.709875",
        "floor": "0.7",
        "floor-cleared": "true",
        "attempts": "1",
        "clamped-max-tokens": "none",
        "replayed": "false",
        "cost-usd": "0.0000028",
    }
    assert {name for name in response.headers if name.startswith("x-clearfloor")} == set(EXPOSED_HEADERS)


async def test_a_pinned_model_without_a_floor_says_none(backend: Backend) -> None:
    """Rather than leaving the header out."""
    assert facts(await backend.ask(model="model-2"))["floor"] == "none"


async def test_the_best_there_is_says_that_the_floor_is_not_cleared(backend: Backend) -> None:
    """To a caller that takes it; the decision's rule says so as well."""
    response = await backend.ask(clearfloor={"floor": 0.99, "on_miss": "best"})
    assert response.status_code == 200
    told = facts(response)
    assert (told["rule"], told["model"], told["floor"], told["floor-cleared"]) == (
        "best_effort",
        "model-1",
        "0.99",
        "false",
    )
    (opening,) = backend.gateway.postgrest.sent("insert_decisions")
    assert (opening["requested_rule"], opening["floor"]) == ("best_effort", 0.99)
    response = await backend.ask(clearfloor={"floor": 0.5, "on_miss": "best"})
    assert facts(response)["floor-cleared"] == "true"
    assert (
        backend.gateway.postgrest.sent("insert_decisions")[-1]["requested_rule"] == "cheapest_clearing_floor"
    )


async def test_an_explored_answer_says_that_the_floor_is_not_cleared_and_one_after_it_that_it_is() -> None:
    """The rule is that of the decision, whoever answers; an explanation leaves nothing to chance."""
    pool = [POOL[0] | {"qualities": {"general": 0.65}}, POOL[1]]
    always = Judgement(exploration_share=0.5, chance=lambda: 0.0)
    backend = Backend(LiveCatalogue(catalogue(*pool), problem=None), always)
    told = facts(await backend.ask())
    assert (told["model"], told["quality"], told["floor"], told["floor-cleared"]) == (
        "model-1",
        "0.65",
        "0.7",
        "false",
    )
    backend.gateway.script(POOL[0], refused(500))
    told = facts(await backend.ask())
    assert (told["model"], told["floor-cleared"], told["attempts"]) == ("model-2", "true", "2")
    # What would end it for any other candidate is not the last word of one that is explored.
    backend.gateway.script(POOL[0], refused(400))
    told = facts(await backend.ask())
    assert (told["model"], told["floor-cleared"], told["attempts"]) == ("model-2", "true", "2")
    told = facts(await backend.ask(clearfloor={"explore": False}))
    assert (told["model"], told["floor-cleared"]) == ("model-2", "true")
    # Drawn, but there is nobody to explore, or nobody who clears.
    await backend.ask(clearfloor={"floor": 0.6})
    await backend.ask(clearfloor={"floor": 0.99, "on_miss": "best"})
    openings = backend.gateway.postgrest.sent("insert_decisions")
    assert [(opening["requested_rule"], opening["routing_request"]["explores"]) for opening in openings] == [
        ("exploration", True),
        ("exploration", True),
        ("exploration", True),
        ("cheapest_clearing_floor", False),
        ("cheapest_clearing_floor", True),
        ("best_effort", True),
    ]
    body = {"model": "auto", "messages": QUESTION}
    explained = (await backend.http.post("/v1/route/explain", json=body)).json()
    assert (explained["rule"], explained["floor_cleared"], explained["model"]) == (
        "cheapest_clearing_floor",
        True,
        "model-2",
    )


async def test_an_explanation_is_what_would_be_decided_and_costs_nothing(backend: Backend) -> None:
    """The ranking with its reasons, and whom it would be; nothing is written or called."""
    backend.gateway.cooldowns.start(UUID(POOL[0]["id"]), 60)
    body = {"model": "auto", "messages": QUESTION, "clearfloor": {"floor": 0.8}}
    response = await backend.http.post("/v1/route/explain", json=body)
    assert response.status_code == 200
    told = response.json()
    assert (told["rule"], told["floor_cleared"], told["model"], told["provider"]) == (
        "cheapest_clearing_floor",
        True,
        "model-2",
        "provider-2",
    )
    assert [(entry["model"], entry["unavailable"]) for entry in told["candidates"]] == [
        ("model-1", "cooling_down"),
        ("model-2", None),
    ]
    backend.gateway.cooldowns.start(UUID(POOL[1]["id"]), 60)
    assert (await backend.http.post("/v1/route/explain", json=body)).json()["model"] is None
    assert not backend.gateway.providers.called
    assert not backend.gateway.postgrest.sent("insert_decisions")
    await backend.ask(clearfloor={"floor": 0.8})
    (opening,) = backend.gateway.postgrest.sent("insert_decisions")
    assert opening["routing_request"] == told["routing_request"]
    assert opening["candidates"] == [
        {name: value for name, value in entry.items() if name != "unavailable"}
        for entry in told["candidates"]
    ]


async def test_a_stream_has_the_facts_in_its_headers_and_its_cost_in_its_last_event(backend: Backend) -> None:
    """The cost is not known when the headers go out."""
    backend.gateway.script(POOL[0], streamed_answer("Hi"))
    response = await backend.ask(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (facts(response)["model"], "cost-usd" in facts(response)) == ("model-1", False)
    *_, last, done = response.content.split(b"\n\n")[:-1]
    assert orjson.loads(last[6:])["clearfloor"]["cost_usd"] == "0.0000028"
    assert done + b"\n\n" == DONE


async def test_a_request_s_own_object_does_not_reach_the_provider(backend: Backend) -> None:
    """Nor is anything else of it changed."""
    await backend.ask(clearfloor={"floor": 0.5}, temperature=0.1)
    (body,) = backend.gateway.providers.bodies
    assert body == {
        "model": POOL[0]["upstream_model"],
        "messages": QUESTION,
        "temperature": 0.1,
        "max_tokens": 1024,
    }


async def test_a_failure_has_the_decision_s_facts_and_costs_nothing(backend: Backend) -> None:
    """And tells OpenAI's clients not to repeat a whole failover."""
    backend.gateway.script_each(POOL, refused(500), refused(429, retry_after="30"))
    response = await backend.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "all_candidates_failed")
    assert facts(response) == {
        "model": "none",
        "provider": "none",
        "rule": "cheapest_clearing_floor",
        "task": "chat",
        "quality": "none",
        "quality-bound": "none",
        "floor": "0.7",
        "floor-cleared": "none",
        "attempts": "2",
        "clamped-max-tokens": "none",
        "cost-usd": "0",
    }
    assert response.headers["x-should-retry"] == "false"
    assert 25 <= int(response.headers["retry-after"]) <= 30


async def test_a_provider_s_refusal_is_handed_on_with_its_status(backend: Backend) -> None:
    """In OpenAI's envelope."""
    backend.gateway.script(POOL[0], refused(413, "too long"))
    response = await backend.ask()
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["message"]) == (
        413,
        "provider_rejected_request",
        "too long",
    )


async def test_a_floor_that_nobody_clears_is_a_422_with_the_best_there_is(backend: Backend) -> None:
    """Before anything is called."""
    response = await backend.ask(clearfloor={"floor": 0.99})
    assert (response.status_code, response.json()["error"]["details"]["best_quality"]) == (422, 0.8)
    assert facts(response)["attempts"] == "0"
    assert not backend.gateway.providers.called


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"clearfloor": {"floor": 2}}, "clearfloor.floor"),
        ({"clearfloor": {"flor": 0.8}}, "clearfloor.flor"),
        ({"max_tokens": "many"}, "max_tokens"),
    ],
)
async def test_a_wrong_field_is_a_400_and_nothing_is_opened(
    backend: Backend, fields: Json, param: str
) -> None:
    """The error names it."""
    response = await backend.ask(**fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert "insert_decisions" not in [function for function, _ in backend.gateway.postgrest.calls]


async def test_a_body_that_is_too_large_is_a_413_and_is_not_read_to_its_end() -> None:
    """Nobody fills the memory with what is not taken."""
    read: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b"x" * 100

    response = await Backend(max_request_bytes=1000).http.post("/v1/chat/completions", content=endless())
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert len(read) == 11


@pytest.mark.parametrize(("size", "status"), [(1000, 400), (1001, 413)])
async def test_the_largest_body_that_is_read_is_the_operator_s_limit(size: int, status: int) -> None:
    """To the byte; what is read is then judged."""
    assert (await Backend(max_request_bytes=1000).ask(b"x" * size)).status_code == status


async def test_nobody_is_answered_before_it_is_known_who_asks(backend: Backend) -> None:
    """A stranger learns nothing, not even that its body is wrong."""
    for method, path in [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/decisions")]:
        response = await backend.http.request(method, path, headers={"authorization": ""}, content=b"{")
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not backend.gateway.postgrest.calls


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/chat", "/v1/embeddings", "/docs", "/admin", "/v1/models/../keys"]
)
async def test_a_path_that_is_not_there_is_a_404_in_the_envelope(backend: Backend, path: str) -> None:
    """No page of a framework."""
    response = await backend.http.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_a_method_that_is_not_there_is_a_405_in_the_envelope(backend: Backend) -> None:
    """With what was asked."""
    response = await backend.http.get("/v1/chat/completions")
    assert (response.status_code, response.json()["error"]["type"]) == (405, "invalid_request_error")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=many", "before=yesterday"])
async def test_a_wrong_parameter_is_a_400_that_names_it(backend: Backend, query: str) -> None:
    """As a wrong field is."""
    response = await backend.http.get(f"/v1/decisions?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, query.partition("=")[0])


async def test_a_fault_of_ours_is_a_500_that_tells_nothing_of_it(backend: Backend) -> None:
    """But the decision under which it is recorded."""
    backend.gateway.script(POOL[0], breaks(ZeroDivisionError("a secret of ours")))
    response = await backend.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-clearfloor-decision-id"] == response.json()["error"]["decision_id"]


async def test_models_are_auto_and_whatever_somebody_runs(backend: Backend) -> None:
    """As OpenAI's clients list them."""
    listed = (await backend.http.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["auto", "model-1", "model-2"]


@pytest.mark.parametrize(
    ("live", "status"),
    [
        (LiveCatalogue(), 503),
        (LiveCatalogue(catalogue(*POOL), problem="the record cannot be reached"), 503),
        (LiveCatalogue(catalogue(*POOL), problem=None), 200),
    ],
)
async def test_readiness_is_red_while_the_record_is_away(live: LiveCatalogue, status: int) -> None:
    """The process lives all the same."""
    backend = Backend(live)
    assert (await backend.http.get("/health/ready")).status_code == status
    assert (await backend.http.get("/health/live")).status_code == 200


async def test_a_catalogue_that_was_never_read_is_a_503_with_a_time_to_come_back() -> None:
    """Not a 404 for every model."""
    response = await Backend(LiveCatalogue()).ask(model="model-1")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "x-should-retry" not in response.headers


async def test_a_browser_of_an_allowed_origin_may_read_our_headers() -> None:
    """Another one may not call at all."""
    backend = Backend(cors_allowed_origins="https://app.test")
    response = await backend.http.get("/v1/models", headers={"origin": "https://app.test"})
    assert response.headers["access-control-allow-origin"] == "https://app.test"
    exposed = set(response.headers["access-control-expose-headers"].split(", "))
    assert {*EXPOSED_HEADERS, "retry-after", "x-should-retry"} <= exposed
    other = await backend.http.get("/v1/models", headers={"origin": "https://other.test"})
    assert "access-control-allow-origin" not in other.headers


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "tools",
    "response_format",
    "clearfloor",
)


@given(
    content=st.binary(max_size=50)
    | st.dictionaries(st.sampled_from(FIELDS), JSON).map(
        lambda fields: orjson.dumps({"model": "auto", "messages": QUESTION, **fields})
    )
)
async def test_no_body_makes_a_500(content: bytes) -> None:
    """Through the whole of the surface: an answer, or the caller's own error in the envelope."""
    backend = Backend()
    reply = streamed_answer() if b'"stream":true' in content else answered()
    backend.gateway.script_each(POOL, reply, reply)
    response = await backend.ask(content)
    assert response.status_code < 500
    assert response.status_code == 200 or set(response.json()["error"]) >= {
        "message",
        "type",
        "param",
        "code",
    }


async def test_a_fault_of_the_record_is_a_500_that_a_browser_may_read_and_costs_no_connection() -> None:
    """Nothing is raised on to the server, which would hang up on whoever comes next."""
    backend = Backend(cors_allowed_origins="https://app.test")
    backend.gateway.postgrest.scripts["find_caller_by_key"] = [
        httpx.Response(400, json={"code": "42883", "message": "no such function"})
    ]
    loud = httpx.AsyncClient(transport=httpx.ASGITransport(backend.app), base_url="http://backend.test")
    response = await loud.get(
        "/v1/models", headers={"authorization": "Bearer cf_key", "origin": "https://app.test"}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert response.headers["access-control-allow-origin"] == "https://app.test"
    assert "no such function" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/models", 404, "base URL ends in `/v1`"),
        ("GET", "/v1/nothing", 404, "There is no GET /v1/nothing here"),
        ("GET", "/v1/models/", 404, ""),
        ("GET", "/openapi.json", 404, ""),
        ("GET", "/docs", 404, ""),
        ("GET", "/v1/chat/completions", 405, "Method Not Allowed"),
    ],
)
async def test_what_is_not_served_is_said_in_the_envelope(
    backend: Backend, method: str, path: str, status: int, told: str
) -> None:
    """Nothing is redirected to a host that the request names."""
    response = await backend.http.request(method, path, headers={"host": "evil.test"})
    assert (response.status_code, "location" in response.headers) == (status, False)
    assert told in response.json()["error"]["message"]
    assert response.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_health_may_be_asked_for_without_a_body(backend: Backend, path: str) -> None:
    """As uptime probes do."""
    response = await backend.http.head(path)
    assert (response.status_code, response.content) == (200, b"")


async def test_a_compressed_body_is_refused_by_its_name(backend: Backend) -> None:
    """Rather than taken for bad JSON."""
    response = await backend.http.post(
        "/v1/chat/completions", content=b"\x1f\x8b", headers={"content-encoding": "gzip"}
    )
    assert (response.status_code, response.json()["error"]["param"]) == (400, "content-encoding")


async def test_a_model_is_described_by_what_routing_knows_of_it(backend: Backend) -> None:
    """Its qualities, and who runs it within which limits at which price."""
    described = (await backend.http.get("/v1/models/model-1")).json()
    assert described["id"] == "model-1"
    assert described["clearfloor"]["qualities"] == {"general": 0.8}
    (run,) = described["clearfloor"]["candidates"]
    assert (run["provider"], run["max_output_tokens"]) == ("provider-1", 10_000)
    (price,) = run["nano_usd_per_million_tokens"]
    assert (price["above_input_tokens"], price["output"]) == (0, 1_000_000_000)
    listed = (await backend.http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["auto", "model-1", "model-2"]
    assert listed[1] == described


async def test_a_model_that_there_is_not_is_not_found(backend: Backend) -> None:
    """By the code that OpenAI has for it."""
    response = await backend.http.get("/v1/models/vendor/huge")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(("rows", "has_more"), [(2, False), (3, True)])
async def test_a_page_says_truly_whether_there_is_more(
    backend: Backend, rows: int, *, has_more: bool
) -> None:
    """Also where it is exactly full."""
    found = [{"id": str(number)} for number in range(rows)]
    backend.gateway.postgrest.scripts["routing_outcomes"] = [found]
    page = (await backend.http.get("/v1/decisions?limit=2")).json()
    assert (page["data"], page["has_more"]) == (found[:2], has_more)


async def test_a_token_that_expires_on_its_way_is_a_401() -> None:
    """Verified here, refused by the Data API a moment later: no fault of ours."""
    secret = "a secret that is at least thirty-two bytes long"
    backend = Backend(SUPABASE_JWT_SECRET=secret)
    claims = {
        "iss": f"{SUPABASE_URL}/auth/v1",
        "aud": "authenticated",
        "role": "authenticated",
        "sub": str(USER),
        "exp": int(time.time()) + 60,
        "app_metadata": {"organization_id": str(ORGANIZATION)},
    }
    scripts = backend.gateway.postgrest.scripts
    scripts["find_caller_by_user"] = [[CALLER]]
    scripts["routing_outcomes"] = [httpx.Response(401, json={"code": "PGRST303", "message": "JWT expired"})]
    token = jwt.encode(claims, secret)
    response = await backend.http.get("/v1/decisions", headers={"authorization": f"Bearer {token}"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_record_that_goes_away_under_a_decision_is_told_with_the_decision() -> None:
    """Its row is there: the caller can ask for it when the record is back."""
    backend = Backend(store_retry_seconds=0.001)
    backend.gateway.script_each(POOL, refused(500), answered())
    backend.gateway.postgrest.scripts["insert_attempts"] = [httpx.ConnectError("away")] * 1000
    response = await backend.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "record_unavailable")
    assert response.headers["x-clearfloor-decision-id"] == response.json()["error"]["decision_id"]
    assert response.headers["x-clearfloor-attempts"] == "1"
    backend.gateway.postgrest.scripts.clear()
    await backend.gateway.completions.drain()


ENTRIES = ("top-ups", "refunds", "corrections")
ENTRY: Json = {"id": str(AGENT), "amount_usd": "12.50", "note": "why"}
OPERATOR_TOKEN = "a token of an operator's".replace(" ", "-") + "-program"


def operated(**changes: Any) -> Backend:
    """Return a backend with operators' routes."""
    return Backend(operator_tokens=f"ann:{OPERATOR_TOKEN}", **changes)


async def enter(
    backend: Backend, entries: str = "top-ups", body: object = None, **headers: str
) -> httpx.Response:
    """Make an entry as an operator, unless the headers say otherwise."""
    path = f"/v1/operator/wallets/{ORGANIZATION}/{entries}"
    sent = {"authorization": f"Bearer {OPERATOR_TOKEN}", **headers}
    return await backend.http.post(path, json=ENTRY if body is None else body, headers=sent)


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_without_operators_there_are_no_routes_for_them(entries: str, method: str) -> None:
    """They look like any route that is not there, to a browser, too."""
    backend = Backend(cors_allowed_origins="https://app.test")
    headers = {"authorization": f"Bearer {OPERATOR_TOKEN}", "origin": "https://app.test"}
    path, nowhere = (f"/v1/{which}/wallets/{ORGANIZATION}/{entries}" for which in ("operator", "nobodies"))
    answer = await backend.http.request(method, path, json=ENTRY, headers=headers)
    other = await backend.http.request(method, nowhere, json=ENTRY, headers=headers)
    assert (answer.status_code, answer.headers) == (404, other.headers)
    assert answer.text == other.text.replace("nobodies", "operator")
    assert backend.gateway.postgrest.calls == []


async def test_an_operator_s_entry_is_signed_with_the_name_of_its_token() -> None:
    """And answered with the balance, in USD."""
    backend = operated()
    backend.gateway.postgrest.scripts["top_up_wallet"] = [13_500_000_000]
    answer = await enter(backend)
    assert (answer.status_code, answer.json()) == (
        200,
        {"id": ENTRY["id"], "organization_id": str(ORGANIZATION), "balance_usd": "13.5"},
    )
    ((_, sent),) = backend.gateway.postgrest.calls
    assert (sent["actor"], sent["amount_nano_usd"]) == ("ann", 12_500_000_000)


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {OPERATOR_TOKEN}",
        "Bearer cf_key",
        f"Bearer {OPERATOR_TOKEN}x",
        "Bearer ü",
    ],
)
async def test_whoever_is_no_operator_is_told_nothing_else(entries: str, credential: str) -> None:
    """Neither that the body is wrong nor that the organization is."""
    backend = operated()
    path = f"/v1/operator/wallets/acme/{entries}"
    answer = await backend.http.post(
        path, content=b"{", headers={b"authorization": credential.encode("latin-1")}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert OPERATOR_TOKEN not in answer.text
    assert backend.gateway.postgrest.calls == []


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://app.test", "http://backend.test", "null"])
async def test_a_browser_may_not_move_money(method: str, origin: str) -> None:
    """Not from an origin that callers may come from, not from our own, and no preflight says that it may."""
    backend = operated(cors_allowed_origins="https://app.test")
    headers = {
        "authorization": f"Bearer {OPERATOR_TOKEN}",
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    path = f"/v1/operator/wallets/{ORGANIZATION}/top-ups"
    answer = await backend.http.request(method, path, json=ENTRY, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "access_denied")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert backend.gateway.postgrest.calls == []
    callers = await backend.http.get("/v1/models", headers={"origin": "https://app.test"})
    assert callers.headers["access-control-allow-origin"] == "https://app.test"


@pytest.mark.parametrize(
    ("entries", "body", "param"),
    [
        ("top-ups", ENTRY | {"amount_usd": "1.0000000001"}, "amount_usd"),
        ("top-ups", ENTRY | {"amount_usd": 12.5}, "amount_usd"),
        ("top-ups", ENTRY | {"id": "7"}, "id"),
        ("top-ups", {"amount_usd": "1"}, "id"),
        ("top-ups", ENTRY | {"actor": "bob"}, "actor"),
        ("top-ups", ENTRY | {"decision_id": ENTRY["id"]}, "decision_id"),
        ("corrections", ENTRY | {"decision_id": ENTRY["id"]}, "decision_id"),
        ("corrections", ENTRY | {"note": " "}, "note"),
        ("refunds", ENTRY, "decision_id"),
        ("refunds", ENTRY | {"decision_id": ENTRY["id"], "note": ""}, "note"),
        ("top-ups", [], None),
    ],
)
async def test_a_wrong_entry_names_its_field(entries: str, body: object, param: str | None) -> None:
    """And is not sent."""
    backend = operated()
    answer = await enter(backend, entries, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert backend.gateway.postgrest.calls == []


async def test_a_wallet_whose_id_is_none_is_a_wrong_request() -> None:
    """The operator is told so."""
    path = "/v1/operator/wallets/acme/top-ups"
    headers = {"authorization": f"Bearer {OPERATOR_TOKEN}"}
    answer = await operated().http.post(path, json=ENTRY, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "organization_id")


async def test_an_entry_that_cannot_be_recorded_now_is_a_503() -> None:
    """To be sent again under its id."""
    backend = operated(store_retry_seconds=0.001)
    backend.gateway.postgrest.is_away = True
    answer = await enter(backend)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "record_unavailable")
    assert answer.headers["retry-after"] == "1"
