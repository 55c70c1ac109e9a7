"""Settings that cannot work are refused at start, and none is told to anybody."""

from pathlib import Path

import jwt
import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from backend.cli import main
from backend.settings import Settings, provider_key
from backend.weights import CLASSIFIER_FILE
from tests.unit.samples import PUBLISHABLE_KEY, SECRET_KEY, SUPABASE_URL, settings

CANARY = "canary"
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_environment_is_where_settings_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supabase's own names, and ours with their prefix."""
    monkeypatch.setenv("SUPABASE_URL", SUPABASE_URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEY", PUBLISHABLE_KEY)
    monkeypatch.setenv("CLEARFLOOR_LEASE_SECONDS", "1234")
    read = Settings()
    assert (read.supabase_url, read.lease_seconds) == (SUPABASE_URL, 1234)
    assert read.supabase_secret_key.get_secret_value() == SECRET_KEY


def test_a_start_with_wrong_settings_says_which_in_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By variable, without a trace, and without the values: one may be a secret in the wrong place."""
    monkeypatch.setenv("SUPABASE_URL", SUPABASE_URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", f"sb_publishable_{CANARY}")
    monkeypatch.delenv("SUPABASE_PUBLISHABLE_KEY", raising=False)
    monkeypatch.setenv("CLEARFLOOR_PORT", CANARY)
    assert main(["serve"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines() == [
        (
            "clearfloor serve: SUPABASE_SECRET_KEY: it is a publishable key (sb_publishable_..., or the older `anon`);"
            " the backend needs the secret one"
        ),
        "clearfloor serve: SUPABASE_PUBLISHABLE_KEY: Field required",
        "clearfloor serve: CLEARFLOOR_PORT: Input should be a valid integer, unable to parse string as an integer",
    ]


@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_PUBLISHABLE_KEY"])
def test_a_missing_setting_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that its operator is to set."""
    for variable in ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_PUBLISHABLE_KEY"):
        monkeypatch.setenv(variable, SUPABASE_URL)
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name):
        Settings()


def legacy_key(role: str) -> str:
    """Return a key of a project from before the new ones."""
    return jwt.encode(
        {"iss": "supabase", "role": role}, "secret-of-a-project-secret-of-a-project", algorithm="HS256"
    )


SECRET_KEYS = ["sb_secret_x", legacy_key("service_role")]
PUBLISHABLE_KEYS = ["sb_publishable_x", legacy_key("anon")]
NO_KEYS = ["hunter2", "a.b.c", legacy_key("authenticated"), "eyJ"]


@pytest.mark.parametrize(("secret", "publishable"), list(zip(SECRET_KEYS, PUBLISHABLE_KEYS, strict=True)))
def test_keys_of_both_generations_are_accepted(secret: str, publishable: str) -> None:
    """A project has the one or the other."""
    read = settings(SUPABASE_SECRET_KEY=secret, SUPABASE_PUBLISHABLE_KEY=publishable)
    assert read.supabase_secret_key.get_secret_value() == secret
    assert read.supabase_publishable_key == publishable


@pytest.mark.parametrize("key", PUBLISHABLE_KEYS)
def test_a_publishable_key_is_refused_where_the_secret_one_belongs(key: str) -> None:
    """The backend could neither open nor complete a decision with it."""
    with pytest.raises(ValidationError, match=r"SUPABASE_SECRET_KEY\n.*it is a publishable key"):
        settings(SUPABASE_SECRET_KEY=key)


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_secret_key_is_refused_where_the_publishable_one_belongs(key: str) -> None:
    """Users' reads would go out with it."""
    with pytest.raises(ValidationError, match=r"SUPABASE_PUBLISHABLE_KEY\n.*it is a secret key"):
        settings(SUPABASE_PUBLISHABLE_KEY=key)


@pytest.mark.parametrize("key", NO_KEYS)
@pytest.mark.parametrize("variable", ["SUPABASE_SECRET_KEY", "SUPABASE_PUBLISHABLE_KEY"])
def test_what_is_no_key_of_a_project_is_refused(variable: str, key: str) -> None:
    """At start, not with the first request."""
    with pytest.raises(ValidationError, match=rf"{variable}\n.*it is no \w+ key of a project"):
        settings(**{variable: key})


def test_a_classifier_is_read_at_start(tmp_path: Path) -> None:
    """One that is not there, or none, does not wait for the first request."""
    assert settings(classifier_file=CLASSIFIER_FILE).classifier_file == CLASSIFIER_FILE
    with pytest.raises(ValidationError, match=r"classifier_file\n.*it cannot be read"):
        settings(classifier_file=tmp_path / "nothing")
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"nonsense")
    with pytest.raises(ValidationError, match=r"classifier_file\n.*no file of weights"):
        settings(classifier_file=nonsense)


def test_keys_of_answers_are_checked_at_start() -> None:
    """A wrong one would show only when the first answer is stored; it is not repeated in the error."""
    good, wrong = Fernet.generate_key().decode(), "not-a-fernet-key"
    assert settings(answer_keys=f"{good}, {good}").fernet_keys == [good, good]
    with pytest.raises(ValidationError, match="32 bytes in URL-safe base64") as raised:
        settings(answer_keys=f"{good},{wrong}")
    assert wrong not in str(raised.value)


@pytest.mark.parametrize("url", ["", "project.supabase.co", "postgresql://postgres@db.supabase.co/postgres"])
def test_what_is_no_url_of_a_project_is_refused(url: str) -> None:
    """The Data API is reached by HTTP."""
    with pytest.raises(ValidationError, match=r"SUPABASE_URL\n.*it is no URL"):
        settings(SUPABASE_URL=url)


def test_an_empty_secret_key_is_refused() -> None:
    """It is one that was not set."""
    with pytest.raises(ValidationError, match=r"SUPABASE_SECRET_KEY\n.*it is empty"):
        settings(SUPABASE_SECRET_KEY="")


def test_a_lease_must_outlive_its_renewals() -> None:
    """Else a request that is still running would be swept."""
    with pytest.raises(ValidationError, match="CLEARFLOOR_LEASE_SECONDS is 38, but it must be more than 38"):
        settings(lease_seconds=38)
    assert settings(lease_seconds=39).lease_seconds == 39
    assert settings(lease_seconds=20, lease_renewal_seconds=5).lease_seconds == 20


@pytest.mark.parametrize("share", [-0.1, 0.51])
def test_exploring_is_never_the_rule(share: float) -> None:
    """At the most half of the requests that may explore do; by default none."""
    with pytest.raises(ValidationError, match="exploration_share"):
        settings(exploration_share=share)
    assert settings(exploration_share=0.5).exploration_share == 0.5
    assert settings().exploration_share == 0


@pytest.mark.parametrize(
    "name", sorted(n for n in Settings.model_fields if n.endswith(("_seconds", "_bytes", "_size")))
)
def test_no_time_or_size_may_be_zero(name: str) -> None:
    """It would mean never, or always: neither is what zero is meant by."""
    with pytest.raises(ValidationError, match=name):
        settings(**{name: 0})


def test_secrets_are_in_no_text_of_the_settings() -> None:
    """They would be in a log with the first traceback."""
    known = settings(
        SUPABASE_SECRET_KEY=f"sb_secret_{CANARY}",
        SUPABASE_JWT_SECRET=CANARY,
        operator_tokens=f"ann:{CANARY * 6}",
    )
    assert CANARY not in repr(known) + str(known) + known.model_dump_json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"SUPABASE_PUBLISHABLE_KEY": f"sb_secret_{CANARY}"},
        {"SUPABASE_URL": None, "SUPABASE_SECRET_KEY": f"sb_secret_{CANARY}"},
        {"SUPABASE_SECRET_KEY": f"sb_secret_{CANARY}", "lease_seconds": 1},
        {"SUPABASE_JWT_SECRET": [CANARY]},
    ],
)
def test_secrets_are_not_in_the_error_of_wrong_settings(wrong: dict[str, object]) -> None:
    """It is the last line of a backend that does not start: everybody's first look."""
    with pytest.raises(ValidationError) as raised:
        settings(**wrong)
    assert CANARY not in str(raised.value)


def test_origins_are_read_one_by_one() -> None:
    """Comma-separated; none by default."""
    assert settings().allowed_origins == []
    assert settings(cors_allowed_origins=" https://a.test, ,https://b.test").allowed_origins == [
        "https://a.test",
        "https://b.test",
    ]


def test_operators_are_read_one_by_one() -> None:
    """None by default; a name may have two tokens while they are changed, and a token any printable character but the comma."""
    one, two = "x" * 32, "=:" * 16
    assert settings().operators == settings(operator_tokens=" , ").operators == []
    assert settings(operator_tokens=f"ann:{one}, ann:{two} ,billing-1.eu_x:{'y' * 40}").operators == [
        ("ann", one),
        ("ann", two),
        ("billing-1.eu_x", "y" * 40),
    ]


@pytest.mark.parametrize(
    "tokens",
    [
        "x" * 40,
        f":{'x' * 40}",
        f"ann:{'x' * 31}",
        f"Ann:{'x' * 40}",
        f"ann lee:{'x' * 40}",
        f"ann:{'x' * 20} {'x' * 20}",
        f"ann:{'ü' * 40}",
        f"ann:{'x' * 40},{CANARY}",
        f"ann:{'x' * 40},bob:{'x' * 40}",
    ],
)
def test_wrong_tokens_of_operators_are_refused_without_being_told(tokens: str) -> None:
    """No name, a token that is too short or cannot be sent, or one that two would share."""
    with pytest.raises(ValidationError, match="operator_tokens") as raised:
        settings(operator_tokens=tokens)
    assert "x" * 20 not in str(raised.value)
    assert CANARY not in str(raised.value)


def test_a_provider_key_is_read_from_the_variable_that_the_catalogue_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A provider without a variable needs no key."""
    monkeypatch.setenv("ACME_API_KEY", "key")
    monkeypatch.delenv("OTHER_API_KEY", raising=False)
    assert provider_key("ACME_API_KEY") == "key"
    assert provider_key("OTHER_API_KEY") is None
    assert provider_key(None) is None


def shown_default(field: FieldInfo) -> str:
    """Return what the document says of a default."""
    if field.is_required():
        return "needed"
    return "none" if field.default in (None, "") else str(field.default)


def test_the_document_is_the_list() -> None:
    """Variable, default and purpose: row by row, in order, in the same words."""
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{field.validation_alias or f'CLEARFLOOR_{name.upper()}'}` "
        f"| {shown_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
