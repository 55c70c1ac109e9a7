"""The errors that callers see, and the one list of them."""

import inspect
import re
from pathlib import Path

import pytest

from backend import errors
from backend.errors import ERROR_TABLE, ClearfloorError, DispatchError, ModelUnavailableError, ProviderError
from backend.ids import uuid7

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
CLASSES = {
    name: error for name, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, Exception)
}


def test_the_table_has_every_error_that_a_caller_can_see() -> None:
    """None is forgotten, none is there twice."""
    seen = {e for e in CLASSES.values() if issubclass(e, ClearfloorError) and e is not ClearfloorError}
    assert set(ERROR_TABLE) == seen
    assert len(ERROR_TABLE) == len(seen)


def test_every_error_has_a_code_of_its_own_and_says_when_it_happens() -> None:
    """A caller can tell them apart by the code alone."""
    codes = [error.code for error in ERROR_TABLE]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z][a-z_]*", code) for code in codes)
    assert all(error.when for error in ERROR_TABLE)


def test_the_tree_of_the_module_names_every_class() -> None:
    """And no class that is not there."""
    named = re.findall(r"^[ │]*(?:[├└]── )?([A-Z]\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert sorted(named) == sorted(CLASSES)


@pytest.mark.parametrize("error", ERROR_TABLE)
def test_the_tree_of_the_module_has_the_status_of_every_error(error: type[ClearfloorError]) -> None:
    """`4xx` where it is the provider's."""
    line = re.search(rf"{error.__name__} +(\w+)", errors.__doc__ or "")
    assert line
    assert line[1] in {str(error.status), "4xx"}


def test_the_document_is_the_table() -> None:
    """Code, status, type, whether clients retry, and when: row by row, in order, in the same words."""
    lines = DOCUMENT.read_text(encoding="utf-8").split("## Errors in a stream")[0].splitlines()
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| `")
    ]
    retried = {False: "no", None: "yes"}
    documented = [
        (code, status[:3], kind, retry.split()[0], when) for code, status, kind, retry, _, when in rows
    ]
    assert documented == [
        (f"`{e.code}`", str(e.status), f"`{e.type}`", retried[e.should_retry], e.when) for e in ERROR_TABLE
    ]


def test_an_error_has_openai_s_envelope() -> None:
    """Message, type, param and code, as OpenAI's SDKs read them."""
    decision_id = uuid7()
    error = errors.SpendCapError("no", decision_id=decision_id, details={"cap_nano_usd": 1})
    assert error.envelope() == {
        "error": {
            "message": "no",
            "type": "rate_limit_error",
            "param": None,
            "code": "spend_cap_reached",
            "details": {"cap_nano_usd": 1},
            "decision_id": str(decision_id),
        }
    }
    assert set(errors.NotFoundError("no").envelope()["error"]) == {"message", "type", "param", "code"}


def test_a_provider_s_refusal_has_the_provider_s_status() -> None:
    """Of this one error only: the class keeps its own."""
    error = errors.ProviderRejectedRequestError("too long", status=413, decision_id=uuid7())
    assert (error.status, errors.ProviderRejectedRequestError.status) == (413, 400)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProviderError("rate_limited", "", status=429), True),
        (ProviderError("server_error", "", status=500), True),
        (ProviderError("timeout", ""), True),
        (ProviderError("credentials", "", status=401), True),
        (ProviderError("malformed", "", status=200), True),
        (ModelUnavailableError("cooling_down", ""), True),
        (ProviderError("rejected", "", status=400), False),
    ],
)
def test_only_a_request_that_is_itself_wrong_does_not_fail_over(
    error: DispatchError, *, expected: bool
) -> None:
    """Another provider would say the same of it."""
    assert error.fails_over is expected
