"""What the catalogue and the library say of a candidate, side by side, and the lines that tell it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from backend.catalogue.candidate import Candidate, Profile, Provider
from backend.catalogue.library import (
    LIBRARY,
    Library,
    Listing,
    NotKnownError,
    NotRepresentableError,
    find_listing,
    find_listings,
    find_provider,
)


class Verdict(StrEnum):
    """What comes of a comparison."""

    UNCHANGED = "unchanged"
    NEW_PROFILE = "new limits or capabilities"
    NEW_CANDIDATE = "new candidate"
    NOT_KNOWN = "not known to the library"
    NOT_REPRESENTABLE = "not representable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the library says of a candidate.

    Attributes:
        profile: what is to be written; None where the row is kept as it is, or none is made.
        name: what people call the model; empty if the library does not have it.
        note: by which of its models, with what is worth knowing; or why not.
    """

    candidate: Candidate
    verdict: Verdict
    note: str
    name: str = ""
    profile: Profile | None = None

    def lines(self) -> Iterator[str]:
        """Yield what an operator reads: one line, and one more for what is to be written."""
        is_refused = self.verdict in (Verdict.NOT_KNOWN, Verdict.NOT_REPRESENTABLE)
        kept = ", kept as it is" if is_refused and self.candidate.current else ""
        yield f"{self.candidate.provider.name} {self.candidate.model}: {self.verdict}{kept} ({self.note})"
        if self.profile:
            yield f"  {', '.join(_differences(self.candidate.current, self.profile))}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model of a provider that the catalogue does not have, and could."""

    provider: str
    model: str
    released: str

    def line(self) -> str:
        """Return what an operator reads."""
        return f"{self.provider} {self.model}: could be added (released {self.released})"


def compare(candidate: Candidate, library: Library = LIBRARY) -> Finding:
    """Compare a candidate, one of the catalogue's or a new one, with the library."""
    try:
        listing = find_listing(find_provider(candidate.provider, library), candidate.upstream_model)
    except NotKnownError as error:
        return Finding(candidate, Verdict.NOT_KNOWN, str(error))
    except NotRepresentableError as error:
        return Finding(candidate, Verdict.NOT_REPRESENTABLE, str(error))
    note, profile = _note(candidate, listing), listing.profile(candidate.current)
    if candidate.current is None:
        return Finding(candidate, Verdict.NEW_CANDIDATE, note, listing.name, profile)
    if candidate.current == profile:
        return Finding(candidate, Verdict.UNCHANGED, note, listing.name)
    return Finding(candidate, Verdict.NEW_PROFILE, note, listing.name, profile)


def find_offers(
    provider: Provider, candidates: Iterable[Candidate], library: Library = LIBRARY
) -> list[Offer]:
    """Return the models that the catalogue could have and does not, without those that are deprecated."""
    there = {candidate.upstream_model for candidate in candidates if candidate.provider == provider}
    try:
        listed = find_provider(provider, library)
    except NotKnownError:
        return []
    return [
        Offer(provider.name, model, listing.released)
        for model, listing in find_listings(listed)
        if model not in there and not listing.deprecated
    ]


def _note(candidate: Candidate, listing: Listing) -> str:
    has = candidate.current.capabilities if candidate.current else frozenset()
    notes = [f"as {listing.listed_as}"]
    if listing.deprecated:
        notes.append("deprecated there")
    if listing.media - has:
        notes.append(
            f"without {', '.join(sorted(listing.media - has))}, whose tokens the library does not bound"
        )
    return "; ".join(notes)


def _differences(old: Profile | None, new: Profile) -> Iterator[str]:
    """Yield the limits and capabilities that become others, as ``max_output_tokens 4096 -> 8192``; of a first one, all."""
    for name in ("context_window_tokens", "max_output_tokens"):
        before, now = getattr(old, name, None), getattr(new, name)
        if before != now:
            yield f"{name} {now}" if before is None else f"{name} {before} -> {now}"
    had = old.capabilities if old else frozenset()
    changes = [f"+{name}" for name in sorted(new.capabilities - had)]
    changes += [f"-{name}" for name in sorted(had - new.capabilities)]
    if changes:
        yield f"capabilities {' '.join(changes)}"
