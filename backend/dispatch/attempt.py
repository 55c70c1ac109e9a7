"""One attempt: one call to one candidate (up to three over HTTP, where a 429 is retried), and its result."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

from backend.errors import DispatchError, ModelUnavailableError
from backend.providers.types import Usage
from backend.retries import chat_with_429_retry
from backend.routing.rank import Scored
from backend.store.record import AttemptOpening, AttemptResult, AttemptStatus

T = TypeVar("T")

# Where a provider reports no usage: a token of text is about four bytes. Labelled `estimate` in the record.
_ESTIMATED_BYTES_PER_TOKEN = 4


@dataclass(slots=True)
class Attempt:
    """An attempt under its pre-allocated id.

    Attributes:
        choices: how many answers are asked for.
        output_limit_tokens: limit of each answer; lowered where the record grants less than the bound.
        may_clamp: whether it may be lowered.
        is_clamped: whether it was.
    """

    inference_id: UUID
    scored: Scored
    choices: int
    output_limit_tokens: int
    may_clamp: bool = False
    is_clamped: bool = False
    http_calls: int = 0
    started_at: float = field(default_factory=time.monotonic)
    first_content_milliseconds: int | None = None
    http_status: int | None = None
    request_id: str | None = None
    error: DispatchError | None = None
    cooldown_seconds: float = 0.0
    _is_under_way: bool = False

    def opening(self) -> AttemptOpening:
        """Return what is written before the call."""
        price = self.scored.candidate.price
        return AttemptOpening(
            self.inference_id,
            self.scored.candidate.id,
            price.id,
            self.scored.bound_nano_usd,
            # Enough for a token of each answer.
            price.bound(self.scored.most_input_tokens, self.choices) if self.may_clamp else None,
        )

    def granted(self, bound_nano_usd: int) -> None:
        """Note the bound that the record granted, and lower the output limit to what it affords."""
        if bound_nano_usd >= self.scored.bound_nano_usd:
            return
        price = self.scored.candidate.price
        affordable = price.affordable_output(bound_nano_usd, self.scored.most_input_tokens)
        if affordable is not None:
            self.output_limit_tokens = min(self.output_limit_tokens, affordable // self.choices)
            self.is_clamped = True

    async def call(self, make_call: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Make the call, retried on 429 until ``deadline`` (in terms of ``time.monotonic``) and counted.

        Raises:
            ProviderError: it failed.
            ModelUnavailableError: it could not be made.
        """

        async def counted() -> T:
            self.http_calls += 1
            self._is_under_way = True
            try:
                answer = await make_call()
            except DispatchError as error:
                self._is_under_way = False
                self.http_calls -= isinstance(error, ModelUnavailableError)
                raise
            self._is_under_way = False
            return answer

        return await chat_with_429_retry(counted, deadline=deadline)

    def answered(self, request_id: str | None, *, is_stream: bool) -> None:
        """Note that a call was answered: as a whole, or by a stream with its first content."""
        self.http_status = HTTPStatus.OK
        self.request_id = request_id
        if is_stream:
            self.first_content_milliseconds = self.elapsed_milliseconds()

    def failed_with(self, error: DispatchError, cooldown_seconds: float = 0.0) -> None:
        """Note why there is no answer, or no whole one."""
        # Its traceback holds all that the request holds, and that holds this attempt: the collector would have to find them.
        self.error = error.with_traceback(None)
        self.cooldown_seconds = cooldown_seconds
        self.http_status = error.status or self.http_status
        self.request_id = error.request_id or self.request_id

    def elapsed_milliseconds(self) -> int:
        """Return how long the attempt has been going on."""
        return round((time.monotonic() - self.started_at) * 1000)

    def failed(self) -> AttemptResult:
        """Return the result of an attempt that brought nothing: not answered, or not even sent."""
        return self.result("failed" if self.http_calls else "not_sent")

    def broken_off(self) -> AttemptResult:
        """Return the result of an attempt that nobody waits for any more. What it was sent by then is paid for."""
        if not self.http_calls:
            return self.result("not_sent")
        return self.result("cancelled", self.estimated_usage(0) if self._is_under_way else None)

    def estimated_usage(self, output_bytes: int) -> Usage:
        """Return what the call has probably used, by what went in and the bytes that came out."""
        return Usage(
            input_tokens=self.scored.expected_input_tokens,
            output_tokens=math.ceil(output_bytes / _ESTIMATED_BYTES_PER_TOKEN),
        )

    def result(self, status: AttemptStatus, usage: Usage | None = None) -> AttemptResult:
        """Return what became of the attempt. ``usage`` None: it used nothing, or nobody can tell."""
        error = self.error
        return AttemptResult(
            inference_id=self.inference_id,
            status=status,
            output_limit_tokens=self.output_limit_tokens,
            http_calls=self.http_calls,
            duration_milliseconds=self.elapsed_milliseconds(),
            http_status=self.http_status,
            error_class=error.error_class if error else None,
            error_message=error.message if error else None,
            retry_after_seconds=error.retry_after_seconds if error else None,
            cooldown_seconds=self.cooldown_seconds,
            provider_request_id=self.request_id,
            first_content_milliseconds=self.first_content_milliseconds,
            usage_source=usage.source if usage else "none",
            usage_convention=usage.convention if usage else None,
            reported_usage=usage.reported if usage else None,
            **(usage.tokens() if usage else {}),
        )
