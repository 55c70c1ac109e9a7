"""What dispatch is asked to carry out."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from backend.routing.rank import Ranking
from backend.store.record import DecisionOpening


@dataclass(frozen=True, slots=True)
class Order:
    """A decided request: the decision to open, the ranking to work through and the body to send.

    Attributes:
        body: the caller's body without what is Clearfloor's own, each field's JSON as it came.
        choices: how many answers are asked for.
        output_limit_tokens: limit of each answer, the caller's or the agent's default.
        wants_usage: the caller asked for usage at the end of its stream.
        may_fail_over: whether other candidates may be called after the first.
        may_clamp: whether the output limit may be lowered to what wallet and caps have left.
    """

    decision: DecisionOpening
    ranking: Ranking
    body: Mapping[str, msgspec.Raw]
    choices: int
    output_limit_tokens: int
    wants_usage: bool
    may_fail_over: bool
    may_clamp: bool

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return self.decision.stream
