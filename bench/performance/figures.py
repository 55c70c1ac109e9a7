"""What was measured: figures by scenario, gateway and metric, one a round."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """The median of the rounds, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Summarise at least one value."""
        return cls(median(values), min(values), max(values))

    def show(self, decimals: int) -> str:
        """Return it as a table's cell; the spread is left out where it cannot be seen."""
        middle, least, most = (f"{value:,.{decimals}f}" for value in (self.median, self.least, self.most))
        return middle if least == most else f"{middle} ({least}-{most})"


class Figures:
    """Every figure of a run."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, scenario: str, gateway: str, metrics: Mapping[str, float]) -> None:
        """Add what one round has measured."""
        for metric, value in metrics.items():
            self._values[scenario, gateway, metric].append(value)

    def get(self, scenario: str, gateway: str, metric: str) -> Figure | None:
        """Return a figure, or None where nothing was measured."""
        values = self._values.get((scenario, gateway, metric))
        return Figure.of(values) if values else None

    def last(self, scenario: str, gateway: str, metric: str) -> float:
        """Return the latest round's value."""
        return self._values[scenario, gateway, metric][-1]
