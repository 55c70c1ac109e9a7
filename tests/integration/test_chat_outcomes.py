"""What an outcome can be: every way in which a provider can fail a plain call or a stream without content yet."""

from collections.abc import AsyncIterator, Iterator

import pytest

from backend.stack.ports import HOST, free_port
from backend.stack.stack import Stack
from backend.units import usd
from tests.support.backend_process import BackendProcess
from tests.support.gateway_fixtures import CATALOGUE_REFRESH_SECONDS
from tests.support.scene import Behaviour, Scene, contents, error_code, events, facts, open_scene

RULE = "cheapest_clearing_floor"


@pytest.fixture(scope="module")
def impatient(stack: Stack) -> Iterator[BackendProcess]:
    """Run a backend that gives providers little time."""
    variables = {
        "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
        "CLEARFLOOR_PROVIDER_FIRST_CONTENT_TIMEOUT_SECONDS": "1",
        "CLEARFLOOR_PROVIDER_IDLE_TIMEOUT_SECONDS": "1",
    }
    with BackendProcess(stack, **variables) as running:
        yield running


@pytest.fixture
async def hasty_scene(stack: Stack, impatient: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with the impatient backend."""
    async with open_scene(stack, impatient) as scene:
        yield scene


def status(code: int) -> Behaviour:
    """Return the behaviour of a provider that answers with a status."""
    return {"kind": "status", "status": code, "message": f"Simulated {code}."}


BEFORE_ANY_CONTENT = [
    pytest.param(status(500), "server_error", 500, id="500"),
    pytest.param(status(503), "server_error", 503, id="503"),
    pytest.param(status(408), "server_error", 408, id="408"),
    pytest.param(status(401), "credentials", 401, id="401"),
    pytest.param(status(402), "credentials", 402, id="402"),
    pytest.param(status(403), "not_here", 403, id="403"),
    pytest.param(status(404), "not_here", 404, id="404"),
    pytest.param({"kind": "disconnect"}, "connection", None, id="disconnect"),
    pytest.param({"kind": "malformed"}, "malformed", None, id="malformed"),
    pytest.param({"kind": "cut"}, "connection", None, id="cut"),
    pytest.param({"kind": "error_frame"}, None, None, id="error-under-200"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("behaviour", "error_class", "http_status"), BEFORE_ANY_CONTENT)
async def test_a_failure_before_content_fails_over(
    scene: Scene, behaviour: Behaviour, error_class: str | None, http_status: int | None, *, stream: bool
) -> None:
    """The next candidate answers; the failed attempt says why; only a refused key or account cools the candidate down."""
    first, second = await scene.offer(2)
    await scene.script(first, default=behaviour)
    await scene.script(second, default={"kind": "answer", "content": "forty two"})
    response = await scene.chat(stream=stream)
    assert response.status_code == 200
    assert response.headers["x-clearfloor-model"] == second.model
    decision = scene.decision()
    assert facts(decision) == ("succeeded", RULE, 2, ["failed", "succeeded"])
    attempt = decision["attempts"][0]
    if error_class:
        assert attempt["error_class"] == error_class
    if http_status:
        assert attempt["http_status"] == http_status
    assert (attempt["http_calls"], attempt["cost_nano_usd"]) == (1, 0)
    assert scene.cooldowns() == ([first.id] if error_class == "credentials" else [])
    assert await scene.called() == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("behaviour", "error_class", "http_status"), BEFORE_ANY_CONTENT)
async def test_a_failure_before_content_of_the_only_candidate_is_a_503(
    scene: Scene, behaviour: Behaviour, error_class: str | None, http_status: int | None, *, stream: bool
) -> None:
    """The one attempt is linked, nothing is charged, and clients are told not to repeat the whole failover."""
    (only,) = await scene.offer()
    await scene.script(only, default=behaviour)
    before = scene.wallet()
    response = await scene.chat(stream=stream)
    assert (response.status_code, error_code(response)) == (503, "all_candidates_failed")
    assert response.headers["x-should-retry"] == "false"
    decision = scene.decision()
    assert facts(decision) == ("failed_provider_error", RULE, 1, ["failed"])
    assert decision["attempts"][0]["error_class"] == (error_class or decision["attempts"][0]["error_class"])
    assert decision["attempts"][0]["http_status"] in (http_status, 200)
    assert scene.wallet() == before


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", [400, 409, 413, 415, 422])
async def test_a_request_that_is_wrong_is_terminal(scene: Scene, code: int, *, stream: bool) -> None:
    """No failover: the provider's status and message are passed on, with the word not to retry."""
    first, _ = await scene.offer(2)
    await scene.script(first, default=status(code))
    response = await scene.chat(stream=stream)
    assert (response.status_code, error_code(response)) == (code, "provider_rejected_request")
    assert response.json()["error"]["message"] == f"Simulated {code}."
    assert response.headers["x-should-retry"] == "false"
    assert facts(scene.decision()) == ("failed_provider_error", RULE, 1, ["failed"])
    assert scene.cooldowns() == []
    assert await scene.called() == [1, 0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_connection_fails_over(scene: Scene, *, stream: bool) -> None:
    """Nobody listens at the first candidate's address."""
    await scene.offer(base_url=f"http://{HOST}:{free_port()}/v1")
    await scene.offer()
    assert (await scene.chat(stream=stream)).status_code == 200
    decision = scene.decision()
    assert facts(decision) == ("succeeded", RULE, 2, ["failed", "succeeded"])
    assert decision["attempts"][0]["error_class"] == "connection"


@pytest.mark.parametrize(
    ("stream", "behaviour"),
    [
        (False, {"kind": "stall"}),
        (False, {"kind": "stall", "after_headers": True}),
        (True, {"kind": "stall"}),
        (True, {"kind": "stall", "after_headers": True}),
    ],
)
async def test_a_timeout_before_content_fails_over(
    hasty_scene: Scene, behaviour: Behaviour, *, stream: bool
) -> None:
    """A provider that sends nothing, or headers and a role only, is left for the next; we hang up on it."""
    first, _ = await hasty_scene.offer(2)
    await hasty_scene.script(first, behaviour)
    assert (await hasty_scene.chat(stream=stream)).status_code == 200
    decision = hasty_scene.decision()
    assert facts(decision) == ("succeeded", RULE, 2, ["failed", "succeeded"])
    assert decision["attempts"][0]["error_class"] == "timeout"
    await hasty_scene.until_called(first, state="client_gone")


async def test_a_stream_that_stalls_after_content_is_cut(hasty_scene: Scene) -> None:
    """The idle time between two chunks is bounded; the caller has text already, so there is no failover."""
    first, second = await hasty_scene.offer(2)
    await hasty_scene.script(first, {"kind": "stall", "after_chunks": 2})
    response = await hasty_scene.chat(stream=True)
    assert events(response.text)[-1]["error"]["code"] == "stream_broken"
    assert contents(response.text)
    decision = hasty_scene.decision()
    assert facts(decision) == ("failed_provider_error", RULE, 1, ["cut"])
    assert decision["attempts"][0]["error_class"] == "timeout"
    assert await hasty_scene.called(first, second) == [1, 0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_2xx_answer_is_settled_by_the_usage_that_the_provider_reports(
    scene: Scene, *, stream: bool
) -> None:
    """Cached and reasoning tokens are classes of their own; the charge is their price, the rest is released."""
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": 30,
        "total_tokens": 70,
        "prompt_tokens_details": {"cached_tokens": 15},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "usage": usage})
    balance, _ = scene.wallet()
    assert (await scene.chat(stream=stream)).status_code == 200
    decision = scene.decision()
    (attempt,) = decision["attempts"]
    classes = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens", "usage_source")
    assert [attempt[name] for name in classes] == [25, 15, 18, 12, "provider"]
    assert decision["charge_nano_usd"] == 40 * 500 + 30 * 1000
    assert scene.wallet() == (balance - decision["charge_nano_usd"], 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_usage_is_settled_by_an_estimate(scene: Scene, *, stream: bool) -> None:
    """The row says that the figures are an estimate, and they are not zero."""
    (candidate,) = await scene.offer()
    await scene.script(candidate, default={"kind": "answer", "content": "x" * 80, "usage": None})
    assert (await scene.chat(stream=stream)).status_code == 200
    (attempt,) = scene.decision()["attempts"]
    assert (attempt["usage_source"], attempt["output_tokens"]) == ("estimate", 20)
    assert attempt["input_tokens"] > 0


async def test_usage_beyond_the_bound_is_the_operators_overrun(scene: Scene, backend: BackendProcess) -> None:
    """The tenant pays what was reserved and no more; cost and overrun are recorded apart, and the log warns."""
    (candidate,) = await scene.offer()
    await scene.script(
        candidate, default={"kind": "answer", "usage": {"prompt_tokens": 10**6, "completion_tokens": 10**6}}
    )
    assert (await scene.chat()).status_code == 200
    decision = scene.decision()
    (attempt,) = decision["attempts"]
    assert decision["charge_nano_usd"] == decision["reserved_nano_usd"] == attempt["bound_nano_usd"]
    assert attempt["cost_nano_usd"] == 1_500_000_000
    assert attempt["overrun_nano_usd"] == attempt["cost_nano_usd"] - attempt["bound_nano_usd"] > 0
    assert f"Decision {decision['id']} cost {usd(attempt['overrun_nano_usd'])} USD more than" in backend.log()


@pytest.mark.parametrize("reported", [2**63 - 1, -5, "many", None, [1]])
async def test_senseless_usage_cannot_keep_a_decision_open(scene: Scene, reported: object) -> None:
    """Whatever a provider reports, the answer is delivered and its decision settled."""
    (candidate,) = await scene.offer()
    usage = {"prompt_tokens": reported, "completion_tokens": reported}
    await scene.script(candidate, default={"kind": "answer", "usage": usage})
    response = await scene.chat()
    assert response.status_code == 200
    assert facts(scene.decision()) == ("succeeded", RULE, 1, ["succeeded"])


async def test_a_hostile_error_message_cannot_keep_a_failover_from_being_recorded(scene: Scene) -> None:
    """A character that Postgres does not store, and far too many others."""
    first, _ = await scene.offer(2)
    await scene.script(first, default={"kind": "status", "status": 500, "message": "\0'; --" + "é" * 10_000})
    assert (await scene.chat()).status_code == 200
    decision = scene.decision()
    assert facts(decision) == ("succeeded", RULE, 2, ["failed", "succeeded"])
    assert len(decision["attempts"][0]["error_message"]) <= 500
