"""What an operator reads of decisions that were computed again."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from backend.replay.comparison import Change, Compared, Finding
from backend.replay.decision import Choice
from backend.units import usd

MOST_NAMED = 10
_REFUSED = "refused"


def replay_lines(replayed: Compared[Finding]) -> Iterator[str]:
    """Yield each decision that differs or cannot be computed, and the counts."""
    for finding in replayed.differing:
        yield f"{finding.decision_id}: differs: {finding.told}"
    yield from _not_recomputable(replayed.not_recomputable)
    equal = replayed.asked - len(replayed.differing) - len(replayed.not_recomputable)
    yield (
        f"{replayed.asked} decisions: {equal} equal, {len(replayed.differing)} differ,"
        f" {len(replayed.not_recomputable)} cannot be computed"
    )


def change_lines(changed: Compared[Change]) -> Iterator[str]:
    """Yield who answers instead of whom, how often and at what difference, with the first decisions, and the counts."""
    routes = sorted(changed.differing, key=_route)
    for (old, new), changes in groupby(routes, key=_route):
        yield from _route_lines(old, new, list(changes))
    yield from _not_recomputable(changed.not_recomputable)
    yield (
        f"{changed.asked} decisions: {len(changed.differing)} change, {len(changed.not_recomputable)} cannot be"
        f" computed; expected cost {_difference(changed.differing)}"
    )


def limit_lines(compared: Compared[Any], most: int) -> Iterator[str]:
    """Yield that there may be more decisions, where as many were asked as may be."""
    if compared.asked == most:
        yield f"Only the newest {most} were asked: --most NUMBER asks more."


def _route(change: Change) -> tuple[str, str]:
    return _named(change.old), _named(change.new)


def _named(choice: Choice | None) -> str:
    return choice.candidate if choice else _REFUSED


def _route_lines(old: str, new: str, changes: Sequence[Change]) -> Iterator[str]:
    cost = "" if _REFUSED in (old, new) else f", expected cost {_difference(changes)}"
    yield f"{old} -> {new}: {len(changes)}{cost}"
    yield from (f"  {change.decision_id}" for change in changes[:MOST_NAMED])
    if len(changes) > MOST_NAMED:
        yield f"  and {len(changes) - MOST_NAMED} more"


def _difference(changes: Sequence[Change]) -> str:
    """Return the sum of what there is to compare, as ``+0.0021 USD``."""
    nano_usd = sum(change.expected_cost_difference_nano_usd or 0 for change in changes)
    sign = "+" if nano_usd > 0 else ""
    return f"{sign}{usd(nano_usd)} USD"


def _not_recomputable(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.decision_id}: cannot be computed: {finding.told}"
