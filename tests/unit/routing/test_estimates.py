"""What is expected of a model: published figures, shrunk rates, bounds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from backend.routing.beta import distribution, lower_quantile
from backend.routing.quality import CONFIDENCE, Estimate, Published, expected, mixed, model_estimates
from backend.routing.rate_snapshot import RateSnapshot

STRENGTH = RateSnapshot().prior_strength


def qualities(
    published: dict[str, float], rates: RateSnapshot, task: str = "code", tier: str | None = None
) -> float | None:
    """Return the quality that is expected of a model in a class, or in general, where it has none of its own."""
    models = {"m": Published(published, tier), "peer": Published({"general": 0.6}, "large")}
    estimates = model_estimates(models, rates)["m"]
    found = expected(estimates, [(task, 1.0)])
    return found and found.quality


def test_without_feedback_the_published_figure_counts() -> None:
    """That of the class, else the general one, else the mean of what there is, else the tier's, else nothing: never a half."""
    none = RateSnapshot()
    assert qualities({"code": 0.9, "general": 0.5}, none) == 0.9
    assert qualities({"general": 0.7}, none) == 0.7
    assert qualities({"mathematics": 0.2, "chat": 0.4}, none) == pytest.approx(0.3)
    assert qualities({}, none, tier="large") == 0.6
    assert qualities({}, none, tier="small") is None
    assert qualities({}, none) is None


def test_feedback_moves_a_rate_as_far_as_there_is_of_it() -> None:
    """Twelve answers weigh as much as the published figure; other classes and models stay as they are."""
    rates = RateSnapshot(learned={"m": {"code": (0.0, STRENGTH)}})
    assert qualities({"general": 0.8}, rates) == pytest.approx(0.4)
    assert qualities({"general": 0.8, "chat": 0.7}, rates, "chat") == 0.7
    # Of a class of which nothing is said the mean is expected, and that has moved.
    assert qualities({"general": 0.8}, rates, "law") == pytest.approx(0.4)
    assert (
        model_estimates({"peer": Published({"general": 0.8}, None)}, rates)["peer"]["general"].quality == 0.8
    )
    many = RateSnapshot(learned={"m": {"code": (900.0, 1000.0)}})
    assert qualities({"general": 0.1}, many) == pytest.approx(901.2 / 1012)


def test_what_is_known_of_a_class_holds_for_its_kinds_until_more_is_known() -> None:
    """Published or learned; what was learned of the kind is added to it, and its own figure comes before all."""
    none, kind = RateSnapshot(), "code.completion"
    assert qualities({"code": 0.9, "general": 0.5}, none, kind) == 0.9
    assert qualities({kind: 0.7, "code": 0.9}, none, kind) == 0.7
    assert qualities({kind: 0.7, "general": 0.5}, none, "code") == 0.5
    # The class, of which 36 answers were useless, is at 0.8 * 12 / 48; the mean has moved by 12 of them.
    rates = RateSnapshot(learned={"m": {"code": (0.0, 3 * STRENGTH)}})
    assert qualities({"general": 0.8}, rates, kind) == pytest.approx(0.2)
    assert qualities({"general": 0.8}, rates, "law") == pytest.approx(0.4)
    rates = RateSnapshot(learned={"m": {"code": (0.0, 3 * STRENGTH), kind: (0.0, STRENGTH)}})
    assert qualities({"general": 0.8}, rates, kind) == pytest.approx(0.2 / 2)
    assert qualities({"general": 0.8, "code": 0.6}, rates, kind) == pytest.approx(0.6 / 4 / 2)
    rates = RateSnapshot(learned={"m": {"code": (0.0, STRENGTH), kind: (STRENGTH, STRENGTH)}})
    assert qualities({"general": 0.8}, rates, kind) == pytest.approx(0.7)
    # Nothing unexpected was shown: the mean of the rest stays.
    rates = RateSnapshot(learned={"m": {kind: (0.9 * STRENGTH, STRENGTH)}})
    assert qualities({"code": 0.9, "general": 0.5}, rates, "law") == pytest.approx(0.5)


def test_without_any_figure_feedback_alone_makes_no_estimate() -> None:
    """Nobody would know how far to trust the first answer."""
    assert qualities({}, RateSnapshot(learned={"m": {"code": (10.0, 10.0)}})) is None


@given(st.floats(0.05, 0.95), st.floats(0, 500), st.floats(0.05, 0.95))
def test_the_bound_is_below_the_quality_and_nears_it_with_more_answers(
    prior: float, trials: float, share: float
) -> None:
    """It says with what confidence the rate is not lower."""
    few = Estimate.of_rate(prior, STRENGTH, share * trials, trials)
    assert 0 <= few.bound <= few.quality <= 1
    more = Estimate.of_rate(few.quality, 10_000)
    assert more.quality - more.bound <= few.quality - few.bound + 1e-3


@given(st.floats(0.1, 50_000), st.floats(0.1, 50_000), st.sampled_from([0.01, 0.1, 1 - CONFIDENCE, 0.5]))
def test_a_quantile_is_where_scipys_distribution_has_the_probability(
    alpha: float, beta: float, probability: float
) -> None:
    """From a tenth of an answer to fifty thousand. SciPy's own quantile is off by 0.04 at (42176, 1000)."""
    found = lower_quantile(probability, alpha, beta)
    below, above = max(found - 1e-9, 0.0), min(found + 1e-9, 1.0)
    assert betainc(alpha, beta, below) <= probability <= betainc(alpha, beta, above)


@given(st.floats(0, 1), st.floats(0.1, 5_000), st.floats(0.1, 5_000))
def test_the_distribution_is_that_of_scipy(x: float, alpha: float, beta: float) -> None:
    """On both sides of the mean."""
    assert distribution(x, alpha, beta) == pytest.approx(betainc(alpha, beta, x), abs=1e-9)


def test_no_doubt_is_left_by_nothing() -> None:
    """A figure of 0 is as low as can be; one of 1 may yet turn out to be less."""
    assert Estimate.of_rate(0.0, STRENGTH) == (0.0, 0.0)
    certain = Estimate.of_rate(1.0, STRENGTH)
    assert certain.quality == 1.0
    assert 0.85 < certain.bound < 1


@given(
    st.floats(0, 1),
    st.lists(st.integers(1, 10_000), min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
def test_where_all_classes_are_alike_so_is_the_mean(
    quality: float, shares: list[int], chance: random.Random
) -> None:
    """To the last bit: a model that is 0.9 everywhere clears 0.9 whatever a text is of. In any order."""
    estimate, total = Estimate(quality, quality / 2), sum(shares)
    assert mixed([(estimate, share / total) for share in shares]) == estimate
    parts = [(Estimate(chance.random(), 0.0), share / total) for share in shares]
    assert mixed(parts) == mixed(chance.sample(parts, len(parts)))


def test_much_that_is_easy_says_little_of_what_is_hard() -> None:
    """A class moves the mean by no more than the prior weighs, and by what was not expected of it."""
    easy = RateSnapshot(learned={"m": {"extraction": (980.0, 1_000.0)}})
    assert qualities({"general": 0.6}, easy, "law") == pytest.approx(0.6 + 0.38 / 2)
    assert qualities({"general": 0.6, "extraction": 0.98}, easy, "law") == pytest.approx(0.6)
    assert qualities({"general": 0.6}, easy, "extraction") == pytest.approx(987.2 / 1012)


def test_a_request_in_several_classes_has_the_mean_of_them() -> None:
    """Weighed by how probable each is; both the quality and its bound."""
    assert mixed([(Estimate(0.5, 0.25), 1.0)]) == (0.5, 0.25)
    assert mixed([(Estimate(1.0, 0.5), 0.75), (Estimate(0.0, 0.0), 0.25)]) == (0.75, 0.375)
