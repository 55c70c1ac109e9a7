"""Whether the caller is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")


class CallerLeftError(Exception):
    """The caller hung up before it was answered."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for a caller, as long as it waits. The request's body has to be read before.

    Raises:
        CallerLeftError: it hung up; the work was cancelled, and has ended.
    """
    task = asyncio.current_task()
    is_over = has_left = False

    def break_off(left: asyncio.Future[None]) -> None:
        nonlocal has_left
        if task and not is_over and not left.cancelled():
            has_left = True
            task.cancel()

    left = asyncio.ensure_future(_until_left(request))
    left.add_done_callback(break_off)
    try:
        return await work
    except asyncio.CancelledError:
        # Unless somebody else wants the task to end as well.
        if task and has_left and task.cancelling() == 1:
            raise CallerLeftError from None
        raise
    finally:
        is_over = True
        left.cancel()
        if task and has_left:
            task.uncancel()


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
