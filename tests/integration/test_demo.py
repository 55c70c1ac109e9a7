"""`clearfloor demo` shows what is in the rows, and leaves everything as it was."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from backend import cli
from backend.demo.scenes import CHEAPEST_MODEL, SCENES
from backend.demo.site import TIMEOUT_SECONDS
from backend.stack.demo import Demo, prepare_demo
from backend.stack.ports import HOST, free_port
from backend.stack.stack import Stack
from backend.units import usd
from tests.support.backend_process import BackendProcess

_DECISIONS = """
    select id, decision_rule, outcome_status, reserved_nano_usd, charge_nano_usd
    from public.routing_outcomes order by id
"""
_ATTEMPTS = """
    select model, status, http_calls, cost_nano_usd
    from public.inferences where routing_outcome_id = %s order by attempt_number
"""


@pytest.fixture(scope="module")
def seeded() -> Iterator[Stack]:
    """Start a stack with the demo's seed: one of its own, since the seed's models would take others' requests."""
    with tempfile.TemporaryDirectory(prefix="clearfloor-stack-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o711)
        with Stack(Path(home), seed=True) as running:
            yield running


@pytest.fixture(scope="module")
def settings_file(seeded: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a backend on the demo's data and write down how to reach it, as `clearfloor up` does."""
    demo = prepare_demo(seeded)
    with BackendProcess(seeded) as backend:
        file = tmp_path_factory.mktemp("demo") / "dev.env"
        file.write_text(settings_text(seeded, demo, backend.url))
        yield file


def settings_text(stack: Stack, demo: Demo, url: str) -> str:
    """Return the lines of a settings file."""
    settings = {
        "CLEARFLOOR_URL": url,
        "CLEARFLOOR_API_KEY": demo.api_key,
        "CLEARFLOOR_TENANT_TOKEN": demo.tenant_token,
        "CLEARFLOOR_OTHER_TENANT_TOKEN": demo.other_tenant_token,
        "SUPABASE_URL": stack.endpoints.supabase_url,
        "SUPABASE_PUBLISHABLE_KEY": stack.endpoints.publishable_key,
        "SIMULATOR_URL": stack.endpoints.simulator_url,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def rows(stack: Stack, query: Any, *parameters: Any) -> list[dict[str, Any]]:  # any SQL
    """Run a query as the superuser, past row level security."""
    with psycopg.connect(stack.endpoints.superuser_url, row_factory=dict_row) as connection:
        return connection.execute(query, parameters).fetchall()


def new_decisions(stack: Stack, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the decisions that were not known before."""
    return [decision for decision in rows(stack, _DECISIONS) if decision not in known]


def section_of(output: str, decision: dict[str, Any]) -> str:
    """Return what the demo printed of one decision."""
    (section,) = [part for part in output.split("\n\n") if str(decision["id"]) in part and "answer" in part]
    return section


def test_the_demo_prints_what_the_rows_say(
    seeded: Stack, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every decision, attempt and sum that is printed stands in the tables, and none of them is left out."""
    known = rows(seeded, _DECISIONS)
    assert cli.main(["demo", "--settings", str(settings_file)]) == 0
    output = capsys.readouterr().out
    assert "UNEXPECTED" not in output

    decisions = new_decisions(seeded, known)
    outcomes = [decision["outcome_status"] for decision in decisions]
    assert outcomes == ["succeeded"] * 3 + ["rejected_cap", "rejected_no_candidate"]
    for decision in decisions:
        section = section_of(output, decision)
        assert f"{decision['decision_rule']}, {decision['outcome_status']}" in section
        assert f"reserved {usd(decision['reserved_nano_usd'])} USD" in section
        assert f"charged {usd(decision['charge_nano_usd'])} USD" in section
        assert "sees 0 decisions, 0 attempts, 0 ledger entries of it" in section
        attempts = rows(seeded, _ATTEMPTS, decision["id"])
        assert section.count("HTTP call") == len(attempts)
        for number, attempt in enumerate(attempts, start=1):
            (line,) = [text for text in section.splitlines() if f"{number}  {attempt['model']} " in text]
            assert f" {attempt['status']} " in line
            assert f" {attempt['http_calls']} HTTP call" in line
            assert line.endswith(f" {usd(attempt['cost_nano_usd'])} USD")


def test_the_wallet_falls_by_what_was_charged(
    seeded: Stack, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The balances before and after are the wallet's, and differ by the decisions' charges."""
    query = "select w.balance_nano_usd from public.wallets w join public.organizations o on o.id = organization_id"
    query += " where o.name = 'Demo'"
    (before,) = rows(seeded, query)
    known = rows(seeded, _DECISIONS)
    assert cli.main(["demo", "--settings", str(settings_file)]) == 0
    (after,) = rows(seeded, query)
    charged = sum(decision["charge_nano_usd"] for decision in new_decisions(seeded, known))
    assert before["balance_nano_usd"] - after["balance_nano_usd"] == charged > 0
    output = capsys.readouterr().out
    assert f"before    {usd(before['balance_nano_usd'])} USD, of which 0 held" in output
    assert f"after     {usd(after['balance_nano_usd'])} USD, of which 0 held" in output
    assert f"charged   {usd(charged)} USD" in output


def test_the_other_tenant_would_be_shown_to_see_rows_if_it_did(
    seeded: Stack, settings_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The zeros are read, not written: with the tenant's own token in the stranger's place they are none."""
    text = settings_file.read_text()
    own = next(line for line in text.splitlines() if line.startswith("CLEARFLOOR_TENANT_TOKEN="))
    mixed_up = tmp_path / "dev.env"
    mixed_up.write_text(f"{text}{own.replace('_TENANT', '_OTHER_TENANT')}\n")
    known = rows(seeded, _DECISIONS)
    assert cli.main(["demo", "--settings", str(mixed_up)]) == 0
    first = section_of(capsys.readouterr().out, new_decisions(seeded, known)[0])
    assert "sees 1 decisions, 1 attempts, 1 ledger entries of it" in first


def test_the_demo_leaves_the_simulated_model_answering(
    seeded: Stack, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No fault of a scene is left behind for the next caller."""
    assert any(scene.faults for scene in SCENES)
    assert cli.main(["demo", "--settings", str(settings_file)]) == 0
    assert capsys.readouterr().out
    answer = httpx.post(
        f"{seeded.endpoints.simulator_url}/v1/chat/completions",
        json={"model": CHEAPEST_MODEL, "messages": [{"role": "user", "content": "Hello"}]},
        timeout=TIMEOUT_SECONDS,
    )
    assert answer.status_code == 200, answer.text


def test_a_request_that_comes_to_something_else_is_reported(
    seeded: Stack, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where what happens is not what a scene says, the demo says so and fails."""
    switch = "update public.agents set active = not active where name = 'capped' returning name"
    rows(seeded, switch)
    try:
        assert cli.main(["demo", "--settings", str(settings_file)]) == 1
    finally:
        rows(seeded, switch)
    output = capsys.readouterr().out
    assert output.count("UNEXPECTED") == 1
    assert "rejected_inactive" in output


def test_without_a_start_one_line_says_what_to_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing was ever started here."""
    assert cli.main(["demo", "--settings", str(tmp_path / "dev.env")]) == 1
    assert capsys.readouterr().err == "clearfloor demo: nothing is up: run `make up` first.\n"


def test_after_a_stop_one_line_says_what_to_run(
    settings_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The settings are still there, but nobody answers."""
    stopped = tmp_path / "dev.env"
    stopped.write_text(f"{settings_file.read_text()}SUPABASE_URL=http://{HOST}:{free_port()}\n")
    assert cli.main(["demo", "--settings", str(stopped)]) == 1
    error = capsys.readouterr().err
    assert "cannot be reached" in error
    assert "run `make up`" in error
    assert error.count("\n") == 1
