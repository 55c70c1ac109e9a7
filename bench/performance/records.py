"""The rows that the bench needs before it starts, and what it reads back: by SQL, past the gateway."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from backend.ids import uuid7
from backend.stack.stack import Stack
from bench.performance.provider import BROKEN, INSTANT, SLOW, USAGE

FUNDS_NANO_USD = 10**15
INPUT_NANO_USD_PER_MTOK = 500_000_000
OUTPUT_NANO_USD_PER_MTOK = 1_000_000_000
# What the cheapest candidate's answer costs.
COST_NANO_USD = (
    USAGE["prompt_tokens"] * INPUT_NANO_USD_PER_MTOK + USAGE["completion_tokens"] * OUTPUT_NANO_USD_PER_MTOK
) // 10**6
# Of the instant provider: what ``auto`` chooses among. The cheapest clears the floor of the agents.
CHEAPEST_MODEL = "instant-small"
_QUALITIES = {CHEAPEST_MODEL: 0.72, "instant-medium": 0.84, "instant-large": 0.93}
# Without a quality, so only by name.
_NAMED = (SLOW, BROKEN)


@dataclass(frozen=True)
class Wallet:
    """An organization with funds, and the keys of its agents."""

    organization_id: UUID
    agent_ids: tuple[UUID, ...]
    api_keys: tuple[str, ...]


@dataclass(frozen=True)
class Totals:
    """What was recorded since a moment."""

    decisions: Counter[str]
    attempts: Counter[str]
    http_calls: int
    charged_nano_usd: int


class Records:
    """Writes and reads rows as the superuser."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def add_catalogue(self, provider_url: str) -> None:
        """Write the mock provider's candidates: three that ``auto`` ranks, and a slow and a broken one by name."""
        for behaviour in (INSTANT, SLOW, BROKEN):
            base_url = f"{provider_url}/{behaviour}/v1"
            self._run("insert into public.providers (name, base_url) values (%s, %s)", behaviour, base_url)
        for dearness, (model, quality) in enumerate(_QUALITIES.items(), 1):
            self._add_candidate(INSTANT, model, dearness)
            self._run(
                "insert into public.model_qualities (model, task, quality, source, measured_on) "
                "values (%s, 'general', %s, 'bench', '2026-01-01')",
                *(model, quality),
            )
        for behaviour in _NAMED:
            self._add_candidate(behaviour, behaviour, 1)

    def add_wallet(self, agents: int = 1) -> Wallet:
        """Make an organization with funds for any measure, and a key for each of its agents."""
        organization_id = uuid7()
        with self._connection.transaction():
            self._run("insert into public.organizations (id, name) values (%s, 'bench')", organization_id)
            made = [self._add_agent(organization_id, f"agent {number}") for number in range(agents)]
            self._run("select public.top_up_wallet(%s, %s, %s)", uuid7(), organization_id, FUNDS_NANO_USD)
        return Wallet(organization_id, tuple(agent for agent, _ in made), tuple(key for _, key in made))

    def now(self) -> datetime:
        """Return the database's time."""
        (now,) = self._one("select clock_timestamp()")
        return now if isinstance(now, datetime) else datetime.fromisoformat(now)

    def totals(self, since: datetime) -> Totals:
        """Count what was opened since then. What is not completed yet counts as ``open``."""
        decisions = self._connection.execute(
            "select coalesce(outcome_status, 'open'), count(*), coalesce(sum(charge_nano_usd), 0)::bigint "
            "from public.routing_outcomes where opened_at >= %s group by 1",
            [since],
        ).fetchall()
        attempts = self._connection.execute(
            "select status, count(*), sum(http_calls)::bigint from public.inferences where opened_at >= %s group by 1",
            [since],
        ).fetchall()
        return Totals(
            decisions=Counter({status: count for status, count, _ in decisions}),
            attempts=Counter({status: count for status, count, _ in attempts}),
            http_calls=sum(calls for _, _, calls in attempts),
            charged_nano_usd=sum(charged for _, _, charged in decisions),
        )

    def faults(self, since: datetime) -> list[str]:
        """Return what breaks the record or the money, and every wallet that still holds something."""
        broken = self._connection.execute(
            "select invariant, subject_id, detail from public.gateway_invariants(%s)", [since]
        ).fetchall()
        holding = self._connection.execute(
            "select 'nothing_is_held', organization_id, held_nano_usd from public.wallets where held_nano_usd <> 0"
        ).fetchall()
        return [" ".join(map(str, row)) for row in (*broken, *holding)]

    def decisions(self) -> int:
        """Return how many decisions there are."""
        (count,) = self._one("select count(*) from public.routing_outcomes")
        return int(count)

    def catalogue(self) -> tuple[list[tuple[UUID, UUID]], int]:
        """Return the candidates with their prices, and the catalogue's version."""
        rows = self._connection.execute("select candidate_id, id from public.prices order by id").fetchall()
        (version,) = self._one("select (public.read_catalogue() ->> 'version')::bigint")
        return [(candidate, price) for candidate, price in rows], int(version)

    def settle_balances(self) -> None:
        """Let every wallet have what its ledger says, after entries were filled in past the functions that write both."""
        self._run(
            "update public.wallets as wallet set balance_nano_usd = books.balance from ("
            "select organization_id, sum(case when credit_account = 'wallet' then amount_nano_usd else 0 end "
            "- case when debit_account = 'wallet' then amount_nano_usd else 0 end) as balance "
            "from public.ledger_entries group by organization_id"
            ") as books where books.organization_id = wallet.organization_id"
        )

    def server_version(self) -> str:
        """Return Postgres' version."""
        (version,) = self._one("select current_setting('server_version')")
        return str(version)

    def _add_candidate(self, provider: str, model: str, dearness: int) -> None:
        candidate_id = uuid7()
        self._run("insert into public.models (name) values (%s)", model)
        self._run(
            "insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, "
            "max_output_tokens) values (%s, %s, %s, %s, 128000, 8192)",
            *(candidate_id, provider, model, model),
        )
        into, out = INPUT_NANO_USD_PER_MTOK * dearness, OUTPUT_NANO_USD_PER_MTOK * dearness
        self._run(
            "insert into public.prices (id, candidate_id, tiers, source) "
            "values (%s, %s, array[%s]::public.price_tier[], 'bench')",
            *(uuid7(), candidate_id, f"(0,{into},{into},{into},{into},{out},{out})"),
        )

    def _add_agent(self, organization_id: UUID, name: str) -> tuple[UUID, str]:
        agent_id, key = uuid7(), f"cf_{secrets.token_urlsafe(30)}"
        self._run(
            "insert into public.agents (id, organization_id, name) values (%s, %s, %s)",
            *(agent_id, organization_id, name),
        )
        self._run(
            "insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash) "
            "values (%s, %s, %s, 'bench', %s, %s)",
            *(uuid7(), organization_id, agent_id, key[:9], hashlib.sha256(key.encode()).digest()),
        )
        return agent_id, key

    def _run(self, statement: LiteralString, *values: object) -> None:
        self._connection.execute(statement, values)

    def _one(self, statement: LiteralString) -> tuple[Any, ...]:
        row = self._connection.execute(statement).fetchone()
        return row or (None,)


@contextmanager
def open_records(stack: Stack) -> Iterator[Records]:
    """Connect to a stack's database."""
    with psycopg.connect(stack.endpoints.superuser_url, autocommit=True) as connection:
        yield Records(connection)
