"""The simulation simulates what the gateway does."""

import numpy as np
import pytest

from backend.routing.quality import CONFIDENCE, Estimate
from backend.routing.rate_snapshot import NO_RATES
from bench.quality.learning import (
    HALF_LIFE,
    POLICIES,
    WIDE,
    Rates,
    World,
    feedbacks_until_left,
    ladder,
    simulate,
)


def test_its_rates_are_the_gateways() -> None:
    """Means and bounds of one model and class, as ``backend.routing.quality`` has them."""
    rates = Rates(np.array([[0.7, 0.4]]))
    for good in (True, True, False):
        rates.add(0, 0, good=good)
    decays = [0.5 ** (age / HALF_LIFE) for age in (2, 1, 0)]
    estimate = Estimate.of_rate(0.7, NO_RATES.prior_strength, decays[0] + decays[1], sum(decays))
    assert rates.means()[0, 0] == pytest.approx(estimate.quality)
    assert rates.quantiles(1 - CONFIDENCE)[0, 0] == pytest.approx(estimate.bound, abs=1e-8)
    assert rates.means()[0, 1] == pytest.approx(0.4)


def test_a_class_that_nobody_clears_is_left_out() -> None:
    """A floor promises nothing there."""
    world = World("w", np.array([[0.5, 0.9], [0.6, 0.95]]), np.ones((2, 2)), np.array([0.75, 0.25]))
    assert world.where_cleared(0.7).qualities.tolist() == [[0.9], [0.95]]
    assert world.where_cleared(0.7).traffic.tolist() == [1.0]


def test_the_cheapest_that_clears_is_served_else_the_best() -> None:
    """By what is predicted."""
    world = ladder("w", (0.3, 0.5, 0.7))
    predicted = np.array([[0.3, 0.9, 0.1, 0.7], [0.8, 0.9, 0.2, 0.1], [0.9, 0.9, 0.1, 0.1]])
    assert world.cheapest(0.7, predicted).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    """So that a figure can be had again."""
    assert simulate(WIDE, 0.6, POLICIES[name], seed=1) == simulate(WIDE, 0.6, POLICIES[name], seed=1)
    assert simulate(WIDE, 0.6, POLICIES[name], seed=1) != simulate(WIDE, 0.6, POLICIES[name], seed=2)


def test_a_model_that_gets_worse_is_left_the_later_the_more_it_had_shown() -> None:
    """But within what the half-life remembers; one that does not get worse would not be left."""
    short, long = (feedbacks_until_left(0.85, 0.55, 0.7, heard, seed=1) for heard in (50, 1_000))
    assert 0 < short < long < 2 * HALF_LIFE
