"""`clearfloor serve`: the backend under uvicorn."""

import argparse
import os
from collections.abc import Sequence

import uvicorn

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8787
# Streams that run when a stop is asked for may end by themselves for so long.
SHUTDOWN_GRACE_SECONDS = 30


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="clearfloor serve", description="Run the backend.")
    parser.add_argument("--host", default=os.environ.get("CLEARFLOOR_HOST", DEFAULT_HOST))
    parser.add_argument("--port", type=int, default=os.environ.get("CLEARFLOOR_PORT", DEFAULT_PORT))
    given = parser.parse_args(arguments)
    uvicorn.run(
        "backend.app:create_app",
        factory=True,
        host=given.host,
        port=given.port,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_SECONDS,
    )
    return 0
