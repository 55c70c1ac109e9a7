"""The journal of the simulated provider, without a socket."""

import hashlib

import orjson

from backend.stack.simulator.journal import Call, Journal


def record(journal: Journal, model: str, body: bytes = b"{}") -> Call:
    """Add a call with no headers."""
    return journal.record(model, [], body, "answer")


def test_numbers_count_per_model() -> None:
    """Parallel tests share the process, not the numbers."""
    journal = Journal()
    assert [record(journal, model).number for model in ("a", "b", "a")] == [1, 1, 2]
    assert [call.model for call in journal.calls(None)] == ["a", "b", "a"]
    assert [call.number for call in journal.calls("a")] == [1, 2]


def test_the_oldest_calls_go_when_there_are_too_many() -> None:
    """The journal is bounded by count; numbers go on."""
    journal = Journal(calls_max=2)
    for _ in range(3):
        record(journal, "a")
    assert [call.number for call in journal.calls("a")] == [2, 3]


def test_the_oldest_calls_go_when_their_bodies_are_too_large() -> None:
    """The journal is bounded by bytes as well."""
    journal = Journal(body_bytes_max=10)
    for size in (4, 6, 5):
        record(journal, "a", b" " * size)
    assert [len(call.body) for call in journal.calls("a")] == [5]


def test_forgetting_a_model_leaves_the_others() -> None:
    """Calls, numbers and the bytes they took are gone for that model alone."""
    journal = Journal(body_bytes_max=10)
    record(journal, "a", b" " * 6)
    record(journal, "b", b" " * 4)
    journal.forget("a")
    assert record(journal, "a", b" " * 6).number == 1
    assert [call.model for call in journal.calls(None)] == ["b", "a"]


def test_forgetting_everything_starts_over() -> None:
    """No model named means all of them."""
    journal = Journal()
    record(journal, "a")
    journal.forget(None)
    assert journal.calls(None) == []
    assert record(journal, "a").number == 1


def test_credentials_are_kept_as_a_digest_only() -> None:
    """The whole header value is hashed; names are in lower case."""
    headers = [(b"Authorization", b"Bearer sk-1"), (b"X-Request-Id", b"R1")]
    call = Journal().record("a", headers, b'{"model": "a"}', "answer")
    digest = hashlib.sha256(b"Bearer sk-1").hexdigest()
    assert call.headers == {"x-request-id": "R1", "authorization_sha256": digest}
    shown = orjson.loads(orjson.dumps(call.view()))
    assert shown["body"] == {"model": "a"}
    assert shown["received_at"].endswith("+00:00")
    assert b"sk-1" not in orjson.dumps(call.view())
