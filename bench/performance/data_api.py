"""The Data API's front for measures: nginx in the place of Supabase's own.

The embedded stack's front is for development, and would use more processor time than what is measured. What this one does
with keys and tokens is the same: see :class:`backend.stack.front.Gate`.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from backend.stack.keys import StackKeys
from backend.stack.ports import HOST, free_port
from backend.stack.postgres_home import unprivileged_identity
from backend.stack.postgrest import answers_ok
from backend.stack.processes import Process, clean_environment
from backend.stack.stack import Stack
from bench.performance.programs import program

_START_TIMEOUT_SECONDS = 10.0
_KEY_SET_PATH = "/auth/v1/.well-known/jwks.json"
_CONFIGURATION = """
daemon off;
worker_processes 1;
error_log stderr warn;
pid {home}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    keepalive_requests 1000000000;
    map_hash_bucket_size 256;

    map $http_apikey $service_token {{
        "{keys.secret_key}" "{secret_token}";
        "{keys.publishable_key}" "{publishable_token}";
        default "";
    }}
    # A user's token counts before the key it came with; a key in place of a token counts as none.
    map $http_authorization $user_token {{
        "Bearer {keys.secret_key}" "";
        "Bearer {keys.publishable_key}" "";
        default $http_authorization;
    }}
    map $user_token $token {{
        "" "Bearer $service_token";
        default $user_token;
    }}
    upstream postgrest {{
        server {host}:{postgrest_port};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{port};
        location /rest/v1/ {{
            if ($service_token = "") {{ return 401; }}
            proxy_pass http://postgrest/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header apikey "";
            proxy_set_header Authorization $token;
        }}
        location = {key_set_path} {{
            default_type application/json;
            return 200 '{key_set}';
        }}
    }}
}}
"""


class DataApi:
    """One nginx before a stack's PostgREST, on a free loopback port, with all its files in a folder of its own."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of nginx' master."""
        return self._process.pid

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="clearfloor-bench-nginx-"))
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self._home)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()
        shutil.rmtree(self._home)

    def _start(self) -> None:
        configuration = self._home / "nginx.conf"
        configuration.write_text(self._configuration())
        identity = unprivileged_identity()
        if identity is not None:
            for path in (self._home, configuration):
                os.chown(path, identity.uid, identity.gid)
        command = [program("nginx"), "-p", str(self._home), "-c", str(configuration), "-e", "stderr"]
        self._process = Process.start(
            "nginx", command, self._home, environment=clean_environment(), identity=identity
        )
        self._process.wait_ready(lambda: answers_ok(f"{self.url}{_KEY_SET_PATH}"), _START_TIMEOUT_SECONDS)

    def _configuration(self) -> str:
        keys = StackKeys.kept_in(self._stack.home / "keys.json")
        return _CONFIGURATION.format(
            home=self._home,
            host=HOST,
            port=self._port,
            postgrest_port=self._stack.ports.postgrest,
            keys=keys,
            secret_token=keys.service_token("service_role"),
            publishable_token=keys.service_token("anon"),
            key_set_path=_KEY_SET_PATH,
            key_set=json.dumps(keys.public_key_set()),
        )
