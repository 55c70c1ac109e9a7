"""The task class that a plain rule finds."""

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.routing.task import CODE, LONG_CONTEXT_BYTES, RULE_TASKS, Found, Tasks


class Scripted:
    """A classifier that is always of the same opinion, and keeps what it has read."""

    digest = "digest"
    classes = ("mathematics", "law", "law.tax")
    classes_with_kinds = frozenset({"law"})

    def __init__(self) -> None:
        self.read: list[str] = []

    def posterior(self, texts: Sequence[str]) -> Mapping[str, float]:
        """Return that."""
        self.read += texts
        return {"law": 0.4, "law.tax": 0.35, "mathematics": 0.25}


def classify(texts: list[str], text_bytes: int, *, offers_tools: bool) -> str:
    """Return the class that the rules find."""
    found = Tasks().found(texts, text_bytes, offers_tools=offers_tools)
    assert found == Found(found.task)
    return found.task


def test_a_classifier_is_asked_where_no_rule_applies() -> None:
    """What it says is kept whole, with whose word it is."""
    classifier = Scripted()
    tasks = Tasks(classifier)
    assert tasks.found(iter(["May I?", "Sue?"]), 9, offers_tools=False) == Found(
        "law", (("law", 0.4), ("law.tax", 0.35), ("mathematics", 0.25)), "digest"
    )
    assert classifier.read == ["May I?", "Sue?"]
    assert tasks.found(["```"], 9, offers_tools=False) == Found("code", (("code", 1.0),), "digest")
    assert tasks.found([""], 9, offers_tools=True) == Found("tool_use")
    assert tasks.names == {*RULE_TASKS, "mathematics", "law", "law.tax"}


def test_of_a_class_that_a_caller_names_the_kinds_are_told_apart() -> None:
    """By the texts, if it has kinds and there is a classifier; what is of neither is the class's own. A kind is believed."""
    classifier = Scripted()
    tasks = Tasks(classifier)
    assert tasks.named("law", iter(["May I?"])) == Found("law", (("law", 0.65), ("law.tax", 0.35)), "digest")
    assert classifier.read == ["May I?"]
    for task in ("law.tax", "mathematics", "chat"):
        assert tasks.named(task, ["May I?"]) == Found(task)
    assert Tasks().named("law", ["May I?"]) == Found("law")
    assert classifier.read == ["May I?"]


@pytest.mark.parametrize(
    ("texts", "text_bytes", "offers_tools", "expected"),
    [
        (["Hello"], 100, False, "chat"),
        ([], 100, False, "chat"),
        (["Hello"], 100, True, "tool_use"),
        (["def f(): pass"], LONG_CONTEXT_BYTES + 1, True, "tool_use"),
        (["def f(): pass"], LONG_CONTEXT_BYTES + 1, False, "long_context"),
        (["Hello"], LONG_CONTEXT_BYTES, False, "chat"),
        (["What does this do?\n```\nx\n```"], 100, False, "code"),
        (["Mend it:\n    def f(): pass"], 100, False, "code"),
        (["Mend it:\r\n\tdef f(): pass"], 100, False, "code"),
        (["SELECT 1"], 100, False, "code"),
        (["I will select one, import nothing and define a class act"], 100, False, "chat"),
        (["Hello", "```"], 100, False, "code"),
        (["```", "What is a treaty?"], 100, False, "chat"),
        (["class action lawsuits: what must be found?"], 100, False, "chat"),
        (["import duties on steel: who bears them?"], 100, False, "chat"),
        (["public international law: which court decides?"], 100, False, "chat"),
        (["import os.path\nprint(1)"], 100, False, "code"),
        (["class A(B):\n    pass"], 100, False, "code"),
        (["public class A {}"], 100, False, "code"),
    ],
)
def test_a_request_is_of_the_first_class_whose_rule_applies(
    texts: list[str], text_bytes: int, expected: str, *, offers_tools: bool
) -> None:
    """Tools, then length, then code, else chat."""
    assert classify(texts, text_bytes, offers_tools=offers_tools) == expected


def test_no_two_parts_of_a_pattern_share_out_a_run_of_blanks() -> None:
    """They would try every way to do so: 60 KB of blanks took 12 seconds, and whoever waits for the process as long.

    Nothing is timed here, so this looks at what made it slow: two parts that take blanks with nothing needed between them.
    """
    blanks = "[ \\t]*"
    between = CODE.pattern.split(blanks)[1:-1]
    assert CODE.pattern.count(blanks) == len(between) + 1
    assert not [part for part in between if part in {"", "?"} or re.fullmatch(r".[?*]", part)]
    assert (
        classify([f"import a{' ' * LONG_CONTEXT_BYTES}x"], LONG_CONTEXT_BYTES, offers_tools=False) == "chat"
    )


def test_no_pattern_runs_over_the_ends_of_lines() -> None:
    """From each of them it would run over all that follow: 96 KB of them took 27 seconds.

    Nothing is timed here, so this looks at what made it slow: a match that begins in one line and ends in another.
    """
    assert classify(["\n" * LONG_CONTEXT_BYTES], LONG_CONTEXT_BYTES, offers_tools=False) == "chat"
    assert not [text for text in ("\n\ndef f", "\n \n def f") if "\n" in (CODE.search(text) or [""])[0]]


@given(
    texts=st.lists(st.text()),
    text_bytes=st.integers(0, 2 * LONG_CONTEXT_BYTES),
    offers_tools=st.booleans(),
)
def test_whatever_is_said_is_of_a_known_class(
    texts: list[str], text_bytes: int, *, offers_tools: bool
) -> None:
    """Of those that the documentation names."""
    assert classify(texts, text_bytes, offers_tools=offers_tools) in RULE_TASKS
