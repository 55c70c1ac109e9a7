"""`python -m backend.stack.simulator --port N`: serve on 127.0.0.1 until killed."""

import argparse
import contextlib
import socket
import sys
from collections.abc import Iterator

import uvicorn

from backend.stack.simulator.app import create_app
from backend.stack.simulator.wire import BreakableProtocol

HOST = "127.0.0.1"
BACKLOG_CONNECTIONS = 2048
# Longer than any test: an idle connection that the server closes races with the client's next request on it,
# and looks like a scripted `disconnect`.
KEEP_ALIVE_SECONDS = 3600


class _Server(uvicorn.Server):
    """Dies at once on a signal: there is nothing to save, and a stalled call would hold up a graceful end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    """Print the port as the first line, then serve. Connections are accepted from that line on."""
    parser = argparse.ArgumentParser(prog="python -m backend.stack.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 (the default) takes a free one")
    port = parser.parse_args().port
    try:
        listener = socket.create_server((HOST, port), backlog=BACKLOG_CONNECTIONS)
    except (OSError, OverflowError) as error:
        sys.exit(f"simulator: cannot listen on {HOST}:{port} ({error}); choose another --port, or 0")
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        create_app(),
        http=BreakableProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
