"""Retention beside the gateway's work: what is too old goes, and who opens or completes decisions does not notice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.fill import DAYS, fill
from bench.performance.records import Records
from bench.retention import keep
from bench.world import Connection, World, call, completion, running_world, to_json
from tests.support.backend_process import BackendProcess
from tests.support.polling import eventually

ROWS = 2000
TENANTS = 2
BATCH_ROWS = 100
KEPT_DAYS = DAYS // 2
_TOO_OLD = "select count(*) from public.routing_outcomes where opened_at < now() - make_interval(days => %s)"

_WAITING = "select count(*) from pg_catalog.pg_locks where pid = %s and not granted"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Start a stack of its own, whose record reaches back :data:`DAYS` days."""
    with running_world(tenants=TENANTS, durable=False) as running:
        fill(running, running.free, ROWS)
        with running.superuser() as owner:
            Records(owner).settle_balances()
        yield running


def number(connection: Connection, query: str, *parameters: object) -> int:
    """Return the one number that a query finds."""
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return int(row[0])


def delete_batch(connection: Connection) -> int:
    """Delete a batch, and return how many that were."""
    return number(connection, "select public.delete_old_decisions(%s)", BATCH_ROWS)


def test_nobody_waits_for_a_batch(world: World) -> None:
    """While its transaction is under way decisions are opened and completed, and a second one finds nothing to do."""
    items = [world.opening(tenant) for tenant in world.free]
    with world.superuser() as owner, world.connect() as deleting, world.connect() as other:
        keep(owner, KEPT_DAYS)
        before = number(owner, "select count(*) from public.routing_outcomes")
        with deleting.transaction():
            assert delete_batch(deleting) == BATCH_ROWS
            opened = call(other, "insert_decisions", to_json(items))
            assert [(answer["outcome_status"], answer["error"]) for answer in opened] == [
                (None, None)
            ] * TENANTS
            completed = call(other, "complete_decisions", to_json([completion(item) for item in items]))
            assert [answer["outcome_status"] for answer in completed] == ["succeeded"] * TENANTS
            assert delete_batch(other) == 0
        after = number(owner, "select count(*) from public.routing_outcomes")
        assert after == before - BATCH_ROWS + TENANTS
        assert owner.execute("select * from public.gateway_invariants()").fetchall() == []


def test_what_is_being_deleted_is_not_taken_up_again(world: World) -> None:
    """A completion that comes too late waits, finds its decision gone, and holds nothing of the wallet."""
    with world.superuser() as owner, world.connect() as deleting, world.connect() as late:
        opening = world.opening(world.free[0]) | {"lease_seconds": -1}
        row = owner.execute("select bench.id_at(now() - make_interval(days => %s))", (2 * DAYS,)).fetchone()
        opening["id"] = str(row[0]) if row else ""
        call(late, "insert_decisions", to_json([opening]))
        owner.execute(
            "update public.routing_outcomes set opened_at = opened_at - make_interval(days => %s) where id = %s",
            (2 * DAYS, opening["id"]),
        )
        assert number(late, "select public.sweep_decisions(10)") == 1
        keep(owner, DAYS)
        with ThreadPoolExecutor() as pool:
            with deleting.transaction():
                assert delete_batch(deleting) == 1
                answers = pool.submit(call, late, "complete_decisions", to_json([completion(opening)]))
                while not number(owner, _WAITING, late.info.backend_pid):
                    assert not answers.done(), answers.result()
            assert [answer["error"] for answer in answers.result()] == ["unknown_decision"]
        assert owner.execute("select * from public.gateway_invariants()").fetchall() == []


async def test_backends_delete_what_is_too_old(world: World) -> None:
    """Two at once, batch by batch: as soon as the row says how long decisions are kept, and nothing younger."""
    settings = {
        "CLEARFLOOR_RETENTION_INTERVAL_SECONDS": "0.1",
        "CLEARFLOOR_RETENTION_BATCH_SIZE": str(BATCH_ROWS),
        "CLEARFLOOR_RETENTION_PAUSE_SECONDS": "0.01",
    }
    with world.superuser() as owner:
        young = number(owner, "select count(*) from public.routing_outcomes") - number(
            owner, _TOO_OLD, KEPT_DAYS
        )
        keep(owner, KEPT_DAYS)

        async def left() -> int:
            return number(owner, _TOO_OLD, KEPT_DAYS)

        with BackendProcess(world.stack, **settings), BackendProcess(world.stack, **settings):
            await eventually(left, "nothing is too old", until=lambda count: count == 0)
        assert young - number(owner, "select count(*) from public.routing_outcomes") in (0, 1)
        assert number(owner, "select count(*) from public.inferences") == number(
            owner, "select count(*) from public.routing_outcomes"
        )
        assert owner.execute("select * from public.gateway_invariants()").fetchall() == []
