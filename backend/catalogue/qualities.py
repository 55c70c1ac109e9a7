"""What a model's qualities are by the catalogue and by what was published, side by side, and the lines that tell it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from backend.catalogue.published import PUBLISHED, Figure, Published


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue: the names that its providers give it, and its qualities as they are."""

    name: str
    upstream_models: frozenset[str]
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """What was published of a model.

    Attributes:
        note: of which published model, or why it cannot be told which.
        figures: what is to be written.
        kept: figures of the catalogue's that are the operator's own, where something else was published.
    """

    model: Model
    note: str
    figures: Sequence[Figure] = field(default=())
    kept: Sequence[Figure] = field(default=())

    def lines(self) -> Iterator[str]:
        """Yield what an operator reads: one line, and one more for each figure that is to be written, or is kept."""
        new = "new qualities" if self.figures else "qualities unchanged"
        yield f"{self.model.name}: {new} ({self.note})"
        old = {figure.task: figure for figure in self.model.figures}
        for figure in self.figures:
            before = f"{old[figure.task].quality:g} -> " if figure.task in old else ""
            yield f"  {figure.task} {before}{figure.quality:g} ({figure.source}, {figure.measured_on})"
        for figure in self.kept:
            yield f"  {figure.task} {figure.quality:g} is kept: it is your own ({figure.source})"


def compare_qualities(model: Model, published: Mapping[str, Published] = PUBLISHED) -> QualityFinding | None:
    """Compare a model's qualities with the published ones; None if nothing was published of it."""
    found = {name: published[name] for name in sorted(model.upstream_models & published.keys())}
    names = sorted({entry.name for entry in found.values()})
    if not names:
        return None
    if len(names) > 1:
        return QualityFinding(model, f"its candidates are several models: {', '.join(names)}")
    there = {figure.task: figure for figure in model.figures}
    other = [figure for figure in next(iter(found.values())).figures if there.get(figure.task) != figure]
    kept = [there[figure.task] for figure in other if not _may_change(there.get(figure.task))]
    written = [figure for figure in other if _may_change(there.get(figure.task))]
    return QualityFinding(model, f"as {names[0]}", written, kept)


def _may_change(current: Figure | None) -> bool:
    return current is None or current.is_published
