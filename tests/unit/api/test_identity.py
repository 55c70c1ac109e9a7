"""Who is calling: yes, no, or nobody can tell; remembered for seconds and no longer."""

import hashlib
from functools import partial
from uuid import UUID

import httpx
import pytest
from cachetools import TTLCache
from starlette.requests import Request

from backend.api import identity
from backend.api.identity import Identities, Identity
from backend.api.tokens import TokenVerifier, User
from backend.errors import (
    AccessDeniedError,
    AuthenticationError,
    InvalidRequestError,
    StoreUnavailableError,
)
from backend.store.client import DataApi
from tests.unit.boundary import Postgrest, record_http
from tests.unit.samples import AGENT, API_KEY, ORGANIZATION, USER, Json, settings

KEY = "cf_canary-of-an-agent"


class Verifier(TokenVerifier):
    """A verifier to whom every token is the user's, of the organization that the token names."""

    async def verify(self, token: str) -> User:
        """Return the user."""
        return User(USER, UUID(token), token)


def row(**changes: object) -> Json:
    """Return what the database knows of a caller."""
    return {
        "organization_id": str(ORGANIZATION),
        "agent_id": str(AGENT),
        "api_key_id": str(API_KEY),
        "user_id": None,
        "default_floor": 0.7,
        "default_max_output_tokens": 1024,
        "baseline_model": None,
        **changes,
    }


class Door:
    """Identities between a scripted record and time that passes when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(identity, "TTLCache", partial(TTLCache, timer=lambda: self.now))
        self.settings = settings(caller_cache_seconds=10)
        self.postgrest = Postgrest()
        self.postgrest.scripts = {"find_caller_by_key": [], "find_caller_by_user": []}
        http = record_http(self.postgrest)
        verifier = Verifier(self.settings, http)
        self._identities = Identities(self.settings, DataApi(self.settings, http), verifier)

    def knows(self, *answers: object) -> None:
        """Script what the database answers, look-up by look-up."""
        for script in self.postgrest.scripts.values():
            script[:] = answers

    async def identify(
        self, authorization: str | None, agent: str | None = None, *, is_checked_again: bool = True
    ) -> Identity:
        """Identify a request with these headers; by default one that the record checks once more."""
        headers = {"authorization": authorization, "x-clearfloor-agent": agent}
        raw = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
        request = Request({"type": "http", "headers": raw})
        return await self._identities.identify(request, is_checked_again=is_checked_again)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    """Return identities of a test."""
    return Door(monkeypatch)


async def test_a_key_is_resolved_by_its_hash_to_its_agent(door: Door) -> None:
    """The key itself leaves the process in no form."""
    door.knows([row()])
    found = await door.identify(f"Bearer {KEY}")
    assert (found.user, found.caller.agent_id, found.caller.default_floor) == (None, AGENT, 0.7)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    assert door.postgrest.calls == [("find_caller_by_key", {"key_hash": digest})]
    sent = door.postgrest.requests[0]
    assert KEY not in f"{sent.url} {sent.headers} {sent.content.decode()}"


async def test_a_token_is_resolved_to_the_membership_s_agent(door: Door) -> None:
    """Or to the one that the header names."""
    door.knows([row(api_key_id=None, user_id=str(USER))], [row(api_key_id=None, user_id=str(USER))])
    found = await door.identify(f"bearer {ORGANIZATION}")
    assert (found.caller.user_id, found.user and found.user.access_token) == (USER, str(ORGANIZATION))
    await door.identify(f"Bearer {ORGANIZATION}", agent="nightly")
    asked = {"user_id": str(USER), "organization_id": str(ORGANIZATION)}
    assert door.postgrest.calls == [
        ("find_caller_by_user", {**asked, "agent": None}),
        ("find_caller_by_user", {**asked, "agent": "nightly"}),
    ]


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Token {KEY}"]
)
async def test_no_credentials_are_refused(door: Door, authorization: str | None) -> None:
    """Without asking the database, in words that say what to send."""
    with pytest.raises(AuthenticationError, match="Authorization: Bearer"):
        await door.identify(authorization)
    assert not door.postgrest.calls


async def test_an_unknown_key_is_refused_and_not_remembered(door: Door) -> None:
    """It may be made the next moment."""
    door.knows([], [row()])
    with pytest.raises(AuthenticationError) as raised:
        await door.identify(f"Bearer {KEY}")
    assert KEY not in raised.value.message
    assert (await door.identify(f"Bearer {KEY}")).caller.agent_id == AGENT


@pytest.mark.parametrize(("agent", "told"), [(None, "no default agent"), ("nightly", "no agent `nightly`")])
async def test_a_user_without_membership_or_agent_is_denied(door: Door, agent: str | None, told: str) -> None:
    """Known, but not allowed: 403, with what is missing."""
    door.knows([])
    with pytest.raises(AccessDeniedError, match=told):
        await door.identify(f"Bearer {ORGANIZATION}", agent)


@pytest.mark.parametrize("credential", [KEY, str(ORGANIZATION)])
@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("down"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503, json={"code": "PGRST002", "message": "no schema cache"}),
        httpx.Response(503, content=b"<html>"),
        httpx.Response(500, json={"code": "57P03", "message": "the database is starting up"}),
    ],
)
async def test_a_record_that_is_away_is_a_503_and_never_a_401(
    door: Door, credential: str, answer: object
) -> None:
    """Nobody can tell, so nobody is told no."""
    door.knows(answer)
    with pytest.raises(StoreUnavailableError):
        await door.identify(f"Bearer {credential}")


@pytest.mark.parametrize("credential", [KEY, str(ORGANIZATION)])
async def test_a_caller_is_remembered_for_its_time_and_no_longer(door: Door, credential: str) -> None:
    """However often it calls meanwhile: its time runs from the look-up, not from the last call."""
    door.knows([row()], [])
    await door.identify(f"Bearer {credential}")
    for _ in range(4):
        door.now += 2.4
        await door.identify(f"Bearer {credential}")
    assert len(door.postgrest.calls) == 1
    door.now += 0.5
    with pytest.raises((AuthenticationError, AccessDeniedError)):
        await door.identify(f"Bearer {credential}")
    assert len(door.postgrest.calls) == 2


@pytest.mark.parametrize("credential", [KEY, str(ORGANIZATION)])
async def test_who_only_reads_is_looked_up_each_time(door: Door, credential: str) -> None:
    """Nothing checks a reader again: a key that was revoked a moment ago reads nothing any more."""
    door.knows([row()], [])
    await door.identify(f"Bearer {credential}", is_checked_again=False)
    with pytest.raises((AuthenticationError, AccessDeniedError)):
        await door.identify(f"Bearer {credential}", is_checked_again=False)


async def test_an_agent_beside_a_key_is_refused(door: Door) -> None:
    """It would otherwise be ignored, and somebody else's caps be spent."""
    with pytest.raises(InvalidRequestError) as raised:
        await door.identify(f"Bearer {KEY}", agent="nightly")
    assert raised.value.param == "x-clearfloor-agent"
    assert not door.postgrest.calls


async def test_an_agent_s_name_may_have_any_character(door: Door) -> None:
    """In UTF-8, as HTTP clients send it."""
    door.knows([row()])
    await door.identify(f"Bearer {ORGANIZATION}", agent="n\u00e4chtlich \u2713")
    assert door.postgrest.calls[0][1]["agent"] == "n\u00e4chtlich \u2713"


async def test_what_is_remembered_of_one_caller_serves_no_other(door: Door) -> None:
    """Another key, another organization of the same user, another agent: each is looked up."""
    other = UUID("019a0000-0000-7000-8000-0000000000ff")
    door.knows(*[[row()] for _ in range(5)])
    await door.identify(f"Bearer {KEY}")
    await door.identify(f"Bearer {KEY}x")
    await door.identify(f"Bearer {ORGANIZATION}")
    assert len(door.postgrest.calls) == 3
    door.knows(*[[row()] for _ in range(5)])
    await door.identify(f"Bearer {other}")
    await door.identify(f"Bearer {ORGANIZATION}", agent="nightly")
    assert len(door.postgrest.calls) == 5
