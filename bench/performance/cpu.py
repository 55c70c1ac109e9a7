"""What process trees use, as the operating system (Linux) counts it: processor time and memory."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_BYTES_PER_MEGABYTE = 1_000_000
_BYTES_PER_KIBIBYTE = 1024


@dataclass(frozen=True)
class ProcessTimes:
    """One line of ``/proc/<pid>/stat``, what of it matters here."""

    pid: int
    parent: int
    cpu_seconds: float

    @classmethod
    def parse(cls, stat: str, ticks_per_second: int = _TICKS_PER_SECOND) -> "ProcessTimes":
        """Read the line. The time of children that have ended and were waited for belongs to the process."""
        pid = int(stat.split(" ", 1)[0])
        # The name of the program, in brackets, may hold spaces and brackets.
        fields = stat.rpartition(")")[2].split()
        return cls(pid, int(fields[1]), sum(map(int, fields[11:15])) / ticks_per_second)


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the processor time that the processes and all their descendants have used so far."""
    return sum(process.cpu_seconds for process in trees(list(_running()), roots))


def trees(processes: Iterable[ProcessTimes], roots: Iterable[int]) -> list[ProcessTimes]:
    """Return those of the processes that are a root or descend from one."""
    by_id = {process.pid: process for process in processes}
    wanted = set(roots)

    def belongs(process: ProcessTimes | None) -> bool:
        while process is not None and process.pid not in wanted:
            process = by_id.get(process.parent)
        return process is not None

    return [process for process in by_id.values() if belongs(process)]


def largest_resident_megabytes(root: int) -> float:
    """Return the resident memory of the largest process of a tree: that of a worker."""
    found = (_resident_bytes(process.pid) for process in trees(list(_running()), [root]))
    return max(found, default=0) / _BYTES_PER_MEGABYTE


def _running() -> Iterator[ProcessTimes]:
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            try:
                yield ProcessTimes.parse((folder / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile


def _resident_bytes(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", (_PROC / str(pid) / "status").read_text(), re.MULTILINE)
    return int(found[1]) * _BYTES_PER_KIBIBYTE if found else 0
