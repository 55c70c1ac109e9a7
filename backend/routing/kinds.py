"""Names of task classes. A kind of a class is named after it and a dot: ``code.completion`` is a kind of ``code``.

What is known of a class holds for its kinds until more is known of them.
"""

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def class_of(task: str) -> str:
    """Return the class that a task class is a kind of; one that is no kind is its own."""
    return task.partition(".")[0]


def known_of(values: Mapping[str, Value], task: str, otherwise: Value) -> Value:
    """Return the value of a task class, else of the class that it is a kind of, else the other one."""
    found = values.get(task)
    return values.get(class_of(task), otherwise) if found is None else found
