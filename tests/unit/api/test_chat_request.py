"""What a body may say, and what it is told where it says something else."""

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.api.chat_request import Judgement, read_chat_request, routing_request
from backend.errors import InvalidRequestError, NotFoundError
from backend.routing.request import RoutingRequest
from tests.unit.samples import QUESTION, caller, candidate, catalogue

POOL = catalogue(candidate("small"), candidate("large"))


def content(clearfloor: object = None, **fields: object) -> bytes:
    """Return a body that asks for any model."""
    body: dict[str, object] = {"model": "auto", "messages": QUESTION, **fields}
    return orjson.dumps(body if clearfloor is None else {**body, "clearfloor": clearfloor})


def asked(sent: bytes, judgement: Judgement | None = None, **agent: object) -> RoutingRequest:
    """Return what routing is asked for a body."""
    chat, fields = read_chat_request(sent)
    return routing_request(chat, fields, len(sent), caller(**agent), POOL, judgement or Judgement())


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (content({"floor": 2}), "clearfloor.floor"),
        (content({"floor": -0.1}), "clearfloor.floor"),
        (content({"floor": "0.8"}), "clearfloor.floor"),
        (content({"floor": True}), "clearfloor.floor"),
        (content({"flor": 0.8}), "clearfloor.flor"),
        (content({"task": 7}), "clearfloor.task"),
        (content({"max_cost_usd": "1"}), "clearfloor.max_cost_usd"),
        (content({"max_cost_usd": -1}), "clearfloor.max_cost_usd"),
        (content({"max_cost_usd": 1e300}), "clearfloor.max_cost_usd"),
        (content({"models": []}), "clearfloor.models"),
        (content({"models": "small"}), "clearfloor.models"),
        (content({"models": ["small", 1]}), "clearfloor.models.1"),
        (content({"fallback": "no"}), "clearfloor.fallback"),
        (content({"fallback": 0}), "clearfloor.fallback"),
        (content("fast"), "clearfloor"),
        (content([]), "clearfloor"),
        (content(model=""), "model"),
        (content(model=7), "model"),
        (content(model="x" * 201), "model"),
        (content(model=None), "model"),
        (content(messages=[]), "messages"),
        (content(messages="Hello"), "messages"),
        (content(messages=["Hello"]), "messages.0"),
        (content(messages=[{"content": 7}]), "messages.0.content"),
        (content(messages=[{"content": [{"type": 7}]}]), "messages.0.content.0.type"),
        (content(tools={}), "tools"),
        (content(tools=[{"type": "web_search"}]), "tools.0.type"),
        (content({"clamp": "yes"}), "clearfloor.clamp"),
        (content({"explore": "no"}), "clearfloor.explore"),
        (content(response_format="json_object"), "response_format"),
        (content(modalities=["text", 7]), "modalities.1"),
        (content(n=0), "n"),
        (content(n=129), "n"),
        (content(n=True), "n"),
        (content(n="2"), "n"),
        (content(n=1.5), "n"),
        (content(max_tokens=0), "max_tokens"),
        (content(max_tokens="100"), "max_tokens"),
        (content(max_tokens=10_000_001), "max_tokens"),
        (content(max_tokens=2**64 - 1), "max_tokens"),
        (content(max_completion_tokens=True), "max_completion_tokens"),
        (content(stream="yes"), "stream"),
        (content(stream=1), "stream"),
        (content(stream_options=True), "stream_options"),
        (content(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
        (b'{"messages": [{}]}', "model"),
        (b'{"model": "auto"}', "messages"),
        (b"[]", None),
        (b'"text"', None),
        (b"null", None),
        (b"7", None),
    ],
)
def test_a_field_that_is_wrong_is_refused_and_named(sent: bytes, param: str | None) -> None:
    """By its path, in one line that says what is wrong with it."""
    with pytest.raises(InvalidRequestError) as raised:
        read_chat_request(sent)
    assert raised.value.param == param
    assert f"`{param or 'body'}` is wrong: " in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"model": "auto", "n": NaN}',
        b'{"model": "auto", "n": Infinity}',
        b'{"model": "\\ud800"}',
        b"{'model': 'auto'}",
    ],
)
def test_a_body_that_is_not_json_is_refused(sent: bytes) -> None:
    """What a strict parser does not take, no provider is asked about."""
    with pytest.raises(InvalidRequestError, match="The body is not JSON"):
        read_chat_request(sent)


@pytest.mark.parametrize("sent", [b'{"a":' * 5_000, b'{"model": "auto", "x": ' + b"[" * 100_000])
def test_a_body_that_is_nested_too_deeply_is_refused(sent: bytes) -> None:
    """Before anything is opened."""
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        read_chat_request(sent)


def test_a_body_of_too_many_objects_or_fields_is_refused_before_it_is_read() -> None:
    """Each takes a hundred times its bytes."""
    many = b'{"model": "auto", "messages": [' + b"{}," * 500_000 + b"{}]}"
    with pytest.raises(InvalidRequestError, match="more than 500000 objects"):
        read_chat_request(many)
    with pytest.raises(InvalidRequestError, match="more than 100 fields"):
        read_chat_request(content(**{f"field_{number}": 0 for number in range(100)}))


@pytest.mark.parametrize("name", ["", "x" * 65, "a prompt", "line\n", "é"])
def test_a_name_of_a_field_is_no_text(name: str) -> None:
    """Names are recorded, and what a caller writes is not."""
    with pytest.raises(InvalidRequestError, match="1 to 64 printable ASCII characters"):
        read_chat_request(content(**{name: 0}))
    assert "x" * 64 in read_chat_request(content(**{"x" * 64: 0}))[1]


@pytest.mark.parametrize(
    "value",
    [
        b"12345678901234567890123",
        b"1.10",
        b"1e400",
        b'"\\u0041\xe2\x80\xa8"',
        b'[null, {"x" : 1, "x" : 2}]',
        b"[" * 300 + b"]" * 300,
    ],
)
def test_fields_that_are_not_ours_are_passed_on_untouched(value: bytes) -> None:
    """Byte for byte: whatever OpenAI adds next month works today."""
    sent = (
        b'{"model": "auto", "messages": [{"content": "Hi"}], "clearfloor": {"floor": 0.8}, "new": '
        + value
        + b"}"
    )
    _, fields = read_chat_request(sent)
    assert {name: bytes(raw) for name, raw in fields.items()} == {
        "model": b'"auto"',
        "messages": b'[{"content": "Hi"}]',
        "new": value,
    }


@pytest.mark.parametrize(
    ("sent", "agent_floor", "expected"),
    [
        (content(model="auto:0.8"), 0.7, 0.8),
        (content(model="auto:0"), 0.7, 0.0),
        (content(model="auto:1"), 0.7, 1.0),
        (content({"floor": 0.9}), 0.7, 0.9),
        (content({"floor": 1}), 0.7, 1.0),
        (content({"floor": 0}), 0.7, 0.0),
        (content(), 0.7, 0.7),
        (content(), 0.0, 0.0),
        (content({"floor": 0.9}, model="small"), 0.7, 0.9),
        (content(model="small"), 0.7, None),
    ],
)
def test_the_floor_is_the_request_s_else_the_agent_s_and_a_pinned_model_needs_none(
    sent: bytes, agent_floor: float, expected: float | None
) -> None:
    """Zero is a floor, not the lack of one."""
    assert asked(sent, default_floor=agent_floor).floor == expected


@pytest.mark.parametrize(
    "floor",
    [
        "",
        "high",
        "1.1",
        "-0.1",
        "-0",
        "nan",
        "inf",
        "0,8",
        "0.",
        "0.0_2",
        " 0.2 ",
        "1e-1",
        "0x1",
        "\u0660.\u0662",
    ],
)
def test_a_name_that_names_no_floor_is_refused(floor: str) -> None:
    """Rather than taken for a model, or for the agent's floor."""
    with pytest.raises(InvalidRequestError, match="names no floor") as raised:
        asked(content(model=f"auto:{floor}"))
    assert raised.value.param == "model"


@pytest.mark.parametrize("floor", [0.8, 0.5, 0])
def test_a_floor_that_is_named_twice_is_refused(floor: float) -> None:
    """Even where both say the same."""
    with pytest.raises(InvalidRequestError, match="named twice"):
        asked(content({"floor": floor}, model="auto:0.8"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 500),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 20}, 20),
        ({"max_tokens": 20, "max_completion_tokens": 20}, 20),
        ({"max_tokens": None}, 500),
    ],
)
def test_the_output_limit_is_the_one_that_is_named_else_the_agent_s(
    fields: dict[str, Any], expected: int
) -> None:
    """By either of its names."""
    request = asked(content(**fields), default_max_output_tokens=500)
    assert request.output_limit_tokens == expected


def test_two_output_limits_that_differ_are_refused() -> None:
    """A provider would obey one of them, and nobody can tell which was meant."""
    with pytest.raises(InvalidRequestError, match="differ: name one"):
        asked(content(max_tokens=10, max_completion_tokens=20))


IMAGE = {"type": "image_url", "image_url": {"url": "https://images.test/1.png"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ()),
        ({"tools": [{}]}, ("tools",)),
        ({"tools": []}, ()),
        ({"functions": [{}]}, ("tools",)),
        ({"messages": [{"content": [IMAGE]}]}, ("vision",)),
        ({"messages": [{"content": [{"type": "input_audio"}]}]}, ("audio",)),
        ({"messages": [{"content": [{"type": "file"}]}]}, ("files",)),
        ({"modalities": ["text", "audio"]}, ("audio",)),
        ({"response_format": {"type": "json_object"}}, ("json",)),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, ("json",)),
        ({"response_format": {"type": "text"}}, ()),
        (
            {
                "messages": [{"content": [IMAGE]}],
                "tools": [{}],
                "response_format": {"type": "json_object"},
            },
            ("json", "tools", "vision"),
        ),
    ],
)
def test_what_a_body_needs_is_found_in_it(fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    """Sorted, so that its record is always the same."""
    assert asked(content(**fields)).needs == expected


DATA_URL = f"data:image/png;base64,{'A' * 1000}"


@pytest.mark.parametrize(
    ("message", "media", "payload"),
    [
        ({"content": "Hello"}, {}, 0),
        ({"content": [{"type": "text", "text": DATA_URL}]}, {}, 0),
        ({"content": [IMAGE, IMAGE]}, {"image": 2}, 0),
        ({"content": [{"type": "image_url", "image_url": {"url": DATA_URL}}]}, {"image": 1}, len(DATA_URL)),
        ({"content": [{"type": "image_url", "image_url": DATA_URL}]}, {"image": 1}, len(DATA_URL)),
        ({"content": [{"type": "input_audio", "input_audio": {"data": "A" * 90}}]}, {"audio": 1}, 90),
        ({"content": [{"type": "file", "file": {"file_data": "A" * 80}}]}, {"file": 1}, 80),
        ({"content": [{"type": "file", "file": {"file_id": "file-1"}}]}, {"file": 1}, 0),
        # The field of another type is text: whatever it is, the provider may read it so.
        ({"content": [{"type": "text", "file": {"file_data": "A" * 80}}]}, {}, 0),
        ({"role": "assistant", "audio": {"id": "audio-1"}}, {"audio": 1}, 0),
    ],
)
def test_media_count_by_kind_and_their_bytes_are_no_text(
    message: dict[str, Any], media: dict[str, int], payload: int
) -> None:
    """What is left bounds the tokens of the text: each has a byte at least."""
    sent = content(messages=[message])
    request = asked(sent)
    assert (request.media, request.text_bytes) == (media, len(sent) - payload)


def test_a_payload_s_bytes_are_never_more_than_they_take_in_the_body() -> None:
    """However they are escaped there: else text would be left out of the bound."""
    escaped = content(messages=[{"content": [{"type": "image_url", "image_url": "data:DATA"}]}]).replace(
        b"DATA", rb"\/\u0041"
    )
    assert asked(escaped).text_bytes == len(escaped) - len("data:/A")


@pytest.mark.parametrize("kind", ["video_url", "input_image", "document_url", ""])
def test_a_part_that_nobody_can_bound_is_refused(kind: str) -> None:
    """With its place: what a provider makes of it could cost anything."""
    messages = [*QUESTION, {"content": [{"type": "text"}, {"type": kind}]}]
    with pytest.raises(InvalidRequestError, match="there are file, image_url, ") as raised:
        asked(content(messages=messages))
    assert raised.value.param == "messages.1.content.1.type"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "SELECT 1"}, "code"),
        ({"content": [{"type": "text", "text": "from os import path"}]}, "code"),
        ({"content": [IMAGE]}, "chat"),
        ({"content": None}, "chat"),
        ({}, "chat"),
    ],
)
def test_the_task_is_found_in_the_texts_of_all_messages(message: dict[str, Any], expected: str) -> None:
    """Whether they are whole or in parts."""
    assert asked(content(messages=[*QUESTION, message])).task == expected


def test_a_task_that_there_is_not_is_refused_and_those_that_there_are_are_named() -> None:
    """A typing error would otherwise be judged by the general figure, and let a model pass that is no good at it."""
    with pytest.raises(InvalidRequestError, match="no task class `cdoe`; there are chat, code, ") as raised:
        asked(content({"task": "cdoe"}))
    assert raised.value.param == "clearfloor.task"
    assert asked(content({"task": "code"})).task == "code"


@pytest.mark.parametrize(
    ("usd", "expected"),
    [(0, 0), (1, 10**9), (0.1, 10**8), (1e-9, 1), (1e-10, 0), (0.3, 3 * 10**8), (1_000_000, 10**15)],
)
def test_a_cost_limit_is_exact_to_the_nano_dollar(usd: float, expected: int) -> None:
    """0.3 USD are 300,000,000 nano-USD, not one less."""
    assert asked(content({"max_cost_usd": usd})).max_cost_nano_usd == expected


def test_everything_that_routing_is_asked_is_read_from_the_body() -> None:
    """The rest is its size and what it needs."""
    sent = content({"task": "code", "models": ["small", "large"]}, n=3, tools=[{}], model="auto:0.5")
    assert asked(sent) == RoutingRequest(
        rule="cheapest_clearing_floor",
        model=None,
        floor=0.5,
        task="code",
        text_bytes=len(sent),
        choices=3,
        output_limit_tokens=1024,
        fields=("messages", "model", "n", "tools"),
        needs=("tools",),
        models=("large", "small"),
    )


@pytest.mark.parametrize(
    ("sent", "share", "drawn", "expected"),
    [
        (content(), 0.1, 0.0, True),
        (content(), 0.1, 0.0999, True),
        (content(), 0.1, 0.1, False),
        (content(), 0.0, 0.0, False),
        (content({"explore": True, "on_miss": "best"}), 0.1, 0.0, True),
        (content({"explore": False}), 0.1, 0.0, False),
        (content({"strict": True}), 0.1, 0.0, False),
        (content({"strict": True, "explore": True}), 0.1, 0.0, False),
        (content(model="small"), 0.1, 0.0, False),
        (content({"floor": 0.5}, model="small"), 0.1, 0.0, False),
        (content(model="auto:0.5"), 0.1, 0.0, True),
    ],
)
def test_such_a_share_of_the_requests_explores_as_the_operator_says(
    sent: bytes, share: float, drawn: float, *, expected: bool
) -> None:
    """By chance, and only of those that let it be."""
    judgement = Judgement(exploration_share=share, chance=lambda: drawn)
    assert asked(sent, judgement).explores is expected


def test_nothing_explores_unless_the_operator_says_so() -> None:
    """However often chance is asked."""
    assert not any(asked(content()).explores for _ in range(1000))


def test_a_model_by_its_name_is_pinned() -> None:
    """And the rule says so."""
    request = asked(content(model="small"))
    assert (request.rule, request.model) == ("pinned_model", "small")


@pytest.mark.parametrize(
    ("sent", "param"),
    [(content(model="huge"), "model"), (content({"models": ["small", "huge"]}), "clearfloor.models")],
)
def test_a_model_that_nobody_runs_is_not_found(sent: bytes, param: str) -> None:
    """And named: a typing error should not read like an outage."""
    with pytest.raises(NotFoundError, match="huge") as raised:
        asked(sent)
    assert raised.value.param == param


def test_a_pinned_model_must_be_one_of_the_models_to_choose_from() -> None:
    """Nothing could answer such a request, and an empty ranking would not say why."""
    with pytest.raises(InvalidRequestError, match="pins small") as raised:
        asked(content({"models": ["large"]}, model="small"))
    assert raised.value.param == "clearfloor.models"
    request = asked(content({"models": ["large", "small"]}, model="small"))
    assert request.model == "small"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OWN_FIELDS = ("model", "messages", "stream", "stream_options", "n", "max_tokens", "tools", "response_format")
OPTIONS = ("floor", "task", "max_cost_usd", "models", "fallback", "else")


@given(
    fields=st.dictionaries(st.sampled_from(OWN_FIELDS), JSON),
    options=JSON | st.dictionaries(st.sampled_from(OPTIONS), JSON),
    names_options=st.booleans(),
)
def test_no_body_is_too_odd_to_be_answered(
    fields: dict[str, Any], options: object, *, names_options: bool
) -> None:
    """It is read, or refused with the caller's own error: never a fault of ours."""
    body = {"model": "auto", "messages": QUESTION, **fields}
    with contextlib.suppress(InvalidRequestError, NotFoundError):
        asked(orjson.dumps({**body, "clearfloor": options} if names_options else body))


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd_to_be_answered(sent: bytes) -> None:
    """Whatever arrives at the port."""
    with pytest.raises(InvalidRequestError):
        read_chat_request(sent)
