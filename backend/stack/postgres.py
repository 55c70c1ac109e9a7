"""One Postgres server on a loopback port, with what Supabase gives a database."""

import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from backend.stack.errors import StackError
from backend.stack.keys import StackKeys
from backend.stack.ports import HOST
from backend.stack.postgres_home import reachable_folder
from backend.stack.processes import Identity, Process, clean_environment, run, start_time

SUPERUSER = "supabase_admin"
START_TIMEOUT_SECONDS = 60.0
_INITDB_TIMEOUT_SECONDS = 120.0
_CONNECT_TIMEOUT_SECONDS = 5
_ORPHANS_ARE_LEFT = "Terminate any old server processes"
_BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A login costs 4096 rounds of hashing by default. Passwords of a loopback database need no such guard.
    "scram_iterations": "1",
}
# A test's data need not outlive a power cut.
_VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Postgres:
    """A Postgres cluster: its binaries, its data folder and its port."""

    binaries: Path
    home: Path
    port: int
    keys: StackKeys
    identity: Identity | None
    durable: bool

    @property
    def database_url(self) -> str:
        """The URL of the role `postgres`, which owns the schema and is no superuser, as on Supabase."""
        return self._url("postgres", "postgres")

    @property
    def superuser_url(self) -> str:
        """The URL of the superuser."""
        return self._url(SUPERUSER, self.keys.superuser_password)

    @property
    def authenticator_url(self) -> str:
        """The URL of the role PostgREST logs in as."""
        return self._url("authenticator", self.keys.service_password)

    @property
    def auth_admin_url(self) -> str:
        """The URL of the role that Supabase Auth logs in as."""
        return self._url("supabase_auth_admin", self.keys.service_password)

    def start(self) -> Process:
        """Start the server, making the cluster first where there is none, and wait until it can be used.

        Raises:
            StackError: it cannot be made or started.
        """
        data = reachable_folder(self.home / "postgres", self.identity) / "data"
        if not (data / "PG_VERSION").exists():
            self._make_cluster(data)
        self._clear_stale_lock(data)
        settings = _SETTINGS | ({} if self.durable else _VOLATILE) | {"port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self.binaries / "bin" / "postgres"), "-D", str(data), *options]
        process = self._launch(command)
        self._bootstrap()
        return process

    def _launch(self, command: list[str]) -> Process:
        """Start the server; after a killed one, as soon as its orphaned children have noticed and left."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        environment = clean_environment()
        while True:
            process = Process.start(
                "postgres", command, self.home, environment=environment, identity=self.identity
            )
            try:
                process.wait_ready(self._answers, START_TIMEOUT_SECONDS)
            except StackError as error:
                if _ORPHANS_ARE_LEFT not in str(error) or time.monotonic() > deadline:
                    raise
            else:
                return process

    def _url(self, role: str, password: str) -> str:
        return f"postgresql://{role}:{password}@{HOST}:{self.port}/postgres"

    def _make_cluster(self, data: Path) -> None:
        """Run `initdb` beside the final place: a half-made cluster is never taken for a whole one."""
        scratch = Path(tempfile.mkdtemp(prefix="making-", dir=data.parent))
        try:
            self._initdb(scratch)
            (scratch / "data").rename(data)
        finally:
            shutil.rmtree(scratch)

    def _initdb(self, scratch: Path) -> None:
        password_file = scratch / "password"
        password_file.write_text(self.keys.superuser_password)
        if self.identity is not None:
            for path in (scratch, password_file):
                os.chown(path, self.identity.uid, self.identity.gid)
        command = [
            *(str(self.binaries / "bin" / "initdb"), "-D", str(scratch / "data"), "-U", SUPERUSER),
            *(f"--pwfile={password_file}", "--auth=scram-sha-256", "--set=scram_iterations=1"),
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *(() if self.durable else ("--no-sync",)),
        ]
        environment, timeout = clean_environment(), _INITDB_TIMEOUT_SECONDS
        done = run(command, environment=environment, identity=self.identity, timeout_seconds=timeout)
        if done.returncode != 0:
            raise StackError(f"initdb failed: {' '.join(done.stderr.split())}")

    def _clear_stale_lock(self, data: Path) -> None:
        """Recover from a start that was killed and left a server, or only its lock file, on this data.

        Postgres takes over a lock whose process is gone, with its own checks. Only a lock whose id a stranger
        has by now, after a restart of the machine, must go: it keeps Postgres out.
        """
        lock = data / "postmaster.pid"
        process = Process.recorded(self.home / "run" / "postgres.json")
        if process is None or not lock.exists() or lock.read_text().split()[:1] != [str(process.pid)]:
            return
        if start_time(process.pid) not in (None, process.started):
            lock.unlink()
        process.stop(signal.SIGINT)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.superuser_url, connect_timeout=_CONNECT_TIMEOUT_SECONDS).close()
        except psycopg.OperationalError:
            return False
        return True

    def _bootstrap(self) -> None:
        """Give a new cluster what Supabase gives a database: all of it, or nothing."""
        with psycopg.connect(self.superuser_url) as connection:
            if connection.execute("select to_regnamespace('auth')").fetchone() != (None,):
                return
            connection.execute(_BOOTSTRAP.read_bytes())
            for role in ("authenticator", "supabase_auth_admin"):
                statement = sql.SQL("alter role {} password {}")
                name, password = sql.Identifier(role), sql.Literal(self.keys.service_password)
                connection.execute(statement.format(name, password))
