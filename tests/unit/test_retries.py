"""`chat_with_429_retry`: 429 only, three calls, waits of 0.5 s and 2 s."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from backend.errors import ProviderError
from backend.retries import LONGEST_WAIT_SECONDS, chat_with_429_retry


def rate_limited(retry_after_seconds: float | None = None) -> ProviderError:
    """Return a 429."""
    return ProviderError("rate_limited", "slow down", status=429, retry_after_seconds=retry_after_seconds)


class Script:
    """A provider that plays a list of outcomes and counts its calls."""

    def __init__(self, *outcomes: str | ProviderError) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    async def __call__(self) -> str:
        """Play the next outcome."""
        outcome = self.outcomes[self.calls]
        self.calls += 1
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record every sleep instead of sleeping."""
    slept: list[float] = []
    really_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await really_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


async def test_a_first_good_answer_is_returned_at_once(waits: list[float]) -> None:
    """One call, no wait."""
    script = Script("good")
    assert await chat_with_429_retry(script) == "good"
    assert (script.calls, waits) == (1, [])


async def test_a_429_is_followed_by_a_second_call(waits: list[float]) -> None:
    """After half a second."""
    script = Script(rate_limited(), "good")
    assert await chat_with_429_retry(script) == "good"
    assert (script.calls, waits) == (2, [0.5])


async def test_two_429s_are_followed_by_a_third_call(waits: list[float]) -> None:
    """After half a second and two seconds."""
    script = Script(rate_limited(), rate_limited(), "good")
    assert await chat_with_429_retry(script) == "good"
    assert (script.calls, waits) == (3, [0.5, 2.0])


async def test_three_429s_raise_after_exactly_three_calls(waits: list[float]) -> None:
    """With waits of 0.5 s and 2 s; the last 429 is raised."""
    script = Script(rate_limited(), rate_limited(), rate_limited(), "never asked for")
    with pytest.raises(ProviderError) as raised:
        await chat_with_429_retry(script)
    assert (raised.value.status, script.calls, waits) == (429, 3, [0.5, 2.0])


@pytest.mark.parametrize(
    ("status", "error_class"), [(500, "server_error"), (400, "rejected"), (503, "server_error")]
)
async def test_other_errors_are_not_retried(waits: list[float], status: int, error_class: str) -> None:
    """One call, no wait: the next candidate may do better, this one not."""
    script = Script(ProviderError(error_class, "no", status=status), "never asked for")
    with pytest.raises(ProviderError):
        await chat_with_429_retry(script)
    assert (script.calls, waits) == (1, [])


@pytest.mark.parametrize("retry_after", [1.0, 3.5, LONGEST_WAIT_SECONDS])
async def test_retry_after_is_a_lower_bound_of_the_wait(waits: list[float], retry_after: float) -> None:
    """Spread above it, never below."""
    script = Script(rate_limited(retry_after), "good")
    assert await chat_with_429_retry(script) == "good"
    assert retry_after <= waits[0] <= retry_after * 1.1


async def test_a_short_retry_after_does_not_shorten_the_wait(waits: list[float]) -> None:
    """0.1 s was asked for; half a second is the least."""
    await chat_with_429_retry(Script(rate_limited(0.1), "good"))
    assert waits == [0.5]


async def test_a_long_retry_after_means_one_call(waits: list[float]) -> None:
    """A minute is not waited for: the candidate cools down, the next one is tried."""
    script = Script(rate_limited(60), "never asked for")
    with pytest.raises(ProviderError) as raised:
        await chat_with_429_retry(script)
    assert (raised.value.retry_after_seconds, script.calls, waits) == (60, 1, [])
