"""Passes a stream on to its caller and completes its decision, whatever happens to either end.

From the first content on there is no other candidate: a stream that breaks ends with an error event and no ``[DONE]``.
The last event waits for the completion to be committed and carries ``clearfloor``: the decision and its cost.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from backend.dispatch.attempt import Attempt, estimated_usage
from backend.dispatch.completions import Completions
from backend.dispatch.order import Order
from backend.errors import ProviderError
from backend.providers.types import ChatEvent, ChatStream, Usage
from backend.routing.rank import Scored
from backend.store.record import AttemptResult, Completed, OutcomeStatus, Record
from backend.units import usd

_DONE = b"data: [DONE]\n\n"
_EMPTY_EVENT = b'{"object":"chat.completion.chunk","choices":[]}'


@dataclass(slots=True)
class Relay:
    """A stream under way. Iterate once over the bytes for the caller, then (or instead) call :meth:`aclose`.

    ``deadline`` is in terms of ``time.monotonic``.
    """

    order: Order
    attempt: Attempt
    stream: ChatStream
    record: Record
    completions: Completions
    deadline: float
    _usage: Usage | None = None
    _output_bytes: int = 0
    _finished_choices: int = 0
    _is_completed: bool = False

    @property
    def scored(self) -> Scored:
        """The candidate that answers."""
        return self.attempt.scored

    @property
    def attempts(self) -> int:
        """How many attempts there were, this one included."""
        return self.attempt.number

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the caller's events."""
        last_events: list[ChatEvent] = []
        try:
            async for event in self.stream:
                self._count(event)
                if event.is_usage_report and not self.order.wants_usage:
                    continue
                if self._finished_choices < self.order.choices:
                    yield _frame(event.data)
                else:
                    last_events.append(event)
        except ProviderError as error:
            await self._complete(
                "failed_provider_error", self.attempt.ended_early("cut", self._used(), error)
            )
            yield _frame(orjson.dumps(self._broken(error)))
            return
        result = self.attempt.succeeded(self._used(), self.stream.request_id)
        completed = await self._complete("succeeded", result)
        for event in last_events[:-1]:
            yield _frame(event.data)
        yield _frame(self._with_cost(last_events, completed))
        yield _DONE

    async def aclose(self) -> None:
        """Hang up on the provider. A decision that is still open was left by its caller: it is settled as cancelled."""
        if not self._is_completed:
            self._is_completed = True
            result = self.attempt.ended_early("cancelled", self._used(), None)
            self.completions.start(self.record.complete_decision(self.order.decision, "cancelled", result))
        await self.stream.aclose()

    def _count(self, event: ChatEvent) -> None:
        self._usage = event.usage or self._usage
        self._output_bytes += event.output_bytes
        self._finished_choices += event.finished_choices
        if time.monotonic() > self.deadline:
            raise ProviderError("timeout", "the request's deadline has passed")

    def _used(self) -> Usage:
        return self._usage or estimated_usage(self.order.body_bytes, self._output_bytes)

    async def _complete(self, status: OutcomeStatus, result: AttemptResult) -> Completed | None:
        self._is_completed = True
        return await self.completions.finish(
            self.record.complete_decision(self.order.decision, status, result)
        )

    def _with_cost(self, last_events: list[ChatEvent], completed: Completed | None) -> bytes:
        cost = {"cost_usd": usd(completed.charge_nano_usd)} if completed else {}
        facts = b'"clearfloor":' + orjson.dumps({"decision_id": str(self.order.decision.id), **cost})
        last = last_events[-1].data if last_events else _EMPTY_EVENT
        # Into the object as the provider sent it: what it says is not written anew.
        fields = last[1:-1].strip()
        return b"{" + fields + b"," * bool(fields) + facts + b"}"

    def _broken(self, error: ProviderError) -> dict[str, Any]:
        message = (
            f"The stream broke after content had been sent, so no other candidate took over: {error.message}."
        )
        return {
            "error": {
                "message": message,
                "type": "server_error",
                "param": None,
                "code": "stream_broken",
                "decision_id": str(self.order.decision.id),
            }
        }


def _frame(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
