"""Rows that a test needs before it starts: tenants with funds, agents and keys; candidates with prices.

Every name is made anew, so that tests share one catalogue without meeting.
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier, Placeholder

from backend.ids import uuid7

NANO_USD_PER_USD = 1_000_000_000
INPUT_NANO_USD_PER_MTOK = 500_000_000
OUTPUT_NANO_USD_PER_MTOK = 1_000_000_000
DEFAULT_MAX_OUTPUT_TOKENS = 100


@dataclass(frozen=True)
class Tenant:
    """An organization with one agent, one key of it and one member who acts as it."""

    organization_id: UUID
    agent_id: UUID
    agent_name: str
    api_key_id: UUID
    api_key: str
    user_id: UUID


@dataclass(frozen=True)
class Candidate:
    """A (provider, model) pair that only one test knows."""

    id: UUID
    provider: str
    model: str
    upstream_model: str
    price_id: UUID


class Rows:
    """Makes and reads rows as the superuser, past row level security and the write path's functions."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self._connection = connection

    def query(self, statement: str, **parameters: object) -> list[DictRow]:
        """Run a statement; return its rows, if it has any."""
        cursor = self._connection.execute(SQL(statement), parameters)  # tests write them
        return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, **values: object) -> None:
        """Insert one row into a table of `public`."""
        statement = SQL("insert into public.{} ({}) values ({})").format(
            Identifier(table),
            SQL(", ").join(map(Identifier, values)),
            SQL(", ").join(map(Placeholder, values)),
        )
        self._connection.execute(statement, values)

    def tenant(self, *, balance_nano_usd: int = NANO_USD_PER_USD, default_floor: float = 0.5) -> Tenant:
        """Make a tenant with so much in its wallet."""
        organization_id, user_id = uuid7(), uuid7()
        self.insert("organizations", id=organization_id, name=f"organization {organization_id}")
        agent_id = self.agent(organization_id, "first agent", default_floor=default_floor)
        key_id, key = self.api_key(organization_id, agent_id)
        self.member(organization_id, user_id, agent_id)
        if balance_nano_usd:
            self.top_up(organization_id, balance_nano_usd)
        return Tenant(organization_id, agent_id, "first agent", key_id, key, user_id)

    def agent(self, organization_id: UUID, name: str, *, default_floor: float = 0.5) -> UUID:
        """Make an agent."""
        agent_id = uuid7()
        self.insert(
            "agents",
            id=agent_id,
            organization_id=organization_id,
            name=name,
            default_floor=default_floor,
            default_max_output_tokens=DEFAULT_MAX_OUTPUT_TOKENS,
        )
        return agent_id

    def api_key(self, organization_id: UUID, agent_id: UUID) -> tuple[UUID, str]:
        """Make a key; return its id and the key itself."""
        key_id, key = uuid7(), f"cf_{secrets.token_urlsafe(32)}"
        self.insert(
            "api_keys",
            id=key_id,
            organization_id=organization_id,
            agent_id=agent_id,
            name="key",
            display_prefix=key[:8],
            key_hash=hashlib.sha256(key.encode()).digest(),
        )
        return key_id, key

    def user(self, user_id: UUID) -> UUID:
        """Make a user, unless it is there."""
        self.query(
            "insert into auth.users (id, email) values (%(id)s, %(email)s) on conflict do nothing",
            id=user_id,
            email=f"{user_id}@example.test",
        )
        return user_id

    def member(
        self, organization_id: UUID, user_id: UUID, agent_id: UUID | None, *, role: str = "member"
    ) -> None:
        """Make a user (unless it is there) a member who acts as an agent by default."""
        self.insert(
            "organization_members",
            organization_id=organization_id,
            user_id=self.user(user_id),
            role=role,
            default_agent_id=agent_id,
        )

    def top_up(self, organization_id: UUID, amount_nano_usd: int) -> None:
        """Put funds into a wallet."""
        self.query(
            "select public.top_up_wallet(%(entry)s, %(organization)s, %(amount)s, 'test')",
            entry=uuid7(),
            organization=organization_id,
            amount=amount_nano_usd,
        )

    def cap(
        self, organization_id: UUID, agent_id: UUID | None, limit_nano_usd: int, *, window: str = "lifetime"
    ) -> None:
        """Set a cap."""
        self.query(
            "select public.set_spend_cap(%(cap)s, %(organization)s, %(agent)s, %(window)s, %(limit)s)",
            cap=uuid7(),
            organization=organization_id,
            agent=agent_id,
            window=window,
            limit=limit_nano_usd,
        )

    def rate_limit(
        self,
        organization_id: UUID,
        agent_id: UUID | None,
        *,
        requests: int | None = None,
        tokens: int | None = None,
    ) -> None:
        """Set the requests and tokens a minute."""
        self.query(
            "select public.set_rate_limit(%(limit)s, %(organization)s, %(agent)s, %(requests)s, %(tokens)s)",
            limit=uuid7(),
            organization=organization_id,
            agent=agent_id,
            requests=requests,
            tokens=tokens,
        )

    def provider(self, base_url: str, **columns: object) -> str:
        """Make a provider."""
        name = f"provider-{uuid7().hex}"
        self.insert("providers", name=name, base_url=base_url, **columns)
        return name

    def candidate(
        self, provider: str, *, dearness: int = 1, quality: float = 0.9, priced: bool = True, **columns: Any
    ) -> Candidate:
        """Make a model and its one candidate, ``dearness`` times as dear as the cheapest. ``columns`` are the candidate's."""
        candidate_id, unique = uuid7(), secrets.token_hex(8)
        made = Candidate(candidate_id, provider, f"model-{unique}", f"vendor/upstream-{unique}", uuid7())
        self.insert("models", name=made.model)
        self.insert(
            "model_qualities",
            model=made.model,
            task="general",
            quality=quality,
            source="test",
            measured_on="2026-01-01",
        )
        limits = {"context_window_tokens": 100_000, "max_output_tokens": 10_000}
        self.insert(
            "candidates",
            id=candidate_id,
            provider=provider,
            model=made.model,
            upstream_model=made.upstream_model,
            **limits | columns,
        )
        if priced:
            self.price(made, made.price_id, dearness)
        return made

    def price(
        self, candidate: Candidate, price_id: UUID, dearness: int, *, valid_from: datetime | None = None
    ) -> None:
        """Give a candidate its newest price."""
        into, out = INPUT_NANO_USD_PER_MTOK * dearness, OUTPUT_NANO_USD_PER_MTOK * dearness
        self.query(
            "insert into public.prices (id, candidate_id, valid_from, tiers, source) values (%(id)s, %(candidate)s,"
            " coalesce(%(valid_from)s, now()), array[%(tier)s]::public.price_tier[], 'test')",
            id=price_id,
            candidate=candidate.id,
            valid_from=valid_from,
            tier=f"(0,{into},{into},{into},{into},{out},{out})",
        )


@contextmanager
def open_rows(superuser_url: str) -> Iterator[Rows]:
    """Connect to a stack's database."""
    with psycopg.connect(superuser_url, autocommit=True, row_factory=dict_row) as connection:
        yield Rows(connection)
