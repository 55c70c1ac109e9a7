"""Completions outlive the requests they belong to, up to a bound."""

import asyncio
import logging

import pytest

from backend.dispatch.completions import Completions
from backend.errors import StoreUnavailableError
from backend.ids import uuid7
from backend.store.record import Completed

COMPLETED = Completed("succeeded", "cheapest_clearing_floor", None, 1, 0, 0)
LONG_SECONDS = 60.0


class Completion:
    """A completion that ends when a test lets it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.ended = False
        self._error = error

    async def run(self) -> Completed:
        """Wait to be let go, then end."""
        await self.go.wait()
        if self._error:
            raise self._error
        self.ended = True
        return COMPLETED


async def turns(count: int = 5) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_completion_that_ends_in_time_is_handed_on() -> None:
    """With what it found in the record."""
    completion = Completion()
    completion.go.set()
    assert await Completions(wait_seconds=LONG_SECONDS, most=1).finish(uuid7(), completion.run()) == COMPLETED


async def test_a_completion_that_takes_longer_goes_on_in_the_background() -> None:
    """The answer leaves without its cost; the row gets it all the same."""
    completions = Completions(wait_seconds=0.0, most=1)
    completion = Completion()
    assert await completions.finish(uuid7(), completion.run()) is None
    completion.go.set()
    await turns()
    assert completion.ended


async def test_a_completion_survives_the_cancellation_of_whoever_waits_for_it() -> None:
    """A caller that goes away does not undo what it owes."""
    completions = Completions(wait_seconds=LONG_SECONDS, most=1)
    completion = Completion()
    waiter = asyncio.create_task(completions.finish(uuid7(), completion.run()))
    await turns()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    completion.go.set()
    await turns()
    assert completion.ended


async def test_a_completion_that_is_refused_is_logged_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller's answer is paid for; the sweep closes the decision."""
    completion = Completion(ValueError("refused"))
    completion.go.set()
    assert await Completions(wait_seconds=LONG_SECONDS, most=1).finish(uuid7(), completion.run()) is None
    assert [(record.levelno, record.args) for record in caplog.records] == [
        (logging.ERROR, caplog.records[0].args)
    ]
    assert "the sweep will close it: refused" in caplog.text


async def test_there_is_room_for_so_many_and_no_more() -> None:
    """Past it nothing new is opened, until one ends."""
    completions = Completions(wait_seconds=0.0, most=2)
    pending = [Completion(), Completion()]
    completions.require_room()
    for completion in pending:
        completions.require_room()
        completions.start(uuid7(), completion.run())
    with pytest.raises(StoreUnavailableError) as raised:
        completions.require_room()
    assert raised.value.retry_after_seconds
    pending[0].go.set()
    await turns()
    completions.require_room()
    pending[1].go.set()
    await turns()


async def test_a_completion_that_fails_gives_its_room_back() -> None:
    """Else failures would add up to a backend that opens nothing."""
    completions = Completions(wait_seconds=LONG_SECONDS, most=1)
    completion = Completion(ValueError("refused"))
    completion.go.set()
    await completions.finish(uuid7(), completion.run())
    completions.require_room()


async def test_a_stop_waits_for_what_is_under_way() -> None:
    """Nothing is lost by a restart that the record is there for."""
    completions = Completions(wait_seconds=LONG_SECONDS, most=2)
    pending = [Completion(), Completion()]
    for completion in pending:
        completions.start(uuid7(), completion.run())
    stopping = asyncio.create_task(completions.drain())
    await turns()
    assert not stopping.done()
    for completion in pending:
        completion.go.set()
    await stopping
    assert [completion.ended for completion in pending] == [True, True]


async def test_a_stop_does_not_wait_for_ever() -> None:
    """With the record away, no longer than an answer would."""
    completions = Completions(wait_seconds=0.0, most=1)
    task = completions.start(uuid7(), Completion().run())
    await completions.drain()
    assert not task.done()
    task.cancel()


async def test_a_stop_with_nothing_under_way_ends_at_once() -> None:
    """There is nothing to wait for."""
    await Completions(wait_seconds=LONG_SECONDS, most=1).drain()


async def test_a_stop_waits_for_decisions_that_are_open_until_they_are_completed() -> None:
    """A stream that is being broken off completes its decision only after the stop was asked for."""
    completions = Completions(wait_seconds=LONG_SECONDS, most=1)
    broken_off, refused, completion = uuid7(), uuid7(), Completion()
    completions.expect(broken_off)
    completions.expect(refused)
    stopping = asyncio.create_task(completions.drain())
    await turns()
    completions.forget(refused)
    completions.start(broken_off, completion.run())
    await turns()
    assert not stopping.done()
    completion.go.set()
    await stopping
    assert completion.ended
