"""One run: train on some folds, measure on the one left out, for each fold."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from backend.routing.classifier import Classifier
from backend.routing.task import Tasks
from backend.training.examples import Example
from backend.training.fit import train
from bench.quality import measures
from bench.quality.measures import Bin, Cleared, Curve
from bench.quality.predictors import PEERS, Posterior, learned_estimates, of_class, of_text, predictions
from bench.quality.recorded import Matrix, Pool, Prompt, fold_of

FLOORS = (0.6, 0.7, 0.8, 0.9)
RECOVERED = (0.5, 0.8)
TEXT_ONLY, CLASS_GIVEN, ZERO, ORACLE = "text only", "class given", "zero router", "oracle"
ROUTERS = (TEXT_ONLY, CLASS_GIVEN, *PEERS, ZERO)
# The pair of models that RouteLLM chooses between, and its benchmarks.
PAIR_POOL, WEAK, STRONG = "routellm", "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"
PAIR_BENCHMARKS = ("mmlu", "gsm8k")
# The pools whose single models differ by enough for the area to tell routers apart.
POOLS = ("mmlu_pro", "llmrouter", "zeroeval")
_MILLISECONDS = 1e3

# What is measured, where, of which router.
Key = tuple[str, str, str]


@dataclass
class Figures:
    """What the folds have shown: one value a fold under each key, and what only all of them together say."""

    values: dict[Key, list[float]] = field(default_factory=partial(defaultdict, list))
    bins: dict[tuple[str, str], list[list[Bin]]] = field(default_factory=partial(defaultdict, list))
    cleared: dict[tuple[str, float], list[Cleared]] = field(default_factory=partial(defaultdict, list))
    curves: dict[tuple[str, str], Curve] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, measure: str, where: str, router: str, value: float) -> None:
        """Keep the value of one fold."""
        self.values[measure, where, router].append(value)


@dataclass(frozen=True)
class Fold:
    """The task classes as a part of the pools has taught them, that part, and the other."""

    tasks: Tasks
    train: Mapping[str, Pool]
    test: Mapping[str, Pool]


def run(pools: Sequence[Pool], chat: Iterable[Example], folds: int, seed: int) -> Figures:
    """Measure on each fold in turn."""
    figures = Figures()
    for number in range(folds):
        say(f"fold {number + 1} of {folds}: training")
        fold = _fold(pools, chat, folds, seed, number)
        for pool in pools:
            say(f"fold {number + 1} of {folds}: {pool.name}")
            _measure(fold.tasks, fold.train[pool.name], fold.test[pool.name], figures)
        figures.seconds += _timed(fold)
    return figures


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(f"{text}\n")


def _fold(pools: Sequence[Pool], chat: Iterable[Example], folds: int, seed: int, number: int) -> Fold:
    tested = {
        pool.name: np.array([fold_of(prompt, folds, seed) == number for prompt in pool.prompts])
        for pool in pools
    }
    learned = {pool.name: pool.part(~tested[pool.name]) for pool in pools}
    examples = [prompt.example for pool in learned.values() for prompt in pool.prompts]
    classifier = Classifier.from_bytes(train([*examples, *chat]))
    return Fold(Tasks(classifier), learned, {pool.name: pool.part(tested[pool.name]) for pool in pools})


def _measure(tasks: Tasks, learned: Pool, asked: Pool, figures: Figures) -> None:
    qualities = learned_estimates(learned)
    posteriors = [of_text(tasks, prompt.text) for prompt in asked.prompts]
    named = [of_class(tasks, prompt.named_class, prompt.text) for prompt in asked.prompts]
    found = {
        TEXT_ONLY: predictions(qualities, posteriors),
        CLASS_GIVEN: predictions(qualities, named),
        **{name: predict(learned, asked) for name, predict in PEERS.items()},
    }
    figures.add("accuracy", asked.name, TEXT_ONLY, _accuracy(posteriors, asked.prompts))
    for router, predicted in found.items():
        if asked.name == PAIR_POOL:
            _measure_pair(router, predicted, asked, figures)
        else:
            _measure_curve(router, measures.routed(predicted, asked), asked, figures)
        bins = measures.calibration(predicted, asked.scores)
        figures.bins[router, asked.name].append(bins)
        figures.add("calibration error", asked.name, router, measures.calibration_error(bins))
    if asked.name != PAIR_POOL:
        _measure_curve(ZERO, measures.without_routing(asked), asked, figures)
        for floor in FLOORS:
            figures.cleared[asked.name, floor].append(measures.at_floor(floor, found[TEXT_ONLY], asked))


def _accuracy(posteriors: Sequence[Posterior], prompts: Sequence[Prompt]) -> float:
    right = [
        max(posterior, key=lambda task: posterior[task]) == prompt.task
        for posterior, prompt in zip(posteriors, prompts, strict=True)
    ]
    return sum(right) / len(right)


def _measure_curve(router: str, curve: Curve, pool: Pool, figures: Figures) -> None:
    figures.add("improvement", pool.name, router, measures.improvement(curve, pool))
    figures.add("cost to match", pool.name, router, measures.cost_to_match(curve, pool))
    # One fold's is enough for a picture.
    figures.curves.setdefault((pool.name, router), curve)


def _measure_pair(router: str, predicted: Matrix, pool: Pool, figures: Figures) -> None:
    weak, strong = pool.models.index(WEAK), pool.models.index(STRONG)
    gains = predicted[:, strong] - predicted[:, weak]
    for benchmark in PAIR_BENCHMARKS:
        taken = np.array([prompt.benchmark == benchmark for prompt in pool.prompts])
        found = measures.recovery(
            gains[taken], pool.scores[taken, weak], pool.scores[taken, strong], RECOVERED
        )
        figures.add("recovery", benchmark, router, found.mean)
        for share, calls in zip(RECOVERED, found.calls, strict=True):
            figures.add(f"calls for {share}", benchmark, router, calls)


def _timed(fold: Fold) -> list[float]:
    """Return the processor time that the posterior of each prompt left out takes, in seconds."""
    found = []
    for pool in fold.test.values():
        for prompt in pool.prompts:
            begun = time.thread_time()
            of_text(fold.tasks, prompt.text)
            found.append(time.thread_time() - begun)
    return found


def milliseconds(seconds: Sequence[float], percentile: float) -> float:
    """Return a percentile of times, in milliseconds."""
    return float(np.percentile(np.array(seconds), percentile)) * _MILLISECONDS
