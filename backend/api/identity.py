"""Who is calling: an agent's API key, or a Supabase user's access token.

Three answers are possible, never two: yes, no, and "cannot tell" (503). What was found is remembered for seconds; the
opening of a decision asks the database again, so a revoked key or an ended membership stops at once.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache
from fastapi import Request

from backend.api.tokens import TokenVerifier, User
from backend.errors import AccessDeniedError, AuthenticationError, InvalidRequestError
from backend.project_keys import ProjectKey, project_key
from backend.settings import Settings
from backend.store.callers import Caller, find_caller_by_key, find_caller_by_user
from backend.store.client import DataApi

API_KEY_PREFIX = "cf_"
AGENT_HEADER = "x-clearfloor-agent"
_PROJECT_KEYS: dict[ProjectKey, str] = {
    "publishable": "This is the project's publishable key, which names nobody: send an agent's API key (cf_...) or the access"
    " token of a user who has signed in.",
    "secret": "This is the project's secret key, which opens the whole database and belongs to the backend alone: send an agent's"
    " API key (cf_...). Replace it if anybody else may have seen it.",
}


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
        self._looked_up: dict[object, asyncio.Future[Caller | None]] = {}

    async def identify(self, request: Request, *, is_checked_again: bool = False) -> Identity:
        """Find out who is calling.

        Args:
            request: the request.
            is_checked_again: what follows asks the database again whether this caller may, in the transaction that counts:
                who was found seconds ago is good enough.

        Raises:
            AuthenticationError: nobody we know.
            AccessDeniedError: a user who is not, or no longer, a member, or names an agent that is not there.
            InvalidRequestError: an agent is named beside a key, which speaks for its own.
            StoreUnavailableError: nobody can tell now.
        """
        credential = _credential(request)
        agent = _named_agent(request)
        if credential.startswith(API_KEY_PREFIX):
            if agent is not None:
                raise InvalidRequestError(
                    f"A key speaks for its own agent: `{AGENT_HEADER}` goes with an access token.",
                    param=AGENT_HEADER,
                )
            return Identity(await self._by_key(credential, is_checked_again=is_checked_again), None)
        user = await self._verified(credential)
        return Identity(await self._by_user(user, agent, is_checked_again=is_checked_again), user)

    async def identify_member(self, request: Request) -> User:
        """Find out which user is calling, and for which organization. Whether it is a member still is not asked here.

        Raises:
            AuthenticationError: nobody we know.
            AccessDeniedError: an agent.
            StoreUnavailableError: nobody can tell now.
        """
        credential = _credential(request)
        if credential.startswith(API_KEY_PREFIX):
            raise AccessDeniedError(
                "A key speaks for an agent, which manages nothing: send a member's access token. Nothing was changed."
            )
        return await self._verified(credential)

    async def _verified(self, token: str) -> User:
        try:
            return await self._verifier.verify(token)
        except AuthenticationError as error:
            if kind := project_key(token):
                raise AuthenticationError(_PROJECT_KEYS[kind]) from error
            raise

    async def _by_key(self, key: str, *, is_checked_again: bool) -> Caller:
        key_hash = hashlib.sha256(key.encode()).digest()
        caller = await self._found_as(
            key_hash, lambda: find_caller_by_key(self._api, key_hash), is_checked_again=is_checked_again
        )
        if caller is None:
            raise AuthenticationError("The API key is unknown, expired or revoked.")
        return caller

    async def _by_user(self, user: User, agent: str | None, *, is_checked_again: bool) -> Caller:
        caller = await self._found_as(
            (user.id, user.organization_id, agent),
            lambda: find_caller_by_user(self._api, user.id, user.organization_id, agent),
            is_checked_again=is_checked_again,
        )
        if caller is None:
            named = f"has no agent `{agent}`" if agent else "gives the membership no default agent"
            raise AccessDeniedError(f"The user is not a member of the active organization, or it {named}.")
        return caller

    async def _found_as(
        self, who: object, find: Callable[[], Coroutine[Any, Any, Caller | None]], *, is_checked_again: bool
    ) -> Caller | None:
        if is_checked_again and (caller := self._found.get(who)):
            return caller
        caller = await (self._found_together(who, find) if is_checked_again else find())
        if caller:
            self._found[who] = caller
        return caller

    async def _found_together(
        self, who: object, find: Callable[[], Coroutine[Any, Any, Caller | None]]
    ) -> Caller | None:
        """Look somebody up; those who ask meanwhile wait for that."""
        if who not in self._looked_up:
            task = asyncio.ensure_future(find())
            self._looked_up[who] = task
            task.add_done_callback(lambda _: self._looked_up.pop(who))
        return await asyncio.shield(self._looked_up[who])


def _credential(request: Request) -> str:
    """Return the API key or the token that a request carries.

    Raises:
        AuthenticationError: none.
    """
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not credential:
        raise AuthenticationError(
            "No credentials: send `Authorization: Bearer` with an agent's API key (cf_...) or a Supabase access token."
        )
    return credential


def _named_agent(request: Request) -> str | None:
    """Return the agent's id or name in the header, which are UTF-8 there, too."""
    named = request.headers.get(AGENT_HEADER)
    return named and named.encode("latin-1").decode(errors="replace")
