"""Prompts with their task class, as data/routing has them."""

import csv
import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_GZIP = b"\x1f\x8b"
# Passages are long; the standard library stops at 128 KiB.
_LONGEST_FIELD_CHARACTERS = 10_000_000
# The data's names become those of the API: words joined by underscores, and the names that the rules use.
_NAMES = {"coding": "code", "other": "general knowledge"}


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the task class that it is of."""

    text: str
    task: str


class TableError(ValueError):
    """A file that is not the table it should be; the message names the file and what is missing."""


def read_examples(prompts: Path) -> list[Example]:
    """Read the prompts of a CSV file, plain or gzipped, that have a class: columns ``prompt`` and ``task_class``.

    Raises:
        OSError: the file cannot be read.
        TableError: a column is missing.
    """
    rows = read_table(prompts, ("prompt", "task_class"))
    return [Example(row["prompt"], task_name(row["task_class"])) for row in rows if row["task_class"]]


def read_table(file: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file, plain or gzipped.

    Raises:
        OSError: the file cannot be read.
        TableError: one of the columns is missing, or it is no table.
    """
    content = file.read_bytes()
    if content.startswith(_GZIP):
        content = gzip.decompress(content)
    csv.field_size_limit(_LONGEST_FIELD_CHARACTERS)
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
        missing = sorted(set(columns) - set(reader.fieldnames or ()))
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{file}: {error}") from error
    if missing:
        raise TableError(f"{file}: there is no column {', '.join(missing)}")
    return rows


def task_name(task_class: str) -> str:
    """Return the name that the API has for a class of the data, or a kind of one: ``word problem`` is ``word_problem``."""
    name, dot, kind = task_class.partition(".")
    return f"{_NAMES.get(name, name)}{dot}{kind}".replace(" ", "_")
