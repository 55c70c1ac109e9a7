"""What a router is measured by. Scores are 0 to 1, costs in USD, matrices have a row a prompt and a column a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.quality.recorded import Matrix, Pool

Vector = npt.NDArray[np.float64]
# What a USD weighs against quality: from nothing to so much that the cheapest is always taken. A tenth of these steps would
# miss points of the hull, and 0.001 of its area.
_LAMBDAS = np.concatenate([[0.0], np.logspace(-1, 7, 1_601)])
_BINS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of mean cost and mean quality that mixing can reach: a non-decreasing convex hull."""

    costs: Vector
    qualities: Vector

    def area(self, least_cost: float, most_cost: float) -> float:
        """Return the mean quality over a range of costs."""
        inner = self.costs[(self.costs > least_cost) & (self.costs < most_cost)]
        costs = np.concatenate([[least_cost], inner, [most_cost]])
        heights = np.interp(costs, self.costs, self.qualities)
        return float(np.trapezoid(heights, costs) / (most_cost - least_cost))

    def cost_of(self, quality: float) -> float:
        """Return the least mean cost at which a mean quality is reached; NaN where it is not."""
        return float(np.interp(quality, self.qualities, self.costs, right=np.nan))


def hull(costs: Vector, qualities: Vector) -> Curve:
    """Return the upper hull of points: each kept is better than every cheaper one and than any mix of two others."""
    kept: list[tuple[float, float]] = []
    for cost, quality in sorted(zip(costs.tolist(), qualities.tolist(), strict=True)):
        if kept and quality <= kept[-1][1]:
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) <= _slope(kept[-2], (cost, quality)):
            kept.pop()
        if kept and kept[-1][0] == cost:
            kept.pop()
        kept.append((cost, quality))
    return Curve(*np.array(kept).T)


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0]) if other[0] > one[0] else np.inf


def routed(predictions: Matrix, pool: Pool) -> Curve:
    """Return what a router reaches that takes the model with the most of predicted quality - lambda * expected cost."""
    rows = np.arange(len(pool.prompts))
    points = []
    for weight in _LAMBDAS:
        chosen = (predictions - weight * pool.expected_costs).argmax(axis=1)
        points.append((pool.costs[rows, chosen].mean(), pool.scores[rows, chosen].mean()))
    return hull(*np.array(points).T)


def without_routing(pool: Pool) -> Curve:
    """Return what is reached without looking at prompts, by mixing models at random: RouterBench's zero router."""
    return hull(pool.costs.mean(axis=0), pool.scores.mean(axis=0))


def improvement(curve: Curve, pool: Pool) -> float:
    """Return RouterBench's AIQ: the mean quality over costs from the cheapest model's to the dearest one's."""
    costs = pool.costs.mean(axis=0)
    return curve.area(costs.min(), costs.max())


def cost_to_match(curve: Curve, pool: Pool) -> float:
    """Return what the quality of the best single model costs, as a share of that model's cost; NaN: it is not reached."""
    qualities = pool.scores.mean(axis=0)
    best = qualities.argmax()
    return curve.cost_of(qualities[best]) / float(pool.costs.mean(axis=0)[best])


@dataclass(frozen=True, slots=True)
class Recovery:
    """RouteLLM's measure of a choice between two models.

    Attributes:
        mean: APGR, the mean share of the gap in quality that is recovered, over all shares of calls to the stronger one.
        calls: CPT, the least share of calls to the stronger one that recovers each share of the gap asked for.
    """

    mean: float
    calls: tuple[float, ...]


def recovery(gains: Vector, weak: Vector, strong: Vector, shares: Sequence[float]) -> Recovery:
    """Send prompts to the stronger model in order of predicted gain, and measure what is recovered."""
    order = np.argsort(-gains, kind="stable")
    recovered = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / (strong - weak).sum()
    calls = np.arange(len(recovered)) / len(order)
    least = tuple(float(calls[np.argmax(recovered >= share)]) for share in shares)
    return Recovery(float(np.trapezoid(recovered, calls)), least)


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about the same quality: how many, their mean, and the mean of what came."""

    count: int
    predicted: float
    realized: float


def calibration(predictions: Matrix, scores: Matrix) -> list[Bin]:
    """Return the predictions in ten bins of equal width, those that are not empty."""
    places = np.minimum((predictions * _BINS).astype(int), _BINS - 1)
    taken = [places == place for place in range(_BINS)]
    return [
        Bin(int(t.sum()), float(predictions[t].mean()), float(scores[t].mean())) for t in taken if t.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean distance of predicted from realized, by count."""
    total = sum(found.count for found in bins)
    return sum(found.count * abs(found.predicted - found.realized) for found in bins) / total


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a floor gives: for how many prompts and what share of them a model clears it, and of those the means."""

    count: int
    share: float
    predicted: float
    realized: float
    cost: float


def at_floor(floor: float, predictions: Matrix, pool: Pool) -> Cleared:
    """Take for each prompt the cheapest model that clears a floor, as the gateway does."""
    costs = np.where(predictions >= floor, pool.expected_costs, np.inf)
    chosen = costs.argmin(axis=1)
    rows = np.flatnonzero(np.isfinite(costs.min(axis=1)))
    if not len(rows):
        return Cleared(0, 0.0, np.nan, np.nan, np.nan)
    taken = rows, chosen[rows]
    return Cleared(
        len(rows),
        len(rows) / len(predictions),
        float(predictions[taken].mean()),
        float(pool.scores[taken].mean()),
        float(pool.costs[taken].mean()),
    )
