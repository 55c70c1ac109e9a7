"""Predictors of quality: the gateway's, and those it is compared with. Each is fitted on pools and predicts a matrix."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from backend.routing.classifier import excerpt, tokens
from backend.routing.quality import GENERAL_TASK, Estimate, Published, expected, model_estimates
from backend.routing.rate_snapshot import RateSnapshot
from backend.routing.task import Found, Tasks
from backend.training.fit import matrix
from bench.quality.recorded import Matrix, Pool

_NEIGHBOURS = 40
_MODEL = "the model"
Posterior = Mapping[str, float]
Estimates = Mapping[str, Estimate]
# Successes and trials, by class.
Observed = Mapping[str, tuple[float, float]]


def learned(observed: Observed, tier_mean: float) -> Estimates:
    """Return what the gateway expects of a model that has shown this, where nothing is published but its tier's mean."""
    model = Published({GENERAL_TASK: tier_mean}, None)
    return model_estimates({_MODEL: model}, RateSnapshot(learned={_MODEL: observed}))[_MODEL]


def quality(estimates: Estimates, posterior: Posterior) -> float:
    """Return the quality that the gateway expects for a posterior, 0 to 1.

    Raises:
        ValueError: nothing is known of the model.
    """
    found = expected(estimates, tuple(posterior.items()))
    if found is None:
        raise ValueError("nothing is known of the model")
    return found.quality


def observed_sums(pool: Pool) -> dict[str, Observed]:
    """Return what each model of a pool has shown: successes and trials, by class."""
    tasks = np.array([prompt.task for prompt in pool.prompts])
    of_task = {task: tasks == task for task in sorted(set(tasks.tolist()))}
    return {
        model: {task: (float(scores[rows].sum()), float(rows.sum())) for task, rows in of_task.items()}
        for model, scores in zip(pool.models, pool.scores.T, strict=True)
    }


def learned_estimates(pool: Pool) -> list[Estimates]:
    """Return what to expect of each model of a pool, in their order."""
    tier_mean = float(pool.scores.mean())
    return [learned(observed, tier_mean) for observed in observed_sums(pool).values()]


def predictions(models: Sequence[Estimates], posteriors: Iterable[Posterior]) -> Matrix:
    """Return a row a posterior and a column a model."""
    return np.array([[quality(estimates, posterior) for estimates in models] for posterior in posteriors])


def of_text(tasks: Tasks, text: str) -> Posterior:
    """Return the classes of a request that has this text and nothing else: what rules say of it, else the classifier."""
    size = len(text.encode(errors="surrogatepass"))
    return _posterior(tasks.found([text], size, offers_tools=False))


def of_class(tasks: Tasks, task: str, text: str) -> Posterior:
    """Return the classes of a request whose caller names one."""
    return _posterior(tasks.named(task, [text]))


def _posterior(found: Found) -> Posterior:
    return dict(found.posterior) or {found.task: 1.0}


def logistic_regressions(train: Pool, test: Pool) -> Matrix:
    """Fit a logistic regression a model, on the same features as the classifier's."""
    features, asked = _matrix(train.texts), _matrix(test.texts)
    return np.column_stack([_regression(features, scores, asked) for scores in train.scores.T])


def _regression(
    features: "csr_matrix[np.float64]", scores: Matrix, asked: "csr_matrix[np.float64]"
) -> Matrix:
    # A score between 0 and 1 is so much of a success and so much of a failure.
    count = len(scores)
    rows = np.concatenate([np.arange(count), np.arange(count)])
    labels = np.repeat([1, 0], count)
    weights = np.concatenate([scores, 1 - scores])
    used = weights > 0
    model = LogisticRegression(C=1.0, tol=1e-3, max_iter=200)
    model.fit(features[rows[used]], labels[used], sample_weight=weights[used])
    return np.asarray(model.predict_proba(asked)[:, 1])


def nearest_neighbours(train: Pool, test: Pool) -> Matrix:
    """Take the mean outcome of the most similar prompts, by the cosine of the same features, weighted by rarity."""
    weighting = TfidfTransformer()
    features = weighting.fit_transform(_matrix(train.texts))
    near = NearestNeighbors(n_neighbors=_NEIGHBOURS, metric="cosine", algorithm="brute").fit(features)
    neighbours = near.kneighbors(weighting.transform(_matrix(test.texts)), return_distance=False)
    return np.asarray(train.scores[neighbours].mean(axis=1))


def oracle(_train: Pool, test: Pool) -> Matrix:
    """Know the outcome beforehand."""
    return test.scores


def _matrix(texts: Sequence[str]) -> "csr_matrix[np.float64]":
    return matrix([tokens(excerpt([text])) for text in texts])


PEERS: Mapping[str, Callable[[Pool, Pool], Matrix]] = {
    "logistic regression a model": logistic_regressions,
    "nearest neighbours": nearest_neighbours,
    "oracle": oracle,
}
