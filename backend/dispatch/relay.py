"""Passes a stream on to its caller and completes its decision, whatever happens to either end.

From the first content on there is no other candidate: a stream that breaks ends with an error event and no ``[DONE]``.
The last event waits for the completion to be committed and carries ``clearfloor``: the decision and its cost.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from backend.dispatch.answers import Facts
from backend.dispatch.attempt import Attempt
from backend.dispatch.completions import Completions
from backend.dispatch.order import Order
from backend.dispatch.progress import Progress
from backend.errors import ProviderError
from backend.providers.types import ChatEvent, ChatStream, Usage
from backend.store.record import AttemptStatus, Completed, OutcomeStatus, Record
from backend.units import usd

_DONE = b"data: [DONE]\n\n"
_EMPTY_EVENT = b'{"object":"chat.completion.chunk","choices":[]}'


@dataclass(slots=True)
class Relay:
    """A stream under way. Iterate once over the bytes for the caller, then (or instead) call :meth:`aclose`."""

    order: Order
    attempt: Attempt
    stream: ChatStream
    record: Record
    completions: Completions
    progress: Progress
    _usage: Usage | None = None
    _output_bytes: int = 0
    _is_completed: bool = False

    @property
    def facts(self) -> Facts:
        """What the caller is told of the decision."""
        return Facts.of(self.order.decision, self.progress.calls, self.attempt)

    @property
    def deadline(self) -> float:
        """Until when the provider may go on, in terms of ``time.monotonic``."""
        return self.progress.deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the caller's events, those together that came together."""
        # Of what comes once every choice has finished only the last event waits.
        held_back: bytes | None = None
        try:
            async for events in self.stream:
                frames: list[bytes] = []
                for event in events:
                    self._count(event)
                    if event.is_usage_report and not self.order.wants_usage:
                        continue
                    if held_back is not None:
                        frames.append(_frame(held_back))
                    held_back = event.data if event.is_end else None
                    if held_back is None:
                        frames.append(_frame(event.data))
                if frames:
                    yield b"".join(frames)
        except ProviderError as error:
            self.attempt.failed_with(error)
            await self._complete("failed_provider_error", "cut")
            yield _frame(self._broken(error))
            return
        completed = await self._complete("succeeded", "succeeded")
        yield _frame(self._with_cost(held_back or _EMPTY_EVENT, completed)) + _DONE

    async def aclose(self, outcome: OutcomeStatus = "cancelled") -> None:
        """Hang up on the provider. A decision that is still open is settled, by default as left by its caller."""
        if not self._is_completed:
            self._is_completed = True
            result = self.attempt.result("cancelled", self._used())
            completion = self.record.complete_decision(self.order.decision, outcome, result)
            self.completions.start(self.order.decision.id, completion)
        await self.stream.aclose()

    def _count(self, event: ChatEvent) -> None:
        self._output_bytes += event.output_bytes
        # A report that came before the last content does not count it.
        if event.usage or event.output_bytes:
            self._usage = event.usage

    def _used(self) -> Usage:
        return self._usage or self.attempt.estimated_usage(self._output_bytes)

    async def _complete(self, outcome: OutcomeStatus, status: AttemptStatus) -> Completed | None:
        self._is_completed = True
        decision = self.order.decision
        completion = self.record.complete_decision(
            decision, outcome, self.attempt.result(status, self._used())
        )
        return await self.completions.finish(decision.id, completion)

    def _with_cost(self, last: bytes, completed: Completed | None) -> bytes:
        cost = {"cost_usd": usd(completed.charge_nano_usd)} if completed else {}
        facts = b'"clearfloor":' + orjson.dumps({"decision_id": str(self.order.decision.id), **cost})
        # Into the object as the provider sent it: what it says is not written anew.
        fields = last[1:-1].strip()
        return b"{" + fields + b"," * bool(fields) + facts + b"}"

    def _broken(self, error: ProviderError) -> bytes:
        message = (
            f"The stream broke after content had been sent, so no other candidate took over: {error.message}."
        )
        described = {
            "message": message,
            "type": "server_error",
            "param": None,
            "code": "stream_broken",
            "decision_id": str(self.order.decision.id),
        }
        return orjson.dumps({"error": described})


def _frame(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
