"""A candidate as far as the library can tell of it."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Provider:
    """An enabled provider of the catalogue."""

    name: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What can be asked of a candidate: limits in tokens, and capabilities."""

    context_window_tokens: int
    max_output_tokens: int
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who runs which model under which name; ``current``: None where the catalogue does not have it yet."""

    id: UUID
    provider: Provider
    model: str
    upstream_model: str
    current: Profile | None
    enabled: bool = True
