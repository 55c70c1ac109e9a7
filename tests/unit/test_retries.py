"""What is tried again, how often, and how long is waited between."""

import random
import time
from collections.abc import Awaitable, Callable

import pytest

from backend.errors import ProviderError, StoreUnavailableError
from backend.retries import chat_with_429_retry, record_with_retry


def rate_limited(retry_after_seconds: float | None = None) -> ProviderError:
    """Return what a provider's 429 becomes."""
    return ProviderError("rate_limited", "slow down", status=429, retry_after_seconds=retry_after_seconds)


class Scripted:
    """A call that ends as scripted, one outcome a call; it counts them."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self._outcomes = list(outcomes)
        self.calls = 0

    async def __call__(self) -> str:
        """Make the call."""
        self.calls += 1
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replace chance: the share of the jitter that is drawn."""
    return lambda share: monkeypatch.setattr(random, "random", lambda: share)


async def test_a_first_answer_that_is_good_is_the_only_call(waits: list[float]) -> None:
    """Nothing is repeated that worked."""
    call = Scripted("good")
    assert await chat_with_429_retry(call) == "good"
    assert (call.calls, waits) == (1, [])


async def test_one_429_and_then_a_good_answer_is_good(waits: list[float]) -> None:
    """After half a second."""
    call = Scripted(rate_limited(), "good")
    assert await chat_with_429_retry(call) == "good"
    assert (call.calls, waits) == (2, [0.5])


async def test_two_429s_and_then_a_good_answer_is_good(waits: list[float]) -> None:
    """The second wait is four times the first."""
    call = Scripted(rate_limited(), rate_limited(), "good")
    assert await chat_with_429_retry(call) == "good"
    assert (call.calls, waits) == (3, [0.5, 2.0])


async def test_three_429s_raise_the_last_after_exactly_three_calls(waits: list[float]) -> None:
    """A fourth outcome is there to be found, and is not asked for."""
    last = rate_limited()
    call = Scripted(rate_limited(), rate_limited(), last, "never reached")
    with pytest.raises(ProviderError) as raised:
        await chat_with_429_retry(call)
    assert raised.value is last
    assert (call.calls, waits) == (3, [0.5, 2.0])


@pytest.mark.parametrize("status", [500, 502, 503, 400, 401, 422, None])
async def test_anything_but_a_429_is_not_retried(status: int | None, waits: list[float]) -> None:
    """A 500 goes to another candidate at once, a 400 back to the caller."""
    call = Scripted(ProviderError("server_error", "broken", status=status), "never reached")
    with pytest.raises(ProviderError, match="broken"):
        await chat_with_429_retry(call)
    assert (call.calls, waits) == (1, [])


async def test_a_fault_of_ours_is_not_retried(waits: list[float]) -> None:
    """Only what a provider said is."""
    call = Scripted(ValueError("a bug"), "never reached")
    with pytest.raises(ValueError, match="a bug"):
        await chat_with_429_retry(call)
    assert (call.calls, waits) == (1, [])


async def test_a_500_after_a_429_ends_the_retries(waits: list[float]) -> None:
    """The last outcome counts, whatever it is."""
    call = Scripted(rate_limited(), ProviderError("server_error", "broken", status=500), "never reached")
    with pytest.raises(ProviderError, match="broken"):
        await chat_with_429_retry(call)
    assert (call.calls, waits) == (2, [0.5])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 1.05), (1.0, 1.1)])
async def test_retry_after_is_a_lower_bound_of_the_wait_with_jitter_above_only(
    share: float, expected: float, waits: list[float], jitter: Callable[[float], None]
) -> None:
    """Not all that were turned away come back in the same moment, and none before its time."""
    jitter(share)
    assert await chat_with_429_retry(Scripted(rate_limited(1.0), "good")) == "good"
    assert waits == [pytest.approx(expected)]
    assert waits[0] >= 1.0


async def test_a_retry_after_below_our_own_wait_does_not_shorten_it(
    waits: list[float], jitter: Callable[[float], None]
) -> None:
    """A server's zero is no invitation to hammer it."""
    jitter(1.0)
    call = Scripted(rate_limited(0.0), rate_limited(0.1), "good")
    assert await chat_with_429_retry(call) == "good"
    assert waits == [0.5, 2.0]


async def test_the_longest_retry_after_that_is_waited_for_is_8_seconds(
    waits: list[float], jitter: Callable[[float], None]
) -> None:
    """And it is waited for in full."""
    jitter(0.0)
    assert await chat_with_429_retry(Scripted(rate_limited(8.0), "good")) == "good"
    assert waits == [8.0]


@pytest.mark.parametrize("seconds", [8.001, 60.0, 86_400.0])
async def test_a_longer_retry_after_means_one_call_and_no_wait(seconds: float, waits: list[float]) -> None:
    """The candidate is to be left alone for so long: another one is asked."""
    call = Scripted(rate_limited(seconds), "never reached")
    with pytest.raises(ProviderError) as raised:
        await chat_with_429_retry(call)
    assert raised.value.retry_after_seconds == seconds
    assert (call.calls, waits) == (1, [])


@pytest.mark.parametrize(("seconds_left", "calls"), [(0.4, 1), (1.9, 2), (60.0, 3)])
async def test_no_wait_goes_past_the_deadline(
    seconds_left: float, calls: int, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that has half a second left has none for a wait of two; another candidate may still answer."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    call = Scripted(*[rate_limited() for _ in range(4)])
    with pytest.raises(ProviderError):
        await chat_with_429_retry(call, deadline=1000.0 + seconds_left)
    assert (call.calls, len(waits)) == (calls, calls - 1)


async def test_the_record_is_asked_again_until_it_answers(waits: list[float]) -> None:
    """Its calls are idempotent by ids, so each is simply sent again; waits grow up to a second."""
    away = [StoreUnavailableError("away") for _ in range(12)]
    call = Scripted(*away, "there")
    assert await record_with_retry(call, seconds=None) == "there"
    assert call.calls == 13
    assert 0.05 <= waits[0] <= 0.1
    assert waits[-1] == 1.0


async def test_the_record_is_not_asked_for_longer_than_allowed(waits: list[float]) -> None:
    """The last failure is raised."""
    call = Scripted(StoreUnavailableError("first"), *[StoreUnavailableError("away")] * 1_000_000)
    with pytest.raises(StoreUnavailableError):
        await record_with_retry(call, seconds=0.001)
    assert len(waits) == call.calls - 1


@pytest.mark.parametrize("retry", [chat_with_429_retry, lambda call: record_with_retry(call, seconds=None)])
async def test_what_the_record_refuses_is_not_retried(
    retry: Callable[[Callable[[], Awaitable[str]]], Awaitable[str]], waits: list[float]
) -> None:
    """Asking again would not mend it."""
    call = Scripted(LookupError("refused"), "never reached")
    with pytest.raises(LookupError):
        await retry(call)
    assert (call.calls, waits) == (1, [])
