"""How good a model is expected to be at a request: rates of success per task class, learned on top of published figures.

A rate is a Beta distribution. Its prior is as strong as ``RateSnapshot.prior_strength`` answers at the figure published for
the class, or else at what is known of the class that it is a kind of, or else at the model's mean, published and learned, or
else at that of its tier; what was learned of the class is added. A model of which nothing is published, nor of its tier, has
no estimate: it clears no floor.
"""

from collections.abc import Mapping, Sequence
from math import floor, fsum
from statistics import fmean
from typing import NamedTuple, Self

from backend.routing.beta import lower_quantile
from backend.routing.kinds import class_of, known_of
from backend.routing.rate_snapshot import RateSnapshot

GENERAL_TASK = "general"
# Of the bound that a strict floor is held against: four of five rates that look like this one are above it.
CONFIDENCE = 0.8
# No figure is so sure that its bound says nothing.
_LEAST_SURE = 0.01
_BOUND_PARTS = 10**9
# Successes and trials, by task class.
Learned = Mapping[str, tuple[float, float]]


class Estimate(NamedTuple):
    """An expected quality, and what it is at least with ``CONFIDENCE``; both 0 to 1."""

    quality: float
    bound: float

    @classmethod
    def of_rate(cls, prior: float, strength: float, successes: float = 0.0, trials: float = 0.0) -> Self:
        """Return what is expected after a prior as strong as so many trials, and so many successes in so many more.

        Without any it is the prior itself, to the last bit: a published 0.7 clears a floor of 0.7.
        """
        quality = _shrunk(prior, strength, successes, trials)
        alpha = min(max(quality, _LEAST_SURE), 1 - _LEAST_SURE) * (strength + trials)
        bound = lower_quantile(1 - CONFIDENCE, alpha, strength + trials - alpha)
        # Its last digits are the system's, and it is recorded and compared.
        return cls(quality, min(floor(bound * _BOUND_PARTS) / _BOUND_PARTS, quality))


class Published(NamedTuple):
    """What is published of a model: its qualities by task class, 0 to 1, and the tier that it belongs to, if it is known."""

    qualities: Mapping[str, float]
    tier: str | None


def mixed(parts: Sequence[tuple[Estimate, float]]) -> Estimate:
    """Return the estimate of a request that is in several classes, each with its probability.

    Where all are equal the mean is the same, to the last bit. The bound errs on the low side: not all classes are at their worst.
    """
    if len(parts) == 1:
        return parts[0][0]
    return Estimate(
        weighted_mean([(estimate.quality, p) for estimate, p in parts]),
        weighted_mean([(estimate.bound, p) for estimate, p in parts]),
    )


def expected(estimates: Mapping[str, Estimate], classes: Sequence[tuple[str, float]]) -> Estimate | None:
    """Return what is expected of a model at a request that may be in these classes; None: nothing is known of the model."""
    general = estimates.get(GENERAL_TASK)
    if general is None:
        return None
    return mixed([(known_of(estimates, task, general), probability) for task, probability in classes])


def weighted_mean(parts: Sequence[tuple[float, float]]) -> float:
    """Return the mean of values by weights that sum to 1; of equal values that value, and in any order the same."""
    base = min([value for value, _ in parts])
    return base + fsum([(value - base) * weight for value, weight in parts])


def model_estimates(models: Mapping[str, Published], rates: RateSnapshot) -> dict[str, dict[str, Estimate]]:
    """Return the estimates of each model by task class, from what is published and what was learned.

    A model that has any has one for ``GENERAL_TASK``, which stands for the classes of which nothing more is known.
    """
    means = {name: _published_mean(model.qualities) for name, model in models.items()}
    return {
        name: _estimates(model.qualities, _mean_of(model, means[name], models, means), name, rates)
        for name, model in models.items()
    }


def _published_mean(qualities: Mapping[str, float]) -> float | None:
    if GENERAL_TASK in qualities:
        return qualities[GENERAL_TASK]
    return fmean([qualities[task] for task in sorted(qualities)]) if qualities else None


def _mean_of(
    model: Published,
    own: float | None,
    models: Mapping[str, Published],
    means: Mapping[str, float | None],
) -> float | None:
    if own is not None or model.tier is None:
        return own
    peers = [means[name] for name in sorted(models) if models[name].tier == model.tier]
    known = [mean for mean in peers if mean is not None]
    return fmean(known) if known else None


def _estimates(
    qualities: Mapping[str, float], mean: float | None, name: str, rates: RateSnapshot
) -> dict[str, Estimate]:
    if mean is None:
        return {}
    learned = rates.learned.get(name, {})
    strength = rates.prior_strength

    def evidence(task: str, heard: Learned) -> tuple[float, float, float, float]:
        # What was learned of the class itself counts once: not in its prior, too.
        others = {other: sums for other, sums in heard.items() if other != task}
        return prior(task, others), strength, *heard.get(task, (0.0, 0.0))

    def prior(task: str, heard: Learned) -> float:
        # The general figure is the model's mean, which is what it has shown, too.
        if task in qualities and task != GENERAL_TASK:
            return qualities[task]
        if (wider := class_of(task)) != task and wider in {*qualities, *heard}:
            return _shrunk(*evidence(wider, heard))
        return _mean_moved_by(heard, mean, qualities, strength)

    return {task: Estimate.of_rate(*evidence(task, learned)) for task in {GENERAL_TASK, *qualities, *learned}}


def _mean_moved_by(learned: Learned, mean: float, qualities: Mapping[str, float], strength: float) -> float:
    """Return a model's mean after what it has shown in some classes, each against what was said of it there.

    No class counts for more than the prior does: a thousand easy answers say little of a hard class.
    """
    surprises, weights = [], []
    for task in sorted(learned):
        successes, trials = learned[task]
        share = min(1.0, strength / trials) if trials else 0.0
        surprises.append((successes - trials * known_of(qualities, task, mean)) * share)
        weights.append(trials * share)
    return min(max(mean + fsum(surprises) / (strength + fsum(weights)), 0.0), 1.0)


def _shrunk(prior: float, strength: float, successes: float, trials: float) -> float:
    return min(max(prior + (successes - prior * trials) / (strength + trials), 0.0), 1.0)
