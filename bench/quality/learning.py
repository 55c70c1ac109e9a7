"""Learning, simulated: models of known quality, feedback on what is served, and what the gateway makes of it.

Each run draws published figures near the truth, serves requests of random classes by what it has learned, and hears of each
whether it went well. Rates are as in ``backend.routing.quality``: sums that halve every ``HALF_LIFE`` feedbacks, and a prior
that does not. Bounds come from SciPy here, all at once; the gateway's own are equal to nine digits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from backend.routing.quality import CONFIDENCE
from backend.routing.rate_snapshot import NO_RATES
from bench.quality.recorded import Matrix, Pool

FEEDBACKS = 2_000
HALF_LIFE = 1_000
# A snapshot of the rates is published after so many.
_SNAPSHOT = 20
_FIRST = 200
# How far published figures are off: standard deviation, as published and measured figures of one model differ.
_ERROR_OF_FIGURES = 0.05
# A floor that nobody clears by this much cannot be told from one that nobody clears.
_LEAST_MARGIN = 0.02
_TOLERATED_COST = 1.1
Choice = npt.NDArray[np.intp]


@dataclass(frozen=True)
class World:
    """Models and classes. Matrices have a row a model and a column a class.

    Attributes:
        qualities: true means, 0 to 1.
        costs: of a request, in USD.
        traffic: the share of requests of each class; they sum to 1.
    """

    name: str
    qualities: Matrix
    costs: Matrix
    traffic: Matrix

    def where_cleared(self, floor: float) -> "World":
        """Return the world without the classes in which no model clears a floor with some margin."""
        kept = self.qualities.max(axis=0) >= floor + _LEAST_MARGIN
        traffic = self.traffic[kept]
        return World(self.name, self.qualities[:, kept], self.costs[:, kept], traffic / traffic.sum())

    def mean(self, values: Matrix, chosen: Choice) -> float:
        """Return the mean over the traffic of the values of the models chosen in each class."""
        return float((self.traffic * values[chosen, np.arange(len(chosen))]).sum())

    def cheapest(self, floor: float, predicted: Matrix) -> Choice:
        """Return for each class the cheapest model predicted to clear a floor, else the one predicted best."""
        costs = np.where(predicted >= floor, self.costs, np.inf)
        chosen: Choice = np.where(
            np.isfinite(costs.min(axis=0)), costs.argmin(axis=0), predicted.argmax(axis=0)
        )
        return chosen

    def explored(self, floor: float, means: Matrix, bounds: Matrix) -> Choice:
        """Return for each class whom a request that explores goes to first, as ``backend.routing.rank`` has it."""
        usual = self.cheapest(floor, means)
        classes = np.arange(len(usual))
        may_clear = means + (means - bounds) >= floor
        is_cheaper = self.costs < self.costs[usual, classes]
        costs = np.where(may_clear & is_cheaper & (means.max(axis=0) >= floor), self.costs, np.inf)
        chosen: Choice = np.where(np.isfinite(costs.min(axis=0)), costs.argmin(axis=0), usual)
        return chosen


def ladder(name: str, qualities: Sequence[float]) -> World:
    """Return a world of one class in which each model costs three times as much as the one before."""
    rungs = np.array(qualities)[:, np.newaxis]
    costs = 1e-4 * 3.0 ** np.arange(len(qualities))[:, np.newaxis]
    return World(name, rungs, np.asarray(costs), np.ones(1))


WIDE = ladder("four models, 20 points apart", (0.3, 0.5, 0.7, 0.9))
NARROW = ladder("five models, 10 points apart", (0.45, 0.55, 0.65, 0.75, 0.85))


def recorded_world(pool: Pool) -> World:
    """Return a pool as a world: its models' mean outcomes and costs by class are the truth."""
    tasks = np.array([prompt.task for prompt in pool.prompts])
    of_task = [tasks == task for task in sorted(set(tasks))]
    return World(
        pool.name,
        np.column_stack([pool.scores[rows].mean(axis=0) for rows in of_task]),
        np.column_stack([pool.expected_costs[rows].mean(axis=0) for rows in of_task]),
        np.array([rows.mean() for rows in of_task]),
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """How a model is chosen.

    Attributes:
        strict: by the lower bound of its rate, not by the mean.
        explored: the share of requests that explore.
    """

    strict: bool = False
    explored: float = 0.0


POLICIES: Mapping[str, Policy] = {
    "means": Policy(),
    "lower bounds (strict)": Policy(strict=True),
    "means, 10 % explored": Policy(explored=0.1),
    "means, 20 % explored": Policy(explored=0.2),
}


class Outcome(NamedTuple):
    """What one run came to. Qualities are means over the traffic; costs are shares of the oracle's.

    Attributes:
        served: quality of what is served after all feedbacks.
        cost: of what is served then.
        first: quality of the first 200 requests.
    """

    served: float
    cost: float
    first: float


class Rates:
    """The sums of each model and class."""

    def __init__(self, published: Matrix) -> None:
        """Start from published figures."""
        self._successes = NO_RATES.prior_strength * published
        self._failures = NO_RATES.prior_strength - self._successes
        self._good = np.zeros_like(published)
        self._bad = np.zeros_like(published)

    def add(self, model: int, task: int, *, good: bool) -> None:
        """Add a feedback. Whatever came before has halved after ``HALF_LIFE`` of them."""
        self._good *= _DECAY
        self._bad *= _DECAY
        (self._good if good else self._bad)[model, task] += 1

    def means(self) -> Matrix:
        """Return the mean of each."""
        successes = self._successes + self._good
        return np.asarray(successes / (successes + self._failures + self._bad))

    def bounds(self) -> Matrix:
        """Return what each is at least."""
        good, bad = self._successes + self._good, self._failures + self._bad
        return np.asarray(np.minimum(betaincinv(good, bad, 1 - CONFIDENCE), self.means()))


_DECAY = 0.5 ** (1 / HALF_LIFE)


def simulate(whole: World, floor: float, policy: Policy, seed: int) -> Outcome:
    """Serve and learn once."""
    world, chance = whole.where_cleared(floor), np.random.default_rng(seed)
    figures = world.qualities + chance.normal(0, _ERROR_OF_FIGURES, world.qualities.shape)
    rates = Rates(np.clip(figures, 0.01, 0.99))
    tasks = chance.choice(len(world.traffic), FEEDBACKS, p=world.traffic)
    luck, turns = chance.random(FEEDBACKS), chance.random(FEEDBACKS)
    served = np.empty(FEEDBACKS)
    for number, task in enumerate(tasks):
        if number % _SNAPSHOT == 0:
            usual, explored = _choices(world, floor, policy, rates)
        model = (explored if turns[number] < policy.explored else usual)[task]
        served[number] = world.qualities[model, task]
        rates.add(model, task, good=bool(luck[number] < served[number]))
    usual, explored = _choices(world, floor, policy, rates)
    best = world.cheapest(floor, world.qualities)
    cost = _mixed(world, world.costs, (usual, explored), policy.explored)
    return Outcome(
        _mixed(world, world.qualities, (usual, explored), policy.explored),
        cost / world.mean(world.costs, best),
        float(served[:_FIRST].mean()),
    )


def _choices(world: World, floor: float, policy: Policy, rates: Rates) -> tuple[Choice, Choice]:
    """Return who is served in each class, and who if the request explores."""
    usual = world.cheapest(floor, rates.bounds() if policy.strict else rates.means())
    return usual, world.explored(floor, rates.means(), rates.bounds()) if policy.explored else usual


def _mixed(world: World, values: Matrix, choices: tuple[Choice, Choice], explored: float) -> float:
    usual, other = (world.mean(values, chosen) for chosen in choices)
    return (1 - explored) * usual + explored * other


@dataclass(frozen=True, slots=True)
class Summary:
    """Many runs: the share of them that ends at or over the floor, that starts so, and the costs."""

    world: str
    floor: float
    policy: str
    over_floor: float
    over_floor_at_first: float
    mean_cost: float
    within_cost: float


def summaries(worlds: Iterable[tuple[World, Sequence[float]]], runs: int) -> list[Summary]:
    """Simulate every policy in every world at its floors."""
    return [
        _summary(world, floor, name, policy, runs)
        for world, floors in worlds
        for floor in floors
        for name, policy in POLICIES.items()
    ]


def _summary(world: World, floor: float, name: str, policy: Policy, runs: int) -> Summary:
    outcomes = [simulate(world, floor, policy, seed) for seed in range(runs)]
    return Summary(
        world.name,
        floor,
        name,
        float(np.mean([outcome.served >= floor for outcome in outcomes])),
        float(np.mean([outcome.first >= floor for outcome in outcomes])),
        float(np.mean([outcome.cost for outcome in outcomes])),
        float(np.mean([outcome.cost <= _TOLERATED_COST for outcome in outcomes])),
    )


def feedbacks_until_left(before: float, after: float, floor: float, heard: int, seed: int) -> int:
    """Return after how many feedbacks a model falls under a floor whose quality fell silently after ``heard`` of them."""
    chance = np.random.default_rng(seed)
    rates = Rates(np.array([[before]]))
    for good in chance.random(heard) < before:
        rates.add(0, 0, good=bool(good))
    count = 0
    while rates.means()[0, 0] >= floor:
        rates.add(0, 0, good=bool(chance.random() < after))
        count += 1
    return count
