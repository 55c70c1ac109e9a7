"""What was learned from feedback and from answers, as it was published: an immutable snapshot with an id."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class RateSnapshot:
    """Rates and lengths of answers, by task class.

    Attributes:
        id: what a decision records, so that it can be computed again. None: nothing was published yet.
        prior_strength: how many trials the quality that the catalogue has is worth.
        learned: sums of feedback by model and task class: successes, and the trials they are of.
        output_tokens: how long an answer is on average, by task class.
    """

    id: int | None = None
    prior_strength: float = 12.0
    learned: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    output_tokens: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_record(cls, snapshot_id: int, record: Mapping[str, Any]) -> Self:
        """Build a snapshot from what ``read_catalogue`` has of it."""
        return cls(
            id=snapshot_id,
            prior_strength=float(record["prior_strength"]),
            learned={
                model: {
                    task: (float(successes), float(trials)) for task, (successes, trials) in tasks.items()
                }
                for model, tasks in record["learned"].items()
            },
            output_tokens={task: float(tokens) for task, tokens in record["output_tokens"].items()},
        )


NO_RATES = RateSnapshot()
