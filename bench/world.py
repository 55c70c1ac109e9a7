"""A world to measure in: a stack, a catalogue, tenants with funds, and the items that the write path takes."""

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from backend.ids import uuid7
from backend.stack.stack import Stack

BOUND_NANO_USD = 1_000_000
FUNDS_NANO_USD = 10**15
# More than any wallet or cap here can take: refused, and its organization's batch goes item by item.
GIANT_BOUND_NANO_USD = 2 * FUNDS_NANO_USD
LEASE_SECONDS = 60
KEY_SECONDS = 86_400
METERED_TOKENS = 1_500
CANDIDATES = 5
WINDOWS = ("hour", "day", "month")

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Tenant:
    """An organization with one agent and one key."""

    organization_id: UUID
    agent_id: UUID
    api_key_id: UUID


@dataclass(frozen=True)
class World:
    """What the measurements run against. ``capped`` tenants have four caps that all apply to a decision."""

    stack: Stack
    free: list[Tenant]
    capped: list[Tenant]
    candidates: list[tuple[UUID, UUID]]
    catalogue_version: int

    def connect(self, role: LiteralString = "service_role") -> Connection:
        """Open a connection that acts as a role of the Data API."""
        connection = psycopg.connect(self.stack.endpoints.database_url, autocommit=True)
        connection.execute(b"set role " + role.encode())
        return connection

    def superuser(self) -> Connection:
        """Open a connection that may do anything."""
        return psycopg.connect(self.stack.endpoints.superuser_url, autocommit=True)

    def opening(self, tenant: Tenant, *, bound_nano_usd: int = BOUND_NANO_USD) -> dict[str, Any]:
        """Return one item of insert_decisions, with every field that the backend sends."""
        candidate_id, price_id = random.choice(self.candidates)  # noqa: S311 - spreads load, guards nothing
        return {
            "id": str(uuid7()),
            "organization_id": str(tenant.organization_id),
            "agent_id": str(tenant.agent_id),
            "api_key_id": str(tenant.api_key_id),
            "user_id": None,
            "requested_model": "auto",
            "requested_rule": "cheapest_clearing_floor",
            "floor": 0.7,
            "task": "general",
            "stream": False,
            "catalogue_version": self.catalogue_version,
            "metered_tokens": METERED_TOKENS,
            "dearest_price_id": str(price_id),
            "baseline_price_id": str(price_id),
            "idempotency_key": None,
            "body_hash": None,
            "routing_request": routing_request(),
            "candidates": [scored(*pair) for pair in self.candidates],
            "passed_over": [],
            "lease_seconds": LEASE_SECONDS,
            "key_seconds": KEY_SECONDS,
            "inference_id": str(uuid7()),
            "candidate_id": str(candidate_id),
            "price_id": str(price_id),
            "bound_nano_usd": bound_nano_usd,
            "least_bound_nano_usd": None,
        }


def routing_request() -> dict[str, Any]:
    """Return what the backend records of a request, at its usual size."""
    return {
        "rule": "cheapest_clearing_floor",
        "model": None,
        "floor": 0.7,
        "task": "general",
        "text_bytes": 2000,
        "choices": 1,
        "output_limit_tokens": 1024,
        "media": {},
        "fields": ["messages", "model"],
        "needs": [],
        "max_cost_nano_usd": None,
        "models": None,
    }


def scored(candidate_id: UUID, price_id: UUID) -> dict[str, Any]:
    """Return one entry of a recorded ranking, at its usual size."""
    return {
        "candidate_id": str(candidate_id),
        "provider": "simulated",
        "model": "sim-medium",
        "price_id": str(price_id),
        "quality": 0.8,
        "expected_cost_nano_usd": 500_000,
        "bound_nano_usd": BOUND_NANO_USD,
        "rejected": None,
    }


def attempt_result(inference_id: str, **overrides: object) -> dict[str, Any]:
    """Return what became of an attempt as the backend sends it, without defaults: it succeeded, unless overridden."""
    return {
        "inference_id": inference_id,
        "status": "succeeded",
        "output_limit_tokens": 1024,
        "http_calls": 1,
        "http_status": 200,
        "provider_request_id": f"req_{inference_id[-12:]}",
        "first_content_milliseconds": 200,
        "duration_milliseconds": 900,
        "input_tokens": 500,
        "output_tokens": 120,
        "usage_source": "provider",
        "usage_convention": "openai",
        "reported_usage": {"prompt_tokens": 500, "completion_tokens": 120, "total_tokens": 620},
        **overrides,
    }


def failed_result(inference_id: str, **overrides: object) -> dict[str, Any]:
    """Return what became of an attempt that failed: nothing was used."""
    nothing = {"usage_source": "none", "usage_convention": None, "reported_usage": None}
    return attempt_result(
        inference_id, status="failed", input_tokens=0, output_tokens=0, **nothing, **overrides
    )


def completion(
    opening: dict[str, Any], outcome_status: str = "succeeded", **attempt: object
) -> dict[str, Any]:
    """Return the item of complete_decisions for an item of insert_decisions."""
    return {
        "id": opening["id"],
        "organization_id": opening["organization_id"],
        "outcome_status": outcome_status,
        "decision_rule_override": None,
        "passed_over": [],
        "attempt": attempt_result(opening["inference_id"], **attempt),
        "answer": None,
    }


def call(connection: Connection, function: LiteralString, items: str) -> list[dict[str, Any]]:
    """Call one of the array functions with items already made JSON, and return its answers."""
    # Prepared at once: the Data API keeps its statements prepared, too.
    row = connection.execute(
        b"select public." + function.encode() + b"(%s::jsonb)", (items,), prepare=True
    ).fetchone()
    answers: list[dict[str, Any]] = row[0] if row else []
    return answers


@contextmanager
def running_world(*, tenants: int, durable: bool) -> Iterator[World]:
    """Start a stack of its own and fill it with a catalogue and ``tenants`` of each kind; stop it afterwards."""
    with tempfile.TemporaryDirectory(prefix="clearfloor-bench-", ignore_cleanup_errors=True) as home:
        # Postgres may run as another user than this one: it must be able to pass through.
        Path(home).chmod(0o711)
        with Stack(Path(home), durable=durable) as stack:
            yield _populate(stack, tenants)


def _populate(stack: Stack, tenants: int) -> World:
    with psycopg.connect(stack.endpoints.database_url, autocommit=True) as connection:
        connection.execute("set role service_role")
        candidates = _catalogue(connection)
        free = [_tenant(connection) for _ in range(tenants)]
        capped = [_tenant(connection) for _ in range(tenants)]
        for tenant in capped:
            _cap(connection, tenant)
        row = connection.execute("select (public.read_catalogue() ->> 'version')::bigint").fetchone()
    return World(stack, free, capped, candidates, row[0] if row else 0)


def _catalogue(connection: Connection) -> list[tuple[UUID, UUID]]:
    connection.execute(
        "insert into public.providers (name, base_url) values ('simulated', 'http://127.0.0.1:9/v1')"
    )
    pairs = []
    for number in range(CANDIDATES):
        candidate_id, price_id, model = uuid7(), uuid7(), f"sim-{number}"
        connection.execute("insert into public.models (name) values (%s)", (model,))
        connection.execute(
            "insert into public.candidates (id, provider, model, upstream_model, context_window_tokens, "
            "max_output_tokens) values (%s, 'simulated', %s, %s, 32000, 4096)",
            (candidate_id, model, model),
        )
        connection.execute(
            "insert into public.prices (id, candidate_id, tiers, source) values (%s, %s, array["
            "(0, 100000000, 10000000, 125000000, 200000000, 400000000, 400000000)::public.price_tier], 'bench')",
            (price_id, candidate_id),
        )
        pairs.append((candidate_id, price_id))
    return pairs


def _tenant(connection: Connection) -> Tenant:
    tenant = Tenant(uuid7(), uuid7(), uuid7())
    organization = tenant.organization_id
    connection.execute("insert into public.organizations (id, name) values (%s, 'bench')", (organization,))
    connection.execute(
        "insert into public.agents (id, organization_id, name) values (%s, %s, 'bench')",
        (tenant.agent_id, organization),
    )
    connection.execute(
        "insert into public.api_keys (id, organization_id, agent_id, name, display_prefix, key_hash) "
        "values (%s, %s, %s, 'bench', 'cf_', sha256(%s))",
        (tenant.api_key_id, organization, tenant.agent_id, tenant.api_key_id.bytes),
    )
    connection.execute("select public.top_up_wallet(%s, %s, %s)", (uuid7(), organization, FUNDS_NANO_USD))
    return tenant


def _cap(connection: Connection, tenant: Tenant) -> None:
    scopes: Sequence[tuple[UUID | None, str]] = (
        *((tenant.agent_id, window) for window in WINDOWS),
        (None, "day"),
    )
    for agent_id, window in scopes:
        connection.execute(
            "select public.set_spend_cap(%s, %s, %s, %s, %s)",
            (uuid7(), tenant.organization_id, agent_id, window, FUNDS_NANO_USD),
        )


def to_json(items: Sequence[dict[str, Any]]) -> str:
    """Return items as the JSON array that the functions take."""
    return json.dumps(items)
