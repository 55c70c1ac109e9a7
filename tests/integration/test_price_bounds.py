"""What is reserved covers what is charged, whatever the price and whatever the provider reports."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.providers.usage import CONVENTIONS
from backend.routing.catalogue import Price, PriceTier
from backend.stack.stack import Stack

MIGRATION = Path("supabase/migrations/20261124000300_create_catalogue.sql")
# Free, the least there is, what is common, and the most that the table takes.
AMOUNTS = st.sampled_from([0, 1, 100_000_000, 2_500_000_001, 10**13])
TOKENS = st.integers(0, 3_000) | st.sampled_from([10**6, 10**9])
Connection = psycopg.Connection[tuple[int]]


@pytest.fixture(scope="module")
def connection(stack: Stack) -> Iterator[Connection]:
    """Connect as the superuser."""
    with psycopg.connect(stack.endpoints.superuser_url, autocommit=True) as opened:
        yield opened


@st.composite
def tiers(draw: st.DrawFn) -> tuple[PriceTier, ...]:
    """Draw a price's tiers."""
    thresholds = sorted({0, *draw(st.lists(st.integers(1, 3_000), max_size=3))})
    return tuple(PriceTier(above, *(draw(AMOUNTS) for _ in range(6))) for above in thresholds)


def cost(connection: Connection, price: tuple[PriceTier, ...], tokens: tuple[int, ...]) -> int:
    """Return what tokens cost, by the database, which settles."""
    text = [
        f"({tier.above_input_tokens},{tier.input},{tier.cache_read},{tier.cache_write},{tier.cache_write_1h},"
        f"{tier.output},{tier.reasoning})"
        for tier in price
    ]
    found = connection.execute(
        "select private.cost_nano_usd(%s::public.price_tier[], %s::private.tokens)",
        (text, f"({','.join(map(str, tokens))})"),
    ).fetchone()
    assert found
    return found[0]


@given(
    price=tiers(),
    tokens=st.tuples(*[TOKENS] * 6),
    slack_in=st.integers(0, 500),
    slack_out=st.integers(0, 500),
)
def test_no_report_within_the_stated_bound_costs_more_than_was_reserved(
    connection: Connection,
    price: tuple[PriceTier, ...],
    tokens: tuple[int, ...],
    slack_in: int,
    slack_out: int,
) -> None:
    """However it is split into classes, whatever tier it falls in: only more tokens than stated can be an overrun."""
    bound = Price(UUID(int=1), price).bound(sum(tokens[:4]) + slack_in, sum(tokens[4:]) + slack_out)
    assert cost(connection, price, tokens) <= bound


@given(price=tiers(), input_tokens=TOKENS, nano_usd=st.integers(0, 10**16))
def test_what_is_affordable_is_within_the_amount_and_a_token_more_is_not(
    price: tuple[PriceTier, ...], input_tokens: int, nano_usd: int
) -> None:
    """A clamped call costs at most what it was granted, and is not clamped further than it must be."""
    version = Price(UUID(int=1), price)
    affordable = version.affordable_output(nano_usd, input_tokens)
    if affordable is None:
        assert version.bound(input_tokens, 10**9) == version.bound(input_tokens, 0)
        return
    assert version.bound(input_tokens, max(affordable, 0) + 1) > nano_usd
    if affordable >= 0:
        assert (
            version.bound(input_tokens, affordable) <= nano_usd or version.bound(input_tokens, 0) > nano_usd
        )


@given(price=tiers(), input_tokens=TOKENS, output_tokens=TOKENS)
def test_routing_and_the_ledger_agree_on_what_plain_tokens_cost(
    connection: Connection, price: tuple[PriceTier, ...], input_tokens: int, output_tokens: int
) -> None:
    """One rule in two languages: at which tier, and rounded up once."""
    expected = Price(UUID(int=1), price).cost(input_tokens, output_tokens)
    assert cost(connection, price, (input_tokens, 0, 0, 0, output_tokens, 0)) == expected


def test_the_catalogue_takes_every_convention_that_the_backend_reads() -> None:
    """And no other: a provider of one that is not there would bring every call down."""
    found = re.search(r"usage_convention in \((.*?)\)", MIGRATION.read_text())
    assert found
    assert sorted(re.findall(r"'(\w+)'", found[1])) == sorted(CONVENTIONS)
