"""The simulation simulates what the gateway does."""

import numpy as np
import pytest

from backend.routing.quality import Estimate
from backend.routing.rank import rank
from backend.routing.rate_snapshot import NO_RATES
from bench.quality.learning import (
    HALF_LIFE,
    NARROW,
    POLICIES,
    Policy,
    Rates,
    World,
    feedbacks_until_left,
    ladder,
    simulate,
)
from tests.unit.samples import PRICE_CLASSES, candidate, catalogue, routing_request


def test_its_rates_are_the_gateways() -> None:
    """Means and bounds of one model and class, as ``backend.routing.quality`` has them."""
    rates = Rates(np.array([[0.7, 0.4]]))
    for good in (True, True, False):
        rates.add(0, 0, good=good)
    decays = [0.5 ** (age / HALF_LIFE) for age in (2, 1, 0)]
    estimate = Estimate.of_rate(0.7, NO_RATES.prior_strength, decays[0] + decays[1], sum(decays))
    assert rates.means()[0, 0] == pytest.approx(estimate.quality)
    assert rates.bounds()[0, 0] == pytest.approx(estimate.bound, abs=1e-8)
    assert rates.means()[0, 1] == pytest.approx(0.4)


def test_a_class_that_nobody_clears_is_left_out() -> None:
    """A floor promises nothing there."""
    world = World("w", np.array([[0.5, 0.9], [0.6, 0.95]]), np.ones((2, 2)), np.array([0.75, 0.25]))
    assert world.where_cleared(0.7).qualities.tolist() == [[0.9], [0.95]]
    assert world.where_cleared(0.7).traffic.tolist() == [1.0]


def test_the_cheapest_that_clears_is_served_else_the_best() -> None:
    """By what is predicted."""
    costs = np.repeat([[1.0], [3.0], [9.0]], 4, axis=1)
    world = World("w", np.zeros((3, 4)), costs, np.full(4, 0.25))
    predicted = np.array([[0.3, 0.9, 0.1, 0.7], [0.8, 0.9, 0.2, 0.1], [0.9, 0.9, 0.1, 0.1]])
    assert world.cheapest(0.7, predicted).tolist() == [1, 0, 1, 0]


def test_what_is_explored_is_what_the_gateway_explores() -> None:
    """Of models with the same figures and doubts, each dearer than the one before."""
    chance = np.random.default_rng(1)
    world = ladder("w", [0.0] * 4)
    prices = [dict.fromkeys(PRICE_CLASSES, 10**6 * 3**rung) for rung in range(4)]
    asked = routing_request(floor=0.6, explores=True, on_miss="best")
    seen = set()
    for figures in chance.uniform(0.3, 0.9, (200, 4)):
        rates = Rates(figures[:, np.newaxis])
        offered = [
            candidate(f"model-{rung}", qualities={"general": figure}, prices=prices[rung])
            for rung, figure in enumerate(figures)
        ]
        ranking = rank(asked, catalogue(*offered))
        (chosen,) = world.explored(0.6, rates.means(), rates.bounds())
        assert ranking.eligible[0].candidate.model == f"model-{chosen}"
        seen.add((ranking.floor_cleared, ranking.explores))
    assert seen == {(True, True), (True, False), (False, False)}


def test_what_is_explored_counts_in_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As good or bad, and as cheap, as it is: half of the requests go to a model that is a little under the floor."""
    monkeypatch.setattr("bench.quality.learning._ERROR_OF_FIGURES", 0.0)
    monkeypatch.setattr("bench.quality.learning.FEEDBACKS", 20)
    world = World("w", np.array([[0.58], [0.9]]), np.array([[1.0], [3.0]]), np.ones(1))
    assert simulate(world, 0.6, Policy(), seed=0) == pytest.approx((0.9, 1.0, 0.9))
    served, cost, first = simulate(world, 0.6, Policy(explored=0.5), seed=0)
    assert (served, cost) == pytest.approx(((0.58 + 0.9) / 2, (1 / 3 + 1) / 2))
    assert 0.58 < first < 0.8


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    """So that a figure can be had again."""
    runs = [simulate(NARROW, 0.6, POLICIES[name], seed) for seed in (1, 1, 2, 3, 4)]
    assert runs[0] == runs[1]
    assert len(set(runs)) > 1


def test_a_model_that_gets_worse_is_left_the_later_the_more_it_had_shown() -> None:
    """But within what the half-life remembers; one that does not get worse would not be left."""
    short, long = (feedbacks_until_left(0.85, 0.55, 0.7, heard, seed=1) for heard in (50, 1_000))
    assert 0 < short < long < 2 * HALF_LIFE
