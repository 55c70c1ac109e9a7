"""Under which conditions something was measured: the machine, the versions, how long, how often."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

from backend.stack import parts
from bench.performance.gateways import Gateway
from bench.performance.programs import program
from bench.performance.site import Site

_PACKAGES = ("fastapi", "uvicorn", "uvloop", "httpx")
_BYTES_PER_GIBIBYTE = 1024**3
_TIMEOUT_SECONDS = 10.0
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass
class Conditions:
    """What has to be said beside figures."""

    machine: str
    versions: dict[str, str]
    commit: str
    date: str
    rounds: int
    seconds: float
    decisions: int = 0
    gateways: list[Gateway] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def found(cls, site: Site, rounds: int, seconds: float) -> Self:
        """Look around."""
        return cls(
            machine=machine(),
            versions={
                "Python": platform.python_version(),
                **{name: version(name) for name in _PACKAGES},
                "Postgres": site.records.server_version(),
                "PostgREST": _said_version(parts.postgrest_program(), "--version"),
                "nginx": _said_version(program("nginx"), "-v"),
                "wrk": _said_version(program("wrk"), "-v"),
                "Node": _said_version(program("node"), "--version"),
            },
            commit=_commit(),
            date=datetime.now(UTC).date().isoformat(),
            rounds=rounds,
            seconds=seconds,
        )


def machine() -> str:
    """Return the processor, its cores, the memory and the kernel."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _BYTES_PER_GIBIBYTE
    cores = len(os.sched_getaffinity(0))
    kernel = _VERSION.search(platform.release())
    return f"{_cpu_model()}, {cores} cores, {memory:.0f} GiB of memory, Linux {kernel[0] if kernel else '?'}"


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _said_version(*command: str | Path) -> str:
    """Return the version that a program tells; some tell it on standard error, some with exit code 1."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    found = _VERSION.search(done.stdout + done.stderr)
    return found[0] if found else "?"


def _commit() -> str:
    done = subprocess.run(
        [program("git"), "-C", str(parts.PROJECT_ROOT), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    return done.stdout.strip() or "?"
