"""PostgREST: the Data API's engine, with the settings that Supabase gives it."""

import json

import httpx

from backend.stack import parts
from backend.stack.ports import HOST, StackPorts
from backend.stack.postgres import Postgres
from backend.stack.processes import Process, clean_environment

EXPOSED_SCHEMAS = "public"
MAX_ROWS = 1000
JWT_CACHE_SECONDS = 300
# A laptop's share of Postgres' 100 connections; several tests and a backend use the rest.
POOL_SIZE = 20
POOL_ACQUISITION_TIMEOUT_SECONDS = 10
START_TIMEOUT_SECONDS = 60.0
_PROBE_TIMEOUT_SECONDS = 5.0


def launch_postgrest(postgres: Postgres, ports: StackPorts) -> Process:
    """Start PostgREST; it is ready once :func:`wait_for_postgrest` returns."""
    settings = {
        "PGRST_DB_URI": postgres.authenticator_url,
        "PGRST_DB_SCHEMAS": EXPOSED_SCHEMAS,
        "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_MAX_ROWS": str(MAX_ROWS),
        "PGRST_DB_POOL": str(POOL_SIZE),
        "PGRST_DB_POOL_ACQUISITION_TIMEOUT": str(POOL_ACQUISITION_TIMEOUT_SECONDS),
        "PGRST_DB_CHANNEL_ENABLED": "true",
        "PGRST_JWT_SECRET": json.dumps(postgres.keys.verification_key_set()),
        "PGRST_SERVER_HOST": HOST,
        "PGRST_SERVER_PORT": str(ports.postgrest),
        "PGRST_ADMIN_SERVER_PORT": str(ports.postgrest_admin),
        # As on the platform: a token that was found good is not verified anew at every call.
        "PGRST_JWT_CACHE_MAX_LIFETIME": str(JWT_CACHE_SECONDS),
        "PGRST_LOG_LEVEL": "error",
    }
    command = [parts.postgrest_program()]
    return Process.start("postgrest", command, postgres.home, environment=clean_environment(**settings))


def wait_for_postgrest(process: Process, ports: StackPorts) -> None:
    """Wait until PostgREST is connected and has read the schema.

    Raises:
        StackError: it ended, or is not ready in time.
    """
    ready = f"http://{HOST}:{ports.postgrest_admin}/ready"
    process.wait_ready(lambda: answers_ok(ready), START_TIMEOUT_SECONDS)


def answers_ok(url: str) -> bool:
    """Tell whether a GET is answered with a 2xx."""
    try:
        return httpx.get(url, timeout=_PROBE_TIMEOUT_SECONDS, trust_env=False).is_success
    except httpx.TransportError:
        return False
