"""Who is calling: an agent's API key, or a Supabase user's access token.

Three answers are possible, never two: yes, no, and "cannot tell" (503). What was found is remembered for seconds; the
opening of a decision asks the database again, so a revoked key or an ended membership stops at once.
"""

import hashlib
from dataclasses import dataclass

from cachetools import TTLCache
from fastapi import Request

from backend.api.tokens import TokenVerifier, User
from backend.errors import AccessDeniedError, AuthenticationError
from backend.settings import Settings
from backend.store.callers import Caller, find_caller_by_key, find_caller_by_user
from backend.store.client import DataApi

API_KEY_PREFIX = "cf_"
AGENT_HEADER = "x-clearfloor-agent"


@dataclass(frozen=True, slots=True)
class Identity:
    """The calling agent; ``user`` where it is a member's token that acts as it."""

    caller: Caller
    user: User | None


class Identities:
    """Resolves requests to identities."""

    def __init__(self, settings: Settings, api: DataApi, verifier: TokenVerifier) -> None:
        self._api = api
        self._verifier = verifier
        # Keyed by the whole hash of a key, or by user, organization and agent: nothing shorter that could collide.
        self._found: TTLCache[object, Caller] = TTLCache(
            settings.caller_cache_entries, settings.caller_cache_seconds
        )

    async def identify(self, request: Request) -> Identity:
        """Find out who is calling.

        Raises:
            AuthenticationError: nobody we know.
            AccessDeniedError: a user who is not, or no longer, a member, or names an agent that is not there.
            StoreUnavailableError: nobody can tell now.
        """
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise AuthenticationError(
                "No credentials: send `Authorization: Bearer` with an agent's API key or a Supabase access token."
            )
        if credential.startswith(API_KEY_PREFIX):
            return Identity(await self._by_key(credential), None)
        user = await self._verifier.verify(credential)
        return Identity(await self._by_user(user, request.headers.get(AGENT_HEADER)), user)

    async def _by_key(self, key: str) -> Caller:
        key_hash = hashlib.sha256(key.encode()).digest()
        caller = self._found.get(key_hash) or await find_caller_by_key(self._api, key_hash)
        if caller is None:
            raise AuthenticationError("The API key is unknown, expired or revoked.")
        self._remember(key_hash, caller)
        return caller

    async def _by_user(self, user: User, agent: str | None) -> Caller:
        who = (user.id, user.organization_id, agent)
        caller = self._found.get(who) or await find_caller_by_user(
            self._api, user.id, user.organization_id, agent
        )
        if caller is None:
            named = f"has no agent `{agent}`" if agent else "gives the membership no default agent"
            raise AccessDeniedError(f"The user is not a member of the active organization, or it {named}.")
        self._remember(who, caller)
        return caller

    def _remember(self, who: object, caller: Caller) -> None:
        # Not again what is remembered already: its time would never run out.
        self._found.setdefault(who, caller)
