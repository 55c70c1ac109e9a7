"""Long-running processes of the stack: started detached, recorded, and only ever signalled by their own id.

A record (`run/<name>.json`) holds the process id and the moment the process started. Both must match before a
signal is sent, so that an id given anew to a stranger is never touched.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from backend.stack.errors import StackError

STOP_GRACE_SECONDS = 10.0
POLL_INTERVAL_SECONDS = 0.02
_INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
# Children of this process: they are reaped through here, else they would stay as zombies.
_children: dict[int, "subprocess.Popen[bytes]"] = {}


@dataclass(frozen=True)
class Identity:
    """An operating-system user that a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Process:
    """One running (or finished) process of the stack."""

    name: str
    pid: int
    started: str
    log: Path
    record: Path

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        home: Path,
        *,
        environment: Mapping[str, str],
        identity: Identity | None = None,
    ) -> Self:
        """Start a program detached: its output goes to ``home/logs``, its record to ``home/run``.

        Raises:
            StackError: the program cannot be run.
        """
        log = home / "logs" / f"{name}.log"
        record = home / "run" / f"{name}.json"
        for folder in (log.parent, record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd="/",
                    start_new_session=True,
                    **_as_user(identity),
                )
        except OSError as error:
            raise StackError(f"{name} cannot be started: {error}.") from error
        _children[child.pid] = child
        process = cls(name, child.pid, start_time(child.pid) or "", log, record)
        process.write()
        return process

    @classmethod
    def present(cls, name: str, home: Path) -> Self:
        """Return the process that this code runs in, to be recorded as ``home/<name>.json``."""
        return cls(name, os.getpid(), start_time(os.getpid()) or "", home / "log", home / f"{name}.json")

    def write(self) -> None:
        """Write the record."""
        self.record.write_text(json.dumps({"pid": self.pid, "started": self.started, "log": str(self.log)}))

    @classmethod
    def recorded(cls, record: Path) -> Self | None:
        """Return the process of a record, or None when there is no readable record."""
        try:
            found = json.loads(record.read_text())
            return cls(record.stem, int(found["pid"]), str(found["started"]), Path(found["log"]), record)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_alive(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        found = start_time(self.pid)
        child = _children.get(self.pid)
        if found is None and child is not None:
            # It is a zombie already, but can be reaped only once its last thread has ended.
            return child.poll() is None
        return found == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.is_alive():
            os.kill(self.pid, number)

    def pause(self) -> None:
        """Stop the process from running (SIGSTOP); its connections stay open."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process run on (SIGCONT)."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once (SIGKILL) and wait until it is gone."""
        self.send(signal.SIGKILL)
        wait_until(lambda: not self.is_alive(), f"{self.name} did not die", STOP_GRACE_SECONDS)
        self.record.unlink(missing_ok=True)

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end, and kill it after a grace time."""
        self.send(first)
        self.resume()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_SECONDS)
        self.kill()

    def last_words(self) -> str:
        """Return the last line of the log that says something."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "no log"
        return next((line.strip() for line in reversed(lines) if line.strip()), "empty log")

    def wait_ready(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait until ``ready`` answers true.

        Raises:
            StackError: the process ended, or the time is up; with the log's last line.
        """
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.is_alive():
                raise StackError(f"{self.name} ended while starting: {self.last_words()} (log: {self.log})")
            if time.monotonic() > deadline:
                late = f"{self.name} was not ready in {timeout_seconds:g} s"
                raise StackError(f"{late}: {self.last_words()} (log: {self.log})")
            time.sleep(POLL_INTERVAL_SECONDS)


def wait_until(condition: Callable[[], bool], failure: str, timeout_seconds: float) -> None:
    """Poll until the condition holds.

    Raises:
        StackError: the time is up.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{failure} within {timeout_seconds:g} s.")
        time.sleep(POLL_INTERVAL_SECONDS)


def start_time(pid: int) -> str | None:
    """Return when a process started, as the system tells it; None when there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _start_time_by_ps(pid)
    except ProcessLookupError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _start_time_by_ps(pid: int) -> str | None:
    """Ask `ps`, for systems without /proc (macOS)."""
    command = ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)]
    state, _, started = subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition(
        " "
    )
    return started.strip() if started and not state.startswith("Z") else None


def clean_environment(**variables: str) -> dict[str, str]:
    """Return an environment that a caller's own PG*, PGRST_* or SUPABASE_* settings cannot leak into."""
    inherited = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    return inherited | variables


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    identity: Identity | None = None,
    timeout_seconds: float,
) -> "subprocess.CompletedProcess[str]":
    """Run a short program to its end without a terminal and return its output and exit code.

    Raises:
        StackError: it cannot be run or did not end in time.
    """
    parts = [str(part) for part in command]
    try:
        return subprocess.run(
            parts,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(environment),
            cwd="/",
            timeout=timeout_seconds,
            check=False,
            **_as_user(identity),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{Path(parts[0]).name} failed: {error}") from error


def _as_user(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        return {}
    return {"user": identity.uid, "group": identity.gid, "extra_groups": []}
