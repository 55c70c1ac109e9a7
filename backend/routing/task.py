"""The task class of a request: the caller's, or that of a plain rule, or those that a classifier takes to be probable.

1. the caller names one; if it has kinds, the classifier tells which
2. tools are offered: ``tool_use``
3. the text is longer than ``LONG_CONTEXT_BYTES``: ``long_context``
4. the last text has a fenced code block, or a line that starts like code: ``code``, or what the classifier takes for reading it
5. else what the classifier says

A class of which nothing is known of a model falls back to its ``general`` one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backend.routing.classifier import as_code, of_class
from backend.routing.quality import GENERAL_TASK
from backend.routing.request import Posterior

LONG_CONTEXT_BYTES = 100_000
RULE_TASKS = frozenset({"tool_use", "long_context", "code", "chat", GENERAL_TASK})
# Within a line: `\s` would run over the ends of empty ones, and over all of them again from each (27 s for 48,000). And no two
# parts next to each other that take the same marks: they would share out a run of blanks in every way there is.
CODE = re.compile(
    r"```|^[ \t]*(?:def \w+\(|class \w+[ \t]*[({:]|import [\w.]+[ \t]*(?:;[ \t]*)?$|from [\w.]+ import |function \w*\("
    r"|const \w+ ?=|#include|SELECT |public (?:static|class|void|final) )",
    re.MULTILINE,
)


class TaskClassifier(Protocol):
    """What tells classes of texts apart.

    ``digest`` stands for its weights, ``classes`` are the names it knows, ``classes_with_kinds`` those of which it knows kinds.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def classes_with_kinds(self) -> frozenset[str]: ...  # noqa: D102

    def posterior(self, texts: Sequence[str]) -> Mapping[str, float]:
        """Return the classes that are probable, the most probable first, with probabilities that sum to 1."""


@dataclass(frozen=True, slots=True)
class Found:
    """The task class of a request, the classes that it may be in, and what has found them."""

    task: str
    posterior: Posterior = ()
    classifier: str | None = None


@dataclass(frozen=True, slots=True)
class Tasks:
    """The task classes that there are, and how a request's is found."""

    classifier: TaskClassifier | None = None

    @property
    def names(self) -> frozenset[str]:
        """The classes that rules and classifier know."""
        if self.classifier is None:
            return RULE_TASKS
        return RULE_TASKS.union(self.classifier.classes, self.classifier.classes_with_kinds)

    def named(self, task: str, texts: Iterable[str]) -> Found:
        """Return the class that a caller names; of one that has kinds, those that these texts may be."""
        if self.classifier is None or task not in self.classifier.classes_with_kinds:
            return Found(task)
        return self._classified(of_class(task, self.classifier.posterior(list(texts))), self.classifier)

    def found(self, texts: Iterable[str], text_bytes: int, *, offers_tools: bool) -> Found:
        """Return the class of a request with these texts, whose caller names none."""
        if offers_tools:
            return Found("tool_use")
        if text_bytes > LONG_CONTEXT_BYTES:
            return Found("long_context")
        texts = list(texts)
        # What is asked last: a template in the instructions, or an answer long ago, says nothing of it.
        has_code = bool(texts) and CODE.search(texts[-1]) is not None
        if self.classifier is None:
            return Found("code" if has_code else "chat")
        likely = self.classifier.posterior(texts)
        return self._classified(as_code(likely) if has_code else likely, self.classifier)

    @staticmethod
    def _classified(likely: Mapping[str, float], classifier: TaskClassifier) -> Found:
        posterior = tuple(likely.items())
        return Found(posterior[0][0], posterior, classifier.digest)
