"""Measures the prediction of quality against recorded outcomes, or predicts for prompts that nobody here has seen.

python -m bench.quality                     measure on folds (some minutes); --write puts it into docs/quality.md
python -m bench.quality --learning          simulate learning (a minute); --write as well
python -m bench.quality --prompts FILE --models FILE --out scores.csv [--class-column task_class]
"""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np

from backend.stack.parts import PROJECT_ROOT
from backend.training.examples import TableError
from backend.weights import read_classifier
from bench.performance import document
from bench.quality import report
from bench.quality.learning import NARROW, WIDE, feedbacks_until_left, recorded_world, summaries
from bench.quality.recorded import read_chat, read_pools
from bench.quality.run import run, say
from bench.quality.scores import Request, write_scores

PAGE = PROJECT_ROOT / "docs" / "quality.md"
QUALITY, LEARNING = "bench-quality", "bench-learning"
_FOLDS = 3
_FEWEST_FOLDS = 2
_SEED = 20_261_126
_RUNS = 100
# A model of 0.85 that falls to 0.55 under a floor of 0.7, after so many feedbacks.
_BEFORE, _AFTER, _FLOOR = 0.85, 0.55, 0.7
_HEARD = (50, 100, 300, 1_000, 3_000)


def main() -> int:
    """Do what the arguments say, and return the exit code."""
    given = _arguments()
    try:
        if given.prompts:
            return _predict(given)
        text = _learning(given.runs) if given.learning else _measure(given)
    except (OSError, TableError) as error:
        say(f"bench: {error}")
        return 1
    sys.stdout.write(f"{text}\n")
    if given.write:
        document.replace(LEARNING if given.learning else QUALITY, text, PAGE)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--prompts", type=Path, help="CSV, plain or gzipped: prompt_id, prompt, perhaps source"
    )
    parser.add_argument("--models", type=Path, help="CSV: model, perhaps source")
    parser.add_argument("--out", type=Path, help="the file to write: prompt_id, model, score")
    parser.add_argument(
        "--class-column", help="column of the prompts that names their class; without: text only"
    )
    parser.add_argument("--folds", type=int, default=_FOLDS, help="how many parts are left out in turn")
    parser.add_argument("--seed", type=int, default=_SEED, help="of the split into folds")
    parser.add_argument("--learning", action="store_true", help="simulate learning instead")
    parser.add_argument("--runs", type=int, default=_RUNS, help="how often each simulation runs")
    parser.add_argument("--write", action="store_true", help="write docs/quality.md and its plot")
    given = parser.parse_args()
    if given.folds < _FEWEST_FOLDS:
        parser.error(f"--folds is at least {_FEWEST_FOLDS}: what is measured is not trained on")
    together = (given.prompts, given.models, given.out)
    if any((*together, given.class_column)) and not all(together):
        parser.error("--prompts, --models and --out go together, and --class-column with them")
    return given


def _predict(given: argparse.Namespace) -> int:
    request = Request(given.prompts, given.models, given.out, given.class_column)
    count = write_scores(request, read_pools(), read_classifier())
    say(f"{count:,} scores in {given.out}")
    return 0


def _measure(given: argparse.Namespace) -> str:
    # Only this needs matplotlib, and whoever predicts or reads figures can do without. Where it is missing, that is told now.
    plot = importlib.import_module("bench.quality.plot") if given.write else None
    examples, kept = read_chat()
    figures = run(read_pools(), examples, given.folds, given.seed)
    if plot:
        plot.draw(figures, PAGE.parent)
    return f"{report.text(figures)}\n\n{report.chat_text(read_classifier(), kept)}"


def _learning(runs: int) -> str:
    pools = {pool.name: pool for pool in read_pools()}
    worlds = [
        (WIDE, (0.6, 0.8)),
        (NARROW, (0.6, 0.7, 0.8)),
        (recorded_world(pools["mmlu_pro"]), (0.6, 0.7)),
        (recorded_world(pools["llmrouter"]), (0.6, 0.7)),
    ]
    left = []
    for heard in _HEARD:
        counts = [feedbacks_until_left(_BEFORE, _AFTER, _FLOOR, heard, seed) for seed in range(runs)]
        median, most = np.percentile(counts, (50, 95))
        left.append((heard, round(median), round(most)))
    return report.learning_text(summaries(worlds, runs), left)


if __name__ == "__main__":
    sys.exit(main())
