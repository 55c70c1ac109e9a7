"""`clearfloor doctor` finds what is wrong in a database, tells what is worth knowing, and changes nothing."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from backend import cli
from backend.doctor import MEANINGS, MOST_SUBJECTS
from backend.ids import uuid7
from backend.stack.stack import Stack
from tests.support.commands import limited_url, one_line
from tests.support.databases import Database, gateway_database, new_database
from tests.support.tenant import INPUT_NANO_USD_PER_MTOK, Rows

BOUND_TOKENS = 100
BOUND_NANO_USD = BOUND_TOKENS * INPUT_NANO_USD_PER_MTOK // 1_000_000
OVERRUN_TOKENS = 50
LOSS_NANO_USD = 30
SOUND = "Rows that break an invariant: 0"


class World:
    """A tenant and a candidate of a database, and decisions by the functions that the backend calls."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.rows = Rows(connection)
        self.tenant = self.rows.tenant(balance_nano_usd=10 * BOUND_NANO_USD)
        self.candidate = self.rows.candidate(self.rows.provider("http://vendor.test/v1"))
        self.rows.insert("catalogue_snapshots", digest=b"test", content=Jsonb([]))
        (row,) = self.rows.query("select version from public.catalogue_snapshots")
        self._version = row["version"]

    def open(self, *, lease_seconds: int = 60) -> tuple[UUID, UUID]:
        """Open a decision with an attempt; return their ids."""
        decision_id, inference_id = uuid7(), uuid7()
        opening = {
            "id": str(decision_id),
            "organization_id": str(self.tenant.organization_id),
            "agent_id": str(self.tenant.agent_id),
            "api_key_id": str(self.tenant.api_key_id),
            "requested_model": "auto",
            "requested_rule": "cheapest_clearing_floor",
            "floor": 0.5,
            "task": "chat",
            "stream": False,
            "catalogue_version": self._version,
            "routing_request": {},
            "candidates": [],
            "lease_seconds": lease_seconds,
            "inference_id": str(inference_id),
            "candidate_id": str(self.candidate.id),
            "price_id": str(self.candidate.price_id),
            "bound_nano_usd": BOUND_NANO_USD,
        }
        self._call("insert_decisions", opening)
        return decision_id, inference_id

    def complete(self, decision_id: UUID, inference_id: UUID, tokens: int) -> None:
        """Complete a decision that succeeded with so many input tokens."""
        attempt = {
            "inference_id": str(inference_id),
            "status": "succeeded",
            "http_calls": 1,
            "http_status": 200,
            "input_tokens": tokens,
            "usage_source": "provider",
            "usage_convention": "openai",
            "reported_usage": {"prompt_tokens": tokens},
        }
        completion = {
            "id": str(decision_id),
            "organization_id": str(self.tenant.organization_id),
            "outcome_status": "succeeded",
            "attempt": attempt,
        }
        self._call("complete_decisions", completion)

    def overrun_and_lose(self) -> None:
        """Complete a decision beyond its bound, and one that was swept when the wallet has less left than is due."""
        self.rows.top_up(self.tenant.organization_id, 10 * BOUND_NANO_USD)
        self.complete(*self.open(), BOUND_TOKENS + OVERRUN_TOKENS)
        decision = self.open(lease_seconds=-1)
        self.rows.query("select public.sweep_decisions(10)")
        (wallet,) = self.rows.query("select balance_nano_usd - held_nano_usd as free from public.wallets")
        self.rows.query(
            "select public.correct_wallet(%(id)s, %(organization)s, %(amount)s, 'test', 'test')",
            id=uuid7(),
            organization=self.tenant.organization_id,
            amount=-wallet["free"] + BOUND_NANO_USD - LOSS_NANO_USD,
        )
        self.complete(*decision, BOUND_TOKENS)

    def disappoint(self) -> None:
        """Have answers rated worse than was predicted, as many as it takes."""
        self.rows.query(
            "insert into public.feedback (routing_outcome_id, source, organization_id, agent_id, model, task, predicted,"
            " score, api_key_id) select gen_random_uuid(), 'agent', organization_id, agent_id, %(model)s, task, 0.8, 0.5,"
            " api_key_id from (select * from public.routing_outcomes limit 1) as decision, generate_series(1, 30)",
            model=self.candidate.model,
        )

    def age(self, *, days: int) -> None:
        """Make everything that has happened be so many days older."""
        for change in (
            "update public.inferences set opened_at = opened_at - make_interval(days => %(days)s)",
            "update public.ledger_entries set created_at = created_at - make_interval(days => %(days)s)",
        ):
            self.rows.query(change, days=days)

    def _call(self, function: str, item: Mapping[str, object]) -> None:
        (row,) = self.rows.query(f"select public.{function}(%(items)s) as answers", items=Jsonb([item]))
        (answer,) = row["answers"]
        assert answer["error"] is None, answer
        assert answer["outcome_status"] in (None, "succeeded"), answer


@pytest.fixture(scope="module")
def sound(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database in which nothing is wrong, but some is worth knowing."""
    with gateway_database(stack, tmp_path_factory.mktemp("sound")) as database:
        with psycopg.connect(database.url, autocommit=True, row_factory=dict_row) as connection:
            world = World(connection)
            world.overrun_and_lose()
            world.age(days=31)
            world.overrun_and_lose()
            world.rows.top_up(world.tenant.organization_id, 2 * BOUND_NANO_USD)
            world.open(lease_seconds=-1)
            world.open(lease_seconds=3600)
            world.disappoint()
        yield database


@pytest.fixture(scope="module")
def faulty(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database with a charge that was altered, and with more wallets of money from nowhere than are listed."""
    with gateway_database(stack, tmp_path_factory.mktemp("faulty")) as database:
        with psycopg.connect(database.url, autocommit=True, row_factory=dict_row) as connection:
            world = World(connection)
            world.complete(*world.open(), BOUND_TOKENS)
            world.rows.query("update public.routing_outcomes set charge_nano_usd = 99")
            for _ in range(MOST_SUBJECTS + 1):
                tenant = world.rows.tenant(balance_nano_usd=0)
                world.rows.query(
                    "update public.wallets set balance_nano_usd = 7 where organization_id = %(id)s",
                    id=tenant.organization_id,
                )
        yield database


def test_nothing_is_found_where_nothing_is_wrong(sound: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 0, whatever is worth knowing: overruns, losses, a lease that has run out, and a drift."""
    ((provider, model),) = sound.rows("select provider, model from public.candidates")
    ((expired,),) = sound.rows(
        "select to_char(lease_expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from public.routing_outcomes"
        " where outcome_status is null and lease_expires_at < now()"
    )
    assert cli.main(["doctor", sound.url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        SOUND,
        "",
        "Worth knowing, though not wrong (costs of the last 30 days, which the operator bears):",
        "  Calls that cost more than their bound: 1, by 0.000025 USD",
        f"    {provider} {model}: 1, by 0.000025 USD",
        "  Charges that a wallet could not pay any more: 1, of 0.00000003 USD",
        f"  Open decisions past their lease, which the next sweep closes: 1, the first since {expired} UTC",
        "  Models whose answers of a task class were rated worse than predicted in the last week: 1",
        f"    {model} chat: 0.50 instead of 0.80, rated 30 times",
    ]


def test_what_is_wrong_is_told_by_invariant(faulty: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 1; every row has its organization and its detail, and a long list says how many more there are."""
    ((decision_id, organization_id),) = faulty.rows("select id, organization_id from public.routing_outcomes")
    assert cli.main(["doctor", faulty.url]) == 1
    told = capsys.readouterr().out.splitlines()
    counted = told.index("usage_is_counted: 1")
    assert f" of organization {organization_id}: succeeded in the hour from " in told[counted + 2]
    assert told[counted + 2].endswith(f": 0 decisions, 0 attempts, {BOUND_NANO_USD - 99} nano-USD too many")
    del told[counted : counted + 4]
    assert told[:12] == [
        "Rows that break an invariant: 14",
        "",
        "charge_is_settled: 1",
        f"  {MEANINGS['charge_is_settled']}",
        f"    {decision_id} of organization {organization_id}: settlement 99, in the ledger {BOUND_NANO_USD}",
        "",
        "charge_is_what_is_due: 1",
        f"  {MEANINGS['charge_is_what_is_due']}",
        f"    {decision_id} of organization {organization_id}: charged 99, lost 0, due {BOUND_NANO_USD}",
        "",
        f"wallet_is_its_ledger: {MOST_SUBJECTS + 1}",
        f"  {MEANINGS['wallet_is_its_ledger']}",
    ]
    listed = told[12 : told.index("", 12)]
    assert listed[-1] == "    and 1 more"
    assert len(listed) == MOST_SUBJECTS + 1
    assert all(line.endswith(": balance 7, ledger 0") for line in listed[:-1])


def test_what_was_opened_earlier_can_be_left_out(
    faulty: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Balances are examined all the same: they have no date."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert cli.main(["doctor", faulty.url, "--since", f"{tomorrow:%Y-%m-%d}"]) == 1
    told = capsys.readouterr().out
    assert told.startswith(f"Rows that break an invariant: {MOST_SUBJECTS + 1}\n")
    assert "charge_is_settled" not in told


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the usage, and 2: nothing was asked."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "postgresql://127.0.0.1/postgres", "--since", "yesterday"])
    assert ended.value.code == 2
    assert "--since" in capsys.readouterr().err


def test_a_database_that_is_no_gateways_is_refused(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 2, and says what is missing."""
    with new_database(stack, tmp_path) as database:
        assert cli.main(["doctor", database.url]) == 2
    assert one_line(capsys) == (
        "clearfloor doctor: this is no database of a gateway: "
        "function public.gateway_invariants(timestamp with time zone) does not exist."
    )


def test_a_role_that_may_not_examine_is_refused(
    sound: Database, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 2: "nothing is wrong" must not mean "nothing can be seen"."""
    with limited_url(stack, sound) as url:
        assert cli.main(["doctor", url]) == 2
    assert "this role cannot examine every row" in one_line(capsys)
