"""`clearfloor serve`: the backend under uvicorn."""

import argparse
import gc
import logging
import sys
from collections.abc import Sequence

import stamina
import uvicorn
from pydantic import ValidationError

from backend.app import create_app
from backend.settings import Settings, faults

_SETTINGS_ARE_WRONG = 2
_ALLOCATIONS_PER_COLLECTION = 20_000


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
    app = create_app(settings)
    _spare_collections()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing depends on the caller's address.
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
    )
    return 0


def _spare_collections() -> None:
    """Let the garbage collector leave alone what lives as long as the process, and look at the rest less often.

    By default it took a sixth of the CPU of a request: docs/performance.md.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION, *gc.get_threshold()[1:])
