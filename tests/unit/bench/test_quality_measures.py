"""The measures, on numbers that can be worked by hand."""

import numpy as np
import pytest

from bench.quality import measures
from bench.quality.recorded import Pool, Prompt

CHEAP, DEAR = 1.0, 3.0


def pool_of(cheap: list[float], dear: list[float]) -> Pool:
    """Return a pool of two models that cost 1 and 3 a prompt, with these scores."""
    prompts = tuple(
        Prompt(str(number), "pool", "exam", "law", "text", str(number)) for number in range(len(cheap))
    )
    scores = np.column_stack([cheap, dear])
    costs = np.tile([CHEAP, DEAR], (len(cheap), 1))
    return Pool("pool", prompts, ("cheap", "dear"), scores, costs, costs)


# The dear model is better on the second prompt, and on no other.
POOL = pool_of([1, 0, 1, 0], [1, 1, 1, 0])


def test_the_hull_keeps_what_no_mix_of_others_reaches() -> None:
    """Nothing dominated, nothing under the line between two others, nothing that falls."""
    curve = measures.hull(np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.2, 0.5, 0.6, 0.65, 0.8, 0.7]))
    assert curve.costs.tolist() == [1.0, 2.0, 4.0]
    assert curve.qualities.tolist() == [0.2, 0.6, 0.8]


def test_the_area_is_the_mean_quality_over_the_range_of_costs() -> None:
    """A curve that ends before the range goes on flat, and one that begins before it is cut."""
    curve = measures.hull(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    assert curve.area(0.0, 2.0) == pytest.approx(0.5)
    assert curve.area(1.0, 3.0) == pytest.approx((0.75 + 1.0) / 2)


def test_without_routing_models_are_mixed_at_random() -> None:
    """From 0.5 at the cheap one's cost to 0.75 at the dear one's."""
    curve = measures.without_routing(POOL)
    assert measures.improvement(curve, POOL) == pytest.approx(0.625)
    assert measures.cost_to_match(curve, POOL) == pytest.approx(1.0)


def test_who_knows_the_outcome_pays_only_where_it_helps() -> None:
    """One prompt of four to the dear model: 0.75 at a mean cost of 1.5, half of the best model's."""
    curve = measures.routed(POOL.scores, POOL)
    assert curve.costs.tolist() == [1.0, 1.5]
    assert measures.cost_to_match(curve, POOL) == pytest.approx(0.5)
    # 0.625 on the way from 1 to 1.5, a quarter of the range; 0.75 on the rest.
    assert measures.improvement(curve, POOL) == pytest.approx(0.25 * 0.625 + 0.75 * 0.75)


def test_a_quality_that_is_not_reached_has_no_cost() -> None:
    """Not the most that there is instead."""
    curve = measures.routed(np.tile([1.0, 0.0], (4, 1)), POOL)
    assert np.isnan(measures.cost_to_match(curve, POOL))


@pytest.mark.parametrize(
    ("gains", "mean", "calls"),
    [
        # All of the gap is recovered by the first call of four: 0.5 on the first quarter, 1 on the rest.
        ([0.0, 1.0, 0.0, 0.0], 0.25 * 0.5 + 0.75, (0.25, 0.25)),
        # By the last one only.
        ([2.0, 0.0, 1.0, 1.0], 0.25 * 0.5, (1.0, 1.0)),
    ],
)
def test_recovery_is_what_the_order_of_calls_brings(
    gains: list[float], mean: float, calls: tuple[float, float]
) -> None:
    """RouteLLM's APGR and CPT."""
    found = measures.recovery(np.array(gains), POOL.scores[:, 0], POOL.scores[:, 1], (0.5, 0.8))
    assert found.mean == pytest.approx(mean)
    assert found.calls == calls


def test_a_random_order_recovers_half() -> None:
    """As RouteLLM's random router does."""
    chance = np.random.default_rng(1)
    weak, strong = np.zeros(20_000), (chance.random(20_000) < 0.3).astype(float)
    found = measures.recovery(chance.random(20_000), weak, strong, (0.5,))
    assert found.mean == pytest.approx(0.5, abs=0.02)


def test_calibration_compares_what_was_said_with_what_came() -> None:
    """A quarter of the predictions is off by 0.2, the rest by 0.1."""
    predictions = np.array([[0.8], [0.9], [0.9], [0.9]])
    bins = measures.calibration(predictions, np.array([[1.0], [1.0], [1.0], [1.0]]))
    assert [(found.count, found.predicted, found.realized) for found in bins] == [
        (1, 0.8, 1.0),
        (3, pytest.approx(0.9), 1.0),
    ]
    assert measures.calibration_error(bins) == pytest.approx(0.25 * 0.2 + 0.75 * 0.1)


def test_a_prediction_of_one_is_in_the_last_bin() -> None:
    """Not in an eleventh."""
    (found,) = measures.calibration(np.array([[1.0], [0.95]]), np.array([[1.0], [0.0]]))
    assert found.count == 2


def test_at_a_floor_the_cheapest_that_clears_is_taken() -> None:
    """And nobody where nobody does."""
    predictions = np.array([[0.9, 0.9], [0.5, 0.8], [0.6, 0.65], [0.2, 0.3]])
    cleared = measures.at_floor(0.6, predictions, POOL)
    assert cleared.share == 0.75
    assert cleared.predicted == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert cleared.realized == 1.0
    assert cleared.cost == pytest.approx((CHEAP + DEAR + CHEAP) / 3)
    assert measures.at_floor(0.95, predictions, POOL).share == 0.0
