"""The task class that a plain rule finds, and what a request cannot do without."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.routing.task import LONG_CONTEXT_BYTES, classify, needed_capabilities

TOOLS = [{"type": "function", "function": {"name": "look_up"}}]
IMAGE = {"type": "image_url", "image_url": {"url": "https://images.test/1.png"}}


def says(content: object, **fields: object) -> dict[str, Any]:
    """Return the body of one message."""
    return {"messages": [{"role": "user", "content": content}], **fields}


@pytest.mark.parametrize(
    ("body", "body_bytes", "expected"),
    [
        (says("Hello"), 100, "chat"),
        (says("Hello", tools=TOOLS), 100, "tool_use"),
        (says("Hello", tools=[]), 100, "chat"),
        (says("def f(): pass", tools=TOOLS), LONG_CONTEXT_BYTES + 1, "tool_use"),
        (says("def f(): pass"), LONG_CONTEXT_BYTES + 1, "long_context"),
        (says("Hello"), LONG_CONTEXT_BYTES, "chat"),
        (says("What does this do?\n```\nx\n```"), 100, "code"),
        (says("Mend it:\n    def f(): pass"), 100, "code"),
        (says("SELECT 1"), 100, "code"),
        (says("I will select one, import nothing and define a class act"), 100, "chat"),
        (says([{"type": "text", "text": "from os import path"}]), 100, "code"),
        (says([IMAGE]), 100, "chat"),
        (says(None), 100, "chat"),
        (
            {"messages": [{"role": "user", "content": "Hello"}, {"role": "user", "content": "```"}]},
            100,
            "code",
        ),
    ],
)
def test_a_body_is_of_the_first_class_whose_rule_applies(
    body: dict[str, Any], body_bytes: int, expected: str
) -> None:
    """Tools, then length, then code, else chat."""
    assert classify(body, body_bytes) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (says("Hello"), ()),
        (says("Hello", tools=TOOLS), ("tools",)),
        (says([IMAGE]), ("vision",)),
        (says("Hello", response_format={"type": "json_object"}), ("json",)),
        (says("Hello", response_format={"type": "json_schema", "json_schema": {}}), ("json",)),
        (says("Hello", response_format={"type": "text"}), ()),
        (says([IMAGE], tools=TOOLS, response_format={"type": "json_object"}), ("json", "tools", "vision")),
        (says("Hello", response_format={"type": ["json_object"]}), ()),
        (says("Hello", response_format="json_object"), ()),
    ],
)
def test_what_a_body_needs_is_found_in_it(body: dict[str, Any], expected: tuple[str, ...]) -> None:
    """Sorted, so that its record is always the same. What makes no sense needs nothing: the provider says so."""
    assert needed_capabilities(body) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(content=JSON, tools=JSON, response_format=JSON, kind=JSON, text=JSON)
def test_no_body_is_too_odd_to_be_classified(
    content: object, tools: object, response_format: object, kind: object, text: object
) -> None:
    """What a provider may refuse is not ours to trip over."""
    parts = [{"type": kind, "text": text}, content]
    for body in (
        says(content, tools=tools, response_format=response_format),
        says(parts, response_format={"type": kind}),
    ):
        assert classify(body, 1) in {"tool_use", "code", "chat"}
        assert set(needed_capabilities(body)) <= {"json", "tools", "vision"}
