"""What `clearfloor` says when it cannot do what was asked."""

from pathlib import Path

import pytest

from backend import cli
from backend.stack import commands, parts
from backend.stack.errors import StackError
from backend.stack.sign_in import token_hook


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the commands away from the project's own .clearfloor."""
    monkeypatch.setattr(commands, "HOME", tmp_path)
    return tmp_path


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is argparse's."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(["fly"])
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_down_without_up_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """And that is no failure."""
    assert cli.main(["down"]) == 0
    assert capsys.readouterr().out == "Nothing was running.\n"


def test_clean_leaves_nothing_even_of_data_that_lies_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root the data may be behind a link."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    home.mkdir()
    (home / "postgres").symlink_to(elsewhere)
    monkeypatch.setattr(commands, "HOME", home)
    assert cli.main(["clean"]) == 0
    assert (home.exists(), elsewhere.exists()) == (False, False)
    assert "starts from nothing" in capsys.readouterr().out


def test_status_fails_while_something_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    """A script can wait for it."""
    assert cli.main(["status"]) == 1
    assert "postgres   stopped" in capsys.readouterr().out


def test_a_port_that_is_none_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the setting."""
    monkeypatch.setenv("CLEARFLOOR_PORT_FRONT", "http")
    assert cli.main(["up"]) == 1
    expected = "clearfloor up: CLEARFLOOR_PORT_FRONT is 'http': give a port number, 1 to 65535.\n"
    assert capsys.readouterr().err == expected


def test_parts_that_are_not_installed_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Postgres of another platform is no help."""
    monkeypatch.setattr(parts, "NODE_MODULES", tmp_path)
    with pytest.raises(StackError, match="run `make install`"):
        parts.postgres_package()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", None),
        ('[auth.hook.custom_access_token]\nenabled = false\nuri = "pg-functions://postgres/a/b"', None),
        ('[auth.hook.custom_access_token]\nenabled = true\nuri = "pg-functions://postgres/a/b"', '"a"."b"'),
    ],
)
def test_the_access_token_hook_is_read_from_the_configuration(
    tmp_path: Path, config: str, expected: str | None
) -> None:
    """As Supabase's own CLI reads it."""
    file = tmp_path / "config.toml"
    file.write_text(config)
    hook = token_hook(file)
    assert (hook.as_string() if hook else None) == expected
