"""The recorded outcomes of data/routing, by pool: which model answered which prompt, how well, at what cost."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backend.routing.kinds import class_of
from backend.stack.parts import PROJECT_ROOT
from backend.training.examples import Example, read_table, task_name

FOLDER = PROJECT_ROOT / "data" / "routing"
PROMPTS, CHAT, OUTCOMES, MODELS = "prompts.csv.gz", "chat.csv.gz", "outcomes.csv.gz", "models.csv"
Matrix = npt.NDArray[np.float64]
# Two prompts that share so many letters at their beginning or end share a passage. An instruction that a whole benchmark
# begins with is shorter.
_OPENING_CHARACTERS = 400
_ENDING_CHARACTERS = 200
_OPTIONS = re.compile(r"\n\(?A[.)] ")
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A recorded prompt. ``benchmark`` is what it was taken from, ``group`` what it must not be parted from."""

    id: str
    source: str
    benchmark: str
    task: str
    text: str
    group: str

    @property
    def named_class(self) -> str:
        """The class that a caller names; which kind of it, the caller does not say."""
        return class_of(self.task)

    @property
    def example(self) -> Example:
        """What the classifier is trained on."""
        return Example(self.text, self.task)


@dataclass(frozen=True)
class Pool:
    """The prompts that the same models answered.

    Attributes:
        prompts: one a row of the matrices.
        models: one a column.
        scores: 0 to 1.
        costs: of this answer, in USD.
        expected_costs: in USD, as known before the call.
    """

    name: str
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    scores: Matrix
    costs: Matrix
    expected_costs: Matrix

    def part(self, rows: npt.NDArray[np.bool_]) -> "Pool":
        """Return the pool with some of its prompts."""
        prompts = tuple(prompt for prompt, taken in zip(self.prompts, rows, strict=True) if taken)
        return Pool(
            self.name, prompts, self.models, self.scores[rows], self.costs[rows], self.expected_costs[rows]
        )

    def of_benchmark(self, benchmark: str) -> "Pool":
        """Return the pool with the prompts of one benchmark."""
        return self.part(np.array([prompt.benchmark == benchmark for prompt in self.prompts]))

    @cached_property
    def texts(self) -> list[str]:
        """The prompts' texts."""
        return [prompt.text for prompt in self.prompts]


def read_pools(folder: Path = FOLDER) -> list[Pool]:
    """Read all recorded outcomes.

    Raises:
        OSError, TableError: a file is missing or not what it should be.
    """
    prompts = read_prompts(folder / PROMPTS)
    outcomes = read_table(folder / OUTCOMES, ("prompt_id", "model", "score", "cost_usd", "expected_cost_usd"))
    models = read_table(folder / MODELS, ("source", "model"))
    return [
        _pool(
            source,
            [prompt for prompt in prompts if prompt.source == source],
            [row["model"] for row in models if row["source"] == source],
            outcomes,
        )
        for source in sorted({prompt.source for prompt in prompts})
    ]


def _pool(
    name: str, prompts: Sequence[Prompt], models: Sequence[str], outcomes: Sequence[Mapping[str, str]]
) -> Pool:
    row_of = {prompt.id: row for row, prompt in enumerate(prompts)}
    column_of = {model: column for column, model in enumerate(models)}
    values = np.full((3, len(prompts), len(models)), np.nan)
    for outcome in outcomes:
        if (row := row_of.get(outcome["prompt_id"])) is not None:
            found = [float(outcome[column]) for column in ("score", "cost_usd", "expected_cost_usd")]
            values[:, row, column_of[outcome["model"]]] = found
    if np.isnan(values).any():
        raise ValueError(f"{name}: not every model has an outcome for every prompt")
    return Pool(name, tuple(prompts), tuple(models), *values)


def read_prompts(file: Path) -> list[Prompt]:
    """Read the recorded prompts, each with its group.

    Raises:
        OSError, TableError: the file is missing or not what it should be.
    """
    rows = read_table(file, ("prompt_id", "source", "task", "task_class", "prompt"))
    groups = prompt_groups([row["prompt"] for row in rows])
    return [
        Prompt(
            row["prompt_id"],
            row["source"],
            row["task"],
            task_name(row["task_class"]),
            row["prompt"],
            rows[group]["prompt_id"],
        )
        for row, group in zip(rows, groups, strict=True)
    ]


def prompt_groups(texts: Sequence[str]) -> list[int]:
    """Return for each text the index of the first one of its group.

    Of one group are texts with the same question, the same long opening or the same long ending, and whoever shares one
    with those, whatever stands between words and whichever options follow.
    """
    parents = list(range(len(texts)))
    first: dict[tuple[str, str], int] = {}
    for index, text in enumerate(texts):
        for key in _shared_keys(text):
            one, other = _root(parents, index), _root(parents, first.setdefault(key, index))
            parents[max(one, other)] = min(one, other)
    return [_root(parents, index) for index in range(len(texts))]


def _shared_keys(text: str) -> Iterator[tuple[str, str]]:
    question = " ".join(_WORDS.findall(_OPTIONS.split(text)[0].lower()))
    yield "question", question
    if len(question) > _OPENING_CHARACTERS:
        yield "opening", question[:_OPENING_CHARACTERS]
    if len(question) > _ENDING_CHARACTERS:
        yield "ending", question[-_ENDING_CHARACTERS:]


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def fold_of(prompt: Prompt, folds: int, seed: int) -> int:
    """Return which of so many folds a prompt is in, with its whole group: the same on every machine."""
    digest = sha256(f"{seed}:{prompt.group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def read_chat(file: Path = FOLDER / CHAT) -> tuple[list[Example], list[tuple[str, str]]]:
    """Read the prompts of assistants: those to train on, and those kept for the measure, as (kind, text).

    Raises:
        OSError, TableError: the file is missing or not what it should be.
    """
    rows = read_table(file, ("source", "category", "task_class", "prompt"))
    train = [Example(row["prompt"], task_name(row["task_class"])) for row in rows if row["task_class"]]
    return train, [(row["category"], row["prompt"]) for row in rows if not row["task_class"]]
