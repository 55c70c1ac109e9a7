"""The scripts of the simulated provider, without a socket."""

import pytest
from pydantic import ValidationError

from backend.stack.simulator.behaviours import Answer, Cut, Plan, Script, Status, explain


def test_calls_consume_the_script_then_repeat_the_default() -> None:
    """The script is used once, in order; the default for ever."""
    script = Script(
        Plan.model_validate(
            {
                "script": [{"kind": "status", "status": 429}, {"kind": "cut"}],
                "default": {"kind": "answer", "content": "Hi"},
            }
        )
    )
    taken = [script.take() for _ in range(4)]
    assert taken == [
        Status(kind="status", status=429),
        Cut(kind="cut"),
        Answer(content="Hi"),
        Answer(content="Hi"),
    ]


def test_without_a_plan_every_call_is_a_plain_answer() -> None:
    """An empty plan means plain answers."""
    script = Script(Plan.model_validate({}))
    assert script.take() == script.answer == Answer()


def test_a_default_that_is_no_answer_leaves_a_plain_one_for_released_calls() -> None:
    """A stalled call must have something to say when it is released."""
    script = Script(Plan.model_validate({"default": {"kind": "disconnect"}}))
    assert script.answer == Answer()


def test_replacing_a_plan_drops_what_was_left_of_the_script() -> None:
    """A second PUT starts over."""
    script = Script(Plan.model_validate({"script": [{"kind": "cut"}]}))
    script.replace(Plan())
    assert script.take() == Answer()


def test_a_release_reaches_earlier_calls_only() -> None:
    """The switch that a later call waits for is a new one."""
    script = Script(Plan())
    earlier = script.released
    script.release()
    assert earlier.is_set()
    assert not script.released.is_set()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"script": [{"kind": "explode"}]}, "script.0: Input tag 'explode'"),
        ({"script": [{"kind": "status"}]}, "script.0.status.status: Field required"),
        ({"default": {"kind": "status", "status": 200}}, "default.status.status: Input should be greater"),
        (
            {"default": {"kind": "status", "status": "429"}},
            "default.status.status: Input should be a valid int",
        ),
        ({"default": {"kind": "cut", "after": 2}}, "default.cut.after: Extra inputs are not permitted"),
        (
            {"default": {"kind": "cut", "after_chunks": -1}},
            "default.cut.after_chunks: Input should be greater",
        ),
        ({"default": {"kind": "status", "status": 429, "retry_after": "1\r\nx: y"}}, "retry_after"),
        ({"default": {"kind": "answer", "content": "a", "chunks": ["b"]}}, "chunks must join up to content"),
        ({"scripts": []}, "scripts: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_field_at_fault(plan: dict[str, object], message: str) -> None:
    """Typing errors in a test's script must not pass for plain answers."""
    with pytest.raises(ValidationError) as caught:
        Plan.model_validate(plan)
    assert message in explain(caught.value)
