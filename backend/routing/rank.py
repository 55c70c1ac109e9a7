"""The one rule: the cheapest candidate that can take the request and clears its floor comes first.

Where none clears and the caller takes the best there is, that comes first instead: ``min(quality, floor)`` less what its
expected cost weighs. Of those that clear, which reach the floor alike, that is the cheapest again: so it is one rule.
A request that explores goes before all to a cheaper one that may clear, so that something is heard of it.

Costs are integers; qualities are sums that are rounded once. So the same inputs give the same ranking, bit
for bit. What happens in dispatch is no input: failures and cooldowns make dispatch skip a candidate, never re-rank.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from msgspec import Struct

from backend.routing.catalogue import Candidate, Catalogue
from backend.routing.quality import Estimate
from backend.routing.request import RoutingRequest

# A token of English text is about four bytes. Only for ordering: what is reserved is bounded by bytes.
_BYTES_PER_TOKEN = 4
BELOW_FLOOR = "below_floor"
_NANO_USD_PER_USD = 1_000_000_000


class Scored(Struct, frozen=True):
    """A candidate with what is expected of it. ``rejected`` says why it cannot take the request, or None.

    ``held_against_floor`` is the quality, or its bound where the caller is strict.
    Costs in nano-USD; quality 0 to 1, None without an estimate; ``quality_bound`` is what it is at least, with the
    confidence of :data:`backend.routing.quality.CONFIDENCE`.
    """

    candidate: Candidate
    quality: float | None
    quality_bound: float | None
    expected_input_tokens: int
    most_input_tokens: int
    expected_cost_nano_usd: int
    bound_nano_usd: int
    rejected: str | None
    held_against_floor: float = 0.0

    @property
    def quality_at_best(self) -> float:
        """The quality as far above what is expected as its bound is below it; 0 without an estimate."""
        # A quantile of its own would have to be computed for every class of every model, and be recorded.
        if self.quality is None or self.quality_bound is None:
            return 0.0
        return self.quality + (self.quality - self.quality_bound)

    def to_record(self) -> dict[str, Any]:
        """Return the entry for the decision's row."""
        return {
            "candidate_id": self.candidate.id,
            "provider": self.candidate.provider,
            "model": self.candidate.model,
            "price_id": self.candidate.price.id,
            "quality": self.quality,
            "quality_bound": self.quality_bound,
            "expected_cost_nano_usd": self.expected_cost_nano_usd,
            "bound_nano_usd": self.bound_nano_usd,
            "rejected": self.rejected,
        }


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates that may be called, best first, and those that may not, each with its reason.

    ``floor_cleared`` None: there was no floor. False: the best there is may be called although none of them clears it, and
    its ``rejected`` says so. True: they clear it, but for the first one where ``explores``, whose ``rejected`` says so, too.
    """

    eligible: tuple[Scored, ...]
    rejected: tuple[Scored, ...]
    floor_cleared: bool | None

    @property
    def explores(self) -> bool:
        """Whether the first candidate is one that is not expected to clear a floor that the others clear."""
        return bool(self.floor_cleared and self.eligible[0].rejected)

    @property
    def dearest(self) -> Scored | None:
        """The dearest candidate that may be called, by expected cost, or None."""
        return max(self.eligible, key=_order, default=None)

    @property
    def best_below(self) -> Scored | None:
        """The best candidate that only the floor rejected, or None."""
        below = [scored for scored in self.rejected if scored.rejected == BELOW_FLOOR]
        return max(below, key=lambda scored: scored.held_against_floor, default=None)

    def to_record(self) -> list[dict[str, Any]]:
        """Return the ranking for the decision's row: those that may be called first, in order."""
        return [scored.to_record() for scored in (*self.eligible, *self.rejected)]


def rank(request: RoutingRequest, catalogue: Catalogue) -> Ranking:
    """Rank a catalogue for a request: by expected cost, then model, then provider.

    Models that the caller has ruled out itself are not in the ranking: the request says why.
    """
    asked_for = [candidate for candidate in catalogue.candidates if request.allows(candidate.model)]
    scored = _scored(request, asked_for, catalogue)
    clearing = tuple(s for s in scored if s.rejected is None)
    if not clearing and request.on_miss == "best":
        below = (s for s in scored if s.rejected == BELOW_FLOOR)
        best = tuple(sorted(below, key=lambda s: (-_worth(request, s), _order(s))))
        if best:
            return Ranking(best, tuple(s for s in scored if s.rejected != BELOW_FLOOR), floor_cleared=False)
    explored = _explored(request, scored, clearing)
    return Ranking(
        eligible=(*explored, *clearing),
        rejected=tuple(s for s in scored if s.rejected is not None and s not in explored),
        floor_cleared=None if request.floor is None else bool(clearing),
    )


def cheapest_of(model: str, request: RoutingRequest, catalogue: Catalogue) -> Scored | None:
    """Return the candidate of a model that is expected to cost least, whether it clears or not, or None."""
    of_model = [candidate for candidate in catalogue.candidates if candidate.model == model]
    return next(iter(_scored(request, of_model, catalogue)), None)


def _explored(
    request: RoutingRequest, scored: Iterable[Scored], clearing: Sequence[Scored]
) -> tuple[Scored, ...]:
    """Return whom a request that explores tries first: the cheapest that may clear, before those that are expected to.

    It takes no more funds or tokens than the first of those: no request is refused because it explores.
    """
    if not (request.explores and request.floor is not None and clearing):
        return ()
    usual = clearing[0]
    cheaper = (
        s
        for s in scored
        if s.rejected == BELOW_FLOOR
        and s.quality_at_best >= request.floor
        and s.expected_cost_nano_usd < usual.expected_cost_nano_usd
        and s.bound_nano_usd <= usual.bound_nano_usd
        and s.expected_input_tokens <= usual.expected_input_tokens
    )
    return tuple(islice(cheaper, 1))


def _scored(request: RoutingRequest, candidates: Iterable[Candidate], catalogue: Catalogue) -> list[Scored]:
    """Return what is expected of candidates, by expected cost, then model, then provider."""
    typical_output = catalogue.output_tokens(request.classes)
    return sorted((_score(request, candidate, typical_output) for candidate in candidates), key=_order)


def _order(scored: Scored) -> tuple[int, str, str]:
    return scored.expected_cost_nano_usd, scored.candidate.model, scored.candidate.provider


def _worth(request: RoutingRequest, scored: Scored) -> float:
    cost_usd = scored.expected_cost_nano_usd / _NANO_USD_PER_USD
    return scored.held_against_floor - request.quality_per_usd * cost_usd


def _score(request: RoutingRequest, candidate: Candidate, typical_output: int) -> Scored:
    estimate = candidate.estimate(request.classes)
    # What media make is known as a bound only.
    media = sum([count * candidate.media_tokens[kind] for kind, count in request.media.items()])
    most_input = request.text_bytes + candidate.input_overhead_tokens + media
    expected_input = -(-request.text_bytes // _BYTES_PER_TOKEN) + media
    expected_output = request.choices * min(request.output_limit_tokens, typical_output)
    expected_cost = candidate.price.cost(expected_input, expected_output)
    bound = candidate.price.bound(most_input, request.choices * request.output_limit_tokens)
    rejected = (
        _misfit(request, candidate, expected_input)
        or _too_dear(request, bound)
        or _not_good_enough(request, estimate)
    )
    quality, quality_bound = estimate or (None, None)
    held = _held_against_floor(request, estimate) if estimate else 0.0
    return Scored(
        candidate, quality, quality_bound, expected_input, most_input, expected_cost, bound, rejected, held
    )


def _misfit(request: RoutingRequest, candidate: Candidate, expected_input: int) -> str | None:
    if not candidate.refused_fields.isdisjoint(request.fields):
        return "refused_field"
    if not candidate.capabilities.issuperset(request.needs):
        return "lacks_capability"
    if request.output_limit_tokens > candidate.max_output_tokens:
        return "output_limit"
    if expected_input + request.output_limit_tokens > candidate.context_window_tokens:
        return "context_window"
    return None


def _too_dear(request: RoutingRequest, bound: int) -> str | None:
    if request.max_cost_nano_usd is not None and bound > request.max_cost_nano_usd:
        return "over_max_cost"
    return None


def _not_good_enough(request: RoutingRequest, estimate: Estimate | None) -> str | None:
    if request.floor is None:
        return None
    if estimate is None:
        return "no_quality_estimate"
    return BELOW_FLOOR if _held_against_floor(request, estimate) < request.floor else None


def _held_against_floor(request: RoutingRequest, estimate: Estimate) -> float:
    return estimate.bound if request.strict else estimate.quality
