"""What a caller is told when the record refused to open or raise a reservation, or nobody answered."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from backend.dispatch.order import Order
from backend.dispatch.progress import Progress
from backend.errors import (
    AccessDeniedError,
    AllCandidatesFailedError,
    AuthenticationError,
    ClearfloorError,
    InsufficientFundsError,
    NoCandidateClearsFloorError,
    NoCandidateFitsError,
    ProviderRejectedRequestError,
    RateLimitError,
    SpendCapError,
)
from backend.routing.rank import Scored
from backend.store.record import Opened
from backend.units import usd

# What a caller can do about each reason for which routing rejects a candidate.
_REMEDIES = {
    "context_window": "the request is longer than a context window (context_window): shorten it, or lower `max_tokens`",
    "lacks_capability": "a model lacks what the request needs, such as tools, images or JSON (lacks_capability)",
    "output_limit": "`max_tokens` is more than a model can answer (output_limit): lower it",
    "over_max_cost": "it could cost more than `clearfloor.max_cost_usd` (over_max_cost): raise it, or lower `max_tokens`",
    "refused_field": "the body has a field that a provider must not get, as it changes model or price (refused_field)",
}


def refused(opened: Opened, decision_id: UUID) -> ClearfloorError:
    """Return the error of a refusal by the record."""
    refusal = opened.refusal
    if opened.outcome_status == "rejected_funds":
        return InsufficientFundsError(
            f"The wallet cannot take this request: it may cost up to {_usd(refusal, 'needed')}, the balance is"
            f" {_usd(refusal, 'balance')} and {_usd(refusal, 'held')} of it is held by requests under way."
            " Nothing is charged. Top up, ask for fewer output tokens (`clearfloor.clamp` lowers them to what there is), or wait"
            " for those requests.",
            decision_id=decision_id,
            details=refusal,
        )
    if opened.outcome_status == "rejected_cap":
        return SpendCapError(
            f"The {refusal.get('scope')}'s cap for the {refusal.get('window')} cannot take this request: it may cost"
            f" up to {_usd(refusal, 'needed')}; of {_usd(refusal, 'cap')}, {_usd(refusal, 'spent')} is spent and"
            f" {_usd(refusal, 'held')} held by requests under way. Nothing is charged."
            " Ask for fewer output tokens (`clearfloor.clamp` lowers them to what there is), or wait:"
            f" {_resets(refusal)}",
            decision_id=decision_id,
            details=refusal,
            retry_after_seconds=_seconds_until(refusal.get("resets_at")),
        )
    if opened.outcome_status == "rejected_rate":
        return _over_rate(refusal, decision_id)
    if opened.outcome_status == "rejected_inactive":
        return AccessDeniedError("The agent is switched off. Nothing was called.", decision_id=decision_id)
    if opened.outcome_status == "rejected_key":
        return AuthenticationError(
            "The key was revoked, or the membership has ended. Nothing was called.", decision_id=decision_id
        )
    return AllCandidatesFailedError(
        f"The request is already over ({opened.outcome_status}).", decision_id=decision_id
    )


def _over_rate(refusal: Mapping[str, Any], decision_id: UUID) -> RateLimitError:
    unit, per_minute = refusal["unit"], refusal["limit_per_minute"]
    resets_at = refusal["resets_at"]
    advice = (
        f"{refusal['left']} are left: try again at {resets_at}."
        if resets_at
        else "It never fits: ask for fewer output tokens, send less, or have the limit raised."
    )
    error = RateLimitError(
        f"The {refusal['scope']}'s limit of {per_minute} {unit} a minute cannot take this request, which needs"
        f" {refusal['needed']}. Nothing was called or charged. {advice}",
        decision_id=decision_id,
        details=refusal,
        retry_after_seconds=_seconds_until(resets_at),
    )
    if resets_at is None:
        error.should_retry = False
    return error


def nothing_clears(order: Order) -> ClearfloorError:
    """Return the error of a request that no candidate can take, or that none is good enough for."""
    reasons = sorted({str(scored.rejected) for scored in order.ranking.rejected})
    constraints = [_REMEDIES[reason] for reason in reasons if reason in _REMEDIES]
    best = order.ranking.best_below
    if best is None and "no_quality_estimate" not in reasons:
        return NoCandidateFitsError(
            f"No candidate can take this request: {'; '.join(constraints) or 'there is none'}. Nothing was called.",
            decision_id=order.decision.id,
            details={"reject_reasons": reasons},
        )
    there_is = (
        "no candidate that fits otherwise has an estimate. Nothing was called. Ask without a floor, or have the quality of a"
        " model entered."
        if best is None
        else f"the best that fits, {best.candidate.model}, has {best.held_against_floor:g} for about"
        f" {usd(best.expected_cost_nano_usd)} USD. Nothing was called. Lower the floor, or take the best there is"
        " (`clearfloor.on_miss`)."
    )
    others = f" Others were rejected: {'; '.join(constraints)}." if constraints else ""
    return NoCandidateClearsFloorError(
        f"No candidate clears the floor of {order.decision.floor} for the task `{order.decision.task}`:"
        f" {there_is}{others}",
        decision_id=order.decision.id,
        details={"floor": order.decision.floor, "reject_reasons": reasons} | _described(best),
    )


def _described(best: Scored | None) -> dict[str, Any]:
    if best is None:
        return {"best_quality": None}
    return {
        "best_quality": best.quality,
        "best_quality_bound": best.quality_bound,
        "best_model": best.candidate.model,
        "best_expected_cost_usd": usd(best.expected_cost_nano_usd),
    }


def nobody_answered(order: Order, progress: Progress, earliest_seconds: float | None) -> ClearfloorError:
    """Return the error after the last candidate: the provider's own if the request is wrong, else that all failed."""
    decision_id, error = order.decision.id, progress.error
    if error and not error.fails_over:
        return ProviderRejectedRequestError(
            error.message, status=error.status or 400, decision_id=decision_id
        )
    if error:
        return AllCandidatesFailedError(
            f"Every candidate that clears the floor failed; the last with {error.error_class}: {error.message}."
            f" What was tried is in GET /v1/decisions/{decision_id}; failed attempts are not charged.",
            decision_id=decision_id,
            retry_after_seconds=earliest_seconds,
        )
    reasons = sorted({f"{entry.model} at {entry.provider}: {entry.reason}" for entry in progress.unavailable})
    failure = AllCandidatesFailedError(
        f"Every candidate that clears the floor is unavailable for now ({', '.join(reasons)})."
        " Nothing was called or charged.",
        decision_id=decision_id,
        retry_after_seconds=earliest_seconds,
        details={"unavailable": reasons},
    )
    if earliest_seconds is not None:
        # Coming back at the stated moment does mend this one.
        failure.should_retry = None
    return failure


def _usd(refusal: Mapping[str, Any], what: str) -> str:
    return f"{usd(refusal[f'{what}_nano_usd'])} USD"


def _resets(refusal: Mapping[str, Any]) -> str:
    resets_at = refusal.get("resets_at")
    return (
        f"the window resets at {resets_at}."
        if resets_at
        else "a lifetime cap does not reset, only raising it helps."
    )


def _seconds_until(moment: str | None) -> float | None:
    if moment is None:
        return None
    return max(0.0, (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds())
