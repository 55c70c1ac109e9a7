"""The composition root: settings become parts, parts become an application. The only file that knows everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from backend.api import chat, decisions, health, models, operators
from backend.api.errors import add_error_handlers
from backend.api.faults import FaultBarrier
from backend.api.identity import Identities
from backend.api.parts import Background, Parts
from backend.api.tokens import TokenVerifier
from backend.background import refresh_catalogue, renew_leases, repeat, sweep
from backend.cookies import no_cookies
from backend.dispatch.answers import Vault
from backend.dispatch.completions import Completions
from backend.dispatch.cooldowns import Cooldowns
from backend.dispatch.dispatcher import Dispatcher
from backend.providers.openai import OpenAIProvider
from backend.settings import Settings
from backend.store.client import DataApi, http_client
from backend.store.record import Record

# Each makes one call at a time.
_BACKGROUND_TASKS = 3


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application, by default from the environment's settings.

    Raises:
        pydantic.ValidationError: a setting is missing or wrong.
    """
    settings = settings or Settings()
    # No description of the routes: it could say nothing of a body that is passed on. No redirects: they name the host that
    # a request names, which may be anybody's.
    app = FastAPI(title="Clearfloor", lifespan=_lifespan, openapi_url=None, redirect_slashes=False)
    app.state.settings = settings
    # Inside the one that follows, so that a browser may read this answer, too.
    app.add_middleware(FaultBarrier)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        # SDKs send headers of their own (x-stainless-*); the allow-list that guards is that of the origins.
        allow_headers=["*"],
        expose_headers=[*chat.EXPOSED_HEADERS, "retry-after", "x-should-retry"],
    )
    add_error_handlers(app)
    for module in (chat, models, decisions, health):
        app.include_router(module.router)
    if settings.operators:
        app.include_router(operators.router)
        app.add_middleware(operators.NoBrowsers)
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
        provider_http = await stack.enter_async_context(provider_client(settings))
        parts = _parts(settings, store_http, background_http, provider_http)
        stack.push_async_callback(parts.dispatcher.completions.drain)
        app.state.parts = parts
        tasks = [
            asyncio.create_task(repeat(lambda: refresh_catalogue(parts), settings.catalogue_refresh_seconds)),
            asyncio.create_task(repeat(lambda: renew_leases(parts), settings.lease_renewal_seconds)),
            asyncio.create_task(repeat(lambda: sweep(parts), settings.sweep_interval_seconds)),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _parts(
    settings: Settings,
    store_http: httpx.AsyncClient,
    background_http: httpx.AsyncClient,
    provider_http: httpx.AsyncClient,
) -> Parts:
    data_api, background_api = DataApi(settings, store_http), DataApi(settings, background_http)
    dispatcher = Dispatcher(
        record=_record(settings, data_api),
        providers={"openai": OpenAIProvider(provider_http, settings.provider_connect_timeout_seconds)},
        cooldowns=Cooldowns(),
        completions=Completions(
            wait_seconds=settings.completion_wait_seconds, most=settings.max_pending_completions
        ),
        settings=settings,
        vault=Vault(settings.fernet_keys) if settings.fernet_keys else None,
    )
    identities = Identities(settings, data_api, TokenVerifier(settings, store_http))
    background = Background(background_api, _record(settings, background_api))
    return Parts(settings, data_api, identities, dispatcher, background)


def _record(settings: Settings, api: DataApi) -> Record:
    return Record(
        api,
        lease_seconds=settings.lease_seconds,
        retry_seconds=settings.store_retry_seconds,
        key_seconds=settings.idempotency_key_seconds,
    )


def provider_client(settings: Settings) -> httpx.AsyncClient:
    """Make the connections to providers, which all tenants share."""
    # A redirect would carry the provider's key to an address that no operator has entered.
    return httpx.AsyncClient(
        follow_redirects=False,
        cookies=no_cookies(),
        limits=httpx.Limits(
            max_connections=settings.provider_connections,
            max_keepalive_connections=settings.provider_connections,
        ),
    )
