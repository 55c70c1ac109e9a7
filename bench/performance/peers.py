"""The gateways that Clearfloor is measured against, each in the fastest configuration that its documentation advises.

They are installed below `.clearfloor/bench` on first use, and kept.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from backend.stack.errors import StackError
from backend.stack.ports import HOST, free_port
from bench.performance.gateways import COMPLETIONS, Gateway
from bench.performance.programs import program
from bench.performance.provider import INSTANT
from bench.performance.servers import running
from bench.performance.site import BENCH_HOME

LITELLM, PORTKEY, FORWARDER = "LiteLLM", "Portkey", "bare forwarder"
_LITELLM_VERSION = "1.108.7"
_PORTKEY_VERSION = "1.15.2"
# With a later one its streams fail: https://github.com/Portkey-AI/gateway/issues/1389
_PORTKEY_OVERRIDES = {"@hono/node-server": "1.14.1"}
_LITELLM_WORKERS = 2
_KEY = "sk-bench"
_INSTALL_TIMEOUT_SECONDS = 900
_HEADERS = {"Authorization": f"Bearer {_KEY}"}

Peer = Callable[[str, Path], AbstractContextManager[Gateway]]


@contextmanager
def litellm(provider_url: str, home: Path) -> Iterator[Gateway]:
    """Run LiteLLM's proxy: https://docs.litellm.ai/docs/proxy/prod, without a database and with no log but errors."""
    installed = _installed_litellm()
    configuration = home / "litellm.json"
    configuration.write_text(json.dumps(_litellm_configuration(provider_url)))
    port = free_port()
    command: list[str | Path] = [
        *(installed, "--config", configuration, "--host", HOST, "--port", str(port)),
        *("--num_workers", str(_LITELLM_WORKERS), "--telemetry", "False"),
    ]
    environment = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        # Prices from the package, not from the network.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    with running("litellm", command, home, port, "/health/readiness", **environment) as server:
        yield Gateway(
            *(LITELLM, f"{server.url}{COMPLETIONS}", _HEADERS, "bench", server.pid, server.ready_seconds),
            version=_LITELLM_VERSION,
            configuration=f"{_LITELLM_WORKERS} workers (uvicorn), a master key, no database, `LITELLM_MODE=PRODUCTION`, "
            "`LITELLM_LOG=ERROR`, no callbacks, no retries",
        )


@contextmanager
def portkey(provider_url: str, home: Path) -> Iterator[Gateway]:
    """Run Portkey's gateway on Node, without its console (`--headless`); it keeps no keys and logs no requests."""
    installed = _installed_portkey()
    port = free_port()
    command: list[str | Path] = [program("node"), installed, f"--port={port}", "--headless"]
    headers = _HEADERS | {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{provider_url}/{INSTANT}/v1",
    }
    with running("portkey", command, home, port, "/", NODE_ENV="production") as server:
        yield Gateway(
            *(PORTKEY, f"{server.url}{COMPLETIONS}", headers, "bench", server.pid, server.ready_seconds),
            version=_PORTKEY_VERSION,
            configuration="1 process (Node), `--headless`, `NODE_ENV=production`, the provider named in headers",
        )


@contextmanager
def forwarder(provider_url: str, home: Path) -> Iterator[Gateway]:
    """Run the bench's own forwarder."""
    port = free_port()
    upstream_url = f"{provider_url}/{INSTANT}{COMPLETIONS}"
    command = [
        *(sys.executable, "-m", "bench.performance.forwarder"),
        *("--port", str(port), "--upstream-url", upstream_url),
    ]
    with running("forwarder", command, home, port, "/health") as server:
        yield Gateway(
            *(FORWARDER, f"{server.url}{COMPLETIONS}", {}, "bench", server.pid, server.ready_seconds),
            version=f"FastAPI {version('fastapi')}, aiohttp {version('aiohttp')}",
            configuration="1 process (uvicorn): no keys, no record, nothing but forwarding",
        )


PEERS: dict[str, Peer] = {LITELLM: litellm, PORTKEY: portkey, FORWARDER: forwarder}


def _litellm_configuration(provider_url: str) -> dict[str, object]:
    model = {"model": "openai/bench", "api_base": f"{provider_url}/{INSTANT}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": "bench", "litellm_params": model}],
        "general_settings": {"master_key": _KEY},
        "litellm_settings": {"num_retries": 0, "request_timeout": 600, "set_verbose": False, "callbacks": []},
    }


def _installed_litellm() -> Path:
    folder = BENCH_HOME / f"litellm-{_LITELLM_VERSION}"
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    return _installed(
        folder,
        folder / "bin" / "litellm",
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, f"litellm[proxy]=={_LITELLM_VERSION}"],
    )


def _installed_portkey() -> Path:
    folder = BENCH_HOME / f"portkey-{_PORTKEY_VERSION}"
    package = "@portkey-ai/gateway"
    manifest = {"private": True, "dependencies": {package: _PORTKEY_VERSION}, "overrides": _PORTKEY_OVERRIDES}
    return _installed(
        folder,
        folder / "node_modules" / package / "build" / "start-server.js",
        [program("npm"), "install", "--silent", "--ignore-scripts", "--prefix", str(folder)],
        files={"package.json": json.dumps(manifest)},
    )


def _installed(
    folder: Path, installed: Path, *commands: Sequence[str], files: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Return a program of a peer; install it first, unless that was done before.

    Raises:
        StackError: it cannot be installed.
    """
    done = folder / "installed"
    if done.exists():
        return installed
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    for command in commands:
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_SECONDS
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise StackError(f"{folder.name} cannot be installed: {said.strip().splitlines()[-1]}") from error
    done.touch()
    return installed
