"""Load from wrk: so many connections, each sending its next request when the last one is answered, for some seconds."""

import json
import resource
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.performance.programs import program

_SCRIPT = Path(__file__).with_name("load.lua")
# Longer than any measure: the script says when it is over.
_MOST_SECONDS = 600
_ANSWER_TIMEOUT_SECONDS = 60
_UNLIMITED = 10**9
_DRAINED = "drained"
_MICROSECONDS_PER_MILLISECOND = 1000.0
_MICROSECONDS_PER_SECOND = 1_000_000.0


@dataclass(frozen=True)
class Request:
    """A POST as it goes over the wire, to be sent any number of times."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def to_bytes(self) -> bytes:
        """Return the whole of it."""
        url = urlsplit(self.url)
        fields = (("Host", url.netloc), ("Content-Type", "application/json"), *self.headers)
        lines = [f"POST {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        head = "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""])
        return head.encode() + self.body


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load. Every request of it was answered, or failed."""

    requests: int
    seconds: float
    mean_milliseconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    failures: int
    cpu_seconds: float = 0.0

    @property
    def requests_per_second(self) -> float:
        """The rate: requests were sent for ``seconds``, and the last were answered a mean latency later."""
        return self.requests / (self.seconds + self.mean_milliseconds / 1000)


def run_load(
    requests: Sequence[Request], connections: int, seconds: float, *, most_requests: int = _UNLIMITED
) -> Load:
    """Send requests, in turn, over so many connections, until the time is up or so many were sent.

    Raises:
        StackError: wrk is not installed.
        RuntimeError: it ended without a result.
    """
    with tempfile.NamedTemporaryFile(prefix="clearfloor-bench-requests-") as file:
        file.write(b"".join(request.to_bytes() + b"\0" for request in requests))
        file.flush()
        command = [
            *(program("wrk"), "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{_MOST_SECONDS}s", "--timeout", f"{_ANSWER_TIMEOUT_SECONDS}s", "--latency"),
            *("--script", str(_SCRIPT), requests[0].url, "--"),
            *(str(seconds), str(most_requests), str(connections), file.name),
        ]
        used_before = _cpu_seconds_of_children()
        output = _output(command)
        return parse(output, seconds, _cpu_seconds_of_children() - used_before)


def parse(output: str, seconds: float, cpu_seconds: float) -> Load:
    """Read the line that the script wrote at its end.

    Raises:
        RuntimeError: there is none.
    """
    line = next((line for line in output.splitlines() if line.startswith("{")), None)
    if line is None:
        raise RuntimeError(f"wrk ended without a result: {' '.join(output.split())}")
    found = json.loads(line)
    return Load(
        requests=found["requests"],
        seconds=seconds,
        mean_milliseconds=found["mean_us"] / _MICROSECONDS_PER_MILLISECOND,
        p50_milliseconds=found["p50_us"] / _MICROSECONDS_PER_MILLISECOND,
        p99_milliseconds=found["p99_us"] / _MICROSECONDS_PER_MILLISECOND,
        failures=found["bad_statuses"] + found["socket_errors"],
        cpu_seconds=cpu_seconds,
    )


def _output(command: Sequence[str]) -> str:
    """Run wrk; once every connection is idle, tell it to stop (SIGINT) and print its result."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as wrk:
        lines = []
        for line in wrk.stdout or ():
            lines.append(line)
            if line.strip() == _DRAINED:
                wrk.send_signal(signal.SIGINT)
    return "".join(lines)


def _cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
