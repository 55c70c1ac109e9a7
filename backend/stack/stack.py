"""The whole embedded stack as one thing that starts and stops."""

import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from backend.stack import migrations, parts
from backend.stack.keys import StackKeys, user_claims
from backend.stack.ports import HOST, StackPorts, free_ports
from backend.stack.postgres import Postgres
from backend.stack.postgres_home import install_binaries, remove_folder, unprivileged_identity
from backend.stack.postgrest import answers_ok, launch_postgrest, wait_for_postgrest
from backend.stack.processes import Process, clean_environment

HOME = parts.PROJECT_ROOT / ".clearfloor"
START_TIMEOUT_SECONDS = 60.0
# Stopped in this order: nothing loses its database while it still serves.
_STOP_ORDER = ("backend", "front", "simulator", "postgrest", "postgres")


@dataclass(frozen=True)
class StackEndpoints:
    """Where a running stack is reached, and with which keys."""

    database_url: str
    superuser_url: str
    supabase_url: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    simulator_url: str


def _silent(_: str) -> None:
    """Say nothing of the progress."""


class Stack:
    """Postgres, PostgREST, the Data API's front and the simulated provider, below one home folder.

    Used as a context manager it stops and forgets everything; with :meth:`start` alone the processes outlive
    the caller, and :func:`stop_recorded` ends them.
    """

    def __init__(  # noqa: PLR0913 - one optional setting each
        self,
        home: Path,
        *,
        ports: StackPorts | None = None,
        durable: bool = False,
        seed: bool = False,
        workdir: Path = parts.PROJECT_ROOT,
        progress: Callable[[str], None] = _silent,
    ) -> None:
        self.home = home.absolute()
        self.ports = ports or free_ports()
        self.processes: dict[str, Process] = {}
        self._durable = durable
        self._workdir = workdir
        self._seed = seed
        self._progress = progress

    @property
    def endpoints(self) -> StackEndpoints:
        """Where the stack is reached."""
        postgres = self._postgres
        return StackEndpoints(
            database_url=postgres.database_url,
            superuser_url=postgres.superuser_url,
            supabase_url=f"http://{HOST}:{self.ports.front}",
            publishable_key=postgres.keys.publishable_key,
            secret_key=postgres.keys.secret_key,
            jwt_secret=postgres.keys.jwt_secret,
            simulator_url=f"http://{HOST}:{self.ports.simulator}",
        )

    def start(self) -> None:
        """Bring every part up and apply the migrations.

        Raises:
            StackError: a part did not start; what did start is stopped again.
        """
        try:
            self._start()
        except BaseException:
            # Ctrl-C, too, leaves no half a stack running.
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every process of this home, the database last."""
        stop_recorded(self.home)
        self.processes.clear()

    def restart_postgrest(self) -> None:
        """Start PostgREST again, after it was killed."""
        self.processes["postgrest"] = launch_postgrest(self._postgres, self.ports)
        wait_for_postgrest(self.processes["postgrest"], self.ports)

    def mint_user_token(
        self,
        user_id: UUID,
        organization_id: UUID | None,
        *,
        role: str = "member",
        expires_in_seconds: int = 3600,
        **overrides: Any,  # noqa: ANN401 - a claim is any JSON value
    ) -> str:
        """Return an access token as Supabase Auth would issue it; ``overrides`` replace whole claims."""
        metadata: dict[str, Any] = {"provider": "email", "providers": ["email"]}
        if organization_id is not None:
            metadata |= {"organization_id": str(organization_id), "role": role}
        issuer = f"{self.endpoints.supabase_url}/auth/v1"
        claims = user_claims(issuer, user_id, app_metadata=metadata, expires_in_seconds=expires_in_seconds)
        return self._postgres.keys.sign(claims | overrides)

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        Process.present("owner", self.home).write()
        try:
            self.start()
        except BaseException:
            # The `with` that would remove it is not entered.
            remove_folder(self.home / "postgres")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        remove_folder(self.home / "postgres")

    def _start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        stop_recorded(self.home)
        self._postgres = self._prepared_postgres()
        self._progress("Starting Postgres, PostgREST, the Data API's front and the simulated provider")
        self.processes["simulator"] = self._launch_module("simulator")
        self.processes["front"] = self._launch_front()
        self.processes["postgres"] = self._postgres.start()
        self.processes["postgrest"] = launch_postgrest(self._postgres, self.ports)
        self._migrate()
        wait_for_postgrest(self.processes["postgrest"], self.ports)
        self._wait_for("front", f"http://{HOST}:{self.ports.front}/auth/v1/health")
        self._wait_for("simulator", f"http://{HOST}:{self.ports.simulator}/_control/health")

    def _prepared_postgres(self) -> Postgres:
        identity = unprivileged_identity()
        binaries = install_binaries(HOME, identity)
        keys = StackKeys.kept_in(self.home / "keys.json")
        return Postgres(binaries, self.home, self.ports.postgres, keys, identity, self._durable)

    def _migrate(self) -> None:
        url = self._postgres.database_url
        pending = migrations.pending(url, self._workdir, seed=self._seed)
        if pending:
            self._progress("Applying the migrations with `supabase db push`")
            migrations.push(url, self._workdir, self.home, seed=migrations.SEED in pending)

    def _launch_front(self) -> Process:
        options = {
            "--postgrest-url": f"http://{HOST}:{self.ports.postgrest}",
            "--keys": str(self.home / "keys.json"),
            "--workdir": str(self._workdir),
        }
        arguments = [text for pair in options.items() for text in pair]
        return self._launch_module("front", *arguments, AUTH_DATABASE_URL=self._postgres.auth_admin_url)

    def _launch_module(self, name: str, *arguments: str, **environment: str) -> Process:
        port = str(getattr(self.ports, name))
        command = [sys.executable, "-m", f"backend.stack.{name}", "--port", port, *arguments]
        return Process.start(name, command, self.home, environment=clean_environment(**environment))

    def _wait_for(self, name: str, url: str) -> None:
        self.processes[name].wait_ready(lambda: answers_ok(url), START_TIMEOUT_SECONDS)


def recorded_processes(home: Path) -> dict[str, Process]:
    """Return the processes that records of this home name and that still run, in the order to stop them."""
    found = (Process.recorded(home / "run" / f"{name}.json") for name in _STOP_ORDER)
    return {process.name: process for process in found if process is not None and process.is_alive()}


def stop_recorded(home: Path) -> list[str]:
    """Stop what runs below a home, by recorded id; return the names of what was stopped."""
    running = recorded_processes(home)
    for process in running.values():
        # To Postgres, SIGTERM means: wait for every client to leave. SIGINT means: end now, cleanly.
        process.stop(signal.SIGINT if process.name == "postgres" else signal.SIGTERM)
    return list(running)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Stop and remove the homes of stacks whose owner was killed before it could do so itself."""
    for home in folder.glob(f"{prefix}*"):
        owner = Process.recorded(home / "owner.json")
        if owner is not None and not owner.is_alive():
            stop_recorded(home)
            remove_folder(home / "postgres")
            shutil.rmtree(home, ignore_errors=True)
