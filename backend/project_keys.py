"""The keys of a Supabase project: which kind one is, of either generation.

New keys tell by their prefix, older ones are JWTs and tell by their role. https://supabase.com/docs/guides/api/api-keys
"""

from typing import Literal

import jwt

ProjectKey = Literal["publishable", "secret"]

_PREFIXES: dict[str, ProjectKey] = {"sb_publishable_": "publishable", "sb_secret_": "secret"}
_ROLES: dict[str, ProjectKey] = {"anon": "publishable", "service_role": "secret"}


def project_key(key: str) -> ProjectKey | None:
    """Return which kind of a project's key this is, or None if it is none. Nothing is verified."""
    for prefix, kind in _PREFIXES.items():
        if key.startswith(prefix):
            return kind
    try:
        claims = jwt.decode(key, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    return _ROLES.get(str(claims.get("role")))
