"""A stack of its own for tests that take parts of it away for seconds."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.stack.stack import Stack
from tests.support.backend_process import BackendProcess

# A record that does not answer is given up soon, and a lease is as short as requests then allow.
QUICK = {
    "CLEARFLOOR_CATALOGUE_REFRESH_SECONDS": "0.1",
    "CLEARFLOOR_CALLER_CACHE_SECONDS": "600",
    "CLEARFLOOR_STORE_TIMEOUT_SECONDS": "0.4",
    "CLEARFLOOR_STORE_RETRY_SECONDS": "0.8",
    "CLEARFLOOR_COMPLETION_WAIT_SECONDS": "0.4",
    "CLEARFLOOR_REQUEST_DEADLINE_SECONDS": "2.5",
    "CLEARFLOOR_LEASE_SECONDS": "2",
    "CLEARFLOOR_LEASE_RENEWAL_SECONDS": "0.5",
    "CLEARFLOOR_SWEEP_INTERVAL_SECONDS": "0.2",
    "CLEARFLOOR_SHUTDOWN_GRACE_SECONDS": "1",
    "CLEARFLOOR_JWKS_MIN_REFRESH_SECONDS": "0.1",
}


@pytest.fixture(scope="session")
def own_stack() -> Iterator[Stack]:
    """Start a stack that only fault tests use."""
    with tempfile.TemporaryDirectory(prefix="clearfloor-stack-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o711)
        with Stack(Path(home)) as running:
            yield running


@pytest.fixture(scope="session")
def quick_backend(own_stack: Stack) -> Iterator[BackendProcess]:
    """Run the backend that goes through the record's absences, and sweeps."""
    with BackendProcess(own_stack, **QUICK) as running:
        yield running


@pytest.fixture
def dying_backend(own_stack: Stack) -> Iterator[BackendProcess]:
    """Run a backend for one test, to be paused, stopped or killed."""
    with BackendProcess(own_stack, **QUICK) as running:
        yield running
