"""Decisions side by side: as recorded and as recomputed, by one catalogue and by another. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from backend.replay.decision import Choice, Decision, Entry, NotRecomputableError, as_recorded, recompute
from backend.routing.catalogue import Catalogue
from backend.routing.rank import Ranking

Difference = TypeVar("Difference")
# By which catalogue a decision is taken as made; may raise NotRecomputableError.
CatalogueOf = Callable[[Decision], Catalogue]

_NO_ENTRY: Mapping[str, object] = {}


class Finding(NamedTuple):
    """A decision, and what there is to say of it."""

    decision_id: UUID
    told: str


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that another catalogue makes otherwise. None: no candidate clears the floor, and it is refused.

    ``old_cost_now_nano_usd`` is what the old choice is expected to cost by the new catalogue, where another one comes first there
    and it is still in it.
    """

    decision_id: UUID
    old: Choice | None
    new: Choice | None
    old_cost_now_nano_usd: int | None = None

    @property
    def expected_cost_difference_nano_usd(self) -> int | None:
        """What the new choice is expected to cost more; less than 0 if it is cheaper, None without two to compare.

        Both by the new catalogue, where that has both: it has other lengths of answers, too, for which no choice is to blame.
        """
        if self.old is None or self.new is None:
            return None
        known = self.old_cost_now_nano_usd
        return self.new.expected_cost_nano_usd - (self.old.expected_cost_nano_usd if known is None else known)


@dataclass(frozen=True, slots=True)
class Compared(Generic[Difference]):
    """How many decisions were asked, which come out otherwise, and which this version cannot compute."""

    asked: int
    differing: Sequence[Difference]
    not_recomputable: Sequence[Finding]


def replay(decisions: Iterable[Decision], catalogue_of: CatalogueOf) -> Compared[Finding]:
    """Compute decisions again by the catalogues that they had, and compare their whole rankings with the record."""

    def differs(decision: Decision) -> Finding | None:
        told = _difference(decision.ranking, as_recorded(recompute(decision, catalogue_of(decision))))
        return Finding(decision.id, told) if told else None

    return _compare(decisions, differs)


def changed_decisions(
    decisions: Iterable[Decision], old: CatalogueOf, new: Catalogue | CatalogueOf
) -> Compared[Change]:
    """Tell whose first choice, or its expected cost, is another one by a new catalogue than by an old one."""

    def changes(decision: Decision) -> Change | None:
        before = Choice.of(recompute(decision, old(decision)))
        ranking = recompute(decision, new if isinstance(new, Catalogue) else new(decision))
        after = Choice.of(ranking)
        return Change(decision.id, before, after, _cost_now(before, ranking)) if before != after else None

    return _compare(decisions, changes)


def _cost_now(old: Choice | None, ranking: Ranking) -> int | None:
    """Return what a choice is expected to cost by a ranking in which it is not the first, in nano-USD; None where it is not."""
    others = (*ranking.eligible[1:], *ranking.rejected)
    costs = {(s.candidate.provider, s.candidate.model): s.expected_cost_nano_usd for s in others}
    return costs.get((old.provider, old.model)) if old else None


def _compare(
    decisions: Iterable[Decision], compare: Callable[[Decision], Difference | None]
) -> Compared[Difference]:
    asked = 0
    differing: list[Difference] = []
    not_recomputable: list[Finding] = []
    for decision in decisions:
        asked += 1
        try:
            difference = compare(decision)
        except NotRecomputableError as error:
            not_recomputable.append(Finding(decision.id, str(error)))
            continue
        if difference is not None:
            differing.append(difference)
    return Compared(asked, differing, not_recomputable)


def _difference(recorded: Sequence[Entry], recomputed: Sequence[Entry]) -> str | None:
    """Return the first place of two rankings that differs, in words; None where they are equal."""
    pairs = zip_longest(recorded, recomputed, fillvalue=_NO_ENTRY)
    for place, (was, now) in enumerate(pairs, start=1):
        fields = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
        if fields:
            changes = ", ".join(f"{name} {was.get(name)} -> {now.get(name)}" for name in fields)
            return f"place {place}, recorded -> recomputed: {changes}"
    return None
