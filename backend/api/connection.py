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
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_until_left(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        left.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    raise CallerLeftError


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
