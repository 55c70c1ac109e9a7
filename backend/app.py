"""The composition root: settings become parts, parts become an application. The only file that knows everything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.api import chat, decisions, explain, feedback, health, management, models, operators
from backend.api.chat import ChatCompletions
from backend.api.chat_request import Judgement
from backend.api.errors import add_error_handlers
from backend.api.faults import FaultBarrier
from backend.api.identity import Identities
from backend.api.parts import Parts
from backend.api.tokens import TokenVerifier
from backend.background import (
    delete_old_decisions,
    publish_rates,
    refresh_catalogue,
    renew_leases,
    repeat,
    sweep,
)
from backend.dispatch.answers import Vault
from backend.dispatch.completions import Completions
from backend.dispatch.cooldowns import Cooldowns
from backend.dispatch.dispatcher import Dispatcher
from backend.http_client import AiohttpClient, HttpClient
from backend.providers.openai import OpenAIProvider
from backend.routing.task import Tasks
from backend.settings import Settings
from backend.store.array_calls import ArrayCalls
from backend.store.client import DataApi, http_client
from backend.store.record import Record
from backend.weights import read_classifier

# Each makes one call at a time.
_BACKGROUND_TASKS = 5


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application, by default from the environment's settings.

    Raises:
        pydantic.ValidationError: a setting is missing or wrong.
    """
    settings = settings or Settings()
    # No description of the routes: it could say nothing of a body that is passed on. No redirects: they name the host that
    # a request names, which may be anybody's.
    app = _Application(title="Clearfloor", lifespan=_lifespan, openapi_url=None, redirect_slashes=False)
    app.state.settings = settings
    edge = [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            # SDKs send headers of their own (x-stainless-*); the allow-list that guards is that of the origins.
            allow_headers=["*"],
            expose_headers=[*chat.EXPOSED_HEADERS, "retry-after", "x-should-retry"],
        ),
        # Inside the one before, so that a browser may read this answer, too.
        Middleware(FaultBarrier),
    ]
    app.user_middleware.extend(edge)
    app.hot_path = _wrapped(ChatCompletions(), edge)
    add_error_handlers(app)
    app.router.routes.append(chat.ROUTE)
    for module in (models, decisions, explain, feedback, management, health):
        app.include_router(module.router)
    if settings.operators:
        app.include_router(operators.router)
        app.add_middleware(operators.NoBrowsers)
    return app


class _Application(FastAPI):
    """FastAPI, but for the one route that is worth a way of its own: its layers cost as much as all the rest of a request."""

    hot_path: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == chat.PATH and scope["method"] == "POST":
            scope["app"] = self
            await self.hot_path(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _wrapped(app: ASGIApp, layers: Sequence[Middleware]) -> ASGIApp:
    for layer in reversed(layers):
        app = layer.cls(app, *layer.args, **layer.kwargs)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    async with AsyncExitStack() as stack:
        store_http = await stack.enter_async_context(http_client(settings, settings.store_connections))
        # A renewal of leases must not wait behind the requests whose leases they are, nor behind the other tasks.
        background_http = await stack.enter_async_context(
            http_client(settings, connections=_BACKGROUND_TASKS)
        )
        record_http = AiohttpClient(settings.store_connections, settings.store_timeout_seconds)
        provider_http = AiohttpClient(
            settings.provider_connections, settings.provider_connect_timeout_seconds
        )
        for client in (record_http, provider_http):
            stack.push_async_callback(client.close)
        parts = _parts(settings, store_http, background_http, record_http, provider_http)
        stack.push_async_callback(parts.dispatcher.completions.drain)
        app.state.parts = parts
        tasks = [
            asyncio.create_task(repeat(lambda: refresh_catalogue(parts), settings.catalogue_refresh_seconds)),
            asyncio.create_task(repeat(lambda: renew_leases(parts), settings.lease_renewal_seconds)),
            asyncio.create_task(repeat(lambda: sweep(parts), settings.sweep_interval_seconds)),
            asyncio.create_task(
                repeat(lambda: delete_old_decisions(parts), settings.retention_interval_seconds)
            ),
            asyncio.create_task(repeat(lambda: publish_rates(parts), settings.rate_publish_seconds)),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _parts(
    settings: Settings,
    store_http: httpx.AsyncClient,
    background_http: httpx.AsyncClient,
    record_http: HttpClient,
    provider_http: HttpClient,
) -> Parts:
    data_api = DataApi(settings, store_http)
    dispatcher = Dispatcher(
        record=make_record(settings, data_api, record_http),
        providers={"openai": OpenAIProvider(provider_http)},
        cooldowns=Cooldowns(),
        completions=Completions(
            wait_seconds=settings.completion_wait_seconds, most=settings.max_pending_completions
        ),
        settings=settings,
        vault=Vault(settings.fernet_keys) if settings.fernet_keys else None,
    )
    identities = Identities(settings, data_api, TokenVerifier(settings, store_http))
    return Parts(
        settings,
        data_api,
        identities,
        dispatcher,
        DataApi(settings, background_http),
        judgement=Judgement(
            Tasks(read_classifier(settings.classifier_file)),
            settings.quality_per_usd,
            settings.exploration_share,
        ),
    )


def make_record(settings: Settings, api: DataApi, http: HttpClient) -> Record:
    """Make the record's writer."""
    return Record(
        api,
        ArrayCalls(settings, http),
        lease_seconds=settings.lease_seconds,
        retry_seconds=settings.store_retry_seconds,
        key_seconds=settings.idempotency_key_seconds,
        batch_items=settings.store_batch_items,
        most_waiting=settings.max_waiting_requests,
    )
