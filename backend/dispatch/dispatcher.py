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
from backend.dispatch.answers import Delivery, Facts, Vault
from backend.dispatch.attempt import Attempt
from backend.dispatch.body import provider_body
from backend.dispatch.completions import Completions
from backend.dispatch.cooldowns import Cooldowns
from backend.dispatch.order import Order
from backend.dispatch.progress import Progress
from backend.dispatch.relay import Relay
from backend.errors import (
    ClearfloorError,
    DispatchError,
    InternalError,
    ModelUnavailableError,
    StoreUnavailableError,
)
from backend.ids import uuid7
from backend.providers.types import ChatAnswer, ChatStream, Provider, ProviderCall
from backend.routing.catalogue import Candidate
from backend.routing.rank import Scored
from backend.settings import Settings, provider_key
from backend.store.client import RecordError
from backend.store.record import (
    Completed,
    KeyHeldError,
    Opened,
    OutcomeStatus,
    PassedOver,
    Record,
    RuleOverride,
)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Everything that carrying out a decision needs. ``providers`` by wire format; ``vault`` None: no answer is stored."""

    record: Record
    providers: Mapping[str, Provider]
    cooldowns: Cooldowns
    completions: Completions
    settings: Settings
    vault: Vault | None

    async def dispatch(self, order: Order) -> Delivery | Relay:
        """Carry an order out, to a plain answer or to a stream whose first content is there.

        Cancelled, it breaks off what is under way and completes the decision as cancelled.

        Raises:
            ClearfloorError: it was refused, nobody answered or the record is away. The decision is completed or, the
                record being away, will be.
            KeyHeldError: another decision has the order's Idempotency-Key; none was opened.
        """
        self.completions.require_room()
        progress = Progress(time.monotonic() + self.settings.request_deadline_seconds)
        try:
            return await self._work_through(order, progress)
        except ClearfloorError as error:
            error.decision_id = order.decision.id
            error.attempts = progress.calls
            raise
        except KeyHeldError:
            raise
        except Exception as error:
            # A bug must not leave funds held until the sweep.
            _LOGGER.exception("Decision %s failed by a fault of ours", order.decision.id)
            if progress.last:
                result = progress.last.failed()
                self.completions.start(
                    order.decision.id, self.record.complete_decision(order.decision, "failed_other", result)
                )
            raise InternalError(
                "An internal fault. Nothing is charged, and what was reserved is released.",
                decision_id=order.decision.id,
            ) from error

    async def _work_through(self, order: Order, progress: Progress) -> Delivery | Relay:
        if not order.ranking.eligible:
            await self._complete_unattempted(order, progress, "no_candidate_cleared_floor")
            raise refusals.nothing_clears(order)
        for scored in order.ranking.eligible:
            if reason := self.unavailable(scored.candidate):
                progress.pass_over(scored, reason)
                continue
            attempt, answer = await self.dispatch_inference(order, scored, progress)
            if answer is not None:
                return await self._deliver(order, attempt, answer, progress)
            if progress.is_late or not _may_go_on(order, attempt):
                break
        raise await self._give_up(order, progress)

    async def dispatch_inference(
        self, order: Order, scored: Scored, progress: Progress, *, inference_id: UUID | None = None
    ) -> tuple[Attempt, ChatAnswer | ChatStream | None]:
        """Make one attempt: write its row, then call. The answer is None if it failed; ``attempt.error`` says how.

        The row's id is ``inference_id``, or a new one. The first attempt opens the decision; a later one finishes the
        one before it (``progress.last``) in the same transaction.

        Raises:
            ClearfloorError: the record refused the reservation, or is away.
        """
        attempt = Attempt(
            inference_id or uuid7(), scored, order.choices, order.output_limit_tokens, order.may_clamp
        )
        await self._open(order, attempt, progress)
        try:
            # Asked again between the row and the call: a cooldown may have begun meanwhile.
            if reason := self.unavailable(scored.candidate):
                raise reason
            call = self._call_of(order, attempt, progress)
            provider = self.providers[scored.candidate.wire_format]
            make_call = provider.chat_stream if order.stream else provider.chat
            answer: ChatAnswer | ChatStream = await attempt.call(lambda: make_call(call), progress.deadline)
        except asyncio.CancelledError:
            result = attempt.broken_off()
            self.completions.start(
                order.decision.id, self.record.complete_decision(order.decision, "cancelled", result)
            )
            raise
        except DispatchError as error:
            self._note_failure(order, attempt, error)
            progress.failed(attempt)
            return attempt, None
        progress.calls += 1
        attempt.answered(answer.request_id, is_stream=order.stream)
        return attempt, answer

    def uncallable(self, candidate: Candidate) -> ModelUnavailableError | None:
        """Say why this process cannot call a candidate at all, or None."""
        if candidate.wire_format not in self.providers:
            return ModelUnavailableError("wire_format", f"nothing here speaks {candidate.wire_format}")
        if candidate.api_key_variable and not provider_key(candidate.api_key_variable):
            return ModelUnavailableError("no_credentials", f"{candidate.api_key_variable} holds no key")
        return None

    def unavailable(self, candidate: Candidate) -> ModelUnavailableError | None:
        """Say why a candidate cannot be called now, or None."""
        if reason := self.uncallable(candidate):
            return reason
        cooling = self.cooldowns.remaining_seconds(candidate.id)
        if cooling:
            return ModelUnavailableError("cooling_down", "it cools down", retry_after_seconds=cooling)
        return None

    async def _open(self, order: Order, attempt: Attempt | None, progress: Progress) -> None:
        """Write the opening of a decision, or of its next attempt; one that is not answered is undone later."""
        passed_over = progress.take_unwritten()
        try:
            opened = await self._write_opening(order, attempt, progress.last, passed_over)
        except (StoreUnavailableError, RecordError, asyncio.CancelledError) as error:
            # It may have been written by an earlier try whose answer was lost.
            if not isinstance(error, RecordError) or not error.is_final:
                status = _status_of_undone(error, progress)
                undoing = self._undo(order, attempt, progress.last, passed_over, status)
                self.completions.start(order.decision.id, undoing)
            raise
        if opened.outcome_status:
            self.completions.forget(order.decision.id)
            raise refusals.refused(opened, order.decision.id)
        self.completions.expect(order.decision.id)
        progress.keeps_answer |= opened.keeps_answer
        if attempt and opened.bound_nano_usd is not None:
            attempt.granted(opened.bound_nano_usd)
        progress.last = attempt

    async def _write_opening(
        self,
        order: Order,
        attempt: Attempt | None,
        previous: Attempt | None,
        passed_over: list[PassedOver],
        *,
        is_undone: bool = False,
    ) -> Opened:
        if attempt and previous:
            return await self.record.insert_attempt(
                order.decision, previous.failed(), attempt.opening(), passed_over, is_undone=is_undone
            )
        return await self.record.insert_decision(
            order.decision, attempt.opening() if attempt else None, passed_over, is_undone=is_undone
        )

    async def _undo(
        self,
        order: Order,
        attempt: Attempt | None,
        previous: Attempt | None,
        passed_over: list[PassedOver],
        status: OutcomeStatus,
    ) -> Completed | None:
        """Complete a decision whose opening was not answered: it may have been written, or be on its way still.

        So it is opened for certain first, which changes nothing if it is open already. None: another one has its key.
        """
        try:
            await self._write_opening(order, attempt, previous, passed_over, is_undone=True)
        except KeyHeldError:
            return None
        return await self.record.complete_decision(
            order.decision, status, attempt.result("not_sent") if attempt else None
        )

    def _call_of(self, order: Order, attempt: Attempt, progress: Progress) -> ProviderCall:
        candidate = attempt.scored.candidate
        return ProviderCall(
            base_url=candidate.base_url,
            api_key=provider_key(candidate.api_key_variable),
            body=provider_body(order, attempt),
            choices=order.choices,
            usage_convention=candidate.usage_convention,
            deadline=progress.deadline,
            first_content_timeout_seconds=self.settings.provider_first_content_timeout_seconds,
            idle_timeout_seconds=self.settings.provider_idle_timeout_seconds,
            tail_timeout_seconds=self.settings.provider_tail_timeout_seconds,
            most_answer_bytes=self.settings.max_answer_bytes,
        )

    def _note_failure(self, order: Order, attempt: Attempt, error: DispatchError) -> None:
        candidate = attempt.scored.candidate
        _LOGGER.warning(
            "Decision %s: %s at %s did not answer: %s, HTTP %s",
            *(order.decision.id, candidate.model, candidate.provider, error.error_class, error.status),
        )
        attempt.failed_with(error, self._cooldown_seconds(error))
        if attempt.cooldown_seconds:
            self.cooldowns.start(candidate.id, attempt.cooldown_seconds)

    def _cooldown_seconds(self, error: DispatchError) -> float:
        if error.error_class == "rate_limited":
            return error.retry_after_seconds or self.settings.rate_limit_cooldown_seconds
        if error.error_class == "credentials":
            return self.settings.credentials_cooldown_seconds
        return 0.0

    async def _deliver(
        self, order: Order, attempt: Attempt, answer: ChatAnswer | ChatStream, progress: Progress
    ) -> Delivery | Relay:
        if not isinstance(answer, ChatAnswer):
            return Relay(order, attempt, answer, self.record, self.completions, progress)
        usage = answer.usage or attempt.estimated_usage(answer.output_bytes)
        facts = Facts.of(order.decision, progress.calls, attempt)
        completion = self.record.complete_decision(
            order.decision,
            "succeeded",
            attempt.result("succeeded", usage),
            answer=self._sealed(facts, answer.body, progress),
        )
        completed = await self.completions.finish(order.decision.id, completion)
        return Delivery(facts, answer.body, completed.charge_nano_usd if completed else None)

    def _sealed(self, facts: Facts, body: bytes, progress: Progress) -> str | None:
        if not progress.keeps_answer:
            return None
        if self.vault is None:
            _LOGGER.warning(
                "Decision %s: its organization has answers stored, but CLEARFLOOR_ANSWER_KEYS is not set: a repeat gets 409",
                facts.decision_id,
            )
            return None
        return self.vault.seal(facts, body)

    async def _give_up(self, order: Order, progress: Progress) -> ClearfloorError:
        if progress.last is None:
            await self._complete_unattempted(order, progress, "failed_pre_dispatch")
        else:
            completion = self.record.complete_decision(
                order.decision, "failed_provider_error", progress.last.failed(), progress.take_unwritten()
            )
            await self.completions.finish(order.decision.id, completion)
        waits = [self.cooldowns.remaining_seconds(scored.candidate.id) for scored in order.ranking.eligible]
        return refusals.nobody_answered(order, progress, min((wait for wait in waits if wait), default=None))

    async def _complete_unattempted(self, order: Order, progress: Progress, override: RuleOverride) -> None:
        """Record a decision that comes to no attempt: open it without one, then complete it."""
        await self._open(order, None, progress)
        status: OutcomeStatus = (
            "rejected_no_candidate" if override == "no_candidate_cleared_floor" else "failed_provider_error"
        )
        completion = self.record.complete_decision(order.decision, status, decision_rule_override=override)
        await self.completions.finish(order.decision.id, completion)


def _status_of_undone(error: BaseException, progress: Progress) -> OutcomeStatus:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, RecordError):
        return "failed_other"
    return "failed_provider_error" if progress.calls else "abandoned"


def _may_go_on(order: Order, failed: Attempt) -> bool:
    """Tell whether another candidate may be tried: always after one that was not even called."""
    if not failed.http_calls:
        return True
    # One that is explored may refuse what those that clear the floor would take.
    is_explored = order.ranking.explores and failed.scored is order.ranking.eligible[0]
    return order.may_fail_over and failed.error is not None and (failed.error.fails_over or is_explored)
