"""The figures of a run as Markdown."""

import platform
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

import numpy as np

from backend.routing.classifier import Classifier
from backend.training.fit import as_typed
from bench.performance.conditions import machine
from bench.performance.report import markdown
from bench.quality.learning import Summary
from bench.quality.measures import Bin, Cleared
from bench.quality.run import (
    CLASS_GIVEN,
    FLOORS,
    PAIR_BENCHMARKS,
    PAIR_POOL,
    POOLS,
    RECOVERED,
    ROUTERS,
    TEXT_ONLY,
    ZERO,
    Figures,
    milliseconds,
)

_LIBRARIES = ("numpy", "scipy", "scikit-learn")
_TARGETS = (
    ("improvement", "mmlu_pro", TEXT_ONLY, 0.690),
    ("improvement", "mmlu_pro", CLASS_GIVEN, 0.694),
    ("improvement", "llmrouter", TEXT_ONLY, 0.692),
    ("improvement", "llmrouter", CLASS_GIVEN, 0.702),
    ("recovery", "mmlu", TEXT_ONLY, 0.63),
    ("recovery", "mmlu", CLASS_GIVEN, 0.64),
)
_NAMES = {"improvement": "AIQ", "recovery": "APGR"}
_PERCENTILES = (50.0, 99.0)
_HONEST_FLOORS = (0.6, 0.7, 0.8)
_LEAST_GAP = -0.01


def text(figures: Figures) -> str:
    """Return the tables of a run over folds."""
    return "\n\n".join(
        [
            _table(figures, "AIQ", "improvement", POOLS, _spread),
            _table(figures, "cost to match the best model, % of its cost", "cost to match", POOLS, _percent),
            _pair_table(figures),
            _floor_table(figures),
            _table(figures, "calibration error", "calibration error", (*POOLS, PAIR_POOL), _spread),
            _bin_table(figures),
            _goals(figures),
            _conditions(figures),
        ]
    )


def _table(
    figures: Figures, title: str, measure: str, places: Sequence[str], show: Callable[[Sequence[float]], str]
) -> str:
    rows = [
        [router, *(show(figures.values.get((measure, place, router), [])) for place in places)]
        for router in ROUTERS
        if any((measure, place, router) in figures.values for place in places)
    ]
    return markdown([title, *places], rows)


def _pair_table(figures: Figures) -> str:
    measures = [
        ("recovery", "APGR", _spread),
        *((f"calls for {share}", f"CPT {share:.0%}", _percent) for share in RECOVERED),
    ]
    columns = [
        (measure, name, benchmark, show) for benchmark in PAIR_BENCHMARKS for measure, name, show in measures
    ]
    rows = [
        [router, *(show(figures.values[measure, place, router]) for measure, _, place, show in columns)]
        for router in ROUTERS
        if router != ZERO
    ]
    return markdown(
        ["GPT-4 and Mixtral", *(f"{place}: {name}" for _, name, place, _ in columns)],
        [*rows, ["at random", *("0.500" if name == "APGR" else "" for _, name, _, _ in columns)]],
    )


def _floor_table(figures: Figures) -> str:
    rows = [
        [f"{pool}, {floor}", *_cleared_cells(figures.cleared[pool, floor])]
        for pool in POOLS
        for floor in FLOORS
    ]
    return markdown(["pool, floor", "cleared, %", "predicted", "realized", "realized - predicted"], rows)


def _cleared_cells(folds: Sequence[Cleared]) -> list[str]:
    share = _percent([found.share for found in folds])
    if any(not found.count for found in folds):
        return [share, "-", "-", "-"]
    predicted = float(np.mean([found.predicted for found in folds]))
    realized = float(np.mean([found.realized for found in folds]))
    gaps = [found.realized - found.predicted for found in folds]
    return [
        share,
        f"{predicted:.3f}",
        f"{realized:.3f}",
        f"{np.mean(gaps):+.3f} ({min(gaps):+.3f} to {max(gaps):+.3f})",
    ]


def _gap(figures: Figures, floor: float) -> float:
    """Return how much more than predicted is realized at a floor, of all pools and folds together."""
    found = [cleared for pool in POOLS for cleared in figures.cleared[pool, floor] if cleared.count]
    gaps = [cleared.realized - cleared.predicted for cleared in found]
    return float(np.average(gaps, weights=[cleared.count for cleared in found]))


def _bin_table(figures: Figures) -> str:
    """Return predicted against realized by tenth, of all pools and folds together."""
    bins = [
        found
        for (router, _), folds in figures.bins.items()
        if router == TEXT_ONLY
        for fold in folds
        for found in fold
    ]
    tenths = sorted({_tenth(found) for found in bins})
    rows = []
    for tenth in tenths:
        taken = [found for found in bins if _tenth(found) == tenth]
        weights = [found.count for found in taken]
        predicted = np.average([found.predicted for found in taken], weights=weights)
        realized = np.average([found.realized for found in taken], weights=weights)
        rows.append(
            [
                f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}",
                f"{sum(weights):,}",
                f"{predicted:.3f}",
                f"{realized:.3f}",
            ]
        )
    return markdown(["predicted, text only", "predictions", "mean predicted", "mean realized"], rows)


def _tenth(found: Bin) -> int:
    return min(int(found.predicted * 10), 9)


def _goals(figures: Figures) -> str:
    rows = []
    for measure, place, router, goal in _TARGETS:
        values = figures.values[measure, place, router]
        met = bool(np.mean(values) >= goal)
        rows.append(
            [f"{_NAMES[measure]}, {place}, {router}", f"≥ {goal:.3f}", _spread(values), _verdict(met=met)]
        )
    for floor in _HONEST_FLOORS:
        gap = _gap(figures, floor)
        rows.append(
            [
                f"realized - predicted, floor {floor}, all pools",
                f"≥ {_LEAST_GAP:+.3f}",
                f"{gap:+.3f}",
                _verdict(met=gap >= _LEAST_GAP),
            ]
        )
    p99 = milliseconds(figures.seconds, 99)
    rows.append(["posterior of a text, p99", "< 1 ms", f"{p99:.2f} ms", _verdict(met=p99 < 1)])
    return markdown(("goal", "", "measured", ""), rows)


def _verdict(*, met: bool) -> str:
    return "met" if met else "not met"


def _conditions(figures: Figures) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    times = ", ".join(
        f"p{percentile:.0f} {milliseconds(figures.seconds, percentile):.3f} ms" for percentile in _PERCENTILES
    )
    accuracy = {
        place: values for (measure, place, _), values in figures.values.items() if measure == "accuracy"
    }
    classes = ", ".join(f"{place} {np.mean(values):.0%}" for place, values in sorted(accuracy.items()))
    folds = len(next(iter(figures.values.values())))
    return "\n".join(
        [
            f"- Means of {folds} folds by prompt group (least-most).",
            f"- The posterior of a text takes {times}, of processor time on one core, over {len(figures.seconds):,} texts.",
            f"- The most probable class is the right one for: {classes}.",
            f"- {machine()}; Python {platform.python_version()}, {libraries}.",
        ]
    )


def chat_text(classifier: Classifier, kept: Iterable[tuple[str, str]]) -> str:
    """Return what the shipped classifier makes of prompts to assistants, by kind."""
    prompts = list(kept)
    texts_of = {kind: [text for other, text in prompts if other == kind] for kind in sorted(dict(prompts))}
    texts_of["all"] = [text for _, text in prompts]
    texts_of["all, in small letters, without a mark at the end"] = [as_typed(text) for _, text in prompts]
    rows = [
        [kind, str(len(texts)), *_shares([classifier.posterior([text]) for text in texts])]
        for kind, texts in texts_of.items()
    ]
    return markdown(["kind of prompt", "prompts", "mean P(chat)", "other classes, mean P"], rows)


def _shares(found: Sequence[dict[str, float]]) -> tuple[str, str]:
    tasks = sorted({task for posterior in found for task in posterior})
    means = {task: sum(posterior.get(task, 0.0) for posterior in found) / len(found) for task in tasks}
    chat = means.pop("chat", 0.0)
    most = sorted(means, key=lambda task: -means[task])[:2]
    return f"{chat:.2f}", ", ".join(f"{task} {means[task]:.2f}" for task in most)


def learning_text(summaries: Sequence[Summary], left: Sequence[tuple[int, int, int]]) -> str:
    """Return the tables of the simulation. ``left``: feedbacks before a decline, and median and p95 until it is left."""
    rows = [
        [
            f"{found.world}, floor {found.floor}",
            found.policy,
            f"{found.over_floor:.0%}",
            f"{found.over_floor_at_first:.0%}",
            f"{found.mean_cost:.2f}",
            f"{found.within_cost:.0%}",
        ]
        for found in summaries
    ]
    columns = [
        "world",
        "chosen by",
        "runs over the floor at the end",
        "runs over it in the first 200",
        "cost, oracle = 1",
        "runs within 1.1",
    ]
    declines = [[f"{heard:,}", f"{median:,}", f"{most:,}"] for heard, median, most in left]
    return "\n\n".join(
        [
            markdown(columns, rows),
            markdown(
                ["feedbacks before it gets worse", "left after, median", "left after, 95 % of runs"], declines
            ),
        ]
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def _percent(values: Sequence[float]) -> str:
    reached = [value for value in values if not np.isnan(value)]
    if not reached:
        return "not reached"
    missed = f", not reached in {len(values) - len(reached)}" if len(reached) < len(values) else ""
    return f"{np.mean(reached):.0%} ({min(reached):.0%}-{max(reached):.0%}){missed}"
