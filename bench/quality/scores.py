"""Predictions for prompts that nobody here has seen: a file of prompts and one of models in, a file of scores out."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.routing.classifier import Classifier
from backend.routing.task import Tasks
from backend.training.examples import read_table, task_name
from bench.quality.predictors import (
    Estimates,
    Observed,
    Posterior,
    learned,
    observed_sums,
    of_class,
    of_text,
    quality,
)
from bench.quality.recorded import Pool
from bench.quality.run import say

_DECIMALS = 6


@dataclass(frozen=True)
class Request:
    """What to predict, and where to write it.

    Attributes:
        prompts: a CSV file with ``prompt_id``, ``prompt`` and perhaps ``source``, plain or gzipped.
        models: one with ``model`` and perhaps ``source``.
        out: the file to write: ``prompt_id``, ``model``, ``score``.
        class_column: the column of the prompts that names their class, or None: text only. An empty cell is text only.
    """

    prompts: Path
    models: Path
    out: Path
    class_column: str | None = None


def write_scores(request: Request, pools: Sequence[Pool], classifier: Classifier) -> int:
    """Predict each model of a prompt's source for it, by all recorded outcomes; return how many scores were written.

    Where one of the files names no sources, or a source has no models, every model is predicted for the prompt.

    Raises:
        OSError: a file cannot be read or written.
        TableError: a file lacks a column.
    """
    needed = ["prompt_id", "prompt", *([request.class_column] if request.class_column else [])]
    prompts = read_table(request.prompts, needed)
    models = read_table(request.models, ["model"])
    outcomes = _Outcomes(pools)
    qualities = {
        source: {model: outcomes.estimates(source, model) for model in _models_of(source, models)}
        for source in sorted({row.get("source", "") for row in prompts})
    }
    unknown = sorted({model for of_source in qualities.values() for model in of_source} - outcomes.models)
    if unknown:
        say(f"no outcomes are recorded of {', '.join(unknown)}: predicted by the mean of the others")
    rows = [
        (row["prompt_id"], model, f"{quality(estimates, posterior):.{_DECIMALS}f}")
        for row in prompts
        for posterior in [_posterior(row, request.class_column, Tasks(classifier))]
        for model, estimates in qualities[row.get("source", "")].items()
    ]
    with request.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("prompt_id", "model", "score"))
        writer.writerows(rows)
    return len(rows)


def _posterior(row: Mapping[str, str], class_column: str | None, tasks: Tasks) -> Posterior:
    if class_column and row[class_column]:
        return of_class(tasks, task_name(row[class_column]), row["prompt"])
    return of_text(tasks, row["prompt"])


def _models_of(source: str, models: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the models listed for a source, each once, in the order of the file; all if there are none."""
    listed = [row["model"] for row in models if row.get("source", "") == source]
    return list(dict.fromkeys(listed or [row["model"] for row in models]))


class _Outcomes:
    """What each model has shown in each pool, and in all of them together."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._by_pool = {pool.name: observed_sums(pool) for pool in pools}
        self._tier_means = {pool.name: float(pool.scores.mean()) for pool in pools}

    @property
    def models(self) -> frozenset[str]:
        """The models of which there are any."""
        return frozenset(model for by_model in self._by_pool.values() for model in by_model)

    def estimates(self, source: str, model: str) -> Estimates:
        """Return what to expect of a model: by its outcomes in that pool; else in all; else what its tier shows."""
        in_pool = self._by_pool.get(source, {}).get(model)
        tier_mean = self._tier_means.get(source, _mean(self._tier_means.values()))
        return learned(in_pool or self._in_all(model), tier_mean)

    def _in_all(self, model: str) -> Observed:
        sums: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for observed in self._by_pool.values():
            for task, (successes, trials) in observed.get(model, {}).items():
                before = sums[task]
                sums[task] = (before[0] + successes, before[1] + trials)
        return sums


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
