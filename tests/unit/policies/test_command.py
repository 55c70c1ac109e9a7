"""What `clearfloor policies check` returns for conditions that a Postgres of today does not print."""

from contextlib import nullcontext

import pytest

from backend import cli
from backend.policies import command
from backend.policies.policy import Policy


def test_a_condition_that_cannot_be_parsed_means_that_it_cannot_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 2, having told what it could."""
    policies = [Policy("public", "teams", "odd", "(a is of b)", None, frozenset())]
    monkeypatch.setattr(command, "open_transaction", lambda *_, **__: nullcontext())
    monkeypatch.setattr(command, "read_policies", lambda *_: policies)
    assert cli.main(["policies", "check", "postgresql://127.0.0.1/postgres"]) == 2
    assert 'public.teams "odd" USING: it cannot be parsed' in capsys.readouterr().out
