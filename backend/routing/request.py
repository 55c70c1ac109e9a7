"""What routing is asked: the few facts of a request that decide where it can go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Rule = Literal["cheapest_clearing_floor", "pinned_model"]


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """A request as routing sees it. Recorded with the decision, so that it can be computed again.

    Attributes:
        rule: ``pinned_model`` where the caller named a model, else ``cheapest_clearing_floor``.
        model: the pinned model, or None.
        floor: least predicted quality, 0 to 1; None: any (only with a pinned model).
        task: the task class, the caller's or :func:`backend.routing.task.classify`'s.
        text_bytes: size of the request's body without what media it holds. It bounds the tokens of the text: a token is at
            least one byte.
        choices: how many answers are asked for (``n``).
        output_limit_tokens: limit of each answer, the caller's or the agent's default.
        media: how many parts of each kind (``image``, ``file``, ``audio``) it has.
        fields: names of the body's fields, sorted.
        needs: capabilities that the request cannot do without.
        max_cost_nano_usd: the most that the caller lets a candidate cost, or None.
        models: models the caller restricts the choice to, sorted, or None.
        clamp: whether the output limit may be lowered to what wallet and caps have left.
    """

    rule: Rule
    model: str | None
    floor: float | None
    task: str
    text_bytes: int
    choices: int
    output_limit_tokens: int
    media: Mapping[str, int] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    max_cost_nano_usd: int | None = None
    models: tuple[str, ...] | None = None
    clamp: bool = False

    def allows(self, model: str) -> bool:
        """Tell whether the caller lets a model answer: the pinned one, or one of those it names."""
        return self.model in (None, model) and (self.models is None or model in self.models)

    def to_record(self) -> dict[str, Any]:
        """Return the request as JSON for the decision's row."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Build the request again from a decision's row."""
        models = record["models"]
        return cls(
            **{
                **record,
                "fields": tuple(record["fields"]),
                "needs": tuple(record["needs"]),
                "models": None if models is None else tuple(models),
            }
        )
