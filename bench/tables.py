"""Medians, spreads and the tables they are printed in."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

_PERCENT = 100


@dataclass(frozen=True)
class Spread:
    """Median with the first and third quartile of some timings, in the timings' unit."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


def percentile(values: Sequence[float], share: int) -> float:
    """Return the value below which ``share`` percent of at least one value lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // _PERCENT)]


def ratios(these: Sequence[float], those: Sequence[float]) -> Spread:
    """Summarise how many times ``those`` each of ``these`` takes, against the median of ``those``."""
    base = median(those)
    return Spread.of([value / base for value in these])


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> None:
    """Print one table as Markdown, a note below it."""
    body = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[at]) for row in [list(columns), *body]) for at in range(len(columns))]
    lines = [_line(columns, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    lines += [_line(row, widths) for row in body]
    sys.stdout.write("\n".join([f"\n## {title}\n", *lines, *(["", note] if note else [])]) + "\n")
    sys.stdout.flush()


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
