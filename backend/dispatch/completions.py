"""Decisions that are open, and their completions under way. Both outlive what a caller or a stop may do meanwhile."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

from backend.errors import StoreUnavailableError
from backend.store.record import Completed
from backend.units import usd

_LOGGER = logging.getLogger(__name__)
_RETRY_AFTER_SECONDS = 5.0


class Completions:
    """Runs completions to their end. Those lost with the process are closed by the sweep.

    ``wait_seconds`` is how long an answer waits for its own; ``most`` how many may be under way at once.
    """

    def __init__(self, *, wait_seconds: float, most: int) -> None:
        self._wait_seconds = wait_seconds
        self._most = most
        self._open: set[UUID] = set()
        self._tasks: set[asyncio.Task[Completed | None]] = set()
        self._one_ended = asyncio.Event()

    @property
    def open_decisions(self) -> list[UUID]:
        """The decisions that this process has opened and not completed."""
        return list(self._open)

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

    def expect(self, decision_id: UUID) -> None:
        """Remember that a decision is open: a stop waits until it is completed."""
        self._open.add(decision_id)

    def start(
        self, decision_id: UUID, completion: Coroutine[Any, Any, Completed | None]
    ) -> "asyncio.Task[Completed | None]":
        """Run a decision's completion in the background."""
        task = asyncio.create_task(completion)
        self._open.add(decision_id)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._finished(decision_id, task))
        return task

    async def finish(
        self, decision_id: UUID, completion: Coroutine[Any, Any, Completed | None]
    ) -> Completed | None:
        """Run a completion and wait for it a while. None: it goes on in the background, or was refused."""
        task = self.start(decision_id, completion)
        await asyncio.wait({task}, timeout=self._wait_seconds)
        return task.result() if task.done() and task.exception() is None else None

    def forget(self, decision_id: UUID) -> None:
        """Forget a decision that was completed by the record itself, or never opened."""
        self._open.discard(decision_id)
        self._one_ended.set()

    async def drain(self) -> None:
        """Wait until no decision is open, as long as an answer would wait: at shutdown.

        Calls that are being broken off at this moment complete their decisions only now.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while self._open:
                    self._one_ended.clear()
                    await self._one_ended.wait()

    def _finished(self, decision_id: UUID, task: "asyncio.Task[Completed | None]") -> None:
        self._tasks.discard(task)
        self.forget(decision_id)
        if task.cancelled():
            return
        if error := task.exception():
            _LOGGER.error("Decision %s was not completed; the sweep will close it: %s", decision_id, error)
            return
        completed = task.result()
        if completed is None:
            return
        if completed.overrun_nano_usd:
            _LOGGER.warning(
                "Decision %s cost %s USD more than its bound, which the operator bears: is its candidate's price right?",
                *(decision_id, usd(completed.overrun_nano_usd)),
            )
        if completed.operator_loss_nano_usd:
            _LOGGER.warning(
                "Decision %s was completed late, and %s USD of its charge were not there any more: the operator bears them",
                *(decision_id, usd(completed.operator_loss_nano_usd)),
            )
