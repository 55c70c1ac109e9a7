"""Programs that serve on a free loopback port while a ``with`` lasts, and how long they take to be ready."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from backend.stack.ports import HOST
from backend.stack.processes import Process, clean_environment

_START_TIMEOUT_SECONDS = 120.0
_PROBE_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Server:
    """A program that answers."""

    name: str
    url: str
    pid: int
    ready_seconds: float


@contextmanager
def running(
    name: str, command: Sequence[str | Path], home: Path, port: int, ready_path: str, **environment: str
) -> Iterator[Server]:
    """Start a program, wait until ``ready_path`` is answered with 200, and stop it in the end.

    Raises:
        StackError: it ended before, or takes too long.
    """
    url = f"http://{HOST}:{port}"
    started = time.perf_counter()
    process = Process.start(name, command, home, environment=clean_environment(**environment))
    try:
        process.wait_ready(lambda: is_ok(f"{url}{ready_path}"), _START_TIMEOUT_SECONDS)
        yield Server(name, url, process.pid, time.perf_counter() - started)
    finally:
        process.stop()
        # It leads a group of its own: workers that have outlived it are in there.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def running_module(name: str, module: str, home: Path, port: int, ready_path: str) -> Iterator[Server]:
    """Start one of the bench's own programs."""
    command = [sys.executable, "-m", module, "--port", str(port)]
    with running(name, command, home, port, ready_path) as server:
        yield server


def is_ok(url: str) -> bool:
    """Tell whether a GET is answered with 200. Cheaper than an httpx client, which takes its time to be made."""
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, timeout=_PROBE_TIMEOUT_SECONDS)
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
