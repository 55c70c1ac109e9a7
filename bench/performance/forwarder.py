"""A bare forwarder: FastAPI in, aiohttp out, nothing in between. What a gateway in Python costs at the least."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from backend.stack.ports import HOST

_HEADERS = {"content-type": "application/json"}


class Forwarder:
    """Sends every request on to one URL."""

    def __init__(self, upstream_url: str) -> None:
        self._upstream_url = upstream_url

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Keep connections while the application runs."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._session:
            yield

    async def forward(self, request: Request) -> Response:
        """Send one request on; a stream is passed on as it comes."""
        answer = await self._session.post(self._upstream_url, data=await request.body(), headers=_HEADERS)
        if answer.content_type == "text/event-stream":
            return StreamingResponse(_chunks(answer), answer.status, media_type=answer.content_type)
        async with answer:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for chunk in answer.content.iter_any():
            yield chunk


async def _health(_: Request) -> Response:
    return PlainTextResponse("ready")


def create_forwarder(upstream_url: str) -> FastAPI:
    """Return the application."""
    forwarder = Forwarder(upstream_url)
    application = FastAPI(lifespan=forwarder.lifespan)
    application.add_route("/v1/chat/completions", forwarder.forward, methods=["POST"])
    application.add_route("/health", _health)
    return application


def main() -> None:
    """Serve on a loopback port until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m bench.performance.forwarder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream-url", required=True)
    given = parser.parse_args()
    application = create_forwarder(given.upstream_url)
    uvicorn.run(application, host=HOST, port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
