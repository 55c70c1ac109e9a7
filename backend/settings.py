"""Every setting of the backend, once, typed, with its default and its unit. Nothing else reads the environment.

Names in the environment are the field's in capitals with the prefix ``CLEARFLOOR_``; Supabase's own keep theirs.
Provider keys are not settings: the catalogue names their variables, and :func:`provider_key` reads them.
"""

import os
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The backend's settings, checked at start.

    Raises:
        pydantic.ValidationError: a value is missing, of the wrong kind or at odds with another.
    """

    # A wrong setting's error is logged at start, and what is wrong may be a secret in the wrong place.
    model_config = SettingsConfigDict(
        env_prefix="CLEARFLOOR_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    supabase_url: str = Field(validation_alias=AliasChoices("SUPABASE_URL"))
    supabase_secret_key: SecretStr = Field(validation_alias=AliasChoices("SUPABASE_SECRET_KEY"))
    supabase_publishable_key: str = Field(validation_alias=AliasChoices("SUPABASE_PUBLISHABLE_KEY"))
    # Only for projects whose access tokens are still signed with the shared secret (HS256).
    supabase_jwt_secret: SecretStr | None = Field(None, validation_alias=AliasChoices("SUPABASE_JWT_SECRET"))

    # Origins of browsers that may call, comma-separated; empty: none.
    cors_allowed_origins: str = ""
    # A larger request is refused with 413 before it is parsed.
    max_request_bytes: int = Field(32 * 1024 * 1024, gt=0)

    # The record: one call to PostgREST, and all tries of it together.
    store_timeout_seconds: float = Field(5.0, gt=0)
    store_retry_seconds: float = Field(8.0, gt=0)
    store_connections: int = Field(8, gt=0)
    # How long an answer waits for its completion to be committed before it goes out without its cost.
    completion_wait_seconds: float = Field(5.0, gt=0)
    # Completions that may be under way at once, the record being away; past it no new request is opened.
    max_pending_completions: int = Field(1000, gt=0)
    # A decision that is open for longer is swept. Longer than any request may take: see the check below.
    lease_seconds: int = Field(900, gt=0)
    sweep_interval_seconds: float = Field(30.0, gt=0)
    sweep_batch_size: int = Field(500, gt=0)
    catalogue_refresh_seconds: float = Field(2.0, gt=0)
    # How long a caller's identity is remembered. The opening asks the database again, so a revoked key stops at once.
    caller_cache_seconds: float = Field(10.0, gt=0)
    caller_cache_entries: int = Field(10_000, gt=0)
    # JWKS: how often at the most an unknown key id makes us ask again, and how long a known set is kept.
    jwks_min_refresh_seconds: float = Field(10.0, gt=0)
    jwks_max_age_seconds: float = Field(600.0, gt=0)

    # Providers.
    provider_connect_timeout_seconds: float = Field(5.0, gt=0)
    # To the first byte of an answer (plain answers: to the whole of it) and between two chunks of a stream.
    provider_first_byte_timeout_seconds: float = Field(120.0, gt=0)
    provider_idle_timeout_seconds: float = Field(60.0, gt=0)
    # A longer answer (or a longer event of a stream) is malformed. An image in an answer is one of a few MiB.
    max_answer_bytes: int = Field(64 * 1024 * 1024, gt=0)
    provider_connections: int = Field(1000, gt=0)
    # The whole of a request, waits and failovers included.
    request_deadline_seconds: float = Field(600.0, gt=0)
    # How long a candidate is left alone after a 429 that named no time, and after our credentials were refused.
    rate_limit_cooldown_seconds: float = Field(10.0, gt=0)
    credentials_cooldown_seconds: float = Field(60.0, gt=0)

    @field_validator("supabase_secret_key")
    @classmethod
    def _is_not_publishable(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value().startswith("sb_publishable_"):
            raise ValueError(
                "SUPABASE_SECRET_KEY holds a publishable key; the backend needs the secret one (sb_secret_...)"
            )
        return key

    @field_validator("supabase_publishable_key")
    @classmethod
    def _is_not_secret(cls, key: str) -> str:
        if key.startswith("sb_secret_"):
            raise ValueError(
                "SUPABASE_PUBLISHABLE_KEY holds a secret key, which must never stand where callers' keys do"
            )
        return key

    @model_validator(mode="after")
    def _lease_outlives_requests(self) -> Self:
        longest = self.request_deadline_seconds + self.store_retry_seconds + self.completion_wait_seconds
        if self.lease_seconds <= longest:
            raise ValueError(
                f"CLEARFLOOR_LEASE_SECONDS is {self.lease_seconds}, but a request may take {longest} s:"
                " raise it, or lower CLEARFLOOR_REQUEST_DEADLINE_SECONDS"
            )
        return self

    @property
    def allowed_origins(self) -> list[str]:
        """The origins of ``cors_allowed_origins``, one by one."""
        return [origin.strip() for origin in self.cors_allowed_origins.split(",") if origin.strip()]


def provider_key(variable: str | None) -> str | None:
    """Return a provider's key by the environment variable that the catalogue names, or None."""
    return os.environ.get(variable) if variable else None
