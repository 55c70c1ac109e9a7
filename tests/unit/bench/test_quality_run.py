"""A whole run on a part of the data: every table is there, and whoever knows the outcomes is best."""

from dataclasses import replace

import numpy as np
import pytest

from backend.weights import read_classifier
from bench.performance.document import replaced
from bench.quality.__main__ import LEARNING, PAGE, QUALITY
from bench.quality.learning import Summary
from bench.quality.recorded import Pool, read_chat, read_pools
from bench.quality.report import chat_text, learning_text, text
from bench.quality.run import ORACLE, PAIR_BENCHMARKS, POOLS, ROUTERS, ZERO, Figures, run

FOLDS, MODELS, EVERY = 2, 2, 7
TASKS = {"word_problem", "code", "law"}


def smaller(pool: Pool) -> Pool:
    """Return a pool with some prompts of a few classes, and two models: time goes by classes, models and prompts."""
    part = pool.part(np.array([prompt.task in TASKS for prompt in pool.prompts]))
    part = part.part(np.arange(len(part.prompts)) % EVERY == 0)
    scores, costs, expected = (m[:, :MODELS] for m in (part.scores, part.costs, part.expected_costs))
    return replace(part, models=part.models[:MODELS], scores=scores, costs=costs, expected_costs=expected)


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Return those of a short run."""
    return run([smaller(pool) for pool in read_pools()], read_chat()[0][:40], FOLDS, seed=1)


def test_every_router_is_measured_on_every_pool_in_every_fold(figures: Figures) -> None:
    """And the pair by RouteLLM's measure; the oracle is first, and routing is not left out."""
    for pool in POOLS:
        found = {router: figures.values["improvement", pool, router] for router in ROUTERS}
        assert {len(values) for values in found.values()} == {FOLDS}
        assert max(found, key=lambda router: np.mean(found[router])) == ORACLE
    pairs = [
        figures.values["recovery", place, router]
        for place in PAIR_BENCHMARKS
        for router in ROUTERS
        if router != ZERO
    ]
    assert {len(values) for values in pairs} == {FOLDS}


def test_a_run_is_told_in_tables(figures: Figures) -> None:
    """All measures, the goals and the conditions."""
    told = text(figures)
    for title in (
        "AIQ",
        "cost to match",
        "CPT 80%",
        "pool, floor",
        "calibration error",
        "goal",
        "- Means of 2 folds",
    ):
        assert title in told
    assert "nan" not in told


def test_what_chat_is_taken_for_is_told_by_kind() -> None:
    """With the share of chat, and the classes after it."""
    told = chat_text(read_classifier(), [("writing", "Write a polite email to my landlord about the rent.")])
    assert told.splitlines()[2].startswith("| writing | 1 | 0.84 | code 0.16 |")


def test_a_simulation_is_told_in_two_tables() -> None:
    """Worlds and policies; and how soon a decline is noticed."""
    told = learning_text([Summary("world", 0.7, "means", 1.0, 0.98, 1.234, 0.5)], [(1_000, 600, 700)])
    assert "| world, floor 0.7 | means | 100% | 98% | 1.23 | 50% |" in told
    assert "| 1,000 | 600 | 700 |" in told


@pytest.mark.parametrize("part", [QUALITY, LEARNING])
def test_the_page_has_the_markers(part: str) -> None:
    """A run of ten minutes is not lost at its end."""
    assert "figures" in replaced(PAGE.read_text(), part, "figures")
