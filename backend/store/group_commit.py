"""Group commit: concurrent items of one function of the database go there in one call, each with an answer of its own.

While a batch is under way the next one fills, and goes when the first is back or when it is worth a call of its own. There is no
timer: an item that finds nothing under way is sent at once. docs/decisions/0013 has the figures.
"""

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from backend.errors import StoreUnavailableError
from backend.retries import store_wait_seconds
from backend.store.client import RETRY_AFTER_SECONDS, LockHeldError, RecordError

_LOGGER = logging.getLogger(__name__)
# A third would only wait for the locks of the first two.
_MOST_UNDER_WAY = 2
# A row costs little more in a batch of so many than in a larger one, and the database need not wait for this process.
_ENOUGH_FOR_ANOTHER = 16
# Of all that is set apart together: it may be what makes the record slow.
_MOST_UNDER_WAY_APART = 2
# What may hold a stored answer of many megabytes must not keep others from getting through in time.
_BATCH_BYTES = 1024 * 1024
NEVER = float("inf")

Answer = dict[str, Any]
Call = Callable[[Sequence[bytes]], Awaitable[Sequence[Answer]]]


@dataclass(slots=True, eq=False)
class Item:
    """An item on its way, as JSON.

    ``deadline``, in terms of ``time.monotonic``: until when it is tried. ``NEVER``: it is tried until it is answered, and
    whatever somebody can mend is taken for an absence of the record.
    """

    content: bytes
    organization_id: UUID
    deadline: float
    answer: "asyncio.Future[Answer]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def succeed(self, answer: Answer) -> None:
        """Hand the answer over, if somebody still waits for it."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Hand an error over, if somebody still waits: one of its own, as each request writes into it what it knows."""
        if not self.answer.done():
            self.answer.set_exception(copy.copy(error))

    def fail_if_late(self, error: Exception) -> None:
        """Hand an error over if the time is up."""
        if self.deadline <= time.monotonic():
            self.fail(error)


class GroupCommit:
    """Sends items by ``call``, up to ``batch_items`` at once; of those with a deadline at most ``most_waiting`` may wait."""

    def __init__(self, call: Call, *, batch_items: int, most_waiting: int) -> None:
        self._call = call
        self._batch_items = batch_items
        self._most_waiting = most_waiting
        self._together = _Lane(self._send, batch_items, lambda item: self._set_apart(item, item))
        # Those of an organization whose wallet somebody holds locked, or single ones that do not get through, so that they
        # keep nobody else waiting.
        self._apart: dict[Hashable, _Lane] = {}
        self._under_way_apart = asyncio.Semaphore(_MOST_UNDER_WAY_APART)

    def put(self, item: Item) -> None:
        """Send an item as soon as may be.

        Raises:
            StoreUnavailableError: too many are waiting.
        """
        if item.deadline < NEVER and self._is_full():
            raise StoreUnavailableError(
                f"{self._most_waiting} requests wait for the record. Nothing was called or charged; try again shortly.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._apart.get(item.organization_id, self._together).put(item)

    def _is_full(self) -> bool:
        lanes = (self._together, *self._apart.values())
        if sum(len(lane.queue) for lane in lanes) < self._most_waiting:
            return False
        for lane in lanes:
            lane.forget_answered()
        return sum(len(lane.queue) for lane in lanes) >= self._most_waiting

    async def _send(self, lane: "_Lane", items: Sequence[Item]) -> None:
        """Send items once.

        Raises:
            StoreUnavailableError: those without an answer are to be tried again.
        """
        try:
            if lane is self._together:
                answers = await self._call([item.content for item in items])
            else:
                async with self._under_way_apart:
                    answers = await self._call([item.content for item in items])
        except LockHeldError:
            if lane is not self._together:
                raise
            for item in items:
                self._set_apart(item.organization_id, item)
        except RecordError as error:
            await self._refused(lane, items, error)
        else:
            for item, answer in zip(items, answers, strict=True):
                item.succeed(answer)
            self._take_in_again(lane)

    async def _refused(self, lane: "_Lane", items: Sequence[Item], error: RecordError) -> None:
        """Tell whom a refusal is for: halves find the one item, under the same ids."""
        if len(items) > 1:
            middle = len(items) // 2
            await self._send(lane, items[:middle])
            await self._send(lane, items[middle:])
            return
        (item,) = items
        if error.is_final or item.deadline < NEVER:
            item.fail(error)
        elif lane is self._together:
            _LOGGER.error("%s; it is tried again until it is answered", error)
            self._set_apart(item, item)
        else:
            raise StoreUnavailableError(str(error)) from error

    def _set_apart(self, group: Hashable, item: Item) -> None:
        if group not in self._apart:
            self._apart[group] = _Lane(self._send, self._batch_items)
        self._apart[group].put(item)

    def _take_in_again(self, lane: "_Lane") -> None:
        for group, other in self._apart.items():
            if other is lane:
                del self._apart[group]
                for item in lane.give_up():
                    self._together.put(item)
                return


class _Lane:
    """A queue, and the batches of it that are under way.

    A batch that the record does not answer is tried again in halves after a while, behind what came meanwhile, a single item by
    ``put_again``; batches grow again once one is answered.
    """

    def __init__(
        self,
        send: Callable[["_Lane", Sequence[Item]], Awaitable[None]],
        batch_items: int,
        put_again: Callable[[Item], None] | None = None,
    ) -> None:
        self._put_again = put_again or self.put
        self.queue: deque[Item] = deque()
        self._send = send
        self._most_items = batch_items
        self._batch_items = batch_items
        self._failures = 0
        self._is_due = False
        self._under_way: set[asyncio.Task[None]] = set()

    def put(self, item: Item) -> None:
        """Send an item as soon as may be; what comes in the same turn of the loop goes in the same batch."""
        self.queue.append(item)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._start_batches)

    def give_up(self) -> Sequence[Item]:
        """Return what waits, and let it go."""
        waiting = list(self.queue)
        self.queue.clear()
        return waiting

    def forget_answered(self) -> None:
        """Let go of those whose callers have left, or whose time was up."""
        self.queue = deque(item for item in self.queue if not item.answer.done())

    def _start_batches(self) -> None:
        self._is_due = False
        while self.queue and self._may_start():
            if batch := self._next_batch():
                task = asyncio.create_task(self._carry(batch))
                self._under_way.add(task)
                task.add_done_callback(self._ended)

    def _may_start(self) -> bool:
        if not self._under_way:
            return True
        enough = min(_ENOUGH_FOR_ANOTHER, self._batch_items)
        return len(self._under_way) < _MOST_UNDER_WAY and len(self.queue) >= enough

    def _next_batch(self) -> list[Item]:
        batch: list[Item] = []
        size = 0
        while self.queue and len(batch) < self._batch_items:
            item = self.queue[0]
            size += len(item.content)
            if batch and size > _BATCH_BYTES:
                break
            self.queue.popleft()
            item.fail_if_late(_TOO_LATE)
            if not item.answer.done():
                batch.append(item)
        return batch

    async def _carry(self, batch: Sequence[Item]) -> None:
        try:
            await self._send(self, batch)
        except StoreUnavailableError as error:
            await self._wait_after(error, batch)
        except Exception:
            # Whatever fault of ours it is, nobody may wait for ever, and what is paid for is not lost to it.
            _LOGGER.exception("A batch failed by a fault of ours; what is paid for is tried again")
            for item in batch:
                if item.deadline < NEVER:
                    item.fail(_TOO_LATE)
            await self._wait_after(_TOO_LATE, batch)
        else:
            self._failures = 0
            self._batch_items = min(2 * self._batch_items, self._most_items)

    async def _wait_after(self, error: StoreUnavailableError, batch: Sequence[Item]) -> None:
        for item in (*batch, *self.queue):
            item.fail_if_late(error)
        self._batch_items = max(1, len(batch) // 2)
        await asyncio.sleep(store_wait_seconds(self._failures))
        self._failures += 1
        put_again = self._put_again if len(batch) == 1 else self.put
        for item in batch:
            if not item.answer.done():
                put_again(item)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._start_batches()


_TOO_LATE = StoreUnavailableError(
    "The record did not answer in time. Nothing is charged; try again shortly.",
    retry_after_seconds=RETRY_AFTER_SECONDS,
)
