"""Qualities that others have measured and published, by the names that providers give the models.

``published_qualities.csv`` has a figure a row, with where it was published and when; ``published_models.csv`` says which
upstream models those are. Names are put there one by one: a name that a provider moves on to newer models is not there, nor
one that runs other weights, such as rounded ones. A task class has its figures from one benchmark alone, so that those of
different models can be compared.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Self

# By which a row says that it is from here. What has another source is the operator's own.
_PUBLISHED = "published: "
_FILES = files(__package__)


@dataclass(frozen=True, slots=True)
class Figure:
    """A model's quality in a task class, 0 to 1, with its source; ``measured_on``: or published, where that is all one knows."""

    task: str
    quality: float
    source: str
    measured_on: date

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Self:
        """Build a figure from a row of the file."""
        source = f"{_PUBLISHED}{row['benchmark']}, {row['questions']} questions, {row['source']}"
        return cls(row["task"], float(row["quality"]), source, date.fromisoformat(row["measured_on"]))

    @property
    def is_published(self) -> bool:
        """Whether it is from the file, of this version or another, and not the operator's own."""
        return self.source.startswith(_PUBLISHED)


@dataclass(frozen=True, slots=True)
class Published:
    """A model that figures were published of."""

    name: str
    figures: Sequence[Figure]


def _rows(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(_FILES.joinpath(name).read_text(encoding="utf-8").splitlines())


def _read() -> Mapping[str, Published]:
    figures: dict[str, list[Figure]] = {}
    for row in _rows("published_qualities.csv"):
        figures.setdefault(row["model"], []).append(Figure.from_row(row))
    return {
        row["upstream_model"]: Published(row["model"], figures[row["model"]])
        for row in _rows("published_models.csv")
    }


PUBLISHED: Mapping[str, Published] = _read()
