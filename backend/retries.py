"""Every retry of the backend. Nothing else retries: httpx does not, and postgrest-py's own is switched off.

Provider calls are repeated on 429 only: three calls, waits of 0.5 s and 2 s (the next would be 8 s, the most). A
``Retry-After`` of up to 8 s is a lower bound of the wait; a longer one means no retry, and the candidate cools down.
"""

import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import stamina

from backend.errors import ProviderError, StoreUnavailableError

T = TypeVar("T")

RATE_LIMITED_STATUS = 429
CALLS = 3
FIRST_WAIT_SECONDS = 0.5
WAIT_FACTOR = 4
LONGEST_WAIT_SECONDS = 8.0
# Above what the server asked for, never below: else all callers that it turned away come back in the same moment.
JITTER_SHARE = 0.1

STORE_FIRST_WAIT_SECONDS = 0.05
STORE_LONGEST_WAIT_SECONDS = 1.0
_MOST_DOUBLINGS = 10


async def chat_with_429_retry(call: Callable[[], Awaitable[T]], *, deadline: float = math.inf) -> T:
    """Call a provider, again on 429, unless the wait would pass ``deadline`` (in terms of ``time.monotonic``).

    Raises:
        ProviderError: the last call's, whatever it was; a 429 after three calls, or after one that names a longer
            wait than ``LONGEST_WAIT_SECONDS``.
    """
    waits = _waits()

    def wait_or_give_up(error: Exception) -> float | bool:
        if not isinstance(error, ProviderError) or error.status != RATE_LIMITED_STATUS:
            return False
        asked = error.retry_after_seconds or 0.0
        if asked > LONGEST_WAIT_SECONDS:
            return False
        wait = max(next(waits), asked * (1 + JITTER_SHARE * random.random()))  # noqa: S311 # no secret, only spread
        return wait if time.monotonic() + wait < deadline else False

    try:
        return await call()
    except ProviderError as error:
        # Handed to stamina as that of its first attempt: setting it up takes 40 us, which a call that went well need not pay.
        failed = [error]
    async for attempt in stamina.retry_context(on=wait_or_give_up, attempts=CALLS, timeout=None):
        with attempt:
            if failed:
                raise failed.pop()
            return await call()
    raise AssertionError("stamina returns or raises")


def _waits() -> Iterator[float]:
    wait = FIRST_WAIT_SECONDS
    while True:
        yield min(wait, LONGEST_WAIT_SECONDS)
        wait *= WAIT_FACTOR


async def record_with_retry(call: Callable[[], Awaitable[T]], *, seconds: float | None) -> T:
    """Call the record until it answers or ``seconds`` have passed (None: for ever). Its calls are idempotent by ids.

    Raises:
        StoreUnavailableError: it was not reached in time.
    """
    retries = stamina.retry_context(
        on=StoreUnavailableError,
        attempts=None,
        timeout=seconds,
        wait_initial=STORE_FIRST_WAIT_SECONDS,
        wait_max=STORE_LONGEST_WAIT_SECONDS,
        wait_jitter=STORE_FIRST_WAIT_SECONDS,
    )
    async for attempt in retries:
        with attempt:
            return await call()
    raise AssertionError("stamina returns or raises")


def store_wait_seconds(failures: int) -> float:
    """Return how long to wait after so many failures before this one: what :func:`record_with_retry` waits."""
    wait = min(STORE_FIRST_WAIT_SECONDS * 2.0 ** min(failures, _MOST_DOUBLINGS), STORE_LONGEST_WAIT_SECONDS)
    return wait + random.uniform(0, STORE_FIRST_WAIT_SECONDS)  # noqa: S311 # no secret, only spread
