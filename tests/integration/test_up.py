"""`clearfloor up` refuses clearly."""

import re
import socket
from pathlib import Path

import pytest

from backend import cli
from backend.stack import commands
from backend.stack.ports import HOST


def test_a_taken_port_is_named_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is started, and one line says how to go on."""
    monkeypatch.setattr(commands, "HOME", tmp_path)
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        monkeypatch.setenv("CLEARFLOOR_PORT_FRONT", str(port))
        assert cli.main(["up"]) == 1
    error = capsys.readouterr().err
    assert f"{port} (front)" in error
    # Another default port may be taken, too: they lie where the system takes those of outgoing connections from.
    assert re.search(r"run `(CLEARFLOOR_PORT_\w+=\d+ )*CLEARFLOOR_PORT_FRONT=\d+ .*make up`", error)
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("run/*"))
