"""Carries a decision out: opens it, works through the ranking, completes it.

The ranking is not touched here. A candidate that is unavailable is passed over; one that fails is followed by the next.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from backend.dispatch import refusals
from backend.dispatch.attempt import Attempt, estimated_usage
from backend.dispatch.completions import Completions
from backend.dispatch.cooldowns import Cooldowns
from backend.dispatch.order import Delivery, Order
from backend.dispatch.relay import Relay
from backend.errors import (
    ClearfloorError,
    DispatchError,
    InternalError,
    ModelUnavailableError,
    ProviderError,
    StoreUnavailableError,
)
from backend.ids import uuid7
from backend.providers.types import ChatAnswer, ChatStream, Provider, ProviderCall
from backend.routing.catalogue import Candidate
from backend.routing.rank import Scored
from backend.settings import Settings, provider_key
from backend.store.record import Opened, OutcomeStatus, Record, RuleOverride

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Everything that carrying out a decision needs. ``providers`` by wire format."""

    record: Record
    providers: Mapping[str, Provider]
    cooldowns: Cooldowns
    completions: Completions
    settings: Settings

    async def dispatch(self, order: Order) -> "Delivery | Relay":
        """Carry an order out, to a plain answer or to a stream whose first content is there.

        Raises:
            ClearfloorError: it was refused, nobody answered or the record is away. The decision is completed or, the
                record being away, will be.
        """
        self.completions.require_room()
        try:
            return await self._work_through(order)
        except ClearfloorError:
            raise
        except Exception as error:
            _LOGGER.exception("Decision %s failed by a fault of ours", order.decision.id)
            self.completions.start(self.record.complete_decision(order.decision, "failed_other"))
            raise InternalError(
                "An internal fault; the decision is recorded and nothing is charged.",
                decision_id=order.decision.id,
            ) from error

    async def _work_through(self, order: Order) -> "Delivery | Relay":
        if not order.ranking.clearing:
            await self._complete_unopened(order, "no_candidate_cleared_floor")
            raise refusals.nothing_clears(order)
        deadline = time.monotonic() + self.settings.request_deadline_seconds
        failed: Attempt | None = None
        for scored in order.ranking.clearing:
            if self.unavailable(scored.candidate):
                continue
            attempt, answer = await self.dispatch_inference(order, scored, failed=failed, deadline=deadline)
            if answer is not None:
                return await self._deliver(order, attempt, answer, deadline)
            failed = attempt
            if not (order.may_fail_over and attempt.may_be_followed and time.monotonic() < deadline):
                break
        raise await self._give_up(order, failed)

    async def dispatch_inference(
        self,
        order: Order,
        scored: Scored,
        *,
        failed: Attempt | None = None,
        deadline: float,
        inference_id: UUID | None = None,
    ) -> tuple[Attempt, ChatAnswer | ChatStream | None]:
        """Make one attempt: write its row, then call. The answer is None if it failed; ``attempt.error`` says how.

        The row's id is ``inference_id``, or a new one. The first attempt opens the decision; a later one finishes
        ``failed``, the attempt before it, in the same transaction. ``deadline`` is in terms of ``time.monotonic``.

        Raises:
            ClearfloorError: the record refused the reservation, or is away.
        """
        attempt = Attempt(inference_id or uuid7(), scored, number=failed.number + 1 if failed else 1)
        await self._open(order, attempt, failed)
        try:
            # Asked again between the row and the call: a cooldown may have begun meanwhile.
            if reason := self.unavailable(scored.candidate):
                raise reason
            return attempt, await attempt.call(
                lambda: self._call(order, scored.candidate, deadline), deadline
            )
        except asyncio.CancelledError:
            # The server is going down under the call.
            result = attempt.ended_early("cancelled", None, None)
            self.completions.start(self.record.complete_decision(order.decision, "cancelled", result))
            raise
        except DispatchError as error:
            attempt.error = error
            attempt.cooldown_seconds = self._cooldown_seconds(error)
            if attempt.cooldown_seconds:
                self.cooldowns.start(scored.candidate.id, attempt.cooldown_seconds)
            return attempt, None

    def unavailable(self, candidate: Candidate) -> ModelUnavailableError | None:
        """Say why a candidate cannot be called now, or None."""
        if candidate.wire_format not in self.providers:
            return ModelUnavailableError("wire_format", f"no provider speaks {candidate.wire_format}")
        if candidate.api_key_variable and not provider_key(candidate.api_key_variable):
            return ModelUnavailableError("credentials", f"{candidate.api_key_variable} is not set")
        cooling = self.cooldowns.remaining_seconds(candidate.id)
        if cooling:
            return ModelUnavailableError("cooling_down", "it cools down", retry_after_seconds=cooling)
        return None

    async def _open(self, order: Order, attempt: Attempt, failed: Attempt | None) -> None:
        opened = await self._write_opening(order, attempt, failed)
        if opened.outcome_status:
            error = refusals.refused(opened, order.decision.id)
            error.attempts = failed.number if failed else 0
            raise error

    async def _write_opening(self, order: Order, attempt: Attempt, failed: Attempt | None) -> Opened:
        try:
            if failed is None:
                return await self.record.insert_decision(order.decision, attempt.opening())
            return await self.record.insert_attempt(order.decision, failed.failed(), attempt.opening())
        except StoreUnavailableError:
            # Whatever was written meanwhile is completed as soon as the record is back: no funds stay held.
            self.completions.start(
                self.record.complete_decision(order.decision, "failed_provider_error", failed.failed())
                if failed
                else self.record.undo_opening(order.decision, attempt.opening(), attempt.failed())
            )
            raise

    async def _call(self, order: Order, candidate: Candidate, deadline: float) -> ChatAnswer | ChatStream:
        provider = self.providers[candidate.wire_format]
        call = ProviderCall(
            base_url=candidate.base_url,
            api_key=provider_key(candidate.api_key_variable),
            body=_provider_body(order, candidate),
            timeout_seconds=min(
                self.settings.provider_first_byte_timeout_seconds, max(deadline - time.monotonic(), 0.0)
            ),
            idle_timeout_seconds=self.settings.provider_idle_timeout_seconds,
            most_answer_bytes=self.settings.max_answer_bytes,
        )
        return await (provider.chat_stream(call) if order.stream else provider.chat(call))

    def _cooldown_seconds(self, error: DispatchError) -> float:
        if error.error_class == "rate_limited":
            return error.retry_after_seconds or self.settings.rate_limit_cooldown_seconds
        if isinstance(error, ProviderError) and error.error_class == "credentials":
            return self.settings.credentials_cooldown_seconds
        return 0.0

    async def _deliver(
        self, order: Order, attempt: Attempt, answer: ChatAnswer | ChatStream, deadline: float
    ) -> "Delivery | Relay":
        if not isinstance(answer, ChatAnswer):
            return Relay(order, attempt, answer, self.record, self.completions, deadline)
        usage = answer.usage or estimated_usage(order.body_bytes, answer.output_bytes)
        result = attempt.succeeded(usage, answer.request_id)
        completion = self.record.complete_decision(order.decision, "succeeded", result)
        return Delivery(attempt.scored, attempt.number, answer, await self.completions.finish(completion))

    async def _give_up(self, order: Order, failed: Attempt | None) -> ClearfloorError:
        earliest = self._earliest_seconds(order)
        if failed is None:
            await self._complete_unopened(order, "failed_pre_dispatch")
            return refusals.nobody_answered(order, None, earliest)
        completion = self.record.complete_decision(order.decision, "failed_provider_error", failed.failed())
        await self.completions.finish(completion)
        error = refusals.nobody_answered(order, failed.error, earliest)
        error.attempts = failed.number
        return error

    async def _complete_unopened(self, order: Order, override: RuleOverride) -> None:
        """Record a decision that comes to no attempt: open it without one, then complete it."""
        opened = await self.record.insert_decision(order.decision, None)
        if opened.outcome_status:
            raise refusals.refused(opened, order.decision.id)
        status: OutcomeStatus = (
            "rejected_no_candidate" if override == "no_candidate_cleared_floor" else "failed_provider_error"
        )
        await self.completions.finish(
            self.record.complete_decision(order.decision, status, decision_rule_override=override)
        )

    def _earliest_seconds(self, order: Order) -> float | None:
        waits = [self.cooldowns.remaining_seconds(scored.candidate.id) for scored in order.ranking.clearing]
        return min((wait for wait in waits if wait), default=None)


def _provider_body(order: Order, candidate: Candidate) -> dict[str, object]:
    body = {**order.body, "model": candidate.upstream_model}
    if not order.names_output_limit:
        body[candidate.output_limit_field] = order.output_limit_tokens
    if order.stream:
        # Always asked for: an answer without usage could only be estimated. Stripped again for callers who did not ask.
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body
