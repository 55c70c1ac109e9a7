"""The one rule: the cheapest candidate that can take the request and clears its floor comes first.

Everything is integers but the comparison of quality with the floor, so the same inputs give the same ranking, bit for
bit. What happens in dispatch is no input: failures and cooldowns make dispatch skip a candidate, never re-rank.
"""

from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from backend.routing.catalogue import Candidate, Catalogue
from backend.routing.request import RoutingRequest

# A token of English text is about four bytes. Only for ordering: what is reserved is bounded by bytes.
_BYTES_PER_TOKEN = 4
# The mean answer is far shorter than its limit. A flat guess until answers' lengths are learned per task class.
_TYPICAL_OUTPUT_TOKENS = 512


class Scored(Struct, frozen=True):
    """A candidate with what is expected of it. ``rejected`` says why it cannot take the request, or None.

    Costs in nano-USD; quality 0 to 1, None without an estimate.
    """

    candidate: Candidate
    quality: float | None
    expected_input_tokens: int
    most_input_tokens: int
    expected_cost_nano_usd: int
    bound_nano_usd: int
    rejected: str | None

    def to_record(self) -> dict[str, Any]:
        """Return the entry for the decision's row."""
        return {
            "candidate_id": self.candidate.id,
            "provider": self.candidate.provider,
            "model": self.candidate.model,
            "price_id": self.candidate.price.id,
            "quality": self.quality,
            "expected_cost_nano_usd": self.expected_cost_nano_usd,
            "bound_nano_usd": self.bound_nano_usd,
            "rejected": self.rejected,
        }


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates that clear, best first, and those that do not, each with its reason."""

    clearing: tuple[Scored, ...]
    rejected: tuple[Scored, ...]

    @property
    def dearest(self) -> Scored | None:
        """The dearest candidate that clears, by expected cost, or None."""
        return max(self.clearing, key=_order, default=None)

    @property
    def best_quality(self) -> float | None:
        """The best quality among candidates that only the floor rejected, or None."""
        return max(
            (s.quality for s in self.rejected if s.rejected == "below_floor" and s.quality is not None),
            default=None,
        )

    def to_record(self) -> list[dict[str, Any]]:
        """Return the ranking for the decision's row: clearing candidates first, in order."""
        return [scored.to_record() for scored in (*self.clearing, *self.rejected)]


def rank(request: RoutingRequest, catalogue: Catalogue) -> Ranking:
    """Rank a catalogue for a request: by expected cost, then model, then provider.

    Models that the caller has ruled out itself are not in the ranking: the request says why.
    """
    asked_for = (candidate for candidate in catalogue.candidates if request.allows(candidate.model))
    scored = sorted((_score(request, candidate) for candidate in asked_for), key=_order)
    return Ranking(
        clearing=tuple(s for s in scored if s.rejected is None),
        rejected=tuple(s for s in scored if s.rejected is not None),
    )


def cheapest_of(model: str, request: RoutingRequest, catalogue: Catalogue) -> Scored | None:
    """Return the candidate of a model that is expected to cost least, whether it clears or not, or None."""
    of_model = (candidate for candidate in catalogue.candidates if candidate.model == model)
    return min((_score(request, candidate) for candidate in of_model), key=_order, default=None)


def _order(scored: Scored) -> tuple[int, str, str]:
    return scored.expected_cost_nano_usd, scored.candidate.model, scored.candidate.provider


def _score(request: RoutingRequest, candidate: Candidate) -> Scored:
    quality = candidate.quality(request.task)
    # What media make is known as a bound only.
    media = sum([count * candidate.media_tokens[kind] for kind, count in request.media.items()])
    most_input = request.text_bytes + candidate.input_overhead_tokens + media
    expected_input = -(-request.text_bytes // _BYTES_PER_TOKEN) + media
    expected_output = request.choices * min(request.output_limit_tokens, _TYPICAL_OUTPUT_TOKENS)
    expected_cost = candidate.price.cost(expected_input, expected_output)
    bound = candidate.price.bound(most_input, request.choices * request.output_limit_tokens)
    rejected = (
        _misfit(request, candidate, expected_input)
        or _too_dear(request, bound)
        or _not_good_enough(request, quality)
    )
    return Scored(candidate, quality, expected_input, most_input, expected_cost, bound, rejected)


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


def _not_good_enough(request: RoutingRequest, quality: float | None) -> str | None:
    if request.floor is None:
        return None
    if quality is None:
        return "no_quality_estimate"
    return "below_floor" if quality < request.floor else None
