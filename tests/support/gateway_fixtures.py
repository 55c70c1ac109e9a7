"""Fixtures of tests that call a running backend."""

from collections.abc import AsyncIterator, Iterator

import pytest

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess
from tests.support.scene import Scene, open_scene

CATALOGUE_REFRESH_SECONDS = "0.1"
ALLOWED_ORIGIN = "https://app.example.test"
# The provider's key that must never be seen again: tests look for it in rows, answers and logs.
CANARY_VARIABLE = "TEST_PROVIDER_KEY"
CANARY = "sk-canary-5b1f0c6c7a1d4f0e"


@pytest.fixture(scope="session")
def backend(stack: Stack) -> Iterator[BackendProcess]:
    """Run one backend with the defaults, but for what tests need to see."""
    variables = {
        "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": CATALOGUE_REFRESH_SECONDS,
        "CLEARFLOOR_CORS_ALLOWED_ORIGINS": f"{ALLOWED_ORIGIN}, https://other.example.test",
        CANARY_VARIABLE: CANARY,
    }
    with BackendProcess(stack, **variables) as running:
        yield running


@pytest.fixture
async def scene(stack: Stack, backend: BackendProcess) -> AsyncIterator[Scene]:
    """Set a scene with the session's backend; its books are checked after the test."""
    async with open_scene(stack, backend) as scene:
        yield scene
