"""How vendors count tokens. The files in ``usage/`` are reports as vendors make them, each with where it is from."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.providers.usage import CONVENTIONS, read_usage
from tests.unit.boundary import tokens_of
from tests.unit.samples import Json

GOLDEN = sorted((Path(__file__).parent / "usage").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_vendor_s_report_is_read_by_its_convention(path: Path) -> None:
    """Inside the totals or on top of them: each class comes out once."""
    golden = json.loads(path.read_text())
    usage = read_usage(golden["reported"], golden["convention"])
    assert tokens_of(usage) == {f"{name}_tokens": count for name, count in golden["tokens"].items()}
    assert usage is not None
    assert (usage.source, usage.convention, usage.reported) == (
        "provider",
        golden["convention"],
        golden["reported"],
    )


def test_every_convention_has_a_report_to_prove_it() -> None:
    """A new one comes with its own."""
    assert {json.loads(path.read_text())["convention"] for path in GOLDEN} == set(CONVENTIONS)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0}, {}),
        (
            {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": None},
            {"input_tokens": 1, "output_tokens": 1},
        ),
        # More cached than sent, more reasoned than answered: the parts never exceed the whole.
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}},
            {"cache_read_tokens": 3, "output_tokens": 2},
        ),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 9},
            },
            {"cache_read_tokens": 2, "cache_write_tokens": 1, "output_tokens": 2},
        ),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 2,
                "completion_tokens_details": {"reasoning_tokens": 9},
            },
            {"input_tokens": 3, "reasoning_tokens": 2},
        ),
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -9}},
            {"input_tokens": 3, "output_tokens": 2},
        ),
    ],
)
def test_classes_do_not_overlap_and_none_is_negative(reported: Json, expected: dict[str, int]) -> None:
    """A zero that is reported stays a zero."""
    usage = read_usage(reported, "openai")
    assert usage is not None
    assert (tokens_of(usage), usage.source) == (expected, "provider")


@pytest.mark.parametrize(
    "reported",
    [
        None,
        "12",
        [],
        {"input_tokens": 10, "output_tokens": 5},
        {"prompt_tokens": 10},
        {"prompt_tokens": -10, "completion_tokens": 5},
        {"prompt_tokens": "10", "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": None},
        {"prompt_tokens": 10, "completion_tokens": 5, "essay": "x" * 5_000},
    ],
)
def test_a_report_without_sound_totals_is_unknown_and_not_zero(reported: object) -> None:
    """Nor is a report of another vendor's form read by chance."""
    assert read_usage(reported, "openai") is None


def test_only_figures_of_a_report_are_kept() -> None:
    """It goes into a row: no text of a provider's comes along, nor a character that Postgres does not store."""
    reported = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cost": 0.5,
        "note": "\0",
        "\0": 3,
        "details": {"seconds": 1.5, "names": ["a"]},
    }
    usage = read_usage(reported, "openai")
    assert usage is not None
    assert usage.reported == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cost": 0.5,
        "details": {"seconds": 1.5},
    }


COUNTS = (
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**64 - 1)
)


@given(
    convention=st.sampled_from(sorted(CONVENTIONS)),
    counts=st.dictionaries(
        st.sampled_from(["input", "output", "cache_read", "cache_write", "total"]), COUNTS
    ),
    details=st.dictionaries(st.sampled_from(["cache_write_1h", "reasoning"]), COUNTS),
)
def test_no_report_is_too_odd_to_be_recorded(convention: str, counts: Json, details: Json) -> None:
    """Whatever is reported, counts are whole, not negative and small enough to be multiplied by a price."""
    reported: dict[str, Any] = {}
    for name, value in {**counts, **details}.items():
        put(reported, getattr(CONVENTIONS[convention], name), value)
    usage = read_usage(reported, convention)
    if usage is not None:
        found = [getattr(usage, name) for name in usage.__slots__ if name.endswith("_tokens")]
        assert all(type(count) is int and 0 <= count <= 10**9 for count in found)


def put(reported: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Put a value where a convention looks for it."""
    for name in path[:-1]:
        reported = reported.setdefault(name, {})
    if path:
        reported[path[-1]] = value
