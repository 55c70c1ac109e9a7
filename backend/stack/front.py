"""The Data API's front, for development: what Supabase puts before PostgREST and Auth.

It turns API keys into tokens, passes `/rest/v1` on to PostgREST and plays the few parts of `/auth/v1` that
Clearfloor meets: the key set and signing in. On a hosted project all of this is Supabase's own.
"""

import argparse
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from backend.stack.keys import StackKeys
from backend.stack.ports import HOST
from backend.stack.sign_in import SignIn

# Longer than any statement timeout behind it: the front never decides that a request took too long.
UPSTREAM_TIMEOUT_SECONDS = 120.0
UPSTREAM_CONNECT_TIMEOUT_SECONDS = 5.0
UPSTREAM_CONNECTIONS = 200
_METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"]
# Of one connection, not of the message (RFC 9110, 7.6.1), or set anew by the front.
_NOT_FORWARDED = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "apikey", "authorization", "origin"),
    }
)
_ROLES_OF_KEYS = frozenset({"anon", "service_role"})
_NOT_RETURNED = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server"})


@dataclass(frozen=True)
class FrontSettings:
    """What the front needs to know; all of it comes by environment and command line."""

    port: int
    postgrest_url: str
    keys_file: Path
    auth_database_url: str
    workdir: Path


class Gate:
    """Decides whose token a request carries on."""

    def __init__(self, keys: StackKeys) -> None:
        self._tokens = {
            keys.publishable_key: keys.service_token("anon"),
            keys.secret_key: keys.service_token("service_role"),
        }
        self._secret_key = keys.secret_key
        self._jwt_secret = keys.jwt_secret

    def authorization(self, headers: Mapping[str, str]) -> str:
        """Return the Authorization header to send on.

        A user's token counts before the key it came with; a key in place of a token counts as none.

        Raises:
            PermissionError: the key is missing, unknown, or a secret one in a browser.
        """
        key = headers.get("apikey", "")
        if not key:
            raise PermissionError("No API key found in request")
        if key == self._secret_key and headers.get("user-agent", "").startswith("Mozilla/"):
            raise PermissionError("Forbidden use of secret API key in browser")
        own = self._token_of(key)
        token = headers.get("authorization", "").removeprefix("Bearer ").strip()
        return f"Bearer {own if token in ('', key) else token}"

    def _token_of(self, key: str) -> str:
        """Return the token that an API key stands for; an older key is one itself."""
        if token := self._tokens.get(key):
            return token
        try:
            claims = jwt.decode(key, self._jwt_secret, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise PermissionError("Invalid API key") from error
        if claims.get("role") not in _ROLES_OF_KEYS:
            raise PermissionError("Invalid API key")
        return key


class DataApi:
    """Passes requests on to PostgREST."""

    def __init__(self, gate: Gate, upstream: httpx.AsyncHTTPTransport, postgrest_url: str) -> None:
        self._gate = gate
        self._upstream = upstream
        self._base = httpx.URL(postgrest_url)

    async def __call__(self, request: Request) -> Response:
        """Pass one request on and stream its answer back."""
        try:
            authorization = self._gate.authorization(request.headers)
        except PermissionError as refusal:
            return JSONResponse({"message": str(refusal)}, 401)
        try:
            answer = await self._upstream.handle_async_request(await self._outgoing(request, authorization))
        except httpx.TransportError as error:
            reason = f"The Data API cannot be reached: {type(error).__name__}"
            return JSONResponse({"message": reason}, 503)
        except ClientDisconnect:
            return Response(status_code=499)
        return _returned(answer)

    async def _outgoing(self, request: Request, authorization: str) -> httpx.Request:
        raw_path = request.scope["raw_path"].removeprefix(b"/rest/v1") or b"/"
        query = request.scope["query_string"]
        target = self._base.copy_with(raw_path=raw_path + (b"?" + query if query else b""))
        headers = [(name, value) for name, value in request.headers.items() if name not in _NOT_FORWARDED]
        timeout = httpx.Timeout(UPSTREAM_TIMEOUT_SECONDS, connect=UPSTREAM_CONNECT_TIMEOUT_SECONDS)
        return httpx.Request(
            request.method,
            target,
            headers=[*headers, ("authorization", authorization)],
            content=await request.body(),
            extensions={"timeout": timeout.as_dict()},
        )


def _returned(answer: httpx.Response) -> Response:
    response = StreamingResponse(_body(answer), answer.status_code)
    headers = answer.headers.raw
    response.raw_headers = [(k.lower(), v) for k, v in headers if k.lower().decode() not in _NOT_RETURNED]
    return response


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the answer as it comes, still encoded as it was sent."""
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def create_front(settings: FrontSettings) -> Starlette:
    """Return the front's application."""
    keys = StackKeys.kept_in(settings.keys_file)
    issuer = f"http://{HOST}:{settings.port}/auth/v1"
    upstream = httpx.AsyncHTTPTransport(
        limits=httpx.Limits(
            max_connections=UPSTREAM_CONNECTIONS, max_keepalive_connections=UPSTREAM_CONNECTIONS
        )
    )
    data_api = DataApi(Gate(keys), upstream, settings.postgrest_url)
    sign_in = SignIn(keys, issuer, settings.auth_database_url, settings.workdir)

    async def key_set(_: Request) -> JSONResponse:
        return JSONResponse(keys.public_key_set(), headers={"cache-control": "public, max-age=600"})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"name": "Clearfloor's embedded stack"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with upstream:
            yield

    everyone = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[
            "content-range",
            "content-location",
            "content-profile",
            "location",
            "preference-applied",
        ],
    )
    routes = [
        Route("/rest/v1/{path:path}", data_api.__call__, methods=_METHODS),
        Route("/auth/v1/.well-known/jwks.json", key_set),
        Route("/auth/v1/health", health),
        Route("/auth/v1/token", sign_in.answer, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[everyone], lifespan=lifespan)


def main() -> None:
    """Serve the front on a loopback port."""
    parser = argparse.ArgumentParser(prog="python -m backend.stack.front", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--postgrest-url", required=True)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    given = parser.parse_args()
    # By environment: a command line can be read by everyone on the machine.
    database_url = os.environ["AUTH_DATABASE_URL"]
    settings = FrontSettings(given.port, given.postgrest_url, given.keys, database_url, given.workdir)
    uvicorn.run(create_front(settings), host=HOST, port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
