"""Loopback ports: fixed ones for `make up`, free ones for tests."""

import random
import socket
from dataclasses import dataclass

from backend.stack.errors import StackError

HOST = "127.0.0.1"
# Under the range that Linux and macOS give to outgoing connections, so that a port found free stays free
# until the server that was told it binds it.
_FREE_PORTS = range(20_000, 32_000)
_FREE_PORT_TRIES = 200


@dataclass(frozen=True)
class StackPorts:
    """The port of each server of one stack."""

    postgres: int
    postgrest: int
    postgrest_admin: int
    front: int
    simulator: int


def is_free(port: int) -> bool:
    """Tell whether a server could bind this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback port that nothing listens on.

    Raises:
        StackError: none was found.
    """
    chance = random.SystemRandom()
    for _ in range(_FREE_PORT_TRIES):
        port = chance.choice(_FREE_PORTS)
        if is_free(port):
            return port
    raise StackError(f"No free loopback port found between {_FREE_PORTS.start} and {_FREE_PORTS.stop}.")


def free_ports() -> StackPorts:
    """Return five different free ports for a stack of its own."""
    ports: set[int] = set()
    while len(ports) < len(StackPorts.__dataclass_fields__):
        ports.add(free_port())
    return StackPorts(*ports)
