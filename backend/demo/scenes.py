"""The requests of the demo: what is sent, what the simulated provider does to it, and what must come of it.

Names of models and agents are those of ``supabase/seed.sql``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The cheapest of the seed: the one that every request tries first.
CHEAPEST_MODEL = "sim-small"
_RATE_LIMITED = {"kind": "status", "status": 429, "retry_after": "1", "message": "Slow down."}
_OVERLOADED = {"kind": "status", "status": 503, "message": "Overloaded."}
_MESSAGES = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scene comes to: HTTP status, outcome of the decision, and (model, status, HTTP calls) per attempt."""

    http_status: int
    outcome_status: str
    attempts: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """One request.

    Attributes:
        faults: what ``CHEAPEST_MODEL`` does to its next calls before it answers again.
        agent: the agent that the member acts as; None: the API key's.
        options: the ``clearfloor`` object of the body.
    """

    title: str
    expected: Outcome
    faults: tuple[Mapping[str, Any], ...] = ()
    agent: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the body of the request."""
        body: dict[str, Any] = {"model": "auto", "messages": _MESSAGES}
        return {**body, "clearfloor": dict(self.options)} if self.options else body


# So low that what feedback has taught in the meantime does not change who answers.
_EASY = {"floor": 0.5}
SCENES = (
    Scene(
        "A plain request: the cheapest model that clears the floor answers",
        Outcome(200, "succeeded", ((CHEAPEST_MODEL, "succeeded", 1),)),
        options=_EASY,
    ),
    Scene(
        "The provider answers 429 once: the same attempt waits and calls again",
        Outcome(200, "succeeded", ((CHEAPEST_MODEL, "succeeded", 2),)),
        faults=(_RATE_LIMITED,),
        options=_EASY,
    ),
    Scene(
        "The provider answers 503: the next model that clears the floor takes over",
        Outcome(200, "succeeded", ((CHEAPEST_MODEL, "failed", 1), ("sim-medium", "succeeded", 1))),
        faults=(_OVERLOADED,),
        options=_EASY,
    ),
    Scene(
        "The agent `capped` could pass its cap: refused before any call",
        Outcome(429, "rejected_cap"),
        agent="capped",
    ),
    Scene(
        "A floor of 0.99: no model clears it",
        Outcome(422, "rejected_no_candidate"),
        options={"floor": 0.99},
    ),
)
