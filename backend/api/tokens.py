"""Verifies access tokens of Supabase Auth, locally.

Checked: signature (ES256 or RS256 by the project's JWKS; HS256 by the shared secret, only if one is set), ``exp``,
``iss``, ``aud``, ``role`` and ``is_anonymous``. https://supabase.com/docs/guides/auth/jwts
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import jwt

from backend.errors import AuthenticationError, StoreUnavailableError
from backend.settings import Settings

_LOGGER = logging.getLogger(__name__)
_ASYMMETRIC_ALGORITHMS = ("ES256", "RS256")
_AUDIENCE = "authenticated"
_ROLE = "authenticated"
_LEEWAY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class User:
    """A verified user, the organization it speaks for, and its token, to read with under row level security."""

    id: UUID
    organization_id: UUID
    access_token: str


class TokenVerifier:
    """Verifies tokens. Keys are fetched when needed, kept for a while, and asked for again at a bounded rate."""

    def __init__(
        self, settings: Settings, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._issuer = f"{settings.supabase_url.rstrip('/')}/auth/v1"
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._is_stale = True
        self._refreshing = asyncio.Lock()

    async def verify(self, token: str) -> User:
        """Verify a token.

        Raises:
            AuthenticationError: it is not a valid token of a signed-in user of this project.
            StoreUnavailableError: nobody can tell now: the project's keys cannot be fetched.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header)
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=_AUDIENCE,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise AuthenticationError(
                f"The access token does not verify: {error}. An agent's API key begins with `cf_`."
            ) from error
        return _user(claims, token)

    async def _key(self, header: dict[str, Any]) -> Any:  # noqa: ANN401 # what PyJWT takes as a key
        secret = self._settings.supabase_jwt_secret
        algorithm = header.get("alg")
        if algorithm == "HS256" and secret:
            return secret.get_secret_value()
        if algorithm not in _ASYMMETRIC_ALGORITHMS:
            raise jwt.InvalidAlgorithmError(f"the algorithm {algorithm} is not accepted")
        key_id = str(header.get("kid"))
        if self._is_due(key_id):
            # Whoever comes while the keys are under way waits for them, rather than being told that its key is unknown.
            async with self._refreshing:
                await self._refresh(key_id)
        key = self._keys.get(key_id)
        if key is None and self._is_stale:
            raise StoreUnavailableError(
                "The project's signing keys cannot be fetched, so nobody can tell who is calling. Try again shortly.",
                retry_after_seconds=self._settings.jwks_min_refresh_seconds,
            )
        if key is None or key.algorithm_name != algorithm:
            raise jwt.InvalidTokenError("it is signed with a key that is not the project's")
        return key

    def _is_due(self, key_id: str) -> bool:
        return key_id not in self._keys or self._age() > self._settings.jwks_max_age_seconds

    async def _refresh(self, key_id: str) -> None:
        if self._is_due(key_id) and self._age() > self._settings.jwks_min_refresh_seconds:
            self._asked_at = self._clock()
            self._is_stale = not await self._fetch()

    def _age(self) -> float:
        return self._clock() - self._asked_at

    async def _fetch(self) -> bool:
        """Fetch the keys; tell whether that worked. If not, those known so far stay."""
        try:
            response = await self._http.get(f"{self._issuer}/.well-known/jwks.json")
            response.raise_for_status()
            published = response.json()
            # A project that signs with the shared secret publishes no key, which PyJWT takes for an error.
            keys = jwt.PyJWKSet.from_dict(published).keys if published["keys"] else []
        except (httpx.HTTPError, ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
            # TypeError and KeyError: JSON that is no key set.
            _LOGGER.warning("The project's signing keys cannot be fetched: %s", error)
            return False
        self._keys = {key.key_id: key for key in keys if key.key_id}
        return True


def _user(claims: dict[str, Any], token: str) -> User:
    if claims.get("role") != _ROLE or claims.get("is_anonymous"):
        raise AuthenticationError("The access token is not that of a signed-in user.")
    metadata = claims.get("app_metadata")
    organization = metadata.get("organization_id") if isinstance(metadata, dict) else None
    if not organization:
        raise AuthenticationError(
            "The access token names no active organization (app_metadata.organization_id): switch the access token"
            " hook on, or choose an organization and refresh the token."
        )
    try:
        return User(UUID(claims["sub"]), UUID(organization), token)
    except (ValueError, TypeError, AttributeError) as error:
        raise AuthenticationError("The access token's ids are not UUIDs.") from error
