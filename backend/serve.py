"""`clearfloor serve`: the backend under uvicorn."""

import argparse
import logging
import sys
from collections.abc import Sequence

import stamina
import uvicorn
from pydantic import ValidationError

from backend.app import create_app
from backend.settings import Settings, faults

_SETTINGS_ARE_WRONG = 2


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(
        prog="clearfloor serve", description="Run the backend.", epilog="Its settings: docs/settings.md."
    )
    parser.parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write("".join(f"clearfloor serve: {line}\n" for line in faults(error)))
        return _SETTINGS_ARE_WRONG
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Every call is a line of httpx' at that level, and every retry one of stamina's. What matters of them is logged here.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stamina.instrumentation.set_on_retry_hooks([])
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
    )
    return 0
