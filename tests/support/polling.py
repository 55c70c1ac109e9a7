"""Waiting for what other processes do, which have no event to wait for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.02


async def eventually(probe: Callable[[], Awaitable[T]], what: str, *, until: Callable[[T], bool] = bool) -> T:
    """Ask again and again until the answer is as it should be (true, by default); return it.

    Raises:
        AssertionError: the time is up; it says ``what`` did not come about, and the last answer.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not until(answer := await probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {DEADLINE_SECONDS:g} s; the last answer was {answer!r}")
        await asyncio.sleep(POLL_SECONDS)
    return answer
