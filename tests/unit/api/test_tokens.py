"""Access tokens, verified with real keys: who signed it, for whom, until when; and what if the keys are away."""

import asyncio
import json
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from backend.api.tokens import TokenVerifier, User
from backend.errors import AuthenticationError, StoreUnavailableError
from tests.unit.samples import ORGANIZATION, SUPABASE_URL, USER, settings

Json = dict[str, Any]
SECRET = "the-shared-secret-of-a-project-that-is-old"
ISSUER = f"{SUPABASE_URL}/auth/v1"


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return a key for ES256, the same for the same name."""
    assert name
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """Return a key for RS256."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, kid: str, algorithm: str) -> Json:
    """Return a key's public half as a key set has it."""
    public = key.public_key()
    made = (
        ECAlgorithm.to_jwk(public, as_dict=True)
        if isinstance(public, ec.EllipticCurvePublicKey)
        else RSAAlgorithm.to_jwk(public, as_dict=True)
    )
    return {**made, "kid": kid, "alg": algorithm, "use": "sig"}


@dataclass
class Project:
    """A project's key set at the HTTP boundary, a verifier of its tokens, and time that passes when told to."""

    keys: list[Json] = field(default_factory=lambda: [jwk(ec_key("first"), "first", "ES256")])
    jwt_secret: str | None = None
    answer: object = None
    now: float = 1000.0
    fetches: int = 0

    def __post_init__(self) -> None:
        """Make the verifier."""
        changes = {"SUPABASE_JWT_SECRET": self.jwt_secret} if self.jwt_secret else {}
        self.settings = settings(**changes)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._respond))
        self.verifier = TokenVerifier(self.settings, http, lambda: self.now)

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{ISSUER}/.well-known/jwks.json"
        self.fetches += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, httpx.Response):
            return self.answer
        return httpx.Response(200, json={"keys": self.keys})

    async def refuses(self, token: str) -> str:
        """Return why a token does not verify."""
        with pytest.raises(AuthenticationError) as raised:
            await self.verifier.verify(token)
        return raised.value.message

    async def cannot_tell(self, token: str) -> None:
        """Check that nobody can tell whether a token verifies."""
        with pytest.raises(StoreUnavailableError) as raised:
            await self.verifier.verify(token)
        assert raised.value.retry_after_seconds


def claims(**changes: object) -> Json:
    """Return a signed-in user's claims, as Supabase Auth writes them; None leaves one out."""
    whole = {
        "iss": ISSUER,
        "aud": "authenticated",
        "role": "authenticated",
        "sub": str(USER),
        "exp": int(time.time()) + 3600,
        "iat": int(time.time()),
        "is_anonymous": False,
        "app_metadata": {"organization_id": str(ORGANIZATION), "role": "member"},
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def signed(key: Any = None, algorithm: str = "ES256", kid: str | None = "first", **changes: object) -> str:
    """Return a token; by default one that verifies."""
    headers = {"kid": kid} if kid else None
    return jwt.encode(claims(**changes), key or ec_key("first"), algorithm, headers)


def forged(header: object, body: Mapping[str, object], signature: bytes = b"") -> str:
    """Return a token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_a_token_signed_by_the_project_s_key_names_its_user() -> None:
    """And the organization that it speaks for."""
    token = signed()
    assert await Project().verifier.verify(token) == User(USER, ORGANIZATION, token)


async def test_a_token_signed_with_rsa_verifies_too() -> None:
    """A project may use either."""
    project = Project([jwk(rsa_key(), "rsa", "RS256")])
    assert (await project.verifier.verify(signed(rsa_key(), "RS256", "rsa"))).id == USER


async def test_a_token_signed_with_the_shared_secret_verifies_where_one_is_set() -> None:
    """As older projects still sign them; no key set is asked for."""
    project = Project(jwt_secret=SECRET)
    assert (await project.verifier.verify(signed(SECRET, "HS256", None))).id == USER
    assert project.fetches == 0


async def test_a_token_signed_with_a_shared_secret_is_refused_where_none_is_set() -> None:
    """Whatever it is signed with."""
    assert "HS256 is not accepted" in await Project().refuses(signed(SECRET, "HS256"))


async def test_a_token_signed_with_another_secret_is_refused() -> None:
    """Of course."""
    assert await Project(jwt_secret=SECRET).refuses(signed("x" * 40, "HS256", None))


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(secret: str | None) -> None:
    """The public key is public: HS256 over it proves nothing."""
    project = Project([jwk(rsa_key(), "first", "RS256")], jwt_secret=secret)
    public = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "kid": "first", "typ": "JWT"}
    unsigned = forged(header, claims()).rpartition(".")[0]
    digest = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = urlsafe_b64encode(digest.sign(unsigned.encode(), public)).rstrip(b"=").decode()
    assert await project.refuses(f"{unsigned}.{signature}")


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, ["ES256"], {"ES256": 1}, 7])
async def test_a_token_without_a_signature_is_refused(algorithm: object, secret: str | None) -> None:
    """However it spells that it has none."""
    project = Project(jwt_secret=secret)
    assert await project.refuses(forged({"alg": algorithm, "kid": "first"}, claims()))
    assert await project.refuses(forged({"kid": "first"}, claims()))


@pytest.mark.parametrize("algorithm", ["ES384", "PS256", "HS512", "EdDSA"])
async def test_an_algorithm_that_is_not_on_the_list_is_refused(algorithm: str) -> None:
    """Before any key is looked at."""
    project = Project(jwt_secret=SECRET)
    assert f"{algorithm} is not accepted" in await project.refuses(forged({"alg": algorithm}, claims(), b"x"))
    assert project.fetches == 0


async def test_a_key_is_used_with_its_own_algorithm_only() -> None:
    """The token does not choose."""
    project = Project([jwk(ec_key("first"), "first", "ES256")])
    assert "not the project's" in await project.refuses(signed(rsa_key(), "RS256", "first"))


async def test_a_token_signed_by_somebody_else_under_the_project_s_key_id_is_refused() -> None:
    """The id is only a name."""
    assert await Project().refuses(signed(ec_key("stranger")))


async def test_a_token_whose_claims_were_changed_is_refused() -> None:
    """The signature is of others."""
    head, _, signature = signed().split(".")
    body = urlsafe_b64encode(json.dumps(claims(sub=str(uuid.uuid4()))).encode()).rstrip(b"=").decode()
    assert await Project().refuses(f"{head}.{body}.{signature}")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://other.test/auth/v1"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"aud": "anon"},
        {"aud": None},
        {"aud": []},
        {"role": "anon"},
        {"role": "service_role"},
        {"role": None},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": int(time.time()) + 3600},
        {"is_anonymous": True},
        {"sub": None},
        {"sub": "nobody"},
        {"sub": ""},
        {"app_metadata": None},
        {"app_metadata": {}},
        {"app_metadata": "text"},
        {"app_metadata": ["organization_id"]},
        {"app_metadata": {"organization_id": ""}},
        {"app_metadata": {"organization_id": "acme"}},
        {"app_metadata": {"organization_id": 7}},
        {"app_metadata": {"organization_id": [str(ORGANIZATION)]}},
        {"app_metadata": None, "user_metadata": {"organization_id": str(ORGANIZATION)}},
    ],
)
async def test_a_token_with_a_claim_that_is_wrong_is_refused(changes: Json) -> None:
    """What users may write themselves (user_metadata) grants nothing."""
    assert await Project().refuses(signed(**changes))


@pytest.mark.parametrize("token", ["", "x", "a.b", "a.b.c", "sk-1234567890", "..", "é.é.é", "x" * 10_000])
async def test_what_is_not_a_token_is_refused(token: str) -> None:
    """Without asking anybody."""
    project = Project()
    assert await project.refuses(token)
    assert project.fetches == 0


async def test_a_clock_that_is_a_little_off_does_not_refuse() -> None:
    """Seconds, not minutes."""
    assert (await Project().verifier.verify(signed(exp=int(time.time()) - 2))).id == USER


async def test_the_message_of_a_refusal_does_not_repeat_the_token() -> None:
    """It would end up in logs."""
    token = signed(ec_key("stranger"))
    assert token.rpartition(".")[2] not in await Project().refuses(token)


async def test_the_keys_are_fetched_once_for_many_tokens() -> None:
    """Verification is local."""
    project = Project()
    for _ in range(5):
        await project.verifier.verify(signed())
    assert project.fetches == 1


async def test_many_first_tokens_at_once_all_verify() -> None:
    """Those that come while the keys are under way wait for them: nobody is turned away at a start."""
    project = Project()
    users = await asyncio.gather(*(project.verifier.verify(signed()) for _ in range(10)))
    assert [user.id for user in users] == [USER] * 10
    assert project.fetches == 1


async def test_many_tokens_of_a_new_key_at_once_all_verify() -> None:
    """In the moment of a rotation nobody is told that its token is not the project's."""
    project = Project()
    await project.verifier.verify(signed())
    project.keys.append(jwk(ec_key("second"), "second", "ES256"))
    project.now += project.settings.jwks_min_refresh_seconds + 1
    tokens = [signed(ec_key("second"), kid="second") for _ in range(10)]
    users = await asyncio.gather(*(project.verifier.verify(token) for token in tokens))
    assert [user.id for user in users] == [USER] * 10
    assert project.fetches == 2


async def test_unknown_key_ids_make_us_ask_again_at_a_bounded_rate() -> None:
    """Whoever makes them up cannot have the project's keys fetched for every request."""
    project = Project()
    await project.verifier.verify(signed())
    for number in range(10):
        await project.refuses(signed(ec_key("stranger"), kid=f"made-up-{number}"))
    assert project.fetches == 1
    for _ in range(3):
        project.now += project.settings.jwks_min_refresh_seconds + 1
        for number in range(10):
            await project.refuses(signed(ec_key("stranger"), kid=f"made-up-{number}"))
    assert project.fetches == 4


async def test_a_token_without_a_key_id_is_refused() -> None:
    """There is no telling which key it means."""
    assert await Project().refuses(signed(kid=None))


async def test_old_keys_are_asked_for_again_and_a_withdrawn_one_stops() -> None:
    """After their time, whether or not an unknown one turns up."""
    project = Project()
    await project.verifier.verify(signed())
    project.keys[:] = [jwk(ec_key("second"), "second", "ES256")]
    project.now += project.settings.jwks_max_age_seconds
    await project.verifier.verify(signed())
    project.now += 1
    assert "not the project's" in await project.refuses(signed())


AWAY = [
    httpx.ConnectError("down"),
    httpx.ReadTimeout("slow"),
    httpx.Response(500),
    httpx.Response(404),
    httpx.Response(200, content=b"<html>"),
    httpx.Response(200, json=[]),
    httpx.Response(200, json={}),
    httpx.Response(200, json={"keys": "none"}),
]


@pytest.mark.parametrize("answer", AWAY)
async def test_keys_that_cannot_be_fetched_are_a_503_and_never_a_401(answer: object) -> None:
    """Nobody can tell whether the token verifies, so nobody is told that it does not."""
    project = Project(answer=answer)
    for _ in range(3):
        await project.cannot_tell(signed())


@pytest.mark.parametrize("answer", AWAY)
async def test_known_keys_are_kept_when_a_refresh_fails(answer: object) -> None:
    """Who was let in before still is; about an unknown key nobody can tell."""
    project = Project()
    await project.verifier.verify(signed())
    project.answer = answer
    project.now += project.settings.jwks_max_age_seconds + 1
    assert (await project.verifier.verify(signed())).id == USER
    await project.cannot_tell(signed(ec_key("second"), kid="second"))


async def test_keys_that_are_away_are_asked_for_at_a_bounded_rate_and_come_back() -> None:
    """Without a restart."""
    project = Project(answer=httpx.ConnectError("down"))
    for _ in range(10):
        await project.cannot_tell(signed())
    assert project.fetches == 1
    project.answer = None
    project.now += project.settings.jwks_min_refresh_seconds + 1
    assert (await project.verifier.verify(signed())).id == USER


async def test_a_project_that_publishes_no_key_refuses_what_is_signed_with_one() -> None:
    """A project that signs with the shared secret: an empty set is an answer, not an outage."""
    project = Project([], jwt_secret=SECRET)
    assert "not the project's" in await project.refuses(signed())
    assert (await project.verifier.verify(signed(SECRET, "HS256", None))).id == USER


async def test_keys_of_a_kind_that_nobody_here_knows_do_not_hide_the_others() -> None:
    """A set may hold keys of tomorrow."""
    project = Project([{"kty": "QUANTUM", "kid": "x"}, jwk(ec_key("first"), "first", "ES256")])
    assert (await project.verifier.verify(signed())).id == USER
