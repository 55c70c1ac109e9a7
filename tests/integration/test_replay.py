"""`clearfloor replay` computes a database's decisions again, and changes nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from backend import cli
from backend.ids import uuid7
from backend.replay import database as replay_database
from backend.stack.stack import Stack
from tests.support.commands import limited_url, one_line
from tests.support.databases import Database, gateway_database, new_database, remove_rows
from tests.support.recorded import RecordedDecisions
from tests.support.scene import Scene
from tests.support.tenant import Candidate, Rows

TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


class World:
    """Two models, the second twice as dear, and decisions among them."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url = url
        self.rows = Rows(connection)
        provider = self.rows.provider("http://vendor.test/v1")
        self.cheap, self.dear = (self.rows.candidate(provider, dearness=i) for i in (1, 2))
        self.decisions = RecordedDecisions(self.rows)

    def run(self, *options: object) -> int:
        """Run the command."""
        return cli.main(["replay", self.url, *map(str, options)])

    def forge(self, decision_id: UUID, *, ranking: str | None = None, request: str | None = None) -> None:
        """Change a decision's record by hand."""
        self.rows.query(
            "update public.routing_outcomes set candidates = coalesce(%(ranking)s::jsonb, candidates),"
            " routing_request = coalesce(%(request)s::jsonb, routing_request) where id = %(id)s",
            id=decision_id,
            ranking=ranking,
            request=request,
        )


@pytest.fixture(scope="module")
def empty(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database without rows."""
    with gateway_database(stack, tmp_path_factory.mktemp("replay")) as database:
        yield database


@pytest.fixture
def world(empty: Database) -> Iterator[World]:
    """Open a world; nothing of it stays."""
    with psycopg.connect(empty.url, row_factory=dict_row, autocommit=True) as connection:
        yield World(empty.url, connection)
        remove_rows(connection)


def test_recorded_decisions_are_equal_though_the_catalogue_has_changed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is computed by the catalogue that it had."""
    world.decisions.open()
    withdraw(world, world.cheap)
    world.decisions.open()
    assert world.run() == 0
    assert capsys.readouterr().out == "2 decisions: 2 equal, 0 differ, 0 cannot be computed\n"


async def test_what_a_backend_has_decided_is_computed_again_to_the_last_bit(
    scene: Scene, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer, a failure and a refusal, by the record that PostgREST wrote."""
    first, _ = await scene.offer(2)
    await scene.script(first, {"kind": "status", "status": 500})
    for fields in ({}, {"max_tokens": 7, "tools": [TOOL]}, {"clearfloor": {"floor": 0.99}}):
        await scene.chat(**fields)
    decisions = scene.decisions()
    assert {decision["outcome_status"] for decision in decisions} == {"succeeded", "rejected_no_candidate"}
    for decision in decisions:
        assert cli.main(["replay", stack.endpoints.database_url, "--decision", str(decision["id"])]) == 0
        assert capsys.readouterr().out == "1 decisions: 1 equal, 0 differ, 0 cannot be computed\n"


def test_a_forged_decision_differs_and_an_unreadable_one_cannot_be_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first is a finding; the second alone is none, and yet not well."""
    forged, odd, sound = (world.decisions.open() for _ in range(3))
    world.forge(odd, request="{}")
    assert world.run() == 2
    assert f"{odd}: cannot be computed: " in capsys.readouterr().out
    world.forge(forged, ranking="[]")
    assert world.run() == 1
    told = capsys.readouterr().out
    assert f"{forged}: differs: place 1, " in told
    assert "3 decisions: 1 equal, 1 differ, 1 cannot be computed" in told

    for decision, code in ((forged, 1), (odd, 2), (sound, 0)):
        assert world.run("--decision", decision) == code
        assert "1 decisions: " in capsys.readouterr().out


def test_the_current_catalogue_is_asked_what_it_would_have_done(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose choice would be another, and at what expected cost; nothing is written, not even a snapshot."""
    moved = world.decisions.open()
    refused = world.decisions.open(models=(world.cheap.model,))
    world.decisions.open(models=(world.dear.model,))
    assert world.run("--with", "current") == 0
    capsys.readouterr()

    withdraw(world, world.cheap)
    snapshots = world.rows.query("select version from public.catalogue_snapshots")
    assert world.run("--with", "current") == 1
    cheap, dear = (f"{candidate.provider} {candidate.model}" for candidate in (world.cheap, world.dear))
    # 1,000 tokens of input at 0.5 USD a million, 100 of output at 1; the other is twice as dear.
    assert capsys.readouterr().out.splitlines() == [
        f"{cheap} -> {dear}: 1, expected cost +0.0006 USD",
        f"  {moved}",
        f"{cheap} -> refused: 1",
        f"  {refused}",
        "3 decisions: 2 change, 0 cannot be computed; expected cost +0.0006 USD",
    ]
    assert world.rows.query("select version from public.catalogue_snapshots") == snapshots


def test_only_what_was_made_since_then_is_asked_and_no_more_than_so_many(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the last day's. Pages neither lose nor repeat any; of too many the newest are asked."""
    monkeypatch.setattr(replay_database, "PAGE_DECISIONS", 2)
    newest = [world.decisions.open(hours_ago=hours) for hours in (1, 2, 3, 4, 5)]
    world.decisions.open(hours_ago=25)

    assert world.run() == 0
    assert capsys.readouterr().out.startswith("5 decisions: ")
    assert world.run("--since", (datetime.now(UTC) - timedelta(hours=48)).isoformat()) == 0
    assert capsys.readouterr().out.startswith("6 decisions: ")

    for decision in newest[3:]:
        world.forge(decision, ranking="[]")
    assert world.run("--most", 3) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "3 decisions: 3 equal, 0 differ, 0 cannot be computed",
        "Only the newest 3 were asked: --most NUMBER asks more.",
    ]
    assert world.run("--most", 4) == 1


def test_an_unknown_decision_is_not_equal(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot be told."""
    unknown = uuid7()
    assert world.run("--decision", unknown) == 2
    assert one_line(capsys) == f"clearfloor replay: there is no decision {unknown}."


@pytest.mark.parametrize("option", [("--most", "0"), ("--since", "yesterday"), ("--decision", "x")])
def test_an_option_that_says_nothing_is_refused(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any database is asked."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["replay", "postgresql://127.0.0.1:1/none", *option])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_a_database_that_cannot_be_asked_is_told_in_one_line(
    stack: Stack, empty: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One without tables, and a role that would not see every row."""
    with new_database(stack, tmp_path) as database:
        assert cli.main(["replay", database.url]) == 2
        assert "this is no database of a gateway" in one_line(capsys)
    with limited_url(stack, empty) as url:
        assert cli.main(["replay", url]) == 2
    assert "this role cannot read every decision" in one_line(capsys)


def withdraw(world: World, candidate: Candidate) -> None:
    """Take a candidate out of the catalogue."""
    world.rows.query("update public.candidates set enabled = false where id = %(id)s", id=candidate.id)
