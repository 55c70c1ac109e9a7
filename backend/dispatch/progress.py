"""How far a request has come: what was tried, what was passed over, and until when there is time."""

import time
from dataclasses import dataclass, field

from backend.dispatch.attempt import Attempt
from backend.errors import DispatchError, ModelUnavailableError
from backend.routing.rank import Scored
from backend.store.record import PassedOver


@dataclass(slots=True)
class Progress:
    """The state of one request in dispatch.

    Attributes:
        deadline: in terms of ``time.monotonic``.
        last: the last attempt that was opened and failed, whether it was called or not; None before the first.
        calls: how many candidates were called.
        error: why the last of those did not answer.
        keeps_answer: the answer is to be stored for the request's Idempotency-Key.
        unwritten: candidates passed over since the record was told last.
        unavailable: all candidates passed over.
    """

    deadline: float
    last: Attempt | None = None
    calls: int = 0
    error: DispatchError | None = None
    keeps_answer: bool = False
    unwritten: list[PassedOver] = field(default_factory=list)
    unavailable: list[PassedOver] = field(default_factory=list)

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def pass_over(self, scored: Scored, reason: ModelUnavailableError) -> None:
        """Note that a candidate is not called."""
        candidate = scored.candidate
        entry = PassedOver(
            candidate.id, candidate.provider, candidate.model, reason.error_class, reason.retry_after_seconds
        )
        self.unwritten.append(entry)
        self.unavailable.append(entry)

    def failed(self, attempt: Attempt) -> None:
        """Note that an attempt brought no answer."""
        self.last = attempt
        if attempt.http_calls:
            self.calls += 1
            self.error = attempt.error

    def take_unwritten(self) -> list[PassedOver]:
        """Return what the record has not been told yet, and take it for told."""
        unwritten, self.unwritten = self.unwritten, []
        return unwritten
