"""The arguments of `clearfloor wallet`."""

import getpass

import pytest

from backend import cli
from tests.unit.samples import ORGANIZATION, SECRET_KEY

REFUND = ["refund", str(ORGANIZATION), "1", "--note", "why", "--decision", str(ORGANIZATION)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "action"),
        (["top-up", "acme", "1"], "ORGANIZATION_ID"),
        (["top-up", str(ORGANIZATION), "1.0000000001"], "no amount in USD"),
        (["top-up", str(ORGANIZATION), "1", "--id", "7"], "--id"),
        (["top-up", str(ORGANIZATION), "1", "--actor", " "], "--actor: it is empty"),
        (["top-up", str(ORGANIZATION), "1", "--decision", str(ORGANIZATION)], "--decision"),
        (["correct", str(ORGANIZATION), "-1"], "--note"),
        (["correct", str(ORGANIZATION), "-1", "--note", ""], "--note: it is empty"),
        (REFUND[:-2], "--decision"),
        ([*REFUND[:3], *REFUND[5:]], "--note"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the usage, and 2; nothing is sent."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["wallet", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("uid"), OSError("no name")])
def test_a_user_without_a_name_has_to_say_who_it_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger would not say who it was."""

    def no_name() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", no_name)
    with pytest.raises(SystemExit):
        cli.main(["wallet", "top-up", str(ORGANIZATION), "1"])
    assert "--actor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, ["SUPABASE_URL: Field required", "SUPABASE_SECRET_KEY: Field required"]),
        (
            {"SUPABASE_URL": "hunter2", "SUPABASE_SECRET_KEY": SECRET_KEY},
            ["SUPABASE_URL: it is no URL: it looks like https://<project>.supabase.co"],
        ),
    ],
)
def test_wrong_settings_are_named_in_a_line_each(
    variables: dict[str, str],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By their variables, without their values; the publishable key is not needed."""
    for variable in ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_PUBLISHABLE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert cli.main(["wallet", "top-up", str(ORGANIZATION), "1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"clearfloor wallet: {line}" for line in told]
