"""How good a model is expected to be at a request: rates of success per task class, learned on top of published figures.

A rate is a Beta distribution. Its prior is as strong as ``RateSnapshot.prior_strength`` answers at the figure published for
the class, or else at the model's mean, or else at that of its tier; what was learned from feedback is added. A model of
which nothing is published, nor of its tier, has no estimate: it clears no floor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple, Self

from backend.routing.beta import lower_quantile

GENERAL_TASK = "general"
# Of the bound that a strict floor is held against: nine of ten rates that look like this one are above it.
CONFIDENCE = 0.9


class Estimate(NamedTuple):
    """An expected quality, and what it is at least with ``CONFIDENCE``; both 0 to 1."""

    quality: float
    bound: float

    @classmethod
    def of_rate(cls, prior: float, strength: float, successes: float = 0.0, trials: float = 0.0) -> Self:
        """Return what is expected after a prior as strong as so many trials, and so many successes in so many more.

        Without any it is the prior itself, to the last bit: a published 0.7 clears a floor of 0.7.
        """
        quality = min(max(prior + (successes - prior * trials) / (strength + trials), 0.0), 1.0)
        alpha = quality * (strength + trials)
        return cls(quality, min(lower_quantile(1 - CONFIDENCE, alpha, strength + trials - alpha), quality))


@dataclass(frozen=True, slots=True)
class RateSnapshot:
    """What was learned up to a moment. ``id`` None: nothing was yet.

    Attributes:
        learned: successes and trials by model and task class.
        output_tokens: the mean length of an answer by task class, in tokens.
        prior_strength: how many answers a published figure counts for.
    """

    id: int | None = None
    prior_strength: float = 12.0
    learned: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    output_tokens: Mapping[str, float] = field(default_factory=dict)


NO_RATES = RateSnapshot()


def mixed(parts: Sequence[tuple[Estimate, float]]) -> Estimate:
    """Return the estimate of a request that is in several classes, each with its probability, summed in this order."""
    if len(parts) == 1:
        return parts[0][0]
    return Estimate(sum([e.quality * p for e, p in parts]), sum([e.bound * p for e, p in parts]))


def model_estimates(
    records: Sequence[Mapping[str, Any]], rates: RateSnapshot
) -> dict[str, dict[str, Estimate]]:
    """Return the estimates of each model by task class, from the entries of a catalogue snapshot and what was learned.

    A model that has any has one for ``GENERAL_TASK``, which stands for the classes of which nothing more is known.
    """
    models = {record["model"]: record for record in records}
    means = {name: _published_mean(record["qualities"]) for name, record in models.items()}
    return {
        name: _estimates(
            record["qualities"], _mean_of(name, models, means), rates.learned.get(name, {}), rates
        )
        for name, record in models.items()
    }


def _published_mean(qualities: Mapping[str, float]) -> float | None:
    if GENERAL_TASK in qualities:
        return float(qualities[GENERAL_TASK])
    return fmean([float(qualities[task]) for task in sorted(qualities)]) if qualities else None


def _mean_of(
    name: str, models: Mapping[str, Mapping[str, Any]], means: Mapping[str, float | None]
) -> float | None:
    tier = models[name].get("tier")
    if means[name] is not None or tier is None:
        return means[name]
    peers = [means[peer] for peer in sorted(models) if models[peer].get("tier") == tier]
    known = [mean for mean in peers if mean is not None]
    return fmean(known) if known else None


def _estimates(
    qualities: Mapping[str, float],
    mean: float | None,
    learned: Mapping[str, tuple[float, float]],
    rates: RateSnapshot,
) -> dict[str, Estimate]:
    if mean is None:
        return {}
    estimates = {}
    for task in sorted({GENERAL_TASK, *qualities, *learned}):
        successes, trials = learned.get(task, (0.0, 0.0))
        prior = float(qualities.get(task, mean))
        estimates[task] = Estimate.of_rate(prior, rates.prior_strength, successes, trials)
    return estimates
