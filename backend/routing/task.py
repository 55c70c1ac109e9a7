"""The task class of a request, by a plain rule, where the caller names none. A learned classifier goes here later.

1. tools are offered: ``tool_use``
2. the text is longer than ``LONG_CONTEXT_BYTES``: ``long_context``
3. a message has a fenced code block, or a line that starts like code: ``code``
4. else ``chat``

A class that a model has no figure for falls back to its ``general`` one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

LONG_CONTEXT_BYTES = 100_000
_CODE = re.compile(
    r"```|^\s*(?:def |class |import |from \w+ import |function |const |#include|SELECT |public )",
    re.MULTILINE,
)


def classify(body: Mapping[str, Any], body_bytes: int) -> str:
    """Return the task class of a chat completion's body."""
    if body.get("tools"):
        return "tool_use"
    if body_bytes > LONG_CONTEXT_BYTES:
        return "long_context"
    if any(_CODE.search(text) for text in _texts(body)):
        return "code"
    return "chat"


def needed_capabilities(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a candidate must be capable of to take the body, sorted."""
    response_format = body.get("response_format")
    needs = {
        "tools": bool(body.get("tools")),
        "json": isinstance(response_format, Mapping)
        and response_format.get("type") in ("json_object", "json_schema"),
        "vision": any(part.get("type") == "image_url" for part in _parts(body)),
    }
    return tuple(sorted(need for need, needed in needs.items() if needed))


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    for message in body["messages"]:
        if isinstance(message.get("content"), str):
            yield message["content"]
    for part in _parts(body):
        if isinstance(part.get("text"), str):
            yield part["text"]


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for message in body["messages"]:
        if isinstance(message.get("content"), list):
            yield from (part for part in message["content"] if isinstance(part, Mapping))
