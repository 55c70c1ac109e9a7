"""The write path: two phases, each sent again under the same ids until it is answered."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace

from backend.errors import StoreUnavailableError
from backend.ids import uuid7
from backend.store.client import RecordError
from backend.store.record import AttemptOpening, AttemptResult, Completed, DecisionOpening, PassedOver
from tests.unit.boundary import Gateway
from tests.unit.samples import AGENT, ORGANIZATION, candidate, order

SMALL = candidate("small")


def decision() -> DecisionOpening:
    """Return a decision that is to be opened."""
    return order([SMALL]).decision


def attempt() -> AttemptOpening:
    """Return its first attempt."""
    return AttemptOpening(uuid7(), UUID(SMALL["id"]), UUID(SMALL["price"]["id"]), 1234)


def result(**changes: Any) -> AttemptResult:  # fields are of many types
    """Return what became of an attempt."""
    fields = {
        "inference_id": uuid7(),
        "status": "succeeded",
        "output_limit_tokens": 100,
        "http_calls": 1,
        "duration_milliseconds": 5,
    }
    return AttemptResult(**{**fields, **changes})


async def test_a_decision_is_inserted_with_its_rule_and_without_outcome_or_inference_link(
    gateway: Gateway,
) -> None:
    """The first of two phases: outcome_status and the link are NULL, the attempt is a row of its own."""
    opening, first = decision(), attempt()
    opened = await gateway.record.insert_decision(opening, first)
    assert (opened.outcome_status, opened.refusal) == (None, {})
    (item,) = gateway.postgrest.sent("insert_decisions")
    assert item["id"] == str(opening.id)
    assert item["requested_rule"] == "cheapest_clearing_floor"
    assert item["lease_seconds"] == gateway.settings.lease_seconds
    assert (item["organization_id"], item["agent_id"]) == (str(ORGANIZATION), str(AGENT))
    assert (item["inference_id"], item["bound_nano_usd"]) == (str(first.inference_id), 1234)
    assert {"outcome_status", "decision_rule", "decision_rule_override", "charge_nano_usd"}.isdisjoint(item)


async def test_a_decision_without_an_attempt_is_inserted_without_one(gateway: Gateway) -> None:
    """Nothing is reserved for it."""
    await gateway.record.insert_decision(decision(), None)
    (item,) = gateway.postgrest.sent("insert_decisions")
    assert {"inference_id", "candidate_id", "price_id", "bound_nano_usd"}.isdisjoint(item)


@pytest.mark.parametrize("override", [None, "failed_pre_dispatch", "no_candidate_cleared_floor"])
async def test_a_decision_is_completed_with_its_rule_override(gateway: Gateway, override: Any) -> None:
    """The second of two phases: the outcome, and why there is no attempt to link, if there is none."""
    opening = decision()
    await gateway.record.complete_decision(opening, "failed_provider_error", decision_rule_override=override)
    assert gateway.postgrest.sent("complete_decisions") == [
        {
            "id": str(opening.id),
            "organization_id": str(ORGANIZATION),
            "outcome_status": "failed_provider_error",
            "decision_rule_override": override,
            "passed_over": [],
            "attempt": None,
            "answer": None,
        }
    ]


async def test_a_completed_decision_is_handed_back_as_it_stands(gateway: Gateway) -> None:
    """Whatever was asked: the record's answer counts."""
    linked = uuid7()
    gateway.postgrest.scripts["complete_decisions"] = [
        [
            {
                "id": None,
                "error": None,
                "outcome_status": "abandoned",
                "decision_rule": "cheapest_clearing_floor",
                "inference_id": str(linked),
                "charge_nano_usd": 7,
                "overrun_nano_usd": 3,
                "operator_loss_nano_usd": 2,
            }
        ]
    ]
    completed = await gateway.record.complete_decision(decision(), "succeeded", result())
    assert completed == Completed("abandoned", "cheapest_clearing_floor", linked, 7, 3, 2)


async def test_an_attempt_s_result_is_sent_with_every_class_of_tokens(gateway: Gateway) -> None:
    """The database computes the cost from them; nothing is left for it to guess."""
    sent = result(
        input_tokens=1, cache_read_tokens=2, cache_write_tokens=3, output_tokens=4, reasoning_tokens=5
    )
    await gateway.record.complete_decision(decision(), "succeeded", sent)
    (item,) = gateway.postgrest.sent("complete_decisions")
    names = ("input", "cache_read", "cache_write", "output", "reasoning")
    assert [item["attempt"][f"{name}_tokens"] for name in names] == [1, 2, 3, 4, 5]
    assert "cost_nano_usd" not in item["attempt"]


async def test_the_next_attempt_finishes_the_previous_in_the_same_call(gateway: Gateway) -> None:
    """One transaction: there is no moment with two open attempts, or none."""
    opening, previous, following = decision(), result(status="failed"), attempt()
    await gateway.record.insert_attempt(opening, previous, following)
    (item,) = gateway.postgrest.sent("insert_attempts")
    assert item["decision_id"] == str(opening.id)
    assert item["previous"]["inference_id"] == str(previous.inference_id)
    assert item["inference_id"] == str(following.inference_id)
    assert len(gateway.postgrest.calls) == 1


async def test_a_character_that_postgres_cannot_store_is_left_out(gateway: Gateway) -> None:
    """A provider's message must not keep its failure from being recorded."""
    await gateway.record.complete_decision(decision(), "failed_provider_error", result(error_message="a\0b"))
    assert gateway.postgrest.sent("complete_decisions")[0]["attempt"]["error_message"] == "ab"
    await gateway.record.insert_decision(
        replace(decision(), routing_request={"fields": ("a\0b",)}), attempt()
    )
    assert gateway.postgrest.sent("insert_decisions")[0]["routing_request"] == {"fields": ["ab"]}


@pytest.mark.parametrize("function", ["insert_decisions", "insert_attempts", "complete_decisions"])
async def test_a_call_is_sent_again_exactly_as_it_was_until_it_is_answered(
    gateway: Gateway, function: str, waits: list[float]
) -> None:
    """The same ids each time: whether or not the first one arrived, it counts once."""
    away = httpx.Response(503, json={"code": "PGRST001", "message": "away"})
    gateway.postgrest.scripts[function] = [httpx.ConnectError("down"), away, httpx.ReadTimeout("slow")]
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "insert_decisions": lambda: gateway.record.insert_decision(decision(), attempt()),
        "insert_attempts": lambda: gateway.record.insert_attempt(decision(), result(), attempt()),
        "complete_decisions": lambda: gateway.record.complete_decision(decision(), "succeeded", result()),
    }
    await calls[function]()
    assert len(waits) == 3
    assert len({request.content for request in gateway.postgrest.requests}) == 1
    assert len(gateway.postgrest.requests) == 4


@pytest.mark.usefixtures("waits")
async def test_an_opening_gives_up_in_time_and_a_completion_never() -> None:
    """The one has cost nothing yet; the other is paid for."""
    gateway = Gateway(store_retry_seconds=0.001)
    gateway.postgrest.scripts["insert_decisions"] = [httpx.ConnectError("down")] * 100_000
    with pytest.raises(StoreUnavailableError):
        await gateway.record.insert_decision(decision(), attempt())
    tried = len(gateway.postgrest.requests)
    gateway.postgrest.scripts["complete_decisions"] = [httpx.ConnectError("down")] * (tried + 200)
    await gateway.record.complete_decision(decision(), "succeeded", result())
    assert len(gateway.postgrest.requests) == 2 * tried + 201


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("code", ["25006", "42501", "42883", "XX000", "PGRST202", "PGRST301"])
async def test_a_completion_outlasts_whatever_somebody_can_mend(gateway: Gateway, code: str) -> None:
    """A standby, a right or a key that is missing for a while: the answer is paid for."""
    refusal = httpx.Response(403, json={"code": code, "message": "no", "details": None, "hint": None})
    gateway.postgrest.scripts["complete_decisions"] = [refusal] * 3
    completed = await gateway.record.complete_decision(decision(), "succeeded", result())
    assert completed.outcome_status == "succeeded"
    assert len(gateway.postgrest.requests) == 4


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("code", ["22P02", "23514"])
async def test_a_completion_that_can_never_be_written_is_given_up(gateway: Gateway, code: str) -> None:
    """The same values would be refused again."""
    refusal = httpx.Response(400, json={"code": code, "message": "no", "details": None, "hint": None})
    gateway.postgrest.scripts["complete_decisions"] = [refusal]
    with pytest.raises(RecordError):
        await gateway.record.complete_decision(decision(), "succeeded", result())
    assert len(gateway.postgrest.requests) == 1


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        ("insert_decisions", {"id": None, "error": "unknown_agent_or_price"}),
        ("insert_decisions", {"id": None, "error": "id_taken"}),
        ("insert_attempts", {"id": None, "error": "unfit_attempt"}),
        ("complete_decisions", {"id": None, "error": "unknown_decision"}),
    ],
)
async def test_an_item_that_the_record_does_not_know_is_a_fault_and_no_outage(
    gateway: Gateway, function: str, answer: dict[str, object]
) -> None:
    """Asking again would not mend it."""
    gateway.postgrest.scripts[function] = [[answer]]
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "insert_decisions": lambda: gateway.record.insert_decision(decision(), attempt()),
        "insert_attempts": lambda: gateway.record.insert_attempt(decision(), result(), attempt()),
        "complete_decisions": lambda: gateway.record.complete_decision(decision(), "succeeded", result()),
    }
    with pytest.raises(RecordError):
        await calls[function]()
    assert len(gateway.postgrest.requests) == 1


async def test_a_decision_that_is_over_is_not_gone_on_with(gateway: Gateway) -> None:
    """It was swept meanwhile, say: no attempt is opened, and the record's word is handed on."""
    gateway.postgrest.scripts["insert_attempts"] = [
        [
            {
                "id": None,
                "opened": False,
                "bound_nano_usd": None,
                "outcome_status": "abandoned",
                "refusal": None,
                "error": None,
            }
        ]
    ]
    opened = await gateway.record.insert_attempt(decision(), result(), attempt())
    assert opened.outcome_status == "abandoned"


async def test_candidates_that_were_passed_over_are_sent_with_whatever_is_written_next(
    gateway: Gateway,
) -> None:
    """With what a tenant needs to understand why a dearer one answered."""
    passed_over = [PassedOver(uuid7(), "acme", "small", "cooling_down", 9.5)]
    await gateway.record.insert_decision(decision(), attempt(), passed_over)
    await gateway.record.insert_attempt(decision(), result(), attempt(), passed_over)
    await gateway.record.complete_decision(decision(), "succeeded", result(), passed_over)
    expected = {
        "candidate_id": str(passed_over[0].candidate_id),
        "provider": "acme",
        "model": "small",
        "reason": "cooling_down",
        "retry_after_seconds": 9.5,
    }
    for function in ("insert_decisions", "insert_attempts", "complete_decisions"):
        assert gateway.postgrest.sent(function)[0]["passed_over"] == [expected]
