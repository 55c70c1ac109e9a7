"""What wrk has measured is read, and a rate made of it."""

import pytest

from bench.performance.load import Load, Request, parse

OUTPUT = """Running 10m test @ http://127.0.0.1:20000/v1/chat/completions
drained
  Requests/sec:   1998.11
{"requests": 10064, "mean_us": 32000.5, "p50_us": 30100, "p99_us": 88000, "bad_statuses": 3, "socket_errors": 2}
"""


def test_the_script_line_is_found_among_what_wrk_prints() -> None:
    """Times are milliseconds; whatever is no answer with 2xx or 3xx is a failure."""
    assert parse(OUTPUT, 5.0, 0.25) == Load(
        requests=10064,
        seconds=5.0,
        mean_milliseconds=32.0005,
        p50_milliseconds=30.1,
        p99_milliseconds=88.0,
        failures=5,
        cpu_seconds=0.25,
    )


def test_without_that_line_what_wrk_said_is_the_error() -> None:
    """It says why it cannot connect."""
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:20000\n  Connection refused", 5.0, 0.0)


def test_the_rate_counts_the_time_of_the_last_answers() -> None:
    """64 connections with answers after a second make 64 requests a second, however short the measure."""
    load = Load(
        requests=64 * 3,
        seconds=2.0,
        mean_milliseconds=1000.0,
        p50_milliseconds=0,
        p99_milliseconds=0,
        failures=0,
    )
    assert load.requests_per_second == 64.0


def test_a_request_is_whole() -> None:
    """It is what goes over the wire, its length included."""
    request = Request("http://127.0.0.1:20000/v1/chat", (("Authorization", "Bearer cf_x"),), b'{"a": 1}')
    assert request.to_bytes().split(b"\r\n") == [
        b"POST /v1/chat HTTP/1.1",
        b"Host: 127.0.0.1:20000",
        b"Content-Type: application/json",
        b"Authorization: Bearer cf_x",
        b"Content-Length: 8",
        b"",
        b'{"a": 1}',
    ]
