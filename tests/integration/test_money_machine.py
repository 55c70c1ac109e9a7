"""Whatever happens in whatever order, the books are right: random histories of one organization, checked after every step."""

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.tenant import Candidate, Rows, Tenant, open_rows

EXAMPLES = 25
STEPS = 40
# Small, so that limits are met all the time: a token costs 1 nano-USD in, 2 out.
TIER = "(0,1000000,1000000,1000000,1000000,2000000,2000000)"
AMOUNTS = st.integers(0, 60)
LIMITS = st.none() | st.integers(0, 150)
Json = dict[str, Any]


@pytest.fixture
def rows(stack: Stack) -> Iterator[Rows]:
    """Connect as the superuser."""
    with open_rows(stack.endpoints.superuser_url) as opened:
        yield opened


class Books(RuleBasedStateMachine):
    """One organization's decisions, completions, crashes and entries, and what the operator changes meanwhile."""

    rows: ClassVar[Rows]
    candidate: ClassVar[Candidate]
    price_id: ClassVar[UUID]

    def __init__(self) -> None:
        super().__init__()
        self.tenant: Tenant = self.rows.tenant(balance_nano_usd=200)
        self.attempts: dict[UUID, UUID] = {}

    def call(self, function: str, item: Json) -> Json:
        """Send one item to a function of the record."""
        (row,) = self.rows.query(
            f"select public.{function}(%(items)s) as answers",  # of three names here
            items=Jsonb([item]),
        )
        answer: Json = row["answers"][0]
        return answer

    @rule(
        bound=AMOUNTS,
        least=st.none() | AMOUNTS,
        tokens=AMOUNTS,
        lease=st.sampled_from([-1, 3600]),
        key=st.none() | st.sampled_from("abc"),
    )
    def open(self, bound: int, least: int | None, tokens: int, lease: int, key: str | None) -> None:
        """A request comes."""
        decision, attempt = uuid7(), uuid7()
        answer = self.call(
            "insert_decisions",
            {
                "id": str(decision),
                "organization_id": str(self.tenant.organization_id),
                "agent_id": str(self.tenant.agent_id),
                "api_key_id": str(self.tenant.api_key_id),
                "requested_model": "auto",
                "requested_rule": "cheapest_clearing_floor",
                "task": "chat",
                "stream": False,
                "catalogue_version": self.catalogue_version(),
                "routing_request": {},
                "candidates": [],
                "lease_seconds": lease,
                "inference_id": str(attempt),
                "candidate_id": str(self.candidate.id),
                "price_id": str(self.price_id),
                "bound_nano_usd": bound,
                "least_bound_nano_usd": None if least is None else min(least, bound),
                "metered_tokens": tokens,
                "dearest_price_id": str(self.price_id),
                "idempotency_key": key,
                "body_hash": "00" * 32,
                "key_seconds": 3600,
            },
        )
        assert answer["error"] is None
        if not answer["is_held"] and answer["outcome_status"] is None:
            self.attempts[decision] = attempt

    def catalogue_version(self) -> int:
        """Return a version of the catalogue that there is."""
        (row,) = self.rows.query("select max(version) as version from public.catalogue_snapshots")
        version: int = row["version"]
        return version

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), bound=AMOUNTS, least=st.none() | AMOUNTS)
    def fail_over(self, data: st.DataObject, bound: int, least: int | None) -> None:
        """An attempt fails, and the next one may be dearer."""
        decision = data.draw(st.sampled_from(sorted(self.attempts)))
        following = uuid7()
        answer = self.call(
            "insert_attempts",
            {
                "decision_id": str(decision),
                "organization_id": str(self.tenant.organization_id),
                "lease_seconds": data.draw(st.sampled_from([-1, 3600])),
                "inference_id": str(following),
                "candidate_id": str(self.candidate.id),
                "price_id": str(self.price_id),
                "bound_nano_usd": bound,
                "least_bound_nano_usd": None if least is None else min(least, bound),
                "previous": self.result(data, self.attempts[decision], ["failed", "not_sent"]),
            },
        )
        if answer["opened"]:
            self.attempts[decision] = following

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """A call ends, perhaps after its decision was swept, perhaps for the second time."""
        decision = data.draw(st.sampled_from(sorted(self.attempts)))
        outcome, status = data.draw(
            st.sampled_from(
                [
                    ("succeeded", "succeeded"),
                    ("cancelled", "cancelled"),
                    ("failed_provider_error", "failed"),
                    ("failed_provider_error", "cut"),
                    ("failed_other", "failed"),
                ]
            )
        )
        answer = self.call(
            "complete_decisions",
            {
                "id": str(decision),
                "organization_id": str(self.tenant.organization_id),
                "outcome_status": outcome,
                "attempt": self.result(data, self.attempts[decision], [status]),
            },
        )
        assert answer["error"] is None
        assert answer["outcome_status"] is not None

    def result(self, data: st.DataObject, attempt: UUID, statuses: list[str]) -> Json:
        """Draw what became of an attempt: its tokens may cost less than its bound, or more."""
        status = data.draw(st.sampled_from(statuses))
        used = {"input_tokens": data.draw(AMOUNTS), "output_tokens": data.draw(AMOUNTS)}
        return {
            "inference_id": str(attempt),
            "status": status,
            **({} if status == "not_sent" else {**used, "usage_source": "estimate"}),
        }

    @rule()
    def sweep(self) -> None:
        """The sweep finds whose lease has run out."""
        self.rows.query("select public.sweep_decisions(500)")

    @rule(kind=st.sampled_from(["hour", "day", "month", "lifetime"]), limit=LIMITS, is_agents=st.booleans())
    def set_cap(self, kind: str, limit: int | None, *, is_agents: bool) -> None:
        """The operator sets, changes or removes a cap."""
        self.rows.query(
            "select public.set_spend_cap(%(id)s, %(organization)s, %(agent)s, %(kind)s, %(limit)s)",
            id=uuid7(),
            organization=self.tenant.organization_id,
            agent=self.tenant.agent_id if is_agents else None,
            kind=kind,
            limit=limit,
        )

    @rule(tokens=st.none() | st.integers(1, 150))
    def set_rate_limit(self, tokens: int | None) -> None:
        """The operator sets, changes or removes a rate limit."""
        self.rows.rate_limit(self.tenant.organization_id, None, tokens=tokens)

    @rule(amount=st.integers(1, 100))
    def top_up(self, amount: int) -> None:
        """Funds are added."""
        self.rows.top_up(self.tenant.organization_id, amount)

    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        """A part of what is left of some charge is given back, and sent twice."""
        charges = self.rows.query(
            "select settlement.id, settlement.amount_nano_usd - coalesce(("
            "    select sum(amount_nano_usd) from public.ledger_entries as refund"
            "    where refund.kind = 'refund' and refund.routing_outcome_id = settlement.id"
            "), 0)::bigint as nano_usd from public.ledger_entries as settlement"
            " where organization_id = %(id)s and kind = 'settlement' order by id",
            id=self.tenant.organization_id,
        )
        left = [charge for charge in charges if charge["nano_usd"]]
        if not left:
            return
        charge = data.draw(st.sampled_from(left))
        entry, amount = uuid7(), data.draw(st.integers(1, charge["nano_usd"]))
        for _ in range(2):
            self.rows.query(
                "select public.refund_decision(%(entry)s, %(organization)s, %(decision)s, %(amount)s, 'test', 'test')",
                entry=entry,
                organization=self.tenant.organization_id,
                decision=charge["id"],
                amount=amount,
            )

    @rule()
    def take_what_is_free(self) -> None:
        """A correction takes all that nothing holds."""
        self.rows.query(
            "select public.correct_wallet(%(entry)s, organization_id, held_nano_usd - balance_nano_usd, 'test', 'test')"
            " from public.wallets where organization_id = %(id)s and balance_nano_usd > held_nano_usd",
            entry=uuid7(),
            id=self.tenant.organization_id,
        )

    @invariant()
    def the_books_are_right(self) -> None:
        """No invariant is broken, whatever is under way."""
        faults = self.rows.query(
            "select * from public.gateway_invariants(of_organization => %(id)s)",
            id=self.tenant.organization_id,
        )
        assert not faults


def test_random_histories_leave_right_books(rows: Rows) -> None:
    """Openings, clamps, failovers, ends, sweeps, late ends, caps, limits, top-ups, refunds and corrections."""
    provider = rows.provider("http://127.0.0.1:9/v1")
    candidate = rows.candidate(provider)
    Books.rows, Books.candidate, Books.price_id = rows, candidate, uuid7()
    rows.query(
        "insert into public.prices (id, candidate_id, tiers, source, valid_from) values"
        " (%(id)s, %(candidate)s, array[%(tier)s]::public.price_tier[], 'test', now() + interval '1 second')",
        id=Books.price_id,
        candidate=candidate.id,
        tier=TIER,
    )
    rows.query("select public.read_catalogue()")
    rows.query("update public.providers set enabled = false where name = %(name)s", name=provider)
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
