"""Extra backend processes for tests: several at once, paused, killed."""

import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from backend.stack.errors import StackError
from backend.stack.ports import HOST, free_port
from backend.stack.postgrest import answers_ok
from backend.stack.processes import Process, clean_environment
from backend.stack.stack import Stack

READY_TIMEOUT_SECONDS = 60.0


class BackendProcess:
    """One `python -m backend.cli serve` against a stack, on a free port.

    ``variables`` are added to its environment, or replace what the stack gives it. When the
    body of the ``with`` fails, the log is printed.
    """

    def __init__(self, stack: Stack, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._environment = clean_environment(**backend_environment(stack, self.port) | variables)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def log(self) -> str:
        """Return what the backend has written so far."""
        return self._process.log.read_text(errors="replace")

    def kill(self) -> None:
        """End the process at once, as a crash does (SIGKILL)."""
        self._process.kill()

    def pause(self) -> None:
        """Stop the process from running (SIGSTOP)."""
        self._process.pause()

    def resume(self) -> None:
        """Let the paused process run on (SIGCONT)."""
        self._process.resume()

    def is_alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.is_alive()

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="clearfloor-backend-")
        command = [sys.executable, "-m", "backend.cli", "serve"]
        self._process = Process.start(
            "backend", command, Path(self._home.name), environment=self._environment
        )
        try:
            self._process.wait_ready(lambda: answers_ok(f"{self.url}/health/ready"), READY_TIMEOUT_SECONDS)
        except StackError as error:
            error.add_note(self.log())
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"Log of the backend on {self.url}:\n{self.log()}")
        self._close()

    def _close(self) -> None:
        self._process.stop()
        self._home.cleanup()


def backend_environment(stack: Stack, port: int) -> dict[str, str]:
    """Return the settings that make a backend serve a stack's data."""
    endpoints = stack.endpoints
    return {
        "SUPABASE_URL": endpoints.supabase_url,
        "SUPABASE_SECRET_KEY": endpoints.secret_key,
        "SUPABASE_PUBLISHABLE_KEY": endpoints.publishable_key,
        "CLEARFLOOR_HOST": HOST,
        "CLEARFLOOR_PORT": str(port),
    }
