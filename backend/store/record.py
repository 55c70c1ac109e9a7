"""The write path of the record: the functions of the database that open, advance and complete decisions.

Each takes and returns arrays there; what concurrent requests have for one of them goes in one call. All are idempotent by
ids made beforehand, so each item is simply sent again until it is answered or its time is up.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from backend.store.array_calls import ArrayCalls
from backend.store.client import DataApi, RecordError
from backend.store.group_commit import NEVER, GroupCommit, Item

OutcomeStatus = Literal[
    "succeeded", "failed_provider_error", "failed_other", "cancelled", "abandoned", "rejected_no_candidate"
]
RuleOverride = Literal["failed_pre_dispatch", "no_candidate_cleared_floor"]
AttemptStatus = Literal["succeeded", "failed", "cut", "cancelled", "not_sent"]


class AttemptOpening(Struct, frozen=True):
    """An attempt to be written before its call, and the most it can cost; it makes do with a bound down to the least."""

    inference_id: UUID
    candidate_id: UUID
    price_id: UUID
    bound_nano_usd: int
    least_bound_nano_usd: int | None = None


class PassedOver(Struct, frozen=True):
    """A candidate that cleared and was not called, and why."""

    candidate_id: UUID
    provider: str
    model: str
    reason: str
    retry_after_seconds: float | None


class AttemptResult(Struct, frozen=True, omit_defaults=True):
    """What became of an attempt. Token classes are disjoint; the database computes the cost.

    What is as by default is not sent: the database takes it for the same.
    """

    inference_id: UUID
    status: AttemptStatus
    output_limit_tokens: int
    http_calls: int
    duration_milliseconds: int
    http_status: int | None = None
    error_class: str | None = None
    error_message: str | None = None
    retry_after_seconds: float | None = None
    cooldown_seconds: float = 0.0
    provider_request_id: str | None = None
    first_content_milliseconds: int | None = None
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: Literal["provider", "estimate", "none"] = "none"
    usage_convention: str | None = None
    reported_usage: Mapping[str, Any] | None = None


class DecisionOpening(Struct, frozen=True):
    """A decision as it is opened: rule set, outcome and inference NULL.

    ``metered_tokens`` are taken from the rate limits; what the call would have cost at the two prices is kept with it.
    ``body_hash`` is the SHA-256 of the request's body, in hex: what the Idempotency-Key stands for, if there is one.
    """

    id: UUID
    organization_id: UUID
    agent_id: UUID
    api_key_id: UUID | None
    user_id: UUID | None
    requested_model: str
    requested_rule: str
    floor: float | None
    task: str
    stream: bool
    catalogue_version: int
    metered_tokens: int
    dearest_price_id: UUID | None
    baseline_price_id: UUID | None
    idempotency_key: str | None
    body_hash: str | None
    routing_request: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The decision that has an Idempotency-Key. ``outcome_status`` None: it is open; ``answer`` is sealed."""

    decision_id: UUID
    body_hash: str
    outcome_status: str | None
    charge_nano_usd: int | None
    answer: str | None

    @classmethod
    def from_record(cls, holder: Mapping[str, Any]) -> Self:
        """Build it from an answer of the database."""
        return cls(**{**holder, "decision_id": UUID(holder["decision_id"])})


class KeyHeldError(Exception):
    """Another decision has the request's Idempotency-Key; nothing was opened."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to an opening. ``outcome_status`` None: go ahead; else refused and completed, with the figures.

    ``bound_nano_usd`` is the attempt's, which may be lower than what was asked for; None where there is no attempt.
    ``keeps_answer``: the answer is to be stored for the request's Idempotency-Key.
    """

    outcome_status: str | None
    refusal: Mapping[str, Any]
    bound_nano_usd: int | None
    keeps_answer: bool = False

    @classmethod
    def from_record(cls, answer: Mapping[str, Any]) -> Self:
        """Build it from the answer of the function that opened."""
        return cls(
            answer["outcome_status"],
            answer["refusal"] or {},
            answer["bound_nano_usd"],
            bool(answer.get("keeps_answer")),
        )


@dataclass(frozen=True, slots=True)
class Completed:
    """A completed decision as it stands in the record.

    ``charge_nano_usd`` is what the tenant pays; the operator bears ``overrun_nano_usd``, what the provider charges beyond the
    bound, and ``operator_loss_nano_usd``, what was due and could not be paid any more.
    """

    outcome_status: str
    decision_rule: str
    inference_id: UUID | None
    charge_nano_usd: int
    overrun_nano_usd: int
    operator_loss_nano_usd: int

    @classmethod
    def from_record(cls, row: Mapping[str, Any]) -> Self:
        """Build it from an answer of the database."""
        inference_id = row["inference_id"]
        return cls(
            row["outcome_status"],
            row["decision_rule"],
            UUID(inference_id) if inference_id else None,
            row["charge_nano_usd"],
            row["overrun_nano_usd"],
            row["operator_loss_nano_usd"],
        )


class Record:
    """Writes decisions and attempts.

    Opening raises StoreUnavailableError when the record was not reached within ``retry_seconds``, and RecordError when it
    refused the item. ``passed_over`` are candidates that were not called since the last time.
    """

    def __init__(  # noqa: PLR0913 # one setting each
        self,
        api: DataApi,
        calls: ArrayCalls,
        *,
        lease_seconds: int,
        retry_seconds: float,
        key_seconds: int,
        batch_items: int,
        most_waiting: int,
    ) -> None:
        self._api = api
        self._lease_seconds = lease_seconds
        self._key_seconds = key_seconds
        self._retry_seconds = retry_seconds
        self._decisions, self._attempts, self._completions = (
            GroupCommit(partial(calls.call, function), batch_items=batch_items, most_waiting=most_waiting)
            for function in ("insert_decisions", "insert_attempts", "complete_decisions")
        )

    async def insert_decision(
        self,
        decision: DecisionOpening,
        attempt: AttemptOpening | None,
        passed_over: Sequence[PassedOver] = (),
        *,
        is_undone: bool = False,
    ) -> Opened:
        """Open a decision, with its first attempt if there is one to make: reserve, and write both, or be refused.

        ``is_undone``: it is to be completed right away, whenever that will be; tried for ever.

        Raises:
            KeyHeldError: another decision has its Idempotency-Key.
        """
        fields = {
            **asdict(decision),
            "passed_over": passed_over,
            "lease_seconds": self._lease_seconds,
            "key_seconds": self._key_seconds,
            **(asdict(attempt) if attempt else {}),
        }
        item = self._item(decision, fields, is_tried_for_ever=is_undone)
        self._decisions.put(item)
        answer = _sound(await item.answer)
        if answer.get("is_held"):
            raise KeyHeldError
        return Opened.from_record(answer)

    async def insert_attempt(
        self,
        decision: DecisionOpening,
        previous: AttemptResult,
        attempt: AttemptOpening,
        passed_over: Sequence[PassedOver] = (),
        *,
        is_undone: bool = False,
    ) -> Opened:
        """Finish the previous attempt and open the next one, its reservation raised where needed."""
        fields = {
            "decision_id": decision.id,
            "organization_id": decision.organization_id,
            "lease_seconds": self._lease_seconds,
            "passed_over": passed_over,
            "previous": previous,
            **asdict(attempt),
        }
        item = self._item(decision, fields, is_tried_for_ever=is_undone)
        self._attempts.put(item)
        return Opened.from_record(_sound(await item.answer))

    async def complete_decision(  # noqa: PLR0913 # each says one thing of the end, and most ends have few
        self,
        decision: DecisionOpening,
        outcome_status: OutcomeStatus,
        attempt: AttemptResult | None = None,
        passed_over: Sequence[PassedOver] = (),
        *,
        decision_rule_override: RuleOverride | None = None,
        answer: str | None = None,
    ) -> Completed:
        """Complete a decision: finish its last attempt, link the one really made, settle.

        The override says why there is no attempt to link; where one was made, the record keeps the requested rule.
        ``answer`` is what is stored for the request's Idempotency-Key.
        Tried for ever, whatever the record says but that this item makes no sense: the answer is paid for, and funds are held.
        """
        fields = {
            "id": decision.id,
            "organization_id": decision.organization_id,
            "outcome_status": outcome_status,
            "decision_rule_override": decision_rule_override,
            "passed_over": passed_over,
            "attempt": attempt,
            "answer": answer,
        }
        item = self._item(decision, fields, is_tried_for_ever=True)
        self._completions.put(item)
        return Completed.from_record(_sound(await item.answer))

    async def find_key_holder(self, decision: DecisionOpening) -> KeyHolder | None:
        """Return the decision that now has the Idempotency-Key of one that could not be opened, or None. Tried once."""
        parameters = {"agent_id": str(decision.agent_id), "key": decision.idempotency_key}
        holder = await self._api.call("read_idempotency_key", parameters)
        return KeyHolder.from_record(holder) if holder else None

    def _item(self, decision: DecisionOpening, fields: Mapping[str, Any], *, is_tried_for_ever: bool) -> Item:
        deadline = NEVER if is_tried_for_ever else time.monotonic() + self._retry_seconds
        return Item(_json(fields), decision.organization_id, deadline)


def _json(fields: Mapping[str, Any]) -> bytes:
    content = msgspec.json.encode(fields)
    # Postgres stores every character but this one, and providers' messages may hold it.
    if rb"\u0000" in content:
        return msgspec.json.encode(_without_nul(msgspec.json.decode(content)))
    return content


def _without_nul(value: Any) -> Any:  # noqa: ANN401 # JSON
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(entry) for entry in value]
    return {name: _without_nul(entry) for name, entry in value.items()} if isinstance(value, dict) else value


def _sound(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer, unless it says that its item makes no sense."""
    if answer["error"]:
        raise RecordError(f"The record does not take {answer['id']}: {answer['error']}")
    return answer
