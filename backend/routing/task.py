"""The task class of a request, by a plain rule, where the caller names none. A learned classifier goes here later.

1. tools are offered: ``tool_use``
2. the text is longer than ``LONG_CONTEXT_BYTES``: ``long_context``
3. a message has a fenced code block, or a line that starts like code: ``code``
4. else ``chat``

A class that a model has no figure for falls back to its ``general`` one.
"""

import re
from collections.abc import Iterable

from backend.routing.catalogue import GENERAL_TASK

LONG_CONTEXT_BYTES = 100_000
RULE_TASKS = frozenset({"tool_use", "long_context", "code", "chat", GENERAL_TASK})
# Within a line: `\s` would run over the ends of empty ones, and over all of them again from each (27 s for 48,000).
CODE = re.compile(
    r"```|^[ \t]*(?:def |class |import |from \w+ import |function |const |#include|SELECT |public )",
    re.MULTILINE,
)


def classify(texts: Iterable[str], text_bytes: int, *, offers_tools: bool) -> str:
    """Return the task class of a request with these texts."""
    if offers_tools:
        return "tool_use"
    if text_bytes > LONG_CONTEXT_BYTES:
        return "long_context"
    if any(CODE.search(text) for text in texts):
        return "code"
    return "chat"
