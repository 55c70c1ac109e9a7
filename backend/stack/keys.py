"""The keys of one embedded project: what Supabase makes for a hosted one, in the same shapes."""

import json
import secrets
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, HMACAlgorithm

SERVICE_TOKEN_SECONDS = 10 * 365 * 24 * 3600
USER_TOKEN_SECONDS = 3600
_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class StackKeys:
    """Every secret of one stack."""

    publishable_key: str
    secret_key: str
    jwt_secret: str
    signing_key_id: str
    signing_key_pem: str
    superuser_password: str
    service_password: str

    @classmethod
    def make(cls) -> Self:
        """Make new keys."""
        signing_key = ec.generate_private_key(ec.SECP256R1())
        pem = signing_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(
            publishable_key=f"sb_publishable_{secrets.token_urlsafe(22)}",
            secret_key=f"sb_secret_{secrets.token_urlsafe(22)}",
            jwt_secret=secrets.token_hex(32),
            signing_key_id=str(uuid4()),
            signing_key_pem=pem.decode(),
            superuser_password=secrets.token_hex(16),
            service_password=secrets.token_hex(16),
        )

    @classmethod
    def kept_in(cls, file: Path) -> Self:
        """Read the keys from a file; make them, and the file, the first time."""
        if file.exists():
            return cls(**json.loads(file.read_text()))
        keys = cls.make()
        write_private(file, json.dumps(asdict(keys), indent=2))
        return keys

    @cached_property
    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self.signing_key_pem.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"The signing key is {type(key).__name__}, not an elliptic-curve key.")
        return key

    def public_key_set(self) -> dict[str, Any]:
        """Return the JWKS that anyone may read: the ES256 public key."""
        key = ECAlgorithm.to_jwk(self._signing_key.public_key(), as_dict=True)
        return {
            "keys": [{**key, "kid": self.signing_key_id, "alg": "ES256", "use": "sig", "key_ops": ["verify"]}]
        }

    def verification_key_set(self) -> dict[str, Any]:
        """Return the JWKS that PostgREST verifies with: the public key and the shared secret."""
        secret = HMACAlgorithm.to_jwk(self.jwt_secret, as_dict=True)
        return {"keys": [*self.public_key_set()["keys"], {**secret, "alg": "HS256"}]}

    def service_token(self, role: str) -> str:
        """Return the HS256 token that an API key stands for: ``anon`` or ``service_role``."""
        now = int(time.time())
        claims = {"iss": "supabase", "role": role, "iat": now, "exp": now + SERVICE_TOKEN_SECONDS}
        return jwt.encode(claims, self.jwt_secret, algorithm="HS256")

    def sign(self, claims: dict[str, Any]) -> str:
        """Sign claims as Supabase Auth does: ES256, with the key's id in the header."""
        return jwt.encode(claims, self._signing_key, algorithm="ES256", headers={"kid": self.signing_key_id})


def user_claims(
    issuer: str,
    user_id: UUID,
    *,
    app_metadata: dict[str, Any],
    email: str = "",
    expires_in_seconds: int = USER_TOKEN_SECONDS,
) -> dict[str, Any]:
    """Return the claims of a signed-in user's access token, as Supabase Auth writes them."""
    now = int(time.time())
    return {
        "iss": issuer,
        "sub": str(user_id),
        "aud": "authenticated",
        "exp": now + expires_in_seconds,
        "iat": now,
        "email": email,
        "phone": "",
        "app_metadata": app_metadata,
        "user_metadata": {},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now}],
        "session_id": str(uuid4()),
        "is_anonymous": False,
    }


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=_OWNER_ONLY)
    scratch.write_text(text)
    scratch.replace(file)
