"""`clearfloor up`, `down`, `status` and `clean`: the embedded stack and one backend, kept under `.clearfloor`."""

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from backend.stack.demo import Demo, prepare_demo
from backend.stack.errors import StackError
from backend.stack.keys import write_private
from backend.stack.ports import HOST, StackPorts, free_port, is_free
from backend.stack.postgres_home import remove_folder
from backend.stack.postgrest import answers_ok
from backend.stack.processes import Process
from backend.stack.stack import HOME, Stack, StackEndpoints, recorded_processes, stop_recorded

BACKEND_READY_TIMEOUT_SECONDS = 60.0
_PARTS = ("backend", "front", "postgres", "postgrest", "simulator")
# The backend's, then the stack's in the order of StackPorts.
_PREFERRED_PORTS = {
    "BACKEND": 8787,
    "POSTGRES": 54322,
    "POSTGREST": 54323,
    "POSTGREST_ADMIN": 54328,
    "FRONT": 54321,
    "SIMULATOR": 54329,
}
_DEV_ENV = HOME / "dev.env"
_SUMMARY = HOME / "summary.txt"


def up(arguments: Sequence[str]) -> int:
    """Start everything that is not running yet and print how to call it."""
    argparse.ArgumentParser(prog="clearfloor up", description=up.__doc__).parse_args(arguments)
    HOME.mkdir(exist_ok=True)
    with _alone():
        running = recorded_processes(HOME)
        if len(running) == len(_PARTS) and _SUMMARY.exists():
            _say("Clearfloor is already running; after changes to it run `make down up`.")
            _say(_SUMMARY.read_text())
            return 0
        _start(running, _progress())
    return 0


def down(arguments: Sequence[str]) -> int:
    """Stop what `clearfloor up` started. The data stays in .clearfloor."""
    argparse.ArgumentParser(prog="clearfloor down", description=down.__doc__).parse_args(arguments)
    stopped = stop_recorded(HOME)
    data = (HOME / "postgres").resolve()
    _say(f"Stopped: {', '.join(stopped)}. The data stays in {data}." if stopped else "Nothing was running.")
    return 0


def clean(arguments: Sequence[str]) -> int:
    """Stop everything and remove it with its data, wherever it lies: the next `up` starts from nothing."""
    argparse.ArgumentParser(prog="clearfloor clean", description=clean.__doc__).parse_args(arguments)
    stop_recorded(HOME)
    remove_folder(HOME / "postgres")
    shutil.rmtree(HOME, ignore_errors=True)
    _say("Removed. The next `make up` starts from nothing.")
    return 0


def status(arguments: Sequence[str]) -> int:
    """Tell what runs; the exit code is 0 when everything does."""
    argparse.ArgumentParser(prog="clearfloor status", description=status.__doc__).parse_args(arguments)
    running = recorded_processes(HOME)
    for name in _PARTS:
        _say(f"{name:<10} {f'runs as process {running[name].pid}' if name in running else 'stopped'}")
    if len(running) < len(_PARTS):
        return 1
    _say(_SUMMARY.read_text())
    return 0


def _start(leftovers: dict[str, Process], progress: Callable[[str], None]) -> None:
    if leftovers:
        progress(f"Clearing up after an earlier start that did not finish ({', '.join(leftovers)})")
        stop_recorded(HOME)
    backend_port, *others = _chosen_ports().values()
    stack = Stack(HOME, ports=StackPorts(*others), durable=True, seed=True, progress=progress)
    stack.start()
    try:
        demo = prepare_demo(stack)
        progress("Starting the backend")
        _start_backend(stack.endpoints, backend_port)
    except BaseException:
        # Ctrl-C, too, leaves nothing running.
        stack.stop()
        raise
    url = f"http://{HOST}:{backend_port}"
    write_private(_DEV_ENV, _dev_env(url, stack.endpoints, demo))
    write_private(_SUMMARY, _summary(url, stack.endpoints, demo))
    progress("Ready")
    _say(_summary(url, stack.endpoints, demo))


def _start_backend(endpoints: StackEndpoints, port: int) -> None:
    # The shell's whole environment: providers' keys are in it, under names that the catalogue gives.
    environment = dict(os.environ) | {
        "SUPABASE_URL": endpoints.supabase_url,
        "SUPABASE_SECRET_KEY": endpoints.secret_key,
        "SUPABASE_PUBLISHABLE_KEY": endpoints.publishable_key,
        "CLEARFLOOR_HOST": HOST,
        "CLEARFLOOR_PORT": str(port),
    }
    command = [sys.executable, "-m", "backend.cli", "serve"]
    backend = Process.start("backend", command, HOME, environment=environment)
    ready = f"http://{HOST}:{port}/health/ready"
    backend.wait_ready(lambda: answers_ok(ready), BACKEND_READY_TIMEOUT_SECONDS)


def _chosen_ports() -> dict[str, int]:
    """Return the ports to use, by name.

    Raises:
        StackError: one is taken, or is not a port.
    """
    ports = {name: _port(name, preferred) for name, preferred in _PREFERRED_PORTS.items()}
    taken = [name for name, port in ports.items() if not is_free(port)]
    if taken:
        listed = ", ".join(f"{ports[name]} ({name.lower()})" for name in taken)
        choice = " ".join(f"CLEARFLOOR_PORT_{name}={free_port()}" for name in taken)
        raise StackError(f"port {listed} is taken by another program: stop that, or run `{choice} make up`.")
    return ports


def _port(name: str, preferred: int) -> int:
    given = os.environ.get(f"CLEARFLOOR_PORT_{name}", str(preferred))
    if not given.isdecimal() or not 0 < int(given) < 2**16:
        raise StackError(f"CLEARFLOOR_PORT_{name} is {given!r}: give a port number, 1 to 65535.")
    return int(given)


def _dev_env(url: str, endpoints: StackEndpoints, demo: Demo) -> str:
    settings = {
        "CLEARFLOOR_URL": url,
        "CLEARFLOOR_API_KEY": demo.api_key,
        "CLEARFLOOR_TENANT_TOKEN": demo.tenant_token,
        "CLEARFLOOR_OTHER_TENANT_TOKEN": demo.other_tenant_token,
        "SUPABASE_URL": endpoints.supabase_url,
        "SUPABASE_PUBLISHABLE_KEY": endpoints.publishable_key,
        "SUPABASE_SECRET_KEY": endpoints.secret_key,
        "DATABASE_URL": endpoints.database_url,
        "SIMULATOR_URL": endpoints.simulator_url,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _summary(url: str, endpoints: StackEndpoints, demo: Demo) -> str:
    return f"""
  Clearfloor    {url}
  API key       {demo.api_key}
  Supabase      {endpoints.supabase_url}
  Database      {endpoints.database_url}

Try it:

  curl {url}/v1/chat/completions \\
    -H 'Authorization: Bearer {demo.api_key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Hello"}}]}}'

For scripts, all of it and the demo members' tokens: {_DEV_ENV}
Stop it with `make down`; the data stays.
"""


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a second `up` out while this one works. The system frees the lock however this process ends."""
    with (HOME / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError("another `up` is at work on this folder: wait until it is done.") from error
        yield


def _progress() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda text: _say(f"[{time.monotonic() - began:5.1f} s] {text}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
