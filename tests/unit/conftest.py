"""What holds for every unit test: no sockets, and no waiting."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.boundary import Gateway

# No test is timed: a busy machine is no failure.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make opening a socket fail; adopting one that is open already (asyncio's own pair) still works."""
    adopt: Callable[..., None] = socket.socket.__init__

    def refuse(
        self: socket.socket, family: int = -1, kind: int = -1, protocol: int = -1, fileno: int | None = None
    ) -> None:
        if fileno is None:
            raise AssertionError("a unit test opens no socket")
        adopt(self, family, kind, protocol, fileno)

    monkeypatch.setattr(socket.socket, "__init__", refuse)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the seconds that somebody would have slept; nobody sleeps."""
    collected: list[float] = []
    sleep = asyncio.sleep

    async def collect(seconds: float) -> None:
        collected.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", collect)
    return collected


@pytest.fixture
async def gateway() -> Gateway:
    """Return a dispatcher with its parts, between scripted providers and a scripted record."""
    return Gateway()
