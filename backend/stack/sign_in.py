"""Signing in with a password, as far as Supabase Auth's token endpoint is needed on a laptop."""

import json
import secrets
import time
import tomllib
from pathlib import Path
from typing import Any, LiteralString, cast
from urllib.parse import urlsplit
from uuid import UUID

import jwt
import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from starlette.requests import Request
from starlette.responses import JSONResponse

from backend.stack.keys import USER_TOKEN_SECONDS, StackKeys, user_claims

REFRESH_TOKEN_SECONDS = 30 * 24 * 3600
_REFRESH_AUDIENCE = "clearfloor-embedded-refresh"
_SIGNED_IN_USER: LiteralString = """
    select id, email, raw_app_meta_data, raw_user_meta_data, created_at from auth.users
    where lower(email) = lower(%(email)s)
      and encrypted_password = extensions.crypt(%(password)s, encrypted_password)
"""
_KNOWN_USER: LiteralString = """
    select id, email, raw_app_meta_data, raw_user_meta_data, created_at from auth.users where id = %(id)s
"""


class SignInError(Exception):
    """A sign-in was refused; ``code`` is Supabase Auth's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SignIn:
    """Answers ``POST /auth/v1/token`` for the grants ``password`` and ``refresh_token``.

    The access token hook named in ``supabase/config.toml`` is called as Supabase Auth calls it.
    """

    def __init__(self, keys: StackKeys, issuer: str, database_url: str, workdir: Path) -> None:
        self._keys = keys
        self._issuer = issuer
        self._database_url = database_url
        self._hook = token_hook(workdir / "supabase" / "config.toml")

    async def answer(self, request: Request) -> JSONResponse:
        """Return a session, or Supabase Auth's error body."""
        try:
            body = _texts(await request.body())
            return JSONResponse(await self._session(request.query_params.get("grant_type", ""), body))
        except SignInError as refusal:
            return JSONResponse({"code": 400, "error_code": refusal.code, "msg": str(refusal)}, 400)

    async def _session(self, grant: str, body: dict[str, str]) -> dict[str, Any]:
        connection = await psycopg.AsyncConnection.connect(self._database_url, row_factory=dict_row)
        async with connection:
            user = await self._user(connection, grant, body)
            app_metadata = user["raw_app_meta_data"] or {}
            claims = user_claims(self._issuer, user["id"], app_metadata=app_metadata, email=user["email"])
            claims["user_metadata"] = user["raw_user_meta_data"] or {}
            claims = await self._through_hook(connection, user["id"], claims)
        now = int(time.time())
        return {
            "access_token": self._keys.sign(claims),
            "token_type": "bearer",
            "expires_in": USER_TOKEN_SECONDS,
            "expires_at": claims["exp"],
            "refresh_token": self._refresh_token(user["id"], now),
            "user": _shown(user, app_metadata),
        }

    async def _user(
        self, connection: psycopg.AsyncConnection[dict[str, Any]], grant: str, body: dict[str, str]
    ) -> dict[str, Any]:
        if grant == "password":
            query, facts = (
                _SIGNED_IN_USER,
                {"email": body.get("email", ""), "password": body.get("password", "")},
            )
        elif grant == "refresh_token":
            query, facts = _KNOWN_USER, {"id": self._refreshed_user(body.get("refresh_token", ""))}
        else:
            raise SignInError("unsupported_grant_type", f"unsupported grant_type: {grant or 'none'}")
        found = await (await connection.execute(query, facts)).fetchone()
        if found is None:
            raise SignInError("invalid_credentials", "Invalid login credentials")
        return found

    async def _through_hook(
        self, connection: psycopg.AsyncConnection[dict[str, Any]], user_id: UUID, claims: dict[str, Any]
    ) -> dict[str, Any]:
        """Let the project's access token hook change the claims."""
        if self._hook is None:
            return claims
        event = {"user_id": str(user_id), "claims": claims, "authentication_method": "password"}
        call = sql.SQL("select {}(%s::jsonb) as event").format(self._hook)
        answer = await (await connection.execute(call, [json.dumps(event)])).fetchone()
        if answer is None or "claims" not in (answer["event"] or {}):
            raise SignInError("hook_payload_invalid", "The access token hook returned no claims")
        return cast("dict[str, Any]", answer["event"]["claims"])

    def _refresh_token(self, user_id: UUID, now: int) -> str:
        claims = {"sub": str(user_id), "aud": _REFRESH_AUDIENCE, "exp": now + REFRESH_TOKEN_SECONDS}
        return jwt.encode(claims | {"jti": secrets.token_hex(8)}, self._keys.jwt_secret, algorithm="HS256")

    def _refreshed_user(self, token: str) -> str:
        try:
            claims = jwt.decode(
                token, self._keys.jwt_secret, algorithms=["HS256"], audience=_REFRESH_AUDIENCE
            )
        except jwt.InvalidTokenError as error:
            raise SignInError("refresh_token_not_found", "Invalid Refresh Token") from error
        return str(claims["sub"])


def token_hook(config: Path) -> sql.Identifier | None:
    """Return the function of ``[auth.hook.custom_access_token]``, or None when the hook is off.

    Its URI is ``pg-functions://<database>/<schema>/<function>``.
    """
    settings = tomllib.loads(config.read_text()) if config.exists() else {}
    hook = settings.get("auth", {}).get("hook", {}).get("custom_access_token", {})
    if not hook.get("enabled"):
        return None
    schema, function = urlsplit(hook["uri"]).path.strip("/").split("/")
    return sql.Identifier(schema, function)


def _shown(user: dict[str, Any], app_metadata: dict[str, Any]) -> dict[str, Any]:
    created = user["created_at"]
    return {
        "id": str(user["id"]),
        "aud": "authenticated",
        "role": "authenticated",
        "email": user["email"],
        "app_metadata": app_metadata,
        "user_metadata": user["raw_user_meta_data"] or {},
        "created_at": created.isoformat() if created else None,
        "is_anonymous": False,
    }


def _texts(body: bytes) -> dict[str, str]:
    """Return the fields that are texts. Client libraries send others, too, which mean nothing here."""
    try:
        facts = json.loads(body)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise SignInError("bad_json", "The body is not a JSON object")
    return {name: fact for name, fact in facts.items() if isinstance(fact, str)}
