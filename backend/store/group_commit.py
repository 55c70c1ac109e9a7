"""Group commit: concurrent items of one function of the database go there in one call, each with an answer of its own.

While a batch is under way the next one fills, and goes when the first is back or when it is worth a call of its own. There is no
timer: an item that finds nothing under way is sent at once. docs/decisions/0013 has the figures.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from backend.errors import StoreUnavailableError
from backend.retries import record_with_retry
from backend.store.client import RETRY_AFTER_SECONDS, LockHeldError, RecordError

_LOGGER = logging.getLogger(__name__)
# A third would only wait for the locks of the first two.
_MOST_UNDER_WAY = 2
# A row costs little more in a batch of so many than in a larger one, and the database need not wait for this process: 64
# connections get 15 % more through than when only a full batch goes beside the first.
_ENOUGH_FOR_ANOTHER = 16
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
        """Hand an error over, if somebody still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


class GroupCommit:
    """Sends items by ``call``, up to ``batch_items`` at once; of those with a deadline at most ``most_waiting`` may wait."""

    def __init__(self, call: Call, *, batch_items: int, most_waiting: int) -> None:
        self._call = call
        self._batch_items = batch_items
        self._most_waiting = most_waiting
        self._together = _Lane(self._send, batch_items)
        # Those of an organization whose wallet somebody holds locked, or single ones that the record does not take, so that
        # they keep nobody else waiting.
        self._apart: dict[Hashable, _Lane] = {}

    def put(self, item: Item) -> None:
        """Send an item as soon as may be.

        Raises:
            StoreUnavailableError: too many are waiting.
        """
        lane = self._apart.get(item.organization_id, self._together)
        if item.deadline < NEVER and len(lane.queue) >= self._most_waiting:
            raise StoreUnavailableError(
                f"{self._most_waiting} requests wait for the record. Nothing was called or charged; try again shortly.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        lane.put(item)

    async def _send(self, lane: "_Lane", batch: Sequence[Item]) -> None:
        """Send those of a batch that still wait for an answer, once.

        Raises:
            StoreUnavailableError: some are to be tried again.
        """
        items = [item for item in batch if not item.answer.done()]
        if not items:
            return
        try:
            answers = await self._call([item.content for item in items])
        except LockHeldError as error:
            if lane is not self._together:
                raise _given_up_late([*items, *lane.queue], error) from None
            for item in items:
                self._set_apart(item.organization_id, item)
        except StoreUnavailableError as error:
            raise _given_up_late([*items, *lane.queue], error) from None
        except RecordError as error:
            await self._refused(lane, items, error)
        else:
            for item, answer in zip(items, answers, strict=True):
                item.succeed(answer)

    async def _refused(self, lane: "_Lane", items: Sequence[Item], error: RecordError) -> None:
        """Tell whom a refusal is for: of wrong values the one item that has them, which halves find, under the same ids."""
        if error.is_final and len(items) > 1:
            middle = len(items) // 2
            await self._send(lane, items[:middle])
            await self._send(lane, items[middle:])
            return
        for item in items:
            if error.is_final or item.deadline < NEVER:
                item.fail(error)
            elif self._apart.get(item) is lane:
                raise StoreUnavailableError(str(error)) from error
            else:
                _LOGGER.error("%s; it is tried again until it is answered", error)
                self._set_apart(item, item)

    def _set_apart(self, group: Hashable, item: Item) -> None:
        if group not in self._apart:
            self._apart[group] = _Lane(self._send, self._batch_items, lambda: self._apart.pop(group))
        self._apart[group].put(item)


class _Lane:
    """A queue, and the batches of it that are under way. ``when_empty`` is called once nothing is left of either."""

    def __init__(
        self,
        send: Callable[["_Lane", Sequence[Item]], Awaitable[None]],
        batch_items: int,
        when_empty: Callable[[], object] = lambda: None,
    ) -> None:
        self.queue: deque[Item] = deque()
        self._send = send
        self._batch_items = batch_items
        self._when_empty = when_empty
        self._under_way: set[asyncio.Task[None]] = set()

    def put(self, item: Item) -> None:
        # What comes in the same turn of the loop goes in the same batch.
        if not self.queue:
            asyncio.get_running_loop().call_soon(self._start_batches)
        self.queue.append(item)

    def _start_batches(self) -> None:
        while self.queue and self._may_start():
            batch = [self.queue.popleft() for _ in range(min(len(self.queue), self._batch_items))]
            task = asyncio.create_task(self._carry(batch))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _may_start(self) -> bool:
        if not self._under_way:
            return True
        enough = min(_ENOUGH_FOR_ANOTHER, self._batch_items)
        return len(self._under_way) < _MOST_UNDER_WAY and len(self.queue) >= enough

    async def _carry(self, batch: Sequence[Item]) -> None:
        try:
            await record_with_retry(lambda: self._send(self, batch), seconds=None)
        except Exception as error:
            # Whatever fault of ours it is, nobody may wait for ever.
            _LOGGER.exception("A batch was lost to a fault of ours")
            for item in batch:
                item.fail(error)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._start_batches()
        if not self._under_way:
            self._when_empty()


def _given_up_late(items: Sequence[Item], error: StoreUnavailableError) -> StoreUnavailableError:
    """Fail the items whose time is up, and return the error."""
    now = time.monotonic()
    for item in items:
        if item.deadline <= now:
            item.fail(error)
    return error
