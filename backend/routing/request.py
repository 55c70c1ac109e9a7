"""What routing is asked: the few facts of a request that decide where it can go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Rule = Literal["cheapest_clearing_floor", "pinned_model"]
OnMiss = Literal["reject", "best"]
Posterior = tuple[tuple[str, float], ...]
# Another one whenever a ranking may come out otherwise for the same inputs.
RULE_VERSION = 1


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """A request as routing sees it. Recorded with the decision, so that it can be computed again.

    Attributes:
        rule: ``pinned_model`` where the caller named a model, else ``cheapest_clearing_floor``.
        model: the pinned model, or None.
        floor: least predicted quality, 0 to 1; None: any (only with a pinned model).
        task: the task class, the caller's, or the most probable one.
        posterior: the classes it may be in, each with its probability, the most probable first; they sum to 1. Empty: it is in
            ``task``.
        classifier: digest of the classifier's weights, where it was one that found them.
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
        on_miss: what becomes of a request whose floor nobody clears: ``reject``, or ``best``: the best there is.
        strict: whether the floor is held against the lower bound of the quality, not the quality.
        explores: whether a cheaper candidate that may clear the floor, though it is not expected to, comes before those that are.
        quality_per_usd: how much quality a US dollar of expected cost weighs, among what does not clear.
        rate_snapshot: the version of the learned rates, or None before there is one.
        rule_version: that of the rule and its constants: a request of another one cannot be ranked again here.
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
    posterior: Posterior = ()
    classifier: str | None = None
    on_miss: OnMiss = "reject"
    strict: bool = False
    explores: bool = False
    quality_per_usd: float = 0.0
    rate_snapshot: int | None = None
    rule_version: int = RULE_VERSION

    @property
    def classes(self) -> Posterior:
        """The classes it may be in, with their probabilities."""
        return self.posterior or ((self.task, 1.0),)

    def allows(self, model: str) -> bool:
        """Tell whether the caller lets a model answer: the pinned one, or one of those it names."""
        return self.model in (None, model) and (self.models is None or model in self.models)

    def to_record(self) -> dict[str, Any]:
        """Return the request as JSON for the decision's row."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Build the request again from a decision's row.

        Raises:
            ValueError: it was ranked by another version of the rule.
        """
        if record["rule_version"] != RULE_VERSION:
            raise ValueError(f"it was ranked by version {record['rule_version']} of the rule")
        models = record["models"]
        return cls(
            **{
                **record,
                "fields": tuple(record["fields"]),
                "needs": tuple(record["needs"]),
                "models": None if models is None else tuple(models),
                "posterior": tuple((task, probability) for task, probability in record["posterior"]),
            }
        )
