"""What a simulated model can be told to do, and the order in which it does it."""

import asyncio
from collections import deque
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Timed(_Strict):
    latency_seconds: Seconds = 0.0
    """Wait before anything else happens; ends early when the client goes away."""


class Answer(_Timed):
    """A whole answer. `chunks` are the pieces of a stream (default: `content` by words)."""

    kind: Literal["answer"] = "answer"
    content: str | None = None
    chunks: list[str] | None = None
    chunk_delay_seconds: Seconds = 0.0
    finish_reason: str | None = None
    usage: dict[str, object] | Literal["computed"] | None = "computed"
    tool_calls: list[dict[str, object]] | None = None

    @model_validator(mode="after")
    def _one_text(self) -> "Answer":
        if self.content is not None and self.chunks is not None and "".join(self.chunks) != self.content:
            raise ValueError("chunks must join up to content: give one of them, or make them agree")
        return self


class Status(_Timed):
    """An HTTP error in OpenAI's envelope; `retry_after` goes into the header as it is."""

    kind: Literal["status"]
    status: Annotated[int, Field(ge=400, le=599)]
    retry_after: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")] | None = None
    message: str = "Simulated error."
    code: str | None = None


class Fault(_Timed):
    """What goes wrong in an answer that has begun: in streams after so many chunks of content."""

    after_chunks: Annotated[int, Field(ge=0)] = 0


class Stall(Fault):
    """Silence until the client goes away or the model is released.

    It falls before the headers, unless `after_headers` (then after headers and a stream's role frame) or, in
    streams, `after_chunks` say otherwise.
    """

    kind: Literal["stall"]
    after_headers: bool = False

    @property
    def before_headers(self) -> bool:
        """Whether not even a status line is sent."""
        return not self.after_headers and self.after_chunks == 0


class Cut(Fault):
    """The connection closes in mid-answer: after `after_chunks`, or half way through a plain body."""

    kind: Literal["cut"]


class Malformed(Fault):
    """`body`, which is not JSON: instead of a plain body, or as a data line after `after_chunks`."""

    kind: Literal["malformed"]
    body: str = '{"id": "chatcmpl-broken", "choices": ['


class ErrorFrame(Fault):
    """An error object under status 200: as a plain body, or as a data line after `after_chunks`."""

    kind: Literal["error_frame"]
    message: str = "Simulated error in mid-stream."
    code: str | None = None


class Disconnect(_Timed):
    """The connection closes without a byte of response."""

    kind: Literal["disconnect"]


Behaviour = Annotated[
    Answer | Status | Stall | Cut | Malformed | ErrorFrame | Disconnect, Field(discriminator="kind")
]


class Plan(_Strict):
    """The body of `PUT /_control/models/{model}`."""

    script: list[Behaviour] = []
    default: Behaviour = Answer()


class Script:
    """A model's plan as it is consumed, and the switch that lets its stalled calls go."""

    def __init__(self, plan: Plan) -> None:
        self.released = asyncio.Event()
        self.replace(plan)

    def replace(self, plan: Plan) -> None:
        """Start over with another plan; calls under way keep the behaviour that they have."""
        self._next = deque(plan.script)
        self._default = plan.default

    def take(self) -> Behaviour:
        """Consume the behaviour of one call."""
        return self._next.popleft() if self._next else self._default

    @property
    def answer(self) -> Answer:
        """What broken and released calls say: the default, or a plain answer if the default is none."""
        return self._default if isinstance(self._default, Answer) else Answer()

    def release(self) -> None:
        """Let the calls that were received until now answer; later ones stall again."""
        self.released.set()
        self.released = asyncio.Event()


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with a body, field by field."""
    parts = [(".".join(map(str, fault["loc"])) or "body", fault["msg"]) for fault in error.errors()]
    return "; ".join(f"{where}: {what}" for where, what in parts)
