"""What a candidate costs by the catalogue and by the library, side by side, and the lines that tell it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from genai_prices.types import Provider

from backend.prices.candidate import Candidate
from backend.prices.library import PROVIDERS, NotKnownError, NotRepresentableError, list_price
from backend.routing.catalogue import PriceTier
from backend.units import usd

Tiers = tuple[PriceTier, ...]

_CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")


class Verdict(StrEnum):
    """What comes of a comparison."""

    UNCHANGED = "unchanged"
    NEW_PRICE = "new price"
    FIRST_PRICE = "first price"
    NOT_KNOWN = "not known to the library"
    NOT_REPRESENTABLE = "not representable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the library says of a candidate.

    Attributes:
        tiers: what is to be written; None where the price is kept as it is.
        note: by which of its models, or why not.
    """

    candidate: Candidate
    verdict: Verdict
    note: str
    tiers: Tiers | None = None

    def lines(self) -> Iterator[str]:
        """Yield what an operator reads: one line, and one more for each tier of a price that is to be written."""
        kept = ", kept as it is" if self.verdict in (Verdict.NOT_KNOWN, Verdict.NOT_REPRESENTABLE) else ""
        yield f"{self.candidate.provider} {self.candidate.model}: {self.verdict}{kept} ({self.note})"
        for start, differences in _changes(self.candidate, self.tiers):
            yield f"  above {start} input tokens, USD per million: {', '.join(differences)}"


def compare(candidate: Candidate, moment: datetime, providers: Sequence[Provider] = PROVIDERS) -> Finding:
    """Compare a candidate's current price with the library's at a moment."""
    try:
        listed = list_price(candidate, moment, providers)
    except NotKnownError as error:
        return Finding(candidate, Verdict.NOT_KNOWN, str(error))
    except NotRepresentableError as error:
        return Finding(candidate, Verdict.NOT_REPRESENTABLE, str(error))
    note = f"as {listed.listed_as}"
    if candidate.current is None:
        return Finding(candidate, Verdict.FIRST_PRICE, note, listed.tiers)
    if not _changes(candidate, listed.tiers):
        return Finding(candidate, Verdict.UNCHANGED, note)
    return Finding(candidate, Verdict.NEW_PRICE, note, listed.tiers)


def _changes(candidate: Candidate, tiers: Tiers | None) -> list[tuple[int, list[str]]]:
    """Return what differs, from each number of input tokens at which a tier of either price begins."""
    if tiers is None:
        return []
    old = candidate.current.tiers if candidate.current else ()
    starts = sorted({tier.above_input_tokens for tier in (*old, *tiers)})
    changes = [(start, _differences(_above(old, start), _above(tiers, start))) for start in starts]
    return [(start, differences) for start, differences in changes if differences]


def _above(tiers: Tiers, tokens: int) -> PriceTier | None:
    """Return the tier of a call with more than so many input tokens; None without a price."""
    return next((tier for tier in reversed(tiers) if tier.above_input_tokens <= tokens), None)


def _differences(old: PriceTier | None, new: PriceTier | None) -> list[str]:
    """Return the classes of tokens that cost something else, as ``output 8 -> 10``; of a first price, all."""
    amounts = [(name, getattr(old, name, None), getattr(new, name)) for name in _CLASSES]
    return [
        f"{name} {usd(now)}" if before is None else f"{name} {usd(before)} -> {usd(now)}"
        for name, before, now in amounts
        if before != now
    ]
