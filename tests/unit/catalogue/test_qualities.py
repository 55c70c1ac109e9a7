"""Published figures: what the files hold, and what becomes of them beside an operator's own."""

import re
from collections import defaultdict
from dataclasses import replace
from datetime import date

import pytest

from backend.catalogue.library import LIBRARY
from backend.catalogue.published import PUBLISHED, Figure, Published
from backend.catalogue.qualities import Model, compare_qualities

DAY = date(2026, 1, 1)
CODING = Figure("coding", 0.5, "published: a benchmark", DAY)
MATH = Figure("math", 0.25, "published: another benchmark", DAY)
FIGURES = {
    "acme/large": Published("large", [CODING, MATH]),
    "large-2026": Published("large", [CODING, MATH]),
    "acme/small": Published("small", [CODING]),
}


def model(*figures: Figure, names: str = "acme/large") -> Model:
    """Return a model of the catalogue."""
    return Model("my-model", frozenset(names.split()), figures)


def test_every_figure_is_one_that_the_table_takes_and_says_where_it_is_from() -> None:
    """A file as of a commit, and a day on which it was there."""
    for published in PUBLISHED.values():
        assert len({figure.task for figure in published.figures}) == len(published.figures) > 0
        for figure in published.figures:
            assert re.fullmatch(r"[a-z][a-z0-9_]{0,40}", figure.task)
            assert 0 < figure.quality < 1
            assert re.fullmatch(
                r"published: [^,]+(, [^,]+)?, [1-9][0-9]* questions, https://github\.com/\S+/[0-9a-f]{7,9}/\S+",
                figure.source,
            )
            assert date(2024, 1, 1) < figure.measured_on < date(2027, 1, 1)


def test_a_task_has_its_figures_from_one_benchmark() -> None:
    """Else they could not be compared: a model answers more of an easier one."""
    benchmarks = defaultdict(set)
    for published in PUBLISHED.values():
        for figure in published.figures:
            benchmarks[figure.task].add(re.sub(r", [0-9]+ questions.*", "", figure.source))
    assert {task: names for task, names in benchmarks.items() if len(names) > 1} == {}


def test_every_published_model_is_one_that_some_provider_is_known_to_run() -> None:
    """By one of its names at least: figures of models that nobody runs would be of no use."""
    listed = {name for provider in LIBRARY.values() for name in provider.models}
    found = {published.name for name, published in PUBLISHED.items() if name in listed}
    assert {published.name for published in PUBLISHED.values()} - found == set()


@pytest.mark.parametrize("names", ["acme/large", "large-2026", "acme/large large-2026 unheard-of"])
def test_a_model_is_known_by_any_of_its_names(names: str) -> None:
    """All of its figures are then new."""
    finding = compare_qualities(model(names=names), FIGURES)
    assert finding
    assert list(finding.lines()) == [
        "my-model: new qualities (as large)",
        "  coding 0.5 (published: a benchmark, 2026-01-01)",
        "  math 0.25 (published: another benchmark, 2026-01-01)",
    ]


def test_a_model_that_nothing_was_published_of_is_passed_over() -> None:
    """A name is taken as it is written."""
    assert compare_qualities(model(names="Acme/Large"), FIGURES) is None


def test_names_of_two_models_are_told_and_nothing_is_written() -> None:
    """Nobody could say whose figures it should have."""
    finding = compare_qualities(model(names="acme/large acme/small"), FIGURES)
    assert finding
    assert list(finding.lines()) == [
        "my-model: qualities unchanged (its candidates are several models: large, small)"
    ]


@pytest.mark.parametrize(
    "earlier",
    [
        replace(CODING, quality=0.4),
        replace(CODING, source="published: x"),
        replace(CODING, measured_on=date(2025, 1, 1)),
    ],
)
def test_another_published_figure_is_replaced_and_the_operators_own_is_kept(earlier: Figure) -> None:
    """Also where only source or day differ. What is the same is not written again."""
    finding = compare_qualities(model(earlier, MATH), FIGURES)
    assert finding
    assert (finding.figures, finding.kept) == ([CODING], [])

    own = replace(CODING, quality=0.4, source="our own test")
    finding = compare_qualities(model(own, MATH), FIGURES)
    assert finding
    assert (finding.figures, finding.kept) == ([], [own])
    assert list(finding.lines()) == [
        "my-model: qualities unchanged (as large)",
        "  coding 0.4 is kept: it is your own (our own test)",
    ]
