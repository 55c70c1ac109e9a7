"""One attempt: one call to one candidate (up to three over HTTP, where a 429 is retried), and its result."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TypeVar
from uuid import UUID

from backend.errors import DispatchError
from backend.providers.types import Usage
from backend.retries import chat_with_429_retry
from backend.routing.rank import Scored
from backend.store.record import AttemptOpening, AttemptResult, AttemptStatus

T = TypeVar("T")

# Where a provider reports no usage: a token of text is about four bytes. Labelled `estimate` in the record.
_ESTIMATED_BYTES_PER_TOKEN = 4
_OK = 200


@dataclass(slots=True)
class Attempt:
    """An attempt under its pre-allocated id."""

    inference_id: UUID
    scored: Scored
    number: int
    http_calls: int = 0
    started_at: float = field(default_factory=time.monotonic)
    first_content_milliseconds: int | None = None
    error: DispatchError | None = None
    cooldown_seconds: float = 0.0

    @property
    def may_be_followed(self) -> bool:
        """Whether another candidate may do better than this attempt, which failed."""
        return self.error is not None and self.error.fails_over

    def opening(self) -> AttemptOpening:
        """Return what is written before the call."""
        return AttemptOpening(
            self.inference_id,
            self.scored.candidate.id,
            self.scored.candidate.price.id,
            self.scored.bound_nano_usd,
        )

    async def call(self, make_call: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Make the call, retried on 429 until ``deadline`` (in terms of ``time.monotonic``) and counted.

        Raises:
            ProviderError: it failed.
        """

        async def counted() -> T:
            self.http_calls += 1
            return await make_call()

        answer = await chat_with_429_retry(counted, deadline=deadline)
        self.first_content_milliseconds = self.elapsed_milliseconds()
        return answer

    def elapsed_milliseconds(self) -> int:
        """Return how long the attempt has been going on."""
        return round((time.monotonic() - self.started_at) * 1000)

    def succeeded(self, usage: Usage, request_id: str | None) -> AttemptResult:
        """Return the result of a call that was answered."""
        return self._result("succeeded", usage, request_id=request_id)

    def ended_early(
        self, status: AttemptStatus, usage: Usage | None, error: DispatchError | None
    ) -> AttemptResult:
        """Return the result of a call that broke, or was broken off, under way. ``usage`` None: nobody can tell."""
        return self._result(status, usage, error)

    def failed(self) -> AttemptResult:
        """Return the result of an attempt that brought nothing: not answered, or not even sent."""
        return self._result("failed" if self.http_calls else "not_sent", None, self.error)

    def _result(
        self,
        status: AttemptStatus,
        usage: Usage | None,
        error: DispatchError | None = None,
        *,
        request_id: str | None = None,
    ) -> AttemptResult:
        tokens = asdict(usage) if usage else {}
        return AttemptResult(
            inference_id=self.inference_id,
            status=status,
            http_calls=self.http_calls,
            duration_milliseconds=self.elapsed_milliseconds(),
            http_status=_OK if status == "succeeded" else (error.status if error else None),
            error_class=error.error_class if error else None,
            error_message=error.message if error else None,
            retry_after_seconds=error.retry_after_seconds if error else None,
            cooldown_seconds=self.cooldown_seconds,
            provider_request_id=request_id,
            first_content_milliseconds=self.first_content_milliseconds,
            usage_source=tokens.pop("source", "none"),
            **tokens,
        )


def estimated_usage(body_bytes: int, output_bytes: int) -> Usage:
    """Return what a call has probably used, by the bytes that went in and came out."""
    return Usage(
        input_tokens=math.ceil(body_bytes / _ESTIMATED_BYTES_PER_TOKEN),
        output_tokens=math.ceil(output_bytes / _ESTIMATED_BYTES_PER_TOKEN),
        source="estimate",
    )
