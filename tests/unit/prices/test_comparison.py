"""What an operator reads of a candidate's price and the library's."""

from dataclasses import replace

from genai_prices.types import ModelPrice

from backend.prices.candidate import CurrentPrice
from backend.prices.comparison import Finding, Verdict, compare
from backend.routing.catalogue import PriceTier
from tests.unit.prices.samples import MOMENT, candidate, library, model, rates, stepped

USD = 1_000_000_000
BASE = PriceTier(0, 2 * USD, 2 * USD, 2 * USD, 2 * USD, 8 * USD, 8 * USD)


def found(price: ModelPrice, *current: PriceTier) -> Finding:
    """Compare what a candidate costs with what the library says."""
    seeker = candidate(current=CurrentPrice(MOMENT, current) if current else None)
    return compare(seeker, MOMENT, [library(model(price))])


def test_the_same_price_is_unchanged() -> None:
    """There is nothing to write."""
    finding = found(rates(), BASE)
    assert (finding.verdict, finding.tiers) == (Verdict.UNCHANGED, None)
    assert list(finding.lines()) == ["acme my-model: unchanged (as acme/large)"]


def test_a_tier_that_changes_nothing_is_no_difference() -> None:
    """What calls cost is compared, not how it is written."""
    assert found(rates(), BASE, replace(BASE, above_input_tokens=200)).verdict == Verdict.UNCHANGED
    assert found(rates(input_mtok=stepped("2", above_200="2")), BASE).verdict == Verdict.UNCHANGED


def test_a_first_price_is_told_in_full() -> None:
    """By class, in US dollars."""
    finding = found(rates(cache_read_mtok="0.125"))
    assert finding.verdict == Verdict.FIRST_PRICE
    assert finding.tiers == (replace(BASE, cache_read=USD // 8),)
    name, price = finding.lines()
    assert name == "acme my-model: first price (as acme/large)"
    assert price == (
        "  above 0 input tokens, USD per million: input 2, cache_read 0.125, cache_write 2, cache_write_1h 2,"
        " output 8, reasoning 8"
    )


def test_a_new_price_is_told_by_what_differs() -> None:
    """From old to new, also where only one of the two has a tier."""
    old = (replace(BASE, output=6 * USD), replace(BASE, above_input_tokens=100, output=12 * USD))
    finding = found(rates(output_mtok=stepped("8", above_200="12"), output_reasoning_mtok="8"), *old)
    assert finding.verdict == Verdict.NEW_PRICE
    assert list(finding.lines()) == [
        "acme my-model: new price (as acme/large)",
        "  above 0 input tokens, USD per million: output 6 -> 8",
        "  above 100 input tokens, USD per million: output 12 -> 8",
    ]


def test_what_is_not_known_or_not_representable_is_kept_with_the_reason() -> None:
    """There is nothing to write, and one line says why."""
    unknown = compare(candidate(upstream_model="huge"), MOMENT, [library(model(rates()))])
    refused = found(rates(requests_kcount="5"), BASE)
    assert (unknown.tiers, refused.tiers) == (None, None)
    assert [*unknown.lines(), *refused.lines()] == [
        "acme my-model: not known to the library, kept as it is (acme has no model huge there)",
        "acme my-model: not representable, kept as it is (the library has a rate requests_kcount for it)",
    ]
