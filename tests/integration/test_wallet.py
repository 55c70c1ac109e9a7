"""`clearfloor wallet` on a real Data API: each entry once, each with who and why, and each refusal in a line."""

import asyncio
import getpass
import re
from typing import Any
from uuid import UUID

import pytest

from backend import cli
from backend.ids import uuid7
from backend.stack.ports import HOST, free_port
from backend.stack.stack import Stack
from backend.units import usd
from tests.support.scene import Scene

BALANCE_NANO_USD = 10**9


@pytest.fixture(autouse=True)
def operator(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what an operator has in the environment; the publishable key is not of it."""
    monkeypatch.setenv("SUPABASE_URL", stack.endpoints.supabase_url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", stack.endpoints.secret_key)
    monkeypatch.delenv("SUPABASE_PUBLISHABLE_KEY", raising=False)


async def wallet(action: str, scene: Scene, amount: str, *options: object) -> int:
    """Run the command for the tenant; return its exit code."""
    arguments = ["wallet", action, str(scene.tenant.organization_id), amount, *map(str, options)]
    return await asyncio.to_thread(cli.main, arguments)


def entries(scene: Scene, kind: str) -> list[dict[str, Any]]:
    """Return the tenant's ledger entries of a kind that an operator has a name in."""
    return scene.rows.query(
        "select * from public.ledger_entries where organization_id = %(id)s and kind = %(kind)s and actor <> ''",
        id=scene.tenant.organization_id,
        kind=kind,
    )


async def charge(scene: Scene) -> tuple[UUID, int]:
    """Have the tenant charged for a call; return the decision and the charge."""
    await scene.offer()
    assert (await scene.chat()).status_code == 200
    decision = scene.decision()
    return decision["id"], decision["charge_nano_usd"]


async def test_a_top_up_is_printed_with_its_id_and_can_be_sent_again(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under that id it is made once; the actor is the user of the machine."""
    assert await wallet("top-up", scene, "12.50") == 0
    first, last = capsys.readouterr().out.splitlines()
    assert last == "Balance: 13.5 USD"
    user, organization = getpass.getuser(), scene.tenant.organization_id
    found = re.fullmatch(rf"Entry (\S+): top_up of 12.5 USD for {organization} by {re.escape(user)}", first)
    assert found
    assert await wallet("top-up", scene, "12.50", "--id", found[1]) == 0
    assert capsys.readouterr().out.splitlines() == [first, last]
    (entry,) = entries(scene, "top_up")
    assert (entry["id"], entry["amount_nano_usd"]) == (UUID(found[1]), 12_500_000_000)
    assert (entry["actor"], entry["note"]) == (user, "")
    assert entry["id"].version == 7


async def test_a_refund_names_its_decision_its_actor_and_its_reason(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """And gives back to the wallet, to the last nano-USD."""
    decision_id, charged = await charge(scene)
    options = ("--decision", decision_id, "--note", "no answer", "--actor", "ann")
    assert await wallet("refund", scene, usd(charged), *options) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Balance: {usd(BALANCE_NANO_USD)} USD"
    (entry,) = entries(scene, "refund")
    assert (entry["routing_outcome_id"], entry["amount_nano_usd"]) == (decision_id, charged)
    assert (entry["actor"], entry["note"]) == ("ann", "no answer")


async def test_a_correction_gives_and_takes(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """An amount below zero is an amount, not an option."""
    assert await wallet("correct", scene, "0.5", "--note", "goodwill") == 0
    assert await wallet("correct", scene, "-0.000000001", "--note", "paid twice") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Balance: 1.499999999 USD"
    accounts = [(entry["debit_account"], entry["amount_nano_usd"]) for entry in entries(scene, "correction")]
    assert sorted(accounts) == [("operator", 500_000_000), ("wallet", 1)]


async def test_what_the_database_refuses_is_one_line(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own sentence with its hint, and 1; nothing is changed."""
    decision_id, charged = await charge(scene)
    before = scene.wallet()
    decided = f"Decision {decision_id} was charged {charged} nano-USD"
    too_much = ("--decision", decision_id, "--note", "no answer")
    for action, amount, options, told in (
        ("top-up", "0", (), "The amount is 0 nano-USD; nothing was changed. An amount is more than nothing."),
        (
            "top-up",
            "-1",
            (),
            "The amount is -1000000000 nano-USD; nothing was changed. An amount is more than nothing.",
        ),
        (
            "refund",
            usd(charged + 1),
            too_much,
            f"{decided}, of which 0 are refunded; nothing was changed. A refund is at most what is left of the charge.",
        ),
        (
            "correct",
            "-1",
            ("--note", "closing"),
            f"The wallet has {before[0]} nano-USD that nothing holds; nothing was changed. A correction takes at most that.",
        ),
    ):
        assert await wallet(action, scene, amount, *options) == 1
        assert capsys.readouterr().err == f"clearfloor wallet: {told}\n"
    assert scene.wallet() == before


async def test_an_organization_that_there_is_not_is_refused(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its id."""
    nobody = uuid7()
    assert await asyncio.to_thread(cli.main, ["wallet", "top-up", str(nobody), "1"]) == 1
    assert f"There is no organization {nobody}; nothing was changed." in capsys.readouterr().err
    assert scene.wallet() == (BALANCE_NANO_USD, 0)


async def test_an_id_that_stands_for_something_else_is_refused(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another amount under the same id is another entry."""
    entry_id = uuid7()
    assert await wallet("top-up", scene, "1", "--id", entry_id) == 0
    assert await wallet("top-up", scene, "2", "--id", entry_id) == 1
    assert f"The id {entry_id} stands for another entry; nothing was changed." in capsys.readouterr().err
    assert scene.wallet() == (2 * BALANCE_NANO_USD, 0)


async def test_a_record_that_is_away_leaves_the_id_to_send_again(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exits 2: nobody can tell whether the entry was made."""
    monkeypatch.setenv("SUPABASE_URL", f"http://{HOST}:{free_port()}")
    monkeypatch.setenv("CLEARFLOOR_STORE_RETRY_SECONDS", "0.1")
    assert await wallet("top-up", scene, "1") == 2
    captured = capsys.readouterr()
    entry_id = captured.out.split()[1].rstrip(":")
    assert "The record cannot be reached" in captured.err
    assert f"`--id {entry_id}`" in captured.err


async def test_a_wrong_key_is_one_line_without_the_key(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exits 2, and the entry is not made."""
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_hunter2")
    assert await wallet("top-up", scene, "1") == 2
    told = capsys.readouterr().err
    assert told == "clearfloor wallet: the record refused the call: Invalid API key\n"
    assert scene.wallet() == (BALANCE_NANO_USD, 0)
