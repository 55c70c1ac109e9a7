"""The catalogue's candidates with their current prices, and new price versions."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import psycopg

from backend.ids import uuid7
from backend.prices.candidate import Candidate, CurrentPrice
from backend.routing.catalogue import PriceTier

# A catalogue is some hundred rows.
STATEMENT_TIMEOUT_MILLISECONDS = 60_000

_ONE_WRITER = "select pg_advisory_xact_lock(hashtextextended('clearfloor.prices', 0))"
# Not now(): that is when the transaction began, before it waited for another writer's prices.
_MOMENT = "select clock_timestamp()"
_CANDIDATES = """
    select
        candidate.id, candidate.provider, candidate.model, candidate.upstream_model, provider.base_url,
        provider.usage_convention, provider.refused_fields, candidate.capabilities, price.valid_from,
        to_jsonb(price.tiers)
    from public.candidates as candidate
    inner join public.providers as provider on candidate.provider = provider.name and provider.enabled
    left join lateral (
        select valid_from, tiers from public.prices
        where candidate_id = candidate.id and valid_from <= %(moment)s
        order by valid_from desc
        limit 1
    ) as price on true
    where candidate.enabled and (%(provider)s::text is null or candidate.provider = %(provider)s)
    order by candidate.provider, candidate.model
"""
_INSERT = """
    insert into public.prices (id, candidate_id, valid_from, tiers, source)
    values (%s, %s, %s, %s::public.price_tier[], %s)
"""
_SHORTEST = timedelta(microseconds=1)


def wait_for_other_writers(connection: psycopg.Connection) -> None:
    """Let no other transaction of this command read or write until this one ends: what it reads stays the newest."""
    connection.execute(_ONE_WRITER)


def read_moment(connection: psycopg.Connection) -> datetime:
    """Return the time by the database's clock."""
    moment: datetime = connection.execute(_MOMENT).fetchall()[0][0]
    return moment


def read_candidates(
    connection: psycopg.Connection, moment: datetime, provider: str | None = None
) -> list[Candidate]:
    """Return the enabled candidates, of one provider or of all, with the prices that are current at a moment."""
    rows = connection.execute(_CANDIDATES, {"moment": moment, "provider": provider})
    return [
        Candidate(
            id=identity,
            provider=name,
            model=model,
            upstream_model=upstream_model,
            base_url=base_url,
            usage_convention=usage_convention,
            refused_fields=frozenset(refused_fields),
            capabilities=frozenset(capabilities),
            current=CurrentPrice(valid_from, tuple(map(PriceTier.from_record, tiers))) if tiers else None,
        )
        for (
            identity,
            name,
            model,
            upstream_model,
            base_url,
            usage_convention,
            refused_fields,
            capabilities,
            valid_from,
            tiers,
        ) in rows
    ]


def write_prices(
    connection: psycopg.Connection,
    prices: Iterable[tuple[Candidate, tuple[PriceTier, ...]]],
    moment: datetime,
    source: str,
) -> None:
    """Write a price version for each candidate, valid from the moment at which its current one was read."""
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT,
            [
                (
                    uuid7(),
                    candidate.id,
                    _valid_from(candidate, moment),
                    [_text(tier) for tier in tiers],
                    source,
                )
                for candidate, tiers in prices
            ],
        )


def _valid_from(candidate: Candidate, moment: datetime) -> datetime:
    """Return a time at which the candidate has no version yet: the current one may be of this very microsecond."""
    if candidate.current is None:
        return moment
    return max(moment, candidate.current.valid_from + _SHORTEST)


def _text(tier: PriceTier) -> str:
    amounts = (
        tier.input,
        tier.cache_read,
        tier.cache_write,
        tier.cache_write_1h,
        tier.output,
        tier.reasoning,
    )
    return f"({tier.above_input_tokens},{','.join(map(str, amounts))})"
