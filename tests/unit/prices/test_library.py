"""List prices become tiers exactly, or are refused with the reason."""

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import ceil
from typing import Any

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
    Usage,
)
from hypothesis import given
from hypothesis import strategies as st

from backend.prices.candidate import Candidate
from backend.prices.library import (
    PROVIDERS,
    NotKnownError,
    NotRepresentableError,
    Rate,
    convert,
    list_price,
)
from backend.routing.catalogue import PriceTier
from tests.unit.prices.samples import MOMENT, candidate, library, model, rates, stepped

USD = 1_000_000_000
TOKENS = st.integers(0, 3_000) | st.integers(0, 10**7)


def cost(tiers: tuple[PriceTier, ...], used: tuple[int, ...]) -> int:
    """Return what tokens cost at tiers, as `private.cost_nano_usd` settles it; the classes in the order of a tier's."""
    tier = [tier for tier in tiers if tier.above_input_tokens < max(sum(used[:4]), 1)][-1]
    rates = (tier.input, tier.cache_read, tier.cache_write, tier.cache_write_1h, tier.output, tier.reasoning)
    return -(-sum(tokens * rate for tokens, rate in zip(used, rates, strict=True)) // 1_000_000)


def library_cost(price: ModelPrice, used: tuple[int, ...]) -> int:
    """Return what the library says they cost, rounded up to nano-USD."""
    into, cache_read, cache_write, cache_write_1h, out, reasoning = used
    usage = Usage(
        input_tokens=into + cache_read + cache_write + cache_write_1h,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write + cache_write_1h,
        cache_write_1h_tokens=cache_write_1h,
        output_tokens=out + reasoning,
        output_reasoning_tokens=reasoning,
    )
    return ceil(price.calc_price(usage)["total_price"] * USD)


def listed(entry: ModelInfo, moment: datetime = MOMENT, **changes: Any) -> tuple[PriceTier, ...]:
    """Return the tiers of a candidate whose model the library has as given."""
    return list_price(candidate(**changes), moment, [library(entry)]).tiers


def reason(entry: ModelInfo, **changes: Any) -> str:
    """Return why its price is refused."""
    with pytest.raises(NotRepresentableError) as refusal:
        listed(entry, **changes)
    return str(refusal.value)


def test_classes_without_a_rate_cost_what_contains_them() -> None:
    """Cache reads and writes are input, reasoning is output."""
    assert listed(model(rates())) == (PriceTier(0, 2 * USD, 2 * USD, 2 * USD, 2 * USD, 8 * USD, 8 * USD),)


def test_every_class_has_its_rate() -> None:
    """None takes another's."""
    price = rates(
        input_mtok="1",
        cache_read_mtok="0.1",
        cache_write_mtok="1.25",
        cache_write_1h_mtok="3",
        output_mtok="5",
        output_reasoning_mtok="6",
    )
    assert listed(model(price), usage_convention="anthropic") == (
        PriceTier(0, USD, USD // 10, USD * 5 // 4, 3 * USD, 5 * USD, 6 * USD),
    )


@pytest.mark.parametrize(("convention", "expected"), [("openai", 2.5), ("gemini", 2.5), ("anthropic", 4)])
def test_writes_for_an_hour_cost_twice_the_input_where_tokens_count_as_anthropics(
    convention: str, expected: float
) -> None:
    """And elsewhere what other writes cost; if the library does not say."""
    (tier,) = listed(model(rates(cache_write_mtok="2.5")), usage_convention=convention)
    assert (tier.cache_write, tier.cache_write_1h) == (2.5 * USD, expected * USD)


def test_tiers_begin_wherever_a_class_has_one() -> None:
    """A class without a tier there costs what it did; the 2 times of writes for an hour are of the tier's own input."""
    price = rates(
        input_mtok=stepped("2", above_200="4"), output_mtok=stepped("8", above_100="10", above_200="12")
    )
    tiers = listed(model(price), usage_convention="anthropic")
    assert [(tier.above_input_tokens, tier.input // USD, tier.output // USD) for tier in tiers] == [
        (0, 2, 8),
        (100, 2, 10),
        (200, 4, 12),
    ]
    assert [tier.cache_write_1h // USD for tier in tiers] == [4, 4, 8]


def test_a_tier_begins_above_its_start() -> None:
    """At exactly so many tokens the library still charges the lower rate, and so do we."""
    price = rates(input_mtok=stepped("2", above_200="4"))
    tiers = listed(model(price))
    for tokens in (199, 200, 201):
        used = (tokens, 0, 0, 0, 0, 0)
        assert cost(tiers, used) == library_cost(price, used) == tokens * (4000 if tokens > 200 else 2000)


def amounts() -> st.SearchStrategy[Decimal]:
    """Draw a rate that is a whole number of nano-USD, up to 100 USD."""
    return st.integers(0, 100 * USD).map(lambda nano: Decimal(nano).scaleb(-9))


@st.composite
def representable(draw: st.DrawFn) -> dict[str, Rate]:
    """Draw the rates of a model. There are none for a class within one that has none: the library takes no such price."""
    names = ["input_mtok", "output_mtok"]
    names += draw(st.lists(st.sampled_from(["cache_read_mtok", "output_reasoning_mtok"]), unique=True))
    names += draw(st.sampled_from([[], ["cache_write_mtok"], ["cache_write_mtok", "cache_write_1h_mtok"]]))
    return {
        name: draw(amounts() | st.builds(stepped_by, amounts(), st.dictionaries(STARTS, amounts())))
        for name in names
    }


STARTS = st.integers(1, 3_000)


def stepped_by(base: Decimal, above: dict[int, Decimal]) -> TieredPrices:
    """Return a rate with the given tiers."""
    return stepped(str(base), **{f"above_{start}": str(usd) for start, usd in above.items()})


@given(price=representable(), used=st.tuples(*[TOKENS] * 6))
def test_any_call_costs_what_the_library_says(price: dict[str, Rate], used: tuple[int, ...]) -> None:
    """Whatever the rates, the tiers and the classes; rounded up once."""
    assert cost(convert(price, "openai"), used) == library_cost(ModelPrice(**price), used)


@pytest.mark.parametrize("used", [(1, 0, 0, 0, 1, 0), (70_001, 50, 7, 0, 9, 3), (1_500_000, 1, 2, 3, 4, 5)])
def test_every_price_of_the_library_is_exact_or_refused(used: tuple[int, ...]) -> None:
    """All that the installed version has, at what the library itself finds for the moment."""
    exact = refused = 0
    for provider in PROVIDERS:
        for entry in provider.models:
            alone = replace(provider, models=[replace(entry, match=ClauseEquals(entry.id))])
            seeker = candidate(provider=provider.id, base_url="http://proxy.test", upstream_model=entry.id)
            try:
                tiers = list_price(seeker, MOMENT, [alone]).tiers
            except NotRepresentableError:
                refused += 1
                continue
            exact += 1
            assert cost(tiers, used) == library_cost(entry.get_prices(MOMENT), used), entry.id
    assert exact > 5 * refused > 0


@pytest.mark.parametrize(
    ("usd", "expected"),
    [
        ("0.0833333333333333", "input_mtok is 0.0833333333333333 USD, no whole number of nano-USD"),
        # More digits than a product of decimals keeps.
        ("1.0000000000000000000000000000000000001", "no whole number of nano-USD"),
        ("-1", "input_mtok is -1"),
        ("NaN", "input_mtok is NaN"),
        ("Infinity", "input_mtok is Infinity"),
        ("10000.000000001", "a rate is above 10000 USD per million tokens"),
    ],
)
def test_an_amount_that_the_table_cannot_hold_is_refused(usd: str, expected: str) -> None:
    """It is never rounded."""
    assert expected in reason(model(rates(input_mtok=usd)))


def test_the_dearest_amount_of_the_table_is_taken() -> None:
    """And the least."""
    (tier,) = listed(model(rates(input_mtok="10000", cache_read_mtok="0.000000001", output_mtok="0")))
    assert (tier.input, tier.cache_read, tier.output) == (10_000 * USD, 1, 0)


@pytest.mark.parametrize("name", ["input_mtok", "output_mtok"])
def test_a_model_without_a_rate_for_input_or_output_is_refused(name: str) -> None:
    """The library has no price for it, which does not make it free."""
    price = rates()
    delattr(price, name)
    assert f"no {name}" in reason(model(price))


def test_a_model_without_any_price_is_refused() -> None:
    """Likewise."""
    assert "no input_mtok" in reason(model([]))


def test_a_tier_from_the_first_token_on_is_refused() -> None:
    """It and the base rate would begin at the same place."""
    assert "a tier begins at 0" in reason(model(rates(input_mtok=stepped("2", above_0="3"))))


@pytest.mark.parametrize(
    "name",
    [
        "requests_kcount",
        "input_document_kpages",
        "input_mchars",
        "output_image_mtok",
        "output_citation_mtok",
        "cache_write_5m_mtok",
        "nobody_knows_mtok",
    ],
)
def test_what_is_not_paid_by_our_classes_of_tokens_is_refused(name: str) -> None:
    """Whatever the candidate is capable of."""
    assert reason(model(rates(**{name: "1"}))) == f"the library has a rate {name} for it"


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("input_audio_mtok", "audio"),
        ("cache_audio_read_mtok", "audio"),
        ("output_audio_mtok", "audio"),
        ("input_audio_mtok", "files"),
        ("input_image_mtok", "vision"),
        ("cache_image_read_mtok", "files"),
        ("input_video_mtok", "files"),
    ],
)
def test_a_rate_of_a_medium_is_refused_where_the_candidate_takes_it(name: str, capability: str) -> None:
    """Elsewhere there are no such tokens."""
    entry = model(rates(**{name: "1"}))
    assert reason(entry, capabilities=frozenset({capability, "json"})).endswith(
        f"capabilities have {capability}"
    )
    assert listed(entry, capabilities=frozenset({"json", "tools"})) == listed(model(rates()))


def test_searches_are_left_out_only_where_they_cannot_be_asked_for() -> None:
    """They are paid by the call, and asked for by a field."""
    entry = model(rates(web_searches_kcount="10"))
    assert listed(entry) == listed(model(rates()))
    assert "web_searches_kcount" in reason(entry, refused_fields=frozenset())


@pytest.mark.parametrize(
    ("when", "refused_field"),
    [
        ({"speed": "fast"}, "speed"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"search_type": "fast"}, "web_search_options"),
        ({"something_new": "x"}, "something_new"),
    ],
)
def test_a_variant_that_a_request_may_choose_is_refused(when: dict[str, str], refused_field: str) -> None:
    """Unless its provider refuses the field that chooses it."""
    entry = model(rates(), price_variants=[PriceVariant(when, rates(input_mtok="4"))])
    assert f"`{refused_field}`" in reason(entry, refused_fields=frozenset())
    assert listed(entry, refused_fields=frozenset({refused_field})) == listed(model(rates()))


@pytest.mark.parametrize(
    ("when", "price"), [({"processing": "batch"}, rates(input_mtok="1")), ({"speed": "fast"}, ModelPrice())]
)
def test_a_variant_that_no_request_meets_does_not_matter(when: dict[str, str], price: ModelPrice) -> None:
    """Batches go elsewhere, and one without rates changes nothing."""
    entry = model(rates(), price_variants=[PriceVariant(when, price)])
    assert listed(entry, refused_fields=frozenset()) == listed(model(rates()))


NIGHT = TimeOfDateConstraint(time(0, tzinfo=UTC), time(6, tzinfo=UTC))
SUMMER = StartDateConstraint(date(2026, 6, 1))
NEXT_YEAR = StartDateConstraint(date(2027, 1, 1))


def conditional(*constraints: StartDateConstraint | TimeOfDateConstraint | None) -> ModelInfo:
    """Return a model with a price under each condition: 1 USD for input, then 2, 3 …."""
    return model(
        [ConditionalPrice(c, prices=rates(input_mtok=str(i))) for i, c in enumerate(constraints, start=1)]
    )


@pytest.mark.parametrize(
    ("entry", "input_usd"),
    [
        (conditional(None, SUMMER), 2),
        (conditional(None, SUMMER, NEXT_YEAR), 2),
        (conditional(None, NEXT_YEAR), 1),
        (conditional(NEXT_YEAR), 1),
        # Over since summer.
        (conditional(None, NIGHT, SUMMER), 3),
    ],
)
def test_of_dated_prices_the_last_that_has_begun_counts(entry: ModelInfo, input_usd: int) -> None:
    """As the library has it."""
    (tier,) = listed(entry)
    assert tier.input == input_usd * USD == entry.get_prices(MOMENT).__dict__["input_mtok"] * USD


@pytest.mark.parametrize("hour", [3, 12])
@pytest.mark.parametrize("entry", [conditional(None, NIGHT), conditional(None, SUMMER, NIGHT, NEXT_YEAR)])
def test_a_price_by_the_time_of_day_is_refused(entry: ModelInfo, hour: int) -> None:
    """At any time of day."""
    with pytest.raises(NotRepresentableError, match="time of day"):
        listed(entry, MOMENT.replace(hour=hour))


ACME = library(model(rates()))
OTHER = library(model(rates(input_mtok="7")), identity="other", url=r"https://other\.test")


@pytest.mark.parametrize(
    ("changes", "provider"),
    [
        ({}, "acme"),
        ({"provider": "our-acme"}, "acme"),
        ({"base_url": "http://proxy.test/v1"}, "acme"),
        ({"provider": "whatever", "base_url": "https://other.test/v1"}, "other"),
        ({"upstream_model": "LARGE"}, "acme"),
    ],
)
def test_a_provider_is_known_by_its_name_or_its_base_url(changes: dict[str, str], provider: str) -> None:
    """By the library's own id and pattern."""
    assert list_price(candidate(**changes), MOMENT, [OTHER, ACME]).listed_as == f"{provider}/large"


@pytest.mark.parametrize(
    ("seeker", "expected"),
    [
        (candidate(provider="x", base_url="http://x.test"), "neither the name x nor its base URL"),
        (candidate(upstream_model="huge"), "acme has no model huge"),
        (
            candidate(base_url="https://other.test/v1"),
            "the name is that of acme there, and the base URL that of other",
        ),
    ],
)
def test_what_the_library_does_not_have_is_said(seeker: Candidate, expected: str) -> None:
    """One provider's name on another's URL is as good as unknown: one of the two prices would be wrong."""
    with pytest.raises(NotKnownError, match=expected):
        list_price(seeker, MOMENT, [OTHER, ACME])


def test_a_provider_sells_what_the_library_says_it_resells() -> None:
    """The library's own matching finds it."""
    reseller = replace(
        library(identity="reseller", url=r"https://r\.test"), fallback_model_providers=["acme"]
    )
    found = list_price(candidate(provider="reseller", base_url="https://r.test"), MOMENT, [reseller, ACME])
    assert found.tiers[0].input == 2 * USD
