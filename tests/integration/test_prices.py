"""`clearfloor prices` writes the library's prices as new versions, once, and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from genai_prices import calc_price
from genai_prices.types import Usage

from backend import cli
from backend.operator_database import open_transaction
from backend.prices.command import compare_all
from backend.prices.comparison import Verdict, compare
from backend.prices.database import (
    STATEMENT_TIMEOUT_MILLISECONDS,
    read_candidates,
    read_moment,
    wait_for_other_writers,
    write_prices,
)
from backend.prices.library import SOURCE
from backend.routing.catalogue import PriceTier
from backend.stack.stack import Stack
from tests.support.commands import one_line
from tests.support.databases import new_database
from tests.support.polling import eventually
from tests.support.tenant import NANO_USD_PER_USD, Candidate, Rows, open_rows

PLAIN = "gpt-4o-mini"
TIERED = "gemini-2.5-pro"
REFUSED = "gpt-audio"
OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
# Input without cache, cache reads, output without reasoning, reasoning; below and above the tier of TIERED.
CALLS = [(70_001, 1_000, 999, 1), (200_001, 1_000, 999, 1)]


class Shop:
    """Providers of one test and their candidates, with the command run against them alone."""

    def __init__(self, rows: Rows, url: str) -> None:
        self.rows = rows
        self.url = url
        self.providers: list[str] = []

    def provider(self, base_url: str) -> str:
        """Make a provider."""
        self.providers.append(self.rows.provider(base_url))
        return self.providers[-1]

    def candidate(self, provider: str, upstream_model: str, **columns: Any) -> Candidate:
        """Make a candidate with a price that nobody lists, and of no quality that another test would want."""
        made = self.rows.candidate(provider, quality=0, **columns)
        self.rows.query(
            "update public.candidates set upstream_model = %(name)s where id = %(id)s",
            name=upstream_model,
            id=made.id,
        )
        return made

    def run(self, action: str, provider: str) -> int:
        """Run the command."""
        return cli.main(["prices", action, self.url, "--provider", provider])

    def versions(self, candidate: Candidate) -> list[tuple[UUID, datetime, str]]:
        """Return a candidate's price versions, the newest last."""
        found = self.rows.query(
            "select id, valid_from, source from public.prices where candidate_id = %(id)s order by valid_from",
            id=candidate.id,
        )
        return [(row["id"], row["valid_from"], row["source"]) for row in found]

    def cost(self, candidate: Candidate, call: tuple[int, int, int, int]) -> int:
        """Return what a call costs at the current price, as the database settles it."""
        into, cache_read, out, reasoning = call
        (row,) = self.rows.query(
            "select private.cost_nano_usd(tiers, %(tokens)s::private.tokens) as cost from public.prices"
            " where candidate_id = %(id)s and valid_from <= now() order by valid_from desc limit 1",
            tokens=f"({into},{cache_read},0,0,{out},{reasoning})",
            id=candidate.id,
        )
        return int(row["cost"])


@pytest.fixture
def shop(stack: Stack) -> Iterator[Shop]:
    """Open a shop; it closes with the test, so that nobody else's requests go there."""
    with open_rows(stack.endpoints.superuser_url) as rows:
        shop = Shop(rows, stack.endpoints.database_url)
        yield shop
        rows.query(
            "update public.providers set enabled = false where name = any(%(names)s)", names=shop.providers
        )


def listed_cost(model: str, provider: str, call: tuple[int, int, int, int]) -> int:
    """Return what the library itself says a call costs, rounded up."""
    into, cache_read, out, reasoning = call
    usage = Usage(
        input_tokens=into + cache_read,
        cache_read_tokens=cache_read,
        output_tokens=out + reasoning,
        output_reasoning_tokens=reasoning,
    )
    price = calc_price(usage, model, provider_id=provider, genai_request_timestamp=datetime.now(UTC))
    return ceil(price.total_price * NANO_USD_PER_USD)


@pytest.mark.parametrize(
    ("model", "base_url", "listed_by"), [(PLAIN, OPENAI, "openai"), (TIERED, GOOGLE, "google")]
)
def test_a_price_is_shown_then_written_and_then_unchanged(
    shop: Shop, capsys: pytest.CaptureFixture[str], model: str, base_url: str, listed_by: str
) -> None:
    """The ledger then charges what the library says, and the earlier version stays."""
    provider = shop.provider(base_url)
    candidate = shop.candidate(provider, model)
    before = shop.versions(candidate)

    assert shop.run("diff", provider) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{provider} {candidate.model}: new price (as {listed_by}/{model})"
    assert shown[-1].startswith(f"{SOURCE}: 1 price versions to write;")
    assert shop.versions(candidate) == before

    assert shop.run("apply", provider) == 0
    written = capsys.readouterr().out.splitlines()
    assert written[:-1] == shown[:-1]
    assert written[-1].startswith(f"{SOURCE}: 1 price versions written;")
    after = shop.versions(candidate)
    assert after[:-1] == before
    identity, valid_from, source = after[-1]
    assert (identity.version, source) == (7, SOURCE)
    assert before[-1][1] < valid_from < datetime.now(UTC)
    for call in CALLS:
        assert shop.cost(candidate, call) == listed_cost(model, listed_by, call)

    for action in ("apply", "diff"):
        assert shop.run(action, provider) == 0
        first, last = capsys.readouterr().out.splitlines()
        assert first == f"{provider} {candidate.model}: unchanged (as {listed_by}/{model})"
        assert last.startswith(f"{SOURCE}: 0 price versions")
    assert shop.versions(candidate) == after


def test_a_candidate_without_a_price_gets_its_first(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """One whose price is yet to come has none either; what is to come stays."""
    provider = shop.provider(OPENAI)
    candidates = [shop.candidate(provider, PLAIN, priced=False) for _ in range(2)]
    shop.rows.price(candidates[1], candidates[1].price_id, 1, valid_from=datetime(2999, 1, 1, tzinfo=UTC))

    assert shop.run("apply", provider) == 0
    assert capsys.readouterr().out.count(": first price (as openai/gpt-4o-mini)") == 2
    assert [len(shop.versions(candidate)) for candidate in candidates] == [1, 2]
    for candidate in candidates:
        assert shop.cost(candidate, CALLS[0]) == listed_cost(PLAIN, "openai", CALLS[0])


def test_what_the_library_does_not_know_or_cannot_say_is_kept(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its reason; neither keeps the others from being written."""
    provider = shop.provider(OPENAI)
    unknown = shop.candidate(provider, "nobody-runs-this")
    refused = shop.candidate(provider, REFUSED, capabilities=["audio"], max_audio_tokens=1_000)
    disabled = shop.candidate(provider, PLAIN, enabled=False)
    known = shop.candidate(provider, PLAIN)

    assert shop.run("apply", provider) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"{provider} {unknown.model}: not known to the library, kept as it is"
        " (openai has no model nobody-runs-this there)" in lines
    )
    assert any(
        line.startswith(f"{provider} {refused.model}: not representable, kept as it is (") for line in lines
    )
    assert not any(disabled.model in line for line in lines)
    counts = [len(shop.versions(candidate)) for candidate in (unknown, refused, disabled, known)]
    assert counts == [1, 1, 1, 2]


def test_only_the_enabled_candidates_of_the_named_provider_are_touched(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A provider that is switched off has none."""
    named, other = shop.provider(OPENAI), shop.provider(OPENAI)
    bystander = shop.candidate(other, PLAIN)
    shop.candidate(named, PLAIN)
    assert shop.run("apply", named) == 0
    assert len(shop.versions(bystander)) == 1

    shop.rows.query("update public.providers set enabled = false where name = %(name)s", name=named)
    capsys.readouterr()
    assert shop.run("diff", named) == 2
    assert one_line(capsys) == f"clearfloor prices: the provider {named} has no enabled candidate."


async def test_a_writer_that_waited_for_another_finds_nothing_to_write(shop: Shop) -> None:
    """It looks at the prices of when it had its turn, not of when it came."""
    provider = shop.provider(OPENAI)
    candidate = shop.candidate(provider, PLAIN)

    async def waits() -> bool:
        return bool(shop.rows.query("select pid from pg_locks where locktype = 'advisory' and not granted"))

    with ThreadPoolExecutor(1) as pool:
        with transaction(shop.url) as connection:
            wait_for_other_writers(connection)
            second = pool.submit(compare_all, shop.url, provider, apply=True)
            await eventually(waits, "the second writer waits")
            moment = datetime.now(UTC)
            (found,) = [compare(read, moment) for read in read_candidates(connection, moment, provider)]
            write_prices(connection, [(found.candidate, found.tiers or ())], moment, SOURCE)
        assert [finding.verdict for finding in second.result()] == [Verdict.UNCHANGED]
    assert len(shop.versions(candidate)) == 2


def test_a_version_of_the_very_same_moment_is_in_nobodys_way(shop: Shop) -> None:
    """The new one is valid a microsecond later."""
    provider = shop.provider(OPENAI)
    candidate = shop.candidate(provider, PLAIN)
    ((_, moment, _),) = shop.versions(candidate)
    with transaction(shop.url) as connection:
        (read,) = read_candidates(connection, moment, provider)
        write_prices(connection, [(read, (tier(1),))], moment, "test")
    assert [(when - moment).microseconds for _, when, _ in shop.versions(candidate)] == [0, 1]


def test_every_price_is_written_or_none(shop: Shop) -> None:
    """One that the table refuses undoes the others."""
    provider = shop.provider(OPENAI)
    candidates = [shop.candidate(provider, PLAIN) for _ in range(2)]

    def write() -> None:
        with transaction(shop.url) as connection:
            moment = read_moment(connection)
            first, second = read_candidates(connection, moment, provider)
            write_prices(connection, [(first, (tier(1),)), (second, (tier(-1),))], moment, "test")

    with pytest.raises(psycopg.errors.CheckViolation):
        write()
    assert [len(shop.versions(candidate)) for candidate in candidates] == [1, 1]


def test_showing_cannot_write(shop: Shop) -> None:
    """The transaction of `diff` is read-only by the database's own word."""
    provider = shop.provider(OPENAI)
    shop.candidate(provider, PLAIN)

    def write() -> None:
        with transaction(shop.url, read_only=True) as connection:
            moment = read_moment(connection)
            (read,) = read_candidates(connection, moment, provider)
            write_prices(connection, [(read, (tier(1),))], moment, "test")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        write()


def test_a_database_without_a_catalogue_is_refused(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 2, and says what is missing."""
    with new_database(stack, tmp_path) as database:
        assert cli.main(["prices", "apply", database.url]) == 2
    assert one_line(capsys) == (
        'clearfloor prices: this database has no catalogue: relation "public.candidates" does not exist.'
    )


def transaction(url: str, *, read_only: bool = False) -> AbstractContextManager[psycopg.Connection]:
    """Open a transaction as the command does."""
    return open_transaction(
        url, statement_timeout_milliseconds=STATEMENT_TIMEOUT_MILLISECONDS, read_only=read_only
    )


def tier(amount: int) -> PriceTier:
    """Return a tier from 0 with one amount for all classes."""
    return PriceTier(0, amount, amount, amount, amount, amount, amount)
