"""The embedded project's keys have the shapes of a hosted one's."""

import stat
from pathlib import Path
from uuid import UUID

import jwt
import pytest

from backend.stack.front import Gate
from backend.stack.keys import StackKeys, user_claims

USER = UUID("019a0000-0000-7000-8000-0000000000b1")


def test_kept_keys_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    """A restart does not sign everyone out."""
    file = tmp_path / "keys.json"
    made = StackKeys.kept_in(file)
    assert StackKeys.kept_in(file) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_public_key_set_holds_no_secret() -> None:
    """Neither the private half nor the shared secret."""
    (key,) = StackKeys.make().public_key_set()["keys"]
    assert (key["kty"], key["alg"]) == ("EC", "ES256")
    assert {"d", "k"}.isdisjoint(key)


def test_user_claims_are_those_of_supabase_auth() -> None:
    """Everything that a verifier looks at is there."""
    keys = StackKeys.make()
    claims = user_claims("http://issuer", USER, app_metadata={"role": "member"}, expires_in_seconds=60)
    token = keys.sign(claims)
    read = jwt.decode(token, options={"verify_signature": False})
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": keys.signing_key_id, "typ": "JWT"}
    assert (read["sub"], read["aud"], read["role"]) == (str(USER), "authenticated", "authenticated")
    assert read["exp"] - read["iat"] == 60


@pytest.mark.parametrize(("name", "role"), [("publishable_key", "anon"), ("secret_key", "service_role")])
def test_a_key_stands_for_its_role(name: str, role: str) -> None:
    """The front swaps the key for a token of that role."""
    keys = StackKeys.make()
    token = Gate(keys).authorization({"apikey": getattr(keys, name)}).removeprefix("Bearer ")
    assert jwt.decode(token, keys.jwt_secret, algorithms=["HS256"])["role"] == role


def test_a_user_token_is_passed_on_untouched() -> None:
    """The front does not judge it: PostgREST verifies."""
    keys = StackKeys.make()
    headers = {"apikey": keys.publishable_key, "authorization": "Bearer user-token"}
    assert Gate(keys).authorization(headers) == "Bearer user-token"


@pytest.mark.parametrize("headers", [{}, {"apikey": "unknown"}, {"authorization": "Bearer user-token"}])
def test_a_request_without_a_known_key_is_refused(headers: dict[str, str]) -> None:
    """A token alone does not open the Data API."""
    with pytest.raises(PermissionError, match="API key"):
        Gate(StackKeys.make()).authorization(headers)
