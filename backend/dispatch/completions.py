"""Completions under way. They outlive the request they belong to: a caller who goes away, a record that is away."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from backend.errors import StoreUnavailableError
from backend.store.record import Completed

_LOGGER = logging.getLogger(__name__)
_RETRY_AFTER_SECONDS = 5.0


class Completions:
    """Runs completions to their end. Those lost with the process are closed by the sweep.

    ``wait_seconds`` is how long an answer waits for its own; ``most`` how many may be under way at once.
    """

    def __init__(self, *, wait_seconds: float, most: int) -> None:
        self._wait_seconds = wait_seconds
        self._most = most
        self._tasks: set[asyncio.Task[Completed]] = set()

    def require_room(self) -> None:
        """Refuse new work while too many completions wait for the record.

        Raises:
            StoreUnavailableError: there is no room.
        """
        if len(self._tasks) >= self._most:
            raise StoreUnavailableError(
                f"The record is away and {self._most} completions wait for it. No provider was called; try again"
                " shortly.",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )

    def start(self, completion: Coroutine[Any, Any, Completed]) -> "asyncio.Task[Completed]":
        """Run a completion in the background."""
        task = asyncio.create_task(completion)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def finish(self, completion: Coroutine[Any, Any, Completed]) -> Completed | None:
        """Run a completion and wait for it a while. None: it goes on in the background, or was refused."""
        task = self.start(completion)
        await asyncio.wait({task}, timeout=self._wait_seconds)
        return task.result() if task.done() and task.exception() is None else None

    async def drain(self) -> None:
        """Wait for what is under way, as long as an answer would: at shutdown."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._wait_seconds)

    def _finished(self, task: "asyncio.Task[Completed]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _LOGGER.error("A decision was not completed; the sweep will close it: %s", error)
