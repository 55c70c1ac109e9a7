"""Processes are only ever signalled by their own id."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.stack.errors import StackError
from backend.stack.processes import Process, clean_environment, start_time

READY_TIMEOUT_SECONDS = 10.0


def start(code: str, home: Path) -> Process:
    """Start a Python program."""
    return Process.start("program", [sys.executable, "-c", code], home, environment=clean_environment())


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    """Start a program that would run for long."""
    process = start("import time; time.sleep(600)", tmp_path)
    yield process
    process.kill()


def test_a_record_finds_its_process_again(sleeper: Process) -> None:
    """Another command, later, can stop what this one started."""
    assert Process.recorded(sleeper.record) == sleeper
    assert sleeper.is_alive()


def test_a_stopped_process_is_gone_and_so_is_its_record(sleeper: Process) -> None:
    """No zombie stays, either."""
    sleeper.stop()
    assert start_time(sleeper.pid) is None
    assert Process.recorded(sleeper.record) is None


def test_a_paused_process_can_be_stopped(sleeper: Process) -> None:
    """It is woken up to hear the signal."""
    sleeper.pause()
    sleeper.stop()
    assert not sleeper.is_alive()


def test_a_stranger_with_the_same_id_is_left_alone(sleeper: Process) -> None:
    """The moment of the start tells them apart."""
    earlier = replace(sleeper, started="1", record=sleeper.record.with_name("earlier.json"))
    earlier.stop()
    assert not earlier.is_alive()
    assert sleeper.is_alive()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x"}', '{"pid": 1, "started": "1", "log": 5}'])
def test_a_spoilt_record_names_no_process(tmp_path: Path, text: str) -> None:
    """A start that was killed while writing it left nothing to stop."""
    record = tmp_path / "program.json"
    record.write_text(text)
    assert Process.recorded(record) is None


def test_a_program_that_ends_while_starting_is_quoted(tmp_path: Path) -> None:
    """Its last line says what is wrong."""
    process = start("raise SystemExit('the disk is full')", tmp_path)
    with pytest.raises(StackError, match="program ended while starting: the disk is full"):
        process.wait_ready(lambda: False, READY_TIMEOUT_SECONDS)


def test_a_program_that_never_gets_ready_is_given_up(sleeper: Process) -> None:
    """The wait has an end."""
    with pytest.raises(StackError, match=r"program was not ready in 0 s: empty log"):
        sleeper.wait_ready(lambda: False, 0)


def test_settings_of_the_caller_do_not_leak_into_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PGHOST in a shell must not lead the stack astray."""
    monkeypatch.setenv("PGHOST", "elsewhere")
    listed = subprocess.run(["/usr/bin/env"], env=clean_environment(OWN="1"), capture_output=True, check=True)
    assert b"PGHOST" not in listed.stdout
    assert b"OWN=1" in listed.stdout
