"""Predictors of quality: the gateway's, and those it is compared with. Each is fitted on pools and predicts a matrix."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from backend.routing.classifier import Classifier, excerpt, tokens
from backend.routing.quality import Rate, predicted, prior_mean, shrunk
from backend.training.fit import matrix
from bench.quality.recorded import Matrix, Pool, Prompt

_NEIGHBOURS = 40
Posterior = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelQuality:
    """What to expect of a model: its quality by class, and where nothing is known of it. Both 0 to 1."""

    by_task: Mapping[str, float]
    otherwise: float

    @classmethod
    def learned(cls, observed: Mapping[str, Rate], tier_mean: float) -> Self:
        """Shrink what was observed as the gateway does; nothing is published here."""
        mean = prior_mean("", {}, observed, tier_mean)
        return cls({task: shrunk(rate, mean).mean for task, rate in observed.items()}, mean)

    def predicted(self, posterior: Posterior) -> float:
        """Return the quality to expect for a posterior."""
        return predicted(posterior, self.by_task, self.otherwise)


def observed_rates(pool: Pool) -> dict[str, dict[str, Rate]]:
    """Return what each model of a pool has shown, by class."""
    tasks = np.array([prompt.task for prompt in pool.prompts])
    of_task = {task: tasks == task for task in sorted(set(tasks.tolist()))}
    return {
        model: {task: Rate(float(scores[rows].sum()), float(rows.sum())) for task, rows in of_task.items()}
        for model, scores in zip(pool.models, pool.scores.T, strict=True)
    }


def learned_qualities(pool: Pool) -> list[ModelQuality]:
    """Return what to expect of each model of a pool, in their order."""
    tier_mean = float(pool.scores.mean())
    return [ModelQuality.learned(observed, tier_mean) for observed in observed_rates(pool).values()]


def predictions(qualities: Sequence[ModelQuality], posteriors: Iterable[Posterior]) -> Matrix:
    """Return a row a posterior and a column a model."""
    return np.array([[quality.predicted(posterior) for quality in qualities] for posterior in posteriors])


def by_text(classifier: Classifier, prompts: Iterable[Prompt]) -> list[Posterior]:
    """Return what the classifier makes of each text."""
    return [classifier.posterior([prompt.text]) for prompt in prompts]


def by_class(prompts: Iterable[Prompt]) -> list[Posterior]:
    """Return what a caller who names the class says."""
    return [{prompt.task: 1.0} for prompt in prompts]


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
