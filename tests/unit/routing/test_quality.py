"""Rates, their bounds, and the mix of them that is predicted."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc, betaincinv

from backend.routing.quality import PRIOR_TRIALS, Rate, predicted, prior_mean, regularized_beta, shrunk

COUNTS = st.floats(0.01, 50_000)
QUALITIES = st.floats(0, 1)


@given(st.floats(0, 1), COUNTS, COUNTS)
def test_the_beta_distribution_is_that_of_scipy(x: float, a: float, b: float) -> None:
    """From a hundredth of an outcome to fifty thousand."""
    assert regularized_beta(x, a, b) == pytest.approx(betainc(a, b, x), abs=1e-9)


@given(st.floats(0.1, 50_000), st.floats(0.1, 50_000), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_lower_bound_is_a_quantile_of_the_posterior(good: float, bad: float, confidence: float) -> None:
    """To nine digits of SciPy's."""
    bound = Rate(good, good + bad).lower_bound(confidence)
    assert bound == pytest.approx(betaincinv(good, bad, 1 - confidence), abs=2e-9)


@pytest.mark.parametrize(("rate", "bound"), [(Rate(0.0, 5.0), 0.0), (Rate(5.0, 5.0), 1.0)])
def test_a_rate_without_successes_or_failures_has_a_bound(rate: Rate, bound: float) -> None:
    """A prior keeps every real one between them."""
    assert rate.lower_bound(0.9) == bound


def test_more_outcomes_bring_the_bound_closer_to_the_mean() -> None:
    """Which stays where it is."""
    rates = [Rate(0.8, 1.0).times(trials) for trials in (1, 10, 100, 10_000)]
    assert {round(rate.mean, 9) for rate in rates} == {0.8}
    bounds = [rate.lower_bound(0.9) for rate in rates]
    assert bounds == sorted(bounds)
    assert bounds[0] < 0.5
    assert 0.79 < bounds[-1] < 0.8


@pytest.mark.parametrize(
    ("published", "observed", "expected"),
    [
        ({"law": 0.7, "general": 0.4}, {}, 0.7),
        ({"general": 0.4, "math": 0.9}, {}, 0.4),
        ({"math": 0.9, "history": 0.7}, {}, 0.8),
        ({}, {}, 0.6),
        # The model's mean: 12 trials at the tier's 0.6, and 12 that all went well.
        ({}, {"math": Rate(12, 12)}, 0.8),
        # 12 trials at the published mean of 0.9, and 36 at 0.5 in two classes.
        ({"math": 0.9}, {"math": Rate(12, 24), "history": Rate(6, 12)}, 0.6),
        # What it has shown in the class itself is added to the prior, not put in its place.
        ({"law": 0.7}, {"law": Rate(0, 100)}, 0.7),
        ({"law": 1.0}, {}, 0.99),
        ({"law": 0.0}, {}, 0.01),
    ],
)
def test_a_prior_is_the_closest_figure_there_is(
    published: dict[str, float], observed: dict[str, Rate], expected: float
) -> None:
    """The class's published one, else the model's mean, else its tier's."""
    assert prior_mean("law", published, observed, tier_mean=0.6) == pytest.approx(expected)


def test_a_prior_is_worth_twelve_outcomes() -> None:
    """After twelve, what was said and what was seen count the same."""
    assert shrunk(Rate(), 0.7) == Rate(PRIOR_TRIALS * 0.7, PRIOR_TRIALS)
    assert shrunk(Rate(12, 12), 0.5).mean == pytest.approx(0.75)
    assert shrunk(Rate(1_000, 1_000), 0.5).mean == pytest.approx(0.994, abs=1e-3)


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9_999), min_size=1), QUALITIES, QUALITIES)
def test_no_order_and_no_journey_through_json_changes_a_prediction(
    parts: dict[str, int], quality: float, otherwise: float
) -> None:
    """A replay gives the same bits."""
    posterior = {task: part / 10_000 for task, part in parts.items()}
    qualities = {task: quality / number for number, task in enumerate("abc", 1)}
    recorded = json.loads(json.dumps(posterior))
    found = {
        predicted(dict(order), qualities, otherwise)
        for order in itertools.islice(itertools.permutations(recorded.items()), 24)
    }
    assert found == {predicted(posterior, qualities, otherwise)}


def test_a_prediction_is_the_mix_of_what_is_known_and_what_is_not() -> None:
    """By the probability of each class."""
    posterior = {"law": 0.5, "math": 0.25, "chat": 0.25}
    assert predicted(posterior, {"law": 0.8, "math": 0.4}, otherwise=0.6) == pytest.approx(0.65)
    assert predicted({"law": 1.0}, {"law": 0.8}, otherwise=0.1) == 0.8
