"""Waiting for what other processes do, which have no event to wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.02


async def eventually(probe: Callable[[], Awaitable[T]], what: str) -> T:
    """Ask again and again until the answer is true; return it.

    Raises:
        AssertionError: the time is up; it says ``what`` did not come about, and the last answer.
    """
    answer: T | None = None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (answer := await probe()):
                await asyncio.sleep(POLL_SECONDS)
            return answer
    except TimeoutError:
        raise AssertionError(
            f"{what}: not within {DEADLINE_SECONDS:g} s; the last answer was {answer!r}"
        ) from None
