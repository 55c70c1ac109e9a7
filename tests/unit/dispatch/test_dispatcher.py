"""A decision carried out: what is written before and after each call, who is called, and what the caller is told."""

import asyncio
import gc
import time
import weakref
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import msgspec
import orjson
import pytest

from backend.dispatch.answers import Delivery
from backend.dispatch.progress import Progress
from backend.dispatch.refusals import nothing_clears
from backend.dispatch.relay import Relay
from backend.errors import (
    AccessDeniedError,
    AllCandidatesFailedError,
    AuthenticationError,
    ClearfloorError,
    InsufficientFundsError,
    InternalError,
    NoCandidateClearsFloorError,
    ProviderRejectedRequestError,
    SpendCapError,
    StoreUnavailableError,
)
from backend.ids import uuid7
from tests.unit.boundary import (
    USAGE,
    Gateway,
    Hanging,
    Reply,
    answered,
    breaks,
    raw,
    refused,
    streamed_answer,
)
from tests.unit.samples import ORGANIZATION, Json, catalogue, ladder, order, routing_request

CHEAP, MIDDLE, DEAR = POOL = ladder(3)
CANARY = "sk-canary-of-the-provider"


async def served(gateway: Gateway, **changes: Any) -> Delivery:  # fields are of many types
    """Dispatch a request that any candidate can take, to a plain answer."""
    delivery = await gateway.dispatcher.dispatch(order(POOL, **changes))
    assert isinstance(delivery, Delivery)
    return delivery


async def failure(gateway: Gateway, **changes: Any) -> ClearfloorError:  # fields are of many types
    """Dispatch the same, and return what the caller is told."""
    with pytest.raises(ClearfloorError) as raised:
        await gateway.dispatcher.dispatch(order(POOL, **changes))
    await gateway.completions.drain()
    return raised.value


def completion(gateway: Gateway) -> Json:
    """Return the one completion that was sent."""
    (item,) = gateway.postgrest.sent("complete_decisions")
    return item


async def test_the_cheapest_candidate_answers(gateway: Gateway) -> None:
    """One row is opened, one call made, one completion sent, in this order."""
    gateway.script_each(POOL, answered("Hi."), answered(), answered())
    delivery = await served(gateway)
    assert (delivery.facts.model, delivery.facts.attempts) == ("model-1", 1)
    assert delivery.charge_nano_usd is not None
    assert gateway.providers.called == [CHEAP["upstream_model"]]
    assert [function for function, _ in gateway.postgrest.calls] == ["insert_decisions", "complete_decisions"]
    attempt = completion(gateway)["attempt"]
    assert (attempt["status"], attempt["http_calls"], attempt["usage_source"]) == ("succeeded", 1, "provider")


async def test_the_row_of_an_attempt_is_written_before_its_call(gateway: Gateway) -> None:
    """A crash in between leaves a row, never a call that nobody knows of."""
    calls_at_opening: list[int] = []
    gateway.postgrest.before = lambda _function: calls_at_opening.append(len(gateway.providers.requests))
    gateway.script_each(POOL, refused(500), answered(), answered())
    await served(gateway)
    assert calls_at_opening == [0, 1, 2]


async def test_a_given_inference_id_is_the_id_of_the_written_row(gateway: Gateway) -> None:
    """Made beforehand by the caller, seen in the call to the record and in the attempt."""
    gateway.script_each(POOL, answered(), answered(), answered())
    asked = order(POOL)
    inference_id = uuid7()
    attempt, answer = await gateway.dispatcher.dispatch_inference(
        asked, asked.ranking.eligible[0], Progress(time.monotonic() + 60), inference_id=inference_id
    )
    (item,) = gateway.postgrest.sent("insert_decisions")
    assert item["inference_id"] == str(inference_id)
    assert attempt.inference_id == inference_id
    assert answer is not None


async def test_a_given_inference_id_is_the_id_of_a_later_attempt_too(gateway: Gateway) -> None:
    """Whose opening finishes the one before it."""
    gateway.script_each(POOL, refused(500), answered(), answered())
    asked = order(POOL)
    first, second = asked.ranking.eligible[:2]
    progress = Progress(time.monotonic() + 60)
    failed, _ = await gateway.dispatcher.dispatch_inference(asked, first, progress)
    inference_id = uuid7()
    await gateway.dispatcher.dispatch_inference(asked, second, progress, inference_id=inference_id)
    (item,) = gateway.postgrest.sent("insert_attempts")
    assert item["inference_id"] == str(inference_id)
    assert item["previous"]["inference_id"] == str(failed.inference_id)


async def test_without_an_inference_id_one_is_made(gateway: Gateway) -> None:
    """A UUIDv7, another for every attempt."""
    gateway.script_each(POOL, refused(500), answered(), answered())
    await served(gateway)
    made = [
        UUID(gateway.postgrest.sent("insert_decisions")[0]["inference_id"]),
        UUID(gateway.postgrest.sent("insert_attempts")[0]["inference_id"]),
    ]
    assert [identity.version for identity in made] == [7, 7]
    assert made[0] != made[1]
    assert completion(gateway)["attempt"]["inference_id"] == str(made[1])


@pytest.mark.parametrize(
    ("reply", "error_class", "http_status"),
    [
        (refused(500), "server_error", 500),
        (refused(503), "server_error", 503),
        (refused(401), "credentials", 401),
        (refused(403), "not_here", 403),
        (refused(404), "not_here", 404),
        (raw(b"<html>"), "malformed", 200),
        (breaks(httpx.ReadTimeout("slow")), "timeout", None),
        (breaks(httpx.ConnectError("down")), "connection", None),
    ],
)
async def test_a_candidate_that_fails_is_followed_by_the_next(
    gateway: Gateway, reply: Reply, error_class: str, http_status: int | None
) -> None:
    """Its failure is recorded with the opening of the next attempt."""
    gateway.script_each(POOL, reply, answered(), answered())
    delivery = await served(gateway)
    assert (delivery.facts.model, delivery.facts.attempts) == ("model-2", 2)
    (opening,) = gateway.postgrest.sent("insert_attempts")
    previous = opening["previous"]
    assert (previous["status"], previous["error_class"], previous["http_status"]) == (
        "failed",
        error_class,
        http_status,
    )
    assert previous["usage_source"] == "none"
    assert completion(gateway)["outcome_status"] == "succeeded"


async def test_a_failover_opens_with_the_next_candidate_s_own_bound_and_price(gateway: Gateway) -> None:
    """So the record can raise the reservation before the dearer one is called."""
    gateway.script_each(POOL, refused(500), answered(), answered())
    await served(gateway)
    first, second = order(POOL).ranking.eligible[:2]
    for item, scored in zip(
        [*gateway.postgrest.sent("insert_decisions"), *gateway.postgrest.sent("insert_attempts")],
        [first, second],
        strict=True,
    ):
        assert item["bound_nano_usd"] == scored.bound_nano_usd
        assert item["candidate_id"] == str(scored.candidate.id)
        assert item["price_id"] == str(scored.candidate.price.id)
    assert second.bound_nano_usd > first.bound_nano_usd


async def test_a_429_is_retried_and_counted_in_one_attempt(gateway: Gateway, waits: list[float]) -> None:
    """Two HTTP calls, one row."""
    gateway.script(CHEAP, refused(429), answered())
    delivery = await served(gateway)
    assert (delivery.facts.attempts, waits) == (1, [0.5])
    assert completion(gateway)["attempt"]["http_calls"] == 2


async def test_three_429s_fail_over_and_let_the_candidate_cool_down(
    gateway: Gateway, waits: list[float]
) -> None:
    """For as long as the settings say, since the provider named no time."""
    gateway.script_each(POOL, refused(429), answered(), answered())
    delivery = await served(gateway)
    assert (delivery.facts.model, waits) == ("model-2", [0.5, 2.0])
    assert gateway.providers.called == [CHEAP["upstream_model"]] * 3 + [MIDDLE["upstream_model"]]
    previous = gateway.postgrest.sent("insert_attempts")[0]["previous"]
    assert (previous["http_calls"], previous["error_class"], previous["http_status"]) == (
        3,
        "rate_limited",
        429,
    )
    assert previous["cooldown_seconds"] == gateway.settings.rate_limit_cooldown_seconds


async def test_a_retry_after_of_60_makes_one_call_cools_down_and_fails_over(waits: list[float]) -> None:
    """At once; for a minute the candidate is passed over, then it is asked again."""
    now = [1000.0]
    gateway = Gateway(lambda: now[0])
    gateway.script(CHEAP, refused(429, retry_after="60"), answered())
    gateway.script(MIDDLE, answered())
    assert (await served(gateway)).facts.model == "model-2"
    assert (gateway.providers.called, waits) == ([CHEAP["upstream_model"], MIDDLE["upstream_model"]], [])
    previous = gateway.postgrest.sent("insert_attempts")[0]["previous"]
    assert (previous["http_calls"], previous["retry_after_seconds"], previous["cooldown_seconds"]) == (
        1,
        60.0,
        60.0,
    )
    now[0] += 59.9
    passed_over = await served(gateway)
    assert (passed_over.facts.model, passed_over.facts.attempts) == ("model-2", 1)
    now[0] += 0.1
    assert (await served(gateway)).facts.model == "model-1"


@pytest.mark.parametrize(
    ("status", "cools_down"), [(401, True), (402, True), (403, False), (404, False), (500, False)]
)
async def test_only_a_refused_key_or_account_lets_the_candidate_cool_down(
    gateway: Gateway, status: int, *, cools_down: bool
) -> None:
    """Until an operator has had time to look. What may be about one request takes nobody else's candidate away."""
    gateway.script_each(POOL, refused(status), answered(), answered())
    assert (await served(gateway)).facts.model == "model-2"
    cooling = gateway.cooldowns.remaining_seconds(UUID(CHEAP["id"])) > 0
    assert cooling == cools_down


async def test_a_request_that_is_itself_wrong_goes_back_with_the_provider_s_status(gateway: Gateway) -> None:
    """No other candidate is asked; the attempt that said so is linked."""
    gateway.script_each(POOL, refused(422, "no such tool"), answered(), answered())
    error = await failure(gateway)
    assert isinstance(error, ProviderRejectedRequestError)
    assert (error.status, error.message, error.should_retry) == (422, "no such tool", False)
    assert gateway.providers.called == [CHEAP["upstream_model"]]
    item = completion(gateway)
    assert (item["outcome_status"], item["attempt"]["status"]) == ("failed_provider_error", "failed")
    assert item["decision_rule_override"] is None


async def test_all_candidates_failing_is_one_clean_error(gateway: Gateway) -> None:
    """With the last one's reason, and the decision under which all are recorded."""
    gateway.script_each(POOL, refused(500), refused(429, retry_after="60"), refused(503, "overloaded"))
    error = await failure(gateway)
    assert isinstance(error, AllCandidatesFailedError)
    assert "server_error: overloaded" in error.message
    assert error.decision_id == UUID(completion(gateway)["id"])
    assert error.attempts == 3
    assert error.retry_after_seconds == pytest.approx(60, abs=5)
    assert (completion(gateway)["outcome_status"], len(gateway.providers.called)) == (
        "failed_provider_error",
        3,
    )


async def test_without_fallback_one_attempt_is_made(gateway: Gateway) -> None:
    """The caller has said so."""
    gateway.script_each(POOL, refused(500), answered(), answered())
    assert isinstance(await failure(gateway, may_fail_over=False), AllCandidatesFailedError)
    assert gateway.providers.called == [CHEAP["upstream_model"]]
    assert not gateway.postgrest.sent("insert_attempts")


async def test_no_candidate_is_tried_past_the_request_s_deadline() -> None:
    """However many are left."""
    gateway = Gateway(request_deadline_seconds=1e-9)
    gateway.script_each(POOL, refused(500), answered(), answered())
    assert isinstance(await failure(gateway), AllCandidatesFailedError)
    assert gateway.providers.called == [CHEAP["upstream_model"]]


async def test_the_decision_is_opened_without_outcome_or_inference_link(gateway: Gateway) -> None:
    """The rule is set; what becomes of it is not known yet. The attempt's row is not the decision's link."""
    gateway.script_each(POOL, answered(), answered(), answered())
    asked = order(POOL)
    await gateway.dispatcher.dispatch(asked)
    (item,) = gateway.postgrest.sent("insert_decisions")
    assert item["requested_rule"] == "cheapest_clearing_floor"
    assert {"outcome_status", "decision_rule", "decision_rule_override", "completed_at"}.isdisjoint(item)
    assert item["candidates"] == orjson.loads(orjson.dumps(asked.ranking.to_record()))


async def test_nobody_being_available_completes_the_decision_as_failed_before_dispatch(
    gateway: Gateway,
) -> None:
    """Opened without an attempt, completed with the override: never a row that the constraint would refuse."""
    for seconds, candidate in zip((30, 20, 40), POOL, strict=True):
        gateway.cooldowns.start(UUID(candidate["id"]), seconds)
    error = await failure(gateway)
    assert isinstance(error, AllCandidatesFailedError)
    assert error.should_retry is None
    assert error.retry_after_seconds == pytest.approx(20, abs=5)
    (opening,) = gateway.postgrest.sent("insert_decisions")
    assert "inference_id" not in opening
    item = completion(gateway)
    assert (item["outcome_status"], item["decision_rule_override"]) == (
        "failed_provider_error",
        "failed_pre_dispatch",
    )
    assert item["attempt"] is None
    assert not gateway.providers.called


async def test_nobody_clearing_the_floor_completes_the_decision_by_that_rule(gateway: Gateway) -> None:
    """And the caller hears of the best there is."""
    error = await failure(gateway, request=routing_request(floor=0.95))
    assert isinstance(error, NoCandidateClearsFloorError)
    assert error.details == {
        "floor": 0.95,
        "reject_reasons": ["below_floor"],
        "best_quality": 0.8,
        "best_quality_bound": pytest.approx(0.7, abs=0.02),
        "best_model": "model-1",
        "best_expected_cost_usd": "0.000512001",
    }
    assert "model-1, has 0.8 for about 0.000512001 USD" in error.message
    assert "on_miss" in error.message
    item = completion(gateway)
    assert item["decision_rule_override"] == "no_candidate_cleared_floor"
    assert item["outcome_status"] == "rejected_no_candidate"
    assert "inference_id" not in gateway.postgrest.sent("insert_decisions")[0]


def test_where_no_quality_is_known_no_lower_floor_is_advised() -> None:
    """It would not help, and neither would the best there is: there is none."""
    unknown = [POOL[0] | {"qualities": {}}]
    error = nothing_clears(order(unknown, routing_request(floor=0.5, on_miss="best")))
    assert isinstance(error, NoCandidateClearsFloorError)
    assert error.details == {"floor": 0.5, "reject_reasons": ["no_quality_estimate"], "best_quality": None}
    assert error.message.endswith("Ask without a floor, or have the quality of a model entered.")


def opened_as(outcome_status: str, **refusal: object) -> list[Json]:
    """Script a refusal by the record."""
    return [
        {
            "id": None,
            "opened": False,
            "bound_nano_usd": None,
            "outcome_status": outcome_status,
            "refusal": refusal or None,
            "error": None,
        }
    ]


FUNDS = {"needed_nano_usd": 5_000_000_000, "balance_nano_usd": 3_000_000_000, "held_nano_usd": 1_000_000_000}
CAP = {
    "scope": "agent",
    "window": "day",
    "cap_nano_usd": 4_000_000_000,
    "spent_nano_usd": 2_000_000_000,
    "held_nano_usd": 1_000_000_000,
    "needed_nano_usd": 5_000_000_000,
}


@pytest.mark.parametrize(
    ("answer", "expected", "told"),
    [
        (
            opened_as("rejected_funds", **FUNDS),
            InsufficientFundsError,
            "up to 5 USD, the balance is 3 USD and 1 USD",
        ),
        (
            opened_as("rejected_cap", **CAP, resets_at="2020-01-01T00:00:00+00:00"),
            SpendCapError,
            "resets at 2020",
        ),
        (
            opened_as("rejected_cap", **CAP, resets_at=None),
            SpendCapError,
            "of 4 USD, 2 USD is spent and 1 USD held",
        ),
        (opened_as("rejected_inactive"), AccessDeniedError, "switched off"),
        (opened_as("rejected_key"), AuthenticationError, "revoked"),
        (opened_as("abandoned"), AllCandidatesFailedError, "already over"),
    ],
)
async def test_a_refusal_by_the_record_is_told_and_nobody_is_called(
    gateway: Gateway, answer: list[Json], expected: type[ClearfloorError], told: str
) -> None:
    """It is completed already, in the transaction that refused it."""
    gateway.postgrest.scripts["insert_decisions"] = [answer]
    error = await failure(gateway)
    assert isinstance(error, expected)
    assert told in error.message
    assert (error.should_retry, error.details or {}) == (False, answer[0]["refusal"] or {})
    assert not gateway.providers.called
    assert not gateway.postgrest.sent("complete_decisions")


async def test_a_cap_says_when_it_resets(gateway: Gateway) -> None:
    """In seconds, never below zero."""
    answer = opened_as("rejected_cap", **CAP, resets_at="2020-01-01T00:00:00+00:00")
    gateway.postgrest.scripts["insert_decisions"] = [answer]
    assert (await failure(gateway)).retry_after_seconds == 0.0


async def test_a_refused_higher_reservation_ends_the_failover(gateway: Gateway) -> None:
    """The dearer candidate is not called; the decision was completed by the refusal."""
    gateway.script_each(POOL, refused(500), answered(), answered())
    gateway.postgrest.scripts["insert_attempts"] = [opened_as("rejected_funds", **FUNDS)]
    error = await failure(gateway)
    assert isinstance(error, InsufficientFundsError)
    assert error.attempts == 1
    assert gateway.providers.called == [CHEAP["upstream_model"]]
    assert not gateway.postgrest.sent("complete_decisions")


@pytest.mark.usefixtures("waits")
async def test_a_record_that_is_away_means_no_call() -> None:
    """503 with a time to come back; never an unrecorded call."""
    gateway = Gateway(store_retry_seconds=0.1, completion_wait_seconds=0.001)
    gateway.postgrest.is_away = True
    gateway.script_each(POOL, answered(), answered(), answered())
    error = await failure(gateway)
    assert isinstance(error, StoreUnavailableError)
    assert error.retry_after_seconds
    assert not gateway.providers.called


@pytest.mark.usefixtures("waits")
async def test_an_opening_that_was_not_answered_is_undone_when_the_record_is_back() -> None:
    """It may have been written, or be on its way still: it is opened for certain, then completed without a call."""
    gateway = Gateway(store_retry_seconds=0.1)
    gateway.script_each(POOL, answered(), answered(), answered())
    gateway.postgrest.scripts["insert_decisions"] = [httpx.ReadTimeout("no answer")] * 100_000
    with pytest.raises(StoreUnavailableError):
        await gateway.dispatcher.dispatch(order(POOL))
    gateway.postgrest.scripts.clear()
    await gateway.completions.drain()
    openings = gateway.postgrest.sent("insert_decisions")
    assert all(opening == openings[0] for opening in openings)
    undone = completion(gateway)
    assert (undone["id"], undone["outcome_status"]) == (openings[0]["id"], "abandoned")
    assert (undone["attempt"]["status"], undone["attempt"]["inference_id"]) == (
        "not_sent",
        openings[0]["inference_id"],
    )
    assert not gateway.providers.called


@pytest.mark.usefixtures("waits")
async def test_an_opening_that_is_refused_after_an_unanswered_try_is_undone() -> None:
    """The first try may have been written: what it holds is released as soon as the record lets us."""
    gateway = Gateway()
    gateway.script_each(POOL, answered(), answered(), answered())
    denied = httpx.Response(403, json={"code": "42501", "message": "no", "details": None, "hint": None})
    gateway.postgrest.scripts["insert_decisions"] = [httpx.ReadTimeout("no answer"), denied, denied]
    with pytest.raises(InternalError):
        await gateway.dispatcher.dispatch(order(POOL))
    await gateway.completions.drain()
    undone = completion(gateway)
    assert (undone["outcome_status"], undone["attempt"]["status"]) == ("failed_other", "not_sent")
    assert not gateway.providers.called


async def test_a_server_that_goes_down_under_a_call_completes_its_decision(gateway: Gateway) -> None:
    """As cancelled: nobody gets the answer, and nobody knows what it used."""
    called = asyncio.Event()

    def hang() -> httpx.Response:
        called.set()
        return httpx.Response(200, stream=Hanging())

    gateway.script_each(POOL, hang, answered(), answered())
    request = asyncio.create_task(gateway.dispatcher.dispatch(order(POOL)))
    await called.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await gateway.completions.drain()
    item = completion(gateway)
    attempt = item["attempt"]
    assert (item["outcome_status"], attempt["status"], attempt["http_calls"]) == ("cancelled", "cancelled", 1)
    assert (attempt["input_tokens"], attempt["output_tokens"], attempt["usage_source"]) == (
        100,
        0,
        "estimate",
    )


async def test_a_request_that_is_broken_off_while_it_waits_for_a_retry_has_used_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider has turned it away; nothing is under way there."""
    waiting = asyncio.Event()

    async def wait_for_ever(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", wait_for_ever)
    gateway.script_each(POOL, refused(429), answered(), answered())
    request = asyncio.create_task(gateway.dispatcher.dispatch(order(POOL)))
    await waiting.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await gateway.completions.drain()
    attempt = completion(gateway)["attempt"]
    assert (attempt["status"], attempt["http_calls"], attempt["usage_source"]) == ("cancelled", 1, "none")


async def test_a_request_that_is_broken_off_while_it_is_opened_is_undone() -> None:
    """Nobody can tell whether it was written: it is opened for certain, then completed as cancelled."""
    gateway = Gateway(store_timeout_seconds=0.05)
    gateway.script_each(POOL, answered(), answered(), answered())
    gateway.postgrest.scripts["insert_decisions"] = [
        httpx.Response(200, headers={"content-type": "application/json"}, stream=Hanging())
    ]
    request = asyncio.create_task(gateway.dispatcher.dispatch(order(POOL)))
    while not gateway.postgrest.calls:
        await asyncio.sleep(0)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await gateway.completions.drain()
    item = completion(gateway)
    assert (item["outcome_status"], item["attempt"]["status"]) == ("cancelled", "not_sent")
    assert not gateway.providers.called


@pytest.mark.usefixtures("waits")
async def test_a_record_that_goes_away_between_two_attempts_gets_the_first_one_later() -> None:
    """The next candidate is not called; what was called is completed as soon as the record is back."""
    gateway = Gateway(store_retry_seconds=0.1)
    gateway.script_each(POOL, refused(500), answered(), answered())
    gateway.postgrest.scripts["insert_attempts"] = [httpx.ConnectError("away")] * 100_000
    with pytest.raises(StoreUnavailableError) as raised:
        await gateway.dispatcher.dispatch(order(POOL))
    error = raised.value
    gateway.postgrest.scripts.clear()
    await gateway.completions.drain()
    assert error.attempts == 1
    assert gateway.providers.called == [CHEAP["upstream_model"]]
    assert error.decision_id == UUID(gateway.postgrest.sent("insert_decisions")[0]["id"])


@pytest.mark.usefixtures("waits")
async def test_a_failover_that_was_not_answered_is_undone_when_the_record_is_back() -> None:
    """Its attempt may have been written, and must not be taken for one that was made."""
    gateway = Gateway(store_retry_seconds=0.1)
    gateway.script_each(POOL, refused(500), answered(), answered())
    gateway.postgrest.scripts["insert_attempts"] = [httpx.ReadTimeout("no answer")] * 100_000
    with pytest.raises(StoreUnavailableError):
        await gateway.dispatcher.dispatch(order(POOL))
    gateway.postgrest.scripts.clear()
    await gateway.completions.drain()
    attempts = gateway.postgrest.sent("insert_attempts")
    assert {attempt["inference_id"] for attempt in attempts} == {attempts[0]["inference_id"]}
    item = completion(gateway)
    assert (item["outcome_status"], item["attempt"]["status"]) == ("failed_provider_error", "not_sent")
    assert item["attempt"]["inference_id"] == attempts[0]["inference_id"]
    assert gateway.providers.called == [CHEAP["upstream_model"]]


async def test_a_cooldown_that_begins_between_row_and_call_makes_the_attempt_not_sent(
    gateway: Gateway,
) -> None:
    """No call was made, and the row says so; the next candidate takes over."""
    gateway.script_each(POOL, answered(), answered(), answered())
    gateway.postgrest.before = lambda _function: gateway.cooldowns.start(UUID(CHEAP["id"]), 60)
    assert (await served(gateway)).facts.model == "model-2"
    previous = gateway.postgrest.sent("insert_attempts")[0]["previous"]
    assert (previous["status"], previous["http_calls"], previous["error_class"]) == (
        "not_sent",
        0,
        "cooling_down",
    )
    assert gateway.providers.called == [MIDDLE["upstream_model"]]


async def test_a_cooldown_that_begins_between_two_calls_does_not_undo_the_first(
    gateway: Gateway, waits: list[float]
) -> None:
    """The attempt was made: another request's 429 cannot turn its row into one that was never sent."""

    def cool() -> httpx.Response:
        gateway.cooldowns.start(UUID(CHEAP["id"]), 60)
        return refused(429)()

    gateway.script_each(POOL, cool, answered(), answered())
    await served(gateway)
    previous = gateway.postgrest.sent("insert_attempts")[0]["previous"]
    assert (previous["status"], previous["http_calls"]) == ("failed", len(waits) + 1)


async def test_a_candidate_without_credentials_is_passed_over(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is written for it, but why; with its key in the environment it is called with that key."""
    keyed = {**CHEAP, "api_key_variable": "UNIT_TEST_API_KEY"}
    monkeypatch.delenv("UNIT_TEST_API_KEY", raising=False)
    gateway.script_each([keyed, MIDDLE], answered(), answered())
    await gateway.dispatcher.dispatch(order([keyed, MIDDLE]))
    assert gateway.providers.called == [MIDDLE["upstream_model"]]
    assert not gateway.postgrest.sent("insert_attempts")
    (opening,) = gateway.postgrest.sent("insert_decisions")
    assert [(entry["model"], entry["reason"]) for entry in opening["passed_over"]] == [
        ("model-1", "no_credentials")
    ]
    monkeypatch.setenv("UNIT_TEST_API_KEY", f"{CANARY}\n")
    await gateway.dispatcher.dispatch(order([keyed, MIDDLE]))
    assert gateway.providers.requests[-1].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize("key", ["", " ", "sk-\u00e4", "two\nlines"])
def test_what_can_be_no_key_is_as_good_as_none(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """It would fail each call; the operator is told of its variable instead."""
    monkeypatch.setenv("UNIT_TEST_API_KEY", key)
    (keyed,) = catalogue({**CHEAP, "api_key_variable": "UNIT_TEST_API_KEY"}).candidates
    assert str(gateway.dispatcher.uncallable(keyed)) == "UNIT_TEST_API_KEY holds no key"


async def test_a_full_pool_of_connections_is_no_failure_of_the_provider(gateway: Gateway) -> None:
    """Nobody was called: the next candidate is asked, and the row says that this one was not sent."""
    gateway.script_each(POOL, breaks(httpx.PoolTimeout("full")), answered(), answered())
    assert (await served(gateway)).facts.attempts == 1
    previous = gateway.postgrest.sent("insert_attempts")[0]["previous"]
    assert (previous["status"], previous["http_calls"], previous["error_class"]) == (
        "not_sent",
        0,
        "no_free_connection",
    )


async def test_candidates_that_are_passed_over_on_the_way_are_recorded_with_the_next_step(
    gateway: Gateway,
) -> None:
    """Whether that is another attempt or the end."""
    gateway.cooldowns.start(UUID(MIDDLE["id"]), 60)
    gateway.script_each(POOL, refused(500), answered(), refused(500))
    await failure(gateway)
    (opening,) = gateway.postgrest.sent("insert_attempts")
    assert [(entry["model"], entry["reason"]) for entry in opening["passed_over"]] == [
        ("model-2", "cooling_down")
    ]
    assert completion(gateway)["passed_over"] == []


@pytest.mark.parametrize("may_fail_over", [True, False])
async def test_nobody_being_called_after_all_is_told_as_such(
    gateway: Gateway, *, may_fail_over: bool
) -> None:
    """Every attempt was opened and then not sent: that is no failure, and coming back mends it."""
    gateway.script_each(POOL, answered(), answered(), answered())
    in_turn = iter(POOL)

    def cool_whoever_is_opened(function: str) -> None:
        if function.startswith("insert"):
            gateway.cooldowns.start(UUID(next(in_turn)["id"]), 60)

    gateway.postgrest.before = cool_whoever_is_opened
    error = await failure(gateway, may_fail_over=may_fail_over)
    assert "unavailable for now" in error.message
    assert (error.should_retry, error.attempts) == (None, 0)
    assert not gateway.providers.called


async def test_a_candidate_in_a_format_that_nobody_speaks_is_passed_over(gateway: Gateway) -> None:
    """As if it were not there."""
    foreign = {**CHEAP, "wire_format": "telex"}
    gateway.script_each([foreign, MIDDLE], answered(), answered())
    await gateway.dispatcher.dispatch(order([foreign, MIDDLE]))
    assert gateway.providers.called == [MIDDLE["upstream_model"]]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_key_of_a_provider_reaches_the_record_or_the_caller(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, stream: bool
) -> None:
    """Nor a log, even where the provider repeats it."""
    monkeypatch.setenv("UNIT_TEST_API_KEY", CANARY)
    keyed = [{**candidate, "api_key_variable": "UNIT_TEST_API_KEY"} for candidate in POOL]
    told = f"Incorrect API key provided: {CANARY}"
    gateway.script_each(keyed, refused(401, told), refused(500, told), refused(400, told))
    with pytest.raises(ClearfloorError) as raised:
        await gateway.dispatcher.dispatch(order(keyed, stream=stream))
    written = b"".join(request.content for request in gateway.postgrest.requests)
    assert CANARY not in f"{raised.value.envelope()} {written.decode()} {caplog.text}"
    assert len(gateway.providers.requests) == 3


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({}, "max_tokens", 1024),
        ({"output_limit_field": "max_completion_tokens"}, "max_completion_tokens", 1024),
    ],
)
async def test_the_output_limit_is_sent_in_the_provider_s_own_field(
    gateway: Gateway, changes: Json, field: str, expected: int
) -> None:
    """What is not named cannot be bounded."""
    candidate = {**CHEAP, **changes}
    gateway.script(candidate, answered())
    await gateway.dispatcher.dispatch(order([candidate]))
    (body,) = gateway.providers.bodies
    assert {name: value for name, value in body.items() if name.startswith("max_")} == {field: expected}


@pytest.mark.parametrize("named", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_that_the_caller_names_is_sent_in_the_provider_s_own_field_too(
    gateway: Gateway, named: str
) -> None:
    """In the one that this provider obeys, and no other: the reservation counts on it."""
    gateway.script(CHEAP, answered())
    body: Json = {"model": "auto", "messages": [], named: 7}
    await gateway.dispatcher.dispatch(order([CHEAP], routing_request(output_limit_tokens=7), body=body))
    assert gateway.providers.bodies == [{"model": CHEAP["upstream_model"], "messages": [], "max_tokens": 7}]


async def test_what_is_not_ours_is_passed_on_as_it_came(gateway: Gateway) -> None:
    """Digit for digit: a number that no 64 bits hold, a text with any character."""
    gateway.script(CHEAP, answered())
    fields = {"seed": b"12345678901234567890123", "user": '"\\u2028 \u2028"'.encode(), "x": b"1.10"}
    asked = order([CHEAP])
    body = {**asked.body, **{name: msgspec.Raw(value) for name, value in fields.items()}}
    await gateway.dispatcher.dispatch(replace(asked, body=body))
    (request,) = gateway.providers.requests
    for name, value in fields.items():
        assert b'"%s":%s' % (name.encode(), value) in request.content


async def test_usage_that_is_not_reported_is_estimated(gateway: Gateway) -> None:
    """A token for four bytes, rounded up, and labelled so."""
    gateway.script(CHEAP, answered("12345", usage=None))
    await gateway.dispatcher.dispatch(order([CHEAP]))
    attempt = completion(gateway)["attempt"]
    assert (attempt["input_tokens"], attempt["output_tokens"], attempt["usage_source"]) == (
        100,
        2,
        "estimate",
    )


async def test_a_fault_of_ours_completes_the_decision_and_is_told_as_such(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 with the decision's id; the log has the rest, and the row what was done."""
    gateway.script_each(POOL, breaks(ZeroDivisionError("a bug")), answered(), answered())
    error = await failure(gateway)
    assert isinstance(error, InternalError)
    assert "a bug" not in error.message
    assert "ZeroDivisionError: a bug" in caplog.text
    item = completion(gateway)
    assert (item["outcome_status"], item["attempt"]["status"]) == ("failed_other", "failed")
    assert item["attempt"]["http_calls"] == 1


async def test_no_room_for_completions_means_nothing_is_opened() -> None:
    """A record that is away does not fill the memory."""
    gateway = Gateway(max_pending_completions=1, completion_wait_seconds=1e-9)
    gateway.script_each(POOL, answered(), answered(), answered())
    gateway.postgrest.scripts["complete_decisions"] = [httpx.ConnectError("away")]
    assert (await served(gateway)).charge_nano_usd is None
    error = await failure(gateway)
    assert isinstance(error, StoreUnavailableError)
    assert len(gateway.postgrest.sent("insert_decisions")) == 1


async def test_a_completion_that_the_record_refuses_does_not_take_the_answer_away(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller has what was paid for; the log says what is to be looked at."""
    gateway.script_each(POOL, answered(), answered(), answered())
    gateway.postgrest.scripts["complete_decisions"] = [
        httpx.Response(400, json={"code": "22003", "message": "no"})
    ]
    delivery = await served(gateway)
    assert (delivery.charge_nano_usd, b"usage" in delivery.body) == (None, True)
    assert "was not completed" in caplog.text


async def test_a_stream_fails_over_until_somebody_has_content(gateway: Gateway) -> None:
    """Then it is that candidate's answer."""
    gateway.script_each(POOL, refused(500), streamed_answer("Hi"), streamed_answer())
    relay = await gateway.dispatcher.dispatch(order(POOL, stream=True))
    assert isinstance(relay, Relay)
    assert (relay.facts.model, relay.facts.attempts) == ("model-2", 2)
    await relay.aclose()
    await gateway.completions.drain()


async def test_every_call_to_the_record_names_the_organization(gateway: Gateway) -> None:
    """The database answers for no other."""
    gateway.script_each(POOL, refused(500), answered(usage=USAGE), answered())
    await served(gateway)
    items = [item for function, _ in gateway.postgrest.calls for item in gateway.postgrest.sent(function)]
    assert {item["organization_id"] for item in items} == {str(ORGANIZATION)}
    assert len(items) == 3


async def test_a_request_makes_two_calls_to_the_record_and_one_to_the_provider(gateway: Gateway) -> None:
    """One to open, one to complete: whoever adds a third has to say why."""
    gateway.script_each(POOL, answered(), answered(), answered())
    await gateway.dispatcher.dispatch(order(POOL))
    assert [function for function, _ in gateway.postgrest.calls] == ["insert_decisions", "complete_decisions"]
    assert len(gateway.providers.requests) == 1


async def test_a_request_that_fails_over_makes_one_call_more_for_each_further_attempt(
    gateway: Gateway,
) -> None:
    """The end of the one attempt and the beginning of the next go together."""
    gateway.script_each(POOL, refused(500), refused(500), answered())
    await gateway.dispatcher.dispatch(order(POOL))
    functions = [function for function, _ in gateway.postgrest.calls]
    assert functions == ["insert_decisions", "insert_attempts", "insert_attempts", "complete_decisions"]


async def test_requests_that_come_together_share_their_calls_to_the_record(gateway: Gateway) -> None:
    """However many there are, up to a batch: the record is asked twice, each provider's answer is its own."""
    gateway.script_each(POOL, answered(), answered(), answered())
    orders = [order(POOL) for _ in range(gateway.settings.store_batch_items)]
    deliveries = await asyncio.gather(*map(gateway.dispatcher.dispatch, orders))
    assert [function for function, _ in gateway.postgrest.calls] == ["insert_decisions", "complete_decisions"]
    assert len(gateway.providers.requests) == len(orders)
    assert [delivery.facts.decision_id for delivery in deliveries] == [asked.decision.id for asked in orders]


class Watched(dict[str, Any]):
    """A body that can be seen to be gone."""


async def test_a_request_that_failed_leaves_nothing_for_the_collector(gateway: Gateway) -> None:
    """An error that refers to the frames that refer to it would keep a whole body alive until somebody looks."""
    gateway.script_each(POOL, refused(500), refused(500), refused(500))
    gc.collect()
    gc.disable()
    try:
        asked = order(POOL)
        asked = replace(asked, body=Watched(asked.body))
        left = weakref.ref(asked.body)
        with pytest.raises(AllCandidatesFailedError):
            await gateway.dispatcher.dispatch(asked)
        del asked
        await asyncio.sleep(0)
        assert left() is None
    finally:
        gc.enable()
