"""A gateway that is measured: where it is, how it is called, and which processes are its own."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backend.stack.ports import HOST, free_port
from backend.stack.stack import Stack
from bench.performance.load import Request
from bench.performance.provider import INSTANT
from bench.performance.servers import Server, running

CLEARFLOOR = "Clearfloor"
DIRECT = "direct"
COMPLETIONS = "/v1/chat/completions"
_MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one short sentence."},
    {
        "role": "user",
        "content": "What is the answer to the great question of life, the universe and everything?",
    },
]


@dataclass(frozen=True)
class Gateway:
    """One way to the mock provider. ``pid`` is None for the direct one."""

    name: str
    url: str
    headers: dict[str, str]
    model: str
    pid: int | None = None
    ready_seconds: float | None = None
    version: str = ""
    configuration: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is Clearfloor, whose record is checked."""
        return self.name == CLEARFLOOR

    def request(
        self, *, model: str | None = None, stream: bool = False, api_key: str | None = None
    ) -> Request:
        """Return a chat completion as this gateway takes it; of another caller if a key is given."""
        headers = self.headers | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        body: dict[str, object] = {"model": model or self.model, "messages": _MESSAGES, "max_tokens": 256}
        if stream:
            body["stream"] = True
        return Request(self.url, tuple(headers.items()), json.dumps(body).encode())


def direct(provider_url: str) -> Gateway:
    """Return the way past every gateway."""
    return Gateway(DIRECT, f"{provider_url}/{INSTANT}{COMPLETIONS}", {}, "bench")


@contextmanager
def clearfloor(stack: Stack, supabase_url: str, api_key: str, home: Path) -> Iterator[Gateway]:
    """Run Clearfloor as an operator does: `clearfloor serve`, default settings, one worker."""
    port = free_port()
    environment = {
        "SUPABASE_URL": supabase_url,
        "SUPABASE_SECRET_KEY": stack.endpoints.secret_key,
        "SUPABASE_PUBLISHABLE_KEY": stack.endpoints.publishable_key,
        "CLEARFLOOR_HOST": HOST,
        "CLEARFLOOR_PORT": str(port),
    }
    command = [sys.executable, "-m", "backend.cli", "serve"]
    with running("clearfloor", command, home, port, "/health/ready", **environment) as server:
        yield replace(
            _of_server(CLEARFLOOR, server, api_key, "auto"), configuration="default settings, 1 worker"
        )


def _of_server(name: str, server: Server, api_key: str, model: str) -> Gateway:
    headers = {"Authorization": f"Bearer {api_key}"}
    return Gateway(name, f"{server.url}{COMPLETIONS}", headers, model, server.pid, server.ready_seconds)
