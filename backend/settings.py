"""Every setting of the backend, once, typed, with its default, its unit and what it is for. Nothing else reads the environment.

Names in the environment are the field's in capitals with the prefix ``CLEARFLOOR_``; Supabase's own keep theirs.
``docs/settings.md`` is this list; a test holds the two together. Provider keys are not settings: the catalogue names
their variables, and :func:`provider_key` reads them.
"""

import os
import re
from pathlib import Path
from typing import Any, Self

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.project_keys import project_key
from backend.routing.classifier import Classifier

# A comma would end it, and a space be lost.
_OPERATOR_TOKEN = re.compile(r"[a-z0-9_.-]+:(?P<token>[!-~]{32,})")

# The decision that a key stands for is kept for longer: public.retention.keep_days has a least.
_MOST_KEY_SECONDS = 30 * 24 * 60 * 60


def _more_than_zero(default: float, description: str) -> Any:  # noqa: ANN401 # as pydantic's own Field
    return Field(default, gt=0, description=description)


class Settings(BaseSettings):
    """The backend's settings, checked at start.

    Raises:
        pydantic.ValidationError: a value is missing, of the wrong kind or at odds with another.
    """

    # A wrong setting's error is logged at start, and what is wrong may be a secret in the wrong place.
    model_config = SettingsConfigDict(
        env_prefix="CLEARFLOOR_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    supabase_url: str = Field(validation_alias="SUPABASE_URL", description="The project's URL.")
    supabase_secret_key: SecretStr = Field(
        validation_alias="SUPABASE_SECRET_KEY",
        description="The secret key (`sb_secret_...`, or the older `service_role` key).",
    )
    supabase_publishable_key: str = Field(
        validation_alias="SUPABASE_PUBLISHABLE_KEY",
        description="The publishable key (`sb_publishable_...`, or the older `anon` key), with which members' rows are read.",
    )
    supabase_jwt_secret: SecretStr | None = Field(
        None,
        validation_alias="SUPABASE_JWT_SECRET",
        description="Only for projects whose access tokens are still signed with the shared secret (HS256).",
    )

    # The process.
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8787, ge=1, le=65535, description="The port to listen on.")
    shutdown_grace_seconds: int = _more_than_zero(
        30, "How long calls that are under way may take to end by themselves when a stop is asked for."
    )

    # Callers.
    cors_allowed_origins: str = Field(
        "", description="Origins of browsers that may call, comma-separated; empty: none."
    )
    operator_tokens: SecretStr | None = Field(
        None,
        description="Tokens of operators' programs that may move money, `name:token`, comma-separated: a name of `a-z0-9_.-`, a"
        " token of at least 32 characters. None: there are no such routes.",
    )
    max_request_bytes: int = _more_than_zero(
        32 * 1024 * 1024, "A larger request is refused with 413 before it is parsed."
    )
    caller_cache_seconds: float = _more_than_zero(
        10.0,
        "How long a caller's identity is remembered. The opening asks again, so a revoked key stops at once.",
    )
    caller_cache_entries: int = _more_than_zero(10_000, "How many callers are remembered.")
    key_grace_seconds: int = _more_than_zero(
        24 * 60 * 60,
        "How long a rotated API key goes on beside the new one, unless the request says otherwise.",
    )
    jwks_min_refresh_seconds: float = _more_than_zero(
        10.0, "How often at the most an unknown key id makes the backend fetch the project's signing keys."
    )
    jwks_max_age_seconds: float = _more_than_zero(600.0, "How long fetched signing keys are kept.")

    # The record.
    store_timeout_seconds: float = _more_than_zero(5.0, "One call to the Data API.")
    store_retry_seconds: float = _more_than_zero(8.0, "All tries of a call together.")
    store_connections: int = _more_than_zero(
        8,
        "Connections to the Data API: so many for what requests write, and as many for what they read.",
    )
    store_batch_items: int = _more_than_zero(
        128, "What concurrent requests write goes to the record in one call, up to so many of them."
    )
    max_waiting_requests: int = _more_than_zero(
        2000, "Requests that may wait to be written down; past it a new one is refused with 503."
    )
    completion_wait_seconds: float = _more_than_zero(
        5.0, "How long an answer waits for its completion before it goes out without its cost."
    )
    max_pending_completions: int = _more_than_zero(
        1000, "Completions under way while the record is away; past it no new request is opened."
    )
    lease_seconds: int = _more_than_zero(
        60, "A decision whose backend has not renewed its lease for so long is swept."
    )
    lease_renewal_seconds: float = _more_than_zero(
        15.0, "Between two renewals of the leases of what is open."
    )
    sweep_interval_seconds: float = _more_than_zero(30.0, "Between two sweeps.")
    sweep_batch_size: int = _more_than_zero(500, "Decisions closed in one transaction of a sweep.")
    retention_interval_seconds: float = _more_than_zero(
        300.0, "Between two looks for decisions that are older than `public.retention` says."
    )
    retention_batch_size: int = _more_than_zero(1000, "Decisions deleted in one transaction of retention.")
    retention_pause_seconds: float = _more_than_zero(1.0, "Between two of these transactions.")
    rate_publish_seconds: float = _more_than_zero(
        300.0, "Between two snapshots of the rates learned from feedback, however many backends there are."
    )
    idempotency_key_seconds: int = Field(
        24 * 60 * 60,
        gt=0,
        le=_MOST_KEY_SECONDS,
        description="How long an Idempotency-Key stands for its request, 30 days at the most, as retention may delete the request"
        " then; longer where its organization has answers stored for longer.",
    )
    idempotency_wait_seconds: float = _more_than_zero(
        30.0, "How long a repeated request waits for the first one before it gets 409."
    )
    idempotency_poll_seconds: float = _more_than_zero(0.5, "Between two looks at the first one.")
    answer_keys: SecretStr | None = Field(
        None,
        description="Fernet keys (32 bytes, URL-safe base64), comma-separated, with which answers are stored for"
        " organizations that ask for it: the first seals, all open. None: no answer is stored.",
    )
    classifier_file: Path | None = Field(
        None,
        description="Weights of the task classifier, as `clearfloor train` writes them. None: those that come with the package.",
    )
    quality_per_usd: float = Field(
        0.0,
        ge=0,
        description="How much quality (0 to 1) a US dollar of expected cost weighs where a caller takes the best there is"
        " (`on_miss`) and nothing clears. 0: nothing.",
    )
    exploration_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Of the requests that may explore, this share goes first to a cheaper model that may clear the floor though"
        " it is not expected to, so that feedback is heard of it. 0: none; at most 0.5.",
    )
    catalogue_refresh_seconds: float = _more_than_zero(2.0, "Between two looks at the catalogue.")

    # Providers.
    request_deadline_seconds: float = _more_than_zero(
        600.0, "The whole of a request, waits and failovers included."
    )
    provider_connect_timeout_seconds: float = _more_than_zero(5.0, "To a connection.")
    provider_first_content_timeout_seconds: float = _more_than_zero(
        120.0, "To the first content of a stream, or to the whole of a plain answer."
    )
    provider_idle_timeout_seconds: float = _more_than_zero(60.0, "Between two events of a stream.")
    provider_tail_timeout_seconds: float = _more_than_zero(
        5.0, "The same once the answer has ended, for the usage report and the end marker."
    )
    max_answer_bytes: int = _more_than_zero(
        64 * 1024 * 1024, "A longer answer, or a longer event of a stream, is malformed."
    )
    provider_connections: int = _more_than_zero(1000, "Connections to providers.")
    rate_limit_cooldown_seconds: float = _more_than_zero(
        10.0, "How long a candidate is left alone after a 429 that named no time."
    )
    credentials_cooldown_seconds: float = _more_than_zero(
        60.0, "How long a candidate is left alone after it refused our key or our account (401, 402)."
    )

    @field_validator("supabase_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if not url.startswith(("https://", "http://")):
            raise ValueError("it is no URL: it looks like https://<project>.supabase.co")
        return url

    @field_validator("supabase_secret_key")
    @classmethod
    def _is_secret(cls, key: SecretStr) -> SecretStr:
        if not key:
            raise ValueError("it is empty")
        kind = project_key(key.get_secret_value())
        if kind == "publishable":
            raise ValueError(
                "it is a publishable key (sb_publishable_..., or the older `anon`); the backend needs the secret one"
            )
        if kind is None:
            raise ValueError("it is no secret key of a project (sb_secret_..., or the older `service_role`)")
        return key

    @field_validator("supabase_publishable_key")
    @classmethod
    def _is_publishable(cls, key: str) -> str:
        kind = project_key(key)
        if kind == "secret":
            raise ValueError(
                "it is a secret key (sb_secret_..., or the older `service_role`), which must never stand where callers' keys do"
            )
        if kind is None:
            raise ValueError(
                "it is no publishable key of a project (sb_publishable_..., or the older `anon`)"
            )
        return key

    @field_validator("classifier_file")
    @classmethod
    def _is_classifier(cls, file: Path | None) -> Path | None:
        if file:
            try:
                Classifier.from_bytes(file.read_bytes())
            except OSError as error:
                raise ValueError(f"it cannot be read: {error.strerror}") from error
        return file

    @field_validator("answer_keys")
    @classmethod
    def _are_fernet_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        for key in _parts(keys):
            try:
                Fernet(key)
            except ValueError:
                raise ValueError(
                    "each must be 32 bytes in URL-safe base64, as Fernet.generate_key makes them"
                ) from None
        return keys

    @field_validator("operator_tokens")
    @classmethod
    def _are_operator_tokens(cls, tokens: SecretStr | None) -> SecretStr | None:
        found = [_OPERATOR_TOKEN.fullmatch(part) for part in _parts(tokens)]
        if not all(found):
            raise ValueError(
                "each must be `name:token`: a name of a-z, 0-9, `_`, `.` and `-`, and at least 32 printable characters"
            )
        if len({part["token"] for part in found if part}) < len(found):
            raise ValueError("a token stands for one operator: two have the same")
        return tokens

    @model_validator(mode="after")
    def _lease_outlives_renewals(self) -> Self:
        # One renewal may fail, and an opening may take all its tries before it is renewed for the first time.
        longest = 2 * self.lease_renewal_seconds + self.store_retry_seconds
        if self.lease_seconds <= longest:
            raise ValueError(
                f"CLEARFLOOR_LEASE_SECONDS is {self.lease_seconds}, but it must be more than {longest:g}, two renewals and the"
                " retries of a call to the record: raise it, or lower CLEARFLOOR_LEASE_RENEWAL_SECONDS"
            )
        return self

    @property
    def allowed_origins(self) -> list[str]:
        """The origins of ``cors_allowed_origins``, one by one."""
        return [origin.strip() for origin in self.cors_allowed_origins.split(",") if origin.strip()]

    @property
    def fernet_keys(self) -> list[str]:
        """The keys of ``answer_keys``, one by one."""
        return _parts(self.answer_keys)

    @property
    def operators(self) -> list[tuple[str, str]]:
        """The names and tokens of ``operator_tokens``. A name may have several, so that they can be changed."""
        pairs = (part.partition(":") for part in _parts(self.operator_tokens))
        return [(name, token) for name, _, token in pairs]


def _parts(secret: SecretStr | None) -> list[str]:
    whole = secret.get_secret_value() if secret else ""
    return [part.strip() for part in whole.split(",") if part.strip()]


def provider_key(variable: str | None) -> str | None:
    """Return a provider's key by the environment variable that the catalogue names; None if it holds nothing that can be one.

    Space around a key, as a file's last line end brings it, is not part of it.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    return key if key.isascii() and key.isprintable() and key else None


def faults(error: ValidationError) -> list[str]:
    """Return one line a wrong setting, by its variable's name; never its value, which may be a secret."""
    return [
        ": ".join(
            [*(_variable(str(part)) for part in fault["loc"]), fault["msg"].removeprefix("Value error, ")]
        )
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _variable(name: str) -> str:
    return name if name.isupper() else f"CLEARFLOOR_{name.upper()}"
