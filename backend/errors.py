"""The errors of Clearfloor, and how each looks to a caller.

::

    ClearfloorError                    status, code, whether a retry can mend it, when to come back
    ├── InvalidRequestError            400  the request itself is wrong; names the field
    ├── RequestTooLargeError           413
    ├── AuthenticationError            401  no key, an unknown one, a token that does not verify
    ├── AccessDeniedError              403  known, but not allowed: no such agent, agent inactive
    ├── NotFoundError                  404
    │   └── ModelNotFoundError         404  nobody runs the model
    ├── InsufficientFundsError         402  the wallet
    ├── SpendCapError                  429  a cap; comes back when the window does
    ├── RateLimitError                 429  requests or tokens a minute
    ├── IdempotencyKeyReusedError      422  the key stands for another body
    ├── RequestInProgressError         409  the request that has the key is under way
    ├── RequestDoneError               409  it is over, and its answer is not stored
    ├── EntryIdTakenError              409  the id of a wallet's entry stands for another
    ├── ConflictError                  409  what is asked for contradicts what is there
    ├── NoCandidateFitsError           422  none can take the request, whatever its quality
    ├── NoCandidateClearsFloorError    422  some can, but none is good enough
    ├── AllCandidatesFailedError       503  every candidate was tried, or none was available
    ├── ProviderRejectedRequestError   4xx  the provider says that the request is wrong
    ├── StoreUnavailableError          503  the record cannot be reached: nothing was called
    └── InternalError                  500  a bug of ours

    DispatchError                      inside only: why one candidate did not answer
    ├── ModelUnavailableError          not called: cooling down, no credentials
    └── ProviderError                  called, and failed

Callers see OpenAI's envelope ``{"error": {"message", "type", "param", "code"}}``. ``ERROR_TABLE`` is the list of
codes that ``docs/errors.md`` shows; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID


class ClearfloorError(Exception):
    """Base of what a caller is told. ``should_retry`` None leaves it to the client."""

    status: int = 500
    code: str = "internal_error"
    type: str = "server_error"
    should_retry: bool | None = False
    when: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        decision_id: UUID | None = None,
        retry_after_seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.decision_id = decision_id
        self.retry_after_seconds = retry_after_seconds
        self.details = details
        self.attempts = 0
        self.headers: dict[str, str] = {}

    def envelope(self) -> dict[str, Any]:
        """Return OpenAI's error envelope."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.details:
            error["details"] = self.details
        if self.decision_id:
            error["decision_id"] = str(self.decision_id)
        return {"error": error}


class InvalidRequestError(ClearfloorError):
    """The request is wrong in a way that its sender can mend."""

    status, code, type = 400, "invalid_request", "invalid_request_error"
    when = "A field is missing, of the wrong kind or out of range; `param` names it."


class RequestTooLargeError(ClearfloorError):
    """The body is larger than the operator allows."""

    status, code, type = 413, "request_too_large", "invalid_request_error"
    when = "The body is larger than `CLEARFLOOR_MAX_REQUEST_BYTES`."


class AuthenticationError(ClearfloorError):
    """Nobody we know."""

    status, code, type = 401, "invalid_api_key", "authentication_error"
    when = "No key, an unknown, expired or revoked one, or an access token that does not verify."


class AccessDeniedError(ClearfloorError):
    """Somebody we know, who may not."""

    status, code, type = 403, "access_denied", "permission_error"
    when = (
        "The agent is switched off, the organization has no such agent or member, the member's role does not allow it, an API"
        " key called a route of members, or a browser an operator's."
    )


class NotFoundError(ClearfloorError):
    """Nothing there that this caller may see."""

    status, code, type = 404, "not_found", "invalid_request_error"
    when = "No such route, or no such decision, agent, key or member of the caller's."


class ModelNotFoundError(NotFoundError):
    """Nobody runs such a model."""

    code = "model_not_found"
    when = "Nobody runs the model that is asked for, or one of `clearfloor.models`; `param` names the field."


class InsufficientFundsError(ClearfloorError):
    """The wallet does not cover the reservation."""

    status, code, type = 402, "insufficient_funds", "insufficient_funds"
    when = "The wallet has less than the request's bound left; `details` has balance, held and needed."


class SpendCapError(ClearfloorError):
    """A cap does not cover the reservation."""

    status, code, type = 429, "spend_cap_reached", "rate_limit_error"
    when = "A cap has less than the request's bound left; `details` has cap, spent, held, needed and when it resets."


class RateLimitError(ClearfloorError):
    """A rate limit does not cover the request now, or ever."""

    status, code, type = 429, "rate_limit_reached", "rate_limit_error"
    should_retry: bool | None = None
    when = "Requests or tokens a minute are used up; `details` has limit, left and needed, `Retry-After` when to come back."


class IdempotencyKeyReusedError(ClearfloorError):
    """An Idempotency-Key stands for another body."""

    status, code, type = 422, "idempotency_key_reused", "invalid_request_error"
    when = "The Idempotency-Key was used with another body; `decision_id` names that request's decision."


class RequestInProgressError(ClearfloorError):
    """The request that has the Idempotency-Key is under way."""

    status, code, type = 409, "request_in_progress", "invalid_request_error"
    should_retry = None
    when = "The request with this Idempotency-Key is still under way; come back after `Retry-After`."
    RETRY_AFTER_SECONDS: ClassVar[float] = 5.0


class RequestDoneError(ClearfloorError):
    """The request that has the Idempotency-Key is over, and there is no answer to give again."""

    status, code, type = 409, "request_done", "invalid_request_error"
    when = "The request with this Idempotency-Key is over and its answer is not stored; `details` has decision and state."


class EntryIdTakenError(ClearfloorError):
    """The id of a wallet's entry stands for another one."""

    status, code, type = 409, "entry_id_taken", "invalid_request_error"
    when = "The id of a wallet's entry stands for another entry already. Nothing was changed."


class ConflictError(ClearfloorError):
    """What is asked for contradicts what is there."""

    status, code, type = 409, "conflict", "invalid_request_error"
    when = (
        "A name is taken, somebody is a member already, a key has ended, no owner would be left, or a decision cannot be rated:"
        " it is open, did not succeed, or was rated otherwise. Nothing was changed."
    )


class NoCandidateFitsError(ClearfloorError):
    """No candidate can take the request, however good it is."""

    status, code, type = 422, "no_candidate_fits", "invalid_request_error"
    when = "No candidate can take the request, whatever its quality; `details` has the reasons."


class NoCandidateClearsFloorError(ClearfloorError):
    """No candidate that can take the request is good enough."""

    status, code, type = 422, "no_candidate_clears_floor", "invalid_request_error"
    when = "No candidate that fits the request reaches the floor; `details` has the best quality there is."


class AllCandidatesFailedError(ClearfloorError):
    """Nobody answered: every candidate failed, or none was available before a call."""

    status, code = 503, "all_candidates_failed"
    when = "Every clearing candidate failed or was unavailable; `Retry-After` has the earliest known moment."


class ProviderRejectedRequestError(ClearfloorError):
    """The provider says that the request itself is wrong. The status is the provider's."""

    status, code, type = 400, "provider_rejected_request", "invalid_request_error"
    when = "The provider refused the request itself (400, 413, 422 …); its message and status are passed on."

    def __init__(self, message: str, *, status: int, decision_id: UUID) -> None:
        super().__init__(message, decision_id=decision_id)
        self.status = status


class StoreUnavailableError(ClearfloorError):
    """The record cannot be reached, so nothing may be called."""

    status, code = 503, "record_unavailable"
    should_retry = None
    when = "The record cannot be reached. Nothing is charged; try again after `Retry-After`."


class InternalError(ClearfloorError):
    """A bug of ours."""

    when = "A bug of ours. Nothing is charged; what was reserved is released."


ERROR_TABLE: tuple[type[ClearfloorError], ...] = (
    InvalidRequestError,
    RequestTooLargeError,
    AuthenticationError,
    AccessDeniedError,
    NotFoundError,
    ModelNotFoundError,
    InsufficientFundsError,
    SpendCapError,
    RateLimitError,
    IdempotencyKeyReusedError,
    RequestInProgressError,
    RequestDoneError,
    EntryIdTakenError,
    ConflictError,
    NoCandidateFitsError,
    NoCandidateClearsFloorError,
    AllCandidatesFailedError,
    ProviderRejectedRequestError,
    StoreUnavailableError,
    InternalError,
)


class DispatchError(Exception):
    """Why one candidate did not answer. Never reaches a caller. ``request_id`` is the provider's, if it gave one."""

    def __init__(
        self,
        error_class: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.request_id: str | None = None

    @property
    def fails_over(self) -> bool:
        """Whether another candidate may do better: not where the request itself is wrong."""
        return self.error_class != "rejected"


class ModelUnavailableError(DispatchError):
    """The candidate cannot be called now: it cools down, or we have no credentials for it."""


class ProviderError(DispatchError):
    """The provider was called and failed."""
